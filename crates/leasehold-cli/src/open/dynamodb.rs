//! A DynamoDB table: region, credentials, endpoint and HTTP client.
//!
//! Credentials and region come from the AWS defaults unless the URL says otherwise. A profile that the URL names is where the
//! credentials come from, whatever the environment has, for the defaults would prefer AWS_ACCESS_KEY_ID to it; its region comes after
//! the URL's and AWS_REGION, as everywhere in AWS. TLS is set up at the first request to an `https`
//! endpoint, for reading the system's trusted certificates takes up to 50 ms. Where there is no instance metadata service, asking it
//! for a region or for credentials ends after about a second each.

use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder as ConfigBuilder;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::store::dynamodb::DynamoDbStore;

use crate::exit_codes;
use crate::failure::Failure;
use crate::location::{Location, Table};

/// Sockets that were idle for longer are not used again: load balancers forget them, and the next heartbeat would hang.
const IDLE: Duration = Duration::from_secs(20);

/// For the control plane and for credentials; lock requests have shorter ones of the library.
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(10);
const OPERATION: Duration = Duration::from_secs(20);

/// A table that can be asked.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: DynamoDbStore,
    /// Where requests go, for messages: the endpoint, or the region.
    pub(super) way: String,
}

/// A client for the table. Sends nothing to it.
pub(super) async fn open(table: &Table) -> Result<Opened, Failure> {
    if let Some(profile) = &table.profile {
        check_profile(profile, table).await?;
    }
    let https = HttpBuilder::new()
        .pool_idle_timeout(IDLE)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build();
    let version = BehaviorVersion::v2026_01_12();
    let mut loader = aws_config::defaults(version)
        .http_client(https.clone())
        .timeout_config(timeouts.clone());
    if let Some(region) = &table.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &table.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    let Some(region) = shared.region() else {
        let message = format!("no AWS region for dynamodb table `{}`", table.name);
        return Err(Failure::new(exit_codes::CONFIG, message)
            .hint("set AWS_REGION, or add `?region=…` to the store URL"));
    };
    let mut config = ConfigBuilder::from(&shared);
    if let Some(profile) = &table.profile {
        // What it asks for roles and single sign-on goes the same way as everything else.
        let how = ProviderConfig::without_region()
            .with_behavior_version(Some(version))
            .with_region(Some(region.clone()))
            .with_http_client(https)
            .with_timeout_config(timeouts);
        let credentials = ProfileFileCredentialsProvider::builder()
            .configure(&how)
            .profile_name(profile)
            .build();
        config = config.credentials_provider(credentials);
    }
    if let Some(endpoint) = &table.endpoint {
        config = config.endpoint_url(endpoint);
    }
    // In the SDK's order.
    let own = std::env::var("AWS_ENDPOINT_URL_DYNAMODB").ok();
    let named = table.endpoint.as_deref().or(own.as_deref());
    let endpoint = named.or(shared.endpoint_url());
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        config = config.http_client(HttpBuilder::new().pool_idle_timeout(IDLE).build_http());
    }
    let way = match endpoint {
        Some(endpoint) => format!("endpoint {endpoint}"),
        None => format!("region {region}"),
    };
    let store = DynamoDbStore::new(Client::from_conf(config.build()), table.name.as_str());
    Ok(Opened { store, way })
}

/// A profile that the URL names and that is not there: the AWS defaults would look elsewhere for credentials, and find others'.
async fn check_profile(name: &str, table: &Table) -> Result<(), Failure> {
    let store = Location::DynamoDb(table.clone());
    // Files, environment and file names as the system has them.
    let (fs, env, files) = Default::default();
    let why = match aws_config::profile::load(&fs, &env, &files, None).await {
        Ok(profiles) if profiles.get_profile(name).is_some() => return Ok(()),
        Ok(_) => "is not in the AWS configuration files".to_owned(),
        Err(error) => format!("cannot be read from the AWS configuration files: {error}"),
    };
    let message = format!("the profile `{name}` of {store} {why}");
    Err(Failure::new(exit_codes::CONFIG, message).hint(format!(
        "correct `profile={name}` in the store URL, or add the profile with `aws configure --profile {}`",
        crate::voice::quoted(name)
    )))
}

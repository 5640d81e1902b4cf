//! A DynamoDB table: region, credentials, endpoint and HTTP client.
//!
//! Credentials and region come from the AWS defaults unless the URL says otherwise. TLS is set up at the first request to an `https`
//! endpoint, for reading the system's trusted certificates takes up to 50 ms. Where there is no instance metadata service, asking it
//! for a region or for credentials ends after about a second each.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder as ConfigBuilder;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::store::dynamodb::DynamoDbStore;

use crate::exit_codes;
use crate::failure::Failure;
use crate::location::Table;

/// Sockets that were idle for longer are not used again: load balancers forget them, and the next heartbeat would hang.
const IDLE: Duration = Duration::from_secs(20);

/// For the control plane and for credentials; lock requests have shorter ones of the library.
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(10);
const OPERATION: Duration = Duration::from_secs(20);

/// A client for the table. Sends nothing to it.
pub(super) async fn open(table: &Table) -> Result<DynamoDbStore, Failure> {
    let https = HttpBuilder::new()
        .pool_idle_timeout(IDLE)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https)
        .timeout_config(timeouts);
    if let Some(region) = &table.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &table.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        let message = format!("no AWS region for dynamodb table `{}`", table.name);
        return Err(Failure::new(exit_codes::CONFIG, message)
            .hint("set AWS_REGION, or add `?region=…` to the store URL"));
    }
    let mut config = ConfigBuilder::from(&shared);
    if let Some(endpoint) = &table.endpoint {
        config = config.endpoint_url(endpoint);
    }
    let endpoint = table.endpoint.as_deref().or(shared.endpoint_url());
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        config = config.http_client(HttpBuilder::new().pool_idle_timeout(IDLE).build_http());
    }
    Ok(DynamoDbStore::new(
        Client::from_conf(config.build()),
        table.name.as_str(),
    ))
}

//! A DynamoDB table: region, credentials, endpoint and HTTP client.
//!
//! The order is the URL, the environment, the profile. A profile in the URL always gives the credentials,
//! although the AWS defaults prefer AWS_ACCESS_KEY_ID. Its region comes after that of the URL and
//! AWS_REGION, as in all AWS tools. Without an instance metadata service, a request to it for a region or
//! for credentials ends after about a second.

mod credentials;
mod examine;
mod http;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use aws_config::imds::region::ImdsRegionProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    Builder as ConfigBuilder, IdentityCache, SharedCredentialsProvider,
};
use leasehold::store::Store;
use leasehold::store::dynamodb::{Created, DynamoDbStore, TableError, TableShape, definition};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use self::credentials::Ready;
pub(super) use self::examine::examine;
use self::http::Http;
use self::settings::{Named, Settings};
use crate::args::Tool;
use crate::exit_codes;
use crate::failure::Failure;
use crate::panics;
use crate::store::url::Table;
use crate::text::quoted;

/// The connect time-out for the control plane and for credentials. Lock requests have shorter time-outs
/// of the library.
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(10);
const OPERATION: Duration = Duration::from_secs(20);

/// An opened table.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// The endpoint or the region, for messages.
    pub(super) endpoint: String,
    table: DynamoDbStore,
    origin: Origin,
}

/// Where the parts of a client come from, for `doctor`.
#[derive(Debug)]
struct Origin {
    client: Client,
    region: Named,
    endpoint: Option<Named>,
    /// The first credentials, and the provider of all.
    credentials: Option<(Credentials, SharedCredentialsProvider)>,
    shared: SdkConfig,
}

/// Makes a client for the table. It sends no request to the table.
///
/// # Errors
///
/// When a setting is invalid, or there are no credentials.
pub(super) async fn open(table: &Table) -> Result<Opened, Failure> {
    let opened = panics::caught(with_settings(table)).await;
    opened.unwrap_or_else(|said| {
        let message = format!("the AWS configuration cannot be used, the AWS SDK panicked: {said}");
        Err(Failure::new(exit_codes::CONFIG, message)
            .hint("look for invalid values in the AWS_ variables and the AWS configuration files"))
    })
}

async fn with_settings(table: &Table) -> Result<Opened, Failure> {
    let settings = Settings::read(table).await?;
    let http = Http::new(&settings)?;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build();
    let version = BehaviorVersion::v2026_01_12();
    let machine = || ProviderConfig::without_region().with_http_client(http.for_credentials());
    let region = match settings.region()? {
        Some(named) => Some(named),
        None => {
            let imds = ImdsRegionProvider::builder().configure(&machine()).build();
            let region = imds.region().await;
            region.map(|region| Named::new(region.to_string(), "the instance metadata"))
        }
    };
    let Some(named_region) = region else {
        let message = match settings.unreadable() {
            Some(why) => format!(
                "no AWS region for dynamodb table `{}`: the AWS configuration files cannot be read: {why}",
                table.name
            ),
            None => format!("no AWS region for dynamodb table `{}`", table.name),
        };
        return Err(Failure::new(exit_codes::CONFIG, message)
            .hint("set AWS_REGION, or add `?region=…` to the store URL"));
    };
    let region = Region::new(named_region.value.clone());
    let shared = aws_config::defaults(version)
        .http_client(http.for_credentials())
        .timeout_config(timeouts.clone())
        // The library retries lock requests itself. The SDK panics if AWS_MAX_ATTEMPTS is no number.
        .retry_config(RetryConfig::standard())
        .region(region.clone())
        .profile_name(settings.profile())
        .load()
        .await;
    let named_endpoint = settings.endpoint(&shared)?;
    let endpoint = named_endpoint.as_ref().map(|named| named.value.clone());
    let way = match &endpoint {
        Some(endpoint) => format!("endpoint {endpoint}"),
        None => format!("region {region}"),
    };
    let provider = if let Some(profile) = &table.profile {
        // Requests for roles and single sign-on use the same HTTP client.
        let how = machine()
            .with_behavior_version(Some(version))
            .with_region(Some(region))
            .with_timeout_config(timeouts);
        Some(SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&how)
                .profile_name(profile)
                .build(),
        ))
    } else {
        shared.credentials_provider()
    };
    let mut config = ConfigBuilder::from(&shared).http_client(
        http.for_table(endpoint.as_deref())
            .map_err(|f| f.on(&way))?,
    );
    // This replaces the SDK's value, which may come from an empty variable.
    config.set_endpoint_url(endpoint);
    let mut credentials = None;
    if let Some(provider) = provider {
        let ready = Ready::get(provider.clone(), &settings, table.profile.is_some()).await;
        let ready = ready.map_err(|failure| failure.on(&way))?;
        credentials = ready.first().map(|first| (first, provider));
        let cache = IdentityCache::lazy().load_timeout(credentials::WITHIN);
        config = config
            .identity_cache(cache.build())
            .credentials_provider(ready);
    }
    let client = Client::from_conf(config.build());
    let store = DynamoDbStore::new(client.clone(), table.name.as_str())
        .with_url(quoted(&table.to_string()));
    let store = store.with_shape(shape(table)).map_err(|error| {
        let parameter = match error.setting() {
            Some("partition_key") => "key",
            Some("sort_key") => "sort",
            Some(same) => same,
            None => "key",
        };
        Failure::new(exit_codes::CONFIG, error.message())
            .hint(format!("change `{parameter}=` in the store URL"))
    })?;
    Ok(Opened {
        store: Arc::new(store.clone()),
        endpoint: way,
        table: store,
        origin: Origin {
            client,
            region: named_region,
            endpoint: named_endpoint,
            credentials,
            shared,
        },
    })
}

/// The keys of the table, as its URL names them.
fn shape(table: &Table) -> TableShape {
    let keys = &table.keys;
    let mut shape = TableShape::default().mrsc(keys.is_mrsc());
    if let Some(name) = &keys.key {
        shape = shape.partition_key(name);
    }
    if let Some(sort) = &keys.sort {
        let separator = keys
            .sort_after
            .as_ref()
            .and_then(|after| after.chars().next());
        shape = match separator {
            Some(separator) => shape.sort_key_after(sort, separator),
            None => shape.sort_key(sort, keys.sort_value.as_deref().unwrap_or_default()),
        };
    }
    if let Some(prefix) = &keys.prefix {
        shape = shape.prefix(prefix);
    }
    match &keys.ttl {
        Some(ttl) => shape.ttl(ttl),
        None => shape,
    }
}

/// Creates the table if it is missing, and returns whether it is new.
///
/// # Errors
///
/// When it cannot be created, or has the wrong schema.
pub(super) async fn create(opened: &Opened) -> Result<bool, Failure> {
    Ok(opened.table.create_table().await? == Created::New)
}

/// Deletes up to `most` records whose retention ended so long ago, and returns a line about it.
///
/// # Errors
///
/// When the table cannot be read or written.
pub(super) async fn sweep(
    opened: &Opened,
    older_than: Duration,
    most: u64,
) -> Result<String, Failure> {
    let swept = opened.table.sweep(older_than, most).await?;
    let rest = match swept.limited {
        true => "; the limit is reached, run it again for the rest",
        false => "",
    };
    Ok(format!(
        "deleted {} of {} records{rest}",
        swept.deleted, swept.read
    ))
}

/// The definition of the table for a tool.
///
/// # Errors
///
/// Only in a build without DynamoDB.
pub(crate) fn definition_for(tool: Tool, table: &Table) -> Result<String, Failure> {
    let arn = match (&table.region, tool) {
        (Some(region), Tool::Iam) if !table.name.starts_with("arn:") => {
            format!("arn:aws:dynamodb:{region}:ACCOUNT:table/{}", table.name)
        }
        _ => table.name.clone(),
    };
    let definition = definition(&arn).with_shape(shape(table));
    let text = match tool {
        Tool::Cloudformation => definition.cloud_formation().to_string(),
        Tool::Terraform => definition.terraform().to_string(),
        Tool::Cdk => definition.cdk().to_string(),
        Tool::Iam => definition.iam_policy().to_string(),
    };
    Ok(text)
}

fn escaped(name: &str) -> impl std::fmt::Display + '_ {
    const NAME: &percent_encoding::AsciiSet =
        &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');
    utf8_percent_encode(name, NAME)
}

/// The parameters of a URL for a table with these keys.
fn named(names: &[String]) -> Option<String> {
    match names {
        [key] => Some(format!("key={}", escaped(key))),
        [key, sort] => Some(format!(
            "key={}&sort={}&sort_value=LOCK",
            escaped(key),
            escaped(sort)
        )),
        _ => None,
    }
}

/// A table that could not be created, or has the wrong schema.
impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        let message = error.to_string();
        let hint = match error {
            TableError::Store(error) => return error.into(),
            TableError::KeySchema { names, .. } => match named(&names) {
                Some(parameters) => format!(
                    "if the locks belong there, add `{parameters}` to the store URL; else name another table, and `leasehold init` creates it"
                ),
                None => "name another table, and `leasehold init` creates it".to_owned(),
            },
            TableError::Ttl { table, found, .. } => format!(
                "add `ttl={}` to the store URL, or run `aws dynamodb update-time-to-live --table-name {table} --time-to-live-specification \
                 Enabled=false,AttributeName={found}`, then `leasehold init` again",
                escaped(&found)
            ),
            TableError::NotActive { table } => {
                format!("run `aws dynamodb describe-table --table-name {table}`")
            }
            _ => "run `leasehold init` again".to_owned(),
        };
        Failure::new(exit_codes::CONFIG, message).hint(hint)
    }
}

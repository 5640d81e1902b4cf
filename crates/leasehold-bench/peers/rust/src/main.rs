//! Drives the peers in Rust: `leasehold-bench-peers PEER URL TABLE SETTINGS`, then jobs on standard input.
//!
//! The loop is that of leasehold's own driver, the same file. Each peer is called as its documentation calls it:
//! `dlock` by `DLock::with`, which renews; `dynamodb-lease` by `Client::acquire` and `Lease::release`; `dynamodb_lock` by
//! `acquire_lock` and `release_lock`, without renewal, since it has none.

#[path = "../../../src/drive/work.rs"]
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use serde_json::Value;

use crate::work::{Inside, Locker, serve};

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [peer, url, table, settings] = args.as_slice() else {
        bail!("usage: leasehold-bench-peers PEER URL TABLE SETTINGS");
    };
    let settings: Value = serde_json::from_str(settings).context("bad settings")?;
    let number = |name: &str| settings.get(name).and_then(Value::as_u64);
    let millis = |name: &str| number(name).map(Duration::from_millis);
    let client = || {
        aws_sdk_dynamodb::Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .endpoint_url(url)
                .region(Region::new("eu-west-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        )
    };
    match peer.as_str() {
        "dlock" => {
            // It has no default for the lease.
            let lease = millis("lease_ms").unwrap_or(Duration::from_secs(20));
            let retry = millis("poll_ms");
            serve(&settings, async || {
                let provider = dlock::DynamodbProvider::builder()
                    .client(client())
                    .table_name(table.clone())
                    .build();
                Ok(DLock { provider, lease, retry })
            })
            .await
        }
        "dynamodb-lease" => {
            serve(&settings, async || {
                let mut builder = dynamodb_lease::Client::builder().table_name(table.as_str());
                if let Some(lease) = number("lease_ms") {
                    builder = builder.lease_ttl_seconds(u32::try_from(lease / 1_000)?);
                }
                if let Some(poll) = millis("poll_ms") {
                    builder = builder.acquire_cooldown(poll);
                }
                let locks = builder.build_and_check_db(client()).await?;
                Ok(DynamoDbLease { locks, kept: Mutex::default() })
            })
            .await
        }
        "dynamodb_lock" => {
            let options = dynamodb_lock_options(table, &settings);
            serve(&settings, async || {
                let region = rusoto_core::Region::Custom { name: "eu-west-1".to_owned(), endpoint: url.clone() };
                let credentials = rusoto_core::credential::StaticProvider::new_minimal("test".into(), "test".into());
                let http = rusoto_core::HttpClient::new()?;
                Ok(DynamoDbLock {
                    client: rusoto_dynamodb::DynamoDbClient::new_with(http, credentials, region.clone()),
                    region,
                    options: options.clone(),
                    made: Mutex::default(),
                })
            })
            .await
        }
        other => bail!("no peer `{other}`"),
    }
}

struct DLock {
    provider: dlock::DynamodbProvider,
    lease: Duration,
    retry: Option<Duration>,
}

impl Locker for DLock {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let lock = dlock::DLock::builder()
            .name(key.to_owned())
            .owner("leasehold-bench".to_owned())
            .duration(self.lease)
            .maybe_retry(self.retry)
            .provider(self.provider.clone())
            .build();
        let inside = inside.clone();
        lock.with(async move |_token| inside.stay().await).await?;
        Ok(())
    }
}

struct DynamoDbLease {
    locks: dynamodb_lease::Client,
    kept: Mutex<Vec<dynamodb_lease::Lease>>,
}

impl Locker for DynamoDbLease {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let lease = self.locks.acquire(key).await?;
        if inside.is_for_ever() {
            inside.enter();
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(lease);
            return Ok(());
        }
        inside.stay().await;
        ensure!(lease.is_healthy(), "its renewal has ended");
        lease.release().await
    }
}

struct DynamoDbLock {
    client: rusoto_dynamodb::DynamoDbClient,
    region: rusoto_core::Region,
    options: HashMap<String, String>,
    made: Mutex<HashMap<String, Arc<dynamodb_lock::DynamoDbLockClient>>>,
}

impl DynamoDbLock {
    /// A client of it is for one key, and expensive to make: it loads the roots of trust.
    fn of(&self, key: &str) -> Arc<dynamodb_lock::DynamoDbLockClient> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut options = self.options.clone();
            options.insert("DYNAMO_LOCK_PARTITION_KEY_VALUE".to_owned(), key.to_owned());
            Arc::new(
                dynamodb_lock::DynamoDbLockClient::for_region(self.region.clone())
                    .with_client(self.client.clone())
                    .with_options(dynamodb_lock::DynamoDbOptions::from_map(options)),
            )
        };
        made.entry(key.to_owned()).or_insert_with(make).clone()
    }
}

impl Locker for DynamoDbLock {
    async fn prepare(&self, key: &str) -> Result<()> {
        self.of(key);
        Ok(())
    }

    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let client = self.of(key);
        let item = client.acquire_lock(None).await?;
        inside.stay().await;
        ensure!(client.release_lock(&item).await?, "the lock was not ours to release");
        Ok(())
    }
}

fn dynamodb_lock_options(table: &str, settings: &Value) -> HashMap<String, String> {
    let mut options = HashMap::from([("DYNAMO_LOCK_TABLE_NAME".to_owned(), table.to_owned())]);
    let number = |name: &str| settings.get(name).and_then(Value::as_u64);
    for (option, value) in [
        ("DYNAMO_LOCK_LEASE_DURATION", number("lease_ms").map(|ms| ms / 1_000)),
        ("DYNAMO_LOCK_REFRESH_PERIOD_MILLIS", number("poll_ms")),
        ("DYNAMO_LOCK_ADDITIONAL_TIME_TO_WAIT_MILLIS", number("wait_ms")),
    ] {
        if let Some(value) = value {
            options.insert(option.to_owned(), value.to_string());
        }
    }
    options
}

//! A lock in a DynamoDB table, with the region, the credentials and the TLS of your own AWS client.
//!
//! `AWS_REGION=eu-west-1 cargo run -p leasehold-examples --bin dynamodb`

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::{LockClient, Policy, TryAcquireOutcome};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https())
        .load()
        .await;
    let store = DynamoDbStore::new(aws_sdk_dynamodb::Client::new(&config), "locks");
    store.create_table().await?; // If it is missing.

    let policy = Policy::builder().lease_duration(Duration::from_secs(30));
    let locks = LockClient::builder(store).policy(policy.build()?).build();

    // One request, and no waiting.
    match locks.try_acquire("customer/42").await? {
        TryAcquireOutcome::Acquired(lease) => {
            println!("importing customer 42 with token {}", lease.token());
            lease.release().await?;
        }
        TryAcquireOutcome::Held(holder) => println!("{holder}"),
    }
    Ok(())
}

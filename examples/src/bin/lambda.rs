//! A Lambda function that serialises work per customer.
//!
//! The lock is released before the function returns, since a frozen environment renews nothing. The wait and the release
//! end before the invocation's own deadline.

use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use leasehold::LockClient;
use leasehold::store::dynamodb::DynamoDbStore;
use serde_json::{Value, json};

/// How long the work takes.
const WORK: Duration = Duration::from_secs(1);
/// How long a release may take: a renewal in flight, and its own requests.
const RELEASE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Error> {
    // Once for each environment, not for each invocation.
    let tls = Provider::Rustls(CryptoMode::Ring);
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https())
        .load()
        .await;
    let aws = aws_sdk_dynamodb::Client::new(&config);
    let locks = LockClient::new(DynamoDbStore::new(aws, "locks"));
    run(service_fn(|event| handle(&locks, event))).await
}

async fn handle(locks: &LockClient, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let customer = event.payload["customer"].as_str();
    let customer = customer.ok_or("the event names no `customer`")?;
    let left = event.context.deadline().duration_since(SystemTime::now());
    let wait = left.unwrap_or_default().saturating_sub(WORK + RELEASE);
    let request = locks.request(&format!("customer/{customer}"))?;
    let token = request
        .wait(wait)
        .call_timeout(RELEASE / 2)
        .run(|scope| async move { scope.token().get() })
        .await?;
    Ok(json!({ "token": token }))
}

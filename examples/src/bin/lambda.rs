//! A Lambda function that may be invoked twice for one order, as after a retry: the order is handled once.
//!
//! The run is recorded before the function returns, since a frozen environment renews nothing. The wait and the record
//! end before the invocation's own deadline.

use std::time::{Duration, SystemTime};

use aws_config::BehaviorVersion;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::{Json, LockClient, Policy};
use serde_json::{Value, json};

/// How long the work takes.
const WORK: Duration = Duration::from_secs(1);
/// How long the record may take: a renewal in flight, and its own requests.
const RECORD: Duration = Duration::from_secs(2);

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
    let order = event.payload["order"].as_str();
    let order = order.ok_or("the event names no `order`")?;
    let left = event.context.deadline().duration_since(SystemTime::now());
    let wait = left.unwrap_or_default().saturating_sub(WORK + RECORD);
    let policy = Policy::builder()
        .call_timeout(RECORD / 2)
        .wait(wait)
        .build()?;
    let once = locks.once(&format!("order/{order}"))?.policy(policy);
    let answer = once.run(|scope| async move {
        // What the work writes carries the token.
        Ok::<_, std::io::Error>(Json(json!({ "token": scope.token().get() })))
    });
    let Json(answer) = answer.await?.into_value()?;
    Ok(answer)
}

//! DynamoDB Local or AWS, by raw requests, and what all tests here need of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, ConfigBag, Credentials, Intercept, Region, RuntimeComponents,
};
use aws_sdk_dynamodb::error::{BoxError, SdkError};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, KeySchemaElement, KeyType,
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TimeToLiveSpecification, TransactWriteItem, Update,
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::clock::{Clock, SystemClock};

pub(crate) const KEY: &str = "LockKey";
pub(crate) const TTL: &str = "ExpireInUnixSeconds";

/// DynamoDB Local or AWS, and a table of a lock table's shape.
pub(crate) struct Service {
    pub(crate) aws: Client,
    pub(crate) table: String,
    pub(crate) is_local: bool,
}

pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Service {
    pub(crate) async fn new() -> Service {
        match variable("LEASEHOLD_TEST_AWS_TABLE") {
            Some(table) => Service::on_aws(table),
            None => Service::local().await,
        }
    }

    fn on_aws(table: String) -> Service {
        let needed = |name: &str| {
            variable(name).unwrap_or_else(|| panic!("LEASEHOLD_TEST_AWS_TABLE needs {name}, too"))
        };
        let credentials = Credentials::new(
            needed("AWS_ACCESS_KEY_ID"),
            needed("AWS_SECRET_ACCESS_KEY"),
            variable("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        Service {
            aws: Client::from_conf(
                aws_sdk_dynamodb::Config::builder()
                    .behavior_version(BehaviorVersion::v2026_01_12())
                    .region(Region::new(needed("AWS_REGION")))
                    .credentials_provider(credentials)
                    .http_client(https)
                    .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
                    .build(),
            ),
            table,
            is_local: false,
        }
    }

    async fn local() -> Service {
        let endpoint = variable("LEASEHOLD_TEST_DYNAMODB").expect(
            "LEASEHOLD_TEST_DYNAMODB is not set: run the tests with `cargo xtask test`, \
             or start a server with `cargo xtask dynamodb` and set it to its address",
        );
        let aws = Client::from_conf(
            aws_sdk_dynamodb::Config::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .endpoint_url(endpoint)
                .region(Region::new("eu-west-1"))
                .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
                .build(),
        );
        let table = unique("assumptions");
        let name = AttributeDefinition::builder()
            .attribute_name(KEY)
            .attribute_type(ScalarAttributeType::S)
            .build();
        let hash = KeySchemaElement::builder()
            .attribute_name(KEY)
            .key_type(KeyType::Hash)
            .build();
        aws.create_table()
            .table_name(&table)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(name.expect("complete"))
            .key_schema(hash.expect("complete"))
            .send()
            .await
            .expect("a new table");
        let ttl = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(TTL)
            .build();
        aws.update_time_to_live()
            .table_name(&table)
            .time_to_live_specification(ttl.expect("complete"))
            .send()
            .await
            .expect("TTL is turned on");
        Service {
            aws,
            table,
            is_local: true,
        }
    }

    /// An update of the item `key`, that shows what stood in its way.
    pub(crate) fn update(&self, key: &str, update: &str) -> UpdateItemFluentBuilder {
        self.aws
            .update_item()
            .table_name(&self.table)
            .key(KEY, s(key))
            .update_expression(update)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Writes the attributes of `key`.
    pub(crate) async fn plant(&self, key: &str, attributes: &[(&str, AttributeValue)]) {
        let mut request = self
            .aws
            .put_item()
            .table_name(&self.table)
            .item(KEY, s(key));
        for (name, value) in attributes {
            request = request.item(*name, value.clone());
        }
        request.send().await.expect("written");
    }

    pub(crate) async fn item(&self, key: &str) -> Option<Item> {
        let request = self.aws.get_item().table_name(&self.table).key(KEY, s(key));
        let answer = request.consistent_read(true).send().await;
        answer.expect("read").item
    }

    /// Leaves nothing behind in a table that is not ours.
    pub(crate) async fn clean(&self, keys: &[&str]) {
        for key in keys {
            let request = self.aws.delete_item().table_name(&self.table);
            request.key(KEY, s(*key)).send().await.expect("deleted");
        }
    }
}

pub(crate) type Item = std::collections::HashMap<String, AttributeValue>;

pub(crate) fn unique(what: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = SystemClock.wall_unix_ms();
    format!("{what}-{}-{next}-{now}", std::process::id())
}

pub(crate) fn number(item: &Item, name: &str) -> String {
    item[name].as_n().expect("a number").clone()
}

/// The item that stood in the way of a write that was refused.
pub(crate) fn in_the_way<T: std::fmt::Debug>(
    answer: Result<T, SdkError<UpdateItemError>>,
) -> Option<Item> {
    match answer.expect_err("must be refused").into_service_error() {
        UpdateItemError::ConditionalCheckFailedException(refusal) => {
            refusal.item.filter(|item| !item.is_empty())
        }
        other => panic!("refused by its condition, not by {other:?}"),
    }
}

/// Sleeps on the elapsed clock.
pub(crate) async fn pause(length: Duration) {
    let clock = SystemClock;
    clock.sleep_until(clock.elapsed().plus(length)).await;
}

pub(crate) fn check(service: &Service, key: &str, me: &str) -> TransactWriteItem {
    let check = ConditionCheck::builder()
        .table_name(&service.table)
        .key(KEY, s(key))
        .condition_expression("ClientId = :me")
        .expression_attribute_values(":me", s(me))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .expect("complete");
    TransactWriteItem::builder().condition_check(check).build()
}

/// Sets something with `:n`, which is 1.
pub(crate) fn set(service: &Service, key: &str, what: &str) -> TransactWriteItem {
    let update = Update::builder()
        .table_name(&service.table)
        .key(KEY, s(key))
        .update_expression(format!("SET {what}"))
        .expression_attribute_values(":n", n(1))
        .build()
        .expect("complete");
    TransactWriteItem::builder().update(update).build()
}

/// What an answer had beside its result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer(Arc<Mutex<Option<Raw>>>);

#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) date: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn raw(&self) -> Raw {
        self.0
            .lock()
            .expect("not poisoned")
            .clone()
            .expect("answered")
    }
}

impl Intercept for Answer {
    fn name(&self) -> &'static str {
        "Answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        let header = |name: &str| headers.get(name).map(str::to_owned);
        *self.0.lock().expect("not poisoned") = Some(Raw {
            date: header("date"),
            request_id: header("x-amzn-requestid"),
            body: context
                .response()
                .body()
                .bytes()
                .unwrap_or_default()
                .to_vec(),
        });
        Ok(())
    }
}

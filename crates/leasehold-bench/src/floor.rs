//! The floor: the cost of a lock that is only its two requests, on the same SDK.
//!
//! The requests write the library's item under the library's conditions. The client has the
//! library's settings of retries, time-outs and stalled-stream protection. Only the attempt's id is kept
//! between the two requests.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::StalledStreamProtectionConfig;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use leasehold::clock::{OsRandom, Random};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::attribute;

use crate::dynamodb;

/// The parts of an answer that the floor requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    /// Only whether it was applied.
    Bare,
    /// The parts that the library needs: the new item, the current item after a refusal, and the units.
    Full,
}

/// A client that locks with two raw requests.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    client: Client,
    table: String,
    key: String,
    answers: Answers,
}

impl Floor {
    pub(crate) fn new(endpoint: &str, table: &str, key: &str, answers: Answers) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(20))
            .operation_timeout(Duration::from_secs(20))
            .build();
        let config = dynamodb::config(endpoint)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        Floor {
            client: Client::from_conf(config.build()),
            table: table.to_owned(),
            key: key.to_owned(),
            answers,
        }
    }

    /// The same client for another key.
    pub(crate) fn of(&self, key: &str) -> Floor {
        Floor {
            key: key.to_owned(),
            ..self.clone()
        }
    }

    /// Takes the lock and frees it.
    pub(crate) async fn cycle(&self) -> Result<()> {
        let (me, token) = self.acquire_anew().await?;
        self.release(&me, token).await
    }

    /// Takes the lock under a new identity.
    pub(crate) async fn acquire_anew(&self) -> Result<(String, Option<String>)> {
        let me = AttemptId::from_random(OsRandom.attempt_bits()).to_string();
        let token = self.acquire(&me).await?;
        Ok((me, token))
    }

    async fn acquire(&self, me: &str) -> Result<Option<String>> {
        let answer = self
            .update()
            .update_expression(
                "SET #client = :me, #expires = :expires, #ttl = :ttl, #lease = :lease, #version = :version, \
                 #holder = :holder, #acquired = :acquired, \
                 #count = if_not_exists(#count, :zero) + :one, #token = if_not_exists(#token, :seed) + :one REMOVE #done",
            )
            .condition_expression(
                "attribute_not_exists(#key) OR (attribute_exists(#version) AND attribute_not_exists(#client) \
                 AND attribute_not_exists(#queue[0]) AND (attribute_not_exists(#slots) OR size(#slots) = :zero))",
            )
            .expression_attribute_names("#key", attribute::KEY)
            .expression_attribute_names("#client", attribute::CLIENT_ID)
            .expression_attribute_names("#expires", attribute::EXPIRES_MS)
            .expression_attribute_names("#ttl", attribute::TTL_SECONDS)
            .expression_attribute_names("#token", attribute::TOKEN)
            .expression_attribute_names("#lease", attribute::LEASE_MS)
            .expression_attribute_names("#version", attribute::VERSION)
            .expression_attribute_names("#holder", attribute::HOLDER)
            .expression_attribute_names("#acquired", attribute::ACQUIRED_MS)
            .expression_attribute_names("#count", attribute::RENEW_COUNT)
            .expression_attribute_names("#done", attribute::DONE)
            .expression_attribute_names("#queue", attribute::QUEUE)
            .expression_attribute_names("#slots", attribute::SLOTS)
            .expression_attribute_values(":me", AttributeValue::S(me.to_owned()))
            .expression_attribute_values(":expires", number(1_790_000_000_000_i64))
            .expression_attribute_values(":ttl", number(4_000_000_000_i64))
            .expression_attribute_values(":lease", number(20_000))
            .expression_attribute_values(":version", number(2))
            .expression_attribute_values(":holder", AttributeValue::S("host leasehold-bench[1234]".to_owned()))
            .expression_attribute_values(":acquired", number(1_790_000_000_000_i64))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":seed", number(1_790_000_000_000_i64))
            .send()
            .await?;
        let Some(item) = answer.attributes() else {
            return Ok(None);
        };
        ensure!(item.contains_key(attribute::TOKEN), "no token in {item:?}");
        Ok(item
            .get(attribute::TOKEN)
            .and_then(|token| token.as_n().ok().cloned()))
    }

    pub(crate) async fn release(&self, me: &str, token: Option<String>) -> Result<()> {
        let mut update = self
            .update()
            .update_expression(
                "SET #expires = :zero, #ttl = :ttl, #held = :held REMOVE #client, #data",
            )
            .expression_attribute_names("#client", attribute::CLIENT_ID)
            .expression_attribute_names("#expires", attribute::EXPIRES_MS)
            .expression_attribute_names("#ttl", attribute::TTL_SECONDS)
            .expression_attribute_names("#held", attribute::HELD_MS)
            .expression_attribute_names("#data", attribute::DATA)
            .expression_attribute_names("#queue", attribute::QUEUE)
            .expression_attribute_values(":me", AttributeValue::S(me.to_owned()))
            .expression_attribute_values(":held", number(0))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":ttl", number(4_000_000_000_i64));
        update = match token {
            None => {
                update.condition_expression("#client = :me AND attribute_not_exists(#queue[0])")
            }
            Some(token) => update
                .condition_expression(
                    "#client = :me AND #token = :token AND attribute_not_exists(#queue[0])",
                )
                .expression_attribute_names("#token", attribute::TOKEN)
                .expression_attribute_values(":token", AttributeValue::N(token)),
        };
        update.send().await?;
        Ok(())
    }

    fn update(&self) -> UpdateItemFluentBuilder {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(attribute::KEY, AttributeValue::S(self.key.clone()));
        match self.answers {
            Answers::Bare => update,
            Answers::Full => update
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .return_consumed_capacity(ReturnConsumedCapacity::Total),
        }
    }
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

//! Deletes records past their retention, for tables without TTL.
//!
//! Invariants: a record is deleted only as it was seen (its grant, its count, its TTL and no place in its queue).
//! It is deleted only when its TTL attribute has passed, and its lease has been over for the least retention. Then
//! a new record starts above its tokens (S2; `docs/protocol.md` section 8).

use std::time::Duration;

use aws_sdk_dynamodb::types::ReturnConsumedCapacity;

use super::classify::{self, Conditional, Refusal};
use super::expression::Expression;
use super::sending::Sending;
use super::table::pause;
use super::{DynamoDbStore, listing};
use crate::error::{Effect, Error};
use crate::store::{StoreError, StoreErrorKind};
use leasehold_protocol::record::{Record, attribute};
use leasehold_protocol::time::Stamp;

/// How long a lease must have ended, in seconds.
const LEAST_RETENTION: i64 = 86_400;
/// The most that the service's clock is behind its own `Date`, in seconds.
const DISAGREEMENT: i64 = 1;
/// The requests of a sweep are retried so often.
const TRIES: u32 = 10;

/// The outcome of [`DynamoDbStore::sweep`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Swept {
    /// The number of deleted records.
    pub deleted: u64,
    /// The number of records that were read.
    pub read: u64,
    /// Whether the limit was reached: more records may be past their retention.
    pub limited: bool,
}

impl DynamoDbStore {
    /// Deletes records whose retention ended at least `older_than` ago by the service's clock, `most` at most.
    /// A table without TTL needs this from time to time ([`TableShape::mrsc`](super::TableShape::mrsc)). Any number of
    /// callers may do so at once.
    ///
    /// It deletes records whose TTL attribute has passed and for which nobody waits: released and done ones, and
    /// those whose lease ended more than 24 hours ago. A record that has changed meanwhile stays. The whole table is
    /// read.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind). What was deleted before stays deleted.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again for the rest.
    pub async fn sweep(&self, older_than: Duration, most: u64) -> Result<Swept, Error> {
        let older_than = i64::try_from(older_than.as_secs()).unwrap_or(i64::MAX);
        let mut swept = Swept::default();
        let mut after = None;
        loop {
            let reply =
                patiently(|| listing::page(&self.client, &self.table, "", after.clone())).await?;
            let Some(Stamp::WholeSeconds(date)) = reply.stamp else {
                return Err(self.undated().into());
            };
            let until = date.saturating_sub(DISAGREEMENT);
            for record in reply.value.records.into_iter().flatten() {
                swept.read += 1;
                let Some(unchanged) = past_retention(&record, until, older_than) else {
                    continue;
                };
                if swept.deleted == most {
                    swept.limited = true;
                    return Ok(swept);
                }
                let unchanged = self.table.shape.named(unchanged);
                swept.deleted += u64::from(self.delete_if(&record.key, &unchanged).await?);
            }
            after = reply.value.next;
            if after.is_none() {
                return Ok(swept);
            }
        }
    }

    /// Whether the record was still as the condition says, and is deleted.
    async fn delete_if(&self, key: &str, unchanged: &Expression) -> Result<bool, StoreError> {
        patiently(async || {
            let sending = Sending::new("DeleteItem");
            let request = self
                .client
                .delete_item()
                .table_name(self.table())
                .set_key(Some(self.table.item_key(key)?))
                .condition_expression(unchanged.condition.clone())
                .set_expression_attribute_names(Some(unchanged.names.clone()))
                .set_expression_attribute_values(Some(unchanged.values.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::None)
                .customize()
                .interceptor(sending.clone())
                .send();
            let error = match sending.answer(request).await {
                Ok(_) => return Ok(true),
                Err(error) => error,
            };
            match error.as_service_error().map(Conditional::refusal) {
                Some(Refusal::With(_) | Refusal::Bare) => Ok(false),
                Some(Refusal::None) | None => Err(classify::failure(error, &self.table, &sending)),
            }
        })
        .await
    }

    fn undated(&self) -> StoreError {
        let message = format!(
            "dynamodb table `{}`: the answer has no `Date`, so the age of its records is not known",
            self.table()
        );
        StoreError::new(StoreErrorKind::Configuration, Effect::NotApplied, message)
            .with_hint("let the proxy pass the service's `Date` header on")
    }
}

/// The condition that the record is as it was seen, if it is past its retention. Times are Unix seconds of the
/// service.
fn past_retention(record: &Record, now: i64, older_than: i64) -> Option<Expression> {
    let ttl = record.ttl_seconds?;
    // Each write of a holder of a slot changes the TTL, too.
    let slots = record.slots.iter().flat_map(|slots| &slots.held);
    let slots = slots.map(|slot| slot.expires_at).max();
    let expires_at = record.expires_at.max(slots.unwrap_or(record.expires_at));
    let lease_end = expires_at.0.div_euclid(1_000).saturating_add(1);
    let is_over = ttl.saturating_add(older_than) < now
        && lease_end.saturating_add(LEAST_RETENTION) < now
        && record.queue.is_empty();
    if !is_over {
        return None;
    }
    let condition = "#ttl = :ttl AND #expires = :expires \
         AND (attribute_not_exists(#queue) OR size(#queue) = :zero)";
    let mut unchanged = Expression::new("", condition)
        .names(&[
            ("#ttl", attribute::TTL_SECONDS),
            ("#expires", attribute::EXPIRES_MS),
            ("#queue", attribute::QUEUE),
            ("#client", attribute::CLIENT_ID),
        ])
        .number(":ttl", ttl)
        .number(":expires", record.expires_at.0)
        .number(":zero", 0);
    match &record.owner {
        Some(owner) => {
            unchanged.condition.push_str(" AND #client = :client");
            unchanged = unchanged.text(":client", owner);
        }
        None => {
            let released = " AND attribute_not_exists(#client)";
            unchanged.condition.push_str(released);
        }
    }
    let Some(native) = record.native else {
        unchanged
            .condition
            .push_str(" AND attribute_not_exists(#version)");
        return Some(unchanged.names(&[("#version", attribute::VERSION)]));
    };
    let counted = " AND #token = :token AND #count = :count";
    unchanged.condition.push_str(counted);
    let names = [
        ("#token", attribute::TOKEN),
        ("#count", attribute::RENEW_COUNT),
    ];
    let unchanged = unchanged.names(&names);
    Some(
        unchanged
            .number(":token", native.token)
            .number(":count", native.renew_count),
    )
}

/// Tries again what may succeed later.
async fn patiently<T>(
    mut request: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut tries = 1;
    loop {
        match request().await {
            Err(error) if error.kind.is_retryable() && tries < TRIES => {
                tries += 1;
                pause().await;
            }
            answer => return answer,
        }
    }
}

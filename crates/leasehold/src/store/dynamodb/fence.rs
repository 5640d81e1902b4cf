//! Fencing: how a protected DynamoDB item refuses a holder whose lease has ended.
//!
//! There are two ways (`docs/protocol.md` section 8), and neither reads a clock (S3). A **token column**
//! on the protected item refuses smaller tokens than the largest that the item has seen. It adds no
//! cost (1 write unit for a small item). A **condition check** on the lock item in the caller's own
//! transaction refuses the old holder from the instant of the next grant. It costs 4 write units for
//! a small item.

use std::collections::HashMap;
use std::error::Error as StdError;

use aws_sdk_dynamodb::Error as SdkError;
use aws_sdk_dynamodb::types::error::{
    ConditionalCheckFailedException, TransactionCanceledException,
};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
};

use super::expression::{Expression, owned};
use super::{DynamoDbStore, slots};
use crate::error::{Error, ErrorKind};
use crate::lease_id::LeaseId;
use leasehold_protocol::record::attribute;
use leasehold_protocol::token::FencingToken;

impl DynamoDbStore {
    /// A condition check for the caller's own `TransactWriteItems`: this grant is still the newest. The
    /// transaction fails from the instant at which another client takes the key over, or the grant is
    /// released. The check ignores the expiry: an expired grant that no client has taken over still
    /// passes, which is safe.
    ///
    /// When the check fails, [`is_fenced`] returns true: stop the work. Put the check first in the
    /// transaction, so that `is_fenced` recognises it even if the record was deleted. A transaction at the
    /// same time as a renewal of the lease may fail with `TransactionConflict`. `is_fenced` is then false:
    /// try again.
    ///
    /// Readers that must not see a partial change use `TransactGetItems`.
    ///
    /// From this call on the grant is not handed off inside this process: the check sees only the
    /// record, which a hand-off does not change. This includes clones of the identity, but not one that
    /// was parsed from text. To fence with such identities, turn
    /// [`hand_off`](crate::PolicyBuilder::hand_off) off.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Lost`] when the guard was handed off already.
    /// [`ErrorKind::InvalidInput`] when the token is best effort: clients that do not know tokens share
    /// the key. [`ErrorKind::Configuration`] with [`TableShape::mrsc`](super::TableShape::mrsc).
    pub fn fence(&self, id: &LeaseId) -> Result<TransactWriteItem, Error> {
        if self.table.shape.is_mrsc() {
            let message = format!(
                "cannot fence `{}` by a transaction: dynamodb table `{}` is one of multi-Region strong consistency, which has none",
                id.key(),
                self.table()
            );
            return Err(Error::new(ErrorKind::Configuration, message)
                .with_key(id.key().as_str())
                .with_hint("use a `TokenColumn` on the item that you protect"));
        }
        let check = self.condition_check(id)?;
        Ok(TransactWriteItem::builder().condition_check(check).build())
    }

    /// The check of [`fence`](DynamoDbStore::fence) alone. Its key, condition, names and values also make an
    /// `UpdateItem` of the lock record safe, see [attributes of your own](DynamoDbStore#attributes-of-your-own).
    ///
    /// # Errors
    ///
    /// As [`fence`](DynamoDbStore::fence), but for every table.
    pub fn condition_check(&self, id: &LeaseId) -> Result<ConditionCheck, Error> {
        if id.token().is_best_effort() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "cannot fence `{}`: its token is best effort, because F# clients share the table",
                    id.key()
                ),
            )
            .with_key(id.key().as_str())
            .with_hint("fence when all clients of the key know tokens, and unset `shared_with_fsharp`"));
        }
        let item_key = self.item_key(id.key().as_str())?;
        if !id.pin() {
            return Err(id.lost_error("it was released and handed off"));
        }
        let token = id.token().stored();
        let held = match id.is_slot() {
            true => slots::held(id.attempt(), token),
            false => owned(Expression::new("", ""), &id.attempt(), Some(token)),
        };
        ConditionCheck::builder()
            .table_name(self.table())
            .set_key(Some(item_key))
            .condition_expression(held.condition)
            .set_expression_attribute_names(Some(held.names))
            .set_expression_attribute_values(Some(held.values))
            // By this, `is_fenced` distinguishes the check from the caller's own conditions.
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::Unexpected, "the SDK refused a complete check")
                    .with_source(error)
            })
    }
}

/// Whether a transaction failed because of the check of [`DynamoDbStore::fence`]: the grant has ended,
/// so stop the work. It takes the SDK's error of `TransactWriteItems`, or any error with that in its
/// chain of sources.
///
/// A failed check returns the lock record, unlike the caller's own conditions. There are two limits:
///
/// - A failed condition without an item counts as the check if it is the **first** of the transaction,
///   because the record may have been deleted. So put the check first, or set
///   `ReturnValuesOnConditionCheckFailure` of the first item to `ALL_OLD`.
/// - A failed condition of the caller that returns a lock record counts as the check.
///
/// ```no_run
/// # use leasehold::{Lease, store::dynamodb::DynamoDbStore};
/// # use aws_sdk_dynamodb::types::TransactWriteItem;
/// use leasehold::store::dynamodb::is_fenced;
///
/// # async fn example(
/// #     aws: aws_sdk_dynamodb::Client, store: DynamoDbStore, lease: Lease, write: TransactWriteItem,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// let sent = aws
///     .transact_write_items()
///     .transact_items(store.fence(lease.id())?)
///     .transact_items(write)
///     .send()
///     .await;
/// match sent {
///     Ok(_) => {}
///     Err(error) if is_fenced(&error) => println!("another has the lock: {error}"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
pub fn is_fenced(error: &(dyn StdError + 'static)) -> bool {
    failed_conditions(error)
        .into_iter()
        .any(|(place, item)| match item {
            Some(item) => is_lock_record(item),
            // A single write is not the check.
            None => place == Some(0),
        })
}

/// Every record has an expiry. A released one has a token, and one that an F# client has taken an owner.
fn is_lock_record(item: &Item) -> bool {
    item.contains_key(attribute::EXPIRES_MS)
        && (item.contains_key(attribute::TOKEN) || item.contains_key(attribute::CLIENT_ID))
}

type Item = HashMap<String, AttributeValue>;

/// A failed condition: its place in a transaction, and the returned item.
type Failed<'a> = (Option<usize>, Option<&'a Item>);

fn failed_conditions<'a>(error: &'a (dyn StdError + 'static)) -> Vec<Failed<'a>> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The exception is no source of the SDK's own error enum.
        let (refused, canceled) = match error.downcast_ref() {
            Some(SdkError::ConditionalCheckFailedException(refused)) => (Some(refused), None),
            Some(SdkError::TransactionCanceledException(canceled)) => (None, Some(canceled)),
            _ => (error.downcast_ref(), error.downcast_ref()),
        };
        match (refused, canceled) {
            (Some(refused), _) => return refusal(refused),
            (_, Some(canceled)) => return cancellation(canceled),
            _ => next = error.source(),
        }
    }
    Vec::new()
}

fn refusal(refused: &ConditionalCheckFailedException) -> Vec<Failed<'_>> {
    vec![(None, shown(refused.item()))]
}

fn cancellation(canceled: &TransactionCanceledException) -> Vec<Failed<'_>> {
    let reasons = canceled.cancellation_reasons().iter().enumerate();
    reasons
        .filter(|(_, reason)| reason.code() == Some("ConditionalCheckFailed"))
        .map(|(place, reason)| (Some(place), shown(reason.item())))
        .collect()
}

fn shown(item: Option<&Item>) -> Option<&Item> {
    item.filter(|item| !item.is_empty())
}

/// A column of the protected item that holds the largest token it has seen.
///
/// Add [`condition`](TokenColumn::condition) to the write's condition (with `AND`). Add
/// [`assignment`](TokenColumn::assignment) to the `SET` of an update, or [`value`](TokenColumn::value) as the
/// column of a put. Add names and values to the request.
///
/// **Work that writes what it derives from a read must raise the column first.** The item refuses an old
/// holder only after it has seen the new token. A write of the old holder between your read and your
/// write is accepted, and you then overwrite it. One update that only sets the column (assignment and
/// condition as above) with `ReturnValues=ALL_NEW` raises it and reads the item.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), leasehold::Error> {
/// use leasehold::{LockClient, store::{dynamodb::TokenColumn, memory::MemoryStore}};
///
/// # let locks = LockClient::new(MemoryStore::new());
/// let lease = locks.acquire("customer/42").await?;
/// let fence = TokenColumn::new("FT", lease.token());
/// let update = format!("SET Balance = :b, {}", fence.assignment());
/// assert_eq!(update, "SET Balance = :b, #leasehold_token = :leasehold_token");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenColumn {
    column: String,
    token: FencingToken,
}

const NAME: &str = "#leasehold_token";
const VALUE: &str = ":leasehold_token";

impl TokenColumn {
    /// The column `column`, written under a lease with `token`.
    pub fn new(column: impl Into<String>, token: FencingToken) -> Self {
        TokenColumn {
            column: column.into(),
            token,
        }
    }

    /// The condition: the item has seen no larger token.
    pub fn condition(&self) -> String {
        format!("(attribute_not_exists({NAME}) OR {NAME} <= {VALUE})")
    }

    /// The assignment, for the `SET` of an update.
    pub fn assignment(&self) -> String {
        format!("{NAME} = {VALUE}")
    }

    /// The value of the column, for a put.
    pub fn value(&self) -> AttributeValue {
        AttributeValue::N(self.token.get().to_string())
    }

    /// Whether a write failed because the item has seen a larger token: stop the work. It takes the SDK's
    /// error of a put, an update, a delete or a transaction, or any error with that in its chain of
    /// sources.
    ///
    /// Set `ReturnValuesOnConditionCheckFailure` of the write to `ALL_OLD`: the returned item distinguishes
    /// the token from the rest of the condition. Without it, every failed condition counts as fenced. So
    /// does another item of the transaction that has a column of the same name with a larger number.
    pub fn is_fenced(&self, error: &(dyn StdError + 'static)) -> bool {
        failed_conditions(error)
            .into_iter()
            .any(|(_, item)| item.is_none_or(|item| self.is_newer_in(item)))
    }

    fn is_newer_in(&self, item: &Item) -> bool {
        match item.get(&self.column) {
            None => false,
            Some(AttributeValue::N(seen)) => {
                // A value that is no token does not count as older.
                seen.parse::<u64>()
                    .map_or(true, |seen| seen > self.token.get())
            }
            // The condition is false for every other type.
            Some(_) => true,
        }
    }

    /// The names for `expression_attribute_names`.
    pub fn names(&self) -> HashMap<String, String> {
        [(NAME.to_owned(), self.column.clone())].into()
    }

    /// The values for `expression_attribute_values`.
    pub fn values(&self) -> HashMap<String, AttributeValue> {
        [(VALUE.to_owned(), self.value())].into()
    }
}

//! Locks in a DynamoDB table, by default with the schema of FSharp.DynamoDbLock.
//!
//! Each operation is one conditional `UpdateItem`, which the SDK never retries: a retry would carry
//! stale times. This module makes no protocol decision.
//!
//! | file | is for |
//! |---|---|
//! | `expression`, `expressions`, `slots` | writes as expressions |
//! | `shape` | names and keys of the table; items as records |
//! | `sending` | one request and its stamp |
//! | `classify` | the meaning of failures |
//! | `table` | creates and checks the table |
//! | `definition` | the table and its permissions for other tools |
//! | `listing` | pages of records |
//! | `sweep` | deletes records past their retention |
//! | `fence` | protected items refuse an old holder |

mod classify;
mod definition;
mod expression;
mod expressions;
mod fence;
mod listing;
mod sending;
mod shape;
mod slots;
mod sweep;
mod table;
#[cfg(test)]
mod vectors;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::StalledStreamProtectionConfig;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue,
    ReturnValuesOnConditionCheckFailure,
};

use self::classify::{Conditional, Refusal};
pub use self::definition::{Definition, definition};
pub use self::fence::{TokenColumn, is_fenced};
use self::sending::Sending;
use self::shape::Table;
pub use self::shape::TableShape;
pub use self::sweep::Swept;
pub use self::table::{Created, TableError};
use super::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};
use crate::error::{Effect, Error};
use crate::usage::Units;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

/// The upper bound of one request. The client's time-outs are shorter, and start other requests.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// An item above this costs twice as much to write.
const ONE_UNIT_BYTES: usize = 1024;

/// Lock records in a DynamoDB table. Clones share the client.
///
/// The table has a string hash key `LockKey`, TTL on `ExpireInUnixSeconds`, and on-demand billing, unless
/// [`with_shape`](DynamoDbStore::with_shape) says otherwise.
/// [`create_table`](DynamoDbStore::create_table) makes it, and
/// [`check_table`](DynamoDbStore::check_table) checks it.
///
/// The caller's client sets region, credentials, endpoint and TLS. Its retries, time-outs and
/// stalled-stream protection are overridden: one try per request, at most 20 s.
///
/// # Attributes of your own
///
/// The item of a lock may have attributes of yours, such as the progress of its work. Every write here names only
/// its own attributes (`docs/protocol.md` section 2). Yours stay until the record is deleted: by TTL, or when a
/// token by a wrong clock is withdrawn. Write them under the lock, with
/// [`condition_check`](DynamoDbStore::condition_check):
///
/// ```no_run
/// # use leasehold::{Lease, store::dynamodb::DynamoDbStore};
/// # use aws_sdk_dynamodb::{Client, types::AttributeValue};
/// # async fn example(aws: Client, store: DynamoDbStore, lease: Lease) -> Result<(), Box<dyn std::error::Error>> {
/// let check = store.condition_check(lease.id())?;
/// aws.update_item()
///     .table_name(check.table_name())
///     .set_key(Some(check.key().clone()))
///     .update_expression("SET Progress = :progress")
///     .condition_expression(check.condition_expression())
///     .set_expression_attribute_names(check.expression_attribute_names().cloned())
///     .set_expression_attribute_values(check.expression_attribute_values().cloned())
///     .expression_attribute_values(":progress", AttributeValue::N("7".to_owned()))
///     .send()
///     .await?;
/// # Ok(())
/// # }
/// ```
///
/// Never write without that condition, and never put the item. A write without it may make an item that is no lock
/// record, and such a key cannot be acquired. Names of other attributes must differ from those of the record. An
/// item above 1 KB makes every request of the lock cost more.
///
/// # Permissions
///
/// `dynamodb:UpdateItem`, `GetItem`, `DeleteItem` (to withdraw an own record with a token
/// by a wrong clock), and `Scan` or `Query` for listing.
#[derive(Clone)]
pub struct DynamoDbStore {
    /// The caller's client with overrides, for locks.
    client: Client,
    /// The caller's client without overrides, for the control plane.
    control: Client,
    table: Arc<Table>,
    warned_size: Arc<AtomicBool>,
}

impl fmt::Debug for DynamoDbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The SDK's client prints tens of thousands of characters.
        f.debug_struct("DynamoDbStore")
            .field("table", &self.table())
            .field("shape", &self.table.shape)
            .finish_non_exhaustive()
    }
}

impl DynamoDbStore {
    /// Locks in `table`. It sends no request.
    pub fn new(client: Client, table: impl Into<Arc<str>>) -> Self {
        let name = table.into();
        DynamoDbStore {
            client: for_locks(&client),
            control: client,
            table: Arc::new(Table {
                url: format!("dynamodb://{name}").into(),
                name,
                shape: TableShape::default(),
            }),
            warned_size: Arc::default(),
        }
    }

    /// The same store in a table of this shape.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) when the shape is not valid, with the setting to change.
    pub fn with_shape(mut self, shape: TableShape) -> Result<Self, Error> {
        Arc::make_mut(&mut self.table).shape = shape.checked()?;
        Ok(self)
    }

    /// The same store, which hints of its errors name so: as `--store` of the command takes it. Without it they write
    /// `dynamodb://TABLE`.
    #[must_use]
    pub fn with_url(mut self, url: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.table).url = url.into();
        self
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        &self.table.name
    }

    /// The key of the item that is the record of a lock.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when the shape of the table needs keys of another form.
    pub fn item_key(&self, key: &str) -> Result<HashMap<String, AttributeValue>, Error> {
        let item_key = self.table.item_key(key);
        item_key.map_err(|error| Error::from(error).with_key(key))
    }

    async fn update(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let key = write.key().to_owned();
        let sending = Sending::new("UpdateItem");
        let item_key = self.table.item_key(&key)?;
        let expression = self.table.shape.named(expressions::update(&write));
        self.warn_of_size(&key, &expression);
        let request = self
            .client
            .update_item()
            .table_name(self.table())
            .set_key(Some(item_key))
            .update_expression(expression.update)
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(
                Some(expression.values).filter(|values| !values.is_empty()),
            )
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(sending.clone())
            .send();
        match sending.answer(request).await {
            Ok(output) => {
                // The write was applied, even if its record is malformed.
                let record = output
                    .attributes()
                    .map(|item| self.table.shape.record(item))
                    .transpose()
                    .map_err(|malformed| StoreError {
                        effect: Effect::Unknown,
                        ..malformed.into()
                    })?;
                Ok(Reply {
                    value: Outcome::Applied(record),
                    stamp: sending.stamp(),
                    units: written(output.consumed_capacity()),
                })
            }
            Err(error) => self.not_applied(&key, error, &sending).await,
        }
    }

    async fn delete(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let key = write.key().to_owned();
        let sending = Sending::new("DeleteItem");
        let item_key = self.table.item_key(&key)?;
        let expression = self.table.shape.named(expressions::delete(&write));
        let request = self
            .client
            .delete_item()
            .table_name(self.table())
            .set_key(Some(item_key))
            .condition_expression(expression.condition)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(sending.clone())
            .send();
        match sending.answer(request).await {
            Ok(output) => Ok(Reply {
                value: Outcome::Applied(None),
                stamp: sending.stamp(),
                units: written(output.consumed_capacity()),
            }),
            Err(error) => self.not_applied(&key, error, &sending).await,
        }
    }

    /// The outcome of a conditional write that was refused or failed.
    async fn not_applied<E>(
        &self,
        key: &str,
        error: SdkError<E>,
        sending: &Sending,
    ) -> Result<Reply<Outcome>, StoreError>
    where
        E: Conditional + ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match error.as_service_error().map(Conditional::refusal) {
            Some(Refusal::With(item)) => Ok(Reply {
                value: Outcome::Refused(Some(self.table.shape.record(item)?)),
                stamp: sending.stamp(),
                units: Units::default(),
            }),
            Some(Refusal::Bare) => self.refused_without_item(key, sending).await,
            Some(Refusal::None) | None => Err(classify::failure(error, &self.table, sending)),
        }
    }

    /// A refusal without an item: there is none, or an emulator or proxy drops it. A consistent read shows
    /// the record. That is safe, because a take-over is a compare-and-set.
    async fn refused_without_item(
        &self,
        key: &str,
        sending: &Sending,
    ) -> Result<Reply<Outcome>, StoreError> {
        let seen = self.read(key, Consistency::Strong).await?;
        Ok(Reply {
            value: Outcome::Refused(seen.value),
            stamp: seen.stamp.or(sending.stamp()),
            units: Units {
                // DynamoDB bills the refused write, but does not report it.
                write: 1.0,
                read: seen.units.read,
            },
        })
    }

    fn warn_of_size(&self, key: &str, expression: &expression::Expression) {
        let size = expression.item_bytes(key) + self.table.shape.key_bytes();
        if size > ONE_UNIT_BYTES && !self.warned_size.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                key,
                table = self.table(),
                bytes = size,
                "the lock record is larger than 1 KB, which doubles the price of every request: make key, label or payload shorter"
            );
        }
    }
}

/// The caller's client with one try per request, other time-outs, and no stalled-stream protection.
/// Set once, since an override per request costs time.
fn for_locks(client: &Client) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_attempt_timeout(REQUEST_LIMIT)
        .operation_timeout(REQUEST_LIMIT)
        .build();
    let config = client
        .config()
        .to_builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

fn written(capacity: Option<&ConsumedCapacity>) -> Units {
    Units {
        write: capacity
            .and_then(ConsumedCapacity::capacity_units)
            .unwrap_or(0.0),
        read: 0.0,
    }
}

#[async_trait]
impl Store for DynamoDbStore {
    fn describe(&self) -> String {
        format!("dynamodb table `{}`", self.table())
    }

    fn hints(&self) -> Hints {
        Hints {
            expiry_padding: Duration::from_secs(1),
            check_delay: Duration::from_millis(50),
            check_delay_max: Duration::from_secs(1),
            max_polls_per_second: 100,
        }
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        match write {
            Write::Withdraw { .. } => self.delete(write).await,
            _ => self.update(write).await,
        }
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let item_key = self.table.item_key(key)?;
        let sending = Sending::new("GetItem");
        let request = self
            .client
            .get_item()
            .table_name(self.table())
            .set_key(Some(item_key))
            .consistent_read(consistency == Consistency::Strong)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .customize()
            .interceptor(sending.clone())
            .send();
        let output = sending
            .answer(request)
            .await
            .map_err(|error| classify::read_failure(error, &self.table, &sending))?;
        Ok(Reply {
            value: output
                .item()
                .map(|item| self.table.shape.record(item))
                .transpose()?,
            stamp: sending.stamp(),
            units: listing::read_units(output.consumed_capacity()),
        })
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        listing::page(&self.client, &self.table, prefix, after).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use aws_sdk_dynamodb::config::BehaviorVersion;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts the warnings of this thread.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_record_that_costs_twice_is_told_once() {
        let warnings = Warnings::default();
        let _scope = tracing::subscriber::set_default(warnings.clone());
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .build();
        let store = DynamoDbStore::new(Client::from_conf(config), "locks");
        let nothing = expression::Expression {
            update: String::new(),
            condition: String::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        };
        for (length, told) in [(1, 0), (1_024, 0), (1_025, 1), (2_000, 1)] {
            store.warn_of_size(&"k".repeat(length), &nothing);
            assert_eq!(warnings.0.load(Ordering::Relaxed), told, "{length}");
        }
    }
}

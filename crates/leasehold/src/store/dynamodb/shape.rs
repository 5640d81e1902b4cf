//! The shape of a table: names of its keys and its TTL, and where in it the record of a key is.
//!
//! Only this file maps keys of locks to keys of items and back. Invariant: [`TableShape::key_of`] is the
//! inverse of [`Table::item_key`], and `None` for every item that no key maps to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;

use super::expression::Expression;
use crate::error::{Effect, Error, ErrorKind};
use crate::key::Key;
use crate::store::{StoreError, StoreErrorKind};
use leasehold_protocol::record::{Malformed, Record, Value, attribute};

/// The longest name of a key attribute.
const LONGEST_NAME: usize = 255;
/// A partition key has 2048 bytes at most, of which a lock's key may need half.
const LONGEST_PREFIX: usize = 2048 - Key::MAX_BYTES;
/// The longest sort key.
const LONGEST_SORT: usize = 1024;

/// The attributes of a record besides key and TTL. Their names are the same in every table.
pub(super) const FIXED: [&str; 15] = [
    attribute::CLIENT_ID,
    attribute::EXPIRES_MS,
    attribute::TOKEN,
    attribute::LEASE_MS,
    attribute::RENEW_COUNT,
    attribute::VERSION,
    attribute::HOLDER,
    attribute::ACQUIRED_MS,
    attribute::DATA,
    attribute::LAST_FORCE,
    attribute::HELD_MS,
    attribute::QUEUE,
    attribute::DONE,
    attribute::SLOTS,
    attribute::LIMIT,
];

/// The names of a table's keys and TTL, for locks in a table that has other items, too. The default is the
/// shape of FSharp.DynamoDbLock: a string hash key `LockKey`, TTL on `ExpireInUnixSeconds`.
///
/// All clients of one table must use one shape. With another prefix or sort key they lock other items.
///
/// A table has one TTL attribute, so an existing table's own one is to be named.
///
/// ```
/// use leasehold::store::dynamodb::TableShape;
///
/// // The lock `customer/42` is the item PK=`LOCK#customer/42`, SK=`LOCK`.
/// let constant = TableShape::default()
///     .partition_key("PK")
///     .sort_key("SK", "LOCK")
///     .prefix("LOCK#")
///     .ttl("ttl");
/// // Here it is the item PK=`LOCK#customer`, SK=`42`: one partition has all locks of customers.
/// let split = constant.clone().sort_key_after("SK", '/');
/// # assert_ne!(constant, split);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableShape {
    partition_key: String,
    sort: Option<Sort>,
    prefix: String,
    ttl: String,
    mrsc: bool,
}

/// A table and its shape.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) name: Arc<str>,
    pub(super) shape: TableShape,
    /// What hints give to `--store` of the command.
    pub(super) url: Arc<str>,
}

impl Table {
    /// The key of the item that is the record of a lock.
    ///
    /// # Errors
    ///
    /// The key has not the form that the shape needs.
    pub(super) fn item_key(
        &self,
        key: &str,
    ) -> Result<HashMap<String, AttributeValue>, StoreError> {
        self.shape.item_key(key, &self.name)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sort {
    pub(super) name: String,
    pub(super) value: SortValue,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum SortValue {
    Constant(String),
    /// The part of the key after the first such character.
    After(char),
}

impl Default for TableShape {
    fn default() -> Self {
        TableShape {
            partition_key: attribute::KEY.to_owned(),
            sort: None,
            prefix: String::new(),
            ttl: attribute::TTL_SECONDS.to_owned(),
            mrsc: false,
        }
    }
}

impl TableShape {
    /// The name of the partition key, a string. Default: `LockKey`.
    #[must_use]
    pub fn partition_key(mut self, name: impl Into<String>) -> Self {
        self.partition_key = name.into();
        self
    }

    /// The table has this sort key, a string, and all locks have this value in it. Default: no sort key.
    #[must_use]
    pub fn sort_key(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.sort = Some(Sort {
            name: name.into(),
            value: SortValue::Constant(value.into()),
        });
        self
    }

    /// The table has this sort key, a string. A lock's key is split at the first `separator`: the part before
    /// it is the partition key, the part after it the sort key. A key without two such parts is refused.
    #[must_use]
    pub fn sort_key_after(mut self, name: impl Into<String>, separator: char) -> Self {
        self.sort = Some(Sort {
            name: name.into(),
            value: SortValue::After(separator),
        });
        self
    }

    /// A text before every lock's partition key, of 1024 bytes at most. Default: none.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The attribute that TTL is on. Default: `ExpireInUnixSeconds`.
    #[must_use]
    pub fn ttl(mut self, name: impl Into<String>) -> Self {
        self.ttl = name.into();
        self
    }

    /// The table is, or will be, a global table with multi-Region strong consistency (MRSC). Locks then exclude
    /// each other in all its Regions. Such a table has neither TTL nor transactions: call
    /// [`DynamoDbStore::sweep`](super::DynamoDbStore::sweep) from time to time, and fence by
    /// [`TokenColumn`](super::TokenColumn). Default: false.
    #[must_use]
    pub fn mrsc(mut self, mrsc: bool) -> Self {
        self.mrsc = mrsc;
        self
    }

    pub(super) fn is_mrsc(&self) -> bool {
        self.mrsc
    }

    pub(super) fn checked(self) -> Result<Self, Error> {
        let sort = self.sort.as_ref();
        let mut names = vec![("partition_key", &self.partition_key), ("ttl", &self.ttl)];
        names.extend(sort.map(|sort| ("sort_key", &sort.name)));
        for (index, (setting, name)) in names.iter().enumerate() {
            if !(1..=LONGEST_NAME).contains(&name.len()) {
                let problem = format!("has {} bytes, allowed are 1 to {LONGEST_NAME}", name.len());
                return refuse(setting, name, &problem);
            }
            if FIXED.contains(&name.as_str()) {
                return refuse(setting, name, "is an attribute of every lock record");
            }
            if let Some((other, _)) = names[..index].iter().find(|(_, other)| other == name) {
                return refuse(setting, name, &format!("is the name of `{other}`, too"));
            }
        }
        if let Some(SortValue::Constant(value)) = sort.map(|sort| &sort.value)
            && !(1..=LONGEST_SORT).contains(&value.len())
        {
            let problem = format!(
                "has the value of {} bytes, allowed are 1 to {LONGEST_SORT}",
                value.len()
            );
            return refuse("sort_key", self.sort_name().unwrap_or_default(), &problem);
        }
        if self.prefix.len() > LONGEST_PREFIX {
            let problem = format!(
                "has {} bytes, allowed are {LONGEST_PREFIX}",
                self.prefix.len()
            );
            return refuse("prefix", &self.prefix, &problem);
        }
        Ok(self)
    }

    pub(super) fn partition_name(&self) -> &str {
        &self.partition_key
    }

    pub(super) fn sort_name(&self) -> Option<&str> {
        self.sort.as_ref().map(|sort| sort.name.as_str())
    }

    pub(super) fn sort(&self) -> Option<&Sort> {
        self.sort.as_ref()
    }

    /// Whether the table has only locks: its keys are those of FSharp.DynamoDbLock.
    pub(super) fn is_a_table_of_its_own(&self) -> bool {
        self.partition_key == attribute::KEY && self.sort.is_none() && self.prefix.is_empty()
    }

    pub(super) fn ttl_name(&self) -> &str {
        &self.ttl
    }

    /// The key schema, for messages.
    pub(super) fn key_schema(&self) -> String {
        let partition = format!("`{}` (S, HASH)", self.partition_key);
        match self.sort_name() {
            Some(sort) => format!("{partition}, `{sort}` (S, RANGE)"),
            None => partition,
        }
    }

    fn item_key(
        &self,
        key: &str,
        table: &str,
    ) -> Result<HashMap<String, AttributeValue>, StoreError> {
        let (partition, sort) = match self.sort.as_ref() {
            None => (key, None),
            Some(Sort { name, value }) => match value {
                SortValue::Constant(value) => (key, Some((name, value.as_str()))),
                SortValue::After(separator) => match key.split_once(*separator) {
                    Some((partition, sort)) if !partition.is_empty() && !sort.is_empty() => {
                        (partition, Some((name, sort)))
                    }
                    _ => return Err(unsplit(key, table, name, *separator)),
                },
            },
        };
        let text = AttributeValue::S;
        let partition = text(self.partition_of(partition));
        let mut item_key = HashMap::from([(self.partition_key.clone(), partition)]);
        item_key.extend(sort.map(|(name, value)| (name.clone(), text(value.to_owned()))));
        Ok(item_key)
    }

    /// The partition key of a lock's key, or of a part of it.
    pub(super) fn partition_of(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    /// The key of any item as a text, for [`Page::next`](crate::store::Page::next).
    pub(super) fn position_of(&self, item_key: &HashMap<String, AttributeValue>) -> Option<String> {
        let partition = item_key.get(&self.partition_key)?.as_s().ok()?;
        match self.sort_name() {
            None => Some(partition.clone()),
            Some(sort) => {
                let sort = item_key.get(sort)?.as_s().ok()?;
                Some(format!("{}:{partition}{sort}", partition.len()))
            }
        }
    }

    /// The key of an item from that text.
    pub(super) fn position(&self, text: &str) -> Option<HashMap<String, AttributeValue>> {
        let value = |text: &str| AttributeValue::S(text.to_owned());
        let Some(sort_name) = self.sort_name() else {
            return Some([(self.partition_key.clone(), value(text))].into());
        };
        let (length, keys) = text.split_once(':')?;
        let (partition, sort) = keys.split_at_checked(length.parse().ok()?)?;
        let partition = (self.partition_key.clone(), value(partition));
        Some([partition, (sort_name.to_owned(), value(sort))].into())
    }

    /// The lock's key of an item; `None` if it is no lock's.
    pub(super) fn key_of(&self, item: &HashMap<String, AttributeValue>) -> Option<String> {
        let text = |name: &str| item.get(name)?.as_s().ok();
        let partition = text(&self.partition_key)?.strip_prefix(&self.prefix)?;
        let Some(Sort { name, value }) = &self.sort else {
            return Some(partition.to_owned());
        };
        let sort = text(name)?;
        match value {
            SortValue::Constant(value) => (sort == value).then(|| partition.to_owned()),
            SortValue::After(separator) => (!partition.is_empty()
                && !partition.contains(*separator))
            .then(|| format!("{partition}{separator}{sort}")),
        }
    }

    /// The record of an item.
    pub(super) fn record(
        &self,
        item: &HashMap<String, AttributeValue>,
    ) -> Result<Record, Malformed> {
        // In another shape, an attribute with the name of F#'s key or TTL is not ours.
        let mut attributes: BTreeMap<&str, Value> = item
            .iter()
            .map(|(name, value)| (name.as_str(), self::value(value)))
            .filter(|(name, _)| ![attribute::KEY, attribute::TTL_SECONDS].contains(name))
            .collect();
        if let Some(key) = self.key_of(item) {
            attributes.insert(attribute::KEY, Value::Text(key));
        }
        if let Some(ttl) = item.get(&self.ttl) {
            attributes.insert(attribute::TTL_SECONDS, value(ttl));
        }
        Record::parse(&attributes)
    }

    /// The expression with the names of this table.
    pub(super) fn named(&self, mut expression: Expression) -> Expression {
        for name in expression.names.values_mut() {
            let named = match name.as_str() {
                attribute::KEY => &self.partition_key,
                attribute::TTL_SECONDS => &self.ttl,
                _ => continue,
            };
            name.clone_from(named);
        }
        expression
    }

    /// The bytes of an item's key besides those of the lock's key.
    pub(super) fn key_bytes(&self) -> usize {
        let sort = self.sort.as_ref().map_or(0, |sort| {
            let value = match &sort.value {
                SortValue::Constant(value) => value.len(),
                SortValue::After(_) => 0,
            };
            sort.name.len() + value
        });
        self.prefix.len() + sort
    }
}

fn value(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::Text(text.clone()),
        AttributeValue::N(digits) => Value::Number(digits.clone()),
        AttributeValue::B(bytes) => Value::Binary(bytes.as_ref().to_vec()),
        AttributeValue::L(values) => Value::List(values.iter().map(self::value).collect()),
        AttributeValue::M(entries) => {
            let entries = entries.iter();
            Value::Map(
                entries
                    .map(|(name, value)| (name.clone(), self::value(value)))
                    .collect(),
            )
        }
        _ => Value::Other,
    }
}

fn refuse<T>(setting: &'static str, name: &str, problem: &str) -> Result<T, Error> {
    let message = format!("the table shape is not valid: `{setting}` `{name}` {problem}");
    Err(Error::new(ErrorKind::Configuration, message)
        .with_hint(format!("change `{setting}` of the table shape"))
        .with_setting(setting, None))
}

/// The sort key is a part of the lock's key, which has no two parts.
fn unsplit(key: &str, table: &str, sort: &str, separator: char) -> StoreError {
    let message = format!(
        "dynamodb table `{table}`: the key `{key}` has no text before and after a `{separator}`, where \
         the sort key `{sort}` begins (`sort_key_after`, or `sort_after=` in a store URL)"
    );
    StoreError::new(StoreErrorKind::InvalidInput, Effect::NotApplied, message).with_hint(format!(
        "use keys such as `customer{separator}42`, or one sort key for all (`sort_key`, or `sort_value=` in a store URL)"
    ))
}

#[cfg(test)]
mod tests;

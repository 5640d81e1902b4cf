//! Items of the table, and records.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use crate::store::StoreError;
use leasehold_protocol::record::{Malformed, Record, Value};

pub(super) fn record(item: &HashMap<String, AttributeValue>) -> Result<Record, StoreError> {
    Ok(parse(item)?)
}

pub(super) fn parse(item: &HashMap<String, AttributeValue>) -> Result<Record, Malformed> {
    let attributes: BTreeMap<&str, Value> = item
        .iter()
        .map(|(name, value)| (name.as_str(), self::value(value)))
        .collect();
    Record::parse(&attributes)
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

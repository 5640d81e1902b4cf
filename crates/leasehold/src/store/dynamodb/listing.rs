//! Pages of records.
//!
//! The keys of one partition are a `Query`, all others a `Scan`. Invariant: items of others in a table with
//! other keys never appear. In a table of its own, an item that is no lock record is reported.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, ReturnConsumedCapacity};

use super::classify;
use super::sending::Sending;
use super::shape::{Sort, SortValue, Table, TableShape};
use crate::error::Effect;
use crate::key::Key;
use crate::store::{Page, Reply, StoreError, StoreErrorKind};
use crate::usage::Units;
use leasehold_protocol::record::attribute;
use leasehold_protocol::time::Stamp;

type Item = HashMap<String, AttributeValue>;

/// What a request selects.
#[derive(Debug, Default)]
struct Selection {
    /// Of a query.
    partition: Option<String>,
    filter: Vec<&'static str>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Selection {
    /// The records of keys with this prefix; `None` if no key has it.
    fn of(shape: &TableShape, prefix: &str) -> Option<Selection> {
        if prefix.len() > Key::MAX_BYTES {
            return None;
        }
        let mut selection = Selection::default();
        if !shape.is_a_table_of_its_own() {
            selection.filter.push("attribute_exists(#expires)");
            selection.name("#expires", attribute::EXPIRES_MS);
        }
        let mut start = prefix;
        match shape.sort() {
            None => {}
            Some(Sort {
                name,
                value: SortValue::Constant(value),
            }) => {
                selection.filter.push("#sort = :sort");
                selection.name("#sort", name);
                selection.value(":sort", value.clone());
            }
            Some(Sort {
                name,
                value: SortValue::After(separator),
            }) => {
                if let Some((partition, sort)) = prefix.split_once(*separator) {
                    if partition.is_empty() {
                        return None;
                    }
                    let mut condition = "#key = :key".to_owned();
                    if !sort.is_empty() {
                        condition.push_str(" AND begins_with(#sort, :sort)");
                        selection.name("#sort", name);
                        selection.value(":sort", sort.to_owned());
                    }
                    selection.partition = Some(condition);
                    start = partition;
                }
            }
        }
        let start = shape.partition_of(start);
        if !start.is_empty() {
            if selection.partition.is_none() {
                selection.filter.push("begins_with(#key, :key)");
            }
            selection.name("#key", shape.partition_name());
            selection.value(":key", start);
        }
        Some(selection)
    }

    fn name(&mut self, placeholder: &str, name: &str) {
        self.names.insert(placeholder.to_owned(), name.to_owned());
    }

    fn value(&mut self, placeholder: &str, text: String) {
        self.values
            .insert(placeholder.to_owned(), AttributeValue::S(text));
    }

    fn filter(&self) -> Option<String> {
        (!self.filter.is_empty()).then(|| self.filter.join(" AND "))
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        (!self.names.is_empty()).then(|| self.names.clone())
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

/// What a request has read.
struct Read {
    items: Option<Vec<Item>>,
    last: Option<Item>,
    capacity: Option<ConsumedCapacity>,
    stamp: Option<Stamp>,
}

pub(super) async fn page(
    client: &Client,
    table: &Table,
    prefix: &str,
    after: Option<String>,
) -> Result<Reply<Page>, StoreError> {
    let shape = &table.shape;
    let Some(selection) = Selection::of(shape, prefix) else {
        return Ok(Reply::new(Page::default(), None));
    };
    let start = match after {
        Some(after) => Some(shape.position(&after).ok_or_else(|| {
            let message = format!(
                "dynamodb table `{}`: `{after}` is not where a page of its listing starts",
                table.name
            );
            StoreError::new(StoreErrorKind::InvalidInput, Effect::NotApplied, message)
        })?),
        None => None,
    };
    let read = match &selection.partition {
        Some(partition) => query(client, table, partition.clone(), &selection, start).await?,
        None => scan(client, table, &selection, start).await?,
    };
    let ours = |item: &&Item| shape.is_a_table_of_its_own() || shape.key_of(item).is_some();
    let records = read.items.iter().flatten().filter(ours);
    let page = Page {
        records: records.map(|item| shape.record(item)).collect(),
        next: read.last.and_then(|last| shape.position_of(&last)),
    };
    Ok(Reply::new(page, read.stamp).with_units(read_units(read.capacity.as_ref())))
}

async fn scan(
    client: &Client,
    table: &Table,
    selection: &Selection,
    start: Option<Item>,
) -> Result<Read, StoreError> {
    let sending = Sending::new("Scan");
    let request = client
        .scan()
        .table_name(&*table.name)
        .set_filter_expression(selection.filter())
        .set_expression_attribute_names(selection.names())
        .set_expression_attribute_values(selection.values())
        .set_exclusive_start_key(start)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .customize()
        .interceptor(sending.clone())
        .send();
    let output = sending
        .answer(request)
        .await
        .map_err(|error| classify::read_failure(error, table, &sending))?;
    Ok(Read {
        items: output.items,
        last: output.last_evaluated_key,
        capacity: output.consumed_capacity,
        stamp: sending.stamp(),
    })
}

async fn query(
    client: &Client,
    table: &Table,
    partition: String,
    selection: &Selection,
    start: Option<Item>,
) -> Result<Read, StoreError> {
    let sending = Sending::new("Query");
    let request = client
        .query()
        .table_name(&*table.name)
        .key_condition_expression(partition)
        .set_filter_expression(selection.filter())
        .set_expression_attribute_names(selection.names())
        .set_expression_attribute_values(selection.values())
        .set_exclusive_start_key(start)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .customize()
        .interceptor(sending.clone())
        .send();
    let output = sending
        .answer(request)
        .await
        .map_err(|error| classify::read_failure(error, table, &sending))?;
    Ok(Read {
        items: output.items,
        last: output.last_evaluated_key,
        capacity: output.consumed_capacity,
        stamp: sending.stamp(),
    })
}

pub(super) fn read_units(capacity: Option<&ConsumedCapacity>) -> Units {
    Units {
        write: 0.0,
        read: capacity
            .and_then(ConsumedCapacity::capacity_units)
            .unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(shape: &TableShape, prefix: &str) -> Option<(Option<String>, String, Vec<String>)> {
        let selection = Selection::of(shape, prefix)?;
        let mut values: Vec<_> = selection
            .values
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_s().expect("a text")))
            .collect();
        values.sort();
        Some((
            selection.partition.clone(),
            selection.filter().unwrap_or_default(),
            values,
        ))
    }

    #[test]
    fn what_is_selected() {
        let own = TableShape::default();
        let shared = own.clone().partition_key("PK").prefix("L#");
        let constant = shared.clone().sort_key("SK", "LOCK");
        let split = shared.clone().sort_key_after("SK", '/');
        let exists = "attribute_exists(#expires)";
        let one_sort = format!("{exists} AND #sort = :sort AND begins_with(#key, :key)");
        let begins = format!("{exists} AND begins_with(#key, :key)");
        let part = "#key = :key";
        let within = "#key = :key AND begins_with(#sort, :sort)";
        type Case<'a> = (
            &'a TableShape,
            &'a str,
            Option<&'a str>,
            &'a str,
            &'a [&'a str],
        );
        let cases: [Case<'_>; 9] = [
            (&own, "", None, "", &[]),
            (&own, "a", None, "begins_with(#key, :key)", &[":key=a"]),
            (&shared, "", None, &begins, &[":key=L#"]),
            (&shared, "a", None, &begins, &[":key=L#a"]),
            (
                &constant,
                "a/b",
                None,
                &one_sort,
                &[":key=L#a/b", ":sort=LOCK"],
            ),
            (&split, "", None, &begins, &[":key=L#"]),
            (&split, "a", None, &begins, &[":key=L#a"]),
            (&split, "a/", Some(part), exists, &[":key=L#a"]),
            (
                &split,
                "a/b/",
                Some(within),
                exists,
                &[":key=L#a", ":sort=b/"],
            ),
        ];
        for (shape, prefix, partition, filter, values) in cases {
            let (found_partition, found_filter, found) = selected(shape, prefix).expect(prefix);
            assert_eq!(found_partition.as_deref(), partition, "{prefix} {shape:?}");
            assert_eq!(found_filter, filter, "{prefix} {shape:?}");
            assert_eq!(found, values, "{prefix} {shape:?}");
        }
        assert_eq!(selected(&split, "/b"), None);
        assert_eq!(selected(&own, &"x".repeat(1025)), None);
    }
}

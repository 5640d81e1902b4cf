//! `docs/vectors.json`, sent to DynamoDB as raw requests: no lock code takes part. What it makes of each
//! item is what the file says, so that a port can rely on the file alone.

use crate::support;
use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

type Item = HashMap<String, AttributeValue>;

fn attribute(value: &Value) -> AttributeValue {
    let (kind, value) = value
        .as_object()
        .and_then(|o| o.iter().next())
        .expect("a value");
    match (kind.as_str(), value) {
        ("S", Value::String(text)) => AttributeValue::S(text.clone()),
        ("N", Value::String(digits)) => AttributeValue::N(digits.clone()),
        ("B", Value::String(text)) => {
            let bytes = BASE64_STANDARD.decode(text).expect("base64");
            AttributeValue::B(Blob::new(bytes))
        }
        ("M", entries) => AttributeValue::M(item(entries)),
        ("L", Value::Array(values)) => AttributeValue::L(values.iter().map(attribute).collect()),
        other => panic!("no attribute: {other:?}"),
    }
}

fn item(value: &Value) -> Item {
    let entries = value.as_object().expect("an item").iter();
    entries
        .map(|(name, value)| (name.clone(), attribute(value)))
        .collect()
}

struct Table {
    client: Client,
    name: String,
}

impl Table {
    async fn read(&self, key: &AttributeValue) -> Option<Item> {
        let read = self.client.get_item().table_name(&self.name);
        let read = read.key("LockKey", key.clone()).consistent_read(true);
        read.send().await.expect("read").item
    }

    /// Sends a request; whether its condition held.
    async fn send(&self, key: &AttributeValue, request: &Value) -> bool {
        let text = |name: &str| request[name].as_str().expect("text").to_owned();
        let names = request["ExpressionAttributeNames"]
            .as_object()
            .expect("names")
            .iter();
        let names =
            names.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
        let (names, values) = (names.collect(), item(&request["ExpressionAttributeValues"]));
        let refused = match text("api").as_str() {
            "DeleteItem" => {
                let delete = self
                    .client
                    .delete_item()
                    .table_name(&self.name)
                    .key("LockKey", key.clone());
                let delete = delete.condition_expression(text("ConditionExpression"));
                let delete = delete
                    .set_expression_attribute_names(Some(names))
                    .set_expression_attribute_values(Some(values));
                delete.send().await.err().map(|error| {
                    error
                        .into_service_error()
                        .is_conditional_check_failed_exception()
                })
            }
            _ => {
                let update = self
                    .client
                    .update_item()
                    .table_name(&self.name)
                    .key("LockKey", key.clone());
                let update = update
                    .update_expression(text("UpdateExpression"))
                    .condition_expression(text("ConditionExpression"));
                let update = update
                    .set_expression_attribute_names(Some(names))
                    .set_expression_attribute_values(Some(values));
                update.send().await.err().map(|error| {
                    error
                        .into_service_error()
                        .is_conditional_check_failed_exception()
                })
            }
        };
        assert_ne!(refused, Some(false), "neither applied nor refused");
        refused.is_none()
    }
}

#[tokio::test]
async fn dynamodb_does_what_the_vectors_say() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors.json");
    let text = std::fs::read_to_string(file).expect("docs/vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let table = Table {
        name: support::dynamodb().await.table().to_owned(),
        client: support::client(&support::endpoint()),
    };
    let key = AttributeValue::S("customer/42".to_owned());
    let (mut applied, mut refused) = (0, 0);
    for vector in &vectors {
        let before = (!vector["before"].is_null()).then(|| item(&vector["before"]));
        match &before {
            Some(before) => {
                let put = table.client.put_item().table_name(&table.name);
                put.set_item(Some(before.clone()))
                    .send()
                    .await
                    .expect("put");
            }
            None => {
                let delete = table.client.delete_item().table_name(&table.name);
                delete
                    .key("LockKey", key.clone())
                    .send()
                    .await
                    .expect("deleted");
            }
        }
        let done = table.send(&key, &vector["request"]).await;
        let after = table.read(&key).await;
        let expected = match vector.get("after") {
            Some(after) => (!after.is_null()).then(|| item(after)),
            None => before,
        };
        assert_eq!(done, vector.get("refused").is_none(), "{}", vector["name"]);
        assert_eq!(after, expected, "{}", vector["name"]);
        applied += usize::from(done);
        refused += usize::from(!done);
    }
    assert!(
        applied > 10 && refused > 8,
        "{applied} applied, {refused} refused"
    );
}

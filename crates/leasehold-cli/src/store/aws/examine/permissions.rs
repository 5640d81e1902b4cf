//! Permissions, each tried by a request that changes nothing.
//!
//! Invariant: every write here has a condition that holds for no item. So nothing is written, whatever is in the table.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, TransactWriteItem};
use leasehold::store::dynamodb::DynamoDbStore;

use super::headers::Headers;
use super::table::refusal;
use crate::exit_codes;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::store::url::Table;
use crate::text::quoted;

/// It holds for no item.
const NEVER: &str = "attribute_exists(#key) AND attribute_not_exists(#key)";

/// What a permission is needed for.
#[derive(Clone, Copy)]
struct Need {
    action: &'static str,
    purpose: &'static str,
    /// Whether `run` fails without it.
    by_run: bool,
}

pub(super) async fn examine(
    client: &Client,
    store: &DynamoDbStore,
    table: &Table,
    headers: &Headers,
) -> Vec<Finding> {
    let key = match store.item_key(&table.probe()) {
        Ok(key) => key,
        Err(error) => return vec![Finding::failed("permission", error.into())],
    };
    let partition = table.keys.partition();
    let read = client
        .get_item()
        .table_name(&table.name)
        .set_key(Some(key.clone()))
        .customize()
        .interceptor(headers.clone())
        .send();
    let update = client
        .update_item()
        .table_name(&table.name)
        .set_key(Some(key.clone()))
        .condition_expression(NEVER)
        .expression_attribute_names("#key", partition)
        .customize()
        .interceptor(headers.clone())
        .send();
    let delete = client
        .delete_item()
        .table_name(&table.name)
        .set_key(Some(key.clone()))
        .condition_expression(NEVER)
        .expression_attribute_names("#key", partition)
        .customize()
        .interceptor(headers.clone())
        .send();
    let scan = client.scan().table_name(&table.name).limit(1).send();
    let need = |action, purpose, by_run| Need {
        action,
        purpose,
        by_run,
    };
    let mut findings = vec![
        judge(need("GetItem", "reads", true), table, read.await),
        judge(
            need("UpdateItem", "acquires, renews and releases", true),
            table,
            update.await,
        ),
        judge(
            need("DeleteItem", "withdraws a record with a wrong token", true),
            table,
            delete.await,
        ),
        judge(need("Scan", "lists locks", false), table, scan.await),
    ];
    // There are no transactions with strong consistency between Regions.
    if !table.keys.is_mrsc() {
        let need = need("ConditionCheckItem", "fences transactions", false);
        findings.push(check(client, need, table, key.clone()).await);
    }
    if let (true, Some(value)) = (table.keys.sort_after.is_some(), key.get(partition)) {
        let query = client
            .query()
            .table_name(&table.name)
            .key_condition_expression("#key = :key")
            .expression_attribute_names("#key", partition)
            .expression_attribute_values(":key", value.clone())
            .send();
        let need = need("Query", "lists the locks of a partition", false);
        findings.push(judge(need, table, query.await));
    }
    findings
}

async fn check(
    client: &Client,
    need: Need,
    table: &Table,
    key: HashMap<String, AttributeValue>,
) -> Finding {
    let check = ConditionCheck::builder()
        .table_name(&table.name)
        .set_key(Some(key))
        .condition_expression(NEVER)
        .expression_attribute_names("#key", table.keys.partition())
        .build();
    let Ok(check) = check else {
        return Finding::unknown("permission", "the SDK refused a complete check");
    };
    let item = TransactWriteItem::builder().condition_check(check).build();
    let sent = client.transact_write_items().transact_items(item).send();
    judge(need, table, sent.await)
}

fn judge<T, E>(need: Need, table: &Table, answer: Result<T, SdkError<E>>) -> Finding
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let Need {
        action,
        purpose,
        by_run,
    } = need;
    let allowed = || Finding::ok("permission", format!("dynamodb:{action}, which {purpose}"));
    let error = match answer {
        Ok(_) => return allowed(),
        Err(error) => error,
    };
    match error.code() {
        // The condition was evaluated, and did not hold.
        Some("ConditionalCheckFailedException" | "TransactionCanceledException") => allowed(),
        Some("AccessDeniedException" | "AccessDenied" | "NotAuthorized") => {
            let found = format!("no dynamodb:{action}, which {purpose}: {}", refusal(&error));
            let hint = format!(
                "allow it: `leasehold init --print iam --store {}` prints the policy",
                quoted(&table.to_string())
            );
            if by_run {
                let failure = Failure::new(exit_codes::NO_PERMISSION, found).hint(hint);
                Finding::failed("permission", failure)
            } else {
                Finding::warning("permission", found, hint)
            }
        }
        _ => Finding::unknown(
            "permission",
            format!("dynamodb:{action}, which {purpose}: {}", refusal(&error)),
        ),
    }
}

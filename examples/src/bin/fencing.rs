//! The fencing token at work: a holder that lost its lease cannot write.
//!
//! A token column adds no cost to the write. A transaction also checks the lock record, and costs 4 write units.
//! `AWS_REGION=eu-west-1 cargo run -p leasehold-examples --bin fencing`

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::client::Waiters;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TransactWriteItem,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::store::dynamodb::{DynamoDbStore, TokenColumn, is_fenced};
use leasehold::{ErrorKind, FencingToken, LeaseId, LockClient};

const TABLE: &str = "customers";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tls = Provider::Rustls(CryptoMode::Ring);
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https())
        .load()
        .await;
    let aws = aws_sdk_dynamodb::Client::new(&config);
    create_table(&aws).await?;
    let store = DynamoDbStore::new(aws.clone(), "locks");
    store.create_table().await?;
    let locks = LockClient::new(store.clone());

    // The first holder is stopped here for longer than its lease, and another takes over.
    let first = locks.acquire("customer/42").await?;
    let (old_token, old_id) = (first.token(), first.id().clone());
    first.release().await?;
    let second = locks.acquire("customer/42").await?;

    println!(
        "second holder, column: {}",
        write_column(&aws, second.token()).await?
    );
    println!(
        "first holder, column: {}",
        write_column(&aws, old_token).await?
    );
    println!(
        "second holder, transaction: {}",
        write_checked(&aws, &store, second.id()).await?
    );
    println!(
        "first holder, transaction: {}",
        write_checked(&aws, &store, &old_id).await?
    );
    second.release().await?;
    Ok(())
}

/// Writes if no larger token has written before.
async fn write_column(
    aws: &aws_sdk_dynamodb::Client,
    token: FencingToken,
) -> anyhow::Result<&'static str> {
    let fence = TokenColumn::new("Token", token);
    let written = aws
        .update_item()
        .table_name(TABLE)
        .key("Id", AttributeValue::S("42".into()))
        .update_expression(format!("SET Balance = :balance, {}", fence.assignment()))
        .condition_expression(fence.condition())
        .set_expression_attribute_names(Some(fence.names()))
        .set_expression_attribute_values(Some(fence.values()))
        .expression_attribute_values(":balance", AttributeValue::N("100".into()))
        // By the item, `is_fenced` distinguishes the token from the rest of a condition.
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    match written {
        Ok(_) => Ok("written"),
        Err(error) if fence.is_fenced(&error) => Ok("refused"),
        Err(error) => Err(error.into()),
    }
}

/// Writes if the lock record still has this grant.
async fn write_checked(
    aws: &aws_sdk_dynamodb::Client,
    store: &DynamoDbStore,
    id: &LeaseId,
) -> anyhow::Result<&'static str> {
    let check = match store.fence(id) {
        Err(error) if error.kind() == ErrorKind::Lost => return Ok("refused"),
        check => check?,
    };
    let put = Put::builder()
        .table_name(TABLE)
        .item("Id", AttributeValue::S("43".into()))
        .build()?;
    let written = aws
        .transact_write_items()
        // The check comes first, where `is_fenced` expects it.
        .transact_items(check)
        .transact_items(TransactWriteItem::builder().put(put).build())
        .send()
        .await;
    match written {
        Ok(_) => Ok("written"),
        Err(error) if is_fenced(&error) => Ok("refused"),
        Err(error) => Err(error.into()),
    }
}

async fn create_table(aws: &aws_sdk_dynamodb::Client) -> anyhow::Result<()> {
    let id = AttributeDefinition::builder()
        .attribute_name("Id")
        .attribute_type(ScalarAttributeType::S);
    let key = KeySchemaElement::builder()
        .attribute_name("Id")
        .key_type(KeyType::Hash);
    let created = aws
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(id.build()?)
        .key_schema(key.build()?)
        .send()
        .await;
    match created {
        Err(error)
            if !error
                .as_service_error()
                .is_some_and(|e| e.is_resource_in_use_exception()) =>
        {
            return Err(error.into());
        }
        _ => {}
    }
    let active = aws.wait_until_table_exists().table_name(TABLE);
    active.wait(std::time::Duration::from_secs(60)).await?;
    Ok(())
}

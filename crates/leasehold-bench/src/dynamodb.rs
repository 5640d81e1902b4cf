//! Clients and tables on DynamoDB Local.

use anyhow::{Context, Result};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

/// What every client here has in common; each gets connections of its own.
pub(crate) fn config(endpoint: &str) -> Builder {
    aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
}

/// A client with the SDK's own settings otherwise, as a user of the library has it.
pub(crate) fn client(endpoint: &str) -> Client {
    Client::from_conf(config(endpoint).build())
}

/// A name that no other run uses: the server may be the user's own.
pub(crate) fn table_name(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

/// Creates a table with one string key; for those who do not create their own.
pub(crate) async fn create(client: &Client, table: &str, key: &str) -> Result<()> {
    client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(
            AttributeDefinition::builder()
                .attribute_name(key)
                .attribute_type(ScalarAttributeType::S)
                .build()?,
        )
        .key_schema(
            KeySchemaElement::builder()
                .attribute_name(key)
                .key_type(KeyType::Hash)
                .build()?,
        )
        .send()
        .await
        .with_context(|| format!("cannot create the table {table}"))?;
    Ok(())
}

/// Deletes a table that this run has made.
pub(crate) async fn delete(client: &Client, table: &str) -> Result<()> {
    client
        .delete_table()
        .table_name(table)
        .send()
        .await
        .with_context(|| format!("cannot delete the table {table}"))?;
    Ok(())
}

/// Whether a conditional write was applied.
pub(crate) fn applied<T, E, R>(answer: Result<T, SdkError<E, R>>) -> Result<bool>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

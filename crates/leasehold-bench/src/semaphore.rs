//! The requests of AWS's semaphore sample, written with the SDK that ours is on: `app-control-concurrency-with-dynamodb`
//! of `aws-samples/aws-stepfunctions-examples`, at 8ebd4de. There, a state machine of Step Functions sends them.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::AttributeValue;

use crate::dynamodb::applied;
use crate::fsharp::FSharp;

type Entered = Result<UpdateItemOutput, SdkError<UpdateItemError>>;

/// An item for each semaphore: a count, and an attribute for each execution that has entered.
#[derive(Clone, Debug)]
pub(crate) struct Semaphore {
    client: Client,
    table: String,
    limit: u32,
}

impl Semaphore {
    pub(crate) fn new(client: Client, table: &str, limit: u32) -> Semaphore {
        Semaphore {
            client,
            table: table.to_owned(),
            limit,
        }
    }

    /// How long the state machine waits after so many refusals in a row: six retries, whose delay doubles from Step
    /// Functions' default of 1 s, and then 3 s before it begins anew.
    pub(crate) fn delay(refused: u32) -> Duration {
        match refused % 7 {
            6 => Duration::from_secs(3),
            retry => Duration::from_secs(1 << retry),
        }
    }

    /// Whether it entered.
    pub(crate) async fn acquire(&self, key: &str, me: &str) -> Result<bool> {
        match self.enter(key, me).await {
            // There is no item yet, and so nothing to add to.
            Err(error) if error.code() == Some("ValidationException") => {
                self.initialise(key).await?;
                applied(self.enter(key, me).await)
            }
            answer => applied(answer),
        }
    }

    async fn enter(&self, key: &str, me: &str) -> Entered {
        self
            .client
            .update_item()
            .table_name(&self.table)
            .key("LockName", text(key))
            .expression_attribute_names("#currentlockcount", "currentlockcount")
            .expression_attribute_names("#lockownerid", me)
            .expression_attribute_values(":increase", number(1))
            .expression_attribute_values(":limit", number(self.limit))
            .expression_attribute_values(":lockacquiredtime", text(&FSharp::now_ms().to_string()))
            .update_expression(
                "SET #currentlockcount = #currentlockcount + :increase, #lockownerid = :lockacquiredtime",
            )
            .condition_expression(
                "currentlockcount <> :limit and attribute_not_exists(#lockownerid)",
            )
            .send()
            .await
    }

    async fn initialise(&self, key: &str) -> Result<bool> {
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("LockName", text(key))
            .item("currentlockcount", number(0))
            .condition_expression("LockName <> :lockname")
            .expression_attribute_values(":lockname", text(key))
            .send()
            .await;
        applied(answer)
    }

    /// Whether it had entered.
    pub(crate) async fn release(&self, key: &str, me: &str) -> Result<bool> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("LockName", text(key))
            .expression_attribute_names("#currentlockcount", "currentlockcount")
            .expression_attribute_names("#lockownerid", me)
            .expression_attribute_values(":decrease", number(1))
            .update_expression(
                "SET #currentlockcount = #currentlockcount - :decrease REMOVE #lockownerid",
            )
            .condition_expression("attribute_exists(#lockownerid)")
            .send()
            .await;
        applied(answer)
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: u32) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

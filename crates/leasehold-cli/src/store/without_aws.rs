//! The store of a build without DynamoDB.

use std::sync::Arc;
use std::time::Duration;

use leasehold::store::Store;

use crate::args::Tool;
use crate::exit_codes;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::store::url::Table;

/// An opened table: there is none.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) endpoint: String,
}

pub(super) async fn open(table: &Table) -> Result<Opened, Failure> {
    Err(missing(&table.name))
}

pub(super) async fn create(_: &Opened) -> Result<bool, Failure> {
    Ok(false)
}

pub(super) async fn sweep(_: &Opened, _: Duration, _: u64) -> Result<String, Failure> {
    Ok(String::new())
}

pub(super) async fn examine(table: &Table) -> Vec<Finding> {
    vec![Finding::failed("settings", missing(&table.name))]
}

pub(crate) fn definition_for(_: Tool, table: &Table) -> Result<String, Failure> {
    Err(missing(&table.name))
}

fn missing(table: &str) -> Failure {
    let message = format!(
        "cannot reach dynamodb table `{table}`: this `leasehold` was built without DynamoDB"
    );
    Failure::new(exit_codes::CONFIG, message)
        .hint("build it with DynamoDB: `cargo install --path crates/leasehold-cli`")
}

//! The table: its schema, TTL, billing, replicas, and what protects it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    BillingMode, MultiRegionConsistency, PointInTimeRecoveryStatus, TableDescription, TableStatus,
};
use leasehold::store::StoreErrorKind;
use leasehold::store::dynamodb::{DynamoDbStore, TableError};

use super::headers::Headers;
use crate::failure::Failure;
use crate::finding::{Finding, Level};
use crate::store::aws::settings::causes;
use crate::store::url::Table;
use crate::text::quoted;

/// What the checks of the table say.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    /// Why no requests to it are tried.
    pub(super) unusable: Option<&'static str>,
}

pub(super) async fn examine(
    client: &Client,
    store: &DynamoDbStore,
    table: &Table,
    headers: &Headers,
) -> Examined {
    let schema = schema(store, table).await;
    let request = client.describe_table().table_name(&table.name);
    let described = request
        .customize()
        .interceptor(headers.clone())
        .send()
        .await;
    let mut unusable = (schema.level == Level::Problem).then_some("the table is not usable");
    let mut findings = vec![schema];
    match described {
        Ok(answer) => {
            if let Some(described) = answer.table() {
                findings.extend(facts(described, table));
            }
            findings.push(recovery(client, table).await);
        }
        Err(error) => {
            // The schema check has said it, too.
            if error.code() == Some("ResourceNotFoundException") {
                unusable = Some("there is no table to try them on");
            } else {
                let why = format!("the table cannot be described: {}", causes(&error));
                findings.push(Finding::unknown("billing", why));
            }
        }
    }
    Examined { findings, unusable }
}

/// Key schema and TTL, as `init` checks them.
async fn schema(store: &DynamoDbStore, table: &Table) -> Finding {
    let error = match store.check_table().await {
        Ok(()) => {
            return Finding::ok("schema", table.keys.to_string());
        }
        Err(error) => error,
    };
    let message = error.to_string();
    match error {
        // Locks are safe without it.
        TableError::TtlOff { .. } => Finding::warning(
            "ttl",
            message,
            format!("`leasehold init --store {}`", quoted(&table.to_string())),
        ),
        TableError::Ttl { .. } => {
            let failure = Failure::from(error);
            let hint = failure.hint.unwrap_or_default();
            Finding::warning("ttl", failure.message, hint)
        }
        TableError::Store(error) if error.kind == StoreErrorKind::AccessDenied => {
            let finding = Finding::unknown("schema", error.to_string());
            match error.hint {
                Some(hint) => finding.hint(hint),
                None => finding,
            }
        }
        error => Finding::failed("schema", error.into()),
    }
}

fn facts(described: &TableDescription, table: &Table) -> Vec<Finding> {
    let command = |verb: &str, rest: &str| {
        format!(
            "`aws dynamodb {verb} --table-name {}{rest}{}`",
            quoted(&table.name),
            table.aws_options()
        )
    };
    let mut findings = Vec::new();
    let arn = described.table_arn().unwrap_or("without an ARN");
    findings.push(match described.table_status() {
        Some(TableStatus::Active | TableStatus::Updating) => {
            let records = described.item_count().unwrap_or(0);
            Finding::ok("table", format!("{arn} is active, about {records} records"))
        }
        status => Finding::problem(
            "table",
            format!(
                "{arn} is {}",
                status.map_or("in no known state", TableStatus::as_str)
            ),
            command("describe-table", ""),
        ),
    });
    findings.push(billing(described, &command));
    findings.push(replicas(described, table));
    findings.push(match described.deletion_protection_enabled() {
        Some(true) => Finding::ok("protection", "the table cannot be deleted by mistake"),
        Some(false) | None => Finding::ok(
            "protection",
            "deletion protection is off: with the table its locks and tokens go",
        )
        .hint(command("update-table", " --deletion-protection-enabled")),
    });
    findings
}

fn billing(described: &TableDescription, command: &dyn Fn(&str, &str) -> String) -> Finding {
    let mode = described
        .billing_mode_summary()
        .and_then(|summary| summary.billing_mode());
    if mode == Some(&BillingMode::PayPerRequest) {
        return Finding::ok("billing", "on demand");
    }
    // A table that was never on demand has no summary.
    let Some(capacity) = described.provisioned_throughput() else {
        return Finding::unknown("billing", "the table does not say its mode");
    };
    let units =
        |found: Option<i64>| found.map_or_else(|| "?".to_owned(), |units| units.to_string());
    Finding::warning(
        "billing",
        format!(
            "provisioned, {} read and {} write units a second: what is above is throttled, renewals too, unless it scales by itself",
            units(capacity.read_capacity_units()),
            units(capacity.write_capacity_units())
        ),
        command("update-table", " --billing-mode PAY_PER_REQUEST"),
    )
}

/// Conditional writes in two Regions exclude each other only with strong consistency.
fn replicas(described: &TableDescription, table: &Table) -> Finding {
    let regions: Vec<_> = described
        .replicas()
        .iter()
        .filter_map(|replica| replica.region_name())
        .collect();
    if regions.is_empty() && table.keys.is_mrsc() {
        return Finding::warning(
            "replicas",
            "none yet: the table is in one Region",
            "`leasehold init --mrsc` says how to add Regions while the table is empty",
        );
    }
    if regions.is_empty() {
        return Finding::ok("replicas", "none: a table of one Region");
    }
    let list = regions.join(", ");
    match described.multi_region_consistency() {
        Some(MultiRegionConsistency::Strong) if table.keys.is_mrsc() => Finding::ok(
            "replicas",
            format!("in {list}, with strong consistency between Regions"),
        ),
        Some(MultiRegionConsistency::Strong) => Finding::warning(
            "replicas",
            format!(
                "in {list}, with strong consistency between Regions: it has no TTL and no transactions"
            ),
            "add `mrsc=true` to the store URL, and run `leasehold sweep` from time to time",
        ),
        _ if table.keys.is_mrsc() => Finding::warning(
            "replicas",
            format!(
                "in {list}, with eventual consistency: clients in two Regions get the same lock"
            ),
            "make a table with `leasehold init --mrsc`: this one cannot become strongly consistent",
        ),
        _ if table.region.is_some() => Finding::ok(
            "replicas",
            format!(
                "in {list}, with eventual consistency: locks exclude only in one Region, which the store URL names"
            ),
        ),
        _ => Finding::warning(
            "replicas",
            format!(
                "in {list}, with eventual consistency: clients in two Regions get the same lock"
            ),
            format!(
                "name one Region in every store URL: `--store 'dynamodb://{}?region=…'`",
                table.name
            ),
        ),
    }
}

/// Whether a lost table can be restored. A restored table has old locks and tokens.
async fn recovery(client: &Client, table: &Table) -> Finding {
    let answer = client
        .describe_continuous_backups()
        .table_name(&table.name)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Finding::unknown("recovery", refusal(&error)),
    };
    let status = answer
        .continuous_backups_description()
        .and_then(|backups| backups.point_in_time_recovery_description())
        .and_then(|recovery| recovery.point_in_time_recovery_status());
    match status {
        Some(PointInTimeRecoveryStatus::Enabled) => Finding::ok(
            "recovery",
            "point-in-time recovery is on; a restored table has older tokens, so stop all holders first",
        ),
        Some(_) => Finding::ok(
            "recovery",
            "point-in-time recovery is off, which locks do not need",
        ),
        None => Finding::unknown("recovery", "the service did not say"),
    }
}

/// The code of a refusal, or the causes of another failure.
pub(super) fn refusal<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => causes(error),
    }
}

//! The lock table: creation and checks.
//!
//! Only this module uses the control plane. `create_table` does not change an existing table, except
//! that it turns TTL on.

use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, MultiRegionConsistency,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::sending::Sending;
use super::{DynamoDbStore, classify};
use crate::error::{Error, ErrorKind};
use crate::store::{StoreError, StoreErrorKind};

/// How long a new table may take to become active.
const ACTIVE_WITHIN: Duration = Duration::from_secs(120);
/// How long to wait for TTL that another caller turns on.
const TTL_WITHIN: Duration = Duration::from_secs(10);
const CHECK: Duration = Duration::from_millis(200);

/// The outcome of [`DynamoDbStore::create_table`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Created {
    /// The call created the table.
    New,
    /// The table existed, with the right schema.
    Existed,
}

/// Why a table cannot be used or created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The keys differ from those of the shape.
    #[error(
        "table `{table}` has the key {found}, a lock table has {expected}: name its keys, or use another table"
    )]
    KeySchema {
        /// The table.
        table: String,
        /// Its key.
        found: String,
        /// The key of the shape.
        expected: String,
        /// The names of its partition key and sort key; empty if one of them is no string.
        names: Vec<String>,
    },
    /// TTL is on another attribute: records would be deleted never or at the wrong time.
    #[error(
        "table `{table}` has its TTL on `{found}`, the locks have it on `{expected}`: name `{found}`, or turn TTL off there first"
    )]
    Ttl {
        /// The table.
        table: String,
        /// The attribute.
        found: String,
        /// The attribute of the shape.
        expected: String,
    },
    /// TTL is off: records of keys that are never used again stay for ever. Locks are safe.
    #[error("table `{table}` has no TTL: turn it on for `{expected}`, `leasehold init` does it")]
    TtlOff {
        /// The table.
        table: String,
        /// The attribute of the shape.
        expected: String,
    },
    /// It did not become active.
    #[error("table `{table}` was not active within {ACTIVE_WITHIN:?}: check it in the console")]
    NotActive {
        /// The table.
        table: String,
    },
    /// The service refused or did not answer.
    #[error("{0}")]
    Store(#[source] StoreError),
}

/// For `?` in functions that return [`Error`].
impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        let message = error.to_string();
        match error {
            TableError::Store(error) => error.into(),
            other => Error::new(ErrorKind::Configuration, message).with_source(other),
        }
    }
}

impl DynamoDbStore {
    /// Creates the table if it is missing, waits until it is active, turns TTL on, and checks its schema. With
    /// [`TableShape::mrsc`](super::TableShape::mrsc) it leaves TTL off, and does not add the replicas.
    /// Any number of callers may do so at the same time. An existing table is not changed, except that TTL
    /// is turned on. Each step is an `info` event of `tracing`.
    ///
    /// It needs the permissions `dynamodb:DescribeTable` and `DescribeTimeToLive`; `CreateTable` only if the
    /// table is missing, and `UpdateTimeToLive` only if TTL is off.
    ///
    /// # Errors
    ///
    /// [`TableError`] names the table and what to change.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave the table unfinished. Call it again.
    pub async fn create_table(&self) -> Result<Created, TableError> {
        let created = match self.find_table().await? {
            Ok(_) => Created::Existed,
            Err(_missing) => {
                tracing::info!("creating table `{}`", self.table());
                self.create().await?
            }
        };
        self.wait_until_active().await?;
        match self.check_table().await {
            Err(TableError::TtlOff { .. }) => {
                tracing::info!(
                    "turning TTL of table `{}` on, for `{}`",
                    self.table(),
                    self.table.shape.ttl_name()
                );
                self.turn_ttl_on().await?;
            }
            checked => checked?,
        }
        Ok(created)
    }

    /// Checks key schema, and TTL if the table can have it: two requests to the control plane.
    ///
    /// # Errors
    ///
    /// [`TableError`] names the table and what to change.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only reads.
    pub async fn check_table(&self) -> Result<(), TableError> {
        let table = self.find_table().await?.map_err(TableError::Store)?;
        self.check_key(&table)?;
        // Such a table can have no TTL.
        let is_mrsc = table.multi_region_consistency() == Some(&MultiRegionConsistency::Strong);
        if is_mrsc || self.table.shape.is_mrsc() {
            return Ok(());
        }
        let sending = Sending::new("DescribeTimeToLive");
        let request = self
            .control
            .describe_time_to_live()
            .table_name(self.table())
            .customize()
            .interceptor(sending.clone())
            .send();
        let answer = sending.answer(request).await;
        let answer = answer.map_err(|error| self.failed(error, &sending))?;
        let (table, expected) = (
            self.table().to_owned(),
            self.table.shape.ttl_name().to_owned(),
        );
        let Some(ttl) = answer.time_to_live_description() else {
            return Err(TableError::TtlOff { table, expected });
        };
        match (ttl.time_to_live_status(), ttl.attribute_name()) {
            (Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling), found) => {
                if found == Some(&*expected) {
                    return Ok(());
                }
                Err(TableError::Ttl {
                    table,
                    found: found.unwrap_or("unknown").to_owned(),
                    expected,
                })
            }
            _ => Err(TableError::TtlOff { table, expected }),
        }
    }

    /// The table, or the inner error if it does not exist.
    async fn find_table(&self) -> Result<Result<TableDescription, StoreError>, TableError> {
        let sending = Sending::new("DescribeTable");
        let request = self
            .control
            .describe_table()
            .table_name(self.table())
            .customize()
            .interceptor(sending.clone())
            .send();
        let answer = sending.answer(request).await;
        match answer {
            Ok(answer) => Ok(Ok(answer
                .table
                .unwrap_or_else(|| TableDescription::builder().build()))),
            Err(error) => {
                let missing = error.code() == Some("ResourceNotFoundException");
                let failed = classify::failure(error, &self.table, &sending);
                if missing {
                    Ok(Err(failed))
                } else {
                    Err(TableError::Store(failed))
                }
            }
        }
    }

    async fn create(&self) -> Result<Created, TableError> {
        let keys = || {
            let partition = (self.table.shape.partition_name(), KeyType::Hash);
            let sort = self
                .table
                .shape
                .sort_name()
                .map(|sort| (sort, KeyType::Range));
            std::iter::once(partition).chain(sort)
        };
        let definitions = keys().map(|(name, _)| {
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(ScalarAttributeType::S)
                .build()
        });
        let schema = keys().map(|(name, kind)| {
            KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(kind)
                .build()
        });
        let sending = Sending::new("CreateTable");
        let request = self
            .control
            .create_table()
            .table_name(self.table())
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(definitions.collect::<Result<_, _>>().ok())
            .set_key_schema(schema.collect::<Result<_, _>>().ok())
            .customize()
            .interceptor(sending.clone())
            .send();
        match sending.answer(request).await {
            Ok(_) => Ok(Created::New),
            // Another caller was faster.
            Err(error) if error.code() == Some("ResourceInUseException") => Ok(Created::Existed),
            Err(error) => Err(self.failed(error, &sending)),
        }
    }

    /// Waits until the table is active, also if another caller creates it. A description may come from a
    /// replica that does not know the table yet.
    async fn wait_until_active(&self) -> Result<(), TableError> {
        let mut told = false;
        for _ in 0..(ACTIVE_WITHIN.as_millis() / CHECK.as_millis()) {
            if let Ok(table) = self.find_table().await?
                && let Some(TableStatus::Active | TableStatus::Updating) = table.table_status()
            {
                return Ok(());
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(
                    "waiting until table `{}` is active, {ACTIVE_WITHIN:?} at most",
                    self.table()
                );
            }
            pause().await;
        }
        Err(TableError::NotActive {
            table: self.table().to_owned(),
        })
    }

    /// Turns TTL on. The service refuses a second request of another caller, so this checks that TTL is on.
    async fn turn_ttl_on(&self) -> Result<(), TableError> {
        let Err(refused) = self.ask_for_ttl().await else {
            return Ok(());
        };
        let forbidden = |error: &TableError| matches!(error, TableError::Store(error) if matches!(error.kind, StoreErrorKind::AccessDenied | StoreErrorKind::Credentials));
        if forbidden(&refused) {
            return Err(refused);
        }
        for _ in 0..(TTL_WITHIN.as_millis() / CHECK.as_millis()) {
            match self.check_table().await {
                Err(TableError::TtlOff { .. }) => pause().await,
                checked => return checked,
            }
        }
        Err(refused)
    }

    async fn ask_for_ttl(&self) -> Result<(), TableError> {
        let ttl = TimeToLiveSpecification::builder()
            .enabled(true)
            .attribute_name(self.table.shape.ttl_name())
            .build();
        let sending = Sending::new("UpdateTimeToLive");
        let request = self
            .control
            .update_time_to_live()
            .table_name(self.table())
            .set_time_to_live_specification(ttl.ok())
            .customize()
            .interceptor(sending.clone())
            .send();
        let answer = sending.answer(request).await;
        answer
            .map(drop)
            .map_err(|error| self.failed(error, &sending))
    }

    fn check_key(&self, table: &TableDescription) -> Result<(), TableError> {
        let kind_of = |name: &str| {
            let mut definitions = table.attribute_definitions().iter();
            let definition = definitions.find(|d| d.attribute_name() == name);
            definition.map_or("?", |d| d.attribute_type().as_str())
        };
        let keys: Vec<(&str, &str, &str)> = table
            .key_schema()
            .iter()
            .map(|element| (element.attribute_name(), element.key_type().as_str()))
            .map(|(name, role)| (name, kind_of(name), role))
            .collect();
        let found: Vec<_> = keys
            .iter()
            .map(|(name, kind, role)| format!("`{name}` ({kind}, {role})"))
            .collect();
        let (found, expected) = (found.join(", "), self.table.shape.key_schema());
        if found == expected {
            return Ok(());
        }
        let texts = keys.iter().all(|(_, kind, _)| *kind == "S");
        let names = keys.iter().filter(|_| texts);
        Err(TableError::KeySchema {
            table: self.table().to_owned(),
            found,
            expected,
            names: names.map(|(name, ..)| (*name).to_owned()).collect(),
        })
    }

    fn failed<E>(&self, error: SdkError<E>, sending: &Sending) -> TableError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        TableError::Store(classify::failure(error, &self.table, sending))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it waits for the control plane, and decides nothing about leases"
)]
pub(super) async fn pause() {
    tokio::time::sleep(CHECK).await;
}

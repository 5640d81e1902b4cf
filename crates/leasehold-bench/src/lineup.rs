//! The subjects, their settings, and how each is started.
//!
//! Each subject has its own kind of table on the same service. Each runs with its documented defaults, and
//! tuned to the scenario: a poll of 20 ms, which the README of FSharp.DynamoDbLock gives for production,
//! or the nearest setting.

use anyhow::Result;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::dynamodb;
use crate::peers::Peer;

/// Whose lock it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Who {
    Ours,
    FSharp,
    Raw,
    DLock,
    DynamoDbLease,
    DynamoDbLock,
    Node,
    Python,
}

impl Who {
    const ALL: [Who; 8] = [
        Who::Ours,
        Who::FSharp,
        Who::Raw,
        Who::DLock,
        Who::DynamoDbLease,
        Who::DynamoDbLock,
        Who::Node,
        Who::Python,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Who::Ours => "leasehold",
            Who::FSharp => "F# algorithm",
            Who::Raw => "raw UpdateItem x 2",
            Who::DLock => "dlock 0.2.0",
            Who::DynamoDbLease => "dynamodb-lease 0.22.1",
            Who::DynamoDbLock => "dynamodb_lock 0.6.1",
            Who::Node => "npm dynamodb-lock-client 0.7.3",
            Who::Python => "PyPI python-dynamodb-lock 0.9.1",
        }
    }

    /// As its driver knows it, and a part of its table's name.
    fn id(self) -> &'static str {
        match self {
            Who::Ours => "leasehold",
            Who::FSharp => "fsharp",
            Who::Raw => "raw",
            Who::DLock => "dlock",
            Who::DynamoDbLease => "dynamodb-lease",
            Who::DynamoDbLock => "dynamodb_lock",
            Who::Node => "node",
            Who::Python => "python",
        }
    }

    fn key_attributes(self) -> &'static [&'static str] {
        match self {
            Who::Ours | Who::FSharp | Who::Raw => &["LockKey"],
            Who::DLock => &["lock_name"],
            Who::DynamoDbLease | Who::DynamoDbLock => &["key"],
            Who::Node => &["id"],
            Who::Python => &["lock_key", "sort_key"],
        }
    }
}

/// One lock with one set of settings.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Subject {
    pub(crate) who: Who,
    /// What was set, for the tables.
    pub(crate) variant: &'static str,
    pub(crate) settings: Value,
    /// Whether it mostly sleeps between its polls, so that several of them can be measured at once.
    pub(crate) slow: bool,
}

impl Subject {
    pub(crate) fn new(who: Who, variant: &'static str, settings: Value) -> Subject {
        Subject {
            who,
            variant,
            settings,
            slow: false,
        }
    }

    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.who.label(), self.variant)
    }

    /// The same with a client for each task, as if each were a process.
    pub(crate) fn each(mut self) -> Subject {
        self.settings["each"] = true.into();
        self
    }

    fn slow(mut self) -> Subject {
        self.slow = true;
        self
    }
}

/// As documented, where waiting takes part.
pub(crate) fn defaults() -> Vec<Subject> {
    let subject = Subject::new;
    vec![
        subject(Who::Ours, "defaults", json!({})),
        subject(Who::FSharp, "README (20 ms)", json!({ "poll_ms": 20 })),
        subject(Who::DLock, "defaults (no delay)", json!({})),
        subject(Who::DynamoDbLease, "defaults (1 s)", json!({})).slow(),
        subject(Who::DynamoDbLock, "defaults (10 s)", json!({})).slow(),
        subject(Who::Node, "README (fail open, 10 s)", json!({})).slow(),
        subject(Who::Python, "defaults (5 s)", json!({})).slow(),
    ]
}

/// Tuned for short holds and many contenders.
pub(crate) fn tuned() -> Vec<Subject> {
    const HOUR_MS: u64 = 3_600_000;
    let subject = Subject::new;
    vec![
        subject(
            Who::Ours,
            "polls 5 to 20 ms",
            json!({ "poll_first_ms": 5, "poll_max_ms": 20 }),
        ),
        subject(Who::Ours, "by writing, 20 ms", json!({ "ask_ms": 20 })),
        subject(Who::FSharp, "100 ms", json!({ "poll_ms": 100 })),
        subject(Who::DLock, "5 ms", json!({ "poll_ms": 5 })),
        subject(Who::DynamoDbLease, "20 ms", json!({ "poll_ms": 20 })),
        subject(
            Who::DynamoDbLock,
            "20 ms",
            json!({ "poll_ms": 20, "wait_ms": HOUR_MS }),
        ),
        subject(
            Who::Node,
            "fail closed, 20 ms",
            json!({ "closed": true, "poll_ms": 20, "retries": 1_000_000, "keep_alive": true }),
        ),
        subject(
            Who::Python,
            "20 ms",
            json!({ "poll_ms": 20, "wait_ms": HOUR_MS, "connections": 1_000 }),
        ),
    ]
}

/// Everything that is needed to start anybody.
#[derive(Debug)]
pub(crate) struct Lineup {
    pub(crate) endpoint: String,
    rust: Peer,
    node: Peer,
    python: Peer,
}

impl Lineup {
    /// Installs the peers and makes the tables.
    pub(crate) async fn new(endpoint: String) -> Result<Lineup> {
        let lineup = Lineup {
            rust: Peer::rust().await?,
            node: Peer::node().await?,
            python: Peer::python().await?,
            endpoint,
        };
        for who in Who::ALL {
            lineup.create(who).await?;
        }
        Ok(lineup)
    }

    /// Deletes the tables.
    pub(crate) async fn tidy(&self) -> Result<()> {
        let client = dynamodb::client(&self.endpoint);
        for who in Who::ALL {
            dynamodb::delete(&client, &table(who)).await?;
        }
        Ok(())
    }

    /// Its driver, with the service at `url`.
    pub(crate) fn command(&self, subject: &Subject, url: &str) -> Result<Command> {
        let who = subject.who;
        let mut command = match who {
            Who::Ours | Who::FSharp | Who::Raw => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg("drive");
                own
            }
            Who::DLock | Who::DynamoDbLease | Who::DynamoDbLock => self.rust.command(),
            Who::Node => self.node.command(),
            Who::Python => self.python.command(),
        };
        match who {
            Who::Node | Who::Python => command.arg("drive"),
            _ => command.arg(who.id()),
        };
        command
            .arg(url)
            .arg(table(who))
            .arg(subject.settings.to_string());
        Ok(command)
    }

    async fn create(&self, who: Who) -> Result<()> {
        let client = dynamodb::client(&self.endpoint);
        let table = table(who);
        let mut create = client
            .create_table()
            .table_name(&table)
            .billing_mode(BillingMode::PayPerRequest);
        for (name, kind) in who
            .key_attributes()
            .iter()
            .zip([KeyType::Hash, KeyType::Range])
        {
            create = create
                .attribute_definitions(
                    AttributeDefinition::builder()
                        .attribute_name(*name)
                        .attribute_type(ScalarAttributeType::S)
                        .build()?,
                )
                .key_schema(
                    KeySchemaElement::builder()
                        .attribute_name(*name)
                        .key_type(kind)
                        .build()?,
                );
        }
        create.send().await?;
        if who == Who::DynamoDbLease {
            // It refuses a table without.
            let specification = TimeToLiveSpecification::builder()
                .attribute_name("lease_expiry")
                .enabled(true)
                .build()?;
            client
                .update_time_to_live()
                .table_name(&table)
                .time_to_live_specification(specification)
                .send()
                .await?;
        }
        Ok(())
    }
}

fn table(who: Who) -> String {
    dynamodb::table_name(who.id())
}

//! The subjects, their settings, and how each is started.
//!
//! Each subject has its own kind of table on the same service. Each runs with its documented defaults, and
//! tuned to the scenario: a poll of 20 ms, which the README of FSharp.DynamoDbLock gives for production,
//! or the nearest setting.

use anyhow::{Result, bail};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::choice::Choice;
use crate::dynamodb;
use crate::peers::{Found, Peer};
use crate::who::Who;

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
        subject(Who::Java, "defaults (1 s)", json!({})).slow(),
        subject(Who::Go, "defaults (1 s)", json!({})).slow(),
    ]
}

/// Tuned for short holds and many contenders.
pub(crate) fn tuned() -> Vec<Subject> {
    const HOUR_MS: u64 = 3_600_000;
    let subject = Subject::new;
    // Both poll with reads, so that more of them cost little.
    let reading = |poll: u64| json!({ "poll_ms": poll, "wait_ms": HOUR_MS, "connections": 1_000 });
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
        subject(Who::Python, "20 ms", reading(20)),
        subject(Who::Java, "20 ms", reading(20)),
        subject(Who::Java, "5 ms", reading(5)),
        subject(Who::Go, "20 ms", reading(20)),
        subject(Who::Go, "5 ms", reading(5)),
    ]
}

/// Everything that is needed to start anybody.
#[derive(Debug)]
pub(crate) struct Lineup {
    pub(crate) endpoint: String,
    choice: Choice,
    rust: OnceCell<Peer>,
    node: OnceCell<Peer>,
    python: OnceCell<Peer>,
    java: OnceCell<Found>,
    go: OnceCell<Found>,
}

impl Lineup {
    /// Makes the tables. A peer is installed when it is first needed.
    pub(crate) async fn new(endpoint: String, choice: &Choice) -> Result<Lineup> {
        let lineup = Lineup {
            endpoint,
            choice: choice.clone(),
            rust: OnceCell::new(),
            node: OnceCell::new(),
            python: OnceCell::new(),
            java: OnceCell::new(),
            go: OnceCell::new(),
        };
        for who in lineup.tables() {
            lineup.create(who).await?;
        }
        Ok(lineup)
    }

    /// Whether it was chosen.
    pub(crate) fn includes(&self, who: Who) -> bool {
        self.choice.includes(who)
    }

    /// Those with a table. The yardstick always has one.
    fn tables(&self) -> impl Iterator<Item = Who> {
        let all = Who::ALL.into_iter();
        all.filter(|who| *who == Who::Raw || self.includes(*who))
    }

    /// Deletes the tables.
    pub(crate) async fn tidy(&self) -> Result<()> {
        let client = dynamodb::client(&self.endpoint);
        for who in self.tables() {
            dynamodb::delete(&client, &table(who)).await?;
        }
        Ok(())
    }

    /// Why it cannot take part here, if it cannot.
    pub(crate) async fn absence(&self, who: Who) -> Result<Option<String>> {
        Ok(match self.peer(who).await? {
            Some(Err(absence)) => Some(absence.clone()),
            _ => None,
        })
    }

    /// Installs it unless it is there, or is this program.
    async fn peer(&self, who: Who) -> Result<Option<Result<&Peer, &String>>> {
        let Choice {
            java, go_replace, ..
        } = &self.choice;
        Ok(Some(match who {
            Who::Ours | Who::FSharp | Who::Raw | Who::Semaphore => return Ok(None),
            Who::DLock | Who::DynamoDbLease | Who::DynamoDbLock => {
                Ok(self.rust.get_or_try_init(Peer::rust).await?)
            }
            Who::Node => Ok(self.node.get_or_try_init(Peer::node).await?),
            Who::Python => Ok(self.python.get_or_try_init(Peer::python).await?),
            Who::Java => {
                let install = || Peer::java(java.as_deref());
                self.java.get_or_try_init(install).await?.as_ref()
            }
            Who::Go => {
                let install = || Peer::go(go_replace.as_deref());
                self.go.get_or_try_init(install).await?.as_ref()
            }
        }))
    }

    /// Its driver, with the service at `url`.
    pub(crate) async fn command(&self, subject: &Subject, url: &str) -> Result<Command> {
        let who = subject.who;
        let mut command = match self.peer(who).await? {
            None => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg("drive");
                own
            }
            Some(Ok(peer)) => peer.command(),
            Some(Err(absence)) => bail!("{}: {absence}", subject.label()),
        };
        match who {
            Who::Node | Who::Python | Who::Java | Who::Go => command.arg("drive"),
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

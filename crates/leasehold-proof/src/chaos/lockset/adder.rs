//! A process that adds elements to the shared set under the lock: it reads, waits, and writes.
//!
//! It does not check its lease between read and write: it could be stopped after the check as well. Each
//! protection is used as the library's documentation describes.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::types::{
    AttributeValue, Get, ReturnValue, TransactGetItem, TransactWriteItem, Update,
};
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::dynamodb::{DynamoDbStore, TokenColumn};
use leasehold::{CheckDelay, Lease, LockClient, Policy};

use super::super::event::{Event, now};
use super::super::place::{Place, client};
use super::super::wall::pause;
use super::protection::Protection;

const LOCK: &str = "lockset";
const SET: &str = "the-set";
const ELEMENTS: &str = "Elements";
const COLUMN: &str = "FT";
const LEASE: Duration = Duration::from_secs(2);
/// Between read and write.
const THINK: Duration = Duration::from_millis(150);
/// How often a transaction that met a renewal is tried again.
const TRIES: u32 = 20;

/// The settings of an adder.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) place: Place,
    pub(super) protection: Protection,
    pub(super) who: usize,
}

impl Job {
    /// As arguments.
    pub(super) fn arguments(&self) -> Vec<String> {
        vec![
            self.place.to_string(),
            self.protection.to_string(),
            self.who.to_string(),
        ]
    }
}

/// What became of a write.
enum Wrote {
    Added,
    Refused,
    Unsure,
}

/// The adder's process. Ends only by being killed, or by a failure.
pub(in super::super) fn main(arguments: &[String]) -> Result<()> {
    let [place, protection, who] = arguments else {
        bail!("an adder is started by `lockset`, not by people");
    };
    let protection = Protection::parse(protection).context("unknown protection")?;
    let Place::DynamoDb { table, endpoint } = Place::parse(place)? else {
        bail!("the experiment is for DynamoDB");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(add(protection, &table, &endpoint, who))
}

async fn add(protection: Protection, table: &str, endpoint: &str, who: &str) -> Result<()> {
    Event::Hello {
        pid: std::process::id(),
        wall_ms: SystemClock.wall_unix_ms(),
        at: now(),
    }
    .tell()?;
    let policy = Policy::builder()
        .lease_duration(LEASE)
        .margin(Duration::from_millis(200))
        .wait(Duration::from_secs(30))
        .check_delay(CheckDelay::Backoff {
            first: Duration::from_millis(20),
            max: Duration::from_millis(100),
        })
        .build()?;
    let aws = client(endpoint);
    let store = DynamoDbStore::new(aws.clone(), table);
    let locks = LockClient::builder(store.clone()).policy(policy).build();
    let sets = Sets::new(aws, table);
    for n in 0_u64.. {
        let lease = match locks.acquire(LOCK).await {
            Ok(lease) => lease,
            Err(error) => {
                let kind = format!("{:?}", error.kind());
                Event::Failed { kind }.tell()?;
                continue;
            }
        };
        let element = format!("{who}-{n}");
        let wrote = match sets.read_under(protection, &lease).await? {
            Some(mut set) => {
                let token = lease.token().get();
                Event::Inside { token }.tell()?;
                pause(THINK).await;
                set.insert(element.clone());
                sets.write_under(protection, &store, &lease, set).await?
            }
            None => Wrote::Refused,
        };
        match wrote {
            Wrote::Added => Event::Added { element },
            Wrote::Refused => Event::Refused { element },
            Wrote::Unsure => Event::Unsure { element },
        }
        .tell()?;
        if let Err(error) = lease.release().await {
            let kind = format!("{:?}", error.kind());
            Event::Failed { kind }.tell()?;
        }
    }
    Ok(())
}

/// The shared set: one item of the lock table itself.
#[derive(Debug)]
pub(super) struct Sets {
    aws: Client,
    table: String,
}

impl Sets {
    pub(super) fn new(aws: Client, table: &str) -> Sets {
        Sets {
            aws,
            table: table.to_owned(),
        }
    }

    /// What is in it, by a strongly consistent read.
    pub(super) async fn read(&self) -> Result<BTreeSet<String>> {
        let answer = self
            .aws
            .get_item()
            .table_name(&self.table)
            .key("LockKey", key())
            .consistent_read(true)
            .send()
            .await?;
        Ok(elements(answer.item))
    }

    /// The read of a read-modify-write; `None` when the fence refuses it already.
    async fn read_under(
        &self,
        protection: Protection,
        lease: &Lease,
    ) -> Result<Option<BTreeSet<String>>> {
        match protection {
            Protection::Lock => self.read().await.map(Some),
            Protection::Column => self.claim(lease).await,
            Protection::Check => self.read_in_transaction().await.map(Some),
        }
    }

    /// Raises the token column and reads, in one request. From here on, no older holder can write. A read before
    /// that could miss a later write of an older holder.
    async fn claim(&self, lease: &Lease) -> Result<Option<BTreeSet<String>>> {
        let fence = TokenColumn::new(COLUMN, lease.token());
        let answer = self
            .aws
            .update_item()
            .table_name(&self.table)
            .key("LockKey", key())
            .update_expression(format!("SET {}", fence.assignment()))
            .condition_expression(fence.condition())
            .set_expression_attribute_names(Some(fence.names()))
            .set_expression_attribute_values(Some(fence.values()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Some(elements(answer.attributes))),
            Err(error) if refused(&error, |e| e.is_conditional_check_failed_exception()) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A read that does not see half of a transaction.
    async fn read_in_transaction(&self) -> Result<BTreeSet<String>> {
        let get = Get::builder()
            .table_name(&self.table)
            .key("LockKey", key())
            .build()?;
        for _ in 0..TRIES {
            let answer = self
                .aws
                .transact_get_items()
                .transact_items(TransactGetItem::builder().get(get.clone()).build())
                .send()
                .await;
            match answer {
                Ok(answer) => {
                    let response = answer.responses.unwrap_or_default().into_iter().next();
                    return Ok(elements(response.and_then(|response| response.item)));
                }
                // Another process writes it at the moment.
                Err(error) if refused(&error, |e| e.is_transaction_canceled_exception()) => {
                    pause(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the set was being written in {TRIES} tries to read it")
    }

    async fn write_under(
        &self,
        protection: Protection,
        store: &DynamoDbStore,
        lease: &Lease,
        set: BTreeSet<String>,
    ) -> Result<Wrote> {
        let set = AttributeValue::Ss(set.into_iter().collect());
        match protection {
            Protection::Lock => self.write_plainly(set, None).await,
            Protection::Column => {
                let fence = TokenColumn::new(COLUMN, lease.token());
                self.write_plainly(set, Some(fence)).await
            }
            Protection::Check => self.write_in_transaction(store, lease, set).await,
        }
    }

    async fn write_plainly(
        &self,
        set: AttributeValue,
        fence: Option<TokenColumn>,
    ) -> Result<Wrote> {
        let mut request = self.aws.update_item();
        let mut update = "SET #elements = :elements".to_owned();
        if let Some(fence) = fence {
            update = format!("{update}, {}", fence.assignment());
            request = request
                .condition_expression(fence.condition())
                .set_expression_attribute_names(Some(fence.names()))
                .set_expression_attribute_values(Some(fence.values()));
        }
        let answer = request
            .table_name(&self.table)
            .key("LockKey", key())
            .update_expression(update)
            .expression_attribute_names("#elements", ELEMENTS)
            .expression_attribute_values(":elements", set)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Wrote::Added),
            Err(error) if refused(&error, |e| e.is_conditional_check_failed_exception()) => {
                Ok(Wrote::Refused)
            }
            Err(error) if error.as_service_error().is_none() => Ok(Wrote::Unsure),
            Err(error) => Err(error.into()),
        }
    }

    async fn write_in_transaction(
        &self,
        store: &DynamoDbStore,
        lease: &Lease,
        set: AttributeValue,
    ) -> Result<Wrote> {
        let update = Update::builder()
            .table_name(&self.table)
            .key("LockKey", key())
            .update_expression("SET #elements = :elements")
            .expression_attribute_names("#elements", ELEMENTS)
            .expression_attribute_values(":elements", set)
            .build()?;
        for _ in 0..TRIES {
            let answer = self
                .aws
                .transact_write_items()
                .transact_items(store.fence(lease.id())?)
                .transact_items(TransactWriteItem::builder().update(update.clone()).build())
                .send()
                .await;
            let error = match answer {
                Ok(_) => return Ok(Wrote::Added),
                Err(error) => error,
            };
            let Some(service) = error.as_service_error() else {
                return Ok(Wrote::Unsure);
            };
            let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(canceled) = service else {
                return Err(error.into());
            };
            // The first reason is the fence's.
            let reason = canceled.cancellation_reasons().first();
            match reason.and_then(|reason| reason.code()) {
                Some("ConditionalCheckFailed") => return Ok(Wrote::Refused),
                // A renewal of our own lease, perhaps: nothing was written.
                _ => pause(Duration::from_millis(20)).await,
            }
        }
        // Nothing was written, but the fence has not refused it either.
        Ok(Wrote::Unsure)
    }
}

fn key() -> AttributeValue {
    AttributeValue::S(SET.to_owned())
}

fn elements(item: Option<std::collections::HashMap<String, AttributeValue>>) -> BTreeSet<String> {
    let set = item.and_then(|mut item| item.remove(ELEMENTS));
    match set {
        Some(AttributeValue::Ss(elements)) => elements.into_iter().collect(),
        _ => BTreeSet::new(),
    }
}

fn refused<E>(error: &SdkError<E>, how: impl Fn(&E) -> bool) -> bool {
    error.as_service_error().is_some_and(how)
}

//! A store wrapper that logs every request with `-v`, and makes an error of a panic in one.
//!
//! Refused acquires and polls name the holder. A poll with the same result as the request before is only
//! counted, so that a wait of an hour has one line for each holder.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, SystemClock};
use leasehold::store::protocol::{Record, Write};
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind, Units,
};

use crate::messages::Messages;
use crate::panics;
use crate::text::one_line;

/// Wraps a store.
#[derive(Debug)]
pub(super) struct Logging {
    store: Arc<dyn Store>,
    messages: Arc<Messages>,
    seen: Mutex<Seen>,
}

/// The last logged result, and how many polls have found the same since.
#[derive(Debug, Default)]
struct Seen {
    /// The key and its grant.
    last: Option<(String, Option<String>)>,
    again: u64,
}

impl Logging {
    /// Logs the requests to `store`.
    pub(super) fn new(store: Arc<dyn Store>, messages: Arc<Messages>) -> Self {
        Self {
            store,
            messages,
            seen: Mutex::default(),
        }
    }

    async fn tell<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<Reply<T>, StoreError>>,
        outcome: impl Fn(&T) -> Option<String>,
    ) -> Result<Reply<T>, StoreError> {
        let start = SystemClock.elapsed();
        let answer = panics::caught(call).await.unwrap_or_else(|said| {
            let store = self.store.describe();
            let message = format!("{store}: the request panicked: {said}");
            let kind = StoreErrorKind::Configuration;
            Err(StoreError::new(kind, Effect::Unknown, message))
        });
        let took = SystemClock.elapsed().since(start);
        match &answer {
            Ok(reply) => {
                if let Some(outcome) = outcome(&reply.value) {
                    self.line(&what, outcome, took, reply.units);
                }
            }
            Err(error) => self.line(
                &what,
                format_args!("failed: {error}"),
                took,
                Units::default(),
            ),
        }
        answer
    }

    /// The state of a key as text; `None` if it is the same as before and `quietly` is set.
    fn found(&self, key: &str, record: Option<&Record>, quietly: bool) -> Option<String> {
        let grant = record.and_then(|record| record.owner.clone());
        let words = match (record, &grant) {
            (None, _) => "no record".to_owned(),
            (Some(record), None) => match record.held_slots().count() {
                0 => "free".to_owned(),
                held => format!("{held} of its slots held"),
            },
            (Some(record), Some(owner)) => {
                let holder = record.holder.as_ref().unwrap_or(owner);
                format!("held by {}", one_line(holder))
            }
        };
        let now = Some((key.to_owned(), grant));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if quietly && seen.last == now {
            seen.again += 1;
            return None;
        }
        seen.last = now;
        Some(match std::mem::take(&mut seen.again) {
            0 => words,
            1 => format!("{words}, after 1 poll that found nothing new"),
            polls => format!("{words}, after {polls} polls that found nothing new"),
        })
    }

    fn line(&self, what: &str, outcome: impl Display, took: Duration, units: Units) {
        let Units { write, read } = units;
        let cost = if write + read > 0.0 {
            format!(", {write} write and {read} read units")
        } else {
            String::new()
        };
        self.messages.detail(format_args!(
            "request: {what}: {outcome} ({took:.1?}{cost})"
        ));
    }
}

#[async_trait]
impl Store for Logging {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn hints(&self) -> Hints {
        self.store.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let what = format!("{} `{}`", write.operation(), write.key());
        let key = write.key().to_owned();
        self.tell(what, self.store.write(write), |outcome| match outcome {
            Outcome::Applied(_) => Some("done".to_owned()),
            Outcome::Refused(record) => {
                let found = self.found(&key, record.as_ref(), false)?;
                Some(format!("refused, {found}"))
            }
        })
        .await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let what = format!("read `{key}`");
        self.tell(what, self.store.read(key, consistency), |record| {
            self.found(key, record.as_ref(), true)
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let what = match prefix {
            "" => "list".to_owned(),
            prefix => format!("list `{prefix}…`"),
        };
        self.tell(what, self.store.list(prefix, after), |_| {
            Some("a page".to_owned())
        })
        .await
    }
}

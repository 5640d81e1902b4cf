//! A store that tells of every request, for `-v`.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold::clock::{Clock, SystemClock};
use leasehold::protocol::record::Record;
use leasehold::protocol::write::Write;
use leasehold::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError, Units};

use crate::voice::Voice;

/// Wraps a store.
#[derive(Debug)]
pub(super) struct Narrated {
    store: Arc<dyn Store>,
    voice: Arc<Voice>,
}

impl Narrated {
    /// Tells of what `store` is asked.
    pub(super) fn new(store: Arc<dyn Store>, voice: Arc<Voice>) -> Self {
        Self { store, voice }
    }

    async fn tell<T>(
        &self,
        what: String,
        call: impl Future<Output = Result<Reply<T>, StoreError>>,
        outcome: impl Fn(&T) -> &'static str,
    ) -> Result<Reply<T>, StoreError> {
        let start = SystemClock.elapsed();
        let answer = call.await;
        let took = SystemClock.elapsed().since(start);
        match &answer {
            Ok(reply) => self.line(&what, outcome(&reply.value), took, reply.units),
            Err(error) => self.line(
                &what,
                format_args!("failed: {error}"),
                took,
                Units::default(),
            ),
        }
        answer
    }

    fn line(&self, what: &str, outcome: impl Display, took: Duration, units: Units) {
        let Units { write, read } = units;
        let cost = if write + read > 0.0 {
            format!(", {write} write and {read} read units")
        } else {
            String::new()
        };
        self.voice.detail(format_args!(
            "request: {what}: {outcome} ({took:.1?}{cost})"
        ));
    }
}

#[async_trait]
impl Store for Narrated {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn hints(&self) -> Hints {
        self.store.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let what = format!("{} `{}`", write.operation(), write.key());
        self.tell(what, self.store.write(write), |outcome| match outcome {
            Outcome::Applied(_) => "done",
            Outcome::Refused(_) => "refused",
        })
        .await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let what = format!("read `{key}`");
        self.tell(
            what,
            self.store.read(key, consistency),
            |record| match record {
                Some(_) => "a record",
                None => "no record",
            },
        )
        .await
    }

    async fn list(&self, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let what = "list".to_owned();
        self.tell(what, self.store.list(after), |_| "a page").await
    }
}

//! The fixture for one client: its store, its clock, its random bits. No request is dropped before it has ended.

use std::time::Duration;

use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, Random};
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind, Units,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, Stamp};
use leasehold_protocol::write::{Operation, Write};

use super::stage::{Fortune, Party, SLOW, START_MS, STORE_BOUND, Stage};

impl Stage {
    fn reply<T>(&self, value: T) -> Reply<T> {
        Reply::new(value, Some(Stamp::Exact(self.now()))).with_units(Units {
            write: 1.0,
            read: 0.0,
        })
    }

    /// What happens to a request on its way; `carry_out` is its arrival.
    async fn pass<T>(
        &self,
        party: Party,
        operation: Operation,
        carry_out: impl FnOnce() -> T,
    ) -> Result<Reply<T>, StoreError> {
        let mut flight = Flight {
            stage: self,
            operation,
            ended: false,
        };
        let fortune = self.draw(party);
        self.gate(party).await;
        let broken = || {
            Err(StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                format!("{fortune:?} (planned)"),
            ))
        };
        let answer = match fortune {
            Fortune::ErrorBefore => broken(),
            Fortune::NeverBefore => {
                self.sleep(STORE_BOUND).await;
                broken()
            }
            _ => {
                if fortune == Fortune::Slow {
                    self.sleep(SLOW).await;
                }
                let value = carry_out();
                self.gate(party).await;
                match fortune {
                    Fortune::Error => broken(),
                    Fortune::Never => {
                        self.sleep(STORE_BOUND).await;
                        broken()
                    }
                    Fortune::Slow => {
                        let reply = self.reply(value);
                        self.sleep(SLOW).await;
                        Ok(reply)
                    }
                    _ => Ok(self.reply(value)),
                }
            }
        };
        self.gate(party).await;
        if operation == Operation::Renew && party == Party::Ours {
            let mut inner = self.lock();
            let stop = inner.stop_at_renewal.take().unwrap_or_default();
            inner.stopped_for += stop;
        }
        flight.ended = true;
        answer
    }
}

/// A request in flight, which must never be cancelled.
struct Flight<'a> {
    stage: &'a Stage,
    operation: Operation,
    ended: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let text = format!("a request was cancelled in flight: {}", self.operation);
            self.stage.accuse(text);
        }
    }
}

/// The fixture for one client: its store, its clock, its random bits.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) stage: Stage,
    pub(super) party: Party,
}

#[async_trait]
impl Store for Seat {
    fn describe(&self) -> String {
        "stage".into()
    }

    fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        hints.expiry_padding = Duration::ZERO;
        hints.check_delay = Duration::from_millis(100);
        hints.check_delay_max = Duration::from_millis(400);
        hints.max_polls_per_second = 100;
        hints
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let stage = &self.stage;
        let ours = self.party == Party::Ours;
        let renewal = ours.then(|| stage.depart(&write)).flatten();
        let answer = stage
            .pass(self.party, write.operation(), || {
                stage.apply(self.party, &write)
            })
            .await;
        stage.land(renewal);
        if let Ok(Reply {
            value: Outcome::Applied(record) | Outcome::Refused(record),
            ..
        }) = &answer
        {
            stage.shows(record.as_ref());
        }
        answer
    }

    async fn read(
        &self,
        key: &str,
        _consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let look = || self.stage.record(key);
        let answer = self.stage.pass(self.party, Operation::Read, look).await;
        if let Ok(reply) = &answer {
            self.stage.shows(reply.value.as_ref());
        }
        answer
    }

    /// Two pages: all records, and none.
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let look = || match after {
            None => {
                let inner = self.stage.lock();
                let of_prefix = |record: &&Record| record.key.starts_with(prefix);
                let records = inner.records.values().filter(of_prefix).cloned().map(Ok);
                Page::new(records.collect(), Some("the second".to_owned()))
            }
            Some(_) => Page::new(Vec::new(), None),
        };
        self.stage.pass(self.party, Operation::List, look).await
    }
}

#[async_trait]
impl Clock for Seat {
    fn elapsed(&self) -> Elapsed {
        self.stage.elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        let ahead_ms = match self.party {
            Party::Ours => self.stage.wall_ahead_ms,
            Party::Rival => 0,
        };
        let passed = i64::try_from(self.stage.elapsed().0.as_millis()).unwrap_or(i64::MAX);
        START_MS.saturating_add(passed).saturating_add(ahead_ms)
    }

    async fn sleep_until(&self, at: Elapsed) {
        self.stage.gate(self.party).await;
        self.stage.sleep_until(at).await;
        self.stage.gate(self.party).await;
    }
}

impl Random for Seat {
    fn attempt_bits(&self) -> [u8; 16] {
        let mut inner = self.stage.lock();
        inner.next += 1;
        u128::from(inner.next).to_be_bytes()
    }

    /// The middle: every run of a case is the same.
    fn fraction(&self) -> f64 {
        0.5
    }
}

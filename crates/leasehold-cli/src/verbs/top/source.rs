//! Reads of the store, as snapshots.
//!
//! It only reads. One read has a bound on its pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leasehold::clock::{Clock, SystemClock};
use leasehold::{ErrorKind, HolderInfo, LockClient, LockState, LockStatus, Policy};

use super::super::shared::entry::Entry;
use super::model::{Lock, Snapshot, State};
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::Place;

/// The most requests of one read: 2,000 locks of a file, 20 MB of a table.
const PAGES: usize = 20;

/// The store, which is opened when it is there.
#[derive(Debug)]
pub(super) struct Source {
    place: Place,
    prefix: String,
    messages: Arc<Messages>,
    client: Option<LockClient>,
}

impl Source {
    pub(super) fn new(place: Place, prefix: String, messages: &Arc<Messages>) -> Self {
        Self {
            place,
            prefix,
            messages: messages.clone(),
            client: None,
        }
    }

    /// Requests and read units so far, of the present client.
    pub(super) fn usage(&self) -> (f64, f64) {
        let usage = self.client.as_ref().map(LockClient::usage);
        let usage = usage.unwrap_or_default();
        (usage.requests as f64, usage.read_units)
    }

    /// Reads all locks that are held, or whose leases ended without a release.
    ///
    /// # Errors
    ///
    /// When the store cannot be opened or read.
    pub(super) async fn read(&mut self) -> Result<Snapshot, Failure> {
        let read = self.try_read().await;
        read.map_err(|failure| self.place.explain(failure))
    }

    async fn try_read(&mut self) -> Result<Snapshot, Failure> {
        let mut snapshot = Snapshot {
            at: wall(),
            locks: BTreeMap::new(),
            complete: true,
        };
        let client = match self.client.take() {
            Some(client) => client,
            // The first lock creates the file.
            None if self.place.is_empty()? => return Ok(snapshot),
            None => self.place.client(Policy::default(), &self.messages).await?,
        };
        let client = self.client.insert(client);
        let mut lister = client.list().prefix(&self.prefix).held();
        for _ in 0..PAGES {
            match lister.next_page().await {
                Ok(Some(page)) => {
                    snapshot
                        .locks
                        .extend(page.into_iter().map(|entry| match entry {
                            Ok(status) => (status.key().to_owned(), lock(&status)),
                            Err(error) => {
                                let name = error.key().unwrap_or_default().to_owned();
                                (name, malformed(error.message()))
                            }
                        }))
                }
                Ok(None) => {
                    snapshot.at = wall();
                    return Ok(snapshot);
                }
                Err(error) => {
                    // A file that was replaced is there again for a new client.
                    if error.kind() == ErrorKind::Configuration {
                        self.client = None;
                    }
                    return Err(error.into());
                }
            }
        }
        snapshot.at = wall();
        snapshot.complete = false;
        Ok(snapshot)
    }
}

/// This host's wall clock.
pub(super) fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(SystemClock.wall_unix_ms().unsigned_abs())
}

fn lock(status: &LockStatus) -> Lock {
    let holder = status.holder();
    // The holders of slots are shown together, and none of their tokens.
    let slots = Entry::of(status).slot_holders();
    let whole = holder.filter(|_| slots.is_none());
    Lock {
        state: match status.state() {
            LockState::Expired(_) => State::Expired,
            _ => State::Held,
        },
        holder: slots
            .unwrap_or_else(|| holder.map_or_else(String::new, |holder| holder.label().to_owned())),
        since: holder.and_then(HolderInfo::since),
        until: holder.map_or(UNIX_EPOCH, HolderInfo::until),
        lease: holder.and_then(HolderInfo::lease_duration),
        token: whole
            .and_then(HolderInfo::token)
            .map(leasehold::FencingToken::get),
        waiting: holder.and_then(HolderInfo::waiting),
    }
}

fn malformed(why: &str) -> Lock {
    Lock {
        state: State::Malformed,
        holder: why.to_owned(),
        since: None,
        until: UNIX_EPOCH,
        lease: None,
        token: None,
        waiting: None,
    }
}

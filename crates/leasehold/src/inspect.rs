//! Reads of locks that change nothing.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::done::Done;
use crate::error::Error;
use crate::holder::{HolderInfo, LastHolder};
use crate::shared::Core;
use crate::store::{Page, StoreError};
use leasehold_protocol::record::Record;
use leasehold_protocol::takeover::{Observation, Verdict};
use leasehold_protocol::write::Operation;

/// The status of one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockStatus {
    key: String,
    state: LockState,
    last: Option<LastHolder>,
    last_force: Option<String>,
    slots: Vec<HolderInfo>,
}

/// The state of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LockState {
    /// The key has no holder.
    Free,
    /// The key is held.
    Held(HolderInfo),
    /// The holder's lease has certainly ended without a release: the next acquire takes it over.
    Expired(HolderInfo),
    /// Its work is done, and is remembered.
    Done(Done),
}

impl LockStatus {
    /// Judges a record that was just read.
    pub(crate) fn of(core: &Core, key: &str, record: Option<&Record>) -> Self {
        let slots: Vec<Record> = record
            .iter()
            .flat_map(|record| record.held_slots())
            .collect();
        if slots.is_empty() {
            return Self::of_whole(core, key, record);
        }
        // Held if one of them is.
        let all = slots
            .iter()
            .map(|slot| Self::of_whole(core, key, Some(slot)));
        let mut all: Vec<LockStatus> = all.collect();
        let live = |status: &LockStatus| matches!(status.state, LockState::Held(_));
        let at = all.iter().position(live).unwrap_or(0);
        LockStatus {
            slots: slots.iter().map(HolderInfo::of).collect(),
            ..all.swap_remove(at)
        }
    }

    fn of_whole(core: &Core, key: &str, record: Option<&Record>) -> Self {
        let now = core.clocks.reading();
        let rules = core.policy.rules(&core.hints);
        let verdict = core.clocks.with_service(|service| {
            Observation::default().judge(None, record, now.elapsed, now, service, &rules)
        });
        let state = match (verdict, record) {
            (Verdict::Done { .. }, Some(record)) => match Done::of(record) {
                Some(done) => LockState::Done(done),
                None => LockState::Free,
            },
            // Whatever was done may be done again.
            (Verdict::TakeOver(..), Some(record)) if record.done.is_some() => LockState::Free,
            (Verdict::Wait { .. }, Some(record)) => LockState::Held(HolderInfo::of(record)),
            (Verdict::TakeOver(..), Some(record)) => LockState::Expired(HolderInfo::of(record)),
            _ => LockState::Free,
        };
        LockStatus {
            key: key.to_owned(),
            last: match state {
                LockState::Free => record.and_then(LastHolder::of),
                _ => None,
            },
            state,
            last_force: record.and_then(|record| record.last_force.clone()),
            slots: Vec::new(),
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether and by whom it is held.
    pub fn state(&self) -> &LockState {
        &self.state
    }

    /// The holder, or the last holder if its lease ended without a release.
    pub fn holder(&self) -> Option<&HolderInfo> {
        match &self.state {
            LockState::Free | LockState::Done(_) => None,
            LockState::Held(held) | LockState::Expired(held) => Some(held),
        }
    }

    /// The holders of its [slots](crate::LockClient::slots), in the order of their grants, dead ones too. Empty where
    /// the whole key is held, or nothing.
    pub fn slots(&self) -> &[HolderInfo] {
        &self.slots
    }

    /// The last holder of a free key. `None` while it is held, without a record, and after a release by a client
    /// that keeps no label.
    pub fn last_holder(&self) -> Option<&LastHolder> {
        self.last.as_ref()
    }

    /// Who ended a grant of the key by force last, its token, and why. See
    /// [`force_release`](crate::LockClient::force_release).
    pub fn last_force(&self) -> Option<&str> {
        self.last_force.as_deref()
    }
}

impl fmt::Display for LockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            LockState::Free => write!(f, "`{}` is free", self.key),
            LockState::Done(done) => write!(f, "{done}"),
            LockState::Held(held) => write!(f, "{held}"),
            LockState::Expired(held) => {
                write!(
                    f,
                    "`{}` was held by {} and has expired",
                    self.key,
                    held.label()
                )
            }
        }
    }
}

/// Lists the locks of a store: page by page, all at once, or as a [`Stream`] of entries. It is not a
/// snapshot.
///
/// An entry is the status of a key, or the error of an unclear record
/// ([`Malformed`](crate::ErrorKind::Malformed)). A released key is listed as free while its record
/// exists.
///
/// The stream also yields a failure of the store as an item. The next poll reads the same page again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), leasehold::Error> {
/// use leasehold::{LockClient, store::memory::MemoryStore};
///
/// let locks = LockClient::new(MemoryStore::new());
/// let lease = locks.acquire("customer/42").await?;
/// for entry in locks.list().held().read_all().await? {
///     println!("{}", entry?);
/// }
/// # lease.release().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is read until a page is requested"]
pub struct Lister {
    core: Arc<Core>,
    prefix: Option<Arc<str>>,
    held: bool,
    after: Option<String>,
    done: bool,
    /// The read of a page in flight. It is kept between polls, so no page is read twice.
    reading: Option<Reading>,
    /// Entries that were read and not returned yet.
    read: VecDeque<Entry>,
}

type Entry = Result<LockStatus, Error>;
type Reading = Pin<Box<dyn Future<Output = Result<Page, StoreError>> + Send>>;

impl fmt::Debug for Lister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lister")
            .field("store", &self.core)
            .field("prefix", &self.prefix)
            .field("held", &self.held)
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Lister {
    pub(crate) fn new(core: Arc<Core>, prefix: Option<Arc<str>>) -> Self {
        Lister {
            core,
            prefix,
            held: false,
            after: None,
            done: false,
            reading: None,
            read: VecDeque::new(),
        }
    }

    /// Only keys that begin with `prefix`, after the client's own prefix. SQLite and memory read only these.
    /// DynamoDB reads the whole table, unless its sort key is a part of the key and `prefix` has the
    /// separator ([`TableShape::sort_key_after`](crate::store::dynamodb::TableShape::sort_key_after)): then it reads one partition.
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        let before = self.prefix.as_deref().unwrap_or_default();
        self.prefix = Some([before, prefix.as_ref()].concat().into());
        self
    }

    /// Only keys that are held, or whose holder's lease has ended without a release.
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    fn shows(&self, entry: &Entry) -> bool {
        let (key, free) = match entry {
            Ok(status) => (status.key(), status.holder().is_none()),
            Err(error) => (error.key().unwrap_or_default(), false),
        };
        let prefix = self.prefix.as_deref().unwrap_or_default();
        key.starts_with(prefix) && !(self.held && free)
    }

    /// The next page, which may be empty; `None` at the end.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind). The same page is read again by the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the same page.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Result<LockStatus, Error>>>, Error> {
        if self.read.is_empty() && !poll_fn(|context| self.poll_page(context)).await? {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.read).into()))
    }

    /// All remaining entries, in memory at once.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind). The next call goes on with the failed page, and its result
    /// includes the entries read before.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the result of the next call includes the entries read before.
    pub async fn read_all(&mut self) -> Result<Vec<Result<LockStatus, Error>>, Error> {
        while poll_fn(|context| self.poll_page(context)).await? {}
        Ok(std::mem::take(&mut self.read).into())
    }

    /// Adds the next page to the entries read; `false` at the end.
    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if self.done {
            return Poll::Ready(Ok(false));
        }
        if self.reading.is_none() {
            self.core.check_clock(None)?;
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (core, prefix, after) =
                (self.core.clone(), self.prefix.clone(), self.after.clone());
            Box::pin(async move { core.list_retrying(prefix, after).await })
        });
        let page = ready!(reading.as_mut().poll(context));
        self.reading = None;
        let page = page.map_err(|error| error.into_error(Operation::List, None));
        let page = self.core.meter.counted(page)?;
        self.done = page.next.is_none();
        self.after = page.next;
        for entry in page.records {
            let entry = match entry {
                Ok(record) => Ok(LockStatus::of(&self.core, &record.key, Some(&record))),
                Err(malformed) => {
                    let key = malformed.key.clone();
                    Err(StoreError::from(malformed).into_error(Operation::List, Some(&key)))
                }
            };
            if self.shows(&entry) {
                self.read.push_back(entry);
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl Stream for Lister {
    type Item = Result<LockStatus, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                return Poll::Ready(Some(entry));
            }
            match ready!(self.poll_page(context)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

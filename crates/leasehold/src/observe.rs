//! Looking at locks without touching them.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::exchange::Core;
use crate::held::Held;
use crate::protocol::record::Record;
use crate::protocol::takeover::{Observation, Verdict};
use crate::protocol::write::Operation;
use crate::store::StoreError;

/// What is known about one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockStatus {
    key: String,
    state: LockState,
    last_token: Option<u64>,
}

/// The state of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LockState {
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held(Held),
    /// Its holder's lease has certainly ended without a release: the next who asks gets it.
    Expired(Held),
}

impl LockStatus {
    /// Judges a record that was just read.
    pub(crate) fn of(core: &Core, key: &str, record: Option<&Record>) -> Self {
        let now = core.clock.reading();
        let rules = core.policy.rules(&core.hints);
        let verdict = core.with_service(|service| {
            Observation::default().judge(record, now.elapsed, now, service, &rules)
        });
        let state = match (verdict, record) {
            (Verdict::Wait { .. }, Some(record)) => LockState::Held(Held::of(record)),
            (Verdict::TakeOver(_), Some(record)) => LockState::Expired(Held::of(record)),
            _ => LockState::Free,
        };
        LockStatus {
            key: key.to_owned(),
            state,
            last_token: record.and_then(Record::token),
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

    /// Who holds it, or held it last without releasing it.
    pub fn holder(&self) -> Option<&Held> {
        match &self.state {
            LockState::Free => None,
            LockState::Held(held) | LockState::Expired(held) => Some(held),
        }
    }

    /// The stored token of the last grant. The next one's is larger.
    pub fn last_stored_token(&self) -> Option<u64> {
        self.last_token
    }
}

impl fmt::Display for LockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            LockState::Free => write!(f, "`{}` is free", self.key),
            LockState::Held(held) => write!(f, "{held}"),
            LockState::Expired(held) => {
                write!(
                    f,
                    "`{}` was held by {} and has expired",
                    self.key,
                    held.holder()
                )
            }
        }
    }
}

/// Lists the locks of a store, page by page. Not a snapshot.
#[derive(Debug)]
pub struct Lister {
    core: Arc<Core>,
    prefix: Option<Arc<str>>,
    held: bool,
    after: Option<String>,
    done: bool,
}

impl Lister {
    pub(crate) fn new(core: Arc<Core>, prefix: Option<Arc<str>>) -> Self {
        Lister {
            core,
            prefix,
            held: false,
            after: None,
            done: false,
        }
    }

    /// Only keys that begin with this, after the client's own prefix. The store is read whole all the same.
    #[must_use]
    pub fn prefix(mut self, prefix: impl AsRef<str>) -> Self {
        let before = self.prefix.as_deref().unwrap_or_default();
        self.prefix = Some([before, prefix.as_ref()].concat().into());
        self
    }

    /// Only keys that are held, or whose holder's lease has ended without a release.
    #[must_use]
    pub fn held(mut self) -> Self {
        self.held = true;
        self
    }

    fn shows(&self, entry: &Result<LockStatus, Error>) -> bool {
        let (key, free) = match entry {
            Ok(status) => (status.key(), status.state == LockState::Free),
            Err(error) => (error.key().unwrap_or_default(), false),
        };
        let prefix = self.prefix.as_deref().unwrap_or_default();
        key.starts_with(prefix) && !(self.held && free)
    }

    /// The next page, which may be empty; `None` at the end. Released keys are listed as free for as long as their
    /// records are kept. A record that is not readable is an entry of its own.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind). The same page is read again by the next call.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the same page is read again by the next call.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Result<LockStatus, Error>>>, Error> {
        if self.done {
            return Ok(None);
        }
        let page = self
            .core
            .list_retrying(self.after.clone())
            .await
            .map_err(|error| error.into_error(Operation::List, None))?;
        self.done = page.next.is_none();
        self.after = page.next;
        let judge = |entry: Result<Record, _>| match entry {
            Ok(record) => Ok(LockStatus::of(&self.core, &record.key, Some(&record))),
            Err(malformed) => {
                let malformed: crate::protocol::record::Malformed = malformed;
                let key = malformed.key.clone();
                Err(StoreError::from(malformed).into_error(Operation::List, Some(&key)))
            }
        };
        let entries = page.records.into_iter().map(judge);
        Ok(Some(entries.filter(|entry| self.shows(entry)).collect()))
    }
}

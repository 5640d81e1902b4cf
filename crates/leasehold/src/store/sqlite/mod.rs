//! Locks in a SQLite file, for the processes of one machine.
//!
//! This store needs no cloud. All processes that use the file run on one kernel, with two
//! consequences:
//!
//! - **Time is exact.** Service time is the kernel's clock since the boot, the same for every process
//!   and container. Nobody can set it. A reboot proves that every earlier holder is dead.
//! - **Death is visible** on Linux. A grant that is bound to its process ends with it. A contender sees at once
//!   that the holder was killed, and does not wait for its lease.
//!
//! Invariants: S2 rests on SQLite's transactions (`synchronous=FULL`) and on [`apply`] in them, not
//! on a clock. A living process is never taken for dead. If that is uncertain (another pid namespace, a
//! hidden boot id), the lease decides.
//!
//! | file | is for |
//! |---|---|
//! | `worker` | the thread that owns the connection |
//! | `database` | the connection: opening, transactions, what a dead process leaves out |
//! | `bound` | places and slots with their processes |
//! | `beside` | the files that SQLite keeps beside the database |
//! | `time` | service time |
//! | `schema` | tables and rows |
//! | `sweep` | deletes records past their retention |
//! | `busy` | waits for other processes |
//! | `boot`, `process` | which boot this is; which process is dead |
//! | `place` | which file systems are suitable |
//! | `files`, `ofd` | the open files, and the locks that protect them |
//! | `error` | the meaning of SQLite's errors |
//!
//! [`apply`]: leasehold_protocol::write::apply

mod beside;
mod boot;
mod bound;
mod busy;
mod database;
mod error;
mod files;
mod ofd;
mod place;
mod process;
mod schema;
mod sweep;
mod time;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::database::Database;
use self::worker::{Answer, Desk, Job, PATIENCE};
use super::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind};
use crate::clock::{Clock, SystemClock};
use crate::error::Effect;
use crate::key::Key;
use async_trait::async_trait;
use leasehold_protocol::record::Record;
use leasehold_protocol::write::Write;

/// Lock records in a SQLite file. Clones share one connection and one thread, which ends when the last
/// clone is dropped. Calls need a tokio runtime with timers, and end within 10 s, even if the disk
/// does not answer.
///
/// Any program, this one included, may read the file and the two files beside it, for example with
/// `sqlite3`. Do not write to them, and do not move, link or delete them while they are in use. Do not
/// use a store after a `fork` that was opened before it. The store refuses such uses if it notices
/// them.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    desk: Desk,
    opened_by: u32,
}

impl SqliteStore {
    /// Opens a lock file, and creates it if there is none. Its directory must exist. It takes a few
    /// milliseconds, or up to 5 s while another program has the file locked. It needs no runtime.
    ///
    /// # Errors
    ///
    /// - [`StoreErrorKind::Configuration`]: the path is empty, a directory, in a missing directory, or on
    ///   a file system that machines share; the file is no database, belongs to another program, is
    ///   damaged, or was written by a newer leasehold; the disk is full.
    /// - [`StoreErrorKind::AccessDenied`]: the file or its directory may not be written.
    /// - [`StoreErrorKind::Unavailable`]: the file stayed locked, or could not be read.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteStore, StoreError> {
        let path = place::checked(path.as_ref())?;
        let database = Database::open(&path, SystemClock.elapsed().plus(PATIENCE))?;
        let desk = worker::start(database, &path)?;
        Ok(SqliteStore {
            inner: Arc::new(Inner {
                path,
                desk,
                opened_by: std::process::id(),
            }),
        })
    }

    /// Checks whether a lock file can be at a path, without opening or creating it: the path, its
    /// directory, its file system, hard links and bind mounts. Rights and contents are not checked. It returns the
    /// absolute path. It blocks while the disk does not answer.
    ///
    /// # Errors
    ///
    /// Those of [`SqliteStore::open`] that concern the place.
    ///
    /// # Examples
    ///
    /// ```
    /// use leasehold::store::StoreErrorKind;
    /// use leasehold::store::sqlite::SqliteStore;
    ///
    /// let refused = SqliteStore::check_place("/no/such/directory/locks.db").unwrap_err();
    /// assert_eq!(refused.kind, StoreErrorKind::Configuration);
    /// ```
    pub fn check_place(path: impl AsRef<Path>) -> Result<PathBuf, StoreError> {
        let path = place::checked(path.as_ref())?;
        files::check_names(&path)?;
        Ok(path)
    }

    /// The file, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<Reply<T>, StoreError> {
        let file = self.inner.path.display();
        // A forked child does not have the thread.
        if std::process::id() != self.inner.opened_by {
            return Err(error::configuration(format!(
                "the lock file `{file}` was opened before this process was forked"
            ))
            .with_hint("open the store after the fork"));
        }
        self.inner.desk.ask(job).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn describe(&self) -> String {
        format!("sqlite file `{}`", self.inner.path.display())
    }

    fn hints(&self) -> Hints {
        Hints {
            // F# clients do not use files, and all processes share one clock.
            expiry_padding: Duration::ZERO,
            // A poll takes some 20 microseconds. A delay of 1 ms notices a release in about the time of one cycle,
            // and 20 ms keep a hundred waiters below 5000 polls a second.
            check_delay: Duration::from_millis(1),
            check_delay_max: Duration::from_millis(20),
            // One wait for a key with many grants polls 1400 times a second, some 3 % of a core.
            max_polls_per_second: 2_000,
        }
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        check_key(write.key())?;
        self.ask(|answer| Job::Write(Box::new(write), answer)).await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        check_key(key)?;
        // Every read is consistent. The units only report the requested consistency.
        let units = match consistency {
            Consistency::Eventual => 0.5,
            Consistency::Strong => 1.0,
        };
        let key = key.to_owned();
        self.ask(|answer| Job::Read { key, units, answer }).await
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        let prefix = prefix.to_owned();
        self.ask(|answer| Job::List {
            prefix,
            after,
            answer,
        })
        .await
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if (1..=Key::MAX_BYTES).contains(&key.len()) {
        return Ok(());
    }
    let message = format!(
        "a key has 1 to {} bytes, this one has {}",
        Key::MAX_BYTES,
        key.len()
    );
    Err(StoreError::new(
        StoreErrorKind::InvalidInput,
        Effect::NotApplied,
        message,
    ))
}

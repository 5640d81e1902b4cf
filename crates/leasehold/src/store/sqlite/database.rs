//! One connection to a lock file: opening it, and the three calls of a store.
//!
//! It lives on the store's own thread. Only [`apply`] decides what a write means. Invariants:
//!
//! - A write reads, decides and writes in one `BEGIN IMMEDIATE` transaction, which is synced to the disk
//!   before the answer.
//! - No token is seeded at or below one of a deleted record (S2).
//! - A file that was moved or deleted while it is open takes no more writes: new processes would lock
//!   another file (S1).

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::beside::beside;
use super::boot::Boot;
use super::bound::Bound;
use super::busy::{Jitter, Limit};
use super::error::{
    classify, classify_commit, configuration, denied, is_busy, is_damaged, locked, of_io,
};
use super::files::{self, FileId, Gate, Held};
use super::process::{Alive, Identity};
use super::schema::{
    self, Contents, DELETE, Problem, SELECT_AFTER, SELECT_FROM, SELECT_ONE, Stored, lease_ms,
};
use super::sweep;
use super::time::{Time, time_of};
use crate::store::{Outcome, Page, Reply, StoreError};
use crate::usage::Units;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Malformed, Record};
use leasehold_protocol::slot_write::{Next, SlotWrite};
use leasehold_protocol::slots::Slot;
use leasehold_protocol::time::{Elapsed, ServiceTime, Stamp};
use leasehold_protocol::write::{Operation, Write, apply};

/// Records in a page of a listing.
const PAGE: u32 = 100;
/// The length of the write-ahead log, in pages, at which it is copied into the file. A write adds about
/// one page.
const LOG_PAGES: u32 = 64;
/// The same in bytes: a page of 4096 and its header.
const LOG_BYTES: u32 = LOG_PAGES * (4096 + 24);

/// An open lock file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    limit: Limit,
    time: Option<Time>,
    process: Option<Identity>,
    alive: Alive,
    wal: FileId,
    /// Dropped after the connection, so that its locks outlive the connection.
    held: Held,
}

impl Database {
    /// Opens a file, and makes it a lock file if it is empty or missing. It waits until `until` for other
    /// processes that do the same.
    pub(super) fn open(path: &Path, until: Elapsed) -> Result<Database, StoreError> {
        let boot = Boot::current();
        let limit = Limit::new();
        limit.set(until);
        let mut jitter = Jitter::new();
        loop {
            let last = match Self::try_open(path, &limit, boot.as_ref()) {
                Ok(database) => return Ok(database),
                Err(Problem::Fatal(error)) => return Err(error),
                // The switch to the write-ahead log and its recovery report "locked" without a call
                // of the busy handler.
                Err(Problem::Sqlite(error)) if is_transient(&error) => classify(path, error),
                Err(Problem::Sqlite(error)) => return Err(classify(path, error)),
                Err(Problem::Busy(error)) => error,
            };
            if !limit.pause(&mut jitter) {
                return Err(last);
            }
        }
    }

    fn try_open(path: &Path, limit: &Limit, boot: Option<&Boot>) -> Result<Database, Problem> {
        // Held to the end: this process may lose the locks of recovery and checkpoints.
        let (held, _gate) = files::enter(path, |real| prepare(path, real, boot.is_some()))?;
        let mut connection = connect(path, held.real())?;
        if schema::contents(&connection, path)? == Contents::Empty {
            // Another program changed the file between the two connections.
            return Err(Problem::Busy(locked(path)));
        }
        // A short process opens the file, writes twice and ends. Emptying the log each time costs more than
        // both writes. A log of the default 1000 pages is read again by every process that starts first.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        let log = beside(held.real(), "-wal");
        // SQLite restarts the log at the second write of a process at the earliest. If each process writes
        // once, the log would only grow.
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > u64::from(2 * LOG_BYTES)) {
            // If another process is in the way, it does this later.
            let _copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
        let time = time_of(&mut connection, path, boot)?;
        Ok(Database {
            // Without service time the boot is unknown, and without the boot a pid proves nothing.
            process: time.as_ref().and_then(|_| Identity::of_this_process()),
            alive: Alive::default(),
            time,
            wal: FileId::at(&log).map_err(|error| of_io(path, error))?,
            connection,
            held,
            path: path.to_owned(),
            limit: limit.clone(),
        })
    }

    /// Carries out a write. It waits for the file until `until`.
    pub(super) fn write(
        &mut self,
        write: Write,
        until: Elapsed,
    ) -> Result<Reply<Outcome>, StoreError> {
        self.limit.set(until);
        let acquires = matches!(write.operation(), Operation::Acquire | Operation::TakeOver);
        self.check_place(acquires)?;
        let write = in_whole_milliseconds(write);
        // The refusal of an acquire needs no lock: it is true at the moment of this read. The
        // refusal of a renewal or a release ends a grant, and this process may have lost the locks of
        // its reads.
        let current = self.fetch(write.key())?;
        let outcome = match apply(current.as_ref().map(|s| &s.record), &write) {
            Err(_) if acquires => Outcome::Refused(current.map(|s| self.judged(s))),
            _ => self.write_locked(write)?,
        };
        Ok(self.reply(outcome, 1.0, 0.0))
    }

    fn write_locked(&mut self, mut write: Write) -> Result<Outcome, StoreError> {
        // SQLite's own write lock belongs to the process, and may be lost during a transaction.
        let _gate = self.gate()?;
        let path = self.path.clone();
        let now = self.time.as_ref().map(Time::now);
        let failed = |problem| explained(&path, problem);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| classify(&path, e))?;
        // Not of all of `self`, whose connection the transaction has.
        let living = Living::of(self.time.as_ref(), self.process, &self.alive);
        let current = fetch(&transaction, write.key(), living).map_err(failed)?;
        if current.is_none()
            && raise_seed(&transaction, &mut write).map_err(|e| classify(&path, e))?
        {
            sweep::step(&transaction, now).map_err(|e| classify(&path, e))?;
        }
        match apply(current.as_ref().map(|s| &s.record), &write) {
            // Dropping the transaction rolls it back.
            Err(_) => {
                drop(transaction);
                Ok(Outcome::Refused(current.map(|s| self.judged(s))))
            }
            Ok(record) => {
                let done = match (&record, &current) {
                    (Some(record), _) => {
                        let bound = bindings(&write, record, current.as_ref(), living);
                        bound.write(&transaction)
                    }
                    (None, Some(current)) => delete(&transaction, &current.record),
                    (None, None) => Ok(()),
                };
                done.map_err(failed)?;
                transaction
                    .commit()
                    .map_err(|e| classify_commit(&path, e))?;
                Ok(Outcome::Applied(record))
            }
        }
    }

    /// Reads a record.
    pub(super) fn read(
        &mut self,
        key: &str,
        units: f64,
        until: Elapsed,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.limit.set(until);
        self.check_place(false)?;
        let record = self.fetch(key)?.map(|s| self.judged(s));
        Ok(self.reply(record, 0.0, units))
    }

    /// Reads the page of records after a key, of the keys that begin with this.
    pub(super) fn list(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        until: Elapsed,
    ) -> Result<Reply<Page>, StoreError> {
        self.limit.set(until);
        self.check_place(false)?;
        let found =
            self.reading(|connection| Ok(page(connection, prefix, after, self.living())?))?;
        let more = found.len() > PAGE as usize;
        let records: Vec<_> = found
            .into_iter()
            .take(PAGE as usize)
            .map(|stored| stored.map(|s| self.judged(s)))
            .collect();
        let next = records.last().filter(|_| more).map(|last| match last {
            Ok(record) => record.key.clone(),
            Err(malformed) => malformed.key.clone(),
        });
        Ok(self.reply(Page { records, next }, 0.0, 0.5))
    }

    fn fetch(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        self.reading(|connection| fetch(connection, key, self.living()))
    }

    /// Which processes may be alive.
    fn living(&self) -> Living<'_> {
        Living::of(self.time.as_ref(), self.process, &self.alive)
    }

    /// The record, and whether its holder is certainly dead.
    fn judged(&self, stored: Stored) -> Record {
        let holder_is_dead = stored.record.owner.is_some()
            && self
                .living()
                .is_dead(stored.boot.as_deref(), stored.process);
        Record {
            holder_is_dead,
            ..stored.record
        }
    }

    fn check_place(&self, acquires: bool) -> Result<(), StoreError> {
        self.held.check(&self.path, self.wal, acquires)
    }

    /// Waits until no other leasehold process writes.
    fn gate(&self) -> Result<Gate, StoreError> {
        let mut jitter = Jitter::new();
        loop {
            let gate = self.held.gate().map_err(|error| of_io(&self.path, error))?;
            if let Some(gate) = gate {
                return Ok(gate);
            }
            if !self.limit.pause(&mut jitter) {
                return Err(locked(&self.path));
            }
        }
    }

    /// Reads, and repeats a damaged read behind the gate: if this process has lost SQLite's locks, pages
    /// may have changed meanwhile.
    fn reading<T>(
        &self,
        read: impl Fn(&Connection) -> Result<T, Problem>,
    ) -> Result<T, StoreError> {
        let problem = match read(&self.connection) {
            Ok(value) => return Ok(value),
            Err(Problem::Sqlite(error)) if !is_damaged(&error) => {
                return Err(classify(&self.path, error));
            }
            Err(problem) => problem,
        };
        tracing::debug!(path = %self.path.display(), ?problem, "repeating a read");
        let _gate = self.gate()?;
        read(&self.connection).map_err(|problem| explained(&self.path, problem))
    }

    fn reply<T>(&self, value: T, write: f64, read: f64) -> Reply<T> {
        Reply {
            value,
            stamp: self.time.as_ref().map(|time| Stamp::Host(time.now())),
            units: Units { write, read },
        }
    }
}

/// The record that a write makes, with the processes that its grants and its places are bound to. Only the process
/// that acquires or joins binds; a renewal keeps that or takes it away. A grant that is adopted by another process
/// may have two guards, and the death of one says nothing of the other.
fn bindings(write: &Write, record: &Record, before: Option<&Stored>, now: Living<'_>) -> Stored {
    let boot = now.boot.map(ToOwned::to_owned);
    let waited: &[Bound<Place>] = before.map_or(&[], |stored| &stored.waiting);
    let of = |place: &Place| waited.iter().find(|bound| bound.of == *place);
    let waits_in = |attempt| waited.iter().find(|bound| bound.of.attempt() == attempt);
    let process = before.and_then(|stored| stored.process);
    let this = |is_bound| now.this.filter(|_| is_bound);
    let (process, granted_in) = match write {
        Write::Acquire(grant)
        | Write::TakeOver(grant, ..)
        | Write::Slot(SlotWrite::Claim(grant, _)) => (this(grant.bound_to_process), boot.clone()),
        Write::Renew {
            bound_to_process, ..
        } => (this(*bound_to_process && process == now.this), boot.clone()),
        Write::HandOver { next, .. }
        | Write::Slot(SlotWrite::Exit {
            next: Next::Whole(next, _),
            ..
        }) => (of(next).and_then(|bound| bound.process), boot.clone()),
        Write::Join { .. } | Write::Leave { .. } | Write::Slot(_) if record.owner.is_some() => {
            (process, before.and_then(|stored| stored.boot.clone()))
        }
        // What is done outlives its process and its boot.
        _ => (None, None),
    };
    let slot = |slot: &Slot| {
        let had: &[Bound<Slot>] = before.map_or(&[], |stored| &stored.slots);
        let had = had.iter().find(|bound| bound.of.attempt == slot.attempt);
        let (boot, process) = match (write, had) {
            (
                Write::Slot(SlotWrite::Extend {
                    slot: ours,
                    bound_to_process,
                    ..
                }),
                Some(had),
            ) if ours.attempt == slot.attempt => (
                boot.clone(),
                this(*bound_to_process && had.process == now.this),
            ),
            (_, Some(had)) => (had.boot.clone(), had.process),
            (Write::Slot(SlotWrite::Enter(entry)), None) => {
                (boot.clone(), this(entry.grant.bound_to_process))
            }
            (_, None) => (
                boot.clone(),
                waits_in(slot.attempt).and_then(|bound| bound.process),
            ),
        };
        Bound {
            of: slot.clone(),
            boot,
            process,
        }
    };
    let joins = |place: &Place| Bound {
        of: *place,
        boot: boot.clone(),
        process: this(matches!(
            write,
            Write::Join {
                bound_to_process: true,
                ..
            }
        )),
    };
    let places = record.queue.iter();
    let slots = record.slots.iter().flat_map(|slots| &slots.held);
    Stored {
        record: record.clone(),
        boot: granted_in,
        process,
        waiting: places
            .map(|place| of(place).cloned().unwrap_or_else(|| joins(place)))
            .collect(),
        slots: slots.map(slot).collect(),
    }
}

fn explained(path: &Path, problem: Problem) -> StoreError {
    match problem {
        Problem::Fatal(error) | Problem::Busy(error) => error,
        Problem::Sqlite(error) => classify(path, error),
    }
}

fn connect(path: &Path, real: &Path) -> Result<Connection, Problem> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(real, flags)?;
    Limit::attach(&mut connection)?;
    // SQLite also opens a file that may only be read.
    if connection.is_readonly("main")? {
        let message = format!("the lock file `{}` cannot be written", path.display());
        return Err(Problem::Fatal(denied(message)));
    }
    // With less than FULL a power cut could hand a token out twice.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On Apple systems fsync alone does not reach the disk.
    connection.pragma_update(None, "fullfsync", true)?;
    Ok(connection)
}

/// Makes a lock file with a write-ahead log from an empty file, and does not touch the database of
/// another program. The end of the connection copies the log into the file, so that the header has the
/// marks.
fn prepare(path: &Path, real: &Path, clock_is_known: bool) -> Result<(), Problem> {
    let mut connection = connect(path, real)?;
    if schema::contents(&connection, path)? == Contents::Empty {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        schema::create(&transaction, clock_is_known)?;
        transaction.commit()?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let message = format!(
            "the file system of `{}` does not support SQLite's write-ahead log",
            path.display()
        );
        return Err(Problem::Fatal(
            configuration(message).with_hint("put the lock file on a local disk of this machine"),
        ));
    }
    // If others have the file open, the end of the connection copies nothing.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(())
}

fn is_transient(error: &rusqlite::Error) -> bool {
    let protocol =
        error.sqlite_error_code() == Some(rusqlite::ErrorCode::FileLockingProtocolFailed);
    is_busy(error) || protocol
}

/// What tells a dead process from one that may be alive.
#[derive(Clone, Copy)]
struct Living<'a> {
    boot: Option<&'a str>,
    this: Option<Identity>,
    alive: &'a Alive,
}

impl<'a> Living<'a> {
    fn of(time: Option<&'a Time>, this: Option<Identity>, alive: &'a Alive) -> Self {
        Living {
            boot: time.map(|time| time.boot.id()),
            this,
            alive,
        }
    }

    fn is_dead(&self, boot: Option<&str>, process: Option<Identity>) -> bool {
        match (boot, self.boot) {
            (Some(boot), Some(this)) if boot != this => true,
            (Some(_), Some(_)) => match (process, self.this) {
                (Some(process), Some(this)) => self.alive.is_dead(&process, &this),
                _ => false,
            },
            _ => false,
        }
    }

    fn has_lost<T>(&self, bound: &Bound<T>) -> bool {
        self.is_dead(bound.boot.as_deref(), bound.process)
    }

    /// The record without the places and slots of dead processes.
    fn only(&self, mut stored: Stored) -> Stored {
        if !stored.waiting.is_empty() {
            stored.waiting.retain(|place| !self.has_lost(place));
            let places = stored.waiting.iter().map(|place| place.of);
            stored.record.queue = places.collect();
        }
        if let Some(slots) = &mut stored.record.slots {
            stored.slots.retain(|slot| !self.has_lost(slot));
            slots.held = stored.slots.iter().map(|slot| slot.of.clone()).collect();
        }
        stored
    }
}

fn fetch(
    connection: &Connection,
    key: &str,
    living: Living<'_>,
) -> Result<Option<Stored>, Problem> {
    let mut statement = connection.prepare_cached(SELECT_ONE)?;
    let stored = statement
        .query_row([key], |row| Ok(Stored::read(row)))
        .optional()?;
    stored
        .transpose()
        .map(|stored| stored.map(|stored| living.only(stored)))
        .map_err(|malformed| Problem::Fatal(malformed.into()))
}

fn page(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    living: Living<'_>,
) -> rusqlite::Result<Vec<Result<Stored, Malformed>>> {
    let (select, from) = match after {
        Some(after) => (SELECT_AFTER, after),
        None => (SELECT_FROM, prefix),
    };
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query((from, PAGE + 1))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // No client can use a key that is no string.
        let Ok(key) = row.get_ref(0)?.as_str() else {
            continue;
        };
        if !key.starts_with(prefix) {
            break;
        }
        found.push(Stored::read(row).map(|stored| living.only(stored)));
    }
    Ok(found)
}

/// S2: tokens stay above those of a deleted record, even if the clock went back.
fn raise_seed(connection: &Connection, write: &mut Write) -> rusqlite::Result<bool> {
    let floor = || {
        let mut floor =
            connection.prepare_cached("SELECT value FROM meta WHERE name = 'token_floor'")?;
        floor.query_row([], |row| row.get::<_, i64>(0))
    };
    match write {
        Write::Acquire(grant) => grant.seed = grant.seed.max(ServiceTime(floor()?)),
        Write::Slot(SlotWrite::Enter(entry)) => {
            let floor = u64::try_from(floor()?).unwrap_or(0);
            entry.token = entry.token.max(floor.saturating_add(1));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn delete(connection: &Connection, record: &Record) -> Result<(), Problem> {
    // The impossible token of a withdrawn first grant was never used, and must not become the floor
    // of other tokens.
    if record.native.is_some_and(|native| native.renew_count > 1) {
        schema::raise_floor(connection, record.token().unwrap_or(0))?;
    }
    connection.prepare_cached(DELETE)?.execute([&record.key])?;
    Ok(())
}

/// The columns hold whole milliseconds, so the write does, too.
fn in_whole_milliseconds(mut write: Write) -> Write {
    if let Write::Acquire(grant)
    | Write::TakeOver(grant, ..)
    | Write::Slot(SlotWrite::Claim(grant, _)) = &mut write
    {
        grant.lease = std::time::Duration::from_millis(lease_ms(grant.lease));
    }
    write
}

#[cfg(test)]
mod tests;

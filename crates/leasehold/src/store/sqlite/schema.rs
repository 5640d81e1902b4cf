//! The tables of a lock file, and the way between their rows and [`Record`]s.
//!
//! `STRICT` types and checks refuse values that cannot be read back. Other values of other programs are
//! reported as malformed.
//!
//! Invariant: the transaction that makes the tables also writes the marks in the file's header
//! (`application_id`, `user_version`). So a file is empty or complete, and the database of another
//! program is never changed.
//!
//! | table | row |
//! |---|---|
//! | `locks` | one key; the columns after `data` tell who holds it, as far as the machine knows; `queue` has who waits, and `done_ms`, `failed`, `input` what is remembered of a run, `slots` who holds one |
//! | `clock` | one boot: what to add to its elapsed clock to get service time |
//! | `meta`  | `clock`: whether service time is used at all; `token_floor`: no token seeded from here on is at or below it; `sweep`: the last key that was looked at for deletion |

use std::path::Path;
use std::time::Duration;

use rusqlite::types::FromSql;
use rusqlite::{CachedStatement, Connection, Row, params};

use super::bound::{self, Bound};
use super::error::configuration;
use super::process::Identity;
use crate::error::Effect;
use crate::store::{StoreError, StoreErrorKind};
use leasehold_protocol::done::Done;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Malformed, Native, Record, attribute};
use leasehold_protocol::slots::{Slot, Slots};
use leasehold_protocol::time::ServiceTime;

/// The version of the tables below.
const VERSION: i64 = 5;
/// "leas" in ASCII.
pub(super) const APPLICATION: i64 = 0x6c65_6173;

const TABLES: &str = "
CREATE TABLE locks (
    key TEXT NOT NULL PRIMARY KEY CHECK (octet_length(key) BETWEEN 1 AND 1024),
    owner TEXT,
    expires_ms INTEGER NOT NULL,
    token INTEGER NOT NULL CHECK (token >= 0),
    lease_ms INTEGER NOT NULL CHECK (lease_ms >= 0),
    renew_count INTEGER NOT NULL CHECK (renew_count >= 0),
    ttl_seconds INTEGER,
    holder TEXT,
    acquired_ms INTEGER,
    data BLOB,
    boot_id TEXT,
    pid INTEGER,
    pid_started INTEGER,
    pid_namespace INTEGER,
    time_namespace INTEGER,
    queue BLOB,
    held_ms INTEGER,
    done_ms INTEGER,
    failed INTEGER CHECK (failed IN (0, 1)),
    input BLOB,
    slot_limit INTEGER,
    slots BLOB,
    last_force TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE clock (
    boot_id TEXT NOT NULL PRIMARY KEY,
    epoch_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
";

macro_rules! columns {
    () => {
        "key, owner, expires_ms, token, lease_ms, renew_count, ttl_seconds, holder, acquired_ms, \
         data, boot_id, pid, pid_started, pid_namespace, time_namespace, queue, held_ms, done_ms, failed, input, slot_limit, slots, last_force"
    };
}

pub(super) const SELECT_ONE: &str = concat!("SELECT ", columns!(), " FROM locks WHERE key = ?1");
/// A page after a key, and one from a key.
pub(super) const SELECT_AFTER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM locks WHERE key > ?1 ORDER BY key LIMIT ?2"
);
pub(super) const SELECT_FROM: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM locks WHERE key >= ?1 ORDER BY key LIMIT ?2"
);
pub(super) const DELETE: &str = "DELETE FROM locks WHERE key = ?1";
const REPLACE: &str = concat!(
    "REPLACE INTO locks (",
    columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)"
);

/// The contents of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Contents {
    /// Nothing yet.
    Empty,
    /// A lock file of this version.
    Locks,
}

/// Determines the contents of a file, without a write.
pub(super) fn contents(connection: &Connection, path: &Path) -> Result<Contents, Problem> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    // One read transaction, since another process may make the tables at the same time.
    let transaction = connection.unchecked_transaction()?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    drop(transaction);
    let file = path.display();
    if application == 0 && version == 0 && tables == 0 {
        Ok(Contents::Empty)
    } else if application != APPLICATION {
        Err(Problem::Fatal(
            configuration(format!("`{file}` is a database of another program"))
                .with_hint("name another file; leasehold creates it"),
        ))
    } else if version > VERSION {
        Err(Problem::Fatal(
            configuration(format!(
                "the lock file `{file}` was written by a newer leasehold (format {version}, this one knows {VERSION})"
            ))
            .with_hint("update this leasehold, or name another file"),
        ))
    } else if version < VERSION {
        Err(Problem::Fatal(configuration(format!(
            "the lock file `{file}` was written by an older leasehold (format {version}, this one knows {VERSION})"
        ))
        .with_hint("move the file away when nobody holds a lock in it: leasehold creates a new one")))
    } else {
        Ok(Contents::Locks)
    }
}

/// Makes the tables. It must be called in a write transaction, on an empty file.
pub(super) fn create(connection: &Connection, clock_is_known: bool) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)?;
    let clock = if clock_is_known { "boot" } else { "none" };
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('clock', ?1), ('token_floor', 0), ('sweep', '')",
        [clock],
    )?;
    connection.pragma_update(None, "application_id", APPLICATION)?;
    connection.pragma_update(None, "user_version", VERSION)
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Problem {
    /// It will not pass.
    Fatal(StoreError),
    /// An error of SQLite, not classified yet.
    Sqlite(rusqlite::Error),
    /// Another process is in the way; the error is for the case that this takes too long.
    Busy(StoreError),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Problem::Fatal(error)
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Problem::Sqlite(error)
    }
}

/// A record, and the boot and process of its holder.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) record: Record,
    /// The boot in which it was granted or last renewed.
    pub(super) boot: Option<String>,
    /// The process it is bound to.
    pub(super) process: Option<Identity>,
    /// Who waits for it, in the order of the record's queue.
    pub(super) waiting: Vec<Bound<Place>>,
    /// The boots and processes of its slots.
    pub(super) slots: Vec<Bound<Slot>>,
}

impl Stored {
    /// Reads a row of the columns above.
    pub(super) fn read(row: &Row<'_>) -> Result<Stored, Malformed> {
        let key: String = row.get(0).map_err(|_| Malformed {
            key: "?".into(),
            attribute: attribute::KEY,
            problem: "is not a string",
        })?;
        let reader = Reader { row, key: &key };
        let process = match (
            reader.get(11, "pid")?,
            reader.get(12, "pid_started")?,
            reader.get(13, "pid_namespace")?,
            reader.get(14, "time_namespace")?,
        ) {
            (Some(pid), Some(started), Some(pid_namespace), Some(time_namespace)) => {
                Some(Identity {
                    pid,
                    started,
                    pid_namespace,
                    time_namespace,
                })
            }
            _ => None,
        };
        let waiting = match reader.get::<Option<Vec<u8>>>(15, attribute::QUEUE)? {
            Some(bytes) => bound::read(&bytes)
                .ok_or_else(|| reader.malformed(attribute::QUEUE, "is not a list of places"))?,
            None => Vec::new(),
        };
        let slots = match reader.get::<Option<Vec<u8>>>(21, attribute::SLOTS)? {
            Some(bytes) => bound::read(&bytes)
                .ok_or_else(|| reader.malformed(attribute::SLOTS, "is not a list of slots"))?,
            None => Vec::new(),
        };
        let limit = reader.get::<Option<u32>>(20, attribute::LIMIT)?;
        let record = Record {
            queue: waiting.iter().map(|place| place.of).collect(),
            owner: reader.get(1, attribute::CLIENT_ID)?,
            expires_at: ServiceTime(reader.get(2, attribute::EXPIRES_MS)?),
            native: Some(Native {
                token: reader.natural(3, attribute::TOKEN)?,
                lease: Duration::from_millis(reader.natural(4, attribute::LEASE_MS)?),
                renew_count: reader.natural(5, attribute::RENEW_COUNT)?,
            }),
            ttl_seconds: reader.get(6, attribute::TTL_SECONDS)?,
            holder: reader.get(7, attribute::HOLDER)?,
            acquired_at: reader
                .get::<Option<i64>>(8, attribute::ACQUIRED_MS)?
                .map(ServiceTime),
            data: reader.get(9, attribute::DATA)?,
            last_hold: match reader.get::<Option<i64>>(16, attribute::HELD_MS)? {
                Some(ms) => u64::try_from(ms).ok().map(Duration::from_millis),
                None => None,
            },
            done: match reader.get::<Option<i64>>(17, attribute::DONE)? {
                Some(at) => Some(Done {
                    at: ServiceTime(at),
                    failed: reader.get::<Option<bool>>(18, attribute::DONE)? == Some(true),
                    input: reader
                        .get::<Option<Vec<u8>>>(19, attribute::DONE)?
                        .map(Into::into),
                }),
                None => None,
            },
            slots: limit.map(|limit| Slots {
                limit,
                held: slots
                    .iter()
                    .map(|slot: &Bound<Slot>| slot.of.clone())
                    .collect(),
            }),
            last_force: reader.get(22, attribute::LAST_FORCE)?,
            holder_is_dead: false,
            key: key.clone(),
        };
        Ok(Stored {
            record,
            boot: reader.get(10, "boot_id")?,
            process,
            waiting,
            slots,
        })
    }

    /// Writes the row, and replaces an old one.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), Problem> {
        let record = &self.record;
        let native = record
            .native
            .ok_or_else(|| impossible(record, "is not one of this library"))?;
        let integer = |value: u64, what| i64::try_from(value).map_err(|_| impossible(record, what));
        let mut statement: CachedStatement<'_> = connection.prepare_cached(REPLACE)?;
        statement.execute(params![
            record.key,
            record.owner,
            record.expires_at.0,
            integer(native.token, "has a token over 63 bits")?,
            integer(lease_ms(native.lease), "has too long a lease")?,
            integer(native.renew_count, "has a renew count over 63 bits")?,
            record.ttl_seconds,
            record.holder,
            record.acquired_at.map(|t| t.0),
            record.data,
            self.boot,
            self.process.map(|p| p.pid),
            self.process.map(|p| p.started),
            self.process.map(|p| p.pid_namespace),
            self.process.map(|p| p.time_namespace),
            bound::write(&self.waiting),
            record
                .last_hold
                .map(|hold| i64::try_from(hold.as_millis()).unwrap_or(i64::MAX)),
            record.done.as_ref().map(|done| done.at.0),
            record.done.as_ref().map(|done| done.failed),
            record.done.as_ref().and_then(|done| done.input.as_deref()),
            record.slots.as_ref().map(|slots| slots.limit),
            bound::write(&self.slots),
            record.last_force,
        ])?;
        Ok(())
    }
}

/// A lease in whole milliseconds, rounded up: an observer must not wait too short.
pub(super) fn lease_ms(lease: Duration) -> u64 {
    u64::try_from(lease.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Makes later tokens start above `token`.
pub(super) fn raise_floor(connection: &Connection, token: u64) -> rusqlite::Result<()> {
    let token = i64::try_from(token).unwrap_or(i64::MAX);
    connection
        .prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE name = 'token_floor'")?
        .execute([token])?;
    Ok(())
}

fn impossible(record: &Record, what: &str) -> Problem {
    Problem::Fatal(StoreError::new(
        StoreErrorKind::InvalidInput,
        Effect::NotApplied,
        format!("the record of key `{}` {what}", record.key),
    ))
}

struct Reader<'a> {
    row: &'a Row<'a>,
    key: &'a str,
}

impl Reader<'_> {
    fn malformed(&self, attribute: &'static str, problem: &'static str) -> Malformed {
        Malformed {
            key: self.key.to_owned(),
            attribute,
            problem,
        }
    }

    fn get<T: FromSql>(&self, column: usize, name: &'static str) -> Result<T, Malformed> {
        let odd = |_| self.malformed(name, "is missing or of the wrong type");
        self.row.get(column).map_err(odd)
    }

    fn natural(&self, column: usize, name: &'static str) -> Result<u64, Malformed> {
        let value = self.get::<i64>(column, name)?;
        u64::try_from(value).map_err(|_| self.malformed(name, "is negative"))
    }
}

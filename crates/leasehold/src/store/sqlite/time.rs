//! Service time of a lock file.
//!
//! Invariant: every process of a boot reads the same clock, which is exact, counts through suspend
//! and is never set back.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::boot::Boot;
use super::error::configuration;
use super::schema::Problem;
use crate::clock::{Clock, SystemClock};
use leasehold_protocol::time::ServiceTime;

/// Service time: the epoch of this boot plus the machine's elapsed clock. It is exact, the same for
/// every process of the machine, never set back, and close to Unix time.
#[derive(Clone, Debug)]
pub(super) struct Time {
    pub(super) boot: Boot,
    epoch_ms: i64,
}

impl Time {
    pub(super) fn now(&self) -> ServiceTime {
        ServiceTime(self.epoch_ms.saturating_add(self.boot.elapsed_ms()))
    }
}

/// The service time of a lock file. The first process of a boot that opens the file sets the epoch from
/// the wall clock. Later steps of the wall clock do not change it.
pub(super) fn time_of(
    connection: &mut Connection,
    path: &Path,
    boot: Option<&Boot>,
) -> Result<Option<Time>, Problem> {
    let mode: String =
        connection.query_row("SELECT value FROM meta WHERE name = 'clock'", [], |r| {
            r.get(0)
        })?;
    let boot = match (mode.as_str(), boot) {
        ("none", _) => return Ok(None),
        (_, Some(boot)) => boot,
        // S1: expiries by another clock must not be trusted.
        (_, None) => {
            let message = format!(
                "the lock file `{}` is used by processes that see the boot id of this machine, and this one does not",
                path.display()
            );
            return Err(Problem::Fatal(configuration(message).with_hint(
                "some containers mount another file over /proc/sys/kernel/random/boot_id: leave it as it is, or use a lock file of the container's own",
            )));
        }
    };
    const SELECT: &str = "SELECT epoch_ms FROM clock WHERE boot_id = ?1";
    let known = connection
        .query_row(SELECT, [boot.id()], |row| row.get(0))
        .optional()?;
    let epoch_ms = match known {
        Some(epoch_ms) => epoch_ms,
        None => {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let epoch_ms = SystemClock.wall_unix_ms().saturating_sub(boot.elapsed_ms());
            transaction.execute("DELETE FROM clock WHERE boot_id <> ?1", [boot.id()])?;
            transaction.execute(
                "INSERT OR IGNORE INTO clock (boot_id, epoch_ms) VALUES (?1, ?2)",
                (boot.id(), epoch_ms),
            )?;
            let epoch_ms = transaction.query_row(SELECT, [boot.id()], |row| row.get(0))?;
            transaction.commit()?;
            epoch_ms
        }
    };
    Ok(Some(Time {
        boot: boot.clone(),
        epoch_ms,
    }))
}

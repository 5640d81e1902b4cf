//! Deletes records past their retention, so that a file does not grow with every key.
//!
//! DynamoDB has its TTL for this. Here the first write of a key also checks a few old keys, in the
//! order of keys and in a cycle. This needs no timer, no index and no long transaction. Invariant:
//! only released and done records without slots past their retention are deleted, and the token floor is first raised above
//! their tokens (S2).

use rusqlite::Connection;

use super::schema::raise_floor;
use leasehold_protocol::time::ServiceTime;

/// Rows that are checked for each new key. More than one, so that the file can shrink.
const LOOKS: u32 = 4;

/// Checks the next few records. It must be called in a write transaction that adds a key.
pub(super) fn step(connection: &Connection, now: Option<ServiceTime>) -> rusqlite::Result<()> {
    // Without service time, no record is known to be old.
    let Some(now) = now else { return Ok(()) };
    let now_seconds = now.0.div_euclid(1_000);
    // Keys as bytes: a key of another program may be no string, and must not stop the cycle.
    let rows: Vec<(Vec<u8>, i64, bool)> = connection
        .prepare_cached(
            "SELECT CAST(key AS BLOB), token,
                    (owner IS NULL AND slots IS NULL OR done_ms IS NOT NULL) AND coalesce(ttl_seconds < ?1, FALSE)
             FROM locks WHERE key > (SELECT value FROM meta WHERE name = 'sweep')
             ORDER BY key LIMIT ?2",
        )?
        .query_map((now_seconds, LOOKS), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (key, token, _) in rows.iter().filter(|(_, _, old)| *old) {
        raise_floor(connection, u64::try_from(*token).unwrap_or(0))?;
        connection
            .prepare_cached("DELETE FROM locks WHERE key = CAST(?1 AS TEXT)")?
            .execute([key])?;
    }
    let last = match rows.last() {
        Some((key, ..)) if rows.len() == LOOKS as usize => key.as_slice(),
        // At the end: start again from the first key.
        _ => &[],
    };
    connection
        .prepare_cached(
            "UPDATE meta SET value = CAST(?1 AS TEXT)
             WHERE name = 'sweep' AND value <> CAST(?1 AS TEXT)",
        )?
        .execute([last])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    fn with_keys(count: i64) -> Connection {
        let connection = Connection::open_in_memory().expect("memory");
        schema::create(&connection, true).expect("tables");
        for i in 0..count {
            connection
                .execute(
                    "INSERT INTO locks (key, owner, expires_ms, token, lease_ms, renew_count, ttl_seconds, done_ms)
                     VALUES (?1, ?2, 0, ?3, 1, 1, ?4, ?5)",
                    (
                        format!("k{i:03}"),
                        (i % 3 == 0).then_some("someone"),
                        1_000 + i,
                        if i % 2 == 0 { 10 } else { 1_000 },
                        // One of those with an owner, past its retention, is done.
                        (i == 6).then_some(5),
                    ),
                )
                .expect("insert");
        }
        connection
    }

    fn count(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM locks", [], |row| row.get(0))
            .expect("count")
    }

    #[test]
    fn only_old_released_records_go_and_their_tokens_are_kept() {
        let connection = with_keys(30);
        let now = ServiceTime(500_000);
        for _ in 0..8 {
            step(&connection, Some(now)).expect("swept");
        }
        // Of thirty, nine are held, one is done, and of the others half is past its retention.
        assert_eq!(count(&connection), 19);
        let floor: i64 = connection
            .query_row(
                "SELECT value FROM meta WHERE name = 'token_floor'",
                [],
                |r| r.get(0),
            )
            .expect("floor");
        assert_eq!(floor, 1_028);
        // A second cycle deletes no more.
        for _ in 0..16 {
            step(&connection, Some(now)).expect("swept");
        }
        assert_eq!(count(&connection), 19);
    }

    #[test]
    fn without_a_clock_nothing_is_old() {
        let connection = with_keys(6);
        step(&connection, None).expect("nothing to do");
        assert_eq!(count(&connection), 6);
    }
}

//! The contract suite: tests of every [`Store`], for its authors.
//!
//! [`run_all`] tests every write but those on slots against every state of a record that its condition
//! distinguishes. It checks answers, reads, listings and stamps, and lets tasks race for a key. At the end
//! it makes a long random run, slots included, against the reference,
//! [`apply`](leasehold_protocol::write::apply). It panics at the first difference, with a description.
//!
//! The store must use real clocks, since stamps are compared with this host's elapsed clock. The suite
//! runs in a tokio runtime. It uses only keys that begin with the given scope, so that tests can share
//! a table; two runs at once need two scopes. It assumes nothing that [`Store`] does not promise.
//! Tokens are seeded in growing order, because a store may raise a seed to keep tokens growing.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::sync::Arc;
//! use leasehold::store::{memory::MemoryStore, testing::contract};
//!
//! contract::run_all(Arc::new(MemoryStore::new()), "doc/").await;
//! # }
//! ```

mod answers;
mod conditions;
mod data;
mod dice;
mod done;
mod model;
mod queue;
mod races;
mod slots;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::store::{Consistency, Outcome, Store};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::record::{Record, Seen, State};
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Left, Write};

pub use self::model::against_the_model;

/// Runs every test of the contract. It leaves records, of which nearly all are released.
///
/// # Panics
///
/// When the store breaks its contract, or a call fails.
pub async fn run_all(store: Arc<dyn Store>, scope: &str) {
    macro_rules! run {
        ($($room:ident::$test:ident),* $(,)?) => {$(
            // The test harness shows this after a failure.
            println!("contract of {}: {}::{}", store.describe(), stringify!($room), stringify!($test));
            $room::$test(&Bench::new(&store, scope, stringify!($test))).await;
        )*};
    }
    run!(
        conditions::acquire_takes_a_key_without_a_record,
        conditions::acquire_takes_a_released_key_and_counts_on,
        conditions::acquire_is_refused_while_the_key_is_held,
        conditions::a_token_survives_release_however_low_the_seed,
        conditions::a_guessed_ttl_does_not_shorten_that_of_the_record,
        conditions::take_over_of_what_was_seen,
        conditions::a_take_over_raises_the_token_to_its_seed_and_never_lowers_it,
        conditions::take_over_is_a_compare_and_set_on_each_part,
        conditions::take_over_needs_a_grant,
        conditions::renewal_moves_the_expiry_and_nothing_else,
        conditions::renewal_moves_forward_only,
        conditions::a_renewal_lengthens_the_lease_and_never_shortens_it,
        conditions::renewal_needs_our_id_and_token,
        conditions::renewal_after_release_revives_nothing,
        conditions::renewal_after_a_take_over_changes_nothing,
        conditions::release_needs_our_id_and_token,
        conditions::release_keeps_the_token_and_the_label,
        conditions::abandon_needs_no_token,
        conditions::withdraw_deletes_only_our_grant,
        conditions::a_grant_after_a_withdrawal_has_a_greater_token,
        conditions::writing_twice_is_refused_with_our_own_record,
        data::a_payload_is_stored_replaced_and_left,
        data::a_renewal_writes_a_payload,
        data::a_release_leaves_the_payload_that_it_is_to,
        data::a_hand_over_leaves_the_payload_that_it_is_to,
        data::the_result_of_a_run_is_no_payload,
        queue::a_queue_is_joined_behind_a_holder_only,
        queue::nobody_joins_twice,
        queue::a_full_queue_takes_nobody,
        queue::a_place_is_left_where_it_is,
        queue::a_hand_over_gives_the_key_to_a_place,
        queue::a_hand_over_needs_our_grant_and_that_queue,
        queue::a_release_is_refused_while_others_wait,
        queue::a_take_over_removes_the_first_places,
        done::a_completion_replaces_the_grant,
        done::a_completion_needs_our_id_and_token,
        done::what_is_not_kept_is_removed,
        done::only_a_take_over_changes_what_is_done,
        answers::reads_show_what_was_written,
        answers::a_key_without_a_record_reads_as_none,
        answers::odd_keys,
        answers::keys_are_told_apart,
        answers::listing_shows_every_record_once,
        answers::stamps_bound_one_clock,
        answers::units_are_reported,
        answers::a_dropped_call_harms_nobody,
        races::one_of_many_acquires_wins,
        races::one_of_many_take_overs_wins,
        races::tokens_of_contended_grants_are_all_different,
        races::one_of_renewal_and_take_over_wins,
    );
    println!("contract of {}: the model", store.describe());
    against_the_model(&store, &format!("{scope}model/"), 20_260_101, 400).await;
}

/// Tries to acquire a key whose record has neither owner nor version, and must never be taken. The caller
/// has put that record there.
///
/// # Panics
///
/// When the store takes or changes the record.
pub async fn leaves_what_is_not_ours(store: &Arc<dyn Store>, key: &str) {
    let look = async || {
        let read = store.read(key, Consistency::Strong).await;
        // A store that reads attributes reports it as malformed.
        read.map(|reply| reply.value).map_err(|error| error.kind)
    };
    let before = look().await;
    let bench = Bench::new(store, "", "").on(key);
    let answer = store.write(Write::Acquire(bench.grant(attempt()))).await;
    let taken = matches!(&answer, Ok(reply) if matches!(reply.value, Outcome::Applied(_)));
    assert!(!taken, "a record with neither owner nor version was taken");
    assert_eq!(look().await, before, "it was changed");
}

const FAR: i64 = 4_000_000_000;

/// The next service time for seeds and expiries, in milliseconds.
static SERVICE_TIME: AtomicI64 = AtomicI64::new(1_700_000_000_000);

/// A service time later than every one before, by more than the grants in between.
fn later() -> ServiceTime {
    ServiceTime(SERVICE_TIME.fetch_add(100_000, Ordering::Relaxed))
}

/// A store, and the key of one test.
struct Bench {
    store: Arc<dyn Store>,
    scope: String,
    key: Arc<str>,
}

impl Bench {
    fn new(store: &Arc<dyn Store>, scope: &str, test: &str) -> Self {
        // A table that was used before holds records under the same names.
        let id = attempt().to_string();
        Bench {
            store: store.clone(),
            scope: format!("{scope}{test}/{id}/"),
            key: format!("{scope}{test}/{id}").into(),
        }
    }

    /// The same store, another key.
    fn on(&self, key: &str) -> Bench {
        Bench {
            store: self.store.clone(),
            scope: self.scope.clone(),
            key: key.into(),
        }
    }

    fn grant(&self, attempt: AttemptId) -> Grant {
        let now = later();
        Grant {
            key: self.key.clone(),
            attempt,
            expires_at: now.plus(Duration::from_secs(20)),
            ttl_seconds: FAR,
            ttl_is_guess: false,
            lease: Duration::from_secs(20),
            seed: now,
            acquired_at: now,
            holder: "contract suite".into(),
            data: None,
            force: None,
            bound_to_process: false,
        }
    }

    fn renewal(&self, attempt: AttemptId, token: u64, expires_at: ServiceTime) -> Write {
        Write::Renew {
            key: self.key.clone(),
            attempt,
            token,
            expires_at,
            ttl_seconds: FAR + 1,
            bound_to_process: false,
            lease: None,
            description: None,
        }
    }

    fn release(&self, attempt: AttemptId, token: Option<u64>) -> Write {
        Write::Release {
            held: None,
            key: self.key.clone(),
            attempt,
            token,
            ttl_seconds: Some(FAR + 2),
            passed: Vec::new(),
            left: Left::Nothing,
        }
    }

    fn withdrawal(&self, attempt: AttemptId, token: u64) -> Write {
        Write::Withdraw {
            key: self.key.clone(),
            attempt,
            token,
        }
    }

    /// Writes, and returns the outcome without fields that only some stores set.
    async fn write(&self, write: Write) -> Outcome {
        let what = format!("{write:?}");
        match self.store.write(write).await {
            Ok(reply) => match reply.value {
                Outcome::Applied(record) => Outcome::Applied(record.map(plain)),
                Outcome::Refused(record) => Outcome::Refused(record.map(plain)),
            },
            Err(e) => panic!("{what} failed: {e} ({e:?})"),
        }
    }

    /// Writes, and requires that the write is applied and leaves a record.
    async fn applied(&self, write: Write) -> Record {
        let what = format!("{write:?}");
        match self.write(write).await {
            Outcome::Applied(Some(record)) => {
                assert_eq!(
                    self.read().await.as_ref(),
                    Some(&record),
                    "a strong read must show what was applied by {what}"
                );
                record
            }
            other => panic!("{what} should have been applied, but: {other:?}"),
        }
    }

    /// Writes, and requires a refusal that changes nothing and shows the current record.
    async fn refused(&self, write: Write) -> Option<Record> {
        let what = format!("{write:?}");
        let before = self.read().await;
        match self.write(write).await {
            Outcome::Refused(record) => {
                assert_eq!(
                    record, before,
                    "a refusal must show the record that stood in the way of {what}"
                );
                assert_eq!(
                    self.read().await,
                    before,
                    "a refusal changed the record: {what}"
                );
                record
            }
            other @ Outcome::Applied(_) => {
                panic!("{what} should have been refused by {before:?}, but: {other:?}")
            }
        }
    }

    /// Acquires the key, which must be free.
    async fn acquired(&self, attempt: AttemptId) -> Record {
        self.applied(Write::Acquire(self.grant(attempt))).await
    }

    async fn read(&self) -> Option<Record> {
        match self.store.read(&self.key, Consistency::Strong).await {
            Ok(reply) => reply.value.map(plain),
            Err(e) => panic!("reading {:?} failed: {e} ({e:?})", self.key),
        }
    }
}

/// A new identity.
fn attempt() -> AttemptId {
    use crate::clock::{OsRandom, Random};
    AttemptId::from_random(OsRandom.attempt_bits())
}

/// The record without fields that only some stores set.
fn plain(record: Record) -> Record {
    Record {
        holder_is_dead: false,
        ..record
    }
}

fn token(record: &Record) -> u64 {
    record
        .token()
        .unwrap_or_else(|| panic!("a record of ours has a token: {record:?}"))
}

fn renew_count(record: &Record) -> u64 {
    record
        .native
        .unwrap_or_else(|| panic!("a record of ours has a renew count: {record:?}"))
        .renew_count
}

fn seen(record: &Record) -> Seen {
    match record.state() {
        State::Granted(seen) => seen,
        State::Released => panic!("granted records are expected here: {record:?}"),
    }
}

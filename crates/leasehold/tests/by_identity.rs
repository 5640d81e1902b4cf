//! Grants without a guard: any process with the identity keeps and ends them. Stale identities do nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Kit, Lab, VIRTUAL_START_MS};
use async_trait::async_trait;
use leasehold::clock::{Clock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError};
use leasehold::{
    EndReason, ErrorKind, FencingToken, HolderInfo, LeaseId, LockClient, LockState, Policy,
    ReleaseOutcome, RenewOutcome,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::{Operation, Write};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn unbound() -> Policy {
    let policy = Policy::builder().bound_to_process(false);
    policy.build().expect("adds up")
}

#[track_caller]
fn renewed(outcome: RenewOutcome) -> HolderInfo {
    match outcome {
        RenewOutcome::Renewed(held) => held,
        other => panic!("not renewed: {other:?}"),
    }
}

#[track_caller]
fn ended(outcome: RenewOutcome) -> EndReason {
    match outcome {
        RenewOutcome::Ended(why) => why,
        other => panic!("not over: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_and_a_detach_are_one_write_and_a_renewal_is_a_read_and_a_write() {
    let lab = Lab::new();
    let locks = lab.client(unbound());
    let lease = locks.acquire("k").await.expect("free");
    let (token, until) = (lease.token(), lease.until());
    let id = lease.detach().await.expect("held");
    assert_eq!(lab.counted.counts().requests(), 1);
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 1);
    let status = locks.inspect("k").await.expect("works");
    assert_eq!(status.holder().expect("held").until(), until);

    // After more than a tenth of its lease, a detach renews.
    let other = locks.acquire("other").await.expect("free");
    lab.sleep(ms(2_100)).await;
    lab.counted.reset();
    other.detach().await.expect("held");
    assert_eq!(lab.counted.counts().of(Operation::Renew), 1);

    lab.counted.reset();
    let held = renewed(lab.client(unbound()).renew(&id, None).await.expect("works"));
    let counts = lab.counted.counts();
    assert_eq!(
        (counts.of(Operation::Read), counts.of(Operation::Renew)),
        (1, 1)
    );
    assert_eq!(counts.requests(), 2);
    assert_eq!(held.token(), Some(token));
    assert!(held.until() > until);
    // The identity is still the same.
    lab.counted.reset();
    assert!(locks.release(&id).await.expect("works").is_released());
    assert_eq!(lab.counted.counts().requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_detached_lease_lives_as_long_as_it_is_renewed() {
    let lab = Lab::new();
    let id = lab.detached("k").await;
    // Each time another process.
    for _ in 0..10 {
        lab.sleep(ms(15_000)).await;
        let locks = lab.client(Policy::default());
        let held = renewed(locks.renew(&id, None).await.expect("works"));
        assert_eq!(held.lease_duration(), Some(ms(20_000)));
        assert_eq!(lab.state("k").await, LockState::Held(held));
    }
    let passed = lab.free_or_expired_within("k", ms(21_000)).await;
    assert!(passed > ms(19_000), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_longer_lease_is_one_for_every_observer_and_a_shorter_one_is_none() {
    let lab = Lab::new();
    let id = lab.detached("k").await;
    let locks = lab.client(Policy::default());
    let long = renewed(locks.renew(&id, Some(ms(600_000))).await.expect("works"));
    assert_eq!(long.lease_duration(), Some(ms(600_000)));
    // Who trusts no clock watches it for the whole of the new lease.
    let strict = lab.client(
        Policy::builder()
            .strict(true)
            .wait_forever()
            .build()
            .expect("adds up"),
    );
    let started = lab.clock_now();
    let short = renewed(locks.renew(&id, Some(ms(2_500))).await.expect("works"));
    assert_eq!(short.lease_duration(), Some(ms(600_000)));
    assert!(short.until() >= long.until());
    let next = strict.acquire("k").await.expect("in the end");
    assert!(lab.clock_now() - started >= ms(600_000));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_out_is_renewed_unless_it_was_taken() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    lab.sleep(ms(300_000)).await;
    assert!(matches!(lab.state("k").await, LockState::Expired(_)));
    let held = renewed(locks.renew(&id, None).await.expect("works"));
    // Nobody had it in between.
    assert_eq!(
        held.token().map(FencingToken::stored),
        Some(id.token().stored())
    );
    assert!(matches!(lab.state("k").await, LockState::Held(_)));

    lab.sleep(ms(300_000)).await;
    let next = lab.bystander().acquire("k").await.expect("run out");
    let before = lab.state("k").await;
    let why = ended(locks.renew(&id, Some(ms(600_000))).await.expect("works"));
    assert!(matches!(why, EndReason::TakenOver(held) if held.token() == Some(next.token())));
    assert_eq!(lab.state("k").await, before);
    next.release().await.expect("works");
    assert_eq!(
        ended(locks.renew(&id, None).await.expect("works")),
        EndReason::Superseded
    );
    lab.expire_record_of("k").await;
    assert_eq!(
        ended(locks.renew(&id, None).await.expect("works")),
        EndReason::NoRecord
    );
}

#[tokio::test(start_paused = true)]
async fn a_released_grant_is_never_revived() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    assert!(locks.release(&id).await.expect("works").is_released());
    let why = ended(locks.renew(&id, None).await.expect("works"));
    assert_eq!(why, EndReason::ReleasedElsewhere);
    // Released between the read and the write.
    let id = lab.detached("k").await;
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(100))]);
    let (renewal, released) = tokio::join!(locks.renew(&id, None), async {
        lab.sleep(ms(50)).await;
        lab.bystander().release(&id).await
    });
    assert!(released.expect("works").is_released());
    assert_eq!(ended(renewal.expect("works")), EndReason::ReleasedElsewhere);
    assert_eq!(lab.state("k").await, LockState::Free);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_is_renewed_once_more() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    lab.faulty.plan(Operation::Renew, [Fault::LoseAnswer]);
    let held = renewed(locks.renew(&id, Some(ms(60_000))).await.expect("works"));
    assert_eq!(lab.state("k").await, LockState::Held(held.clone()));
    assert_eq!(held.lease_duration(), Some(ms(60_000)));
    assert_eq!(lab.faulty.unused(), 0);

    // Without any answer the error says so, within bounds.
    lab.faulty.start_outage(Fault::BlackHole);
    let started = lab.clock_now();
    let error = locks.renew(&id, None).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(lab.clock_now() - started < ms(21_000));
}

#[tokio::test(start_paused = true)]
async fn a_guard_whose_grant_is_renewed_by_identity_goes_on() {
    let lab = Lab::new();
    let lease = lab
        .client(Policy::default())
        .acquire("k")
        .await
        .expect("free");
    renewed(
        lab.bystander()
            .renew(lease.id(), Some(ms(60_000)))
            .await
            .expect("works"),
    );
    lab.sleep(ms(200_000)).await;
    assert!(lease.is_held());
    assert!(lease.release().await.expect("works").is_released());
    assert_eq!(lab.state("k").await, LockState::Free);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a waiter of its own")]
async fn who_waits_keeps_its_place_and_gets_the_key_by_the_release() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    let waiting = lab.client(Policy::builder().wait_forever().build().expect("adds up"));
    let waiter = tokio::spawn(async move { waiting.acquire("k").await });
    let mut waits = None;
    while waits != Some(1) {
        lab.sleep(ms(10)).await;
        waits = renewed(locks.renew(&id, None).await.expect("works")).waiting();
    }
    lab.sleep(ms(15_000)).await;
    renewed(locks.renew(&id, Some(ms(30_000))).await.expect("works"));
    lab.sleep(ms(15_000)).await;
    assert!(!waiter.is_finished());
    assert!(locks.release(&id).await.expect("works").is_released());
    let lease = waiter.await.expect("no panic").expect("handed over");
    assert!(lease.token() > id.token());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_add_up_is_refused_before_any_request() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let id = lab.detached("k").await;
    for lease in [Duration::ZERO, ms(10), Duration::from_secs(8 * 86_400)] {
        let error = locks.renew(&id, Some(lease)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{lease:?}");
    }
    assert_eq!(lab.counted.counts().requests(), 0);
}

/// Identities that are not that of the present grant: of earlier grants, of other attempts, of other tokens.
async fn stale(locks: &LockClient, key: &str, count: usize) -> Vec<LeaseId> {
    let mut all = Vec::new();
    while all.len() < count {
        let lease = locks.acquire(key).await.expect("free");
        let id = lease.detach().await.expect("held");
        assert!(locks.release(&id).await.expect("works").is_released());
        all.push(id);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_stale_identities_free_nothing_and_renew_nothing() {
    let lab = Lab::new();
    let locks = lab.client(unbound());
    let stale = stale(&locks, "k", 10_000).await;
    let lease = locks.acquire("k").await.expect("free");
    let now = lease.id().to_string();
    let record = async || {
        let read = lab.memory.read("k", Consistency::Strong).await;
        read.expect("works").value.expect("a record")
    };
    let before = record().await;
    let elsewhere = lab.bystander();
    for (n, id) in stale.iter().enumerate() {
        if n % 10 == 0 {
            let why = ended(elsewhere.renew(id, Some(ms(600_000))).await.expect("works"));
            assert!(matches!(why, EndReason::TakenOver(_)), "{id}: {why:?}");
        }
        let outcome = elsewhere.release(id).await.expect("works");
        assert!(
            matches!(outcome, ReleaseOutcome::TakenOver(_)),
            "{id}: {outcome:?}"
        );
        // The present attempt with an old token, and the present token with an old attempt.
        let mut parts: Vec<_> = now.split(':').collect();
        let (text, token) = (id.to_string(), id.token().stored().to_string());
        let old = text.split(':').nth(1).expect("an attempt");
        for (part, text) in [(1, old), (2, token.as_str())] {
            let was = std::mem::replace(&mut parts[part], text);
            let forged: LeaseId = parts.join(":").parse().expect("an identity");
            let outcome = elsewhere.release(&forged).await.expect("works");
            assert!(!outcome.is_released(), "{forged}: {outcome:?}");
            parts[part] = was;
        }
    }
    assert_eq!(record().await, before);
    assert!(lease.is_held());
}

#[tokio::test]
async fn identities_work_on_every_store() {
    for kit in [
        Kit::memory_in_real_time(),
        Kit::sqlite(),
        Kit::dynamodb().await,
    ] {
        let client = || {
            let store = kit.store.clone();
            LockClient::builder(store)
                .clock(kit.clock.clone())
                .policy(unbound())
                .build()
        };
        let locks = client();
        let old = stale(&locks, "k", 3).await;
        let lease = locks.acquire("k").await.expect("free");
        let id: LeaseId = lease
            .detach()
            .await
            .expect("held")
            .to_string()
            .parse()
            .expect("one");
        let elsewhere = client();
        let held = renewed(elsewhere.renew(&id, Some(ms(60_000))).await.expect("works"));
        assert_eq!(held.lease_duration(), Some(ms(60_000)), "{}", kit.name);
        for old in &old {
            assert!(!elsewhere.release(old).await.expect("works").is_released());
            assert!(
                !elsewhere
                    .renew(old, None)
                    .await
                    .expect("works")
                    .is_renewed()
            );
        }
        let status = elsewhere.inspect("k").await.expect("works");
        assert_eq!(status.state(), &LockState::Held(held), "{}", kit.name);
        assert!(elsewhere.release(&id).await.expect("works").is_released());
        let again = elsewhere.release(&id).await.expect("works");
        assert_eq!(again, ReleaseOutcome::AlreadyReleased);
        let status = elsewhere.inspect("k").await.expect("works");
        let last = status.last_holder().expect("the last holder's label");
        assert!(
            last.label().contains(&std::process::id().to_string()),
            "{last:?}"
        );
        assert_eq!(last.token(), Some(id.token()));
    }
}

/// A memory store that keeps what each write has made.
#[derive(Debug)]
struct Snapshots {
    memory: MemoryStore,
    made: Mutex<Vec<Record>>,
}

#[async_trait]
impl Wrap for Snapshots {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let reply = self.memory.write(write).await?;
        if let Outcome::Applied(Some(record)) = &reply.value {
            self.made.lock().expect("no panics").push(record.clone());
        }
        Ok(reply)
    }
}

/// A process is killed after any of its writes: what it leaves is free after its lease and 1 s.
#[tokio::test(start_paused = true)]
async fn a_process_killed_at_any_step_leaves_the_key_free_after_its_lease() {
    let clock = Arc::new(TokioClock::new(VIRTUAL_START_MS));
    let store = Arc::new(Wrapped(Snapshots {
        memory: MemoryStore::with_clock(clock.clone()),
        made: Mutex::default(),
    }));
    let client = |policy| {
        let builder = LockClient::builder(store.clone()).clock(clock.clone());
        builder.policy(policy).build()
    };
    // Acquired and detached; and handed over by another, which takes a renewal.
    let long = Policy::builder()
        .lease_duration(ms(300_000))
        .bound_to_process(false);
    let long = long.wait_forever().build().expect("adds up");
    let first = client(long.clone()).acquire("k").await.expect("free");
    let (second, _) = tokio::join!(client(long.clone()).acquire("k"), async {
        clock.sleep_until(clock.elapsed().plus(ms(100))).await;
        first.release().await.expect("works")
    });
    let id = second.expect("handed over").detach().await.expect("held");
    renewed(client(long).renew(&id, None).await.expect("works"));
    let made = store.0.made.lock().expect("no panics").clone();
    // Acquire, join, hand-over, renewal or detach, renewal by identity.
    assert!(made.len() >= 5, "{made:#?}");
    for record in made {
        let memory = MemoryStore::with_clock(clock.clone());
        memory.plant(record.clone());
        let next = LockClient::builder(memory).clock(clock.clone());
        let next = next
            .policy(Policy::builder().wait_forever().build().expect("adds up"))
            .build();
        let started = clock.elapsed();
        let lease = next.acquire("k").await.expect("in the end");
        // Places of the dead process have their claims before others.
        let claims: Duration = record.queue.iter().map(|place| place.claim()).sum();
        let most = ms(300_000 + 1_000) + claims;
        let passed = clock.elapsed().since(started);
        assert!(passed <= most, "{passed:?} of {record:#?}");
        drop(lease);
    }
}

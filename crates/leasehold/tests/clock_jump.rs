//! Wall clocks that are wrong, that jump, and processes that pause.
//!
//! Validity intervals of two grants never overlap, however wrong the hosts' wall clocks are.

use crate::support;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::VIRTUAL_START_MS;
use async_trait::async_trait;
use leasehold::clock::{Clock, ManualClock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};
use leasehold::{DropPolicy, EndReason, LockClient, Policy, ReleaseOutcome, TryAcquireOutcome};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, ServiceTime, Stamp};
use leasehold_protocol::write::Write;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Stamps as DynamoDB's `Date`: whole seconds, floored. Or none, as behind a proxy.
#[derive(Clone, Debug)]
struct Dated {
    inner: MemoryStore,
    strip: bool,
}

impl Dated {
    fn date<T>(&self, mut reply: Reply<T>) -> Reply<T> {
        reply.stamp = match reply.stamp {
            Some(Stamp::Exact(ServiceTime(ms))) if !self.strip => {
                Some(Stamp::WholeSeconds(ms.div_euclid(1_000)))
            }
            _ => None,
        };
        reply
    }
}

#[async_trait]
impl Wrap for Dated {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn hints(&self) -> Hints {
        let mut hints = Hints::default();
        hints.expiry_padding = ms(1_000);
        hints.check_delay = ms(50);
        hints.check_delay_max = ms(1_000);
        hints.max_polls_per_second = 100;
        hints
    }
    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        Ok(self.date(self.inner.write(write).await?))
    }
    async fn read(&self, key: &str, c: Consistency) -> Result<Reply<Option<Record>>, StoreError> {
        Ok(self.date(self.inner.read(key, c).await?))
    }
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        Ok(self.date(self.inner.list(prefix, after).await?))
    }
}

struct World {
    clock: TokioClock,
    store: Dated,
}

impl World {
    fn new(strip: bool) -> World {
        let clock = TokioClock::new(VIRTUAL_START_MS);
        World {
            store: Dated {
                inner: MemoryStore::with_clock(Arc::new(clock.clone())),
                strip,
            },
            clock,
        }
    }

    fn client(&self, wall_ahead_ms: i64, policy: Policy) -> LockClient {
        LockClient::builder(Wrapped(self.store.clone()))
            .clock(Arc::new(self.clock.with_wall_ahead(wall_ahead_ms)))
            .policy(policy)
            .build()
    }

    async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }
}

fn manual() -> Policy {
    Policy::builder()
        .manual_renewal(true)
        .drop_policy(DropPolicy::LeaveToExpire)
        .build()
        .expect("adds up")
}

const HOUR: i64 = 3_600_000;

#[tokio::test(start_paused = true)]
async fn holders_never_overlap_however_wrong_the_wall_clocks_are() {
    for holder_ahead in [-24 * HOUR, -HOUR, -800, 0, 800, HOUR, 24 * HOUR] {
        for contender_ahead in [-24 * HOUR, 0, 24 * HOUR] {
            let world = World::new(false);
            let holder = world.client(holder_ahead, manual());
            let lease = holder.acquire("k").await.expect("free");
            assert!(
                lease.remaining() > ms(15_000),
                "worth having: {holder_ahead}"
            );
            let contender = world.client(contender_ahead, manual());
            let mut waited = Duration::ZERO;
            loop {
                // S1: while the holder believes in it, nobody else gets it.
                let believed = lease.is_held();
                if let TryAcquireOutcome::Acquired(_) =
                    contender.try_acquire("k").await.expect("works")
                {
                    assert!(!believed, "{holder_ahead} / {contender_ahead}");
                    break;
                }
                world.sleep(ms(500)).await;
                waited += ms(500);
                // A holder far ahead publishes an expiry far ahead, once; see the next test.
                if holder_ahead > 1_000 && waited > ms(60_000) {
                    break;
                }
                assert!(
                    holder_ahead > 1_000 || waited < ms(25_000),
                    "{holder_ahead} / {contender_ahead}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_holder_whose_clock_was_far_ahead_is_taken_over_by_observation() {
    let world = World::new(false);
    drop(
        world
            .client(24 * HOUR, manual())
            .acquire("k")
            .await
            .expect("free"),
    );
    let waiter = world.client(0, Policy::default());
    let start = world.clock.elapsed();
    let request = waiter.request("k").expect("valid").wait(ms(60_000));
    let lease = request.acquire().await.expect("watched for a lease");
    let passed = world.clock.elapsed().since(start);
    assert!(passed >= ms(20_020) && passed < ms(22_000), "{passed:?}");
    drop(lease);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_takes_over_a_dead_holder_soon_after_its_lease() {
    // L2, lease + expiry padding + 1 s + one poll; a waiter's samples have narrowed.
    let world = World::new(false);
    drop(world.client(0, manual()).acquire("k").await.expect("free"));
    let waiter = world.client(0, Policy::default());
    let start = world.clock.elapsed();
    drop(waiter.acquire("k").await.expect("the holder is dead"));
    let passed = world.clock.elapsed().since(start);
    assert!(passed < ms(20_000 + 1_000 + 1_000 + 1_200), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn without_dates_only_watching_counts() {
    let world = World::new(true);
    drop(world.client(0, manual()).acquire("k").await.expect("free"));
    world.sleep(ms(100_000)).await;
    let newcomer = world.client(0, Policy::default());
    let refused = newcomer.try_acquire("k").await.expect("works");
    assert!(matches!(refused, TryAcquireOutcome::Held(_)));
    let start = world.clock.elapsed();
    drop(newcomer.acquire("k").await.expect("watched for a lease"));
    assert!(world.clock.elapsed().since(start) >= ms(20_020));
}

#[tokio::test(start_paused = true)]
async fn strict_watches_a_whole_lease() {
    let world = World::new(false);
    drop(world.client(0, manual()).acquire("k").await.expect("free"));
    world.sleep(ms(100_000)).await;
    let strict = Policy::builder().strict(true).build().expect("adds up");
    let newcomer = world.client(0, strict);
    let refused = newcomer.try_acquire("k").await.expect("works");
    assert!(matches!(refused, TryAcquireOutcome::Held(_)));
    let start = world.clock.elapsed();
    drop(newcomer.acquire("k").await.expect("watched for a lease"));
    let passed = world.clock.elapsed().since(start);
    assert!(passed >= ms(20_020) && passed < ms(22_000), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_seeded_by_a_wrong_clock_is_withdrawn_before_anyone_sees_it() {
    // S2: tokens grow under any clocks.
    for ahead in [-24 * HOUR, 24 * HOUR] {
        let world = World::new(false);
        let skewed = world.client(ahead, Policy::default());
        let lease = skewed.acquire("k").await.expect("free");
        let off = i64::try_from(lease.token().stored()).expect("small") - VIRTUAL_START_MS;
        assert!(off.abs() < 15 * 60 * 1_000, "off by {off} ms");
        let before = lease.token();
        assert!(lease.release().await.expect("works").is_released());
        // The record is deleted by TTL, and a sane host starts it anew later.
        world.sleep(Duration::from_secs(8 * 86_400)).await;
        world.store.inner.expunge("k");
        let sane = world.client(0, Policy::default());
        let lease = sane.acquire("k").await.expect("free");
        assert!(lease.token() > before);
        let days = i64::try_from(lease.token().stored()).expect("small") - VIRTUAL_START_MS;
        assert!(days > 7 * 24 * HOUR, "started anew, not counted on");
    }
}

/// A clock whose host is paused: nothing moves while paused but the wall clock of the hypervisor.
#[derive(Debug)]
struct Paused {
    inner: ManualClock,
    wall_jump_ms: Mutex<i64>,
}

#[async_trait]
impl Clock for Paused {
    fn elapsed(&self) -> Elapsed {
        self.inner.elapsed()
    }
    fn wall_unix_ms(&self) -> i64 {
        self.inner.wall_unix_ms() + *self.wall_jump_ms.lock().expect("not poisoned")
    }
    async fn sleep_until(&self, at: Elapsed) {
        self.inner.sleep_until(at).await;
    }
}

#[tokio::test]
async fn a_paused_virtual_machine_knows_at_once_that_its_lease_is_over() {
    let service = ManualClock::new(VIRTUAL_START_MS);
    let memory = MemoryStore::with_clock(Arc::new(service.clone()));
    let clock = Arc::new(Paused {
        inner: service.clone(),
        wall_jump_ms: Mutex::new(0),
    });
    let locks = LockClient::builder(memory).clock(clock.clone()).build();
    let lease = locks.acquire("k").await.expect("free");
    assert!(lease.is_held());
    // The machine is paused for a minute: only the wall clock shows it, and nothing has run since.
    *clock.wall_jump_ms.lock().expect("not poisoned") = 60_000;
    assert!(!lease.is_held());
    assert_eq!(lease.remaining(), Duration::ZERO);
    // The renewal task sees it at its next check, before any timer of the lease is due.
    service.advance(ms(1_000));
    assert!(matches!(lease.lost().await, EndReason::Expired { .. }));
}

#[tokio::test(start_paused = true)]
async fn lost_leads_the_deadline_and_never_unfires() {
    // S6, holder rule 4.
    let world = World::new(false);
    let policy = Policy::builder()
        .manual_renewal(true)
        .grace(ms(3_000))
        .build()
        .expect("adds up");
    let locks = world.client(0, policy);
    let start = world.clock.elapsed();
    let lease = locks.acquire("k").await.expect("free");
    let loss = lease.lost().await;
    let passed = world.clock.elapsed().since(start);
    // 20 s less drift, margin and grace.
    assert!(passed <= ms(19_980 - 4_000 + 2), "{passed:?}");
    assert!(matches!(loss, EndReason::Expired { cause: None }));
    // Nobody can have taken it over yet.
    let other = world.client(0, Policy::default());
    let refused = other.try_acquire("k").await.expect("works");
    assert!(matches!(refused, TryAcquireOutcome::Held(_)));
    // It is lost for good, although the record is still ours.
    lease.renew().await.expect_err("lost");
    assert!(!lease.is_held());
    assert!(lease.release().await.expect("works").is_released());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_too_late_is_given_back_and_says_why() {
    // S5: time is left, or there is no lease.
    use leasehold::ErrorKind;
    use leasehold::store::testing::faulty::Fault;
    use leasehold_protocol::write::Operation;

    let lab = support::Lab::new();
    let policy = Policy::builder()
        .lease_duration(ms(4_000))
        .request_timeout(ms(600))
        .wait(ms(60_000))
        .build()
        .expect("adds up");
    let locks = lab.client(policy);
    // Granted at once, but the answers take nearly the whole lease; so does the renewal's.
    lab.faulty.plan(
        Operation::Acquire,
        std::iter::repeat_n(Fault::DelayAnswer(ms(3_500)), 4),
    );
    lab.faulty.plan(Operation::Renew, [Fault::Hang]);
    let error = locks.acquire("k").await.expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::TooLate, "{error}");
    assert!(error.to_string().contains("`k`") && error.hint().is_some());
    lab.free_within("k", ms(5_000)).await;
    // With a renewal that is answered, the same grant is kept.
    lab.faulty.plan(
        Operation::Acquire,
        std::iter::repeat_n(Fault::DelayAnswer(ms(3_500)), 4),
    );
    let lease = locks.acquire("k").await.expect("renewed once");
    assert!(lease.remaining() > ms(2_000));
}

#[tokio::test(start_paused = true)]
async fn a_first_grant_that_is_cut_short_is_renewed_before_it_is_lost() {
    // Published by a wall clock that is behind, it ends before its lease does; a third of the lease
    // may be too late for its renewal.
    let policy = Policy::builder()
        .lease_duration(ms(3_000))
        .grace(ms(300))
        .build();
    let policy = policy.expect("adds up");
    for behind in [0, 300, 600, 900, 1_200, 2_000] {
        let world = World::new(false);
        // The later in its second the service is asked, the less of the grant is left.
        world.sleep(ms(950)).await;
        let client = world.client(-behind, policy.clone());
        let lease = client.acquire("k").await.expect("free");
        world.sleep(ms(10_000)).await;
        assert!(lease.is_held(), "{behind} ms behind");
        assert!(lease.release().await.expect("released").is_released());
    }
}

/// The simulation found it (seed 22046).
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_seen_to_be_over_is_not_held_again_when_the_clock_comes_back() {
    let clock = Arc::new(ManualClock::new(VIRTUAL_START_MS));
    let locks = LockClient::builder(MemoryStore::with_clock(clock.clone()))
        .clock(clock.clone())
        .policy(manual())
        .build();
    let lease = locks.acquire("k").await.expect("free");
    assert!(lease.is_held());
    clock.step_wall(60_000);
    assert!(!lease.is_held(), "as after a pause of the machine");
    clock.step_wall(-60_000);
    assert!(!lease.is_held());
    assert!(matches!(lease.lost().await, EndReason::Expired { .. }));
    assert!(lease.renew().await.is_err());
    let outcome = lease.release().await.expect("works");
    assert_eq!(outcome, ReleaseOutcome::ReleasedLate);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a watcher of its own")]
async fn b8_a_pause_that_one_answer_proves_ends_every_lease_that_it_outlasted() {
    // A virtual machine that is stopped, and whose clocks both go on where they were.
    let (service, host) = (
        ManualClock::new(1_800_000_000_000),
        ManualClock::new(1_800_000_000_000),
    );
    let memory = MemoryStore::with_clock(Arc::new(service.clone()));
    let locks = LockClient::builder(memory)
        .clock(Arc::new(host.clone()))
        .build();
    let (one, other) = (locks.acquire("a").await, locks.acquire("b").await);
    let (one, other) = (one.expect("free"), other.expect("free"));
    let told = one.watch();
    let told = tokio::spawn(async move { told.ended().await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    service.advance(Duration::from_secs(25));
    assert!(one.is_held() && other.is_held(), "nobody can know yet");
    // An answer about another key tells.
    locks.inspect("c").await.expect("works");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    // Before anybody looks: whoever waits for a time is woken, on clocks that stand still.
    assert!(told.is_finished());
    assert!(!one.is_held() && !other.is_held());
    let loss = told.await.expect("no panic");
    assert_eq!(loss, EndReason::Expired { cause: None });
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a watcher of its own")]
async fn a_pause_that_only_the_wall_clock_shows_is_told_within_a_second() {
    let clock = ManualClock::new(VIRTUAL_START_MS);
    let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
    let locks = LockClient::builder(memory)
        .clock(Arc::new(clock.clone()))
        .build();
    let lease = locks.acquire("k").await.expect("free");
    let signal = lease.watch();
    let told = tokio::spawn(async move { signal.ended().await });
    let run = || async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    run().await;
    clock.step_wall(30_000);
    // Long before the next renewal, and nobody looks at the lease.
    clock.advance(ms(1_001));
    run().await;
    assert!(told.is_finished(), "the clocks are compared once a second");
    drop(lease);
}

/// A clock that writes down what is read of it.
#[derive(Debug, Default)]
struct Noted(Mutex<Vec<&'static str>>);

#[async_trait]
impl Clock for Noted {
    fn elapsed(&self) -> Elapsed {
        self.0.lock().expect("no panics").push("elapsed");
        Elapsed::default()
    }

    fn wall_unix_ms(&self) -> i64 {
        self.0.lock().expect("no panics").push("wall");
        0
    }

    async fn sleep_until(&self, _at: Elapsed) {}
}

#[test]
fn the_wall_clock_is_read_before_the_elapsed_one() {
    // A pause between the two then counts (holder rule 1).
    let clock = Noted::default();
    clock.reading();
    assert_eq!(*clock.0.lock().expect("no panics"), ["wall", "elapsed"]);
}

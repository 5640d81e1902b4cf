//! The simulated service: the library's reference store behind DynamoDB's latency, limits and prices,
//! in virtual time.
//!
//! Each partition takes 1000 write and 3000 read units a second, with a second's worth saved up; a key
//! lies on the partition that its hash says, so a single item has the limits of its partition. A
//! request beyond them is answered "throttled" after the round trip, costs nothing and changes nothing.
//! Not modelled: adaptive capacity (it splits partitions within minutes, but never an item), the burst
//! capacity of five minutes, limits of table and account, stale eventual reads, lost answers.
//! Invariant: every answered request is counted once, with the units that DynamoDB would bill.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::prices::dollars;
use async_trait::async_trait;
use leasehold::Effect;
use leasehold::clock::{Clock, Random, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::{
    Consistency, Hints, Outcome, Page, Reply, Store, StoreError, StoreErrorKind,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{Elapsed, Stamp};
use leasehold_protocol::write::{Operation, Write};

/// Write units a second of one partition, and so of one item.
pub(super) const WRITES: f64 = 1_000.0;
/// Read units a second of one partition, and so of one item.
pub(super) const READS: f64 = 3_000.0;
/// The median round trip.
const ROUND_TRIP_MS: f64 = 5.0;
/// Of its logarithm: one in a hundred takes twice as long.
const SPREAD: f64 = 0.3;
/// 730 hours, as in AWS's own sums.
const MONTH_SECONDS: f64 = 730.0 * 3_600.0;

/// Numbers that a seed decides (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(AtomicU64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    pub(super) fn roll(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0.0..1.0`.
    pub(super) fn share(&self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Any time below `bound`.
    pub(super) fn below(&self, bound: Duration) -> Duration {
        bound.mul_f64(self.share())
    }
}

impl Random for Dice {
    fn attempt_bits(&self) -> [u8; 16] {
        (u128::from(self.roll()) << 64 | u128::from(self.roll())).to_le_bytes()
    }

    fn fraction(&self) -> f64 {
        self.share()
    }
}

/// A token bucket that holds a second's worth.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    at: Elapsed,
}

impl Bucket {
    fn full(rate: f64) -> Bucket {
        Bucket {
            rate,
            level: rate,
            at: Elapsed::default(),
        }
    }

    fn take(&mut self, units: f64, now: Elapsed) -> bool {
        let earned = now.since(self.at).as_secs_f64() * self.rate;
        self.level = (self.level + earned).min(self.rate);
        self.at = now;
        let enough = self.level >= units;
        if enough {
            self.level -= units;
        }
        enough
    }
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    writes: Bucket,
    reads: Bucket,
}

/// What was asked of the service, of one kind.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Asked {
    pub(super) all: u64,
    pub(super) throttled: u64,
}

/// The requests that passed, and their units.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Tally {
    /// Acquires and take-overs.
    pub(super) acquires: Asked,
    /// Acquires whose condition did not hold; billed.
    pub(super) refused: u64,
    pub(super) renewals: Asked,
    /// Releases, and withdrawals.
    pub(super) releases: Asked,
    pub(super) polls: Asked,
    pub(super) write_units: f64,
    pub(super) read_units: f64,
}

impl Tally {
    /// What has passed since `before`.
    pub(super) fn since(self, before: Tally) -> Tally {
        self.with(
            before,
            |now, before| now - before,
            |now, before| now - before,
        )
    }

    pub(super) fn plus(self, other: Tally) -> Tally {
        self.with(other, |one, other| one + other, |one, other| one + other)
    }

    fn with(
        self,
        other: Tally,
        counts: impl Fn(u64, u64) -> u64,
        units: impl Fn(f64, f64) -> f64,
    ) -> Tally {
        let asked = |one: Asked, other: Asked| Asked {
            all: counts(one.all, other.all),
            throttled: counts(one.throttled, other.throttled),
        };
        Tally {
            acquires: asked(self.acquires, other.acquires),
            refused: counts(self.refused, other.refused),
            renewals: asked(self.renewals, other.renewals),
            releases: asked(self.releases, other.releases),
            polls: asked(self.polls, other.polls),
            write_units: units(self.write_units, other.write_units),
            read_units: units(self.read_units, other.read_units),
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.acquires.all + self.renewals.all + self.releases.all + self.polls.all
    }

    pub(super) fn dollars(&self) -> f64 {
        dollars(self.write_units, self.read_units)
    }

    /// US dollars for a month at this rate, if this passed `within`.
    pub(super) fn dollars_a_month(&self, within: Duration) -> f64 {
        self.dollars() / within.as_secs_f64() * MONTH_SECONDS
    }

    fn of(&mut self, operation: Operation) -> &mut Asked {
        match operation {
            Operation::Renew => &mut self.renewals,
            Operation::Release | Operation::Withdraw => &mut self.releases,
            Operation::Read | Operation::List => &mut self.polls,
            _ => &mut self.acquires,
        }
    }
}

/// The service. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: MemoryStore,
    clock: TokioClock,
    dice: Dice,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Partition>,
    tally: Tally,
}

impl Service {
    pub(super) fn new(clock: &TokioClock, partitions: usize, seed: u64) -> Service {
        let partition = Partition {
            writes: Bucket::full(WRITES),
            reads: Bucket::full(READS),
        };
        Service(Arc::new(Inner {
            records: MemoryStore::with_clock(Arc::new(clock.clone())),
            clock: clock.clone(),
            dice: Dice::new(seed),
            state: Mutex::new(State {
                partitions: vec![partition; partitions.max(1)],
                tally: Tally::default(),
            }),
        }))
    }

    pub(super) fn tally(&self) -> Tally {
        self.with(|state| state.tally)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A round trip, there and back, in the whole milliseconds in which tokio's time goes.
    fn distance(&self) -> (Duration, Duration) {
        // Box and Muller: a normally distributed number of two even ones.
        let (a, b) = (1.0 - self.0.dice.share(), self.0.dice.share());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let whole = (ROUND_TRIP_MS * (SPREAD * normal).exp()).round().max(2.0) as u64;
        let there = whole / 2;
        (
            Duration::from_millis(there),
            Duration::from_millis(whole - there),
        )
    }

    async fn travel(&self, by: Duration) {
        let clock = &self.0.clock;
        clock.sleep_until(clock.elapsed().plus(by)).await;
    }

    /// Counts a request, and lets it pass if its partition has the units left.
    fn admit(&self, operation: Operation, key: &str, units: f64) -> Result<(), StoreError> {
        let now = self.0.clock.elapsed();
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let admitted = self.with(|state| {
            let count = state.partitions.len() as u64;
            let partition = &mut state.partitions[(hasher.finish() % count) as usize];
            let reads = matches!(operation, Operation::Read | Operation::List);
            let admitted = if reads {
                partition.reads.take(units, now)
            } else {
                partition.writes.take(units, now)
            };
            let asked = state.tally.of(operation);
            asked.all += 1;
            match (admitted, reads) {
                (false, _) => asked.throttled += 1,
                (true, true) => state.tally.read_units += units,
                (true, false) => state.tally.write_units += units,
            }
            admitted
        });
        if admitted {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::Throttled,
            Effect::NotApplied,
            "simulated table: throttled",
        ))
    }

    /// The stamp is a `Date`: whole seconds.
    fn dated<T>(mut reply: Reply<T>) -> Reply<T> {
        if let Some(Stamp::Exact(time)) = reply.stamp {
            reply.stamp = Some(Stamp::WholeSeconds(time.0.div_euclid(1_000)));
        }
        reply
    }
}

#[async_trait]
impl Store for Service {
    fn describe(&self) -> String {
        "simulated table".into()
    }

    fn hints(&self) -> Hints {
        // Those of the DynamoDB store.
        let mut hints = Hints::default();
        hints.expiry_padding = Duration::from_secs(1);
        hints.check_delay = Duration::from_millis(50);
        hints.check_delay_max = Duration::from_secs(1);
        hints.max_polls_per_second = 100;
        hints
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let (there, back) = self.distance();
        self.travel(there).await;
        let operation = write.operation();
        let answer = match self.admit(operation, write.key(), 1.0) {
            Ok(()) => self.0.records.write(write).await.map(Self::dated),
            Err(error) => Err(error),
        };
        if let Ok(reply) = &answer
            && matches!(operation, Operation::Acquire | Operation::TakeOver)
            && matches!(reply.value, Outcome::Refused(_))
        {
            self.with(|state| state.tally.refused += 1);
        }
        self.travel(back).await;
        answer
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        let units = match consistency {
            Consistency::Eventual => 0.5,
            Consistency::Strong => 1.0,
        };
        let (there, back) = self.distance();
        self.travel(there).await;
        let answer = match self.admit(Operation::Read, key, units) {
            Ok(()) => self.0.records.read(key, consistency).await.map(Self::dated),
            Err(error) => Err(error),
        };
        self.travel(back).await;
        answer
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.0.records.list(prefix, after).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold::{LockClient, TryAcquireOutcome};

    fn table(partitions: usize) -> (TokioClock, Service) {
        let clock = TokioClock::new(1_800_000_000_000);
        let service = Service::new(&clock, partitions, 1);
        (clock, service)
    }

    fn client(clock: &TokioClock, service: &Service, seed: u64) -> LockClient {
        LockClient::builder(service.clone())
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(Dice::new(seed)))
            .build()
    }

    /// Offers one item twice what it bears for ten seconds; how much is served.
    async fn offer(clock: &TokioClock, service: &Service, operation: Operation) -> u64 {
        let (units, a_tick) = match operation {
            Operation::Read => (0.5, 12),
            _ => (1.0, 2),
        };
        let mut served = 0;
        for tick in 1..=10_000 {
            clock
                .sleep_until(Elapsed(Duration::from_millis(tick)))
                .await;
            for _ in 0..a_tick {
                served += u64::from(service.admit(operation, "k", units).is_ok());
            }
        }
        served
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_bears_its_limits_and_no_more() {
        // Ten seconds' worth, and the second that was saved up.
        let (clock, service) = table(1);
        let writes = offer(&clock, &service, Operation::Acquire).await;
        assert!((10_990..=11_010).contains(&writes), "{writes} writes");
        let (clock, service) = table(1);
        let polls = offer(&clock, &service, Operation::Read).await;
        assert!((65_940..=66_060).contains(&polls), "{polls} polls");
        let tally = service.tally();
        assert_eq!(
            (tally.polls.all, tally.polls.throttled),
            (120_000, 120_000 - polls)
        );
        assert!((tally.read_units - polls as f64 / 2.0).abs() < 1e-6);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_lie_on_all_partitions() {
        let (_clock, service) = table(8);
        let served = (0..20_000)
            .filter(|n| {
                service
                    .admit(Operation::Acquire, &format!("k{n}"), 1.0)
                    .is_ok()
            })
            .count();
        // At one moment: what every partition has saved up.
        assert_eq!(served, 8_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cycle_and_a_refused_try_cost_what_they_do_on_dynamodb() {
        let (clock, service) = table(1);
        let (one, two) = (client(&clock, &service, 1), client(&clock, &service, 2));
        let lease = one.acquire("k").await.expect("free");
        assert!(matches!(
            two.try_acquire("k").await,
            Ok(TryAcquireOutcome::Held(_))
        ));
        assert!(lease.release().await.expect("released").is_released());
        let tally = service.tally();
        assert_eq!(
            (tally.acquires.all, tally.refused, tally.releases.all),
            (2, 1, 1)
        );
        assert_eq!((tally.write_units, tally.read_units), (3.0, 0.0));
        assert!((tally.dollars() - 3.0 * 0.625e-6).abs() < 1e-12);
        // One such second after the other: 2,628,000 of them.
        let month = tally.dollars_a_month(Duration::from_secs(1));
        assert!((month - 4.9275).abs() < 1e-6, "{month}");
        let usage = one.usage().write_units + two.usage().write_units;
        assert_eq!(usage, tally.write_units);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_request_changes_nothing_and_is_not_billed() {
        let (clock, service) = table(1);
        // One unit a second, and the first in two.
        service.with(|state| {
            state.partitions[0].writes = Bucket {
                level: -1.0,
                ..Bucket::full(1.0)
            };
        });
        let locks = client(&clock, &service, 1);
        let lease = locks.acquire("k").await.expect("after a while");
        assert!(clock.elapsed() >= Elapsed(Duration::from_secs(2)));
        let tally = service.tally();
        assert!(tally.acquires.throttled > 0, "{tally:?}");
        assert_eq!((tally.write_units, tally.refused), (1.0, 0));
        drop(lease);
    }
}

//! What calls, leases and clients cost, as they say themselves. In virtual time.

mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::{LockClient, Policy};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use support::Lab;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn client(lab: &Lab) -> LockClient {
    lab.client(Policy::default())
}

#[tokio::test(start_paused = true)]
async fn a_lease_knows_what_it_has_cost() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let cost = lease.cost();
    assert_eq!(
        (cost.requests, cost.write_units, cost.read_units),
        (1, 1.0, 0.0)
    );
    assert_eq!((cost.grants, cost.waits, cost.renewals), (1, 0, 0));
    lease.renew().await.expect("works");
    assert_eq!((lease.cost().requests, lease.cost().renewals), (2, 1));
    // A waiter that is handed the grant has cost nothing but time.
    let (outcome, next) = tokio::join!(
        async {
            lab.sleep(ms(500)).await;
            lease.release().await
        },
        locks.acquire("k")
    );
    assert!(outcome.expect("works").is_released());
    let next = next.expect("handed on");
    let cost = next.cost();
    assert_eq!((cost.requests, cost.grants, cost.hand_offs), (0, 0, 1));
    assert_eq!((cost.waits, cost.waited, cost.dollars()), (1, ms(500), 0.0));
    assert!(next.release().await.expect("works").is_released());
    let usage = locks.usage();
    assert_eq!(
        (usage.requests, usage.renewals, usage.write_units),
        (3, 1, 3.0)
    );
    assert_eq!((usage.grants, usage.hand_offs, usage.waits), (1, 1, 1));
    assert_eq!(usage.waited, ms(500));
    assert!((usage.dollars() - 3.0 * 0.625e-6).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_the_wait_has_cost() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = client(&lab);
    let wait = locks.lock("k").expect("valid").wait(ms(10_000));
    let cost = wait.acquire().await.expect_err("held").cost();
    let counts = lab.counted.counts();
    assert_eq!(cost.requests, counts.requests());
    assert_eq!(
        (cost.write_units, cost.read_units),
        (counts.units().write, counts.units().read)
    );
    assert_eq!((cost.waits, cost.waited, cost.grants), (1, ms(10_000), 0));
    assert_eq!(cost, locks.usage());
    drop(holder);
}

type Seen = Arc<Mutex<HashMap<String, f64>>>;

/// A recorder of its own, for this thread.
struct Book(Seen);

struct Entry(String, Seen);

impl Entry {
    fn add(&self, value: f64) {
        let mut seen = self.1.lock().expect("no panics");
        *seen.entry(self.0.clone()).or_default() += value;
    }
}

impl CounterFn for Entry {
    fn increment(&self, value: u64) {
        self.add(f64::from(u32::try_from(value).expect("small")));
    }
    fn absolute(&self, _: u64) {
        panic!("counters only count");
    }
}

impl HistogramFn for Entry {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Book {
    fn entry(&self, key: &Key) -> Arc<Entry> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        Arc::new(Entry(
            format!("{} {}", key.name(), labels.join(",")),
            self.0.clone(),
        ))
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        panic!("no gauges");
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.entry(key))
    }
}

#[tokio::test(start_paused = true)]
async fn the_metrics_facade_sees_the_same() {
    let seen = Seen::default();
    let book = Book(seen.clone());
    let _scope = metrics::set_default_local_recorder(&book);
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let (_, next) = tokio::join!(
        async {
            lab.sleep(ms(250)).await;
            lease.release().await
        },
        locks.acquire("k")
    );
    let next = next.expect("handed on");
    let refused = client(&lab).try_acquire("k").await.expect("works");
    assert!(refused.acquired().is_none());
    assert!(next.release().await.expect("works").is_released());
    locks.inspect("k").await.expect("works");
    let seen = seen.lock().expect("no panics");
    for (name, value) in [
        ("leasehold_requests_total acquire", 2.0),
        ("leasehold_requests_total release", 1.0),
        ("leasehold_requests_total read", 1.0),
        ("leasehold_write_half_units_total ", 6.0),
        ("leasehold_read_half_units_total ", 2.0),
        ("leasehold_grants_total ", 1.0),
        ("leasehold_hand_offs_total ", 1.0),
        ("leasehold_wait_seconds ", 0.25),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name} of {seen:?}");
    }
}

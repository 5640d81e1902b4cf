//! What calls, leases and clients cost, as they say themselves. In virtual time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::Lab;
use leasehold::store::testing::faulty::Fault;
use leasehold::{LockClient, Policy};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

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
    let cost = lease.usage();
    assert_eq!(
        (cost.requests, cost.write_units, cost.read_units),
        (1, 1.0, 0.0)
    );
    assert_eq!((cost.grants, cost.waits, cost.renewals), (1, 0, 0));
    lease.renew().await.expect("works");
    assert_eq!((lease.usage().requests, lease.usage().renewals), (2, 1));
    // A waiter that is handed the grant has cost nothing but time.
    let (outcome, next) = tokio::join!(
        async {
            lab.sleep(ms(50)).await;
            lease.release().await
        },
        locks.acquire("k")
    );
    assert!(outcome.expect("works").is_released());
    let next = next.expect("handed on");
    let cost = next.usage();
    assert_eq!((cost.requests, cost.grants, cost.hand_offs), (0, 0, 1));
    assert_eq!((cost.waits, cost.waited), (1, ms(50)));
    assert!(next.release().await.expect("works").is_released());
    let usage = locks.usage();
    assert_eq!(
        (usage.requests, usage.renewals, usage.write_units),
        (3, 1, 3.0)
    );
    assert_eq!((usage.grants, usage.hand_offs, usage.waits), (1, 1, 1));
    assert_eq!(usage.waited, ms(50));
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_the_wait_has_cost() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = client(&lab);
    let wait = locks.request("k").expect("valid").wait(ms(10_000));
    let cost = wait.acquire().await.expect_err("held").usage();
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

/// How a help text is kept among the values.
fn help_of(name: &str) -> String {
    format!("help of {name}")
}

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

impl GaugeFn for Entry {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, _: f64) {
        panic!("several clients share it");
    }
}

impl HistogramFn for Entry {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Book {
    fn describe(&self, name: &KeyName, help: &str) {
        assert!(help.len() > 10, "{help}");
        let mut seen = self.0.lock().expect("no panics");
        seen.insert(help_of(name.as_str()), 1.0);
    }

    fn entry(&self, key: &Key) -> Arc<Entry> {
        let labels: Vec<_> = key.labels().map(|label| label.value()).collect();
        Arc::new(Entry(
            format!("{} {}", key.name(), labels.join(",")),
            self.0.clone(),
        ))
    }
}

impl Recorder for Book {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&name, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.entry(key))
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
    assert!(refused.into_lease().is_none());
    assert!(next.release().await.expect("works").is_released());
    locks.inspect("k").await.expect("works");
    let seen = seen.lock().expect("no panics");
    for (name, value) in [
        ("leasehold_requests_total memory store,acquire", 2.0),
        ("leasehold_requests_total memory store,release", 1.0),
        // One of them looks at the queue of the record, at the hand-off.
        ("leasehold_requests_total memory store,read", 2.0),
        ("leasehold_write_half_units_total memory store", 6.0),
        ("leasehold_read_half_units_total memory store", 3.0),
        ("leasehold_grants_total memory store", 1.0),
        ("leasehold_hand_offs_total memory store", 1.0),
        ("leasehold_wait_seconds memory store", 0.25),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name} of {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn f14_what_is_alarmed_on_is_there_from_the_start_and_everything_has_help_and_store() {
    let seen = Seen::default();
    let book = Book(seen.clone());
    let _scope = metrics::set_default_local_recorder(&book);
    let value = |name: &str| seen.lock().expect("no panics").get(name).copied();
    let (lost, held) = (
        "leasehold_leases_lost_total memory store",
        "leasehold_leases_held memory store",
    );
    let errors = |kind: &str| value(&format!("leasehold_errors_total memory store,{kind}"));
    let lab = Lab::new();
    let locks = client(&lab);
    assert_eq!((value(lost), value(held)), (Some(0.0), Some(0.0)));
    for kind in ["wait_expired", "unreachable", "lost", "throttled"] {
        assert_eq!(errors(kind), Some(0.0), "{kind}");
    }

    // A hand-off keeps the number, a release and a drop take one off.
    let lease = locks.acquire("k").await.expect("free");
    let dropped = locks.acquire("other").await.expect("free");
    assert_eq!(value(held), Some(2.0));
    let (_, next) = tokio::join!(
        async {
            lab.sleep(ms(10)).await;
            lease.release().await
        },
        locks.acquire("k")
    );
    let next = next.expect("handed on");
    assert_eq!(value(held), Some(2.0));
    drop(dropped);
    lab.sleep(ms(10)).await;
    assert_eq!(value(held), Some(1.0));

    let refused = client(&lab).request("k").expect("a key").wait(ms(100));
    refused.acquire().await.expect_err("held");
    assert_eq!(errors("wait_expired"), Some(1.0));

    lab.faulty.start_outage(Fault::BlackHole);
    next.lost().await;
    assert_eq!((value(lost), value(held)), (Some(1.0), Some(0.0)));
    next.renew().await.expect_err("lost");
    assert_eq!(errors("lost"), Some(1.0));
    locks.inspect("k").await.expect_err("an outage");
    locks.list().next_page().await.expect_err("an outage");
    locks.try_acquire("k").await.expect_err("an outage");
    assert_eq!(errors("unreachable"), Some(3.0));

    let seen = seen.lock().expect("no panics").clone();
    for name in seen.keys().filter(|name| !name.starts_with("help of ")) {
        let (name, labels) = name.split_once(' ').expect("labels");
        assert!(labels.starts_with("memory store"), "{name} {labels}");
        assert!(seen.contains_key(&help_of(name)), "{name} has no help");
        // The table of the operators.
        let documented = include_str!("../../../docs/operating.md").contains(&format!("`{name}`"));
        assert!(documented, "{name} is not in docs/operating.md");
    }
}

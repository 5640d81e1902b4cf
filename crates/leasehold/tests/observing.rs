//! Observers of a leader: what they are shown, that it never goes back, and what it costs.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Lab, VIRTUAL_START_MS};
use async_trait::async_trait;
use futures_core::Stream;
use leasehold::clock::TokioClock;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError};
use leasehold::{
    ErrorKind, FencingToken, Leaders, LockClient, LockState, LockStatus, Policy, Term,
};
use leasehold_protocol::record::Record;
use leasehold_protocol::write::{Operation, Write};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn change(leaders: &mut Leaders) -> LockStatus {
    let change = leaders.next_change().await.expect("works");
    change.expect("no shutdown")
}

async fn won(locks: &LockClient, data: &str) -> Term {
    let mut election = locks.elect("k").expect("a key").data(data).label(data);
    let term = election.next_term().await.expect("works");
    term.expect("no shutdown")
}

fn leader(status: &LockStatus) -> Option<(FencingToken, String)> {
    let LockState::Held(held) = status.state() else {
        return None;
    };
    let data = held.data().expect("an address");
    let data = String::from_utf8(data.to_vec()).expect("text");
    Some((held.token().expect("of this library"), data))
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_leader_is_shown_with_its_address_and_no_renewal() {
    let lab = Lab::new();
    let observer = lab.client(Policy::default());
    let mut leaders = observer.observe("k").expect("a key");
    assert_eq!(*change(&mut leaders).await.state(), LockState::Free);

    let term = won(&lab.bystander(), "10.0.0.1:80").await;
    let seen = change(&mut leaders).await;
    assert_eq!(
        leader(&seen),
        Some((term.token(), "10.0.0.1:80".to_owned()))
    );
    // Renewals for a minute are no change.
    let renewed = tokio::select! {
        biased;
        change = change(&mut leaders) => Some(change),
        () = lab.sleep(ms(60_000)) => None,
    };
    assert_eq!(renewed, None);
    assert!(!term.remaining().is_zero());

    // A change is seen within the pause between two polls.
    let resigned = lab.clock_now();
    assert!(term.resign().await.expect("works").is_released());
    let seen = change(&mut leaders).await;
    assert_eq!(*seen.state(), LockState::Free);
    let last = seen.last_holder().expect("known");
    assert_eq!(last.label(), "10.0.0.1:80");
    assert!(lab.clock_now() - resigned <= ms(1_000));

    // The next one is shown even if nobody saw the key free.
    let first = won(&lab.bystander(), "10.0.0.2:80").await;
    assert_eq!(
        leader(&change(&mut leaders).await).map(|l| l.0),
        Some(first.token())
    );
    assert!(first.resign().await.expect("works").is_released());
    let second = won(&lab.bystander(), "10.0.0.3:80").await;
    let seen = change(&mut leaders).await;
    assert_eq!(
        leader(&seen),
        Some((second.token(), "10.0.0.3:80".to_owned()))
    );
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_died_is_shown_as_expired_and_then_its_successor() {
    let lab = Lab::new();
    let dies = lab.client(Policy::default());
    let first = won(&dies, "first").await;
    let observer = lab.bystander();
    let mut leaders = observer.observe("k").expect("a key").every(ms(200));
    assert_eq!(
        leader(&change(&mut leaders).await).map(|l| l.1),
        Some("first".to_owned())
    );
    lab.faulty.start_outage(Fault::BlackHole);
    let seen = change(&mut leaders).await;
    assert!(
        matches!(seen.state(), LockState::Expired(held) if held.token() == Some(first.token()))
    );
    assert!(lab.clock_now() <= ms(20_400), "{:?}", lab.clock_now());
    let second = won(&lab.bystander(), "second").await;
    let seen = change(&mut leaders).await;
    assert_eq!(leader(&seen), Some((second.token(), "second".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_poll_costs_half_a_read_unit_and_is_sent_as_often_as_asked() {
    let lab = Lab::new();
    for (every, polls) in [(None, 60), (Some(ms(5_000)), 12), (Some(ms(100)), 600)] {
        let observer = lab.client(Policy::default());
        let mut leaders = observer.observe("k").expect("a key");
        if let Some(every) = every {
            leaders = leaders.every(every);
        }
        change(&mut leaders).await;
        assert_eq!(observer.usage().read_units, 1.0, "the first one is sure");
        lab.counted.reset();
        let nothing = tokio::select! {
            biased;
            change = change(&mut leaders) => Some(change),
            () = lab.sleep(ms(60_000)) => None,
        };
        assert_eq!(nothing, None);
        let counts = lab.counted.counts();
        let sent = counts.of(Operation::Read);
        assert!(
            sent.abs_diff(polls) <= 1 && counts.requests() == sent,
            "{sent}"
        );
        let units = observer.usage().read_units - 1.0;
        assert!((units - sent as f64 / 2.0).abs() < 0.1, "{units}");
    }
}

#[tokio::test(start_paused = true)]
async fn next_change_is_cancel_safe() {
    let lab = Lab::new();
    let observer = lab.client(Policy::default());
    let mut leaders = observer.observe("k").expect("a key");
    change(&mut leaders).await;
    let term = won(&lab.bystander(), "leader").await;
    lab.counted.reset();
    let began = lab.clock_now();
    // Slow answers, so that calls are dropped in the middle of a read, too.
    lab.faulty.start_outage(Fault::DelayAnswer(ms(300)));
    let seen = loop {
        tokio::select! {
            biased;
            seen = change(&mut leaders) => break seen,
            () = lab.sleep(ms(7)) => {}
        }
    };
    assert_eq!(leader(&seen).map(|leader| leader.0), Some(term.token()));
    assert!(lab.clock_now() - began <= ms(1_700));
    assert!(
        lab.counted.counts().requests() <= 2,
        "one poll, and what makes it sure"
    );
}

#[tokio::test(start_paused = true)]
async fn failures_that_last_are_items_and_a_shutdown_ends_the_stream() {
    let lab = Lab::new();
    let observer = lab.client(Policy::default());
    let mut leaders = observer.observe("k").expect("a key");
    change(&mut leaders).await;
    let term = won(&lab.bystander(), "leader").await;
    // One that passes within the call time-out is no item.
    lab.faulty
        .plan(Operation::Read, [Fault::LoseAnswer, Fault::Throttle]);
    assert_eq!(
        leader(&change(&mut leaders).await).map(|l| l.0),
        Some(term.token())
    );
    assert_eq!(lab.faulty.unused(), 0);

    lab.faulty.start_outage(Fault::LoseRequest);
    for _ in 0..3 {
        let began = lab.clock_now();
        let error = leaders.next_change().await.expect_err("the store fails");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        let took = lab.clock_now() - began;
        assert!(took >= ms(9_000) && took <= ms(12_000), "{took:?}");
    }
    lab.faulty.end_outage();
    assert!(term.resign().await.expect("works").is_released());
    assert_eq!(*change(&mut leaders).await.state(), LockState::Free);

    lab.faulty.plan(Operation::Read, [Fault::AccessDenied]);
    let error = leaders.next_change().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);

    let shuts = async {
        lab.sleep(ms(2_500)).await;
        observer.shutdown(ms(1_000)).await;
        lab.clock_now()
    };
    let (ended, shut) = tokio::join!(leaders.next_change(), shuts);
    assert_eq!(ended.expect("no error"), None);
    assert_eq!(lab.clock_now(), shut);
    let next = poll_fn(|context| Pin::new(&mut leaders).poll_next(context)).await;
    assert!(next.is_none());
}

/// A store whose eventually consistent reads show any of the last states.
#[derive(Clone, Debug)]
struct Lagging {
    inner: MemoryStore,
    past: Arc<Mutex<Vec<Option<Record>>>>,
    seed: Arc<AtomicU64>,
    old: Arc<AtomicU64>,
}

impl Lagging {
    fn new(clock: Arc<TokioClock>, seed: u64) -> Lagging {
        Lagging {
            inner: MemoryStore::with_clock(clock),
            past: Arc::new(Mutex::new(vec![None])),
            seed: Arc::new(AtomicU64::new(seed)),
            old: Arc::default(),
        }
    }

    fn random(&self, below: u64) -> u64 {
        let next = |seed: u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let seed = self
            .seed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        (seed.expect("always some") >> 33) % below
    }

    async fn remember(&self) {
        let now = self.inner.read("k", Consistency::Strong).await;
        let now = now.expect("memory works").value;
        let mut past = self.past.lock().expect("no panic");
        if past.last() != Some(&now) {
            past.push(now);
        }
    }
}

#[async_trait]
impl Wrap for Lagging {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let reply = self.inner.write(write).await?;
        self.remember().await;
        Ok(reply)
    }

    async fn read(&self, key: &str, c: Consistency) -> Result<Reply<Option<Record>>, StoreError> {
        let mut reply = self.inner.read(key, c).await?;
        if c == Consistency::Eventual {
            let past = self.past.lock().expect("no panic");
            let back = self.random(6).min(past.len() as u64 - 1) as usize;
            self.old.fetch_add(u64::from(back > 0), Ordering::Relaxed);
            reply.value.clone_from(&past[past.len() - 1 - back]);
        }
        Ok(reply)
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_never_goes_back_whatever_old_answers_it_gets() {
    let mut old_answers = 0;
    for seed in 1..=40 {
        let clock = Arc::new(TokioClock::new(VIRTUAL_START_MS));
        let store = Lagging::new(clock.clone(), seed);
        let client = || {
            LockClient::builder(Wrapped(store.clone()))
                .clock(clock.clone())
                .build()
        };
        let (leads, observer) = (client(), client());
        let mut leaders = observer.observe("k").expect("a key").every(ms(100));
        let sleep = |by| {
            use leasehold::clock::Clock;
            let (clock, until) = (clock.clone(), clock.elapsed().plus(by));
            async move { clock.sleep_until(until).await }
        };
        let elections = async {
            for term_ms in [150, 50, 30_000, 90, 400, 20, 700, 250, 9_000, 100] {
                let term = won(&leads, "leader").await;
                sleep(ms(term_ms)).await;
                assert!(term.resign().await.expect("works").is_released());
                sleep(ms(term_ms % 170)).await;
            }
            sleep(ms(2_000)).await;
            observer.shutdown(ms(1_000)).await;
        };
        let observed = async {
            let mut all = Vec::new();
            while let Some(status) = leaders.next_change().await.expect("works") {
                all.push(status);
            }
            all
        };
        let ((), all) = tokio::join!(elections, observed);
        old_answers += store.old.load(Ordering::Relaxed);
        // By token, and within a token first held and then free.
        let mut last = None;
        for status in &all {
            let position = match status.state() {
                LockState::Held(held) => (held.token(), false),
                LockState::Free => match status.last_holder() {
                    Some(last) => (last.token(), true),
                    None => (None, true),
                },
                other => panic!("{other:?}"),
            };
            assert!(Some(position) > last, "seed {seed}: {all:#?}");
            last = Some(position);
        }
        assert!(all.len() >= 8, "seed {seed}: {all:#?}");
        let end = all.last().expect("some");
        assert_eq!(*end.state(), LockState::Free, "the last one is shown");
    }
    assert!(old_answers > 1_000, "{old_answers}");
}

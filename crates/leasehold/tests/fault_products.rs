//! Faults in every combination: pairs on acquire, triples on renewal, cuts at every poll, strange dates.

mod support;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use leasehold::clock::ManualClock;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Consistency, Outcome, Reply, Store, StoreError, StoreErrorKind};
use leasehold::{Effect, ErrorKind, LockClient, LockState, Policy, TryAcquireOutcome};
use leasehold_protocol::time::Stamp;
use leasehold_protocol::write::{Operation, Write};
use support::{Lab, VIRTUAL_START_MS};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const ALL: [Fault; 14] = [
    Fault::None,
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::Hang,
    Fault::BlackHole,
    Fault::DelayRequest(ms(900)),
    Fault::DelayRequest(ms(7_000)),
    Fault::DelayAnswer(ms(900)),
    Fault::DelayAnswer(ms(7_000)),
    Fault::Duplicate,
    Fault::Throttle,
    Fault::Conflict,
    Fault::ServerError,
    Fault::AccessDenied,
];

// A: try_acquire under every pair of faults, released under every fault.
#[tokio::test(start_paused = true)]
async fn every_pair_of_faults() {
    let (mut runs, mut bad) = (0, Vec::new());
    for a in ALL {
        for b in ALL {
            for c in [Fault::None, Fault::LoseAnswer, Fault::Duplicate] {
                runs += 1;
                let lab = Lab::new();
                let policy = Policy::builder()
                    .lease_duration(ms(20_000))
                    .build()
                    .unwrap();
                let locks = lab.client(policy);
                lab.faulty.plan(Operation::Acquire, [a, b]);
                lab.faulty.plan(Operation::Release, [c]);
                let start = lab.clock_now();
                let answer = locks.try_acquire("k").await;
                let took = lab.clock_now() - start;
                if took > ms(10_050) {
                    bad.push(format!("{a:?} {b:?}: try took {took:?}"));
                }
                match answer {
                    Ok(TryAcquireOutcome::Acquired(lease)) => {
                        if !lease.is_held() {
                            bad.push(format!("{a:?} {b:?}: not held"));
                        }
                        let r = lease.release().await;
                        lab.sleep(ms(1)).await;
                        // Anything that holds the key from here on does so for nobody.
                        let mut stranded = ms(0);
                        for _ in 0..300 {
                            lab.sleep(ms(100)).await;
                            if matches!(
                                lab.bystander().inspect("k").await.unwrap().state(),
                                LockState::Held(_)
                            ) {
                                // For how long, not until when: a request that lands late is given
                                // back within a round trip.
                                stranded += ms(100);
                            }
                        }
                        let released = matches!(&r, Ok(o) if o.is_released());
                        if stranded > ms(500) && released {
                            bad.push(format!("acquire [{a:?}, {b:?}] release {c:?}: released, then held by nobody for {stranded:?}"));
                        }
                    }
                    Ok(TryAcquireOutcome::Held(h)) => bad.push(format!("{a:?} {b:?}: held by {h}")),
                    Err(e) => {
                        let applied_later = async {
                            let mut seen = false;
                            for _ in 0..80 {
                                lab.sleep(ms(1_000)).await;
                                seen |= lab
                                    .memory
                                    .read("k", Consistency::Strong)
                                    .await
                                    .unwrap()
                                    .value
                                    .is_some();
                            }
                            seen
                        }
                        .await;
                        if e.effect() == Effect::NotApplied && applied_later {
                            bad.push(format!("{a:?} {b:?}: NotApplied but it was"));
                        }
                    }
                }
            }
        }
    }
    bad.sort();
    bad.dedup();
    println!("{runs} runs, {} bad", bad.len());
    for b in bad.iter().take(100) {
        println!("  {b}");
    }
    assert!(bad.is_empty());
}

// B: renewals under every triple of faults: held until told otherwise, and S6.
#[tokio::test(start_paused = true)]
async fn every_triple_of_renewal_faults() {
    let (mut runs, mut bad) = (0, Vec::new());
    for a in ALL {
        for b in ALL {
            for c in ALL {
                runs += 1;
                let lab = Lab::new();
                let locks = lab.client(Policy::default());
                let lease = locks.acquire("k").await.unwrap();
                lab.faulty.plan(Operation::Renew, [a, b, c]);
                for _ in 0..200 {
                    lab.sleep(ms(200)).await;
                    let r = lab
                        .memory
                        .read("k", Consistency::Strong)
                        .await
                        .unwrap()
                        .value
                        .unwrap();
                    let left =
                        r.expires_at.0 - (VIRTUAL_START_MS + lab.clock_now().as_millis() as i64);
                    if lease.is_held() && left < 1_000 {
                        bad.push(format!("S6 {a:?} {b:?} {c:?}: {left} ms left"));
                        break;
                    }
                    if !lease.is_held() {
                        bad.push(format!("lost after three faults: {a:?} {b:?} {c:?}"));
                        break;
                    }
                }
            }
        }
    }
    println!("{runs} runs, {} bad", bad.len());
    for b in bad.iter().take(30) {
        println!("  {b}");
    }
    assert!(bad.is_empty());
}

async fn cut_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polled == polls => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

// C: release, renew, detach, adopt, run cut at every poll under every fault.
#[tokio::test(start_paused = true)]
async fn cuts_everywhere() {
    let (mut runs, mut bad) = (0, Vec::new());
    for what in ["release", "renew", "detach", "adopt", "run", "shutdown"] {
        for fault in ALL {
            for cuts in 0..12 {
                runs += 1;
                let lab = Lab::new();
                let locks = lab.client(Policy::default());
                let other = lab.client(Policy::default());
                let plan = || {
                    for op in [
                        Operation::Renew,
                        Operation::Release,
                        Operation::Acquire,
                        Operation::TakeOver,
                        Operation::Read,
                    ] {
                        lab.faulty.plan(op, [fault]);
                    }
                };
                let ended = match what {
                    "release" => {
                        let l = locks.acquire("k").await.unwrap();
                        plan();
                        cut_after(cuts, l.release()).await
                    }
                    "renew" => {
                        let l = locks.acquire("k").await.unwrap();
                        plan();
                        let e = cut_after(cuts, l.renew()).await;
                        drop(l);
                        e
                    }
                    "lost" => {
                        let l = locks.acquire("k").await.unwrap();
                        plan();
                        let e = cut_after(cuts, l.lost()).await;
                        drop(l);
                        e
                    }
                    "detach" => {
                        let l = locks.acquire("k").await.unwrap();
                        plan();
                        cut_after(cuts, l.detach()).await
                    }
                    "adopt" => {
                        let id = locks.acquire("k").await.unwrap().detach().await.unwrap();
                        plan();
                        cut_after(cuts, other.adopt(&id)).await
                    }
                    "shutdown" => {
                        let l = locks.acquire("k").await.unwrap();
                        plan();
                        let e = cut_after(cuts, locks.shutdown(ms(500))).await;
                        drop(l);
                        e
                    }
                    _ => {
                        plan();
                        let work = |_| lab.sleep(ms(300));
                        cut_after(cuts, locks.run("k", work)).await
                    }
                };
                lab.sleep(ms(3_000)).await;
                // Nothing holds for longer than a lease after the last request can have landed.
                let start = lab.clock_now();
                let mut free = false;
                while lab.clock_now() - start < ms(45_000) {
                    if !matches!(
                        lab.bystander().inspect("k").await.unwrap().state(),
                        LockState::Held(_)
                    ) {
                        free = true;
                        break;
                    }
                    lab.sleep(ms(100)).await;
                }
                let waited = lab.clock_now() - start;
                if !free {
                    bad.push(format!("{what} {fault:?} cut {cuts}: still held"));
                }
                if free && waited > ms(21_500) {
                    bad.push(format!("{what} {fault:?} cut {cuts}: {waited:?}"));
                }
                if ended {
                    break;
                }
            }
        }
    }
    println!("{runs} runs, {} bad", bad.len());
    for b in bad.iter().take(20) {
        println!("  {b}");
    }
    assert!(bad.is_empty());
}

// D: a Lost error that says NotApplied while its renewal lands.
#[tokio::test(start_paused = true)]
async fn a_lost_renewal_that_lands_is_not_called_not_applied() {
    let lab = Lab::new();
    let locks = lab.client(Policy::builder().manual_renewal(true).build().unwrap());
    let lease = locks.acquire("k").await.unwrap();
    lab.sleep(ms(18_500)).await;
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(3_000))]);
    let before = lab
        .memory
        .read("k", Consistency::Strong)
        .await
        .unwrap()
        .value
        .unwrap()
        .expires_at;
    let error = lease.renew().await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    lab.sleep(ms(4_000)).await;
    let after = lab
        .memory
        .read("k", Consistency::Strong)
        .await
        .unwrap()
        .value
        .unwrap()
        .expires_at;
    assert!(after > before);
    assert_eq!(error.effect(), Effect::Unknown, "the renewal landed");
}

// E: an answer that is not the service's (a proxy's error page) carries a `Date` of its own.
#[derive(Debug)]
struct Proxied {
    inner: MemoryStore,
    once: AtomicBool,
    ahead_s: i64,
}
#[async_trait]
impl Wrap for Proxied {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        if self.once.swap(false, Ordering::SeqCst) {
            let mut e = StoreError::new(
                StoreErrorKind::Unavailable,
                Effect::Unknown,
                "502 of a proxy",
            );
            e.stamp = Some(Stamp::WholeSeconds(VIRTUAL_START_MS / 1_000 + self.ahead_s));
            return Err(e);
        }
        self.inner.write(write).await
    }
}
#[tokio::test(start_paused = true)]
async fn one_strange_date_on_an_error_does_not_break_exclusion() {
    let lab = Lab::new();
    let a = lab.bystander().acquire("k").await.unwrap();
    let store = Proxied {
        inner: lab.memory.clone(),
        once: AtomicBool::new(true),
        ahead_s: 3_600,
    };
    let locks = LockClient::builder(Wrapped(store))
        .clock(lab.clock.clone())
        .build();
    let b = locks.try_acquire("k").await.unwrap().into_lease();
    assert!(
        !(a.is_held() && b.as_ref().is_some_and(|b| b.is_held())),
        "two holders: {:?} and {:?}",
        a.remaining(),
        b.unwrap().remaining()
    );
}

// F: is_held goes from false to true.
#[tokio::test]
async fn is_held_never_comes_back() {
    let clock = ManualClock::new(VIRTUAL_START_MS);
    let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    #[derive(Debug)]
    struct Late(MemoryStore, Arc<tokio::sync::Semaphore>);
    #[async_trait]
    impl Wrap for Late {
        fn inner(&self) -> &dyn Store {
            &self.0
        }

        async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
            let renew = write.operation() == Operation::Renew;
            let r = self.0.write(write).await;
            if renew {
                self.1.acquire().await.unwrap().forget();
            }
            r
        }
    }
    let locks = LockClient::builder(Wrapped(Late(memory, gate.clone())))
        .clock(Arc::new(clock.clone()))
        .build();
    let lease = locks.acquire("k").await.unwrap();
    for _ in 0..7 {
        clock.advance(ms(1_000));
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    // A renewal is in flight. The executor is blocked (or the process stopped) for 13 s.
    gate.add_permits(1);
    clock.advance(ms(13_000));
    let before = lease.is_held();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let after = lease.is_held();
    assert!(
        before || !after,
        "is_held() was false at 20 s and is true again"
    );
}

// G: the hint of a refused policy.
#[test]
fn the_hint_of_a_refused_policy_works() {
    let b = Policy::builder()
        .lease_duration(ms(20_000))
        .request_timeout(ms(15_000));
    let error = b.clone().build().expect_err("does not add up");
    let hint = error.hint().unwrap().to_owned();
    let secs: f64 = hint
        .split("`lease` to ")
        .nth(1)
        .unwrap()
        .split('s')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let again = b.lease_duration(Duration::from_secs_f64(secs)).build();
    assert!(
        again.is_ok(),
        "after `{hint}`: {:?}",
        again.unwrap_err().to_string()
    );
}

// H: guards and runtimes.
#[test]
fn guards_outside_of_runtimes() {
    let store = MemoryStore::new();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let locks = LockClient::new(store.clone());
    let a = rt.block_on(locks.acquire("a")).unwrap();
    let b = rt.block_on(locks.acquire("b")).unwrap();
    let c = rt.block_on(locks.acquire("c")).unwrap();
    drop(a); // outside
    // Released in the background: a waiting acquire gets it long before the lease is over.
    let request = locks.request("a").unwrap().wait(ms(5_000));
    drop(rt.block_on(request.acquire()).unwrap());
    let signal = b.watch();
    drop(rt);
    assert!(!b.is_held());
    let rt2 = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(
        rt2.block_on(signal.ended()),
        leasehold::EndReason::TaskEnded
    );
    assert!(rt2.block_on(b.renew()).is_err());
    assert!(rt2.block_on(b.release()).is_err());
    drop(c);
    let drained = rt2.block_on(locks.shutdown(ms(200)));
    assert!(drained);
}

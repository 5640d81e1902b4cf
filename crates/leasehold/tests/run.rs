//! `run`: released on value, error, panic and cancellation; ended when the lease is lost.

use crate::support;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::Lab;
use leasehold::clock::ManualClock;
use leasehold::store::testing::faulty::Fault;
use leasehold::{EndReason, ErrorKind, LockClient, Policy};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn released_on_value_and_on_error() {
    // The F# example leaks the lock when the body returns an error value.
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let value = locks.run("k", |_| async { 7 }).await.expect("works");
    assert_eq!(value, 7);
    lab.free_within("k", Duration::ZERO).await;
    let inner: Result<u8, &str> = locks
        .run("k", |_| async { Err("no") })
        .await
        .expect("the lock works");
    assert_eq!(inner, Err("no"));
    lab.free_within("k", Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the panic must not end the test")]
async fn released_on_panic_which_goes_on() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    for at_once in [true, false] {
        let running = {
            let (locks, clock) = (locks.clone(), lab.clock.clone());
            tokio::task::spawn(async move {
                let work = |_| {
                    assert!(!at_once, "before the first await");
                    async move {
                        use leasehold::clock::Clock;
                        clock.sleep_until(clock.elapsed().plus(ms(5))).await;
                        panic!("in the middle");
                    }
                };
                locks.run::<(), _, _>("k", work).await
            })
        };
        let error = running.await.expect_err("panics");
        assert!(error.is_panic());
        lab.free_within("k", Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn released_on_cancellation() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let dropped = Arc::new(AtomicBool::new(false));
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Flag(dropped.clone());
    tokio::select! {
        biased;
        _ = locks.run("k", |_| async move { let _flag = flag; std::future::pending::<()>().await }) => {}
        () = lab.sleep(ms(50)) => {}
    }
    assert!(dropped.load(Ordering::Relaxed));
    lab.free_within("k", ms(10)).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_ended_when_the_lease_is_lost() {
    // Nobody tells the work, or too late.
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(
        Operation::Renew,
        std::iter::repeat_n(Fault::LoseRequest, 1_000),
    );
    let start = lab.clock_now();
    let error = locks
        .run("k", |scope| async move {
            assert!(scope.remaining() > ms(18_000));
            std::future::pending::<()>().await;
        })
        .await
        .expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("`k`"), "{error}");
    // The lease of 20 s less drift, less the margin of 1 s: before anyone may take over.
    let passed = lab.clock_now() - start;
    assert!(passed <= ms(18_985), "{passed:?}");
    lab.free_within("k", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_counts_even_if_the_release_fails() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    lab.faulty.plan(Operation::Release, [Fault::AccessDenied]);
    let value = locks.run("k", |_| async { 7 }).await.expect("work done");
    assert_eq!(value, 7);
}

#[tokio::test(start_paused = true)]
async fn the_scope_knows_token_and_loss() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let first = locks
        .run("k", |scope| async move { scope.token() })
        .await
        .expect("works");
    let (second, signal) = locks
        .run("k", |scope| async move { (scope.token(), scope.watch()) })
        .await
        .expect("works");
    assert!(second > first);
    // A task that still watches learns that the lease is over.
    assert_eq!(signal.ended().await, leasehold::EndReason::Released);
    assert_eq!(signal.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn f1_work_takes_no_step_after_its_lease_has_ended() {
    let lab = Lab::new();
    let clock = ManualClock::new(support::VIRTUAL_START_MS);
    let locks = LockClient::builder(lab.memory.clone())
        .clock(Arc::new(clock.clone()))
        .build();
    let polls = AtomicUsize::new(0);
    let work = poll_fn(|context| {
        // Always ready to go on, as a loop over a channel is.
        context.waker().wake_by_ref();
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::<()>::Pending
    });
    let mut running = Box::pin(locks.run("k", |_| work));
    let mut poll = || {
        running
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    };
    while polls.load(Ordering::Relaxed) < 3 {
        assert!(poll().is_pending());
        tokio::task::yield_now().await;
    }
    let before = polls.load(Ordering::Relaxed);
    // The process is stopped for longer than its lease. The work is the first that runs after it.
    clock.advance(ms(21_000));
    for _ in 0..3 {
        let _ = poll();
    }
    assert_eq!(polls.load(Ordering::Relaxed), before, "not one step");
}

#[tokio::test(start_paused = true)]
async fn f10_a_lock_that_the_work_itself_has_is_refused_at_once() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let inner = locks.clone();
    let error = locks
        .run("k", |_| async move { inner.acquire("k").await })
        .await
        .expect("the outer one works")
        .expect_err("it would wait for itself");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.key(), Some("k"));
    assert!(error.hint().expect("a hint").contains("re-entrant"));
    assert_eq!(lab.clock_now(), Duration::ZERO, "at once");
    // Another key, another client, or another task may wait.
    let (inner, other) = (locks.clone(), lab.client(Policy::default()));
    let both = locks.run("k", |_| async move {
        drop(inner.acquire("other").await.expect("free"));
        let held = other
            .request("k")
            .expect("a key")
            .wait(ms(50))
            .acquire()
            .await;
        (held.expect_err("held").kind(), ())
    });
    let (kind, ()) = both.await.expect("works");
    assert_eq!(kind, ErrorKind::WaitExpired);
}

#[tokio::test(start_paused = true)]
async fn f10_a_wait_for_ones_own_client_says_so() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    let waits = locks.request("k").expect("a key").wait(ms(500));
    let error = waits.acquire().await.expect_err("held by itself");
    assert_eq!(error.kind(), ErrorKind::WaitExpired);
    assert!(error.to_string().contains("this client itself"), "{error}");
    assert!(error.held().expect("a holder").is_ours());
    assert!(lease.is_held());
}

#[tokio::test(start_paused = true)]
async fn u6_work_that_hangs_loses_its_lock_when_the_policy_bounds_the_hold() {
    let lab = Lab::new();
    let bounded = Policy::builder().max_hold(ms(60_000)).build();
    let locks = lab.client(bounded.expect("adds up"));
    let hangs = locks.run("k", |_| std::future::pending::<()>());
    let error = hangs.await.expect_err("ended");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(error.to_string().contains("max_hold"), "{error}");
    assert_eq!(lab.clock_now().as_secs(), 60);
    lab.free_within("k", Duration::ZERO).await;
    // A guard that nobody looks at is not renewed any more either.
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(60_000)).await;
    assert_eq!(lease.lost().await, EndReason::HeldTooLong);
    lab.free_or_expired_within("k", ms(21_000)).await;
    drop(lease);
    let zero = Policy::builder().max_hold(Duration::ZERO).build();
    assert!(zero.expect_err("refused").to_string().contains("max_hold"));
}

#[tokio::test(start_paused = true)]
async fn the_work_writes_its_payload_and_has_the_time_that_it_needs() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let seen = lab.bystander();
    let left = locks.run("k", async |scope| {
        scope.set_data("row 1000").await.expect("held");
        let status = seen.inspect("k").await.expect("read");
        let data = status
            .holder()
            .and_then(|held| held.data().map(<[u8]>::to_vec));
        assert_eq!(data.as_deref(), Some(&b"row 1000"[..]));
        lab.sleep(ms(3_000)).await;
        let needed = scope.remaining() + ms(1_000);
        scope.ensure(needed).await.expect("renewed");
        assert!(scope.remaining() >= needed);
        let error = scope.ensure(ms(60_000)).await.expect_err("too much");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        scope
    });
    // A task of the work that outlives it changes nothing of the next holder.
    let scope = left.await.expect("ran");
    let _next = locks.acquire("k").await.expect("free");
    let error = scope.set_data("late").await.expect_err("over");
    assert_eq!(error.kind(), ErrorKind::Lost);
    let error = scope.ensure(ms(1)).await.expect_err("over");
    assert_eq!(error.kind(), ErrorKind::Lost);
    let status = seen.inspect("k").await.expect("read");
    assert_eq!(status.holder().and_then(|held| held.data()), None);
}

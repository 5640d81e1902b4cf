//! `run`: released on value, error, panic and cancellation; ended when the lease is lost.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leasehold::protocol::write::Operation;
use leasehold::store::faulty::Fault;
use leasehold::{ErrorKind, Policy};
use support::Lab;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn released_on_value_and_on_error() {
    // Pain 20: the F# example leaks the lock when the body returns an error value.
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
    // Pains 2 and 3: nobody tells the work, or too late.
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
        .run("k", |scope| async move { (scope.token(), scope.signal()) })
        .await
        .expect("works");
    assert!(second > first);
    // A task that still watches learns that the lease is over.
    assert_eq!(signal.lost().await, leasehold::Loss::Released);
    assert_eq!(signal.remaining(), Duration::ZERO);
}

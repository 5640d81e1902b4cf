//! Elections: terms follow each other, a lost one ends its work, and a candidate stands again by itself.
//! `observing.rs` has the observers.

use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::{Kit, Lab, VIRTUAL_START_MS};
use futures_core::Stream;
use leasehold::clock::ManualClock;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::{
    Election, EndReason, ErrorKind, LockClient, LockState, Policy, ReleaseOutcome, Term, TermEnd,
};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const LEASE: Duration = Duration::from_secs(20);

async fn won(election: &mut Election) -> Term {
    let term = election.next_term().await.expect("works");
    term.expect("no shutdown")
}

#[tokio::test(start_paused = true)]
async fn terms_follow_each_other_with_growing_tokens() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let mut election = locks.elect("k").expect("a key");
    let mut last = None;
    for n in 0..5 {
        let term = won(&mut election).await;
        let (token, id) = (term.token(), term.id().clone());
        assert!(Some(token) > last, "{token}");
        assert_eq!(id.token(), token);
        last = Some(token);
        let end = term.lead(|scope| async move {
            assert_eq!(scope.token(), token);
            n
        });
        assert_eq!(end.await, TermEnd::Done(n));
        assert_eq!(lab.state("k").await, LockState::Free);
    }
    assert_eq!(lab.clock_now(), Duration::ZERO, "at once");
    // By hand, and as a stream.
    let term = poll_fn(|context| Pin::new(&mut election).poll_next(context)).await;
    let term = term.expect("no end").expect("works");
    assert!(term.remaining() > ms(18_000));
    let watch = term.watch();
    assert_eq!(
        term.resign().await.expect("works"),
        ReleaseOutcome::Released
    );
    assert_eq!(watch.ended().await, EndReason::Released);
}

#[tokio::test(start_paused = true)]
async fn candidates_of_several_clients_lead_one_at_a_time() {
    let lab = Lab::new();
    let (leading, terms) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let candidate = || async {
        let mut election = lab.bystander().elect("k").expect("a key");
        while terms.load(Ordering::Relaxed) < 12 {
            let term = won(&mut election).await;
            let end = term.lead(|_| async {
                assert_eq!(leading.fetch_add(1, Ordering::Relaxed), 0, "two leaders");
                lab.sleep(ms(700)).await;
                leading.fetch_sub(1, Ordering::Relaxed);
                terms.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(end.await, TermEnd::Done(()));
        }
    };
    tokio::join!(candidate(), candidate(), candidate());
    // 14 terms at most, and little time between two.
    assert!(lab.clock_now() < ms(14 * 1_000), "{:?}", lab.clock_now());
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_within_its_lease_and_padding_and_a_second() {
    for padding in [Duration::ZERO, ms(1_000)] {
        for lived in [0, 1, 6_000, 6_700, 13_000, 100_000] {
            let lab = Lab::new();
            let policy = Policy::builder().expiry_padding(padding).build();
            let policy = policy.expect("adds up");
            let locks = lab.client(policy.clone());
            let other = LockClient::builder(lab.memory.clone())
                .clock(lab.clock.clone())
                .policy(policy)
                .build();
            let (mut first, mut second) = (
                locks.elect("k").expect("a key"),
                other.elect("k").expect("a key"),
            );
            let term = won(&mut first).await;
            let token = term.token();
            let led = AtomicBool::new(false);
            let leads = term.lead(|_| async {
                led.store(true, Ordering::Relaxed);
                pending::<()>().await;
            });
            let follows = async {
                lab.sleep(ms(lived)).await;
                // From here on nothing of the first leader gets out: its process is dead.
                lab.faulty.start_outage(Fault::BlackHole);
                let killed = lab.clock_now();
                let next = won(&mut second).await;
                (next, lab.clock_now() - killed)
            };
            let (end, (next, gap)) = tokio::join!(leads, follows);
            assert!(matches!(end, TermEnd::Lost(EndReason::Expired { .. })));
            assert!(led.load(Ordering::Relaxed) && next.token() > token);
            assert!(gap <= LEASE + padding + ms(1_000), "{lived}: {gap:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_dead_term_is_gone_before_the_next_term_begins() {
    struct Leads<'a>(&'a AtomicBool);
    impl Drop for Leads<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let lab = Lab::new();
    let leads = AtomicBool::new(true);
    let mut election = lab.client(Policy::default()).elect("k").expect("a key");
    let term = won(&mut election).await;
    let work = Leads(&leads);
    let end = term.lead(|_| async move {
        let _work = work;
        pending::<()>().await;
    });
    let follows = async {
        lab.faulty.start_outage(Fault::LoseRequest);
        let next = won(&mut lab.bystander().elect("k").expect("a key")).await;
        assert!(!leads.load(Ordering::Relaxed), "two leaders");
        next
    };
    let (end, _next) = tokio::join!(end, follows);
    assert!(matches!(end, TermEnd::Lost(_)));
}

/// A runtime that runs only in its `block_on`, as a process that is stopped outside of it.
fn process() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

async fn let_others_run() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_leader_that_was_stopped_for_two_leases_does_nothing_after_its_wake_up_100_of_100() {
    for round in 0..100_u64 {
        let clock = Arc::new(ManualClock::new(VIRTUAL_START_MS));
        let memory = MemoryStore::with_clock(clock.clone());
        let client = || {
            LockClient::builder(memory.clone())
                .clock(clock.clone())
                .build()
        };
        let (first, second) = (process(), process());
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = steps.clone();
        let work = poll_fn(move |context| {
            // Always ready to go on, as a loop over a channel is.
            context.waker().wake_by_ref();
            counted.fetch_add(1, Ordering::Relaxed);
            Poll::<()>::Pending
        });
        let (mut leads, token) = first.block_on(async {
            let mut election = client().elect("k").expect("a key");
            let term = won(&mut election).await;
            let token = term.token();
            let mut leads = Box::pin(term.lead(|_| work));
            while steps.load(Ordering::Relaxed) < 3 {
                let _ = leads.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                tokio::task::yield_now().await;
            }
            (leads, token)
        });
        let before = steps.load(Ordering::Relaxed);

        // The first process is stopped for two leases, and somewhat more. The second one follows meanwhile.
        clock.advance(2 * LEASE + ms(round));
        let (mut election, term) = second.block_on(async {
            let mut election = client().elect("k").expect("a key");
            let term = won(&mut election).await;
            (election, term)
        });
        assert!(term.token() > token);
        assert_eq!(steps.load(Ordering::Relaxed), before);

        // It goes on: the work is the first that is polled, or the last.
        let end = first.block_on(async {
            if round % 2 == 1 {
                let_others_run().await;
            }
            leads.as_mut().await
        });
        assert!(matches!(end, TermEnd::Lost(_)), "{round}: {end:?}");
        assert_eq!(steps.load(Ordering::Relaxed), before, "{round}: a step");
        second.block_on(async {
            assert!(!term.remaining().is_zero(), "the second one still leads");
            assert!(term.resign().await.expect("works").is_released());
            drop(won(&mut election).await);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn it_stands_again_after_a_loss_and_through_an_outage() {
    let lab = Lab::new();
    // A request without an answer is waited for, and a throttled client slows down: at most for the call time-out.
    for (fault, most) in [
        (Fault::BlackHole, ms(11_000)),
        (Fault::LoseRequest, ms(2_500)),
        (Fault::Throttle, ms(11_000)),
    ] {
        let mut election = lab.client(Policy::default()).elect("k").expect("a key");
        let term = won(&mut election).await;
        let token = term.token();
        lab.faulty.start_outage(fault);
        let started = lab.clock_now();
        let end = term.lead(|_| pending::<()>()).await;
        assert!(matches!(end, TermEnd::Lost(_)), "{fault:?}: {end:?}");
        // Longer than the call time-out, so that several acquisitions fail.
        let mut next = pin_box(won(&mut election));
        tokio::select! {
            biased;
            _ = &mut next => panic!("{fault:?}: the store does not answer"),
            () = lab.sleep(ms(120_000)) => {}
        }
        lab.faulty.end_outage();
        let ended = lab.clock_now();
        assert!(ended - started >= ms(120_000));
        let term = next.await;
        assert!(term.token() > token, "{fault:?}");
        let gap = lab.clock_now() - ended;
        assert!(gap <= most, "{fault:?}: {gap:?}");
        assert!(term.resign().await.expect("works").is_released());
    }
}

fn pin_box<'a, T>(work: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(work)
}

#[tokio::test(start_paused = true)]
async fn it_stands_again_after_a_forced_release() {
    let lab = Lab::new();
    let mut election = lab.client(Policy::default()).elect("k").expect("a key");
    let term = won(&mut election).await;
    let token = term.token();
    let forced = async {
        let other = lab.bystander();
        other.force_release("k", token, "stuck").await
    };
    let (end, forced) = tokio::join!(term.lead(|_| pending::<()>()), forced);
    assert!(forced.expect("works").is_released());
    assert!(
        matches!(end, TermEnd::Lost(EndReason::Superseded)),
        "{end:?}"
    );
    assert!(won(&mut election).await.token() > token);
}

#[tokio::test(start_paused = true)]
async fn a_term_is_bounded_by_max_hold_and_renewed_whatever_the_policy_says() {
    let lab = Lab::new();
    let policy = Policy::builder()
        .manual_renewal(true)
        .wait(Duration::ZERO)
        .max_hold(ms(60_000));
    let mut election = lab.client(Policy::default()).elect("k").expect("a key");
    election = election.policy(policy.build().expect("adds up"));
    let holder = lab.bystander().acquire("k").await.expect("free");
    let frees = async {
        lab.sleep(ms(45_000)).await;
        holder.release().await.expect("works");
    };
    let (term, ()) = tokio::join!(won(&mut election), frees);
    let began = lab.clock_now();
    let end = term.lead(|_| pending::<()>()).await;
    assert_eq!(end, TermEnd::Lost(EndReason::HeldTooLong));
    assert_eq!(lab.clock_now() - began, ms(60_000));
    assert_eq!(end.value(), None);
    drop(won(&mut election).await);
}

#[tokio::test(start_paused = true)]
async fn errors_that_do_not_pass_are_returned_and_the_next_call_stands_again() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let mut election = locks.elect("k").expect("a key");
    lab.faulty
        .plan(Operation::Acquire, [Fault::AccessDenied; 3]);
    for _ in 0..3 {
        let error = election.next_term().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::AccessDenied);
    }
    // A caller that ignores them does not make the client busy.
    assert!(lab.clock_now() >= ms(100), "{:?}", lab.clock_now());
    assert_eq!(lab.faulty.unused(), 0);
    drop(won(&mut election).await);
    // The setting is wrong until another one is given.
    election = election.lease_duration(ms(1));
    let error = election.next_term().await.expect_err("does not add up");
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let mut election = election.lease_duration(LEASE);
    drop(won(&mut election).await);
    let error = locks.elect("").expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // The work of the key is done, for good.
    let once = locks.once("done").expect("a key");
    let ran = once.run(|_| async { Ok::<_, String>(()) }).await;
    assert!(matches!(ran, Ok(leasehold::Once::Ran(()))));
    let mut election = locks.elect("done").expect("a key");
    let error = election.next_term().await.expect_err("done");
    assert_eq!(error.kind(), ErrorKind::AlreadyDone);
}

#[tokio::test(start_paused = true)]
async fn the_leader_cannot_stand_in_its_own_term_but_may_in_another_task() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let term = won(&mut locks.elect("k").expect("a key")).await;
    let again = locks.clone();
    let end = term.lead(|_| async move {
        let mut inner = again.elect("k").expect("a key");
        inner.next_term().await.expect_err("for itself").kind()
    });
    assert_eq!(end.await.value(), Some(ErrorKind::InvalidInput));

    // A candidate whose term goes on elsewhere waits for its end.
    let mut election = locks.elect("k").expect("a key");
    let term = won(&mut election).await;
    let resigns = async {
        lab.sleep(ms(50_000)).await;
        term.resign().await.expect("works")
    };
    let (next, _) = tokio::join!(won(&mut election), resigns);
    assert_eq!(lab.clock_now().as_secs(), 50);
    drop(next);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the panic must not end the test")]
async fn a_panic_of_the_leader_releases_and_goes_on() {
    let lab = Lab::new();
    let mut election = lab.client(Policy::default()).elect("k").expect("a key");
    let term = won(&mut election).await;
    let led = tokio::spawn(async move { term.lead(|_| async { panic!("a bug") }).await });
    let end: Result<TermEnd<()>, _> = led.await;
    assert!(end.expect_err("panics").is_panic());
    lab.free_within("k", Duration::ZERO).await;
    drop(won(&mut election).await);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_stream_wherever_it_waits() {
    let lab = Lab::new();
    // While another leads.
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    let mut election = locks.elect("k").expect("a key");
    let shuts = async {
        lab.sleep(ms(5_000)).await;
        locks.shutdown(ms(1_000)).await
    };
    let (ended, drained) = tokio::join!(election.next_term(), shuts);
    assert!(ended.expect("no error").is_none() && drained);
    assert!(election.next_term().await.expect("no error").is_none());
    let next = poll_fn(|context| Pin::new(&mut election).poll_next(context)).await;
    assert!(next.is_none());
    assert!(holder.release().await.expect("works").is_released());
    lab.free_within("k", Duration::ZERO).await;

    // In the pause after a failure, and in the middle of a request.
    for fault in [Fault::Throttle, Fault::BlackHole] {
        let locks = lab.client(Policy::default());
        let mut election = locks.elect("k").expect("a key");
        lab.faulty.start_outage(fault);
        let shuts = async {
            lab.sleep(ms(33_333)).await;
            locks.shutdown(ms(0)).await;
            lab.clock_now()
        };
        let (ended, shut) = tokio::join!(election.next_term(), shuts);
        assert!(ended.expect("no error").is_none());
        assert_eq!(lab.clock_now(), shut, "at once");
        lab.faulty.end_outage();
    }

    // A term that was taken lasts until its leader ends it.
    let locks = lab.client(Policy::default());
    let term = won(&mut locks.elect("other").expect("a key")).await;
    let shuts = async {
        let early = locks.shutdown(ms(30_000)).await;
        assert!(!early, "it leads");
    };
    let lead = term.lead(|_| lab.sleep(ms(40_000)));
    let (end, ()) = tokio::join!(lead, shuts);
    assert_eq!(end, TermEnd::Done(()));
    assert!(locks.shutdown(ms(1_000)).await);
    lab.free_within("other", Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn next_term_is_cancel_safe() {
    let lab = Lab::new();
    let mut requests = Vec::new();
    for dropped in [false, true] {
        let holder = lab.bystander().acquire("k").await.expect("free");
        let mut election = lab.client(Policy::default()).elect("k").expect("a key");
        lab.counted.reset();
        let until = lab.clock_now() + ms(30_000);
        let mut holder = Some(holder);
        let term = loop {
            if lab.clock_now() >= until
                && let Some(holder) = holder.take()
            {
                assert!(holder.release().await.expect("works").is_released());
            }
            let polled_for = if dropped { ms(7) } else { ms(30_000) };
            tokio::select! {
                biased;
                term = won(&mut election) => break term,
                () = lab.sleep(polled_for) => {}
            }
        };
        assert!(lab.clock_now() - until < ms(1_500), "dropped: {dropped}");
        requests.push(lab.counted.counts().requests());
        assert!(term.resign().await.expect("works").is_released());
        lab.free_within("k", Duration::ZERO).await;
    }
    // A candidacy that begins anew each time would send thousands.
    assert!(requests[1] <= requests[0] * 2, "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn an_election_that_is_dropped_strands_nothing() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    for stood in [0, 1, 5, 50, 500, 5_000] {
        let holder = lab.bystander().acquire("k").await.expect("free");
        let mut election = locks.elect("k").expect("a key");
        tokio::select! {
            biased;
            _ = election.next_term() => panic!("held"),
            () = lab.sleep(ms(stood)) => {}
        }
        drop(election);
        lab.sleep(ms(10)).await;
        let LockState::Held(held) = lab.state("k").await else {
            panic!("held");
        };
        assert_eq!(held.waiting(), Some(0), "its place is left");
        assert!(holder.release().await.expect("works").is_released());
        lab.free_within("k", Duration::ZERO).await;
    }
    // A term that is dropped is released in the background.
    drop(won(&mut locks.elect("k").expect("a key")).await);
    lab.free_within("k", ms(10)).await;
    // So is one whose work is dropped.
    let term = won(&mut locks.elect("k").expect("a key")).await;
    tokio::select! {
        biased;
        _ = term.lead(|_| pending::<()>()) => panic!("leads for ever"),
        () = lab.sleep(ms(60_000)) => {}
    }
    lab.free_within("k", ms(10)).await;
}

#[tokio::test]
async fn on_every_store_candidates_take_turns_and_observers_see_them() {
    for kit in [Kit::sqlite(), Kit::dynamodb().await] {
        let client = || LockClient::builder(kit.store.clone()).build();
        let watcher = client();
        let mut leaders = watcher.observe("k").expect("a key").every(ms(20));
        let leading = AtomicUsize::new(0);
        let candidate = |name: &'static str| {
            let (leading, locks) = (&leading, client());
            async move {
                let mut election = locks.elect("k").expect("a key").data(name).label(name);
                let mut tokens = Vec::new();
                for _ in 0..3 {
                    let term = won(&mut election).await;
                    let end = term.lead(|scope| async move {
                        assert_eq!(leading.fetch_add(1, Ordering::Relaxed), 0, "two leaders");
                        pause(ms(150)).await;
                        leading.fetch_sub(1, Ordering::Relaxed);
                        scope.token()
                    });
                    tokens.push(end.await.value().expect("not lost"));
                }
                tokens
            }
        };
        let observer = async {
            let mut seen = Vec::new();
            while let Some(status) = leaders.next_change().await.expect("works") {
                if let LockState::Held(held) = status.state() {
                    // A leader that was handed the key shows its address when it has noticed that.
                    if let Some(data) = held.data() {
                        assert_eq!(String::from_utf8_lossy(data), held.label());
                        seen.push(held.token().expect("ours"));
                    }
                }
            }
            seen
        };
        let elections = async {
            let tokens = tokio::join!(candidate("one"), candidate("two"));
            watcher.shutdown(ms(1_000)).await;
            [tokens.0, tokens.1]
        };
        let (tokens, seen) = tokio::join!(elections, observer);
        let mut all: Vec<_> = tokens.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "{}: {tokens:?}", kit.name);
        assert!(seen.is_sorted(), "{}: {seen:?}", kit.name);
        assert!(seen.len() >= 4, "{}: {seen:?} of {all:?}", kit.name);
    }
}

#[expect(clippy::disallowed_methods, reason = "real stores need real time")]
async fn pause(by: Duration) {
    tokio::time::sleep(by).await;
}

//! The waiters of one key in one client: order, leaving, failing stores (`docs/protocol.md`, section 9). In virtual time; requests are counted.

use crate::support;
use std::sync::{Arc, Mutex};

use crate::support::Lab;
use crate::support::waiters::{client, futures, ms, policy, poll, released, same, settle, waiter};
use leasehold::store::testing::faulty::Fault;
use leasehold::{
    EndReason, ErrorKind, LockClient, Policy, PolicyBuilder, ReleaseOutcome, TryAcquireOutcome,
};
use leasehold_protocol::write::Operation;

/// A client that takes no place in the queue of the record, because F# clients share the table.
fn shared(lab: &Lab) -> LockClient {
    lab.client(policy().shared_with_fsharp(true).build().expect("adds up"))
}

#[tokio::test(start_paused = true)]
async fn in_order_of_arrival_and_without_a_request() {
    let lab = Lab::new();
    let locks = client(&lab);
    let first = locks.acquire("k").await.expect("free");
    let (id, signal, mut token) = (first.id().clone(), first.watch(), first.token());
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..30 {
        let (locks, order, lab_clock) = (locks.clone(), order.clone(), lab.clock.clone());
        let mut future = Box::pin(async move {
            use leasehold::clock::Clock;
            let lease = locks.acquire("k").await.expect("in the queue");
            order.lock().expect("no panics").push(number);
            lab_clock.sleep_until(lab_clock.elapsed().plus(ms(5))).await;
            assert!(lease.is_held());
            let token = lease.token();
            assert!(released(lease).await.is_released());
            token
        });
        assert!(poll(&mut future).is_pending());
        waiting.push(future);
    }
    settle(&lab).await;
    assert_eq!(
        lab.counted.counts().requests(),
        1,
        "a guard here: nobody asks"
    );
    assert_eq!(released(first).await, ReleaseOutcome::HandedOff);
    // The old guard's signal says so.
    tokio::select! {
        biased;
        loss = signal.ended() => assert_eq!(loss, EndReason::Released),
        () = lab.sleep(ms(0)) => panic!("the old guard is still held"),
    }
    let started = lab.clock_now();
    for waiter in futures(waiting).await {
        assert!(waiter > token && waiter.stored() == token.stored());
        token = waiter;
    }
    assert_eq!(
        *order.lock().expect("no panics"),
        (0..30).collect::<Vec<_>>()
    );
    assert_eq!(token.pass(), 30);
    assert!(
        lab.clock_now() - started < ms(30 * 6 + 5),
        "no pause between them"
    );
    // One acquisition and one release for 31 guards, and a look at the queue of the record.
    assert_eq!(lab.counted.counts().requests(), 3);
    lab.free_within("k", ms(1)).await;
    // By an identity that was handed off, nothing of the others can be touched.
    let again = locks.acquire("k").await.expect("free");
    assert_eq!(
        locks.release(&id).await.expect("works"),
        ReleaseOutcome::AlreadyReleased
    );
    let error = locks.adopt(&id).await.expect_err("handed off");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(again.is_held());
}

#[tokio::test(start_paused = true)]
async fn one_contender_whatever_the_number_of_waiters() {
    let mut costs = Vec::new();
    for count in [1, 25, 1_000] {
        let lab = Lab::new();
        let locks = client(&lab);
        let holder = lab.bystander().acquire("k").await.expect("free");
        let waiting: Vec<_> = (0..count).map(|_| waiter(&locks, same)).collect();
        lab.sleep(ms(10_000)).await;
        let counts = lab.counted.counts();
        assert_eq!(counts.of(Operation::Acquire), 1, "{count} waiters");
        assert!(counts.requests() < 40, "{count}: {}", counts.requests());
        costs.push(counts.requests());
        // The other lets go: all of them have the key one after the other, on one grant for 257 of them.
        assert!(released(holder).await.is_released());
        lab.counted.reset();
        let work = waiting.into_iter().map(|waiting| {
            Box::pin(async move {
                let lease = waiting.await.expect("in the queue");
                let token = lease.token();
                assert!(lease.is_held());
                drop(lease);
                token
            })
        });
        let tokens = futures(work.collect()).await;
        assert!(tokens.is_sorted(), "tokens grow in order of arrival");
        lab.sleep(ms(5)).await;
        lab.free_within("k", ms(5)).await;
        let counts = lab.counted.counts();
        let grants = u64::try_from(count).expect("small").div_ceil(257);
        assert_eq!(counts.of(Operation::Release), grants, "{count} waiters");
        assert!(counts.of(Operation::Acquire) <= grants + 1);
    }
    // Jitter alone tells them apart.
    let (least, most) = (costs.iter().min(), costs.iter().max());
    assert!(
        most.zip(least).is_some_and(|(m, l)| *m <= l * 2),
        "{costs:?}"
    );
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "tasks of a caller")]
async fn a_thousand_tasks_without_a_hold() {
    let lab = Lab::new();
    let locks = client(&lab);
    let sum = Arc::new(Mutex::new(0u32));
    let tasks: Vec<_> = (0..1_000)
        .map(|_| {
            let (locks, sum) = (locks.clone(), sum.clone());
            tokio::spawn(async move {
                let add = |_| async move { *sum.lock().expect("no panics") += 1 };
                locks.run("k", add).await.expect("in the queue");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(*sum.lock().expect("no panics"), 1_000);
    // 4 grants of 257 guards.
    assert_eq!(lab.counted.counts().requests(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_detached_grant_is_waited_for_like_anothers() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, |p| p.wait(ms(5_000)));
    let id = lease.detach().await.expect("works");
    let error = next.await.expect_err("held");
    assert_eq!(error.kind(), ErrorKind::WaitExpired);
    assert_eq!(
        error.held().and_then(leasehold::HolderInfo::token),
        Some(id.token())
    );
    assert!(error.requests() > 3, "it looked: {}", error.requests());
    let next = waiter(&locks, same);
    assert!(locks.release(&id).await.expect("works").is_released());
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_leader_learns_of_a_loss_and_takes_over() {
    let lab = Lab::new();
    let locks = lab.client(policy().manual_renewal(true).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    lab.sleep(ms(18_900)).await;
    assert_eq!(lab.counted.counts().requests(), 1);
    // Nobody renews it, and its guard stays: the key is taken over when the lease ends.
    let next = next.await.expect("taken over");
    let passed = lab.clock_now();
    assert!(passed > ms(20_000) && passed < ms(21_100), "{passed:?}");
    assert!(next.token() > lease.token() && next.is_held() && !lease.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_may_leave_from_any_place() {
    for gone in 0..4usize {
        for remote in [false, true] {
            let lab = Lab::new();
            let locks = client(&lab);
            let holder = if remote {
                lab.bystander()
            } else {
                locks.clone()
            };
            let lease = holder.acquire("k").await.expect("free");
            let mut waiting: Vec<_> = (0..4).map(|_| Some(waiter(&locks, same))).collect();
            lab.sleep(ms(200)).await;
            waiting[gone] = None;
            settle(&lab).await;
            assert!(released(lease).await.is_released());
            for next in waiting.into_iter().flatten() {
                drop(next.await.expect("its turn"));
            }
            lab.sleep(ms(5)).await;
            lab.free_within("k", ms(5)).await;
            if !remote {
                // An acquisition, a release, and a look at the queue of the record.
                assert_eq!(lab.counted.counts().requests(), 3, "{gone}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_in_the_hands_of_nobody_goes_on() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks
        .request("k")
        .expect("valid")
        .data("other")
        .acquire()
        .await
        .expect("free");
    let (second, third) = (waiter(&locks, same), waiter(&locks, same));
    // The grant is another's; the second is to ask the store, and leaves without having looked.
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    drop(second);
    drop(third.await.expect("acquired"));
    // While the leader's request is on its way: it is given back, and the next one asks.
    lab.sleep(ms(5)).await;
    lab.faulty
        .plan(Operation::Acquire, [Fault::DelayAnswer(ms(300))]);
    let (head, next) = (waiter(&locks, same), waiter(&locks, same));
    lab.sleep(ms(100)).await;
    drop(head);
    let lease = next.await.expect("acquired");
    assert!(lease.is_held());
    drop(lease);
    lab.sleep(ms(400)).await;
    lab.free_within("k", ms(5)).await;
}

#[tokio::test(start_paused = true)]
async fn every_wait_has_its_own_bound_and_says_for_whom() {
    let lab = Lab::new();
    let locks = client(&lab);
    // Behind a guard of this client.
    let lease = locks
        .request("k")
        .expect("valid")
        .label("me")
        .acquire()
        .await
        .expect("free");
    let short = waiter(&locks, |p| p.wait(ms(300)));
    let long = waiter(&locks, |p| p.wait(ms(700)));
    let before = lab.clock_now();
    let errors = futures(vec![short, long]).await;
    assert_eq!(lab.clock_now() - before, ms(700));
    for (error, wait) in errors.into_iter().zip([300, 700]) {
        let error = error.expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WaitExpired);
        assert_eq!(error.elapsed(), ms(wait));
        assert_eq!(error.requests(), 0, "nobody asked the store");
        let held = error.held().expect("by whom");
        assert_eq!((held.label(), held.token()), ("me", Some(lease.token())));
        assert!(held.until() > std::time::UNIX_EPOCH + ms(support::VIRTUAL_START_MS as u64));
        assert_eq!(error.key(), Some("k"));
    }
    assert!(released(lease).await.is_released());
    // Behind another's: the one whose turn to ask never came knows what the leader has seen.
    let holder = lab.bystander().acquire("k").await.expect("free");
    let head = waiter(&locks, |p| p.wait(ms(2_000)));
    let behind = waiter(&locks, |p| p.wait(ms(1_000)));
    for error in futures(vec![head, behind]).await {
        let error = error.expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WaitExpired);
        assert!(error.requests() > 1, "{}", error.requests());
        let held = error.held().expect("by whom");
        assert_eq!(held.token(), Some(holder.token()));
    }
    // So does the one whose turn came too late for a look of its own.
    let head = waiter(&locks, |p| p.wait(ms(1_000)));
    let behind = waiter(&locks, |p| p.wait(ms(1_001)));
    for error in futures(vec![head, behind]).await {
        let error = error.expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WaitExpired, "{error}");
        assert_eq!(error.held().expect("by whom").token(), Some(holder.token()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_blamed_on_a_holder_who_is_gone() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Acquire, [Fault::BlackHole]);
    // Not handed off, so that the waiter asks the store.
    let mut waiting = waiter(&locks, |p| p.wait(ms(1_500)).hand_off(false));
    assert!(poll(&mut waiting).is_pending());
    lab.sleep(ms(100)).await;
    assert!(released(lease).await.is_released());
    let error = waiting.await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert_eq!(error.elapsed(), ms(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_first_answer_is_under_way_names_the_holder() {
    let lab = Lab::new();
    let locks = client(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    let head = waiter(&locks, |p| p.wait(ms(3_000)));
    let behind = waiter(&locks, |p| p.wait(ms(4_000)));
    lab.sleep(ms(2_900)).await;
    lab.faulty.start_outage(Fault::Hang);
    for error in futures(vec![head, behind]).await {
        let error = error.expect_err("held");
        assert_eq!(error.kind(), ErrorKind::WaitExpired, "{error}");
        assert_eq!(error.held().expect("by whom").token(), Some(holder.token()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_that_is_denied_ends_the_wait() {
    let lab = Lab::new();
    let _holder = lab.bystander().acquire("k").await.expect("free");
    let next = waiter(&shared(&lab), |p| p.wait(ms(5_000)));
    lab.faulty.plan(Operation::Read, [Fault::AccessDenied]);
    let error = next.await.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::AccessDenied, "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_asks_for_a_key_that_this_client_releases() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty
        .plan(Operation::Release, [Fault::DelayRequest(ms(500))]);
    let (outcome, next) = tokio::join!(lease.release(), async {
        settle(&lab).await;
        let next = waiter(&locks, same);
        lab.sleep(ms(300)).await;
        assert_eq!(lab.counted.counts().requests(), 1, "the first one's");
        next.await
    });
    assert_eq!(outcome.expect("works"), ReleaseOutcome::Released);
    assert!(next.expect("acquired").is_held());
    assert_eq!(lab.counted.counts().of(Operation::Acquire), 2);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_behind_others_says_how_the_store_fails() {
    let lab = Lab::new();
    let locks = client(&lab);
    lab.faulty.start_outage(Fault::Throttle);
    let head = waiter(&locks, |p| p.wait(ms(4_000)));
    let behind = waiter(&locks, |p| p.wait(ms(3_000)));
    for error in futures(vec![head, behind]).await {
        let error = error.expect_err("throttled");
        assert_eq!(error.kind(), ErrorKind::Throttled, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_goes_on_with_polls() {
    let lab = Lab::new();
    let locks = shared(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    // A hundred heads, one after the other: one write in all, and polls as of one waiter.
    let waiting: Vec<_> = (1..=100).map(|_| waiter(&locks, same)).collect();
    let mut waiting = std::collections::VecDeque::from(waiting);
    while waiting.pop_front().is_some() {
        // Those that are left are looked after, as their callers do.
        for waiter in &mut waiting {
            assert!(poll(waiter).is_pending());
        }
        lab.sleep(ms(50)).await;
    }
    let counts = lab.counted.counts();
    assert_eq!(counts.of(Operation::Acquire), 1);
    assert!(counts.requests() < 30, "{}", counts.requests());
    drop(holder);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_put_up_with_once() {
    for (fault, kind) in [
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::BlackHole, ErrorKind::Unreachable),
    ] {
        let lab = Lab::new();
        let locks = client(&lab);
        lab.faulty
            .plan(Operation::Acquire, std::iter::repeat_n(fault, 1_000));
        let before = lab.clock_now();
        let waiting: Vec<_> = (0..50)
            .map(|_| waiter(&locks, PolicyBuilder::wait_forever))
            .collect();
        for error in futures(waiting).await {
            let error = error.expect_err("no answer");
            assert_eq!(error.kind(), kind);
            assert!(error.elapsed() >= ms(10_000) && error.requests() >= 3);
        }
        // The first request, the call time-out of 10 s, the last request; not once for each of them.
        let passed = lab.clock_now() - before;
        assert!(passed < ms(14_100), "{fault:?}: {passed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_does_not_queue_and_does_not_wait() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    let before = lab.counted.counts().requests();
    let tried = locks.try_acquire("k").await.expect("works");
    assert!(matches!(tried, TryAcquireOutcome::Held(held) if held.is_ours()));
    assert_eq!(lab.counted.counts().requests(), before, "known at once");
    let tried = lab.client(Policy::default()).try_acquire("k").await;
    assert!(matches!(tried, Ok(TryAcquireOutcome::Held(held)) if !held.is_ours()));
    assert_eq!(lab.counted.counts().requests(), before + 1);
    // A guard of a try stands before the line like any other.
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    drop(next);
    settle(&lab).await;
    let lease = locks
        .try_acquire("k")
        .await
        .expect("works")
        .into_lease()
        .expect("free");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(next.await.expect("handed off").token().pass(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_leader_asks_nothing_while_a_try_of_its_client_holds_the_key() {
    let lab = Lab::new();
    let locks = shared(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    let mut head = waiter(&locks, same);
    lab.sleep(ms(1)).await;
    assert!(poll(&mut head).is_pending());
    assert!(released(holder).await.is_released());
    // A try of the same client comes before the leader's next look.
    let lease = locks.try_acquire("k").await.expect("works").into_lease();
    let lease = lease.expect("free");
    lab.counted.reset();
    tokio::select! {
        biased;
        _ = &mut head => panic!("held"),
        () = lab.sleep(ms(4_000)) => {}
    }
    assert_eq!(lab.counted.counts().requests(), 0);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(head.await.expect("handed off").token().pass(), 1);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a task of a caller")]
async fn the_leader_is_told_when_a_try_of_its_client_lets_go_of_another_grant() {
    let lab = Lab::new();
    let locks = shared(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    // In a task of its own, which runs only when it is woken.
    let head = tokio::spawn(waiter(&locks, |p| p.label("another")));
    lab.sleep(ms(1)).await;
    assert!(released(holder).await.is_released());
    let lease = locks.try_acquire("k").await.expect("works").into_lease();
    let lease = lease.expect("free");
    lab.sleep(ms(4_000)).await;
    assert!(!head.is_finished());
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let before = lab.clock_now();
    let lease = head.await.expect("no panic").expect("acquired");
    assert_eq!(lease.token().pass(), 0);
    let waited = lab.clock_now() - before;
    assert!(waited < ms(50), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_queue_and_hands_nothing_off() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let waiting: Vec<_> = (0..3).map(|_| waiter(&locks, same)).collect();
    let (drained, errors, outcome) =
        tokio::join!(locks.shutdown(ms(1_000)), futures(waiting), async {
            lab.sleep(ms(10)).await;
            released(lease).await
        });
    assert!(drained);
    assert_eq!(outcome, ReleaseOutcome::Released);
    for error in errors {
        assert_eq!(error.expect_err("shut down").kind(), ErrorKind::ShutDown);
    }
    lab.free_within("k", ms(1)).await;
}

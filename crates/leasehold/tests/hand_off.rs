//! A released guard goes to the next waiter of the client (`docs/protocol.md`, section 9). In virtual time; requests are counted.

use crate::support;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crate::support::Lab;
use crate::support::waiters::{client, ms, policy, poll, released, same, settle, waiter};
use leasehold::store::testing::faulty::Fault;
use leasehold::{
    CheckDelay, DropPolicy, EndReason, ErrorKind, LeaseWatch, Policy, PolicyBuilder, ReleaseOutcome,
};
use leasehold_protocol::write::Operation;

#[tokio::test(start_paused = true)]
async fn hand_offs_are_capped() {
    let lab = Lab::new();
    let locks = client(&lab);
    let mut lease = locks.acquire("k").await.expect("free");
    lab.counted.reset();
    for pass in 1..=256 {
        let next = waiter(&locks, same);
        assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
        lease = next.await.expect("handed off");
        assert_eq!(lease.token().pass(), pass);
    }
    let next = waiter(&locks, same);
    let last = lease.token();
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = next.await.expect("acquired");
    assert_eq!(lease.token().pass(), 0);
    assert!(lease.token() > last);
    assert_eq!(lab.counted.counts().requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn hand_offs_are_few_while_another_process_has_a_place() {
    let lab = Lab::new();
    let (locks, other) = (client(&lab), lab.client(Policy::default()));
    let mut lease = locks.acquire("k").await.expect("free");
    let mut others = Box::pin(other.acquire("k"));
    tokio::select! {
        biased;
        _ = &mut others => panic!("held"),
        () = lab.sleep(ms(200)) => {}
    }
    // The first hand-off looks at the queue, and knows its answer at the next one.
    let mut passes = 0;
    loop {
        let next = waiter(&locks, same);
        let outcome = released(lease).await;
        lab.sleep(ms(1)).await;
        if outcome == ReleaseOutcome::Released {
            assert_eq!(passes, 9);
            let before = lab.clock_now();
            let mut next = next;
            tokio::select! {
                biased;
                lease = &mut others => drop(lease.expect("its turn")),
                _ = &mut next => panic!("behind the other"),
            }
            assert!(lab.clock_now() - before < ms(60));
            assert_eq!(next.await.expect("its turn").token().pass(), 0);
            return;
        }
        assert_eq!(outcome, ReleaseOutcome::HandedOff);
        passes += 1;
        lease = next.await.expect("handed off");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_another_grant_acquires_it() {
    let others: [fn(PolicyBuilder) -> PolicyBuilder; 5] = [
        |p| p.lease_duration(ms(30_000)),
        |p| p.label("another"),
        |p| p.hand_off(false),
        |p| p.manual_renewal(true),
        |p| p.drop_policy(DropPolicy::LeaveToExpire),
    ];
    for change in others {
        let lab = Lab::new();
        let locks = client(&lab);
        let lease = locks.acquire("k").await.expect("free");
        let next = waiter(&locks, change);
        let third = waiter(&locks, same);
        let before = lease.token();
        assert_eq!(released(lease).await, ReleaseOutcome::Released);
        let lease = next.await.expect("acquired");
        assert!(lease.token() > before && lease.token().pass() == 0);
        assert_eq!(released(lease).await, ReleaseOutcome::Released);
        assert_eq!(third.await.expect("acquired").token().pass(), 0);
    }
    // Data, too.
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks
        .request("k")
        .expect("valid")
        .data("a")
        .acquire()
        .await
        .expect("free");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_it_is_turned_off_everyone_acquires() {
    let lab = Lab::new();
    let locks = lab.client(policy().hand_off(false).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

/// Notes, whenever it is woken, whether the guard before was over by then.
struct Witness {
    before: LeaseWatch,
    over: Mutex<Vec<bool>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let over = self.before.remaining().is_zero();
        self.over.lock().expect("no panics").push(over);
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_guard_is_over_when_the_next_waiter_is_told() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let mut next = waiter(&locks, same);
    let witness = Arc::new(Witness {
        before: lease.watch(),
        over: Mutex::default(),
    });
    let waker = Waker::from(witness.clone());
    let mut context = Context::from_waker(&waker);
    assert!(next.as_mut().poll(&mut context).is_pending());
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(*witness.over.lock().expect("no panics"), [true]);
    assert!(next.await.expect("handed off").is_held());
}

#[tokio::test(start_paused = true)]
async fn how_to_wait_is_not_part_of_a_grant() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, |p| {
        p.wait_forever().check_delay(CheckDelay::Fixed(ms(20)))
    });
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(next.await.expect("handed off").token().pass(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fence_turns_it_off() {
    let lab = Lab::new();
    let locks = client(&lab);
    let table = {
        use leasehold::store::dynamodb::DynamoDbStore;
        DynamoDbStore::new(support::client("http://127.0.0.1:9"), "t")
    };
    // A check made of a clone of the identity counts.
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    table.fence(&lease.id().clone()).expect("a check");
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = next.await.expect("acquired");
    assert_eq!(lease.token().pass(), 0);
    // None can be made for a guard that was handed off: it would pass under the next one.
    let next = waiter(&locks, same);
    let old = lease.id().clone();
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(table.fence(&old).expect_err("over").kind(), ErrorKind::Lost);
    let lease = next.await.expect("handed off");
    table
        .fence(lease.id())
        .expect("the guard of now can be fenced");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn adopted_and_detached_leases_and_those_released_by_identity_are_not_handed_off() {
    let lab = Lab::new();
    let locks = client(&lab);
    let id = locks
        .acquire("k")
        .await
        .expect("free")
        .detach()
        .await
        .expect("works");
    let lease = locks.adopt(&id).await.expect("ours");
    let next = waiter(&locks, same);
    settle(&lab).await;
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = next.await.expect("acquired");
    // Its own client ends the grant under it, by a copy of its identity that went through text.
    let next = waiter(&locks, same);
    let copy = lease.id().to_string().parse().expect("its own text");
    assert_eq!(
        locks.release(&copy).await.expect("works"),
        ReleaseOutcome::Released
    );
    drop(lease);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_little_left_it_is_renewed_first() {
    let lab = Lab::new();
    let locks = lab.client(policy().manual_renewal(true).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    // 20 s less drift, less the margin of 1 s: at 9.6 s less than the half is left.
    lab.sleep(ms(9_600)).await;
    let next = waiter(&locks, same);
    assert!(lease.remaining() < ms(9_490));
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(lab.counted.counts().of(Operation::Renew), 1);
    let lease = next.await.expect("handed off");
    assert!(lease.remaining() > ms(18_900), "{:?}", lease.remaining());
    // Where that fails, it is released, and the next one acquires it.
    lab.sleep(ms(9_990)).await;
    drop(lease);
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(9_600)).await;
    let next = waiter(&locks, same);
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole]);
    let (outcome, lease) = tokio::join!(lease.release(), next);
    assert_eq!(outcome.expect("works"), ReleaseOutcome::Released);
    let lease = lease.expect("acquired");
    assert_eq!(lease.token().pass(), 0);
    assert!(lease.remaining() > ms(18_900));
    assert_eq!(lab.faulty.unused(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_not_handed_off() {
    let lab = Lab::new();
    let locks = lab.client(policy().manual_renewal(true).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    lab.sleep(ms(19_500)).await;
    assert!(!lease.is_held());
    let outcome = released(lease).await;
    assert!(
        matches!(
            outcome,
            ReleaseOutcome::Released | ReleaseOutcome::ReleasedLate
        ),
        "{outcome}"
    );
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_has_ended_is_not_handed_off() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    let copy = lease.id().to_string().parse().expect("its own text");
    let ended = lab.bystander().release(&copy).await.expect("works");
    assert_eq!(ended, ReleaseOutcome::Released);
    let error = lease.renew().await.expect_err("it is over");
    assert_eq!(error.kind(), ErrorKind::Lost);
    // Early: the process may still keep the key, and most of the lease would be left.
    assert_ne!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn lost_of_a_guard_that_was_handed_off_fires_in_time() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(3_000)).await;
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    let lease = next.await.expect("handed off");
    lab.faulty.plan(
        Operation::Renew,
        std::iter::repeat_n(Fault::LoseRequest, 1_000),
    );
    assert!(matches!(lease.lost().await, EndReason::Expired { .. }));
    // Counted from the acquisition: 20 s less drift, less the margin.
    let passed = lab.clock_now();
    assert!(passed > ms(18_900) && passed <= ms(18_985), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_under_the_next_guard() {
    let lab = Lab::new();
    let locks = client(&lab);
    let mut lease = locks.acquire("k").await.expect("free");
    // A renewal is in flight while it is handed off, and its answer comes under the next guard.
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayAnswer(ms(1_500))]);
    while lab.counted.counts().of(Operation::Renew) == 0 {
        lab.sleep(ms(100)).await;
    }
    let next = waiter(&locks, same);
    let before = lab.clock_now();
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    lease = next.await.expect("handed off");
    assert_eq!(lab.clock_now(), before, "nobody waits for the renewal");
    let left = lease.remaining();
    lab.sleep(ms(1_600)).await;
    assert!(lease.remaining() > left, "the answer counts");
    lease.renew().await.expect("works");
    lab.sleep(ms(60_000)).await;
    assert!(lease.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_guard_in_the_hands_of_nobody_goes_on() {
    // Whatever the policy says of dropped guards: this one was never used.
    for drop_policy in [DropPolicy::Release, DropPolicy::LeaveToExpire] {
        let lab = Lab::new();
        let locks = lab.client(policy().drop_policy(drop_policy).build().expect("adds up"));
        let lease = locks.acquire("k").await.expect("free");
        let (second, third, fourth) = (
            waiter(&locks, same),
            waiter(&locks, same),
            waiter(&locks, same),
        );
        assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
        // It has been given to the second, who leaves without having looked; and so does the third.
        drop(second);
        settle(&lab).await;
        drop(third);
        let lease = fourth.await.expect("handed off");
        assert_eq!(lease.token().pass(), 3);
        let last = waiter(&locks, same);
        assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
        drop(last);
        lab.free_within("k", ms(5)).await;
        assert_eq!(lab.counted.counts().requests(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn no_hand_off_after_a_shutdown_has_begun() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let mut next = waiter(&locks, same);
    let mut drain = Box::pin(locks.shutdown(ms(1_000)));
    assert!(poll(&mut drain).is_pending());
    // The waiter has not noticed yet.
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let error = (&mut next).await.expect_err("shut down");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn work_that_panics_hands_off_and_waiters_that_panic_leave() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    let panics = {
        let locks = locks.clone();
        #[expect(clippy::disallowed_methods, reason = "the panic must not end the test")]
        tokio::spawn(async move {
            locks
                .run::<(), _, _>("k", |_| async { panic!("planned") })
                .await
        })
    };
    settle(&lab).await;
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert!(panics.await.expect_err("panics").is_panic());
    assert_eq!(next.await.expect("handed off").token().pass(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_before_a_hand_off_is_sent_once() {
    let lab = Lab::new();
    let locks = lab.client(policy().manual_renewal(true).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(9_600)).await;
    let next = waiter(&locks, same);
    // A second one would be answered, but a release must not wait for more than one.
    lab.faulty.plan(Operation::Renew, [Fault::LoseRequest]);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(lab.counted.counts().of(Operation::Renew), 0);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn with_as_many_renewals_in_flight_as_may_be_none_is_sent_before_a_hand_off() {
    let lab = Lab::new();
    let locks = lab.client(policy().request_timeout(ms(300)).build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::Renew, [Fault::BlackHole; 8]);
    while lab.faulty.unused() > 0 {
        lab.sleep(ms(10)).await;
    }
    assert!(lease.remaining() > ms(1_000), "{:?}", lease.remaining());
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(lab.counted.counts().of(Operation::Renew), 0);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

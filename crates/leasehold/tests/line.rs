//! The line: waiters of one key in one client stand behind one head, in order, and are handed what the
//! one before them held (`docs/protocol.md` section 9). In virtual time; requests are counted.

mod support;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use leasehold::store::testing::faulty::Fault;
use leasehold::{
    CheckDelay, DropPolicy, EndReason, Error, ErrorKind, Lease, LeaseWatch, LockClient, Policy,
    PolicyBuilder, ReleaseOutcome, TryAcquireOutcome,
};
use leasehold_protocol::write::Operation;
use support::Lab;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A lease of 20 s and looks up to a second apart: a process keeps a key for 10 s.
fn policy() -> PolicyBuilder {
    Policy::builder().check_delay(CheckDelay::Backoff {
        first: ms(50),
        max: ms(1_000),
    })
}

fn client(lab: &Lab) -> LockClient {
    lab.client(policy().build().expect("adds up"))
}

type Waiting = Pin<Box<dyn Future<Output = Result<Lease, Error>> + Send>>;

/// A waiter that stands in line: it has been polled once.
fn waiter(locks: &LockClient, change: fn(PolicyBuilder) -> PolicyBuilder) -> Waiting {
    let locks = locks.clone();
    let mut waiting: Waiting = Box::pin(async move {
        let policy = change(locks.policy().to_builder()).build()?;
        locks.request("k")?.policy(policy).acquire().await
    });
    assert!(poll(&mut waiting).is_pending());
    waiting
}

fn same(policy: PolicyBuilder) -> PolicyBuilder {
    policy
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Lets every other task run until all of them wait.
async fn settle(lab: &Lab) {
    lab.sleep(ms(1)).await;
}

async fn released(lease: Lease) -> ReleaseOutcome {
    lease.release().await.expect("works")
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
            let lease = locks.acquire("k").await.expect("in line");
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
    // One acquisition and one release for 31 guards.
    assert_eq!(lab.counted.counts().requests(), 2);
    lab.free_within("k", ms(1)).await;
    // By an identity that was handed on, nothing of the others can be touched.
    let again = locks.acquire("k").await.expect("free");
    assert_eq!(
        locks.release(&id).await.expect("works"),
        ReleaseOutcome::AlreadyReleased
    );
    let error = locks.adopt(&id).await.expect_err("handed on");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert!(again.is_held());
}

/// Drives several futures at once and gives their values in order.
async fn futures<F: Future + Unpin>(mut all: Vec<F>) -> Vec<F::Output> {
    let mut values: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, value) in all.iter_mut().zip(&mut values) {
            if value.is_none()
                && let Poll::Ready(done) = Pin::new(future).poll(context)
            {
                *value = Some(done);
            }
        }
        if values.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    values.into_iter().flatten().collect()
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
        // The other lets go: all of them have the key one after the other, on one grant for 65 of them.
        assert!(released(holder).await.is_released());
        lab.counted.reset();
        let work = waiting.into_iter().map(|waiting| {
            Box::pin(async move {
                let lease = waiting.await.expect("in line");
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
        let grants = u64::try_from(count).expect("small").div_ceil(65);
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
                locks.run("k", add).await.expect("in line");
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

/// A lease of a client that has waited for another process.
async fn acquired_after_another(lab: &Lab, locks: &LockClient) -> Lease {
    let other = lab.bystander().acquire("k").await.expect("free");
    let waiting = waiter(locks, same);
    lab.sleep(ms(100)).await;
    assert!(released(other).await.is_released());
    waiting.await.expect("its turn")
}

#[tokio::test(start_paused = true)]
async fn hand_offs_are_capped_and_sooner_where_others_want_the_key() {
    for (others, most) in [(false, 256), (true, 64)] {
        let lab = Lab::new();
        let locks = client(&lab);
        if others {
            let lease = acquired_after_another(&lab, &locks).await;
            assert!(released(lease).await.is_released());
        }
        let mut lease = locks.acquire("k").await.expect("free");
        lab.counted.reset();
        for pass in 1..=most {
            let next = waiter(&locks, same);
            assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
            lease = next.await.expect("handed on");
            assert_eq!(lease.token().pass(), pass);
        }
        let next = waiter(&locks, same);
        let last = lease.token();
        assert_eq!(released(lease).await, ReleaseOutcome::Released);
        let lease = next.await.expect("acquired");
        assert_eq!(lease.token().pass(), 0);
        assert!(lease.token() > last);
        assert_eq!(lab.counted.counts().requests(), 2, "others: {others}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_never_empty_forgets_the_others_in_time() {
    let lab = Lab::new();
    let locks = client(&lab);
    let mut lease = acquired_after_another(&lab, &locks).await;
    let started = lab.clock_now();
    let mut most = [0; 10];
    loop {
        let second = (lab.clock_now() - started).as_secs();
        let Some(most) = most.get_mut(usize::try_from(second / 12).expect("small")) else {
            break;
        };
        *most = lease.token().pass().max(*most);
        let next = waiter(&locks, same);
        lab.sleep(ms(10)).await;
        drop(released(lease).await);
        lease = next.await.expect("in line");
    }
    // It keeps the key for 10 s at a time, and leaves it to the others for a second; eight times.
    assert_eq!((most[0], most[6], most[9]), (64, 64, 256), "{most:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_kept_the_key_for_long_sits_out() {
    let lab = Lab::new();
    let locks = client(&lab);
    let mut lease = locks.acquire("k").await.expect("free");
    let started = lab.clock_now();
    let bystander = lab.bystander();
    let mut other: Waiting = Box::pin(async move {
        let delay = CheckDelay::Backoff {
            first: ms(50),
            max: ms(1_000),
        };
        bystander.request("k")?.check_delay(delay).acquire().await
    });
    assert!(poll(&mut other).is_pending());
    loop {
        let mut next = waiter(&locks, same);
        tokio::select! {
            biased;
            _ = &mut other => panic!("the key was not free"),
            () = lab.sleep(ms(450)) => {}
        }
        if released(lease).await == ReleaseOutcome::Released {
            // It has had the key for 10 s, and leaves it to the other.
            let kept = lab.clock_now() - started;
            assert!(kept >= ms(10_000) && kept < ms(10_500), "{kept:?}");
            let other = tokio::select! {
                biased;
                lease = &mut next => panic!("the line did not sit out: {lease:?}"),
                lease = &mut other => lease.expect("its turn"),
            };
            assert!(lab.clock_now() - started < kept + ms(1_010));
            drop(other);
            let lease = next.await.expect("its turn again");
            assert!(lease.token().pass() == 0 && lab.clock_now() - started < ms(13_500));
            return;
        }
        lease = next.await.expect("handed on");
    }
}

#[tokio::test(start_paused = true)]
async fn alone_a_line_sits_out_for_a_check_delay_and_goes_on() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(10_001)).await;
    let (mut next, second) = (waiter(&locks, same), waiter(&locks, same));
    let before = lab.clock_now();
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = (&mut next).await.expect("after the pause");
    let pause = lab.clock_now() - before;
    assert!(pause >= ms(1_006) && pause < ms(1_010), "{pause:?}");
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    drop(second.await.expect("handed on"));
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
    assert!(next.await.expect("handed on").is_held());
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
    assert_eq!(next.await.expect("handed on").token().pass(), 1);
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
    // None can be made for a guard that was handed on: it would pass under the next one.
    let next = waiter(&locks, same);
    let old = lease.id().clone();
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    assert_eq!(table.fence(&old).expect_err("over").kind(), ErrorKind::Lost);
    let lease = next.await.expect("handed on");
    table
        .fence(lease.id())
        .expect("the guard of now can be fenced");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    assert_eq!(next.await.expect("acquired").token().pass(), 0);
}

#[tokio::test(start_paused = true)]
async fn adopted_and_detached_leases_and_those_released_by_identity_are_not_handed_on() {
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
    let lease = next.await.expect("handed on");
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
async fn what_is_lost_is_not_handed_on() {
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
async fn what_another_process_has_ended_is_not_handed_on() {
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
async fn the_head_learns_of_a_loss_and_takes_over() {
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
async fn lost_of_a_guard_that_was_handed_on_fires_in_time() {
    let lab = Lab::new();
    let locks = client(&lab);
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(3_000)).await;
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    let lease = next.await.expect("handed on");
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
    // A renewal is in flight while it is handed on, and its answer comes under the next guard.
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayAnswer(ms(1_500))]);
    while lab.counted.counts().of(Operation::Renew) == 0 {
        lab.sleep(ms(100)).await;
    }
    let next = waiter(&locks, same);
    let before = lab.clock_now();
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    lease = next.await.expect("handed on");
    assert_eq!(lab.clock_now(), before, "nobody waits for the renewal");
    let left = lease.remaining();
    lab.sleep(ms(1_600)).await;
    assert!(lease.remaining() > left, "the answer counts");
    lease.renew().await.expect("works");
    lab.sleep(ms(60_000)).await;
    assert!(lease.is_held());
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
                assert_eq!(lab.counted.counts().requests(), 2, "{gone}");
            }
        }
    }
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
        let lease = fourth.await.expect("handed on");
        assert_eq!(lease.token().pass(), 3);
        let last = waiter(&locks, same);
        assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
        drop(last);
        lab.free_within("k", ms(5)).await;
        assert_eq!(lab.counted.counts().requests(), 2);
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
    // While the head's request is on its way: it is given back, and the next one asks.
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
    // Behind another's: the one whose turn to ask never came knows what the head has seen.
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
    // Not handed on, so that the waiter asks the store.
    let mut waiting = waiter(&locks, |p| p.wait(ms(1_500)).hand_off(false));
    assert!(poll(&mut waiting).is_pending());
    lab.sleep(ms(100)).await;
    assert!(released(lease).await.is_released());
    let error = waiting.await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert_eq!(error.elapsed(), ms(1_500));
}

#[tokio::test(start_paused = true)]
async fn the_next_head_goes_on_with_looks() {
    let lab = Lab::new();
    let locks = client(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    // A hundred heads, one after the other: one write in all, and looks as of one waiter.
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
    assert_eq!(next.await.expect("handed on").token().pass(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_head_asks_nothing_while_a_try_of_its_client_holds_the_key() {
    let lab = Lab::new();
    let locks = client(&lab);
    let holder = lab.bystander().acquire("k").await.expect("free");
    let mut head = waiter(&locks, same);
    lab.sleep(ms(1)).await;
    assert!(poll(&mut head).is_pending());
    assert!(released(holder).await.is_released());
    // A try of the same client comes before the head's next look.
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
    assert_eq!(head.await.expect("handed on").token().pass(), 1);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a task of a caller")]
async fn the_head_is_told_when_a_try_of_its_client_lets_go_of_another_grant() {
    let lab = Lab::new();
    let locks = client(&lab);
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
async fn a_shutdown_ends_the_line_and_hands_nothing_on() {
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

#[tokio::test(start_paused = true)]
async fn work_that_panics_hands_on_and_waiters_that_panic_leave() {
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
    assert_eq!(next.await.expect("handed on").token().pass(), 2);
}

/// A waiter, the guard before it, and its release are cut at every await, with faults on what is sent.
#[tokio::test(start_paused = true)]
async fn a_hand_off_cut_at_every_await_strands_nothing() {
    const FAULTS: [Fault; 6] = [
        Fault::None,
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::Hang,
        Fault::DelayAnswer(Duration::from_millis(700)),
        Fault::Throttle,
    ];
    for manual in [false, true] {
        for fault in FAULTS {
            for operation in [Operation::Renew, Operation::Release, Operation::Acquire] {
                for (release_cut, waiter_cut) in (0..4).flat_map(|r| (1..6).map(move |w| (r, w))) {
                    let lab = Lab::new();
                    let locks =
                        lab.client(policy().manual_renewal(manual).build().expect("adds up"));
                    let lease = locks.acquire("k").await.expect("free");
                    // With manual renewal little is left: it is renewed before it is handed on.
                    lab.sleep(ms(if manual { 9_700 } else { 100 })).await;
                    lab.faulty.plan(operation, [fault]);
                    let next = waiter(&locks, same);
                    let behind = waiter(&locks, same);
                    let cut = async {
                        cut_after(release_cut, lease.release()).await;
                        settle(&lab).await;
                    };
                    tokio::join!(cut, async {
                        cut_after(waiter_cut, next).await;
                    });
                    let before = lab.clock_now();
                    let lease = behind.await.unwrap_or_else(|error| {
                        panic!("{fault:?} {operation} cut at {release_cut}, {waiter_cut}: {error}")
                    });
                    assert!(lease.is_held());
                    let waited = lab.clock_now() - before;
                    assert!(
                        waited < ms(6_000),
                        "{fault:?} {operation} {release_cut} {waiter_cut}: {waited:?}"
                    );
                    drop(lease);
                    lab.sleep(ms(800)).await;
                    lab.free_within("k", ms(45_000)).await;
                }
            }
        }
    }
}

/// Polls a future at most `polls` times, then drops it.
async fn cut_after<F: Future>(polls: usize, future: F) {
    let mut future = pin!(future);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        polled += 1;
        if polled > polls {
            return Poll::Ready(());
        }
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending if polled == polls => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}

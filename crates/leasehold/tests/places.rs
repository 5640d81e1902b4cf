//! Processes that want one key take their turns in its queue (`docs/protocol.md` section 10). In virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::Lab;
use crate::support::waiters::{Waiting, futures, ms, poll, released, same, settle, waiter};
use leasehold::store::testing::faulty::Fault;
use leasehold::{CheckDelay, ErrorKind, LockClient, Policy};
use leasehold_protocol::write::Operation;

fn process(lab: &Lab) -> LockClient {
    lab.client(Policy::default())
}

/// Takes turns of this length, without a pause between them, and gives how long it waited for each.
async fn turns(lab: &Lab, locks: LockClient, count: usize, hold: Duration) -> Vec<Duration> {
    let mut waits = Vec::new();
    for _ in 0..count {
        let asked = lab.clock_now();
        let lease = locks.acquire("k").await.expect("its turn");
        waits.push(lab.clock_now() - asked);
        lab.sleep(hold).await;
        assert!(released(lease).await.is_released());
    }
    waits
}

#[tokio::test(start_paused = true)]
async fn in_the_order_of_joining() {
    let lab = Lab::new();
    let holder = process(&lab).acquire("k").await.expect("free");
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..20 {
        let (locks, order, lab) = (process(&lab), order.clone(), &lab);
        let mut wait = Box::pin(async move {
            let lease = locks.acquire("k").await.expect("its turn");
            order.lock().expect("no panics").push(number);
            lab.sleep(ms(20)).await;
            released(lease).await
        });
        assert!(poll(&mut wait).is_pending());
        lab.sleep(ms(3)).await;
        waiting.push(wait);
    }
    let (outcomes, _) = tokio::join!(futures(waiting), released(holder));
    assert!(outcomes.iter().all(leasehold::ReleaseOutcome::is_released));
    assert!(order.lock().expect("no panics").is_sorted());
    // Of each: a refused request, a join, the end; the last one finds nobody.
    let counts = lab.counted.counts();
    assert_eq!(counts.of(Operation::Join), 20);
    assert_eq!(counts.of(Operation::HandOver), 20);
    assert!(
        counts.of(Operation::Release) <= 2,
        "{}",
        counts.of(Operation::Release)
    );
}

#[tokio::test(start_paused = true)]
async fn a_cycle_of_processes_that_come_back_is_a_join_and_a_hand_over() {
    let lab = Lab::new();
    let all: Vec<_> = (0..2)
        .map(|_| Box::pin(turns(&lab, process(&lab), 100, ms(20))))
        .collect();
    let waits = futures(all).await;
    let longest = waits.iter().flatten().max().expect("some");
    assert!(*longest < ms(30), "{longest:?}");
    let counts = lab.counted.counts();
    let writes = counts.units().write;
    assert!(writes <= 2.1 * 200.0, "{writes} write units");
    let reads = counts.units().read;
    assert!(reads <= 8.0 * 200.0, "{reads} read units");
}

#[tokio::test(start_paused = true)]
async fn u3_neither_a_loop_nor_tries_keep_a_waiter_from_its_turn() {
    for tries in [false, true] {
        let lab = Lab::new();
        let locks = process(&lab);
        let mut greedy = Box::pin(async {
            loop {
                let lease = match tries {
                    true => locks.try_acquire("k").await.expect("works").into_lease(),
                    false => Some(locks.acquire("k").await.expect("its turn")),
                };
                match lease {
                    Some(lease) => {
                        lab.sleep(ms(2_000)).await;
                        assert!(released(lease).await.is_released());
                    }
                    None => lab.sleep(ms(1)).await,
                }
            }
        });
        for _ in 0..20 {
            let (asked, other) = (lab.clock_now(), process(&lab));
            let lease = tokio::select! {
                biased;
                lease = other.acquire("k") => lease.expect("its turn"),
                () = &mut greedy => panic!("it never ends"),
            };
            let waited = lab.clock_now() - asked;
            assert!(waited <= ms(4_000), "{waited:?}");
            assert!(released(lease).await.is_released());
            // The loop goes on meanwhile.
            tokio::select! {
                biased;
                () = &mut greedy => panic!("it never ends"),
                () = lab.sleep(ms(500)) => {}
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_place_costs_its_claim() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let mut dead = waiter(&process(&lab), same);
    lab.sleep(ms(50)).await;
    assert!(poll(&mut dead).is_pending());
    let mut next = Box::pin(process(&lab).acquire("k"));
    tokio::select! {
        biased;
        _ = &mut next => panic!("held"),
        () = lab.sleep(ms(500)) => {}
    }
    assert!(released(holder).await.is_released());
    let before = lab.clock_now();
    let lease = next.await.expect("taken over");
    let waited = lab.clock_now() - before;
    // The claim, and one delay.
    assert!(waited > ms(4_050) && waited < ms(4_200), "{waited:?}");
    drop((lease, dead));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_gives_up_its_place() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let error = waiter(&process(&lab), |policy| policy.wait(ms(3_000)));
    let error = error.await.expect_err("held");
    assert_eq!(error.kind(), ErrorKind::WaitExpired);
    lab.sleep(ms(100)).await;
    assert_eq!(lab.counted.counts().of(Operation::Leave), 1);
    // Nobody waits any more, so that the key is free.
    assert!(released(holder).await.is_released());
    lab.free_within("k", ms(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_comes_when_the_wait_has_ended_is_passed_on() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let mut first = waiter(&process(&lab), same);
    let mut second = waiter(&process(&lab), same);
    for _ in 0..20 {
        lab.sleep(ms(10)).await;
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    }
    // It leaves with the hand-over on its way.
    assert!(released(holder).await.is_released());
    drop(first);
    let before = lab.clock_now();
    let lease = second.await.expect("its turn");
    let waited = lab.clock_now() - before;
    assert!(waited < ms(1_000), "{waited:?}");
    assert!(released(lease).await.is_released());
    lab.free_within("k", ms(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_join_without_an_answer_takes_one_place() {
    for fault in [
        Fault::LoseAnswer,
        Fault::LoseRequest,
        Fault::Duplicate,
        Fault::Hang,
        Fault::DelayRequest(ms(3_000)),
        Fault::DelayAnswer(ms(3_000)),
    ] {
        let lab = Lab::new();
        let holder = lab.bystander().acquire("k").await.expect("free");
        lab.faulty.plan(Operation::Join, [fault]);
        let locks = process(&lab);
        let (lease, outcome) = tokio::join!(locks.acquire("k"), async {
            lab.sleep(ms(6_000)).await;
            released(holder).await
        });
        assert!(outcome.is_released(), "{fault:?}");
        assert!(released(lease.expect("its turn")).await.is_released());
        lab.sleep(ms(5_000)).await;
        lab.free_within("k", ms(7_000)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_was_handed_over_is_renewed_before_its_claim_ends() {
    let lab = Lab::new();
    let holder = lab.bystander().acquire("k").await.expect("free");
    let locks = process(&lab);
    let (lease, _) = tokio::join!(locks.acquire("k"), async {
        lab.sleep(ms(2_000)).await;
        released(holder).await
    });
    let lease = lease.expect("its turn");
    lab.sleep(ms(60_000)).await;
    assert!(lease.is_held());
    assert!(released(lease).await.is_released());
}

/// A waiter that was handed the key, and whose task has not run since.
async fn handed_to_a_sleeper(lab: &Lab) -> Waiting {
    let holder = lab.bystander().acquire("k").await.expect("free");
    let mut sleeper = waiter(&process(lab), same);
    lab.sleep(ms(50)).await;
    assert!(poll(&mut sleeper).is_pending());
    assert!(released(holder).await.is_released());
    sleeper
}

#[tokio::test(start_paused = true)]
async fn however_late_a_grant_is_noticed_there_is_time_for_its_renewal() {
    for noticed in (0..8_000).step_by(100) {
        let lab = Lab::new();
        let late = handed_to_a_sleeper(&lab).await;
        lab.sleep(ms(noticed)).await;
        let lease = late.await.expect("its turn");
        let left = lease.remaining();
        assert!(left >= ms(1_000), "{left:?}, noticed after {noticed} ms");
        assert!(released(lease).await.is_released());
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_notices_its_grant_too_late_waits_again() {
    let lab = Lab::new();
    // Its task does not run while the key is handed to it, and on to the next one when its claim is over.
    let late = handed_to_a_sleeper(&lab).await;
    let next = process(&lab).acquire("k").await.expect("taken over");
    let mut late = Box::pin(late);
    tokio::select! {
        biased;
        _ = &mut late => panic!("held by the next one"),
        () = lab.sleep(ms(100)) => {}
    }
    assert!(released(next).await.is_released());
    assert!(late.await.expect("its turn").is_held());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_without_a_place() {
    let lab = Lab::new();
    let all: Vec<_> = (0..60)
        .map(|_| Box::pin(turns(&lab, process(&lab), 3, ms(20))))
        .collect();
    let waits = futures(all).await;
    let longest = waits.iter().flatten().max().expect("some");
    let mean = waits.iter().flatten().sum::<Duration>() / 180;
    assert!(*longest < mean * 6, "{longest:?}, {mean:?} in the mean");
    let writes = lab.counted.counts().units().write / 180.0;
    assert!(writes < 4.5, "{writes} write units each");
}

#[tokio::test(start_paused = true)]
async fn the_first_waiter_polls_as_often_and_as_cheaply_as_it_is_told() {
    let lab = Lab::new();
    let holder = process(&lab).acquire("k").await.expect("free");
    let delay = CheckDelay::Fixed(ms(20));
    let locks = lab.client(
        Policy::builder()
            .check_delay(delay)
            .build()
            .expect("a policy"),
    );
    let mut wait = Box::pin(locks.acquire("k"));
    assert!(poll(&mut wait).is_pending());
    lab.sleep(ms(100)).await;
    let before = (
        lab.counted.counts().of(Operation::Read),
        lab.counted.counts().units().read,
    );
    tokio::select! {
        biased;
        lease = &mut wait => panic!("{lease:?}"),
        () = lab.sleep(ms(2_000)) => {}
    }
    let counts = lab.counted.counts();
    let polls = counts.of(Operation::Read) - before.0;
    let units = counts.units().read - before.1;
    assert!((90..=110).contains(&polls), "{polls}");
    // Every fourth is strongly consistent.
    assert!(
        units <= 0.65 * polls as f64,
        "{units} units for {polls} polls"
    );
    drop(wait);
    assert!(released(holder).await.is_released());
}

#[tokio::test(start_paused = true)]
async fn tasks_of_one_process_leave_the_key_to_another() {
    let lab = Lab::new();
    let locks = process(&lab);
    let tasks: Vec<_> = (0..20)
        .map(|_| Box::pin(turns(&lab, locks.clone(), 50, ms(20))))
        .collect();
    let mut busy = Box::pin(futures(tasks));
    tokio::select! {
        biased;
        _ = &mut busy => panic!("it has 20 s to go"),
        () = lab.sleep(ms(100)) => {}
    }
    let asked = lab.clock_now();
    let other = process(&lab);
    let lease = tokio::select! {
        biased;
        _ = &mut busy => panic!("it has 20 s to go"),
        lease = other.acquire("k") => lease.expect("its turn"),
    };
    let waited = lab.clock_now() - asked;
    // A look at the queue each 100 ms, and eight turns.
    assert!(waited < ms(320), "{waited:?}");
    drop(lease);
    busy.await;
}

#[tokio::test(start_paused = true)]
async fn alone_a_process_never_pauses() {
    let lab = Lab::new();
    let locks = process(&lab);
    let tasks = (0..20)
        .map(|_| Box::pin(turns(&lab, locks.clone(), 100, ms(20))))
        .collect();
    let started = lab.clock_now();
    futures(tasks).await;
    let passed = lab.clock_now() - started;
    assert!(passed < ms(20 * 2_000 * 101 / 100), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_may_wait_asks_a_throttled_table_less_and_less_often() {
    let lab = Lab::new();
    let throttle = vec![Fault::Throttle; 1_000];
    lab.faulty.plan(Operation::Acquire, throttle);
    let policy = Policy::builder().check_delay(CheckDelay::Fixed(ms(5)));
    let locks = lab.client(policy.build().expect("adds up"));
    let patient = locks.acquire("k").await.expect_err("throttled");
    let hasty = locks.try_acquire("k").await.expect_err("throttled");
    let (patient, hasty) = (patient.requests(), hasty.requests());
    // By the same backoff of up to a second; the one that waits has it stretched up to five.
    assert!(hasty >= 15 && patient <= 12, "{hasty} and {patient}");
    settle(&lab).await;
}

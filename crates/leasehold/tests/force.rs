//! Another's grant, ended by an operator.

use std::time::Duration;

use crate::support::Lab;
use leasehold::store::testing::faulty::Fault;
use leasehold::{
    EndReason, ErrorKind, FencingToken, LockState, Policy, PolicyBuilder, ReleaseOutcome,
    TryAcquireOutcome,
};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn named(name: &str) -> PolicyBuilder {
    Policy::builder().label(name)
}

fn policy(name: &str) -> Policy {
    named(name).build().expect("adds up")
}

#[tokio::test(start_paused = true)]
async fn f17_a_forced_release_frees_the_key_and_its_holder_learns_of_it_within_a_third_of_its_lease()
 {
    let lab = Lab::new();
    let victim = lab
        .client(policy("victim"))
        .acquire("k")
        .await
        .expect("free");
    let admin = lab.client(policy("admin"));
    // A renewal in between changes nothing about whose grant it is.
    victim.renew().await.expect("works");
    let status = admin.inspect("k").await.expect("works");
    let token = status.holder().and_then(|held| held.token()).expect("one");
    let before = lab.counted.counts().requests();
    let outcome = admin.force_release("k", token, "stuck, ticket 4711").await;
    assert_eq!(outcome.expect("works"), ReleaseOutcome::Released);
    assert_eq!(lab.counted.counts().requests() - before, 3);

    let Ok(TryAcquireOutcome::Acquired(next)) = admin.try_acquire("k").await else {
        panic!("it is free");
    };
    assert!(next.token() > victim.token());
    // The window that is documented.
    assert!(victim.is_held());
    let asked = lab.clock_now();
    assert!(matches!(victim.lost().await, EndReason::TakenOver(held) if held.label() == "admin"));
    assert!(lab.clock_now() - asked <= ms(20_000) / 3);
    assert!(next.is_held());
    let late = victim.release().await.expect("works");
    assert!(matches!(late, ReleaseOutcome::TakenOver(_)), "{late:?}");
    assert!(next.is_held());
}

#[tokio::test(start_paused = true)]
async fn f17_what_has_moved_on_is_left_alone_and_told() {
    let lab = Lab::new();
    let locks = lab.client(policy("first"));
    let admin = lab.client(policy("admin"));
    let nothing = admin
        .force_release("k", FencingToken::from(1 << 10), "why")
        .await;
    assert_eq!(nothing.expect("works"), ReleaseOutcome::NoRecord);

    let first = locks.acquire("k").await.expect("free");
    let old = first.token();
    first.release().await.expect("works");
    let done = admin.force_release("k", old, "why").await.expect("works");
    assert_eq!(done, ReleaseOutcome::AlreadyReleased);

    let second = lab
        .client(policy("second"))
        .acquire("k")
        .await
        .expect("free");
    let done = admin.force_release("k", old, "why").await.expect("works");
    assert!(
        matches!(&done, ReleaseOutcome::TakenOver(held) if held.label() == "second"
            && held.token().map(FencingToken::stored) == Some(second.token().stored())),
        "{done:?}"
    );
    assert!(!done.is_released());
    second.renew().await.expect("untouched");

    second.release().await.expect("works");
    let done = admin.force_release("k", old, "why").await.expect("works");
    assert_eq!(done, ReleaseOutcome::Superseded);
}

#[tokio::test(start_paused = true)]
async fn f17_a_forced_release_wins_or_loses_against_what_happens_meanwhile() {
    let lab = Lab::new();
    let admin = lab.client(policy("admin"));
    let locks = lab.client(policy("victim"));
    // Renewed between the read and the take-over: still that grant.
    let victim = locks.acquire("k").await.expect("free");
    lab.faulty
        .plan(Operation::TakeOver, [Fault::DelayRequest(ms(100))]);
    let (done, renewed) = tokio::join!(admin.force_release("k", victim.token(), "why"), async {
        lab.sleep(ms(50)).await;
        victim.renew().await
    });
    renewed.expect("works");
    assert_eq!(done.expect("works"), ReleaseOutcome::Released);
    // Released, and acquired by another, between the two.
    let victim = locks.acquire("k").await.expect("free");
    let token = victim.token();
    lab.faulty
        .plan(Operation::TakeOver, [Fault::DelayRequest(ms(100))]);
    let (done, other) = tokio::join!(admin.force_release("k", token, "why"), async {
        lab.sleep(ms(50)).await;
        victim.release().await.expect("works");
        lab.bystander().acquire("k").await.expect("free")
    });
    assert!(matches!(done.expect("works"), ReleaseOutcome::TakenOver(_)));
    assert!(other.is_held());
    other.renew().await.expect("untouched");
}

#[tokio::test(start_paused = true)]
async fn f17_who_and_why_are_seen_while_it_lasts() {
    let lab = Lab::new();
    let locks = lab.client(policy("victim"));
    let victim = locks.acquire("k").await.expect("free");
    let admin = lab.client(policy("admin"));
    lab.faulty
        .plan(Operation::Release, [Fault::DelayRequest(ms(100))]);
    let (done, seen) = tokio::join!(
        admin.force_release("k", victim.token(), "stuck, ticket 4711"),
        async {
            lab.sleep(ms(50)).await;
            lab.bystander().inspect("k").await.expect("works")
        }
    );
    assert!(done.expect("works").is_released());
    let force = format!("admin ended token {}: stuck, ticket 4711", victim.token());
    assert_eq!(seen.last_force(), Some(force.as_str()));
    let status = lab.bystander().inspect("k").await.expect("works");
    assert_eq!(*status.state(), LockState::Free);
    let last = status.last_holder().expect("the stuck one");
    assert_eq!(last.label(), "victim");
    assert!(last.token() > Some(victim.token()) && last.since().is_some());
    // And afterwards, under later grants.
    let next = locks.acquire("k").await.expect("free");
    let status = lab.bystander().inspect("k").await.expect("works");
    assert!(status.last_holder().is_none(), "{status:?}");
    assert_eq!(status.holder().expect("held").label(), "victim");
    assert_eq!(status.last_force(), Some(force.as_str()));
    next.release().await.expect("held");
    let status = lab.bystander().inspect("k").await.expect("works");
    assert_eq!(status.last_force(), Some(force.as_str()));
}

#[tokio::test(start_paused = true)]
async fn who_and_why_stay_when_the_key_goes_to_a_waiter() {
    let lab = Lab::new();
    for (key, wants_slot) in [("whole", false), ("slot", true)] {
        let request = |label| {
            let client = lab.client(policy(label));
            let request = match wants_slot {
                true => client.slots(key, 1),
                false => client.request(key),
            };
            request.expect("valid")
        };
        let victim = request("victim").acquire().await.expect("free");
        let token = victim.token();
        let (next, done) = tokio::join!(request("next").acquire(), async {
            lab.sleep(ms(500)).await;
            let admin = lab.client(policy("admin"));
            admin.force_release(key, token, "host is gone").await
        });
        assert!(done.expect("works").is_released());
        let next = next.expect("served");
        let status = lab.bystander().inspect(key).await.expect("works");
        let force = format!("admin ended token {token}: host is gone");
        assert_eq!(status.last_force(), Some(force.as_str()), "{key}");
        next.release().await.expect("held");
    }
}

#[tokio::test(start_paused = true)]
async fn f17_without_a_reason_or_a_token_it_is_refused() {
    let lab = Lab::new();
    let locks = lab.client(policy("victim"));
    let lease = locks.acquire("k").await.expect("free");
    let long = "x".repeat(257);
    for reason in ["", " ", "two\nlines", &long] {
        let refused = locks.force_release("k", lease.token(), reason).await;
        let error = refused.expect_err("no reason");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.hint().is_some());
    }
    assert!(lease.is_held());
    // As an F# client writes it.
    let read =
        leasehold::store::Store::read(&lab.memory, "k", leasehold::store::Consistency::Strong);
    let mut record = read.await.expect("works").value.expect("there is one");
    record.native = None;
    lab.memory.plant(record);
    let refused = locks.force_release("k", lease.token(), "why").await;
    let error = refused.expect_err("no token");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("F#"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn f17_the_longest_reason_is_taken() {
    let lab = Lab::new();
    let lease = lab.client(policy("victim")).acquire("k").await;
    let lease = lease.expect("free");
    let admin = lab.client(policy("admin"));
    let longest = "x".repeat(256);
    let outcome = admin.force_release("k", lease.token(), &longest).await;
    assert_eq!(outcome.expect("works"), ReleaseOutcome::Released);
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_slot_ends_that_slot_alone() {
    let lab = Lab::new();
    let slot = |locks: leasehold::LockClient| locks.slots("k", 2).expect("valid");
    let victim = slot(lab.client(policy("victim"))).acquire().await;
    let victim = victim.expect("free");
    let other = slot(lab.client(policy("other"))).acquire().await;
    let other = other.expect("free");
    let admin = lab.client(policy("admin"));
    let status = admin.inspect("k").await.expect("works");
    assert_eq!(status.slots().len(), 2);

    // No such token: the holders are named, and nothing is changed.
    let none = FencingToken::from(1 << 10);
    let outcome = admin.force_release("k", none, "why").await.expect("works");
    let ReleaseOutcome::TakenOver(held) = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((held.label(), held.slots()), ("victim", Some((2, 2))));

    let outcome = admin.force_release("k", victim.token(), "stuck").await;
    assert_eq!(outcome.expect("works"), ReleaseOutcome::Released);
    let again = admin.force_release("k", victim.token(), "stuck").await;
    assert!(
        matches!(again, Ok(ReleaseOutcome::TakenOver(_))),
        "{again:?}"
    );
    let next = slot(lab.client(policy("next"))).acquire().await;
    let next = next.expect("a slot is free");
    assert!(next.token() > other.token());
    assert_eq!(victim.lost().await, EndReason::Superseded);
    other.renew().await.expect("held");
    assert!(other.release().await.expect("held").is_released());
    assert!(next.release().await.expect("held").is_released());
}

#[tokio::test(start_paused = true)]
async fn f17_a_release_that_is_denied_is_told_at_once() {
    let lab = Lab::new();
    let locks = lab.client(policy("victim"));
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.plan(Operation::TakeOver, [Fault::AccessDenied]);
    let refused = lab.client(policy("admin"));
    let refused = refused.force_release("k", lease.token(), "why").await;
    let error = refused.expect_err("denied");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    lease.renew().await.expect("untouched");
}

//! The payload of a lease in mid-hold and at its end, and what the next holder finds. In virtual time, except on real
//! stores.

use crate::support;
use std::sync::Arc;
use std::time::Duration;

use crate::support::waiters::{client, ms, poll, released, same, settle, waiter};
use crate::support::{Kit, Lab};
use async_trait::async_trait;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::faulty::Fault;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Outcome, Reply, Store, StoreError, StoreErrorKind};
use leasehold::{
    Effect, ErrorKind, FencingToken, Lease, LockClient, LockState, Once, Policy, ReleaseOutcome,
};
use leasehold_protocol::write::{Operation, Write};

/// The payload of a key that is held, as observers see it.
async fn shown(locks: &LockClient, key: &str) -> Option<Vec<u8>> {
    let status = locks.inspect(key).await.expect("works");
    let held = status.holder().expect("held");
    held.data().map(<[u8]>::to_vec)
}

/// What the last holder of a free key left.
async fn left(locks: &LockClient, key: &str) -> Option<Vec<u8>> {
    let status = locks.inspect(key).await.expect("works");
    let last = status.last_holder().expect("free");
    last.data().map(<[u8]>::to_vec)
}

async fn with(locks: &LockClient, data: &str) -> Lease {
    let request = locks.request("k").expect("valid").data(data);
    request.acquire().await.expect("free")
}

async fn kept(lease: Lease) -> ReleaseOutcome {
    lease.release_keeping_data().await.expect("works")
}

fn text(data: Option<&[u8]>) -> Option<&str> {
    data.map(|data| std::str::from_utf8(data).expect("text"))
}

async fn on(kit: Kit) {
    let process = || {
        let client = LockClient::builder(kit.store.clone()).clock(kit.clock.clone());
        client.build()
    };
    let (one, two) = (process(), process());
    let lease = one.acquire("k").await.expect("free");
    assert_eq!(lease.previous_data(), None, "{}", kit.name);
    lease.set_data("a").await.expect("held");
    lease.set_data("b").await.expect("held");
    assert_eq!(shown(&two, "k").await, Some(b"b".to_vec()));
    // A plain renewal changes nothing of it.
    lease.renew().await.expect("held");
    assert_eq!(shown(&two, "k").await, Some(b"b".to_vec()));
    assert_eq!(kept(lease).await, ReleaseOutcome::Released);
    assert_eq!(left(&one, "k").await, Some(b"b".to_vec()));
    // The next holder finds it, and it is its own payload until it writes another.
    let lease = two.acquire("k").await.expect("free");
    assert_eq!(text(lease.previous_data()), Some("b"));
    assert_eq!(shown(&one, "k").await, Some(b"b".to_vec()));
    assert_eq!(kept(lease).await, ReleaseOutcome::Released);
    // A payload of its own replaces it unseen.
    let lease = with(&one, "own").await;
    assert_eq!(lease.previous_data(), None);
    assert_eq!(shown(&two, "k").await, Some(b"own".to_vec()));
    // A release without more removes it.
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = two.acquire("k").await.expect("free");
    assert_eq!(lease.previous_data(), None);
    assert_eq!(shown(&one, "k").await, None);
    released(lease).await;
    assert_eq!(left(&one, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_payload_goes_from_holder_to_holder_on_memory() {
    on(Kit::memory()).await;
}

#[tokio::test]
async fn a_payload_goes_from_holder_to_holder_on_sqlite() {
    on(Kit::sqlite()).await;
}

#[tokio::test]
async fn a_payload_goes_from_holder_to_holder_on_dynamodb() {
    on(Kit::dynamodb().await).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_holder_left_is_found_and_costs_nothing() {
    let lab = Lab::new();
    let dead = lab.bystander();
    let lease = with(&dead, "as far as this").await;
    std::mem::forget(lease);
    lab.kill_record_of("k").await;
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("taken over");
    assert_eq!(text(lease.previous_data()), Some("as far as this"));
    let counts = lab.counted.counts();
    assert_eq!(counts.of(Operation::Read), 0);
    assert_eq!(counts.requests(), 2, "a refused acquire and the take-over");
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_queue_is_handed_the_payload() {
    for own in [None, Some("own")] {
        let lab = Lab::new();
        let lease = with(&lab.client(Policy::default()), "left").await;
        let next = lab.client(Policy::default());
        let mut request = next.request("k").expect("valid");
        if let Some(own) = own {
            request = request.data(own);
        }
        let mut waiting = Box::pin(request.acquire());
        assert!(poll(&mut waiting).is_pending());
        lab.sleep(ms(300)).await;
        kept(lease).await;
        let next = waiting.await.expect("its turn");
        assert_eq!(lab.counted.counts().of(Operation::HandOver), 1);
        let left = own.is_none().then_some("left");
        assert_eq!(text(next.previous_data()), left);
        lab.sleep(ms(100)).await;
        let expected = own.unwrap_or("left").as_bytes().to_vec();
        assert_eq!(shown(&lab.bystander(), "k").await, Some(expected));
        released(next).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_of_this_client_is_handed_an_equal_payload_only() {
    // What was found counts as the payload: a release has to remove it.
    let lab = Lab::new();
    let locks = client(&lab);
    kept(with(&locks, "left").await).await;
    let lease = locks.acquire("k").await.expect("free");
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::Released);
    let lease = next.await.expect("acquired");
    assert_eq!(lease.previous_data(), None);
    // From here on no record has a payload, and nothing is written.
    let next = waiter(&locks, same);
    assert_eq!(released(lease).await, ReleaseOutcome::HandedOff);
    let lease = next.await.expect("handed off");
    // A payload that was set in mid-hold is another grant than the one that the waiter asks for.
    lease.set_data("new").await.expect("held");
    let next = waiter(&locks, same);
    assert_eq!(kept(lease).await, ReleaseOutcome::Released);
    let lease = next.await.expect("acquired");
    assert_eq!(text(lease.previous_data()), Some("new"));
    // An equal one is handed off, also where it was set.
    let request = || locks.request("k").expect("valid").data("same").acquire();
    lease.set_data("same").await.expect("held");
    let mut next = Box::pin(request());
    assert!(poll(&mut next).is_pending());
    assert_eq!(kept(lease).await, ReleaseOutcome::HandedOff);
    let lease = next.await.expect("handed off");
    assert_eq!(lease.previous_data(), None);
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"same".to_vec()));
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_no_answer_has_shown_is_kept_all_the_same() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = with(&locks, "old").await;
    lab.faulty.plan(Operation::Renew, [Fault::LoseRequest; 8]);
    let mut set = Box::pin(lease.set_data("new"));
    assert!(poll(&mut set).is_pending());
    settle(&lab).await;
    assert!(poll(&mut set).is_pending());
    drop(set);
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"old".to_vec()));
    assert_eq!(kept(lease).await, ReleaseOutcome::Released);
    let next = lab.bystander().acquire("k").await.expect("free");
    assert_eq!(text(next.previous_data()), Some("new"));
    released(next).await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_from_before_does_not_count_as_written() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    // Its answer comes when the payload was asked for.
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayAnswer(ms(500))]);
    let mut renew = Box::pin(lease.renew());
    assert!(poll(&mut renew).is_pending());
    settle(&lab).await;
    drop(renew);
    lab.faulty
        .plan(Operation::Renew, [Fault::DelayRequest(ms(700))]);
    let before = lab.clock_now();
    lease.set_data("new").await.expect("held");
    assert!(lab.clock_now() - before >= ms(600));
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"new".to_vec()));
    assert_eq!(lab.faulty.unused(), 0);
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_is_bounded_and_says_what_failed() {
    let lab = Lab::new();
    let lease_s = Duration::from_secs(300);
    let policy = Policy::builder().lease_duration(lease_s);
    let locks = lab.client(policy.build().expect("adds up"));
    let lease = locks.acquire("k").await.expect("free");
    lab.faulty.start_outage(Fault::ServerError);
    let before = lab.clock_now();
    let error = lease.set_data("new").await.expect_err("no answer");
    let passed = lab.clock_now() - before;
    assert!(passed >= ms(10_000) && passed < ms(10_100), "{passed:?}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(error.key(), Some("k"));
    let message = error.to_string();
    assert!(message.contains("server error (planned)"), "{message}");
    // A later renewal writes it.
    assert!(lease.is_held());
    lab.faulty.end_outage();
    lab.sleep(ms(5_000)).await;
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"new".to_vec()));
    // A lost lease is an error at once.
    let thief = lab.bystander();
    let status = thief.inspect("k").await.expect("works");
    let token = status.holder().and_then(|held| held.token());
    let token: FencingToken = token.expect("ours");
    thief.force_release("k", token, "test").await.expect("held");
    let error = lease.set_data("more").await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn what_a_holder_left_survives_force_and_calls_that_nobody_waits_for() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let stuck = with(&lab.bystander(), "left").await;
    let status = locks.inspect("k").await.expect("works");
    let token = status.holder().and_then(|held| held.token());
    let forced = locks.force_release("k", token.expect("ours"), "test");
    assert!(forced.await.expect("held").is_released());
    drop(stuck);
    // The answer comes when its caller has left.
    lab.faulty
        .plan(Operation::Acquire, [Fault::DelayAnswer(ms(300))]);
    let mut call = Box::pin(locks.acquire("k"));
    assert!(poll(&mut call).is_pending());
    settle(&lab).await;
    drop(call);
    lab.sleep(ms(1_000)).await;
    assert_eq!(lab.faulty.unused(), 0);
    let lease = locks.acquire("k").await.expect("given back");
    assert_eq!(text(lease.previous_data()), Some("left"));
    // A guard that is dropped removes it, as a release does.
    drop(lease);
    lab.free_within("k", ms(1_000)).await;
    let lease = locks.acquire("k").await.expect("free");
    assert_eq!(lease.previous_data(), None);
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn an_adopter_finds_the_payload_of_the_grant() {
    let lab = Lab::new();
    let lease = with(&lab.bystander(), "step 1").await;
    let id = lease.detach().await.expect("held");
    let lease = lab.client(Policy::default()).adopt(&id).await;
    let lease = lease.expect("detached");
    assert_eq!(text(lease.previous_data()), Some("step 1"));
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"step 1".to_vec()));
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_run_is_not_found_as_a_payload() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let keep = Duration::from_secs(60);
    let run = locks.once("k").expect("valid").keep(keep);
    let done = run.run(async |_| Ok::<_, std::convert::Infallible>("result".to_owned()));
    assert!(matches!(done.await.expect("works"), Once::Ran { .. }));
    lab.sleep(Duration::from_secs(70)).await;
    assert_eq!(lab.state("k").await, LockState::Free);
    assert_eq!(left(&locks, "k").await, None);
    let lease = locks.acquire("k").await.expect("its keep is over");
    assert_eq!(lease.previous_data(), None);
    assert_eq!(shown(&lab.bystander(), "k").await, None);
    released(lease).await;
}

/// Takes no payload of more than ten bytes.
#[derive(Debug)]
struct Small(MemoryStore);

#[async_trait]
impl Wrap for Small {
    fn inner(&self) -> &dyn Store {
        &self.0
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        let data = match &write {
            Write::Renew {
                description: Some(description),
                ..
            } => description.data.as_ref().map_or(0, |data| data.len()),
            _ => 0,
        };
        if data > 10 {
            let kind = StoreErrorKind::InvalidInput;
            return Err(StoreError::new(kind, Effect::NotApplied, "too large"));
        }
        self.0.write(write).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_the_store_refuses_does_not_end_the_lease() {
    let lab = Lab::new();
    let locks = LockClient::builder(Wrapped(Small(lab.memory.clone())))
        .clock(lab.clock.clone())
        .build();
    for before in [None, Some("before")] {
        let lease = locks.acquire("k").await.expect("free");
        if let Some(before) = before {
            lease.set_data(before).await.expect("small");
        }
        let error = lease.set_data([7; 11]).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.key(), Some("k"));
        lab.sleep(Duration::from_secs(60)).await;
        assert!(lease.is_held());
        let before = before.map(|before| before.as_bytes().to_vec());
        assert_eq!(shown(&lab.bystander(), "k").await, before);
        // A waiter of this client that asks for the payload before is handed the grant.
        lease.set_data([7; 10]).await.expect("small enough");
        released(lease).await;
    }
}

#[tokio::test]
async fn dynamodb_refuses_a_payload_that_is_too_large_and_the_lease_goes_on() {
    let kit = Kit::dynamodb().await;
    let locks = LockClient::builder(kit.store.clone()).build();
    let lease = locks.acquire("k").await.expect("free");
    let error = lease.set_data(vec![7; 500_000]).await.expect_err("400 KB");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    lease.set_data("small").await.expect("held");
    assert_eq!(shown(&locks, "k").await, Some(b"small".to_vec()));
    released(lease).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_of_many_calls_is_what_stays() {
    let lab = Lab::new();
    let lease = Arc::new(
        lab.client(Policy::default())
            .acquire("k")
            .await
            .expect("free"),
    );
    lab.faulty
        .plan(Operation::Renew, [Fault::LoseAnswer, Fault::Duplicate]);
    let calls: Vec<_> = (0..20)
        .map(|n| {
            let lease = lease.clone();
            Box::pin(async move { lease.set_data(format!("{n}")).await })
        })
        .collect();
    for written in support::waiters::futures(calls).await {
        written.expect("held");
    }
    assert_eq!(shown(&lab.bystander(), "k").await, Some(b"19".to_vec()));
    let lease = Arc::into_inner(lease).expect("the only one");
    released(lease).await;
}

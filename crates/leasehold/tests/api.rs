//! The face of the library, as a user's crate meets it.

use crate::support;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use crate::support::Lab;
use futures_core::Stream;
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::memory::MemoryStore;
use leasehold::{EndReason, ErrorKind, Key, LockClient, Policy, TryAcquireOutcome};
use leasehold_protocol::write::Operation;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn f11_a_key_is_taken_wherever_a_str_is() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let key: Key = "customer/42".parse().expect("valid");
    let same = Key::try_from("customer/42".to_owned()).expect("valid");
    assert_eq!(key, same);
    let lease = locks.acquire(&key).await.expect("free");
    assert!(matches!(
        locks.try_acquire(&same).await,
        Ok(TryAcquireOutcome::Held(_))
    ));
    let status = locks.inspect(lease.key()).await.expect("works");
    assert_eq!(status.key(), key.as_ref());
    let empty = Key::try_from("").expect_err("empty");
    assert_eq!(empty.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
#[expect(
    clippy::disallowed_methods,
    reason = "that it can be spawned is what is tested"
)]
async fn f12_calls_can_be_spawned() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = {
        let key = format!("k{}", 1);
        // Neither the client nor the key need outlive the call.
        tokio::spawn(locks.clone().acquire(&key))
    };
    let lease = lease.await.expect("no panic").expect("free");
    let tried = tokio::spawn(locks.try_acquire("k1"))
        .await
        .expect("no panic");
    assert!(tried.expect("works").into_lease().is_none());
    drop(lease);
    let ran = tokio::spawn(locks.run("k2", |scope| async move { scope.token() }));
    assert!(ran.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn f12_work_need_not_be_send() {
    let lab = Lab::new();
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let ran = lab.client(Policy::default()).run("k", |_| async move {
        counted.set(counted.get() + 1);
        lab.sleep(ms(5)).await;
        counted.set(counted.get() + 1);
    });
    ran.await.expect("works");
    assert_eq!(count.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn f12_work_hears_of_the_loss_through_its_scope() {
    let lab = Lab::new();
    let policy = Policy::builder().manual_renewal(true).build();
    let locks = lab.client(policy.expect("adds up"));
    let (tell, told) = tokio::sync::oneshot::channel();
    let ran = locks.run("k", |scope| async move {
        // Polled beside the work, it is the first to know.
        let _ = tell.send(scope.watch());
        scope.lost().await
    });
    let error = ran.await.expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Lost);
    let signal = told.await.expect("sent");
    assert_eq!(signal.ended().await, EndReason::Expired { cause: None });
}

#[tokio::test(start_paused = true)]
async fn f12_what_a_policy_is_made_of_can_be_read_and_set_for_one_call() {
    let policy = Policy::builder()
        .lease_duration(ms(60_000))
        .grace(ms(4_000));
    let policy = policy.build().expect("adds up");
    assert_eq!((policy.grace(), policy.margin()), (ms(4_000), ms(3_000)));
    assert_eq!(policy.safety_margin(), policy.grace() + policy.margin());
    let lab = Lab::new();
    let locks = lab.client(policy);
    lab.faulty
        .start_outage(leasehold::store::testing::faulty::Fault::ServerError);
    let call = locks.request("k").expect("a key").call_timeout(ms(700));
    let error = call.try_acquire().await.map(drop).expect_err("an outage");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.elapsed() <= ms(700), "{:?}", error.elapsed());
}

/// The entries of a stream, by hand: the library brings no combinators.
async fn keys_of(lister: leasehold::Lister) -> Vec<String> {
    let (mut lister, mut keys) = (lister, Vec::new());
    while let Some(entry) = poll_fn(|context| Pin::new(&mut lister).poll_next(context)).await {
        keys.push(entry.expect("readable").key().to_owned());
    }
    keys
}

#[tokio::test(start_paused = true)]
async fn f12_a_listing_is_a_stream_and_a_vector() {
    use leasehold::store::testing::faulty::Fault;

    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    for n in 0..250 {
        let lease = locks.acquire(&format!("k{n:03}")).await.expect("free");
        lease.release().await.expect("works");
    }
    let all: Vec<_> = (0..250).map(|n| format!("k{n:03}")).collect();
    assert_eq!(keys_of(locks.list()).await, all);
    assert_eq!(keys_of(locks.list().prefix("k24")).await.len(), 10);
    assert!(keys_of(locks.list().held()).await.is_empty());

    // Dropped while the second page is on its way: what was read stays, and nothing is read twice.
    let key = |entry: &Result<leasehold::LockStatus, leasehold::Error>| {
        entry.as_ref().expect("readable").key().to_owned()
    };
    let slow = [Fault::None, Fault::DelayAnswer(ms(50))];
    lab.faulty.plan(Operation::List, slow);
    let before = lab.counted.counts().requests();
    let mut lister = locks.list();
    tokio::select! {
        biased;
        all = lister.read_all() => panic!("too early: {all:?}"),
        () = lab.sleep(ms(20)) => {}
    }
    let read = lister.read_all().await.expect("works");
    assert_eq!(read.iter().map(key).collect::<Vec<_>>(), all);
    assert_eq!(lab.counted.counts().requests() - before, 3);
    assert!(lister.read_all().await.expect("works").is_empty());
    assert!(lister.next_page().await.expect("works").is_none());

    // A store that fails is an item of the stream, and the same page is read again.
    let mut lister = locks.list();
    lab.faulty.plan(Operation::List, [Fault::AccessDenied]);
    let first = poll_fn(|context| Pin::new(&mut lister).poll_next(context)).await;
    let error = first.expect("an item").expect_err("planned");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert_eq!(keys_of(lister).await, all);
}

#[tokio::test(start_paused = true)]
async fn f12_a_boxed_store_is_a_store() {
    let boxed: Box<dyn Store> = Box::new(MemoryStore::new());
    assert_eq!(boxed.describe(), "memory store");
    assert!(LockClient::new(boxed).acquire("k").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn f16_a_client_with_a_prefix_has_its_own_keys_and_lists_no_others() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let (a, b) = (
        locks.with_prefix("tenant-a/"),
        locks.with_prefix("tenant-b/"),
    );
    let one = a.acquire("k").await.expect("free");
    assert_eq!(one.key().as_str(), "tenant-a/k");
    let other = b.acquire("k").await.expect("another key");
    drop(a.acquire("free").await.expect("free"));
    lab.sleep(ms(1)).await;
    let inner = locks.with_prefix("tenant-").with_prefix("a/");
    assert!(matches!(
        inner.try_acquire("k").await,
        Ok(TryAcquireOutcome::Held(_))
    ));
    assert_eq!(keys_of(a.list()).await, ["tenant-a/free", "tenant-a/k"]);
    assert_eq!(keys_of(a.list().held()).await, ["tenant-a/k"]);
    assert_eq!(
        keys_of(locks.list().prefix("tenant-b")).await,
        ["tenant-b/k"]
    );
    assert_eq!(keys_of(locks.list()).await.len(), 3);
    let empty = a.acquire("").await.expect_err("a prefix is no key");
    assert_eq!(empty.kind(), ErrorKind::InvalidInput);
    drop((one, other));
}

#[tokio::test(start_paused = true)]
async fn f3_what_is_printed_for_people_is_short() {
    let lab = Lab::new();
    let table = DynamoDbStore::new(support::client("http://127.0.0.1:1"), "locks");
    let builder = LockClient::builder(table.clone());
    let mut all = vec![format!("{table:?}"), format!("{builder:?}")];
    let on_table = builder.build();
    all.push(format!("{on_table:?}"));
    all.push(format!("{:?}", on_table.request("k").expect("a key")));
    all.push(format!("{:?}", on_table.list()));
    let locks = lab.client(Policy::default());
    for n in 0..100 {
        drop(locks.acquire(&format!("k{n}")).await.expect("free"));
    }
    let lease = locks.acquire("k").await.expect("free");
    all.extend([format!("{lease:?}"), format!("{:?}", lease.watch())]);
    all.push(format!("{:?}", lease.id()));
    all.extend([format!("{:?}", lab.memory), format!("{:?}", lab.faulty)]);
    all.push(format!("{:?}", locks.inspect("k").await));
    all.push(format!("{:?}", locks.try_acquire("k").await));
    let (tell, told) = tokio::sync::oneshot::channel();
    let ran = locks.run(
        "other",
        |scope| async move { tell.send(format!("{scope:?}")) },
    );
    assert!(ran.await.expect("works").is_ok());
    all.push(told.await.expect("sent"));
    for text in all {
        assert!(text.len() < 800, "{} characters: {text}", text.len());
    }
    assert!(format!("{on_table:?}").contains("locks"));
}

#[tokio::test(start_paused = true)]
async fn f4_message_and_hint_are_what_a_newcomer_sees_first() {
    let lab = Lab::new();
    let _held = lab.bystander().acquire("k").await.expect("free");
    let locks = lab.client(Policy::default());
    let call = locks.request("k").expect("a key").wait(ms(300));
    let error = call.acquire().await.expect_err("held");
    let hint = error.hint().expect("there is one").to_owned();
    // As `fn main() -> Result<(), leasehold::Error>` prints it, as `{e}`, as `{e:#}`.
    for text in [
        format!("{error:?}"),
        format!("{error}"),
        format!("{error:#}"),
    ] {
        assert!(text.contains(error.message()), "{text}");
        assert!(text.contains(&hint), "{text}");
    }
    let printed = format!("{error:?}");
    assert!(printed.contains("WaitExpired"), "{printed}");
    assert!(!printed.contains('{'), "no struct: {printed}");
    let anyhow = anyhow::Error::from(error);
    assert!(format!("{anyhow:?}").contains(&hint), "{anyhow:?}");
}

#[tokio::test(start_paused = true)]
async fn f5_a_wait_for_ever_that_a_silent_store_ends_names_the_setting() {
    let lab = Lab::new();
    lab.faulty
        .start_outage(leasehold::store::testing::faulty::Fault::BlackHole);
    let policy = Policy::builder().wait_forever().build().expect("adds up");
    let locks = lab.client(policy);
    // The leader of the queue, and one who waits behind it.
    let (first, second) = tokio::join!(locks.acquire("k"), locks.acquire("k"));
    for error in [first.expect_err("silent"), second.expect_err("silent")] {
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        let hint = error.hint().expect("there is one");
        assert!(hint.contains("`call_timeout` (10s)"), "{hint}");
        assert!(hint.contains("in a loop"), "{hint}");
    }
    lab.faulty.end_outage();
    assert!(locks.acquire("k").await.is_ok(), "the loop goes on");
}

#[tokio::test(start_paused = true)]
async fn a_try_that_a_silent_store_ends_is_not_told_how_to_wait() {
    let lab = Lab::new();
    lab.faulty
        .start_outage(leasehold::store::testing::faulty::Fault::ServerError);
    let error = lab.client(Policy::default()).try_acquire("k").await;
    let error = error.expect_err("silent");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let hint = error.hint().unwrap_or_default();
    assert!(!hint.contains("call_timeout"), "{hint}");
}

#[test]
fn u10_an_error_about_a_key_of_megabytes_is_small() {
    let error = Key::new(&"k".repeat(20_000_000)).expect_err("too long");
    assert!(format!("{error:?}").len() < 1_000);
    assert!(error.key().expect("a part of it").len() < 100);
}

#[tokio::test(start_paused = true)]
async fn f13_an_outage_lasts_until_it_is_ended() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("held").await.expect("free");
    lab.faulty
        .start_outage(leasehold::store::testing::faulty::Fault::ServerError);
    for _ in 0..3 {
        let error = locks
            .try_acquire("k")
            .await
            .map(drop)
            .expect_err("an outage");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
    assert!(matches!(
        lease.lost().await,
        EndReason::Expired { cause: Some(_) }
    ));
    lab.faulty.end_outage();
    assert!(
        locks
            .try_acquire("k")
            .await
            .expect("works")
            .into_lease()
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_to_people_names_key_and_holder() {
    let lab = Lab::new();
    let policy = Policy::builder()
        .label("worker 7")
        .build()
        .expect("adds up");
    let locks = lab.client(policy);
    assert_eq!(locks.describe_store(), "memory store");
    let shown = async || locks.inspect("k").await.expect("works").to_string();
    assert_eq!(shown().await, "`k` is free");
    let lease = locks.acquire("k").await.expect("free");
    let status = locks.inspect("k").await.expect("works");
    let holder = status.holder().expect("held");
    assert_eq!((holder.key(), holder.label()), ("k", "worker 7"));
    let text = status.to_string();
    assert!(text.contains("`k`") && text.contains("worker 7"), "{text}");
    lab.kill_record_of("k").await;
    assert_eq!(shown().await, "`k` was held by worker 7 and has expired");
    drop(lease);
}

#[test]
fn every_outcome_of_a_release_is_told_apart() {
    use leasehold::ReleaseOutcome::{
        AlreadyReleased, HandedOff, NoRecord, Released, ReleasedLate, Superseded,
    };
    for (outcome, words) in [
        (Released, "released"),
        (ReleasedLate, "after its lease had run out"),
        (AlreadyReleased, "released already"),
        (Superseded, "took it over and released it"),
        (NoRecord, "no record"),
        (HandedOff, "handed off"),
    ] {
        let text = outcome.to_string();
        assert!(text.contains(words), "{text}");
    }
}

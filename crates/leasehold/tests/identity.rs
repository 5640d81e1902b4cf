//! Identity out and back in: released, or gone on with, elsewhere.

use crate::support;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::Lab;
use async_trait::async_trait;
use leasehold::clock::TokioClock;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::{Wrap, Wrapped};
use leasehold::store::{Outcome, Reply, Store, StoreError};
use leasehold::{
    DropPolicy, EndReason, ErrorKind, LeaseId, LockClient, LockState, Policy, ReleaseOutcome,
};
use leasehold_protocol::write::Write;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[tokio::test(start_paused = true)]
async fn a_detached_lease_is_released_elsewhere() {
    let lab = Lab::new();
    let lease = lab
        .client(Policy::default())
        .acquire("k")
        .await
        .expect("free");
    let text = lease.detach().await.expect("held").to_string();
    // Carried as text to another process.
    let id: LeaseId = text.parse().expect("its own text");
    lab.sleep(ms(10_000)).await;
    let elsewhere = lab.client(Policy::default());
    assert_eq!(
        elsewhere.release(&id).await.expect("works"),
        ReleaseOutcome::Released
    );
    assert_eq!(
        elsewhere.release(&id).await.expect("works"),
        ReleaseOutcome::AlreadyReleased
    );
}

#[tokio::test(start_paused = true)]
async fn a_detached_lease_ends_by_itself() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks.acquire("k").await.expect("free");
    lab.sleep(ms(10_000)).await;
    let id = lease.detach().await.expect("held");
    let passed = lab.free_or_expired_within("k", ms(21_000)).await;
    assert!(passed > ms(19_000), "a whole lease is left: {passed:?}");
    let error = {
        // Taken over meanwhile.
        let next = locks.acquire("k").await.expect("expired");
        let error = locks.adopt(&id).await.expect_err("over");
        drop(next);
        error
    };
    assert_eq!(error.kind(), ErrorKind::Lost);
}

#[tokio::test(start_paused = true)]
async fn an_adopted_lease_is_kept_with_its_own_length() {
    let lab = Lab::new();
    let long = lab.client(
        Policy::builder()
            .lease_duration(ms(60_000))
            .build()
            .expect("adds up"),
    );
    let lease = long.acquire("k").await.expect("free");
    let token = lease.token();
    let id = lease.detach().await.expect("held");
    // Another client, whose own leases are shorter.
    let other = lab.client(Policy::default());
    let lease = other.adopt(&id).await.expect("still held");
    assert!(lease.token() > token, "a grant of its own");
    assert!(lease.remaining() > ms(55_000));
    lab.sleep(ms(300_000)).await;
    assert!(lease.is_held(), "it is renewed");
    assert_eq!(
        lease.release().await.expect("works"),
        ReleaseOutcome::Released
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_adopted_says_why() {
    let lab = Lab::new();
    let lease = lab.client(Policy::default()).acquire("k").await;
    let id = lease.expect("free").detach().await.expect("held");
    let other = lab.client(Policy::default());
    let why = async || {
        let error = other.adopt(&id).await.expect_err("over");
        assert_eq!(error.kind(), ErrorKind::Lost);
        error.to_string()
    };
    assert!(other.release(&id).await.expect("works").is_released());
    assert!(
        why()
            .await
            .contains(&EndReason::ReleasedElsewhere.to_string())
    );
    let next = lab.bystander().acquire("k").await.expect("free");
    assert!(why().await.contains("held by"), "{}", why().await);
    assert!(next.release().await.expect("works").is_released());
    assert!(why().await.contains(&EndReason::Superseded.to_string()));
    lab.expire_record_of("k").await;
    assert!(why().await.contains(&EndReason::NoRecord.to_string()));
}

#[tokio::test(start_paused = true)]
async fn the_release_of_a_lease_that_is_known_to_be_taken_over_asks_nobody() {
    let lab = Lab::new();
    let policy = Policy::builder().manual_renewal(true).build();
    let lease = lab.client(policy.expect("adds up")).acquire("k").await;
    let lease = lease.expect("free");
    let adopted = lab.client(Policy::default()).adopt(lease.id()).await;
    let _adopted = adopted.expect("taken over");
    assert_eq!(
        lease.renew().await.expect_err("gone").kind(),
        ErrorKind::Lost
    );
    lab.counted.reset();
    let outcome = lease.release().await.expect("works");
    assert!(
        matches!(outcome, ReleaseOutcome::TakenOver(_)),
        "{outcome:?}"
    );
    assert_eq!(lab.counted.counts().requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn b5_of_two_who_adopt_one_grant_one_gets_it() {
    let lab = Lab::new();
    let lease = lab.client(Policy::default()).acquire("k").await;
    let id = lease.expect("free").detach().await.expect("held");
    let (one, other) = (lab.client(Policy::default()), lab.client(Policy::default()));
    let (one, other) = tokio::join!(one.adopt(&id), other.adopt(&id));
    let (lease, error) = match (one, other) {
        (Ok(lease), Err(error)) | (Err(error), Ok(lease)) => (lease, error),
        both => panic!("exactly one of them: {both:?}"),
    };
    assert_eq!(error.kind(), ErrorKind::Lost);
    lab.sleep(ms(60_000)).await;
    assert!(lease.is_held());
    // The identity that was written down is spent.
    let late = lab.client(Policy::default()).release(&id).await;
    assert!(matches!(late, Ok(ReleaseOutcome::TakenOver(_))), "{late:?}");
    assert!(lease.release().await.expect("works").is_released());
}

#[tokio::test(start_paused = true)]
async fn b5_a_guard_that_was_not_detached_loses_its_grant_to_the_adopter() {
    let lab = Lab::new();
    let first = lab.client(Policy::default()).acquire("k").await;
    let first = first.expect("free");
    lab.sleep(ms(15_000)).await;
    let adopted = lab.client(Policy::default()).adopt(first.id()).await;
    let adopted = adopted.expect("renewed in between, and adopted all the same");
    let loss = first.lost().await;
    assert!(matches!(loss, EndReason::TakenOver(_)), "{loss:?}");
    let left = lab.clock_now();
    assert!(left < ms(15_000 + 7_000), "at its next renewal: {left:?}");
    assert!(adopted.is_held());
}

/// A memory store that notes which grants are to be bound to their process.
#[derive(Debug)]
struct Bound {
    memory: MemoryStore,
    bound: Mutex<Vec<bool>>,
}

#[async_trait]
impl Wrap for Bound {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        if let Write::Acquire(grant) | Write::TakeOver(grant, ..) = &write {
            let mut bound = self.bound.lock().expect("no panics");
            bound.push(grant.bound_to_process);
        }
        self.memory.write(write).await
    }
}

#[tokio::test(start_paused = true)]
async fn b6_an_adopted_grant_is_bound_to_no_process() {
    let clock = Arc::new(TokioClock::new(support::VIRTUAL_START_MS));
    let store = Arc::new(Wrapped(Bound {
        memory: MemoryStore::with_clock(clock.clone()),
        bound: Mutex::default(),
    }));
    let locks = LockClient::builder(store.clone()).clock(clock).build();
    let lease = locks.acquire("k").await.expect("free");
    // Its guard may still believe when the adopter dies.
    let adopted = locks.adopt(lease.id()).await.expect("held");
    assert_eq!(*store.0.bound.lock().expect("no panics"), [true, false]);
    drop((lease, adopted));
}

#[tokio::test(start_paused = true)]
async fn b11_taken_over_and_released_since_is_what_it_is_called() {
    let lab = Lab::new();
    let policy = Policy::builder().manual_renewal(true).build();
    let locks = lab.client(policy.expect("adds up"));
    let late = locks.acquire("k").await.expect("free");
    let id = late.id().clone();
    lab.sleep(ms(25_000)).await;
    let next = lab.bystander().acquire("k").await.expect("expired");
    assert!(next.release().await.expect("works").is_released());
    let outcome = late.release().await.expect("works");
    assert_eq!(outcome, ReleaseOutcome::Superseded);
    let outcome = lab.bystander().release(&id).await.expect("works");
    assert_eq!(outcome, ReleaseOutcome::Superseded);
    let error = lab.bystander().adopt(&id).await.expect_err("over");
    assert!(
        error.to_string().contains("took it over and released it"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_never_was_cannot_be_adopted() {
    let lab = Lab::new();
    let id: LeaseId = "1:67e55044-10b1-426f-9247-bb680e5fe0c8:1:0:k"
        .parse()
        .expect("well formed");
    let error = lab
        .client(Policy::default())
        .adopt(&id)
        .await
        .expect_err("never was");
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(error.key(), Some("k"));
}

#[tokio::test(start_paused = true)]
async fn observers_see_holder_payload_and_times() {
    let lab = Lab::new();
    let locks = lab.client(Policy::default());
    let lease = locks
        .request("k")
        .expect("valid")
        .label("importer")
        .data("part 7")
        .acquire()
        .await
        .expect("free");
    let status = lab.bystander().inspect("k").await.expect("works");
    let LockState::Held(held) = status.state() else {
        panic!("held");
    };
    assert_eq!(held.label(), "importer");
    assert_eq!(held.data(), Some(&b"part 7"[..]));
    assert_eq!(held.token(), Some(lease.token()));
    assert_eq!(held.lease_duration(), Some(ms(20_000)));
    assert!(lease.release().await.expect("works").is_released());
    let status = lab.bystander().inspect("k").await.expect("works");
    assert_eq!(*status.state(), LockState::Free);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_complete_over_pages() {
    let lab = Lab::new();
    let policy = Policy::builder().drop_policy(DropPolicy::LeaveToExpire);
    let locks = lab.client(policy.build().expect("adds up"));
    for i in 0..250 {
        drop(locks.acquire(&format!("k{i:03}")).await.expect("free"));
    }
    let mut lister = lab.bystander().list();
    let mut seen = Vec::new();
    while let Some(page) = lister.next_page().await.expect("works") {
        for entry in page {
            seen.push(entry.expect("readable").key().to_owned());
        }
    }
    let expected: Vec<_> = (0..250).map(|i| format!("k{i:03}")).collect();
    assert_eq!(seen, expected);
}

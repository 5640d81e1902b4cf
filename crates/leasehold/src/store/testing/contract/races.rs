//! Tasks that send the same write at once: writes are atomic, so one wins.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::{Bench, attempt, later, renew_count, seen, token};
use crate::store::{Outcome, StoreErrorKind};
use leasehold_protocol::write::Write;

const TASKS: usize = 16;

/// Writes until the store answers; a conflict of transactions is no answer. Returns whether the write
/// was applied.
async fn insist(bench: &Bench, write: Write) -> bool {
    for _ in 0..1_000 {
        match bench.store.write(write.clone()).await {
            Ok(reply) => return matches!(reply.value, Outcome::Applied(_)),
            Err(e) if e.kind == StoreErrorKind::Conflict || e.kind == StoreErrorKind::Throttled => {
                tokio::task::yield_now().await;
            }
            Err(e) => panic!("{write:?} failed: {e} ({e:?})"),
        }
    }
    panic!("{write:?} got nothing but conflicts")
}

/// Sends all writes at once, and counts the applied ones.
async fn applied(bench: &Bench, writes: Vec<Write>) -> usize {
    let mut tasks = JoinSet::new();
    for write in writes {
        let bench = bench.on(&bench.key);
        tasks.spawn(async move { insist(&bench, write).await });
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .filter(|won| *won)
        .count()
}

pub(super) async fn one_of_many_acquires_wins(bench: &Bench) {
    for round in 0..5 {
        let writes = (0..TASKS)
            .map(|_| Write::Acquire(bench.grant(attempt())))
            .collect();
        assert_eq!(applied(bench, writes).await, 1, "round {round}");
        let owner = bench.read().await.and_then(|r| r.owner).expect("a winner");
        let owner = owner.parse().expect("an attempt id");
        bench.applied(bench.release(owner, None)).await;
    }
}

pub(super) async fn one_of_many_take_overs_wins(bench: &Bench) {
    let mut record = bench.acquired(attempt()).await;
    for round in 0..5 {
        let writes = (0..TASKS)
            .map(|_| Write::TakeOver(bench.grant(attempt()), seen(&record), Vec::new()))
            .collect();
        assert_eq!(applied(bench, writes).await, 1, "round {round}");
        let next = bench.read().await.expect("a record");
        // One grant has raised it, not several.
        assert!(token(&next) > token(&record));
        assert_eq!(renew_count(&next), renew_count(&record) + 1);
        record = next;
    }
}

pub(super) async fn tokens_of_contended_grants_are_all_different(bench: &Bench) {
    const EACH: usize = 10;
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let bench = bench.on(&bench.key);
        tasks.spawn(async move {
            let mut tokens = Vec::new();
            // One task succeeds in each round, so this ends long before.
            for _ in 0..1_000_000 {
                if tokens.len() == EACH {
                    break;
                }
                let me = attempt();
                let write = Write::Acquire(bench.grant(me));
                let Ok(reply) = bench.store.write(write).await else {
                    continue;
                };
                if let Outcome::Applied(Some(record)) = reply.value {
                    tokens.push(token(&record));
                    let release = bench.release(me, Some(token(&record)));
                    assert!(insist(&bench, release).await, "our own release was refused");
                } else {
                    tokio::task::yield_now().await;
                }
            }
            tokens
        });
    }
    let tokens: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(tokens.len(), 8 * EACH, "somebody never got the key");
    let different: BTreeSet<u64> = tokens.iter().copied().collect();
    assert_eq!(different.len(), tokens.len(), "a token was given out twice");
    let (first, last) = (different.first(), different.last());
    assert_eq!(
        last.zip(first).map(|(l, f)| l - f + 1),
        u64::try_from(tokens.len()).ok(),
        "tokens grow by one a grant"
    );
}

pub(super) async fn one_of_renewal_and_take_over_wins(bench: &Bench) {
    for round in 0..20 {
        let me = attempt();
        let bench = bench.on(&format!("{}{round}", bench.scope));
        let record = bench.acquired(me).await;
        let renewal = bench.renewal(me, token(&record), later());
        let take_over = Write::TakeOver(bench.grant(attempt()), seen(&record), Vec::new());
        assert_eq!(
            applied(&bench, vec![renewal, take_over]).await,
            1,
            "round {round}"
        );
    }
}

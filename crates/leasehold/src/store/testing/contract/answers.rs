//! Reads, listings, keys of every kind, stamps and units.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bench, attempt, plain, token};
use crate::clock::{Clock, SystemClock};
use crate::error::Effect;
use crate::store::{Consistency, Outcome, StoreError, StoreErrorKind};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::{ClockBounds, ServiceClock, Stamp};
use leasehold_protocol::write::Write;

pub(super) async fn reads_show_what_was_written(bench: &Bench) {
    let me = attempt();
    let record = bench.acquired(me).await;
    let eventual = bench
        .store
        .read(&bench.key, Consistency::Eventual)
        .await
        .expect("an eventual read");
    // An eventual read may be old: then there was no record.
    assert!(eventual.value.is_none_or(|r| plain(r) == record));
    bench.applied(bench.release(me, Some(token(&record)))).await;
    let released = bench.read().await.expect("the record stays");
    assert_eq!(released.owner, None);
}

pub(super) async fn a_key_without_a_record_reads_as_none(bench: &Bench) {
    assert_eq!(bench.read().await, None);
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        let reply = bench.store.read(&bench.key, consistency).await;
        assert_eq!(reply.expect("a read").value, None);
    }
}

/// Acquires, renews and releases each odd key. A key of one byte has no scope, so it may have a record
/// already, or a store that needs keys of a certain form refuses it.
pub(super) async fn odd_keys(bench: &Bench) {
    let scoped = |tail: &str| format!("{}{tail}", bench.scope);
    let longest = scoped(&"x".repeat(1024 - bench.scope.len()));
    assert_eq!(longest.len(), 1024);
    let unicode = "ключ 鍵 🔑 e\u{301}\u{202e}\u{fffd}\u{10ffff}";
    let control = "tab\tline\nreturn\r escape\u{1b}[0m delete\u{7f}";
    let quotes = r#"'; DROP TABLE locks; -- "quoted" `too` \ %s {} $1 :me #k"#;
    for key in [
        "k".to_owned(),
        longest,
        scoped(unicode),
        scoped(control),
        scoped(quotes),
        scoped(" "),
        scoped("/../"),
        scoped("trailing space "),
    ] {
        println!("key {key:?}");
        let bench = bench.on(&key);
        let me = attempt();
        if key.len() == 1 && is_refused(&bench).await {
            continue;
        }
        if let Some(left_over) = bench.read().await
            && let Some(owner) = &left_over.owner
        {
            let owner = owner.parse().expect("an attempt of this suite");
            bench.applied(bench.release(owner, None)).await;
        }
        let record = bench.acquired(me).await;
        assert_eq!(record.key, key);
        let renewal = bench.renewal(
            me,
            token(&record),
            record.expires_at.plus(Duration::from_secs(1)),
        );
        bench.applied(renewal).await;
        let other = Write::Acquire(bench.grant(attempt()));
        assert_eq!(bench.refused(other).await.expect("a record").key, key);
        bench.applied(bench.release(me, Some(token(&record)))).await;
    }
}

/// Whether reads and writes of the key are refused: both or none.
async fn is_refused(bench: &Bench) -> bool {
    let is_input = |error: &StoreError| {
        (error.kind, error.effect) == (StoreErrorKind::InvalidInput, Effect::NotApplied)
    };
    let read = bench.store.read(&bench.key, Consistency::Strong).await;
    let refused = read.is_err_and(|error| is_input(&error));
    if refused {
        let write = Write::Acquire(bench.grant(attempt()));
        let written = bench.store.write(write).await;
        assert!(
            written.is_err_and(|error| is_input(&error)),
            "{}",
            bench.key
        );
    }
    refused
}

pub(super) async fn keys_are_told_apart(bench: &Bench) {
    // Case, composition, spaces and prefixes make different keys.
    let tails = ["a", "A", "a ", " a", "aa", "ä", "a\u{308}", "a\n"];
    let mut holders = Vec::new();
    for tail in tails {
        let bench = bench.on(&format!("{}{tail}", bench.scope));
        let me = attempt();
        bench.acquired(me).await;
        holders.push((bench, me));
    }
    for (bench, me) in &holders {
        let record = bench.read().await.expect("a record");
        assert!(
            me.owns(&record),
            "{:?} was written as another key",
            bench.key
        );
        bench.applied(bench.release(*me, None)).await;
    }
}

pub(super) async fn listing_shows_every_record_once(bench: &Bench) {
    // More than one page of the stores that page by count.
    let mut expected: BTreeMap<String, Record> = BTreeMap::new();
    for i in 0..130 {
        let bench = bench.on(&format!("{}{i:03}", bench.scope));
        let me = attempt();
        let mut record = bench.acquired(me).await;
        if i % 3 == 0 {
            record = bench.applied(bench.release(me, None)).await;
        }
        expected.insert(bench.key.to_string(), record);
    }
    let all = listed(bench, "").await;
    // A listing may be eventually consistent: the last write of a record may be missing.
    assert_eq!(
        all.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    let differing = all.iter().filter(|(k, r)| expected[*k] != **r).count();
    assert!(
        differing <= 5,
        "{differing} of 130 records are listed otherwise than written"
    );
    let half = bench.scope.len() / 2;
    for prefix in [
        bench.scope[..half].to_owned(),
        bench.scope.clone(),
        format!("{}0", bench.scope),
        format!("{}12", bench.scope),
        format!("{}129", bench.scope),
        format!("{}13", bench.scope),
        format!("{}\u{10ffff}", bench.scope),
    ] {
        let found: Vec<_> = listed(bench, &prefix).await.into_keys().collect();
        let of_prefix = expected.keys().filter(|key| key.starts_with(&prefix));
        assert!(of_prefix.eq(&found), "with prefix {prefix:?}: {found:?}");
    }
}

/// The records of this test among those with this prefix.
async fn listed(bench: &Bench, prefix: &str) -> BTreeMap<String, Record> {
    let mut listed = BTreeMap::new();
    let mut after = None;
    // Others may write to the table meanwhile, so the listing is bounded.
    for _ in 0..100_000 {
        let page = match bench.store.list(prefix, after).await {
            Ok(reply) => reply.value,
            Err(e) => panic!("listing failed: {e} ({e:?})"),
        };
        for record in page.records {
            // Only records of others may be malformed.
            let Ok(record) = record else { continue };
            let key = record.key.clone();
            assert!(key.starts_with(prefix), "{key:?} for prefix {prefix:?}");
            if key.starts_with(&bench.scope) {
                let twice = listed.insert(key, plain(record));
                assert_eq!(twice, None, "listed twice");
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(after, None, "the listing has no end");
    listed
}

/// The stamps of many answers must not contradict each other: the lower bound of one never passes the
/// upper bound of another.
pub(super) async fn stamps_bound_one_clock(bench: &Bench) {
    let bounds = ClockBounds::default();
    let mut clock = ServiceClock::new(bounds);
    let mut last: Option<Stamp> = None;
    let me = attempt();
    for round in 0..20 {
        for kind in 0..4 {
            let sent = SystemClock.reading();
            let stamp = match kind {
                0 => {
                    let reply = bench.store.read(&bench.key, Consistency::Strong).await;
                    reply.expect("a read").stamp
                }
                1 => {
                    let write = Write::Acquire(bench.grant(me));
                    let reply = bench.store.write(write).await.expect("a write");
                    assert!(matches!(reply.value, Outcome::Applied(_)), "round {round}");
                    reply.stamp
                }
                // A refusal is stamped as well.
                2 => {
                    let write = Write::Acquire(bench.grant(attempt()));
                    bench.store.write(write).await.expect("a write").stamp
                }
                _ => {
                    let write = bench.release(me, None);
                    bench.store.write(write).await.expect("a write").stamp
                }
            };
            let received = SystemClock.reading();
            // A store without service time is allowed: the service rule is then off.
            let Some(stamp) = stamp else { continue };
            // This stamp must agree with the earlier ones.
            let mut alone = ServiceClock::new(bounds);
            alone.learn(stamp, sent, received);
            let now = SystemClock.reading();
            let range = |c: &ServiceClock| c.earliest(now.elapsed).zip(c.latest(now));
            if let (Some((low, high)), Some((least, most))) = (range(&clock), range(&alone)) {
                assert!(
                    low <= most && least <= high,
                    "stamps contradict each other: {low:?}..{high:?}, {least:?}..{most:?}"
                );
            }
            clock.learn(stamp, sent, received);
            match (last, stamp) {
                (Some(Stamp::Exact(before)), Stamp::Exact(now))
                | (Some(Stamp::Host(before)), Stamp::Host(now)) => {
                    assert!(before <= now, "exact stamps went back: {before:?}, {now:?}");
                }
                (Some(Stamp::WholeSeconds(before)), Stamp::WholeSeconds(now)) => {
                    // Different hosts of the service may disagree by `delta`.
                    assert!(before <= now + 1, "stamps went back: {before}, {now}");
                }
                (None, _) => {}
                (Some(before), _) => panic!("stamps changed their kind: {before:?}, {stamp:?}"),
            }
            last = Some(stamp);
        }
    }
}

pub(super) async fn units_are_reported(bench: &Bench) {
    let me = attempt();
    let write = bench.store.write(Write::Acquire(bench.grant(me))).await;
    let units = write.expect("a write").units;
    assert!(units.write >= 1.0 && units.read == 0.0, "{units:?}");
    let cost = async |consistency| {
        let reply = bench.store.read(&bench.key, consistency).await;
        reply.expect("a read").units
    };
    let (eventual, strong) = (
        cost(Consistency::Eventual).await,
        cost(Consistency::Strong).await,
    );
    assert!(eventual.write == 0.0 && eventual.read > 0.0, "{eventual:?}");
    assert!(
        strong.write == 0.0 && strong.read >= eventual.read,
        "{strong:?}"
    );
    bench.applied(bench.release(me, None)).await;
}

/// The write of a dropped call may land at once, late or never. The key stays usable.
pub(super) async fn a_dropped_call_harms_nobody(bench: &Bench) {
    let mut orphans = Vec::new();
    for _ in 0..20 {
        let orphan = attempt();
        orphans.push(orphan);
        let acquire = bench.store.write(Write::Acquire(bench.grant(orphan)));
        // Polled once, then dropped.
        tokio::select! {
            biased;
            _ = acquire => {}
            () = tokio::task::yield_now() => {}
        }
    }
    let me = attempt();
    for _ in 0..1_000 {
        match bench.write(Write::Acquire(bench.grant(me))).await {
            Outcome::Applied(_) => {
                bench.applied(bench.release(me, None)).await;
                return;
            }
            Outcome::Refused(in_the_way) => {
                let owner = in_the_way.and_then(|r| r.owner?.parse().ok());
                let orphan = owner.filter(|owner| orphans.contains(owner));
                let orphan = orphan.expect("only an orphan can stand in the way");
                bench.write(bench.release(orphan, None)).await;
            }
        }
    }
    panic!("orphans keep the key");
}

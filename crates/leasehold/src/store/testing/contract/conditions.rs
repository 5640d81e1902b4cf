//! One test for each part of each write's condition, and for the record after the write.

use std::time::Duration;

use super::{Bench, FAR, attempt, later, renew_count, seen, token};
use crate::store::Outcome;
use leasehold_protocol::record::Seen;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::{Grant, Write};

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn acquire_takes_a_key_without_a_record(bench: &Bench) {
    let me = attempt();
    let grant = Grant {
        data: Some(b"payload"[..].into()),
        ..bench.grant(me)
    };
    let record = bench.applied(Write::Acquire(grant.clone())).await;
    assert_eq!(record.key, *bench.key);
    assert!(me.owns(&record), "the owner is the attempt: {record:?}");
    assert_eq!(record.expires_at, grant.expires_at);
    assert_eq!(record.ttl_seconds, Some(FAR));
    assert_eq!(record.holder.as_deref(), Some("contract suite"));
    assert_eq!(record.acquired_at, Some(grant.acquired_at));
    assert_eq!(record.data.as_deref(), Some(&b"payload"[..]));
    let native = record.native.expect("one of our records");
    assert_eq!(native.lease, grant.lease);
    assert_eq!(native.renew_count, 1);
    let seed = u64::try_from(grant.seed.0).expect("after 1970");
    assert_eq!(
        native.token,
        seed + 1,
        "the first token is the seed and one"
    );
}

pub(super) async fn acquire_takes_a_released_key_and_counts_on(bench: &Bench) {
    let (first, second) = (attempt(), attempt());
    let before = bench.acquired(first).await;
    bench
        .applied(bench.release(first, Some(token(&before))))
        .await;
    let after = bench.acquired(second).await;
    assert!(second.owns(&after));
    assert_eq!(token(&after), token(&before) + 1);
    assert_eq!(renew_count(&after), renew_count(&before) + 1);
}

pub(super) async fn acquire_is_refused_while_the_key_is_held(bench: &Bench) {
    let holder = attempt();
    bench.acquired(holder).await;
    let other = Write::Acquire(bench.grant(attempt()));
    let in_the_way = bench.refused(other).await.expect("a record");
    assert!(holder.owns(&in_the_way));
    // No condition reads a clock: a grant that ended long ago is taken over, not acquired.
    let old = Grant {
        expires_at: ServiceTime(1),
        ..bench.grant(attempt())
    };
    let bench = bench.on(&format!("{}old", bench.scope));
    bench
        .applied(Write::Acquire(Grant {
            key: bench.key.clone(),
            ..old
        }))
        .await;
    bench.refused(Write::Acquire(bench.grant(attempt()))).await;
}

pub(super) async fn a_token_survives_release_however_low_the_seed(bench: &Bench) {
    let first = attempt();
    let before = bench.acquired(first).await;
    bench.applied(bench.release(first, None)).await;
    for seed in [0, -5] {
        let me = attempt();
        let low = Grant {
            seed: ServiceTime(seed),
            ..bench.grant(me)
        };
        let record = bench.applied(Write::Acquire(low)).await;
        assert!(token(&record) > token(&before), "a seed lowered a token");
        bench.applied(bench.release(me, None)).await;
    }
}

pub(super) async fn a_guessed_ttl_does_not_shorten_that_of_the_record(bench: &Bench) {
    let ttl_of = |ttl_seconds, ttl_is_guess| Grant {
        ttl_seconds,
        ttl_is_guess,
        ..bench.grant(attempt())
    };
    // Without a record, there is no TTL to shorten.
    let me = attempt();
    let first = Grant {
        attempt: me,
        ..ttl_of(FAR, true)
    };
    bench.applied(Write::Acquire(first)).await;
    // The TTL of the release is a little later.
    bench.applied(bench.release(me, None)).await;
    bench.refused(Write::Acquire(ttl_of(FAR + 1, true))).await;
    for (ttl_seconds, is_guess) in [(FAR + 2, true), (FAR + 9, true), (FAR, false)] {
        let grant = ttl_of(ttl_seconds, is_guess);
        let me = grant.attempt;
        let record = bench.applied(Write::Acquire(grant)).await;
        assert_eq!(record.ttl_seconds, Some(ttl_seconds));
        bench.applied(bench.release(me, None)).await;
    }
}

pub(super) async fn take_over_of_what_was_seen(bench: &Bench) {
    let me = attempt();
    let before = bench.acquired(attempt()).await;
    let grant = Grant {
        seed: ServiceTime(0),
        ..bench.grant(me)
    };
    let after = bench
        .applied(Write::TakeOver(grant.clone(), seen(&before), Vec::new()))
        .await;
    assert!(me.owns(&after));
    assert_eq!(token(&after), token(&before) + 1);
    assert_eq!(renew_count(&after), renew_count(&before) + 1);
    assert_eq!(after.expires_at, grant.expires_at);
    // The same take-over again is too late.
    bench
        .refused(Write::TakeOver(
            bench.grant(attempt()),
            seen(&before),
            Vec::new(),
        ))
        .await;
}

pub(super) async fn a_take_over_raises_the_token_to_its_seed_and_never_lowers_it(bench: &Bench) {
    let mut before = bench.acquired(attempt()).await;
    for (seed, expected) in [
        (token(&before) + 1_000, token(&before) + 1_001),
        (token(&before) + 7, token(&before) + 1_002),
        (0, token(&before) + 1_003),
    ] {
        let grant = Grant {
            seed: ServiceTime(seed.cast_signed()),
            ..bench.grant(attempt())
        };
        let after = bench
            .applied(Write::TakeOver(grant, seen(&before), Vec::new()))
            .await;
        assert_eq!(token(&after), expected, "seed {seed}");
        before = after;
    }
}

pub(super) async fn take_over_is_a_compare_and_set_on_each_part(bench: &Bench) {
    let holder = attempt();
    let record = bench.acquired(holder).await;
    let (owner, token, renew_count) = (holder.to_string(), token(&record), renew_count(&record));
    let others = [
        ("owner", attempt().to_string(), token, renew_count),
        ("token", owner.clone(), token - 1, renew_count),
        ("token", owner.clone(), token + 1, renew_count),
        ("renew count", owner.clone(), token, renew_count - 1),
        ("renew count", owner.clone(), token, renew_count + 1),
    ];
    for (part, owner, token, renew_count) in others {
        println!("take over with another {part}");
        let seen = Seen::Native {
            owner,
            token,
            renew_count,
        };
        bench
            .refused(Write::TakeOver(bench.grant(attempt()), seen, Vec::new()))
            .await;
    }
    // A record of this library is no F# record, even if owner and expiry agree.
    let foreign = Seen::Foreign {
        owner,
        expires_at: record.expires_at,
    };
    bench
        .refused(Write::TakeOver(bench.grant(attempt()), foreign, Vec::new()))
        .await;
    // A renewal in between makes the take-over fail.
    let renewal = bench.renewal(holder, token, record.expires_at.plus(SECOND));
    bench.applied(renewal).await;
    bench
        .refused(Write::TakeOver(
            bench.grant(attempt()),
            seen(&record),
            Vec::new(),
        ))
        .await;
}

pub(super) async fn take_over_needs_a_grant(bench: &Bench) {
    let before = Seen::Native {
        owner: attempt().to_string(),
        token: 1,
        renew_count: 1,
    };
    let nothing = bench
        .refused(Write::TakeOver(bench.grant(attempt()), before, Vec::new()))
        .await;
    assert_eq!(nothing, None);
    let me = attempt();
    let record = bench.acquired(me).await;
    bench.applied(bench.release(me, Some(token(&record)))).await;
    bench
        .refused(Write::TakeOver(
            bench.grant(attempt()),
            seen(&record),
            Vec::new(),
        ))
        .await;
}

pub(super) async fn renewal_moves_the_expiry_and_nothing_else(bench: &Bench) {
    let me = attempt();
    let grant = Grant {
        data: Some(b"kept"[..].into()),
        ..bench.grant(me)
    };
    let mut expected = bench.applied(Write::Acquire(grant)).await;
    for _ in 0..3 {
        expected.expires_at = expected.expires_at.plus(Duration::from_millis(1));
        expected.ttl_seconds = Some(FAR + 1);
        let native = expected.native.as_mut().expect("one of our records");
        native.renew_count += 1;
        let token = native.token;
        let renewed = bench
            .applied(bench.renewal(me, token, expected.expires_at))
            .await;
        assert_eq!(renewed, expected);
    }
}

pub(super) async fn renewal_moves_forward_only(bench: &Bench) {
    let me = attempt();
    let record = bench.acquired(me).await;
    for back in [0, 1, 10_000] {
        let expires_at = ServiceTime(record.expires_at.0 - back);
        bench
            .refused(bench.renewal(me, token(&record), expires_at))
            .await;
    }
    let forward = ServiceTime(record.expires_at.0 + 1);
    bench
        .applied(bench.renewal(me, token(&record), forward))
        .await;
}

pub(super) async fn a_renewal_lengthens_the_lease_and_never_shortens_it(bench: &Bench) {
    let me = attempt();
    let mut expected = bench.acquired(me).await;
    let token = token(&expected);
    for (lease_s, applies) in [(20, true), (60, true), (59, false), (60, true)] {
        let forward = expected.expires_at.plus(SECOND);
        let mut write = bench.renewal(me, token, forward);
        if let Write::Renew { lease, .. } = &mut write {
            *lease = Some(Duration::from_secs(lease_s));
        }
        if !applies {
            bench.refused(write).await;
            continue;
        }
        expected.expires_at = forward;
        expected.ttl_seconds = Some(FAR + 1);
        let native = expected.native.as_mut().expect("one of our records");
        native.renew_count += 1;
        native.lease = Duration::from_secs(lease_s);
        assert_eq!(bench.applied(write).await, expected);
    }
}

pub(super) async fn renewal_needs_our_id_and_token(bench: &Bench) {
    let me = attempt();
    bench.refused(bench.renewal(me, 1, later())).await;
    let record = bench.acquired(me).await;
    let forward = record.expires_at.plus(SECOND);
    bench
        .refused(bench.renewal(attempt(), token(&record), forward))
        .await;
    bench
        .refused(bench.renewal(me, token(&record) + 1, forward))
        .await;
    bench
        .refused(bench.renewal(me, token(&record) - 1, forward))
        .await;
}

pub(super) async fn renewal_after_release_revives_nothing(bench: &Bench) {
    let me = attempt();
    let record = bench.acquired(me).await;
    bench.applied(bench.release(me, Some(token(&record)))).await;
    let late = bench.renewal(me, token(&record), record.expires_at.plus(SECOND));
    let in_the_way = bench.refused(late).await.expect("the record stays");
    assert_eq!(in_the_way.owner, None);
}

pub(super) async fn renewal_after_a_take_over_changes_nothing(bench: &Bench) {
    let (first, second) = (attempt(), attempt());
    let record = bench.acquired(first).await;
    bench
        .applied(Write::TakeOver(
            bench.grant(second),
            seen(&record),
            Vec::new(),
        ))
        .await;
    let forward = later().plus(Duration::from_secs(60));
    bench
        .refused(bench.renewal(first, token(&record), forward))
        .await;
    bench
        .refused(bench.renewal(first, token(&record) + 1, forward))
        .await;
    bench
        .refused(bench.release(first, Some(token(&record))))
        .await;
    bench.refused(bench.release(first, None)).await;
    bench.refused(bench.withdrawal(first, token(&record))).await;
}

pub(super) async fn release_needs_our_id_and_token(bench: &Bench) {
    let me = attempt();
    assert_eq!(bench.refused(bench.release(me, Some(1))).await, None);
    let record = bench.acquired(me).await;
    bench
        .refused(bench.release(attempt(), Some(token(&record))))
        .await;
    bench
        .refused(bench.release(me, Some(token(&record) + 1)))
        .await;
    bench
        .refused(bench.release(me, Some(token(&record) - 1)))
        .await;
    bench.applied(bench.release(me, Some(token(&record)))).await;
    // A second release is refused.
    bench.refused(bench.release(me, Some(token(&record)))).await;
}

pub(super) async fn release_keeps_the_token_and_the_label(bench: &Bench) {
    let me = attempt();
    let grant = Grant {
        data: Some(b"secret"[..].into()),
        ..bench.grant(me)
    };
    let held = bench.applied(Write::Acquire(grant)).await;
    let released = bench.applied(bench.release(me, Some(token(&held)))).await;
    assert_eq!(released.owner, None);
    assert_eq!(released.holder, held.holder, "the last holder's");
    assert_eq!(released.data, None);
    assert_eq!(released.expires_at, ServiceTime(0));
    assert_eq!(released.ttl_seconds, Some(FAR + 2));
    assert_eq!(released.native, held.native, "the counters stay");
}

pub(super) async fn abandon_needs_no_token(bench: &Bench) {
    let (me, next) = (attempt(), attempt());
    assert_eq!(bench.refused(bench.release(me, None)).await, None);
    bench.acquired(me).await;
    bench.refused(bench.release(attempt(), None)).await;
    let released = bench.applied(bench.release(me, None)).await;
    assert_eq!(released.owner, None);
    bench.refused(bench.release(me, None)).await;
    // A late release does not end another's grant.
    bench.acquired(next).await;
    bench.refused(bench.release(me, None)).await;
}

pub(super) async fn withdraw_deletes_only_our_grant(bench: &Bench) {
    let me = attempt();
    assert_eq!(bench.refused(bench.withdrawal(me, 1)).await, None);
    let record = bench.acquired(me).await;
    bench
        .refused(bench.withdrawal(attempt(), token(&record)))
        .await;
    bench
        .refused(bench.withdrawal(me, token(&record) + 1))
        .await;
    let outcome = bench.write(bench.withdrawal(me, token(&record))).await;
    assert_eq!(outcome, Outcome::Applied(None));
    assert_eq!(bench.read().await, None);
    assert_eq!(
        bench.refused(bench.withdrawal(me, token(&record))).await,
        None
    );
    // A released record cannot be withdrawn.
    let again = attempt();
    let record = bench.acquired(again).await;
    bench.applied(bench.release(again, None)).await;
    bench.refused(bench.withdrawal(again, token(&record))).await;
}

pub(super) async fn a_grant_after_a_withdrawal_has_a_greater_token(bench: &Bench) {
    let me = attempt();
    let record = bench.acquired(me).await;
    bench
        .applied(bench.renewal(me, token(&record), record.expires_at.plus(SECOND)))
        .await;
    bench.write(bench.withdrawal(me, token(&record))).await;
    let next = bench.acquired(attempt()).await;
    assert!(token(&next) > token(&record));
    assert_eq!(renew_count(&next), 1);
}

pub(super) async fn writing_twice_is_refused_with_our_own_record(bench: &Bench) {
    // The service may apply a request twice, and clients repeat requests without an answer. The
    // refusal of the second one must carry our own id, which shows the success.
    let me = attempt();
    let acquire = Write::Acquire(bench.grant(me));
    let first = bench.applied(acquire.clone()).await;
    assert_eq!(bench.refused(acquire).await, Some(first.clone()));
    let renewal = bench.renewal(me, token(&first), first.expires_at.plus(SECOND));
    let renewed = bench.applied(renewal.clone()).await;
    assert_eq!(bench.refused(renewal).await, Some(renewed.clone()));
    let other = attempt();
    let take_over = Write::TakeOver(bench.grant(other), seen(&renewed), Vec::new());
    let taken = bench.applied(take_over.clone()).await;
    assert_eq!(bench.refused(take_over).await, Some(taken));
}

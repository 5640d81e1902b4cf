use super::super::token::FencingToken;
use super::super::write::{Grant, apply};
use super::*;
use crate::time::ClockBounds;

const LEASE: Duration = Duration::from_secs(20);

fn reading(ms: u64) -> Reading {
    Reading {
        elapsed: Elapsed(Duration::from_millis(ms)),
        wall_ms: i64::try_from(ms).expect("small"),
    }
}

fn clock() -> ServiceClock {
    ServiceClock::new(ClockBounds::default())
}

fn kept() -> (Kept, Record) {
    let terms = Terms {
        lease: LEASE,
        expiry_padding: Duration::ZERO,
        retention: Duration::from_secs(86_400),
        safety_margin: Duration::from_secs(1),
        bounds: ClockBounds::default(),
    };
    let attempt = AttemptId::from_random([1; 16]);
    let expires_at = terms.publish(&clock(), reading(0), None);
    let record = apply(
        None,
        &Write::Acquire(Grant {
            key: "k".into(),
            attempt,
            expires_at,
            ttl_seconds: 0,
            ttl_is_guess: false,
            lease: LEASE,
            seed: ServiceTime(5),
            acquired_at: ServiceTime(5),
            holder: "me".into(),
            data: None,
            force: None,
            bound_to_process: false,
        }),
    )
    .expect("free")
    .expect("record");
    let sent = Sent {
        at: reading(0),
        expires_at,
    };
    let granted = Granted {
        at: Elapsed::default(),
        began: None,
        token: FencingToken::new(6, 0, false),
        deadline: Deadline::of(&sent, &terms, &clock(), reading(0)),
        expires_at,
        impossible_seed: false,
        queue: Vec::new(),
        ttl_seconds: None,
        description: None,
        crowd: None,
        left: None,
    };
    (Kept::new("k".into(), attempt, &granted, terms), record)
}

#[test]
fn a_late_duplicate_is_refused_and_recognised() {
    let (mut kept, record) = kept();
    let (first, write_1) = kept.renew(&clock(), reading(6_000), false);
    let (_, write_2) = kept.renew(&clock(), reading(9_000), false);
    let record = apply(Some(&record), &write_2)
        .expect("ours")
        .expect("record");
    // The older one arrives late: it must not shorten the lease.
    assert!(apply(Some(&record), &write_1).is_err());
    let before = kept.deadline();
    assert_eq!(
        kept.renewal_refused(Some(&record), &clock(), reading(9_100)),
        RenewalRefused::StillOurs
    );
    // The stored expiry is that of the request sent at 9 s, so the deadline counts from there.
    assert_eq!(kept.deadline().at, Elapsed(Duration::from_millis(28_980)));
    assert!(kept.deadline().at > before.at);
    kept.renewed(&first, &clock(), reading(9_200));
    assert_eq!(kept.deadline().at, Elapsed(Duration::from_millis(28_980)));
}

#[test]
fn a_renewal_after_the_release_revives_nothing() {
    let (mut kept, record) = kept();
    let (_, renew) = kept.renew(&clock(), reading(6_000), false);
    let released = apply(
        Some(&record),
        &kept.release(false, reading(6_001).elapsed, &clock(), reading(6_001)),
    )
    .expect("ours")
    .expect("record");
    assert!(apply(Some(&released), &renew).is_err());
    assert!(kept.shows_release(Some(&released)));
    assert_eq!(
        kept.renewal_refused(Some(&released), &clock(), reading(6_100)),
        RenewalRefused::Lost(Ended::Released)
    );
}

#[test]
fn a_renewal_is_due_after_a_third_less_up_to_a_fifth() {
    let (kept, _) = kept();
    let due = |jitter| kept.renewal_due(jitter, Duration::from_secs(2)).0;
    assert_eq!(due(0.0), LEASE / 3);
    assert_eq!(due(1.0), (LEASE / 3).mul_f64(0.8));
}

#[test]
fn a_grant_that_ends_early_is_renewed_in_time_for_an_answer() {
    let (mut kept, _) = kept();
    kept.deadline.at = Elapsed(Duration::from_secs(8));
    // Margin 1 s and a request of 2 s before its end at 8 s.
    let due = kept.renewal_due(0.0, Duration::from_secs(2));
    assert_eq!(due, Elapsed(Duration::from_secs(5)));
    kept.deadline.at = Elapsed(Duration::from_secs(2));
    let due = kept.renewal_due(0.0, Duration::from_secs(2));
    assert_eq!(due, Elapsed::default());
}

use super::*;
use crate::time::{ClockBounds, Stamp};
use crate::write::apply;

fn attempt(id: u8) -> Attempt {
    let terms = Terms {
        lease: Duration::from_secs(20),
        expiry_padding: Duration::from_secs(1),
        retention: Duration::from_secs(7 * 86_400),
        safety_margin: Duration::from_secs(1),
        bounds: ClockBounds::default(),
    };
    let rules = Rules {
        strict: false,
        expiry_padding: terms.expiry_padding,
        bounds: terms.bounds,
    };
    let wish = Wish {
        key: "k".into(),
        holder: "me".into(),
        data: None,
        adopts: false,
        force: None,
        bound_to_process: false,
        shared_with_fsharp: false,
        want: Want::Whole,
    };
    Attempt::new(
        AttemptId::from_random([id; 16]),
        wish,
        terms,
        rules,
        Observation::default(),
    )
}

fn reading(ms: u64) -> Reading {
    Reading {
        elapsed: Elapsed(Duration::from_millis(ms)),
        wall_ms: 1_000_000_000_000 + i64::try_from(ms).expect("small"),
    }
}

fn shown(now: Reading) -> Shown {
    Shown {
        sent: now,
        received: now.elapsed,
        consistent: true,
    }
}

fn unsampled() -> ServiceClock {
    ServiceClock::new(ClockBounds::default())
}

#[test]
fn an_earlier_success_counts_from_its_own_request() {
    let clock = unsampled();
    let mut me = attempt(1);
    let (_, first) = me.request(None, &clock, reading(0));
    let (_, second) = me.request(None, &clock, reading(5_000));
    // The first one landed, the answer was lost; the second one is refused by our own record.
    let stored = apply(None, &first).expect("free").expect("record");
    assert!(apply(Some(&stored), &second).is_err());
    let now = reading(5_010);
    let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
        panic!("our own record");
    };
    assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(19_980)));
    // The second one landed instead.
    let stored = apply(None, &second).expect("free").expect("record");
    let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
        panic!("our own record");
    };
    assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(24_980)));
}

#[test]
fn an_unknown_expiry_of_ours_counts_from_the_first_request() {
    let clock = unsampled();
    let mut me = attempt(1);
    let (_, first) = me.request(None, &clock, reading(0));
    let mut stored = apply(None, &first).expect("free").expect("record");
    stored.expires_at = ServiceTime(stored.expires_at.0 + 5);
    me.request(None, &clock, reading(9_000));
    let now = reading(9_001);
    let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
        panic!("our own record");
    };
    assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(19_980)));
}

#[test]
fn requests_of_one_attempt_never_publish_the_same_expiry() {
    let clock = unsampled();
    let mut me = attempt(1);
    let (a, _) = me.request(None, &clock, reading(0));
    let (b, _) = me.request(None, &clock, reading(0));
    assert!(b.sent.expires_at > a.sent.expires_at);
}

#[test]
fn an_impossible_seed_is_found_and_others_are_not() {
    let now = reading(0);
    let granted_at = |service_s: i64| {
        let mut clock = unsampled();
        let mut me = attempt(1);
        let (request, write) = me.request(None, &clock, now);
        let stored = apply(None, &write).expect("free").expect("record");
        clock.learn(Stamp::WholeSeconds(service_s), now, now);
        me.applied(&request, &stored, &clock, now)
    };
    assert!(!granted_at(1_000_000_000).impossible_seed);
    assert!(!granted_at(1_000_000_000 + 890).impossible_seed);
    assert!(granted_at(1_000_000_000 + 910).impossible_seed);
    assert!(granted_at(1_000_000_000 - 910).impossible_seed);
}

#[test]
fn a_grant_on_an_existing_token_is_not_seeded() {
    let mut clock = unsampled();
    let mut me = attempt(1);
    let (_, write) = attempt(2).request(None, &clock, reading(0));
    let mut stored = apply(None, &write).expect("free").expect("record");
    stored.owner = None;
    let (request, write) = me.request(None, &clock, reading(0));
    let stored = apply(Some(&stored), &write)
        .expect("released")
        .expect("record");
    let now = reading(0);
    clock.learn(Stamp::WholeSeconds(5), now, now);
    let granted = me.applied(&request, &stored, &clock, now);
    assert!(!granted.impossible_seed);
    assert_eq!(granted.token.stored(), 1_000_000_000_002);
}

#[test]
fn a_clock_far_behind_does_not_have_the_record_deleted() {
    let mut clock = unsampled();
    let later = |seconds: i64| Reading {
        wall_ms: reading(0).wall_ms + seconds * 1_000,
        ..reading(0)
    };
    // Released by a host with a right clock, a month ahead of this one.
    let (_, write) = attempt(2).request(None, &clock, later(30 * 86_400));
    let mut free = apply(None, &write).expect("free").expect("record");
    free.owner = None;
    let now = reading(0);
    let mut me = attempt(1);
    let (_, first) = me.request(None, &clock, now);
    assert!(apply(Some(&free), &first).is_err(), "would end its record");
    // Without a stamp in the answer either: it keeps what it has seen.
    let refusal = me.refused(Some(&free), &shown(now), now, &clock);
    assert!(matches!(refusal, Refusal::Others(Verdict::Free)));
    let (_, second) = me.request(None, &clock, now);
    let taken = apply(Some(&free), &second).expect("free").expect("record");
    assert_eq!(taken.ttl_seconds, free.ttl_seconds);
    // With a stamp it uses service time, also after a clock that was ahead.
    clock.learn(Stamp::WholeSeconds(1_000_000_000), now, now);
    let (_, third) = me.request(None, &clock, now);
    let taken = apply(Some(&free), &third).expect("free").expect("record");
    assert!(taken.ttl_seconds < free.ttl_seconds);
}

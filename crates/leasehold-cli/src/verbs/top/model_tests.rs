//! Snapshots in, rows and events out.

use std::time::UNIX_EPOCH;

use super::*;

const LEASE: Duration = Duration::from_secs(20);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

/// Held by `holder` with this token since a second, renewed at a later one.
fn held(holder: &str, token: u64, since: u64, renewed: u64) -> Lock {
    Lock {
        state: State::Held,
        holder: holder.to_owned(),
        since: Some(at(since)),
        until: at(renewed) + LEASE,
        lease: Some(LEASE),
        token: Some(token),
        waiting: Some(0),
    }
}

fn expired(lock: &Lock) -> Lock {
    Lock {
        state: State::Expired,
        ..lock.clone()
    }
}

fn snapshot(second: u64, lock: Option<Lock>) -> Snapshot {
    Snapshot {
        at: at(second),
        locks: lock
            .map(|lock| ("job".to_owned(), lock))
            .into_iter()
            .collect(),
        complete: true,
    }
}

/// The events, oldest first, of these snapshots, a second apart.
fn story(locks: Vec<Option<Lock>>) -> Vec<Kind> {
    let mut model = Model::default();
    for (second, lock) in (0..).zip(locks) {
        model.update(snapshot(second, lock));
    }
    let mut kinds: Vec<_> = model.events().map(|event| event.kind.clone()).collect();
    kinds.reverse();
    kinds
}

fn by(who: &str) -> String {
    who.to_owned()
}

#[test]
fn the_first_snapshot_has_no_events() {
    assert_eq!(story(vec![Some(held("a", 1, 0, 0))]), []);
}

#[test]
fn a_whole_life() {
    let a = held("a", 1, 1, 1);
    let events = story(vec![
        None,
        Some(a.clone()),
        Some(a),
        Some(held("a", 1, 1, 3)),
        Some(held("b", 2, 4, 4)),
        None,
    ]);
    assert_eq!(
        events,
        [
            Kind::Acquired { by: by("a") },
            Kind::Renewed { times: 1 },
            Kind::HandedOver {
                from: by("a"),
                to: by("b")
            },
            Kind::Released { by: by("b") },
        ]
    );
}

#[test]
fn an_end_without_a_release_is_a_loss() {
    let dead = held("a", 1, 0, 0);
    assert_eq!(
        story(vec![
            Some(dead.clone()),
            Some(expired(&dead)),
            Some(held("b", 2, 22, 22)),
            None
        ]),
        [
            Kind::Lost { by: by("a") },
            Kind::Acquired { by: by("b") },
            Kind::Released { by: by("b") },
        ]
    );
    // Taken over between two looks.
    assert_eq!(
        story(vec![Some(dead.clone()), Some(held("b", 2, 22, 22))]),
        [Kind::Lost { by: by("a") }, Kind::Acquired { by: by("b") }]
    );
    // The record is swept later, which is no release.
    assert_eq!(
        story(vec![Some(dead.clone()), Some(expired(&dead)), None]),
        [Kind::Lost { by: by("a") }]
    );
}

#[test]
fn grants_of_old_clients_are_told_apart_by_their_holder() {
    let old = |holder: &str, renewed| Lock {
        token: None,
        lease: None,
        since: None,
        ..held(holder, 0, 0, renewed)
    };
    assert_eq!(
        story(vec![
            Some(old("a", 0)),
            Some(old("a", 1)),
            Some(old("b", 2))
        ]),
        [
            Kind::Renewed { times: 1 },
            Kind::HandedOver {
                from: by("a"),
                to: by("b")
            },
        ]
    );
}

#[test]
fn renewals_are_counted_for_each_grant() {
    let mut model = Model::default();
    for second in 0..5 {
        model.update(snapshot(second, Some(held("a", 1, 0, second))));
    }
    assert_eq!(model.rows().next().expect("a row").1.renewals, 4);
    // One line, the newest.
    let events: Vec<_> = model.events().collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].at, &events[0].kind),
        (at(4), &Kind::Renewed { times: 4 })
    );
    model.update(snapshot(5, Some(held("b", 2, 5, 5))));
    assert_eq!(model.rows().next().expect("a row").1.renewals, 0);
}

#[test]
fn many_renewals_are_one_event() {
    let mut model = Model::default();
    for second in 0..3 {
        let locks = (0..50).map(|n| (format!("job {n}"), held("a", 1, 0, second)));
        model.update(Snapshot {
            at: at(second),
            locks: locks.collect(),
            complete: true,
        });
    }
    let kinds: Vec<_> = model.events().map(|event| &event.kind).collect();
    assert_eq!(kinds, [&Kind::RenewedMany(50)]);
}

#[test]
fn what_was_not_read_was_not_released() {
    let mut model = Model::default();
    model.update(snapshot(0, Some(held("a", 1, 0, 0))));
    model.update(Snapshot {
        complete: false,
        ..snapshot(1, None)
    });
    assert_eq!(model.events().count(), 0);
    assert!(!model.is_complete());
}

#[test]
fn the_log_is_bounded() {
    let mut model = Model::default();
    model.update(snapshot(0, None));
    for second in 1..1_000 {
        model.update(snapshot(second, Some(held("a", second, second, second))));
    }
    assert_eq!(model.events().count(), EVENTS);
    assert_eq!(model.events().next().expect("an event").at, at(999));
}

#[test]
fn what_is_left_needs_no_right_wall_clock_after_a_renewal() {
    for (offset, least) in [(0_i64, 17), (3_600, 17), (-3_600, 17)] {
        let shifted = |second: u64| {
            let base = at(second);
            let by = Duration::from_secs(offset.unsigned_abs());
            if offset < 0 { base - by } else { base + by }
        };
        let mut model = Model::default();
        for second in 0..3 {
            model.update(Snapshot {
                at: shifted(second),
                ..snapshot(second, Some(held("a", 1, 0, second)))
            });
        }
        let lock = held("a", 1, 0, 2);
        let left = model.left(&lock, shifted(3));
        assert!(
            left >= Duration::from_secs(least) && left <= LEASE,
            "{offset}: {left:?}"
        );
        let later = model.left(&lock, shifted(13));
        assert!(
            later >= Duration::from_secs(7) && later <= Duration::from_secs(11),
            "{offset}: {later:?}"
        );
        assert_eq!(model.left(&expired(&lock), shifted(3)), Duration::ZERO);
    }
}

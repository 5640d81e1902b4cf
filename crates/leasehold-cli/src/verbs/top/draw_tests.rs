//! The screen at some sizes, beside snapshots. `LEASEHOLD_BLESS=1` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::verbs::top::model::Snapshot;

static UTC: TimeZone = TimeZone::UTC;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds)
}

fn held(holder: &str, token: u64, since: u64, renewed: u64, waiting: usize) -> Lock {
    let lease = Duration::from_secs(20);
    Lock {
        state: State::Held,
        holder: holder.to_owned(),
        since: Some(at(since)),
        until: at(renewed) + lease,
        lease: Some(lease),
        token: Some(1_839_018_220_735_488 + token),
        waiting: Some(waiting),
    }
}

/// Some minutes with all kinds of events.
fn model() -> Model {
    let mut model = Model::default();
    let mut update = |second, locks: &[(&str, Lock)]| {
        let locks = locks
            .iter()
            .map(|(name, lock)| ((*name).to_owned(), lock.clone()));
        model.update(Snapshot {
            at: at(second),
            locks: locks.collect::<BTreeMap<_, _>>(),
            complete: true,
        });
    };
    let dead = held("cron@db-3[77]", 3, 0, 0, 0);
    let old = Lock {
        lease: None,
        token: None,
        since: None,
        waiting: None,
        ..held("b4c1f0", 0, 0, 60, 0)
    };
    let deploy = held("ci-runner-1[4711] of the release pipeline", 1, 0, 0, 2);
    update(
        0,
        &[("deploy/production", deploy), ("nightly", dead.clone())],
    );
    let deploy = held("ci-runner-1[4711] of the release pipeline", 1, 0, 40, 2);
    let dead = Lock {
        state: State::Expired,
        ..dead
    };
    update(
        41,
        &[("deploy/production", deploy), ("nightly", dead.clone())],
    );
    let deploy = held("ci-runner-2[4712]", 4, 50, 50, 1);
    let forged = held("host \u{1b}[2J 1\nleasehold: lost", 5, 51, 51, 0);
    update(
        52,
        &[
            ("deploy/production", deploy.clone()),
            ("nightly", dead.clone()),
            ("nameless", forged),
        ],
    );
    let bad = Lock {
        state: State::Malformed,
        holder: "the record has no owner".to_owned(),
        ..held("", 0, 0, 0, 0)
    };
    update(
        60,
        &[
            ("bad", bad),
            ("customer/漢字/42", held("web-1", 6, 57, 58, 11)),
            ("deploy/production", deploy),
            ("migration from F#", old),
            ("nightly", dead),
        ],
    );
    model
}

fn screen(width: u16, height: u16, view: &View<'_>) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, view)).expect("drawn");
    terminal.backend().to_string()
}

fn view(model: &Model) -> View<'_> {
    View {
        model,
        wall: at(62),
        zone: &UTC,
        store: "dynamodb://locks?region=eu-west-1",
        prefix: "",
        interval: Duration::from_secs(1),
        rate: Some((1.0, 0.5)),
        problem: None,
        scroll: 0,
    }
}

#[track_caller]
fn is(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/verbs/top/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("LEASEHOLD_BLESS").is_some() {
        fs::write(&path, screen).expect("written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(screen == expected, "{}:\n{screen}", path.display());
}

#[test]
fn at_every_size() {
    let model = model();
    for (width, height) in [(80, 24), (40, 10), (200, 50)] {
        is(
            &format!("{width}x{height}"),
            &screen(width, height, &view(&model)),
        );
    }
}

#[test]
fn without_locks() {
    let model = Model::default();
    let view = View {
        rate: None,
        ..view(&model)
    };
    is("empty", &screen(80, 8, &view));
}

#[test]
fn more_locks_than_lines() {
    let mut model = Model::default();
    let locks = (0..100).map(|n| (format!("job {n:02}"), held("a", n, 0, 55, 0)));
    model.update(Snapshot {
        at: at(60),
        locks: locks.collect(),
        complete: false,
    });
    let view = View {
        scroll: 90,
        prefix: "job",
        ..view(&model)
    };
    is("scrolled", &screen(80, 8, &view));
    let failed = View {
        problem: Some("trying again: cannot list: dynamodb table `locks`: no answer within 2s"),
        ..view
    };
    is("failed", &screen(80, 8, &failed));
}

#[test]
fn no_size_is_too_small() {
    let model = model();
    for (width, height) in [(1, 1), (2, 3), (10, 2), (500, 1), (1, 100)] {
        screen(width, height, &view(&model));
    }
}

#[test]
fn bars_are_in_eighths() {
    for (fraction, text) in [
        (0.0, ""),
        (0.5, "██"),
        (1.0, "████"),
        (2.0, "████"),
        (-1.0, ""),
        (0.53, "██▏"),
    ] {
        assert_eq!(bar(fraction, 4), text);
    }
}

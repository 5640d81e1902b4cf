//! The store is cut off, a hundred times: the command and all that it has started are dead before the lease ends.

use crate::support::{Room, Wrapper, alive, dynamo, net::Way, until};
use rustix::process::Pid;

/// Runs at the same time.
const BATCH: usize = 25;

/// What the record adds to the lease on DynamoDB, the default `expiry_padding`.
const PADDING_MS: i64 = 1_000;

/// Starting a batch on a slow machine delays the renewals of those that run.
const LEASE: [&str; 4] = ["--lease", "6s", "--grace", "300ms"];

/// A command with a daemon. Both ignore the signal that comes first.
const FAMILY: &str = "(setsid sh -c 'trap \"\" TERM; echo $$ > daemon; exec sleep 1000' </dev/null >/dev/null 2>&1 &); \
                      trap '' TERM; echo $$ > command; exec sleep 1000";

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

struct Run {
    room: Room,
    wrapper: Wrapper,
    pids: [Pid; 2],
    died_ms: Option<i64>,
}

/// The smallest time between the last death and the end of the lease, in milliseconds.
fn batch(direct: &Room, cut: impl Fn(&Way)) -> i64 {
    let table = direct.store().split(['/', '?']).nth(2).unwrap().to_owned();
    let way = Way::to(&dynamo::address());
    let mut runs: Vec<Run> = (0..BATCH)
        .map(|number| {
            let room = Room::with_store(&dynamo::url(&table, &way.address));
            let name = format!("job-{number}");
            let arguments = [&["run", &name], &LEASE[..], &["-c", FAMILY]].concat();
            let wrapper = Wrapper(room.command(&arguments).spawn().unwrap());
            let pids = [room.pid("command"), room.pid("daemon")];
            Run {
                room,
                wrapper,
                pids,
                died_ms: None,
            }
        })
        .collect();
    cut(&way);
    until("the end of all", || {
        for run in runs.iter_mut().filter(|run| run.died_ms.is_none()) {
            if run.pids.iter().all(|pid| !alive(*pid)) {
                run.died_ms = Some(now_ms());
            }
        }
        runs.iter().all(|run| run.died_ms.is_some())
    });
    let mut least = i64::MAX;
    for (number, run) in runs.iter_mut().enumerate() {
        let output = direct.run(&["show", &format!("job-{number}"), "--json"]);
        let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let until: jiff::Timestamp = job["until"].as_str().unwrap().parse().unwrap();
        least = least.min(until.as_millisecond() - PADDING_MS - run.died_ms.unwrap());
        assert_eq!(
            run.wrapper.ended(),
            76,
            "{}",
            run.room.directory().display()
        );
    }
    least
}

fn fifty(cut: impl Fn(&Way)) -> i64 {
    let direct = dynamo::room();
    batch(&direct, &cut).min(batch(&direct, &cut))
}

#[test]
fn a_store_that_is_silent_fifty_times() {
    let least = fifty(Way::cut);
    println!("smallest lead before the end of a lease of 6 s: {least} ms");
    assert!(least > 0, "{least} ms");
}

#[test]
fn a_store_that_is_stopped_fifty_times() {
    let least = fifty(Way::close);
    println!("smallest lead before the end of a lease of 6 s: {least} ms");
    assert!(least > 0, "{least} ms");
}

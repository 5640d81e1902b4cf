//! Runners of `once` that are killed at random moments: one run is remembered, and all others end as it did (S7).
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::collections::BTreeSet;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Room, dynamo};
use rustix::process::{Pid, Signal, kill_process};

/// splitmix64: the same moments in each run, as far as the machine allows.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// What a process that was not killed has printed, and its exit code.
type End = (Option<i32>, String);

fn round(room: &Room, name: &str, dice: &mut Dice) -> Vec<End> {
    let line = "echo began $$; sleep 0.04; echo ended $$";
    let words = [
        "once", name, "--keep", "1h", "--replay", "--lease", "2500ms", "-c", line,
    ];
    let mut all: Vec<_> = (0..3)
        .map(|_| {
            let mut command = room.command(&words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    sleep(Duration::from_millis(dice.below(120)));
    let killed = usize::try_from(dice.below(3)).unwrap();
    let mut victim = all.swap_remove(killed);
    let pid = Pid::from_child(&victim);
    // Its worker, its guardian, or now and then both.
    let worker = support::children(pid).first().copied();
    let which = dice.below(8);
    if let (Some(worker), true) = (worker, which < 4) {
        let _gone = kill_process(worker, Signal::KILL);
    }
    if worker.is_none() || which >= 3 {
        let _gone = kill_process(pid, Signal::KILL);
    }
    let ends = all.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    });
    let ends = ends.collect();
    victim.wait().unwrap();
    ends
}

fn killed_at_random(room: &Room, rounds: u64) {
    let mut dice = Dice(rounds);
    for number in 0..rounds {
        let name = format!("job/{number}");
        let ends = round(room, &name, &mut dice);
        let again = room.run(&[
            "once",
            &name,
            "--keep",
            "1h",
            "--replay",
            "-c",
            "echo another",
        ]);
        let last = (
            again.status.code(),
            String::from_utf8(again.stdout).unwrap(),
        );
        let distinct: BTreeSet<_> = ends.iter().chain([&last]).collect();
        assert_eq!(distinct.len(), 1, "round {number}: {ends:?}, then {last:?}");
        let (code, printed) = &last;
        assert_eq!(*code, Some(0), "round {number}");
        let lines: Vec<_> = printed.lines().collect();
        let [began, ended] = lines[..] else {
            panic!("round {number}: {printed}");
        };
        let runner = began.strip_prefix("began ").unwrap();
        assert_eq!(ended.strip_prefix("ended "), Some(runner), "one whole run");
    }
}

#[test]
fn killed_runners_on_sqlite() {
    killed_at_random(&Room::new(), 25);
}

#[test]
fn killed_runners_on_dynamodb() {
    killed_at_random(&dynamo::room(), 12);
}

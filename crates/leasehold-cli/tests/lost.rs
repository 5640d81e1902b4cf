//! The lock is lost while the command runs: the command is dead before anybody else may begin, the code is 76, and the
//! release touches nothing. Also the other ends that are ours: `--max-hold`, and what `--hold-at-least` keeps.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use std::time::{Duration, Instant};

use crate::support::{Room, SHORT, alive, children, dynamo, net::Way, take_away, until, wait_line};
use rustix::process::Signal;

/// A holder is stopped past its lease, another gets in, and the first wakes up.
fn stopped_past_the_lease(room: &Room) {
    // It ignores TERM, so that only KILL after the grace ends it.
    let stubborn = format!("trap '' TERM; echo $$ > first; {}", wait_line("never"));
    let mut first = room.start(&[&SHORT[..], &["--report", "report"]].concat(), &stubborn);
    let command = room.pid("first");
    first.freeze();

    let mut second = room.start(
        &[&SHORT[..], &["--label", "second", "-w", "40s"]].concat(),
        &format!("echo $LEASEHOLD_TOKEN > second; {}", wait_line("go")),
    );
    until("another is in", || room.text("second").ends_with('\n'));
    let token: u64 = room.text("second").trim().parse().unwrap();
    assert!(alive(command), "nobody could have stopped it yet");

    let woken = Instant::now();
    first.signal(Signal::CONT);
    assert_eq!(first.ended(), 76);
    assert!(
        woken.elapsed() < Duration::from_secs(5),
        "it notices at once"
    );
    assert!(
        woken.elapsed() >= Duration::from_millis(300),
        "the grace was given"
    );
    assert!(!alive(command));

    // The record is still the other's, who notices nothing.
    let job = room.job();
    assert_eq!(job["state"], "held");
    assert_eq!(job["holder"], "second");
    assert_eq!(job["token"], token);
    assert!(second.running());
    room.touch("go");
    assert_eq!(second.ended(), 0);
    assert_eq!(second.stderr(), "");
    assert_eq!(room.job()["state"], "free");

    let said = first.stderr();
    assert!(said.contains("leasehold: lost the lock `job` ("), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
    let report = room.report();
    assert_eq!(report["outcome"], "lost");
    assert_eq!(report["exit_code"], 76);
    assert_eq!(report["command"]["signal"], 9);
    assert!(report["token"].as_u64().unwrap() < token);
    assert!(report["lost"].is_string());
}

#[test]
fn stopped_past_the_lease_on_sqlite() {
    stopped_past_the_lease(&Room::new());
}

#[test]
fn stopped_past_the_lease_on_dynamodb() {
    stopped_past_the_lease(&dynamo::room());
}

/// The lease of a stopped wrapper has ended, and nobody has asked since.
fn expired(room: &Room) {
    until("the end of the lease", || room.job()["state"] == "expired");
}

#[test]
fn with_warn_the_command_runs_on_and_keeps_its_code() {
    let room = Room::new();
    let options = [&SHORT[..], &["--on-lost", "warn", "--report", "report"]].concat();
    let mut wrapper = room.start(&options, &format!("echo > in; {}; exit 7", wait_line("go")));
    until("in", || room.has("in"));
    take_away(&room);
    // It is noticed at the next renewal, and changes nothing.
    let noticed = Instant::now();
    while noticed.elapsed() < Duration::from_secs(2) {
        assert!(wrapper.running());
        std::thread::sleep(Duration::from_millis(50));
    }
    room.touch("go");
    assert_eq!(wrapper.ended(), 7);
    let said = wrapper.stderr();
    assert!(said.contains("the command runs on without it"), "{said}");
    assert_eq!(room.report()["outcome"], "lost");
    assert_eq!(room.report()["exit_code"], 7);
}

#[test]
fn r1_a_command_that_ended_beside_another_holder_is_76() {
    let room = Room::new();
    let options = [&SHORT[..], &["--report", "report"]].concat();
    let mut first = room.start(&options, &format!("echo $$ > first; {}", wait_line("end")));
    let command = room.pid("first");
    first.freeze();
    let mut second = room.start(&["-w", "40s"], &format!("echo > in; {}", wait_line("go")));
    until("another is in", || room.has("in"));
    // Now the first command ends by itself, with a 0 that nobody should trust.
    room.touch("end");
    until("the command's end", || !alive(command));
    first.signal(Signal::CONT);
    assert_eq!(first.ended(), 76);
    let said = first.stderr();
    assert!(said.contains("had ended before its release"), "{said}");
    // What tells it from a command that was stopped.
    let report = room.report();
    assert_eq!(report["outcome"], "lost");
    assert_eq!(report["command"]["exit_code"], 0);
    let lost = report["lost"].as_str().unwrap();
    assert!(lost.contains("ended by itself"), "{lost}");
    room.touch("go");
    assert_eq!(second.ended(), 0);
}

#[test]
fn a_late_release_that_nobody_saw_keeps_the_code() {
    let room = Room::new();
    let mut first = room.start(
        &SHORT,
        &format!("echo $$ > first; {}; exit 5", wait_line("end")),
    );
    let command = room.pid("first");
    first.freeze();
    room.touch("end");
    until("the command's end", || !alive(command));
    expired(&room);
    first.signal(Signal::CONT);
    assert_eq!(first.ended(), 5);
    let said = first.stderr();
    assert!(
        said.contains("released after its lease had run out"),
        "{said}"
    );
}

#[test]
fn a_dark_store_ends_the_command_before_the_lease_does() {
    let table = dynamo::table_name();
    let way = Way::to(&dynamo::address());
    let direct = Room::with_store(&dynamo::url(&table, &dynamo::address()));
    assert_eq!(direct.code(&["init"]), 0);
    let room = Room::with_store(&dynamo::url(&table, &way.address));
    let line = format!("trap '' TERM; echo $$ > in; {}", wait_line("never"));
    let mut wrapper = room.start(&SHORT, &line);
    let command = room.pid("in");
    way.cut();
    until("the command's end", || !alive(command));
    // Nobody else could have got in by then.
    assert_eq!(direct.job()["state"], "held");
    assert_eq!(wrapper.ended(), 76);
    let said = wrapper.stderr();
    assert!(said.contains("could not be renewed in time"), "{said}");
}

#[test]
fn max_hold_is_124_and_the_lock_is_free_afterwards() {
    let room = Room::new();
    for (trap, signal) in [("", 15), ("trap '' TERM; ", 9)] {
        let options = [
            "--max-hold",
            "300ms",
            "--grace",
            "200ms",
            "--report",
            "report",
        ];
        let mut wrapper = room.start(&options, &format!("{trap}{}", wait_line("never")));
        assert_eq!(wrapper.ended(), 124);
        let said = wrapper.stderr();
        assert!(
            said.contains("held the lock `job`") && said.contains("for 300ms"),
            "{said}"
        );
        assert_eq!(room.report()["outcome"], "max_hold");
        assert_eq!(room.report()["command"]["signal"], signal);
        assert_eq!(room.job()["state"], "free");
    }
}

#[test]
fn the_signal_that_stops_can_be_chosen() {
    let room = Room::new();
    let line = format!("trap 'echo > got; exit 0' INT; {}", wait_line("never"));
    let mut wrapper = room.start(
        &["--signal", "INT", "--max-hold", "1s", "--grace", "3s"],
        &line,
    );
    assert_eq!(wrapper.ended(), 124);
    assert!(room.has("got"));
}

#[test]
fn hold_at_least_keeps_the_lock_after_the_command() {
    let room = Room::new();
    let start = Instant::now();
    let mut wrapper = room.start(&["--hold-at-least", "1500ms"], "echo > ran; exit 3");
    until("ran", || room.has("ran"));
    assert_eq!(room.code(&["run", "job", "-n", "--", "true"]), 75);
    assert_eq!(wrapper.ended(), 3);
    assert!(start.elapsed() >= Duration::from_millis(1500));
    assert_eq!(room.job()["state"], "free");
    // What did not run needs no lock.
    let start = Instant::now();
    let orphan = room.path("orphan");
    std::fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&orphan, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(
        room.code(&["run", "job", "--hold-at-least", "30s", "--", "./orphan"]),
        127
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(room.job()["state"], "free");
}

#[test]
fn a_signal_cuts_hold_at_least_short_and_leaves_the_lock_to_run_out() {
    let room = Room::new();
    let mut wrapper = room.start(&["--hold-at-least", "1h", "-v"], "echo > ran; exit 3");
    until("ran", || room.has("ran"));
    let worker = wrapper.worker();
    until("the wait after the command", || children(worker).is_empty());
    std::thread::sleep(Duration::from_millis(100));
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.ended(), 3);
    assert_eq!(room.job()["state"], "held");
}

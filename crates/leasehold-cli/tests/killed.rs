//! Deaths of the guardian and of the worker: nothing of the command is left when the next holder begins, and the lock
//! is free at once.
#![expect(clippy::disallowed_methods, reason = "real processes need real time")]

use crate::support;
use std::time::{Duration, Instant};

use crate::support::{Room, Wrapper, alive, dynamo, is_called, until, wait_line};
use rustix::process::{Pid, Signal, kill_process};

/// A command with a child in its group, and with a daemon in a session of its own. All ignore TERM and HUP.
fn family() -> String {
    let member = |name: &str| {
        format!(
            "trap \"\" TERM HUP; echo $$ >> pids; echo > {name}; {}",
            wait_line("never")
        )
    };
    format!(
        "(setsid sh -c '{}' </dev/null >/dev/null 2>&1 &); sh -c '{}' & {}",
        member("daemon"),
        member("child"),
        member("command"),
    )
}

fn pids(room: &Room) -> Vec<Pid> {
    let text = room.text("pids");
    let numbers = text.lines().map(|line| line.parse().unwrap());
    numbers.filter_map(Pid::from_raw).collect()
}

fn started(room: &Room, options: &[&str]) -> (Wrapper, Pid) {
    let wrapper = room.start(options, &family());
    for member in ["command", "child", "daemon"] {
        until(member, || room.has(member));
    }
    let worker = wrapper.worker();
    (wrapper, worker)
}

/// A line that writes down each process that still runs.
const LOOK: &str = "for p in $(cat pids); do s=$(sed -n 's/^State:\t\\(.\\).*/\\1/p' /proc/$p/status 2>/dev/null); \
                    case $s in ''|Z|X) ;; *) echo $p $s >> overlap;; esac; done";

/// The next holder gets the lock at once, and sees nobody of the one before.
fn next_is_alone(room: &Room) {
    let killed = Instant::now();
    assert_eq!(room.code(&["run", "job", "-w", "15s", "-c", LOOK]), 0);
    assert_eq!(room.text("overlap"), "");
    // The lease is 20 s.
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
}

fn guardian_is_killed(room: &Room) {
    let (mut wrapper, worker) = started(room, &["--report", "report"]);
    wrapper.0.kill().unwrap();
    wrapper.0.wait().unwrap();
    next_is_alone(room);
    assert_eq!(pids(room).len(), 3);
    until("the worker's end", || !alive(worker));
    let said = wrapper.stderr();
    assert!(
        said.contains("leasehold was killed: killing the command under the lock `job`"),
        "{said}"
    );
    assert_eq!(room.report()["outcome"], "killed");
    assert_eq!(room.report()["exit_code"], 137);
    assert_eq!(room.report()["command"]["signal"], 9);
}

fn worker_is_killed(room: &Room) {
    let (mut wrapper, worker) = started(room, &["--report", "report"]);
    let token = room.job()["token"].clone();
    kill_process(worker, Signal::KILL).unwrap();
    next_is_alone(room);
    assert_eq!(wrapper.ended(), 137);
    let report = room.report();
    assert_eq!(report["outcome"], "killed");
    assert_eq!(report["exit_code"], 137);
    assert_eq!(report["token"], token);
    assert_eq!(report["release"], "released");
    assert!(
        report["requests"].is_null() && report["dollars"].is_null(),
        "{report}"
    );
    assert_eq!(pids(room).len(), 3);
    let said = wrapper.stderr();
    assert!(said.contains("leasehold was killed (exit code 137), and its command with it: `job`: the lock is released"), "{said}");
}

#[test]
fn a_killed_guardian_on_sqlite() {
    guardian_is_killed(&Room::new());
}

#[test]
fn a_killed_guardian_on_dynamodb() {
    guardian_is_killed(&dynamo::room());
}

#[test]
fn a_killed_worker_on_sqlite() {
    worker_is_killed(&Room::new());
}

#[test]
fn a_killed_worker_on_dynamodb() {
    worker_is_killed(&dynamo::room());
}

#[test]
fn a_killed_worker_hands_over_to_whoever_waits() {
    let room = Room::new();
    let (mut wrapper, worker) = started(&room, &[]);
    let mut waiter = room.start(&[], LOOK);
    until("the place", || room.job()["waiting"] == 1);
    let killed = Instant::now();
    kill_process(worker, Signal::KILL).unwrap();
    assert_eq!(waiter.ended(), 0);
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(room.text("overlap"), "");
    assert_eq!(wrapper.ended(), 137);
}

#[test]
fn a_killed_process_group_spares_the_worker() {
    // As `timeout -k` and runners of pipelines do.
    let room = Room::new();
    let (mut wrapper, worker) = started(&room, &[]);
    rustix::process::kill_process_group(wrapper.pid(), Signal::KILL).unwrap();
    next_is_alone(&room);
    until("the worker's end", || !alive(worker));
    wrapper.0.wait().unwrap();
}

#[test]
fn both_killed_leave_the_lease_to_expire() {
    let room = Room::new();
    let mut wrapper = room.start(&[], &format!("echo $$ > command; {}", wait_line("never")));
    let command = room.pid("command");
    wrapper.kill_both();
    until("the command's end", || !alive(command));
    assert_eq!(room.job()["state"], "held");
}

#[test]
fn a_killed_guardian_ends_the_wait_and_leaves_the_queue() {
    let room = Room::new();
    let mut holder = room.start(&[], &format!("echo > in; {}", wait_line("go")));
    until("in", || room.has("in"));
    let mut waiter = room.start(&[], "echo > ran");
    until("the place", || room.job()["waiting"] == 1);
    let worker = waiter.worker();
    waiter.0.kill().unwrap();
    waiter.0.wait().unwrap();
    until("the worker's end", || !alive(worker));
    assert_eq!(room.job()["waiting"], 0);
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert!(!room.has("ran"));
}

#[test]
fn a_killed_worker_that_waits_does_not_block_the_next() {
    let room = Room::new();
    let mut holder = room.start(&[], &format!("echo > in; {}", wait_line("go")));
    until("in", || room.has("in"));
    let mut waiter = room.start(&[], "echo > ran");
    until("the place", || room.job()["waiting"] == 1);
    kill_process(waiter.worker(), Signal::KILL).unwrap();
    assert_eq!(waiter.ended(), 137);
    let said = waiter.stderr();
    assert!(
        said.contains("`job`: its place in the queue is free"),
        "{said}"
    );
    assert_eq!(room.job()["waiting"], 0);
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert!(!room.has("ran"));
}

#[test]
fn detach_ok_does_not_outlive_a_kill() {
    let room = Room::new();
    let (mut wrapper, worker) = started(&room, &["--detach-ok"]);
    kill_process(worker, Signal::KILL).unwrap();
    next_is_alone(&room);
    assert_eq!(wrapper.ended(), 137);
}

#[test]
fn another_child_of_the_program_that_we_replaced_lives_on() {
    let room = Room::new();
    let line = format!(
        "sleep 1000 & echo $! > other; exec {} run job -c 'echo > in; {}'",
        support::BIN,
        wait_line("never")
    );
    let mut shell = support::command("setsid");
    shell
        .args(["sh", "-c", &line])
        .current_dir(room.directory());
    let mut relay = Wrapper(shell.env("LEASEHOLD_STORE", room.store()).spawn().unwrap());
    let other = room.pid("other");
    until("in", || room.has("in"));
    let guardian = support::children(relay.pid());
    let guardian = guardian
        .into_iter()
        .find(|child| is_called(*child, "leasehold"))
        .unwrap();
    kill_process(support::below(guardian, "lh-worker"), Signal::KILL).unwrap();
    assert_eq!(relay.ended(), 137);
    assert!(alive(other), "it was nobody's to kill");
    assert_eq!(room.job()["state"], "free");
    kill_process(other, Signal::KILL).unwrap();
}

#[test]
fn a_killed_worker_keeps_what_must_be_held() {
    let room = Room::new();
    let mut wrapper = room.start(&["--hold-at-least", "1m"], "echo > ran");
    until("the command", || room.has("ran"));
    kill_process(wrapper.worker(), Signal::KILL).unwrap();
    assert_eq!(wrapper.ended(), 137);
    assert_eq!(room.job()["state"], "held");
    let said = wrapper.stderr();
    assert!(said.contains("--hold-at-least keeps the lock"), "{said}");
}

#[test]
fn a_killed_worker_whose_file_was_removed_makes_no_new_one() {
    let room = Room::new();
    let (mut wrapper, worker) = started(&room, &[]);
    std::fs::remove_file(room.path("locks.db")).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    assert_eq!(wrapper.ended(), 137);
    let said = wrapper.stderr();
    assert!(said.contains("does not exist any more"), "{said}");
    assert!(!room.has("locks.db"));
}

/// Forbids to become a subreaper, as a sandbox may.
#[expect(unsafe_code, reason = "std has no system call filters")]
fn forbid_subreapers() -> std::io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, equal, answer) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    // The number of the system call is at 0, its first argument at 16.
    let mut program = [
        instruction(load, 0, 0, 0),
        instruction(equal, 0, 3, libc::SYS_prctl as u32),
        instruction(load, 0, 0, 16),
        instruction(equal, 0, 1, libc::PR_SET_CHILD_SUBREAPER as u32),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: both are bare system calls, and the filter lives until they return.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
    };
    if done {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[test]
#[expect(unsafe_code, reason = "a filter is for the child alone")]
fn without_subreapers_the_lock_of_a_killed_worker_expires() {
    use std::os::unix::process::CommandExt;

    let room = Room::new();
    let mut run = room.command(&["run", "job", "-c", &family()]);
    // SAFETY: it makes bare system calls alone.
    unsafe { run.pre_exec(forbid_subreapers) };
    let mut wrapper = Wrapper(run.spawn().unwrap());
    for member in ["command", "child", "daemon"] {
        until(member, || room.has(member));
    }
    kill_process(wrapper.worker(), Signal::KILL).unwrap();
    assert_eq!(wrapper.ended(), 137);
    // Orphans have left the guardian, and may still run.
    assert_eq!(room.job()["state"], "held");
    for pid in pids(&room) {
        let _gone = kill_process(pid, Signal::KILL);
    }
}

/// A hundred kills at random moments of a run, of either process.
#[test]
fn a_hundred_kills_at_random_moments() {
    let room = Room::new();
    // One random number, of which all others follow; a failure shows it.
    let seed = u64::from(std::process::id());
    let mut random = seed;
    for round in 0..100 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let _old = std::fs::remove_file(room.path("pids"));
        let mut wrapper = room.start(&[], &family());
        std::thread::sleep(Duration::from_micros((random >> 33) % 60_000));
        let worker = support::children(wrapper.pid()).into_iter().next();
        match worker.filter(|_| random >> 63 == 1) {
            Some(worker) => kill_process(worker, Signal::KILL).unwrap(),
            None => wrapper.0.kill().unwrap(),
        }
        assert_eq!(
            room.code(&["run", "job", "-w", "30s", "-c", LOOK]),
            0,
            "{seed} {round}"
        );
        assert_eq!(room.text("overlap"), "", "{seed} {round}");
        drop(wrapper);
    }
}

//! `top` in a terminal: what it shows, how it ends, and what it asks of the store.
//!
//! Of a line that changes only the changed cells are written, so tests look for words.

use crate::support;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::terminal::{Terminal, halted};
use crate::support::{
    BIN, Room, SHORT, alive, assert_message, dynamo, net, state, until, wait_line,
};
use rustix::process::{Pid, Signal, kill_process};

/// To the other screen, and back.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// `top` with these options, and its exit code and the terminal's settings afterwards.
fn top(options: &str) -> Terminal {
    Terminal::new(&format!(
        "stty rows 24 cols 80; tty > tty; stty -g > before; \
         sh -c 'echo $$ > top; exec {BIN} top --interval 200ms {options}'; echo code=$?; stty -g > after"
    ))
}

/// Waits for the end, and checks that the terminal is as before.
#[track_caller]
fn is_restored(terminal: &mut Terminal, code: i32) {
    assert_eq!(terminal.ended(), 0);
    let screen = terminal.screen();
    let (shown, after) = screen.rsplit_once(LEAVE).expect("back");
    assert!(shown.contains(ENTER), "{screen:?}");
    assert!(after.contains(&format!("code={code}")), "{after:?}");
    let settings = |name| terminal.room.text(name);
    assert!(!settings("before").is_empty());
    assert_eq!(settings("before"), settings("after"));
}

#[test]
fn locks_come_and_go_and_three_keys_end_it() {
    for key in ["q", "\u{1b}", "\u{3}"] {
        let mut terminal = top("");
        // The first lock creates the file.
        terminal.shows("QUEUE");
        let options = [&SHORT[..], &["--label", "somebody"]].concat();
        let mut holder = terminal.room.start(&options, &wait_line("go"));
        terminal.shows("somebody");
        terminal.shows("acquired");
        terminal.shows("█");
        terminal.shows("renewed");
        let mut next = terminal
            .room
            .start(&["--label", "successor"], &wait_line("went"));
        terminal.shows("waiting");
        terminal.room.touch("go");
        assert_eq!(holder.ended(), 0);
        terminal.shows("handed");
        terminal.room.touch("went");
        assert_eq!(next.ended(), 0);
        terminal.shows("released");
        terminal.keys(key);
        is_restored(&mut terminal, 0);
    }
}

#[test]
fn a_signal_ends_it_with_its_code() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let mut terminal = top("");
        terminal.shows("QUEUE");
        kill_process(terminal.room.pid("top"), signal).unwrap();
        is_restored(&mut terminal, code);
    }
}

#[test]
fn a_prefix_selects() {
    let mut terminal = top("job");
    let room = &terminal.room;
    let mut job = room.start(&["--label", "selected"], &wait_line("go"));
    let other = ["run", "other", "--label", "hidden", "-c", &wait_line("go")];
    let mut other = support::Wrapper(room.command(&other).spawn().unwrap());
    until("both", || {
        let listed = room.run(&["ls", "--json"]).stdout;
        String::from_utf8(listed).unwrap().lines().count() == 2
    });
    terminal.shows("selected");
    terminal.keys("q");
    is_restored(&mut terminal, 0);
    assert!(!terminal.screen().contains("hidden"));
    terminal.room.touch("go");
    assert_eq!((job.ended(), other.ended()), (0, 0));
}

#[test]
fn the_size_may_change() {
    let mut terminal = top("");
    terminal.shows("QUEUE");
    assert!(!terminal.screen().contains("TOKEN"));
    let tty = terminal.room.text("tty");
    let resized = std::process::Command::new("stty")
        .args(["-F", tty.trim(), "rows", "30", "cols", "120"])
        .status();
    assert!(resized.unwrap().success());
    terminal.shows("TOKEN");
    terminal.keys("q");
    is_restored(&mut terminal, 0);
}

#[test]
fn ctrl_z_gives_the_terminal_back_and_fg_shows_it_again() {
    let mut terminal = Terminal::shell();
    terminal.keys(&format!(
        "stty rows 24 cols 80; sh -c 'echo $$ > top; exec {BIN} top'\n"
    ));
    terminal.shows("QUEUE");
    let top: Pid = terminal.room.pid("top");
    terminal.keys("\u{1a}");
    until("stopped", || halted(top));
    terminal.shows(LEAVE);
    terminal.keys("echo still-$((40 + 2))\n");
    terminal.shows("still-42");
    let before = terminal.screen().matches(ENTER).count();
    terminal.keys("fg\n");
    until("again", || {
        terminal.screen().matches(ENTER).count() > before
    });
    assert!(state(top) != Some('T'));
    terminal.keys("q");
    until("the end", || !alive(top));
    terminal.keys("echo code=$?\n");
    terminal.shows("code=0");
}

#[test]
fn without_a_terminal_it_names_other_verbs() {
    let room = Room::new();
    let output = room.run(&["top"]);
    assert_message(&output, 64, "standard output is none", "`leasehold ls`");
    let output = room.run(&["top", "--interval", "10ms"]);
    assert_message(
        &output,
        64,
        "--interval is shorter than 100ms",
        "`--interval 100ms`",
    );
}

#[test]
fn a_store_that_cannot_be_read_is_an_error_before_the_screen() {
    let mut terminal = top("--store sqlite:/no/such/place/locks.db");
    assert_eq!(terminal.ended(), 0);
    // A missing file is empty, but its directory must be there.
    let screen = terminal.screen();
    assert!(screen.contains("code=78"), "{screen:?}");
    assert!(
        screen.contains("hint: create it: `mkdir -p /no/such/place`"),
        "{screen:?}"
    );
    assert!(!screen.contains(ENTER), "{screen:?}");
}

#[test]
fn a_table_is_only_scanned_and_a_failure_passes() {
    let refused = Arc::new(AtomicBool::new(false));
    let now = refused.clone();
    let (address, requests) = net::answering(move |request| match net::action(request) {
        "Scan" if now.load(Ordering::SeqCst) => {
            net::refusal(400, "AccessDeniedException", "not authorized")
        }
        "Scan" => {
            let item = r#"{"LockKey":{"S":"job"},"ClientId":{"S":"old-client"},"ExpireInUnixMilliseconds":{"N":"99999999999999"}}"#;
            let body = format!(r#"{{"Items":[{item}],"Count":1,"ScannedCount":1}}"#);
            net::answer(200, "application/x-amz-json-1.0", &body)
        }
        action => net::refusal(400, "Unexpected", action),
    });
    let url = dynamo::url("locks", &address);
    let mut terminal = Terminal::new(&format!(
        "stty rows 24 cols 80; tty > tty; stty -g > before; export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test; \
         {BIN} top --interval 100ms --store \"{url}\"; echo code=$?; stty -g > after"
    ));
    terminal.shows("requests/s");
    refused.store(true, Ordering::SeqCst);
    terminal.shows("trying");
    refused.store(false, Ordering::SeqCst);
    let scans = || requests.lock().unwrap().matches(".Scan").count();
    let before = scans();
    until("more reads", || scans() > before + 3);
    terminal.keys("q");
    is_restored(&mut terminal, 0);
    let requests = requests.lock().unwrap();
    let all = requests.matches("x-amz-target: ").count();
    assert_eq!(all, requests.matches("DynamoDB_20120810.Scan").count());
}

#[test]
fn standard_error_elsewhere_gets_nothing() {
    let mut terminal = top("2> messages");
    terminal.shows("QUEUE");
    terminal.keys("q");
    is_restored(&mut terminal, 0);
    assert_eq!(terminal.room.text("messages"), "");
    // Input from elsewhere: the keys still come from the terminal.
    let mut terminal = top("< /dev/null");
    terminal.shows("QUEUE");
    terminal.keys("q");
    is_restored(&mut terminal, 0);
}

#[test]
fn a_signal_ends_it_while_the_terminal_takes_nothing() {
    let mut terminal = top("");
    terminal.shows("QUEUE");
    let top = terminal.room.pid("top");
    let script = Pid::from_child(&terminal.script);
    kill_process(script, Signal::STOP).unwrap();
    let (tty, mut columns) = (terminal.room.text("tty"), 80);
    let waits_for = || std::fs::read_to_string(format!("/proc/{}/wchan", top.as_raw_pid()));
    until("the blocked write", || {
        // Each change of the size is drawn in full.
        columns = 280 - columns;
        let resized = std::process::Command::new("stty")
            .args(["-F", tty.trim(), "cols", &columns.to_string()])
            .status();
        assert!(resized.unwrap().success());
        let wait = waits_for().unwrap();
        wait.contains("woken") || wait.contains("tty")
    });
    kill_process(top, Signal::TERM).unwrap();
    until("the end", || !alive(top));
    kill_process(script, Signal::CONT).unwrap();
    assert_eq!(terminal.ended(), 0);
    assert!(terminal.screen().contains("code=143"));
    assert_eq!(terminal.room.text("before"), terminal.room.text("after"));
}

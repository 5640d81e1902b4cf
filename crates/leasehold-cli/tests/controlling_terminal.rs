//! A terminal that is stopped, that the command asks on, or in whose background it runs.

use crate::support;
use crate::support::terminal::{Terminal, group, halted, parent, recorder};
use crate::support::{BIN, SHORT, alive, state, until, wait_line};
use rustix::process::{Signal, kill_process};

#[test]
fn c1_a_terminal_that_is_stopped_with_ctrl_s_keeps_no_lost_command() {
    for volume in ["", "-v"] {
        let line = format!(
            "trap \"\" TERM; echo $$ > command; read x; echo > stopped; {}",
            wait_line("never")
        );
        let mut terminal = Terminal::new(&format!(
            "{BIN} run job {volume} {} -c '{line}'; echo $? > code",
            SHORT.join(" ")
        ));
        let command = terminal.room.pid("command");
        terminal.stop();
        support::take_away(&terminal.room);
        until("the command's end", || !alive(command));
        until("the code", || terminal.room.text("code") == "76\n");
    }
}

#[test]
fn c1_verbose_messages_to_a_stopped_terminal_do_not_end_renewals() {
    let mut terminal = Terminal::new(&format!(
        "{BIN} run job -v {} -c 'echo > in; read x; echo > stopped; {}'; echo $? > code",
        SHORT.join(" "),
        wait_line("done")
    ));
    until("in", || terminal.room.has("in"));
    terminal.stop();
    let mut ends = Vec::new();
    until("four renewals", || {
        let job = terminal.room.job();
        assert_eq!(job["state"], "held", "{job}");
        if ends.last() != Some(&job["until"]) {
            ends.push(job["until"].clone());
        }
        ends.len() > 4
    });
    terminal.room.touch("done");
    until("the code", || terminal.room.text("code") == "0\n");
}

#[test]
fn c1_messages_from_the_background_do_not_stop_us() {
    let mut terminal = Terminal::shell();
    terminal.keys("stty tostop\n");
    terminal.keys(&format!(
        "{BIN} run job -v {} -c 'echo $$ > command; {}' &\n",
        SHORT.join(" "),
        wait_line("done")
    ));
    let command = terminal.room.pid("command");
    terminal.shows("acquired `job`");
    terminal.shows("request: renew `job`");
    assert!(!halted(parent(command)));
    terminal.room.touch("done");
    terminal.keys("wait; echo code=$?\n");
    terminal.shows("code=0");
}

#[test]
fn c2_where_cont_was_ignored_fg_continues_the_command() {
    for option in ["--ignore-signal=CONT", "--block-signal=CONT"] {
        let mut terminal = Terminal::shell();
        terminal.keys(&format!("env {option} {BIN} run job -c '{}'\n", recorder()));
        let command = terminal.room.pid("command");
        let wrapper = parent(command);
        terminal.keys("\x1a");
        until("both stopped", || {
            state(wrapper) == Some('T') && halted(command)
        });
        terminal.keys("fg\n");
        until("both running", || !halted(wrapper) && !halted(command));
        terminal.room.touch("done");
        terminal.keys("echo code=$?\n");
        terminal.shows("code=5");
    }
}

#[test]
fn c3_the_command_reads_the_terminal_though_its_input_is_a_file() {
    let mut terminal = Terminal::new(&format!(
        "exec {BIN} run job -c 'echo > asks; read answer < /dev/tty; echo $answer > answer; exit 4' < /dev/null"
    ));
    until("the question", || terminal.room.has("asks"));
    terminal.keys("secret\n");
    assert_eq!(terminal.ended(), 4);
    assert_eq!(terminal.room.text("answer"), "secret\n");
}

#[test]
fn c3_ctrl_c_ends_a_command_that_asks() {
    let mut terminal = Terminal::new(&format!(
        "exec {BIN} run job -c 'echo $$ > command; read answer < /dev/tty' < /dev/null"
    ));
    let command = terminal.room.pid("command");
    assert_eq!(group(command), group(parent(command)));
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
    assert!(!alive(command));
}

#[test]
fn c3_a_command_in_the_background_that_asks_is_talked_about() {
    let mut terminal = Terminal::shell();
    terminal.keys(&format!(
        "{BIN} run job -c 'echo $$ > command; read answer < /dev/tty; exit 3' &\n"
    ));
    let command = terminal.room.pid("command");
    terminal.shows("it needs the terminal");
    assert!(halted(command));
    // The signal is passed on to it, and it ends when it goes on. Where it goes on before that, it asks again, and halts again.
    kill_process(parent(command), Signal::TERM).unwrap();
    until("the command's end", || {
        let _ = kill_process(command, Signal::CONT);
        !alive(command)
    });
}

#[test]
fn c16_ctrl_c_reaches_what_the_command_left_behind() {
    let line = format!(
        "(setsid env --default-signal=INT sh -c \"trap \\\"echo > got; exit\\\" INT; echo \\$\\$ > daemon; {}\" </dev/null >/dev/null 2>&1 &); \
         until [ -e daemon ]; do sleep 0.02; done; exit 3",
        wait_line("never")
    );
    let mut terminal = Terminal::new(&format!("exec {BIN} run job -c '{line}'"));
    let daemon = terminal.room.pid("daemon");
    terminal.shows(&format!("`sh` (pid {})", daemon.as_raw_pid()));
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 3);
    assert!(terminal.room.has("got"));
}

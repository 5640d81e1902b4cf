//! What `run` does when there is a terminal: `script` provides one, and what is written to its input is typed.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{BIN, Room, SHORT, alive, state, until, wait_line};

/// A terminal with something running in it.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    room: Room,
}

impl Terminal {
    /// `line` is run by a shell that is the session leader.
    fn new(line: &str) -> Self {
        let room = Room::new();
        let screen = File::create(room.path("screen")).unwrap();
        let mut script = Command::new("script")
            .args(["-qefc", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .current_dir(room.directory())
            .env("LEASEHOLD_STORE", room.store())
            .stdin(Stdio::piped())
            .stderr(screen.try_clone().unwrap())
            .stdout(screen)
            .spawn()
            .unwrap();
        let keys = script.stdin.take().unwrap();
        Self { script, keys, room }
    }

    /// An interactive shell with job control.
    fn shell() -> Self {
        let mut terminal = Self::new("exec bash --norc --noprofile -i");
        terminal.keys("echo $$ > shell\n");
        terminal.room.pid("shell");
        terminal
    }

    fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Ctrl-S, which has been dealt with when the line after it has been read.
    fn stop(&mut self) {
        self.keys("\x13x\n");
        until("the stopped terminal", || self.room.has("stopped"));
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.room.path("screen")).unwrap()).into_owned()
    }

    fn shows(&self, text: &str) {
        until(text, || self.screen().contains(text));
    }

    fn ended(&mut self) -> i32 {
        until("the terminal's end", || {
            self.script.try_wait().unwrap().is_some()
        });
        self.script.wait().unwrap().code().unwrap()
    }

    /// The lines that were written to `got`.
    fn got(&self) -> Vec<String> {
        let text = self.room.text("got");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The end of the terminal is a HUP for everything in it.
        let _ended = self.script.kill();
        let _reaped = self.script.wait();
    }
}

fn field(pid: Pid, number: usize) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap();
    stat.rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(number - 3)
        .unwrap()
        .parse()
        .unwrap()
}

fn parent(pid: Pid) -> Pid {
    Pid::from_raw(field(pid, 4)).unwrap()
}

fn group(pid: Pid) -> i32 {
    field(pid, 5)
}

/// A shell that was stopped between vfork and exec of its child is shown as D: it waits for the child, which is stopped.
fn halted(pid: Pid) -> bool {
    matches!(state(pid), Some('T' | 'D'))
}

/// A command that writes down the signals it gets, until there is a file `done`.
fn recorder() -> String {
    format!(
        "trap \"echo INT >> got\" INT; trap \"echo USR1 >> got\" USR1; echo $$ > command; {}; exit 5",
        wait_line("done")
    )
}

#[test]
fn what_is_typed_arrives_once() {
    let mut terminal = Terminal::new(&format!("exec {BIN} run job -c '{}'", recorder()));
    let command = terminal.room.pid("command");
    let wrapper = parent(command);
    assert_eq!(
        group(command),
        group(wrapper),
        "it stays in the foreground group"
    );
    for round in 1..=5 {
        terminal.keys("\x03");
        until("INT", || terminal.got().len() == 2 * round - 1);
        // By the time the wrapper has passed this on it has dealt with the one before.
        kill_process(wrapper, Signal::USR1).unwrap();
        until("USR1", || terminal.got().len() == 2 * round);
    }
    assert_eq!(terminal.got(), ["INT", "USR1"].repeat(5));
    terminal.room.touch("done");
    assert_eq!(terminal.ended(), 5);
}

#[test]
fn ctrl_c_ends_both_with_130() {
    let mut terminal = Terminal::new(&format!(
        "exec {BIN} run job -c 'echo $$ > command; exec sleep 1000'"
    ));
    let command = terminal.room.pid("command");
    until("exec", || {
        fs::read_to_string(format!("/proc/{}/comm", command.as_raw_pid()))
            .is_ok_and(|name| name == "sleep\n")
    });
    terminal.keys("\x03");
    assert_eq!(terminal.ended(), 130);
}

#[test]
fn ctrl_z_stops_both_and_fg_resumes() {
    // The second one ignores TSTP; it must not go on while nobody renews.
    for trap in ["", "trap \"\" TSTP; "] {
        let mut terminal = Terminal::shell();
        terminal.keys(&format!("{BIN} run job -c '{trap}{}'\n", recorder()));
        let command = terminal.room.pid("command");
        let wrapper = parent(command);
        for round in 1..=2 {
            terminal.keys("\x1a");
            until("both stopped", || {
                state(wrapper) == Some('T') && halted(command)
            });
            terminal.keys("fg\n");
            until("both running", || {
                state(wrapper) != Some('T') && state(command) != Some('T')
            });
            kill_process(wrapper, Signal::USR1).unwrap();
            until("USR1", || terminal.got().len() == round);
        }
        terminal.room.touch("done");
        terminal.keys("echo code=$?\n");
        terminal.shows("code=5");
        terminal.keys("exit 0\n");
        assert_eq!(terminal.ended(), 0);
    }
}

#[test]
fn ctrl_z_does_nothing_where_no_shell_could_continue_us() {
    let mut terminal = Terminal::new(&format!("exec {BIN} run job -c '{}'", recorder()));
    let command = terminal.room.pid("command");
    let wrapper = parent(command);
    terminal.keys("\x1a");
    kill_process(wrapper, Signal::USR1).unwrap();
    until("USR1", || !terminal.got().is_empty());
    assert!(state(wrapper) != Some('T') && state(command) != Some('T'));
    terminal.room.touch("done");
    assert_eq!(terminal.ended(), 5);
}

#[test]
fn in_the_background_of_a_terminal_it_leads_a_group_of_its_own() {
    let mut terminal = Terminal::shell();
    terminal.keys(&format!("{BIN} run job -c '{}' &\n", recorder()));
    let command = terminal.room.pid("command");
    let wrapper = parent(command);
    assert_eq!(group(command), command.as_raw_pid());
    terminal.keys("fg\n");
    until("the foreground", || field(wrapper, 8) == group(wrapper));
    terminal.keys("\x03");
    until("INT", || terminal.got().len() == 1);
    kill_process(wrapper, Signal::USR1).unwrap();
    until("USR1", || terminal.got().len() == 2);
    terminal.keys("\x1a");
    until("both stopped", || {
        state(wrapper) == Some('T') && halted(command)
    });
    terminal.keys("fg\n");
    until("both running", || {
        state(wrapper) != Some('T') && state(command) != Some('T')
    });
    terminal.room.touch("done");
    terminal.keys("echo code=$?\n");
    terminal.shows("code=5");
    assert_eq!(terminal.got(), ["INT", "USR1"]);
}

#[test]
fn stop_spares_the_rest_of_a_pipeline() {
    let mut terminal = Terminal::shell();
    let line = format!(
        "trap \"\" TERM; (setsid sh -c \"echo \\$\\$ > daemon; {w}\" </dev/null >/dev/null 2>&1 &); sh -c \"echo \\$\\$ > grandchild; {w}\" & echo $$ > command; {w}",
        w = wait_line("never")
    );
    terminal.keys(&format!(
        "{{ {BIN} run job --lease 3s --grace 300ms --max-hold 4s -c '{line}'; echo last=$?; }} | {{ cat > piped; echo cat=$?; }}\n"
    ));
    let all = ["daemon", "grandchild", "command"].map(|name| terminal.room.pid(name));
    let wrapper = parent(all[2]);
    assert_eq!(group(all[2]), group(wrapper));
    terminal.shows("cat=0");
    assert_eq!(all.map(alive), [false; 3]);
    assert_eq!(
        fs::read_to_string(terminal.room.path("piped")).unwrap(),
        "last=124\n"
    );
    assert!(alive(terminal.room.pid("shell")));
}

#[test]
fn a_background_process_is_waited_for() {
    let mut terminal = Terminal::new(&format!(
        "exec {BIN} run job -c '(echo > started; {}; echo > last) & echo $$ > command; until [ -e started ]; do sleep 0.02; done; exit 3'",
        wait_line("go")
    ));
    let command = terminal.room.pid("command");
    until("the command's end", || !alive(command));
    assert!(terminal.script.try_wait().unwrap().is_none());
    terminal.room.touch("go");
    assert_eq!(terminal.ended(), 3);
    assert!(terminal.room.has("last"));
}

#[test]
fn ctrl_z_past_the_lease_ends_with_76() {
    let mut terminal = Terminal::shell();
    terminal.keys(&format!(
        "{BIN} run job {} -c '{}'\n",
        SHORT.join(" "),
        recorder()
    ));
    let command = terminal.room.pid("command");
    let wrapper = parent(command);
    terminal.keys("\x1a");
    until("both stopped", || {
        state(wrapper) == Some('T') && halted(command)
    });
    until("the end of the lease", || {
        terminal.room.job()["state"] == "expired"
    });
    terminal.keys("fg\n");
    terminal.shows("lost the lock `job`");
    terminal.keys("echo code=$?\n");
    terminal.shows("code=76");
    assert!(!alive(command));
}

#[test]
fn a_passing_line_says_who_is_waited_for() {
    let room = Room::new();
    let mut holder = room.start(&["--label", "somebody"], &wait_line("go"));
    until("held", || room.job()["state"] == "held");
    let mut terminal = Terminal::new(&format!(
        "{BIN} run job --store {} -- echo mine; echo code=$?",
        room.store()
    ));
    terminal.shows("`job` is held by somebody for ");
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(terminal.ended(), 0);
    // Wiped before the command spoke.
    let screen = terminal.screen();
    assert!(screen.contains("\r\x1b[Kmine"), "{screen:?}");
    assert!(screen.contains("code=0"), "{screen:?}");
}

#[test]
fn ctrl_z_and_ctrl_c_while_waiting() {
    let room = Room::new();
    let mut holder = room.start(&[], &wait_line("go"));
    until("held", || room.job()["state"] == "held");
    let mut terminal = Terminal::shell();
    terminal.keys(&format!(
        "sh -c 'echo $$ > wrapper; exec {BIN} run job --store {} -- true'\n",
        room.store()
    ));
    let wrapper = terminal.room.pid("wrapper");
    terminal.shows("waiting ");
    terminal.keys("\x1a");
    until("stopped", || state(wrapper) == Some('T'));
    terminal.keys("fg\n");
    until("running", || state(wrapper) != Some('T'));
    terminal.keys("\x03");
    until("ended", || !alive(wrapper));
    terminal.keys("echo code=$?\n");
    terminal.shows("code=130");
    room.touch("go");
    assert_eq!(holder.ended(), 0);
}

#[test]
fn one_ctrl_c_releases_the_lock() {
    // The key press reaches the command and us; ours often arrives only when the command is gone
    // already, and must not be taken for a second one that ends the release.
    for round in 0..20 {
        let mut terminal = Terminal::new(&format!(
            "exec {BIN} run job -c 'echo $$ > command; exec sleep 60'"
        ));
        terminal.room.pid("command");
        terminal.keys("\x03");
        assert_eq!(terminal.ended(), 130, "round {round}");
        let screen = terminal.screen();
        assert!(
            !screen.contains("has not confirmed"),
            "round {round}: {screen}"
        );
        let listed = terminal.room.run(&["ls"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(!text.contains("held"), "round {round}: {text}");
    }
}

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
    terminal.shows("it wants the terminal");
    assert!(halted(command));
    // The signal wakes it, so that it ends.
    kill_process(parent(command), Signal::TERM).unwrap();
    kill_process(command, Signal::CONT).unwrap();
    until("the command's end", || !alive(command));
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

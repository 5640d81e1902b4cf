//! What `run` does when there is a terminal.

use std::fs;

use crate::support::terminal::{Terminal, field, group, halted, parent, recorder};
use crate::support::{BIN, Room, SHORT, alive, state, until, wait_line};
use rustix::process::{Signal, kill_process};

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
fn a_stop_that_is_taken_back_at_once_stops_nothing() {
    let mut terminal = Terminal::shell();
    // No child: it would be stopped, and the trap would wait for it.
    let line = "trap \"echo > asked\" TSTP; echo $$ > command; while [ ! -e done ]; do :; done";
    terminal.keys(&format!("{BIN} run job -c '{line}' & echo $! > started\n"));
    terminal.room.pid("command");
    let guardian = terminal.room.pid("started");
    kill_process(guardian, Signal::TSTP).unwrap();
    until("the request to stop", || terminal.room.has("asked"));
    kill_process(guardian, Signal::CONT).unwrap();
    terminal.room.touch("done");
    terminal.keys("wait $!; echo code=$?\n");
    terminal.shows("code=0");
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
    // The shell's job is the guardian.
    let guardian = parent(wrapper);
    until("the foreground", || field(guardian, 8) == group(guardian));
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
    terminal.shows(", place 1 of 1: ");
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(terminal.ended(), 0);
    // Wiped before the command spoke.
    let screen = terminal.screen();
    assert!(screen.contains("\r\x1b[Kmine"), "{screen:?}");
    assert!(screen.contains("code=0"), "{screen:?}");
}

#[test]
fn a_dumb_terminal_gets_lines_alone() {
    let room = Room::new();
    let mut holder = room.start(&[], &wait_line("go"));
    until("held", || room.job()["state"] == "held");
    for (arguments, shown) in [
        ("run job -w 600ms -- true", "`job`"),
        ("top", "TERM is `dumb`"),
    ] {
        let mut terminal = Terminal::new(&format!(
            "TERM=dumb LEASEHOLD_STORE={} {BIN} {arguments}",
            room.store()
        ));
        terminal.ended();
        terminal.shows(shown);
        assert!(!terminal.screen().contains('\x1b'), "{}", terminal.screen());
    }
    room.touch("go");
    assert_eq!(holder.ended(), 0);
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

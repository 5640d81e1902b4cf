//! What people see on a terminal, as snapshots: digits are `9`, and a run of them one.

use crate::support::terminal::Terminal;
use crate::support::{BIN, Room, until, wait_line};

/// Each number as one `9`, and names of this run as in the snapshot.
fn plain(text: &str, room: &Room) -> String {
    let text = text.replace(&room.directory().display().to_string(), "DIR");
    let mut plain = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if plain.ends_with('9') => {}
            '0'..='9' => plain.push('9'),
            '\r' => {}
            c => plain.push(c),
        }
    }
    // The unit depends on how long it took.
    for unit in ["9ms", "9m9s"] {
        plain = plain.replace(unit, "9s");
    }
    plain
}

fn lines(screen: &str, with: &str) -> Vec<String> {
    let lines = screen.split(['\n', '\r']);
    let lines = lines.map(|line| line.trim_start_matches("\u{1b}[K").trim_end());
    lines
        .filter(|line| line.contains(with))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_line_of_a_wait() {
    let room = Room::new();
    let mut holder = room.start(&["--label", "first"], &wait_line("go"));
    until("held", || room.job()["state"] == "held");
    let mut terminal = Terminal::new(&format!(
        "stty cols 120; {BIN} run job --store {} -- true",
        room.store()
    ));
    terminal.shows("place 1 of 1");
    let screen = terminal.screen();
    let line = lines(&screen, "place ").pop().unwrap();
    assert_eq!(
        plain(&line, &room),
        "waiting 9s, place 9 of 9: `job` is held by first for 9s, until 9:9:9 unless renewed"
    );
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_list() {
    let room = Room::new();
    let mut holder = room.start(&["--label", "first"], &wait_line("go"));
    until("held", || room.job()["state"] == "held");
    let mut waiter = room.start(&[], "true");
    until("the place", || room.job()["waiting"] == 1);
    let mut terminal = Terminal::new(&format!("stty cols 80; {BIN} ls --store {}", room.store()));
    assert_eq!(terminal.ended(), 0);
    let screen = terminal.screen();
    let [header, row]: [&str; 2] = screen.lines().collect::<Vec<_>>().try_into().unwrap();
    for (column, value) in [("STATE", "held"), ("HOLDER", "first"), ("UNTIL", "in ")] {
        assert_eq!(header.find(column), row.find(value), "{screen}");
    }
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(header), "NAME STATE HOLDER SINCE UNTIL WAITING TOKEN");
    assert_eq!(plain(&words(row), &room), "job held first 9s ago in 9s 9 9");
    room.touch("go");
    assert_eq!((holder.ended(), waiter.ended()), (0, 0));
}

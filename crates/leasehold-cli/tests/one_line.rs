//! Names, labels and paths with line breaks in them.

use crate::support::{Room, assert_message, until, wait_line};

#[test]
fn c27_nobody_writes_lines_of_others() {
    let room = Room::new();
    let forged = "me\nleasehold: acquired";
    let line = format!("echo > in; {}", wait_line("go"));
    let mut holder = room.start(&["--label", forged], &line);
    until("held", || room.has("in"));
    let busy = room.run(&["run", "job", "-n", "--", "true"]);
    assert_message(&busy, 75, "held by me\\nleasehold: acquired", "-w 30s");
    let waited = room.run(&["run", "job", "-w", "10ms", "-v", "--", "true"]);
    for output in [busy, waited] {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !said.lines().any(|line| line == "leasehold: acquired"),
            "{said}"
        );
    }
    room.touch("go");
    assert_eq!(holder.ended(), 0);
    // And a name, in what the command line and the store say of it.
    let name = "a\nleasehold: b";
    for arguments in [
        &["run", name, "--lease", "1s", "--", "true"][..],
        &["show", name, "--store", "sqlite:/no/such/a\nleasehold: b"],
    ] {
        let output = room.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("\\nleasehold: b"), "{said}");
        assert!(
            !said.lines().any(|line| line.starts_with("leasehold: b")),
            "{said}"
        );
    }
}

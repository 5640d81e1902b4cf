//! Reading the files of a lock file takes nothing from its holders. `cargo xtask prove` runs the same
//! for a minute.

use std::process::Command;

#[test]
fn u1_holders_that_read_their_files_beside_shells_and_short_processes() {
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold-chaos"))
        .args(["files", "--seconds", "0", "--comers", "150"])
        .output()
        .expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(
        said.contains("150 comers") && said.contains("each counted"),
        "{said}"
    );
}

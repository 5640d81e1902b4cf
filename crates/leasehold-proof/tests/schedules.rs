//! A few hundred random schedules in the ordinary tests; `cargo xtask prove schedules` runs 200,000.

#[test]
fn b13_nobody_waits_on_a_free_key_in_random_schedules() {
    let arguments = ["schedules", "--seeds", "400", "--threads", "2"].map(str::to_owned);
    leasehold_proof::schedules::main(arguments).expect("no promise is broken");
}

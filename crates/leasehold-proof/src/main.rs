//! The proof of leasehold, as one command: `leasehold-proof checker | sim`.
//!
//! It drives the library's own protocol code and public API, never a copy. `cargo xtask prove` runs
//! all of it.

mod checker;
mod sim;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let part = arguments.next();
    let rest: Vec<String> = arguments.collect();
    match part.as_deref() {
        Some("checker") => checker::main(&rest),
        Some("sim") => sim::main(&rest),
        other => anyhow::bail!(
            "no such part: {}; the parts are checker, sim",
            other.unwrap_or("(none)")
        ),
    }
}

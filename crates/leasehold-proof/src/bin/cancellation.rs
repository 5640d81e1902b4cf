//! `leasehold-cancellation`: see [`leasehold_proof::cancel`].

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    leasehold_proof::cancel::main(&arguments)
}

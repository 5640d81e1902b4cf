//! `leasehold-sim`: see [`leasehold_proof::sim`].

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    leasehold_proof::sim::main(&arguments)
}

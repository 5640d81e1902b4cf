//! `leasehold-sim`: see [`leasehold_proof::sim`].

fn main() -> anyhow::Result<()> {
    leasehold_proof::sim::main()
}

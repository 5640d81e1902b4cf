//! `leasehold-checker`: see [`leasehold_proof::checker`].

fn main() -> anyhow::Result<()> {
    leasehold_proof::checker::main()
}

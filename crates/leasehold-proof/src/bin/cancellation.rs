//! `leasehold-cancellation`: see [`leasehold_proof::cancel`].

fn main() -> anyhow::Result<()> {
    leasehold_proof::cancel::main()
}

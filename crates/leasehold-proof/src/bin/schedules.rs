//! `leasehold-schedules`: see [`leasehold_proof::schedules`].

fn main() -> anyhow::Result<()> {
    leasehold_proof::schedules::main(std::env::args())
}

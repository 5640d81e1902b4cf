//! `leasehold-schedules`: see [`leasehold_proof::schedules`].

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    leasehold_proof::schedules::main(&arguments)
}

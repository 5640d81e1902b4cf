//! `leasehold-checker`: see [`leasehold_proof::checker`].

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    leasehold_proof::checker::main(&arguments)
}

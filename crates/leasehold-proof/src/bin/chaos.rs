//! `leasehold-chaos`: see [`leasehold_proof::chaos`].

fn main() -> std::process::ExitCode {
    match leasehold_proof::chaos::main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

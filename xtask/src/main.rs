//! The one door to the project's chores: `cargo xtask test | lint | prove | mutants | patches | ci | bench |
//! dynamodb`.
//!
//! Each verb does its own set-up, so that a clean checkout with a Rust tool chain is enough. What a verb starts runs
//! under a [`guard`], so nothing outlives xtask, however xtask ends. Unix only, like the command `leasehold`.

mod bench;
mod dynamodb;
mod guard;
mod host;
mod layers;
mod mutants;
mod part;
mod patches;
mod paths;
mod prove;
mod steps;
mod verb;
mod wait;

use std::process::ExitCode;

use verb::Verb;

fn main() -> ExitCode {
    let verb = match Verb::parse(std::env::args_os().skip(1)) {
        Ok(verb) => verb,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let outcome = match verb {
        Verb::Test { args } => steps::test(&args),
        Verb::Lint => steps::lint(),
        Verb::Prove { parts, soak } => prove::run(&parts, soak),
        Verb::Ci => steps::lint()
            .and_then(|()| prove::run(&[], None))
            .and_then(|()| steps::test(&[])),
        Verb::Mutants { args } => mutants::run(&args),
        Verb::Patches { only } => patches::run(only.as_deref()),
        Verb::Bench { names, quick } => bench::run(&names, quick),
        Verb::Dynamodb { port } => dynamodb::foreground(port),
        Verb::Guard { program, args } => return guard::serve(&program, &args),
        Verb::Help => {
            print!("{}", verb::USAGE);
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

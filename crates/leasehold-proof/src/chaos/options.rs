//! The arguments that people and `cargo xtask prove` give.

use clap::{Args, Parser, Subcommand};

/// Real processes, a bad network, signals.
#[derive(Debug, Parser)]
#[command(name = "leasehold-chaos", disable_version_flag = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) part: Part,
}

/// One experiment, or a process of one.
#[derive(Debug, Subcommand)]
pub(super) enum Part {
    /// Processes under every fault. Needs the command `leasehold` beside this program: `cargo build -p leasehold-cli`
    Run {
        #[command(flatten)]
        server: Server,
        /// Seconds on each store
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Jepsen's lock-set, with and without a fence
    Lockset {
        #[command(flatten)]
        server: Server,
        /// Seconds for each fence
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// A lock file that other programs read; both numbers must be reached
    Files {
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
        comers: u64,
    },
    /// A process that this program starts itself
    #[command(external_subcommand)]
    Process(Vec<String>),
}

/// Where DynamoDB Local is.
#[derive(Debug, Args)]
pub(super) struct Server {
    /// A DynamoDB Local, as `cargo xtask dynamodb` starts one
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: String,
}

/// What an experiment on DynamoDB Local is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Options {
    pub(super) endpoint: String,
    pub(super) seconds: u64,
    pub(super) seed: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_run_of_no_time_or_without_a_server_is_refused() {
        for bad in [
            &["x", "run"][..],
            &["x", "run", "--endpoint", "http://x", "--seconds", "0"],
            &["x", "files", "--comers", "0"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }
}

//! The command line of `cargo xtask`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::guard::GUARD;
use crate::part::{self, Part};

/// The project's chores. Each does its own set-up.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
#[command(
    after_help = "LEASEHOLD_TEST_DYNAMODB=URL makes `test`, `prove` and `bench` use the server at URL and start none."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// One call of xtask.
#[derive(Debug, PartialEq, Subcommand)]
pub(crate) enum Verb {
    /// Starts DynamoDB Local, then runs `cargo test --workspace --all-features ARGS`
    Test {
        /// The tests with many real processes do all their work, and not a fifth of it
        #[arg(long)]
        whole: bool,
        /// For `cargo test`
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Layers, rustfmt, clippy and rustdoc, warnings denied
    Lint,
    /// The proof, with DynamoDB Local
    Prove {
        /// All of them, if none is named
        parts: Vec<Part>,
        /// Simulation on new seeds and chaos, side by side, for so many hours
        #[arg(long, value_name = "HOURS", value_parser = hours, conflicts_with = "parts")]
        soak: Option<Duration>,
        /// A share of what takes longest, which the commit decides: for a CI
        #[arg(long, conflicts_with = "soak")]
        share: bool,
    },
    /// cargo-mutants on the protocol, or with arguments of its own
    Mutants {
        /// For `cargo mutants`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Rules and fixes undone one by one, each with the test that must see it
    Patches {
        /// Those with this in their name
        only: Option<String>,
        /// Every fourth: those of quarter 0, 1, 2 or 3
        #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..4))]
        quarter: Option<usize>,
    },
    /// Compares the public API with the listing in docs/public-api.txt
    Api {
        /// Writes the listing
        #[arg(long)]
        bless: bool,
    },
    /// cargo publish --dry-run of every published crate; the examples of the documents in a user's crate
    Package,
    /// A static program and a Debian package of the command, in target/dist
    Dist,
    /// lint, api, package, a share of prove, then test
    Ci,
    /// The benchmarks, with DynamoDB Local
    Bench {
        /// All of them, if none is named
        names: Vec<Bench>,
        #[command(flatten)]
        choice: Choice,
    },
    /// DynamoDB Local in the foreground, until Ctrl-C
    Dynamodb {
        /// A free one, if none is named
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
    },
    /// Runs `program` and ends it when standard input closes. See [`crate::guard`].
    #[command(name = GUARD, hide = true)]
    Guard {
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn hours(word: &str) -> Result<Duration, String> {
    let hours = word.parse::<f64>().ok();
    let soak = hours.and_then(|hours| Duration::try_from_secs_f64(hours * 3600.0).ok());
    soak.filter(|soak| !soak.is_zero())
        .ok_or_else(|| "give a number of hours, 0.5 for half of one".to_owned())
}

/// Options of the benchmarks, as `leasehold-bench` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Choice {
    /// Small scenarios
    #[arg(long)]
    pub(crate) quick: bool,
    /// These subjects alone, `leasehold,fsharp,java,go` for four; installs only the peers among them
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// A JAR of AWS's Java client, built by hand, instead of the registry's
    #[arg(long, value_name = "JAR")]
    pub(crate) java: Option<PathBuf>,
    /// A directory with dynamolock's module instead of the registry's
    #[arg(long, value_name = "DIR")]
    pub(crate) go_replace: Option<PathBuf>,
}

impl Choice {
    /// What `leasehold-bench` reads.
    pub(crate) fn args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        if self.quick {
            args.push("--quick".into());
        }
        for only in &self.only {
            args.extend(["--only".into(), only.into()]);
        }
        for (option, path) in [("--java", &self.java), ("--go-replace", &self.go_replace)] {
            if let Some(path) = path {
                args.extend([option.into(), path.into()]);
            }
        }
        args
    }
}

/// One benchmark of `leasehold-bench`, in the order of a full run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// A cycle beside raw requests
    Cycle,
    /// A cycle on a file
    Sqlite,
    /// Requests and units, beside the peers
    Units,
    /// The command beside `true`
    Command,
    /// The command beside `flock`, `consul lock` and `etcdctl lock`
    Commands,
    /// A free lock, everybody's
    Uncontended,
    /// Ten contenders, everybody's
    Contend,
    /// A hundred and a thousand tasks on one key
    Hot,
    /// A minute's wait
    Waiter,
    /// A dead holder
    Killed,
    /// An answer that never arrives
    Lost,
    /// Ten thousand leases
    Many,
    /// The embedded store beside file locks
    Local,
    /// Dollars over the number of contenders
    Price,
    /// Thirty shells at once, and a first waiter that is killed
    Shells,
    /// Slots, beside AWS's semaphore sample
    Slots,
    /// Readers and writers
    Shared,
    /// `once`: 500 hosts that tick for a month, in virtual time
    Fleet,
    /// `once`: 50 processes at one instant
    Herd,
    /// `once` beside Powertools and idemkit
    Beside,
    /// Up to 100,000 processes, in virtual time
    Scale,
}

impl Bench {
    /// What people type, and `leasehold-bench` reads.
    pub(crate) fn name(self) -> String {
        part::name(self)
    }

    /// Whether it talks to DynamoDB Local.
    pub(crate) fn needs_dynamodb(self) -> bool {
        !matches!(
            self,
            Bench::Sqlite | Bench::Command | Bench::Local | Bench::Fleet | Bench::Scale
        )
    }

    /// Whether it runs the command.
    pub(crate) fn needs_command(self) -> bool {
        matches!(
            self,
            Bench::Command | Bench::Commands | Bench::Local | Bench::Herd | Bench::Shells
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Verb, String> {
        let words = ["xtask"].iter().chain(words);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(cli.verb)
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_others_are_passed_on() {
        let words = ["-p", "leasehold", "--", "--nocapture"];
        let args = words.map(OsString::from).to_vec();
        let test = [&["test", "--"], words.as_slice()].concat();
        let whole = false;
        let expected = Verb::Test {
            whole,
            args: args.clone(),
        };
        assert_eq!(parse(&test), Ok(expected));
        assert!(parse(&["test", "--nocapture"]).is_err());
        let program = "cargo".into();
        let guard = [&[GUARD, "cargo"], words.as_slice()].concat();
        assert_eq!(parse(&guard), Ok(Verb::Guard { program, args }));
    }

    #[test]
    fn every_benchmark_of_the_program_can_be_named() {
        let program = include_str!("../../crates/leasehold-bench/src/main.rs");
        let (_, all) = program.split_once("const ALL: ").unwrap();
        let (all, _) = all.split_once("];\n").unwrap();
        let names = all
            .lines()
            .filter_map(|line| line.trim().strip_prefix("(\""));
        let names: Vec<_> = names.filter_map(|line| line.split('"').next()).collect();
        let ours: Vec<_> = Bench::value_variants().iter().map(|b| b.name()).collect();
        assert_eq!(names, ours);
    }

    #[test]
    fn the_choice_of_a_bench_is_passed_on() {
        let choice = Choice {
            quick: true,
            only: vec!["java".into(), "go".into(), "raw".into()],
            java: Some("a.jar".into()),
            go_replace: Some("b".into()),
        };
        let args = choice.args();
        let words = [
            "bench",
            "killed",
            "--quick",
            "--only",
            "java,go",
            "--only=raw",
        ];
        let words = [words.as_slice(), &["--java", "a.jar", "--go-replace=b"]].concat();
        let names = vec![Bench::Killed];
        assert_eq!(parse(&words), Ok(Verb::Bench { names, choice }));
        assert_eq!(
            args.join("".as_ref()),
            "--quick--onlyjava--onlygo--onlyraw--javaa.jar--go-replaceb"
        );
        assert!(Choice::default().args().is_empty());
    }

    #[test]
    fn a_soak_is_of_hours_and_alone() {
        let soak = Some(Duration::from_secs(1800));
        let parts = vec![];
        assert_eq!(
            parse(&["prove", "--soak", "0.5"]),
            Ok(Verb::Prove {
                parts,
                soak,
                share: false
            })
        );
        for bad in [
            &["prove", "--soak", "-1"][..],
            &["prove", "sim", "--soak", "1"],
            &["prove", "--share", "--soak", "1"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}

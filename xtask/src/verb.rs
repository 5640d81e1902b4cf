//! The command line of `cargo xtask`: which verb, with what.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::guard::GUARD;
use crate::part::Part;

/// What `cargo xtask help` prints.
pub(crate) const USAGE: &str = "\
usage: cargo xtask <verb>

  test [-- ARGS]       set up DynamoDB Local, then cargo test --workspace --all-features ARGS
  lint                 rustfmt, clippy and rustdoc, warnings denied
  prove [PART…]        set up DynamoDB Local, then the proof: checker, schedules, sim, cancellation, lockset, chaos, files, mutants, patches (all by default)
  prove --soak HOURS   simulation on new seeds and chaos, side by side, for so long
  mutants [ARGS]       cargo-mutants on the protocol, or with these arguments of its own
  patches [WORD]       rules and fixes undone one by one, each with the test that must see it
  ci                   lint, prove, then test
  bench [--quick] [NAME…]
                       set up DynamoDB Local, then the benchmarks (all by default): cycle, sqlite, units, command, uncontended, contend, hot, waiter, killed, many, local, price, scale
  dynamodb [--port N]  DynamoDB Local in the foreground, until Ctrl-C
  help                 this text

LEASEHOLD_TEST_DYNAMODB=URL makes `test` and `bench` use the server at URL and start none.
";

/// The verbs that people may type, for error messages.
const KNOWN: &str = "test, lint, prove, mutants, patches, ci, bench, dynamodb, help";

/// One call of xtask.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Runs all tests; `args` go to `cargo test`.
    Test { args: Vec<OsString> },
    /// Format, clippy, docs.
    Lint,
    /// The proof: these parts, or all of them; or simulation and chaos for so long.
    Prove {
        parts: Vec<Part>,
        soak: Option<Duration>,
    },
    /// cargo-mutants.
    Mutants { args: Vec<OsString> },
    /// Undone rules and fixes: those with this in their name, or all.
    Patches { only: Option<String> },
    /// `Lint`, `Prove`, then `Test`.
    Ci,
    /// Benchmarks: these, or all of them; `quick` makes the scenarios small.
    Bench { names: Vec<Bench>, quick: bool },
    /// DynamoDB Local in the foreground.
    Dynamodb { port: Option<u16> },
    /// Prints [`USAGE`].
    Help,
    /// Runs `program` and ends it when standard input closes. See [`crate::guard`].
    Guard {
        program: OsString,
        args: Vec<OsString>,
    },
}

/// One benchmark of `leasehold-bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bench {
    /// A cycle beside raw requests.
    Cycle,
    /// A cycle on a file.
    Sqlite,
    /// Requests and units, beside the peers.
    Units,
    /// The command beside `true`.
    Command,
    /// A free lock, everybody's.
    Uncontended,
    /// Ten contenders, everybody's.
    Contend,
    /// A hundred and a thousand tasks on one key.
    Hot,
    /// A minute's wait.
    Waiter,
    /// A dead holder.
    Killed,
    /// Ten thousand leases.
    Many,
    /// The embedded store beside file locks.
    Local,
    /// Dollars over the number of contenders.
    Price,
    /// Up to 100,000 processes, in virtual time.
    Scale,
}

impl Bench {
    /// All of them, in the order of a full run.
    pub(crate) const ALL: [Bench; 13] = [
        Bench::Cycle,
        Bench::Sqlite,
        Bench::Units,
        Bench::Command,
        Bench::Uncontended,
        Bench::Contend,
        Bench::Hot,
        Bench::Waiter,
        Bench::Killed,
        Bench::Many,
        Bench::Local,
        Bench::Price,
        Bench::Scale,
    ];

    /// What people type, and `leasehold-bench` reads.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Bench::Cycle => "cycle",
            Bench::Sqlite => "sqlite",
            Bench::Units => "units",
            Bench::Command => "command",
            Bench::Uncontended => "uncontended",
            Bench::Contend => "contend",
            Bench::Hot => "hot",
            Bench::Waiter => "waiter",
            Bench::Killed => "killed",
            Bench::Many => "many",
            Bench::Local => "local",
            Bench::Price => "price",
            Bench::Scale => "scale",
        }
    }

    /// Whether it talks to DynamoDB Local.
    pub(crate) fn needs_dynamodb(self) -> bool {
        !matches!(
            self,
            Bench::Sqlite | Bench::Command | Bench::Local | Bench::Scale
        )
    }

    /// Whether it runs the command.
    pub(crate) fn needs_command(self) -> bool {
        matches!(self, Bench::Command | Bench::Local)
    }
}

impl Verb {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut args = args.into_iter();
        let Some(verb) = args.next() else {
            bail!("name a verb: {KNOWN}");
        };
        let rest: Vec<OsString> = args.collect();
        match verb.to_str() {
            Some("test") => match rest.split_first() {
                None => Ok(Self::Test { args: Vec::new() }),
                Some((dashes, args)) if dashes == "--" => Ok(Self::Test {
                    args: args.to_vec(),
                }),
                Some((first, _)) => bail!(
                    "unexpected argument {first:?}: put arguments for `cargo test` after `--`"
                ),
            },
            Some("lint") => alone("lint", &rest, Self::Lint),
            Some("prove") => prove(&rest),
            Some("mutants") => Ok(Self::Mutants { args: rest }),
            Some("patches") => match rest.as_slice() {
                [] => Ok(Self::Patches { only: None }),
                [word] => Ok(Self::Patches {
                    only: Some(word.to_string_lossy().into_owned()),
                }),
                _ => bail!("`patches` takes one word"),
            },
            Some("ci") => alone("ci", &rest, Self::Ci),
            Some("bench") => {
                let (quick, names): (Vec<_>, Vec<_>) =
                    rest.iter().partition(|word| *word == "--quick");
                Ok(Self::Bench {
                    names: names.into_iter().map(bench).collect::<Result<_>>()?,
                    quick: !quick.is_empty(),
                })
            }
            Some("dynamodb") => Ok(Self::Dynamodb { port: port(&rest)? }),
            Some("help" | "--help" | "-h") => alone("help", &rest, Self::Help),
            Some(GUARD) => match rest.split_first() {
                Some((program, args)) => Ok(Self::Guard {
                    program: program.clone(),
                    args: args.to_vec(),
                }),
                None => bail!("{GUARD} needs a program"),
            },
            _ => bail!("unknown verb {verb:?}: the verbs are {KNOWN}"),
        }
    }
}

fn alone(name: &str, rest: &[OsString], verb: Verb) -> Result<Verb> {
    match rest.first() {
        None => Ok(verb),
        Some(extra) => bail!("unexpected argument {extra:?}: `{name}` takes none"),
    }
}

fn bench(word: &OsString) -> Result<Bench> {
    let known = Bench::ALL.map(Bench::name).join(", ");
    match Bench::ALL.into_iter().find(|bench| word == bench.name()) {
        Some(bench) => Ok(bench),
        None => bail!("unknown benchmark {word:?}: the benchmarks are {known}"),
    }
}

fn prove(rest: &[OsString]) -> Result<Verb> {
    if let Some((first, hours)) = rest.split_first()
        && first == "--soak"
    {
        let hours = match hours {
            [hours] => hours.to_str().and_then(|hours| hours.parse().ok()),
            _ => None,
        };
        return match hours.map(|hours: f64| Duration::try_from_secs_f64(hours * 3600.0)) {
            Some(Ok(soak)) if !soak.is_zero() => Ok(Verb::Prove {
                parts: Vec::new(),
                soak: Some(soak),
            }),
            _ => bail!("`--soak` takes a number of hours, and nothing else beside it"),
        };
    }
    let known = Part::ALL.map(Part::name).join(", ");
    let part = |word: &OsString| match Part::ALL.into_iter().find(|part| word == part.name()) {
        Some(part) => Ok(part),
        None => bail!("unknown part {word:?}: the parts are {known}"),
    };
    Ok(Verb::Prove {
        parts: rest.iter().map(part).collect::<Result<_>>()?,
        soak: None,
    })
}

fn port(rest: &[OsString]) -> Result<Option<u16>> {
    let words: Option<Vec<&str>> = rest.iter().map(|word| word.to_str()).collect();
    let number = match words.as_deref() {
        Some([]) => return Ok(None),
        Some(["--port", number]) => number,
        Some([joined]) if joined.starts_with("--port=") => &joined["--port=".len()..],
        _ => bail!("unexpected arguments {rest:?}: `dynamodb` takes only `--port N`"),
    };
    match number.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => bail!("bad port {number:?}: give a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Verb> {
        Verb::parse(words.iter().map(OsString::from))
    }

    fn refusal(words: &[&str]) -> String {
        parse(words).expect_err("must be refused").to_string()
    }

    #[test]
    fn test_passes_on_what_follows_the_dashes() {
        assert_eq!(parse(&["test"]).unwrap(), Verb::Test { args: vec![] });
        let args = ["-p", "leasehold", "--", "--nocapture"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(
            parse(&["test", "--", "-p", "leasehold", "--", "--nocapture"]).unwrap(),
            Verb::Test { args }
        );
        assert!(refusal(&["test", "--nocapture"]).contains("after `--`"));
    }

    #[test]
    fn dynamodb_takes_a_port() {
        assert_eq!(parse(&["dynamodb"]).unwrap(), Verb::Dynamodb { port: None });
        assert_eq!(
            parse(&["dynamodb", "--port", "8000"]).unwrap(),
            Verb::Dynamodb { port: Some(8000) }
        );
        assert_eq!(
            parse(&["dynamodb", "--port=8000"]).unwrap(),
            Verb::Dynamodb { port: Some(8000) }
        );
        for bad in ["0", "65536", "x", "-1", ""] {
            assert!(
                refusal(&["dynamodb", "--port", bad]).contains("1 to 65535"),
                "{bad:?}"
            );
        }
        assert!(refusal(&["dynamodb", "--port"]).contains("--port N"));
    }

    #[test]
    fn bench_takes_names() {
        let nothing = |quick| Verb::Bench {
            names: vec![],
            quick,
        };
        assert_eq!(parse(&["bench"]).unwrap(), nothing(false));
        assert_eq!(parse(&["bench", "--quick"]).unwrap(), nothing(true));
        let all = Bench::ALL.map(Bench::name);
        assert_eq!(
            parse(&[&["bench"], all.as_slice()].concat()).unwrap(),
            Verb::Bench {
                names: Bench::ALL.to_vec(),
                quick: false
            }
        );
        assert!(refusal(&["bench", "--fast"]).contains("cycle, sqlite, units, command"));
        assert!(USAGE.contains(&all.join(", ")));
    }

    #[test]
    fn prove_takes_parts_or_a_soak() {
        let soak = |words| match parse(words).unwrap() {
            Verb::Prove { parts, soak } => (parts, soak),
            other => panic!("{other:?}"),
        };
        assert_eq!(soak(&["prove"]), (vec![], None));
        assert_eq!(
            soak(&["prove", "sim", "chaos"]),
            (vec![Part::Sim, Part::Chaos], None)
        );
        let half = Duration::from_secs(1800);
        assert_eq!(soak(&["prove", "--soak", "0.5"]), (vec![], Some(half)));
        for bad in [&["prove", "--soak"][..], &["prove", "--soak", "-1"]] {
            assert!(refusal(bad).contains("hours"), "{bad:?}");
        }
        let all = Part::ALL.map(Part::name).join(", ");
        assert!(refusal(&["prove", "all"]).contains(&all));
        assert!(USAGE.contains(&all));
    }

    #[test]
    fn unknown_verbs_are_told_the_known_ones() {
        for words in [&["proof"][..], &["docs"], &["benchmark"], &[]] {
            assert!(refusal(words).contains(KNOWN), "{words:?}");
        }
        assert!(refusal(&["ci", "now"]).contains("takes none"));
    }

    #[test]
    fn every_known_verb_is_in_the_usage_and_parses() {
        for verb in KNOWN.split(", ") {
            assert!(USAGE.contains(&format!("\n  {verb}")), "{verb}");
            parse(&[verb]).unwrap();
        }
    }
}

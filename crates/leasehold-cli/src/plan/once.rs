//! How a run is remembered.

use std::time::Duration;

use crate::args::{Memory, RunArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::text::duration;

/// The largest default tolerance.
const TOLERANCE: Duration = Duration::from_secs(300);

/// A validated memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OncePlan {
    /// For how long a run is remembered, from its beginning.
    pub(crate) keep: Duration,
    /// Whether a fleet starts the same work at the same time.
    pub(crate) patient: bool,
    /// Whether the output is kept, and printed again.
    pub(crate) replay: bool,
    /// Whether failures are remembered.
    pub(crate) remember_failures: bool,
    /// The exit code if the work is done already.
    pub(crate) duplicate_code: Option<u8>,
}

impl OncePlan {
    /// Resolves the arguments, and takes those of the run that mean something else here.
    ///
    /// # Errors
    ///
    /// 64, for times that do not fit together.
    pub(super) fn new(memory: &Memory, run: &mut RunArgs) -> Result<OncePlan, Failure> {
        let refused = |message: String, hint: &str| {
            Err(Failure::new(exit_codes::USAGE, message).hint(hint.to_owned()))
        };
        if run.hold.hold_at_least.is_some() {
            let hint = "set `--keep`: a run that is remembered needs no lock afterwards";
            return refused("--hold-at-least makes no sense with `once`".into(), hint);
        }
        if !run.keys.is_empty() {
            let hint =
                "name the work once: what it needs besides can be acquired within the command";
            return refused("--key makes no sense with `once`".into(), hint);
        }
        if run.slots.limit().is_some() {
            let hint = "omit it: work that runs once has one runner";
            return refused(
                "--slots and --shared make no sense with `once`".into(),
                hint,
            );
        }
        let keep = match (memory.period.every, memory.period.keep) {
            (Some(every), _) => {
                let tolerance = memory.tolerance.unwrap_or((every / 4).min(TOLERANCE));
                // With half of it, the late hosts of one period and the early ones of the next would meet.
                if tolerance * 2 > every {
                    let hint =
                        format!("set `--tolerance` to at most {}", duration::show(every / 2));
                    return refused("--tolerance is more than half of --every".into(), &hint);
                }
                every - tolerance
            }
            (None, Some(keep)) => keep,
            // Clap asks for one of them.
            (None, None) => return refused("no --every and no --keep".into(), "set one of them"),
        };
        if keep.is_zero() {
            return refused("nothing would be remembered".into(), "set a longer time");
        }
        Ok(OncePlan {
            keep,
            patient: memory.period.every.is_some(),
            replay: memory.replay,
            remember_failures: memory.remember_failures,
            duplicate_code: run.wait.conflict_exit_code.take(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use crate::plan::RunPlan;

    fn once(options: &[&str]) -> Result<OncePlan, Failure> {
        let words = ["leasehold", "once", "job", "--store", "sqlite:/locks.db"];
        let all = [&words, options, &["--", "true"]].concat();
        let cli = <Cli as clap::Parser>::try_parse_from(all).expect("a command line");
        let Verb::Once(args) = cli.verb else {
            panic!("another verb");
        };
        let plan = RunPlan::new(args.run, Some(args.memory))?;
        Ok(plan.once.expect("once"))
    }

    #[test]
    fn a_period_leaves_a_tolerance() {
        let s = Duration::from_secs;
        for (options, keep) in [
            (&["--every", "1m"][..], s(45)),
            (&["--every", "24h"], s(24 * 3600 - 300)),
            (&["--every", "1m", "--tolerance", "30s"], s(30)),
            (&["--every", "1m", "--tolerance", "0s"], s(60)),
            (&["--keep", "7m"], s(420)),
        ] {
            let plan = once(options).expect("a plan");
            assert_eq!(
                (plan.keep, plan.duplicate_code),
                (keep, None),
                "{options:?}"
            );
            assert_eq!(plan.patient, options[0] == "--every");
        }
        let plan = once(&["--keep", "1m", "-E", "7"]).expect("a plan");
        assert_eq!(plan.duplicate_code, Some(7));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        for (options, named) in [
            (&["--every", "1m", "--tolerance", "31s"][..], "--tolerance"),
            (
                &["--keep", "1m", "--hold-at-least", "1s"],
                "--hold-at-least",
            ),
            (&["--keep", "1m", "--key", "more"], "--key"),
            (&["--keep", "0s"], "remembered"),
        ] {
            let failure = once(options).expect_err("a refusal");
            assert_eq!(failure.code, exit_codes::USAGE);
            assert!(failure.message.contains(named), "{}", failure.message);
        }
    }
}

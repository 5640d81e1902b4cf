//! The plan of a verb: raw arguments, resolved once, and checked before anything is locked.
//!
//! Invariant: a plan is valid. Everything that can be refused without a request is refused here: the key, the
//! store's URL, the sums of lease, grace and margin.

mod keys;
mod lock;
mod once;

use std::time::Duration;

use rustix::process::Signal;

pub(crate) use self::keys::Keys;
pub(crate) use self::lock::{LEASE, LockPlan, Wait};
pub(crate) use self::once::OncePlan;
use crate::args::{ElectArgs, LockArgs, Memory, OnLost, RunArgs, StopArgs, WaitArgs, What};
use crate::exit_codes;
use crate::failure::Failure;
use crate::process::{Command, Options};
use crate::store::Place;
use crate::store::url::Location;

/// A validated run.
#[derive(Debug)]
pub(crate) struct RunPlan {
    /// The lock.
    pub(crate) lock: LockPlan,
    /// The command.
    pub(crate) command: Command,
    /// How its processes are treated.
    pub(crate) options: Options,
    /// The signal that stops it.
    pub(crate) signal: Signal,
    /// How long it has after that signal.
    pub(crate) grace: Duration,
    /// What is done when the lock is lost.
    pub(crate) on_lost: OnLost,
    /// When it is stopped even without a loss.
    pub(crate) max_hold: Option<Duration>,
    /// How long the lock is kept at least.
    pub(crate) hold_at_least: Duration,
    /// How the run is remembered, if it is.
    pub(crate) once: Option<OncePlan>,
}

impl RunPlan {
    /// How long KILL may take after a loss: half of the margin, which the policy reserves. The other half is for
    /// noticing the loss and for sending signals.
    pub(crate) fn kill_wait(&self) -> Duration {
        self.lock.policy.safety_margin().saturating_sub(self.grace) / 2
    }

    /// Resolves the arguments.
    ///
    /// # Errors
    ///
    /// 64 and 78. No request has been sent then.
    pub(crate) fn new(mut args: RunArgs, once: Option<Memory>) -> Result<RunPlan, Failure> {
        let once = once
            .map(|memory| OncePlan::new(&memory, &mut args))
            .transpose()?;
        let hold = args.hold;
        let max_hold = bound(hold.max_hold)?;
        let hold_at_least = hold.hold_at_least.unwrap_or_default();
        if max_hold.is_some_and(|most| most < hold_at_least) {
            return Err(Failure::new(
                exit_codes::USAGE,
                "--max-hold is shorter than --hold-at-least",
            )
            .hint("make --max-hold the longer one"));
        }
        let (keys, store) = (Keys::new(&args.name, &args.keys)?, args.store.store);
        let plan = Self::of(keys, store, args.what, args.lock, args.wait, args.stop)?;
        Ok(RunPlan {
            options: Options {
                detach_ok: args.child.detach_ok,
                ..plan.options
            },
            on_lost: args.child.on_lost,
            max_hold,
            hold_at_least,
            once,
            lock: plan.lock.with_slots(args.slots.limit()),
            ..plan
        })
    }

    /// The plan of a command that is stopped when the lock is lost, and only then.
    fn of(
        keys: Keys,
        store: Option<Location>,
        what: What,
        lock: LockArgs,
        wait: WaitArgs,
        stop: StopArgs,
    ) -> Result<RunPlan, Failure> {
        let place = Place::resolve(store)?;
        let command = command(what.line, what.command)?;
        let lock = LockPlan::new(keys, place, lock, wait, stop.grace)?;
        let dynamodb = matches!(lock.place.location, Location::DynamoDb(_));
        Ok(RunPlan {
            grace: lock.policy.grace(),
            lock,
            command,
            options: Options {
                detach_ok: false,
                others: dynamodb,
            },
            signal: stop.signal,
            on_lost: OnLost::Kill,
            max_hold: None,
            hold_at_least: Duration::ZERO,
            once: None,
        })
    }
}

/// A validated election.
#[derive(Debug)]
pub(crate) struct ElectPlan {
    /// The command of each term.
    pub(crate) term: RunPlan,
    /// Whether it ends after one term.
    pub(crate) once: bool,
}

impl ElectPlan {
    /// Resolves the arguments.
    ///
    /// # Errors
    ///
    /// 64 and 78. No request has been sent then.
    pub(crate) fn new(args: ElectArgs) -> Result<ElectPlan, Failure> {
        let wait = WaitArgs::default();
        let (keys, store) = (Keys::new(&args.name, &[])?, args.store.store);
        let term = RunPlan::of(keys, store, args.what, args.lock, wait, args.stop)?;
        Ok(ElectPlan {
            term: RunPlan {
                max_hold: bound(args.max_hold)?,
                ..term
            },
            once: args.once,
        })
    }
}

/// A bound of the time under the lock, which leaves some.
fn bound(max_hold: Option<Duration>) -> Result<Option<Duration>, Failure> {
    if max_hold == Some(Duration::ZERO) {
        return Err(Failure::new(
            exit_codes::USAGE,
            "--max-hold is 0: the command would be stopped at once",
        )
        .hint("set a longer time, or omit --max-hold"));
    }
    Ok(max_hold)
}

fn command(
    line: Option<std::ffi::OsString>,
    words: Vec<std::ffi::OsString>,
) -> Result<Command, Failure> {
    let mut words = words.into_iter();
    match (line, words.next()) {
        (Some(line), _) => Ok(Command::shell(line)),
        (None, Some(program)) => Ok(Command::new(program, words.collect())),
        // Clap asks for one of them.
        (None, None) => Err(Failure::new(exit_codes::USAGE, "no command was given")
            .hint("put the command after `--`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &[&str]) -> Result<RunPlan, Failure> {
        let words = ["leasehold", "run", "job", "--store", "sqlite:/locks.db"];
        let all = [&words, options, &["--", "true"]].concat();
        let cli = <crate::args::Cli as clap::Parser>::try_parse_from(all).expect("a command line");
        let crate::args::Verb::Run(args) = cli.verb else {
            panic!("a run");
        };
        RunPlan::new(*args, None)
    }

    #[test]
    fn r2_what_a_stop_may_take_is_in_the_sum_that_is_checked() {
        for options in [
            &[][..],
            &["--lease", "3s", "--grace", "300ms"],
            &["--lease", "13s", "--grace", "5s"],
            &["--lease", "10m", "--grace", "4m"],
        ] {
            let plan = plan(options).expect("a plan");
            let (grace, kill, lead) = (
                plan.grace,
                plan.kill_wait(),
                plan.lock.policy.safety_margin(),
            );
            assert!(
                grace + kill < lead,
                "{grace:?} + {kill:?}, {lead:?} before the end"
            );
            assert!(kill >= Duration::from_millis(500), "{kill:?}");
            // The rest of the lease is for renewals.
            assert!(
                plan.lock.policy.lease_duration() / 3 + lead < plan.lock.policy.lease_duration()
            );
        }
    }

    #[test]
    fn a_default_gives_way_to_what_is_set() {
        let s = Duration::from_secs;
        for (options, lease, grace) in [
            (&["--lease", "10s"][..], s(10), None),
            (&["--grace", "30s"], s(50), Some(s(30))),
            (&["--margin", "12s"], s(20), None),
            (&["--margin", "30s"], s(55), Some(s(5))),
            (&["--lease", "300h"], s(300 * 3600), Some(s(5))),
        ] {
            let policy = plan(options).expect("a plan").lock.policy;
            assert!(policy.lease_duration() >= lease, "{options:?}: {policy:?}");
            if let Some(grace) = grace {
                assert_eq!(policy.grace(), grace, "{options:?}");
            }
        }
        // What a person has written is never changed.
        for (options, option) in [
            (&["--lease", "10s", "--grace", "8s"][..], "`--lease`"),
            (&["--lease", "300h", "--retention", "200h"], "`--retention`"),
            (&["--request-timeout", "99999999h"], "`--request-timeout`"),
        ] {
            let failure = plan(options).expect_err("a refusal");
            let hint = failure.hint.unwrap_or_default();
            assert!(hint.contains(option), "{options:?}: {hint}");
        }
    }

    /// Each setting of the operating guide has an option, except those about several tasks of one process.
    #[test]
    fn every_documented_setting_has_an_option() {
        let guide = include_str!("../../../../docs/operating.md");
        let table = guide.split("## Settings").nth(1).expect("the settings");
        let table = table.split("\n\n").nth(1).expect("a table");
        let settings: Vec<_> = table
            .lines()
            .skip(2)
            .filter_map(|row| row.split('`').nth(1))
            .collect();
        assert!(settings.len() >= 12, "{settings:?}");
        let cli = <crate::args::Cli as clap::CommandFactory>::command();
        let run = cli.find_subcommand("run").expect("run");
        for setting in settings.into_iter().filter(|name| *name != "hand_off") {
            let option = match setting {
                "lease_duration" => "lease".to_owned(),
                other => other.replace('_', "-"),
            };
            let known = run
                .get_opts()
                .any(|known| known.get_long() == Some(&option));
            assert!(known, "no --{option}");
        }
    }
}

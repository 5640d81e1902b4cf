//! The plan of `run`: raw arguments, resolved once, and checked before anything is locked.
//!
//! Invariant: a [`RunPlan`] is valid. Everything that can be refused without a request is refused here: the key, the
//! store's URL, the sums of lease, grace and margin.

use std::time::Duration;

use leasehold::{CheckDelay, Error, Key, Policy, PolicyBuilder};
use rustix::process::Signal;

use crate::args::{OnLost, RunArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::process::{Command, Options};
use crate::store::Place;
use crate::store::url::Location;

/// The longest lease: a record is kept for 7 days, and must outlive it by some minutes.
const LONGEST_LEASE_HOURS: u32 = 167;

/// The default lease.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);

/// The step in which a grace is adjusted.
const STEP: Duration = Duration::from_millis(10);

/// A validated run.
#[derive(Debug)]
pub(crate) struct RunPlan {
    /// The name of the lock.
    pub(crate) key: Key,
    /// The location of the lock.
    pub(crate) place: Place,
    /// How it is held.
    pub(crate) policy: Policy,
    /// How long it is waited for.
    pub(crate) wait: Wait,
    /// The exit code if another holds the lock.
    pub(crate) conflict_code: u8,
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
}

impl RunPlan {
    /// Whether the wait has no limit.
    pub(crate) fn waits_for_ever(&self) -> bool {
        self.wait == Wait::ByPolicy && self.policy.wait().is_none()
    }

    /// How long KILL may take after a loss: half of the margin, which the policy reserves. The other half is for
    /// noticing the loss and for sending signals.
    pub(crate) fn kill_wait(&self) -> Duration {
        self.policy.safety_margin().saturating_sub(self.grace) / 2
    }
}

/// How long a lock is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// As the policy says, perhaps without a limit.
    ByPolicy,
}

impl RunPlan {
    /// Resolves the arguments.
    ///
    /// # Errors
    ///
    /// 64 and 78. No request has been sent then.
    pub(crate) fn new(args: RunArgs) -> Result<RunPlan, Failure> {
        let key = Key::new(&args.name)
            .map_err(|error| Failure::from(error).hint("give the lock another name"))?;
        let place = Place::resolve(args.store.store)?;
        let command = command(args.what.line, args.what.command)?;
        let (lock, child) = (args.lock, args.child);
        let nonblock = lock.nonblock || lock.wait == Some(Duration::ZERO);
        let mut policy = Policy::builder()
            .strict(lock.strict)
            // The command's processes may outlive a `leasehold` that was killed, so the lease must expire instead of
            // being taken over at once.
            .bound_to_process(false);
        policy = match lock.wait {
            Some(wait) if !nonblock => policy.wait(wait),
            _ => policy.wait_forever(),
        };
        if let Some(delay) = lock.check_delay {
            policy = policy.check_delay(CheckDelay::Fixed(delay));
        }
        if let Some(label) = lock.label {
            policy = policy.label(label);
        }
        let hold_at_least = lock.hold_at_least.unwrap_or_default();
        if lock.max_hold == Some(Duration::ZERO) {
            return Err(Failure::new(
                exit_codes::USAGE,
                "--max-hold is 0: the command would be stopped at once",
            )
            .hint("set a longer time, or omit --max-hold"));
        }
        if lock.max_hold.is_some_and(|most| most < hold_at_least) {
            return Err(Failure::new(
                exit_codes::USAGE,
                "--max-hold is shorter than --hold-at-least",
            )
            .hint("make --max-hold the longer one"));
        }
        let policy = fitting(policy, lock.lease, child.grace).map_err(|error| options(&error))?;
        let dynamodb = matches!(place.location, Location::DynamoDb(_));
        Ok(RunPlan {
            key,
            place,
            grace: policy.grace(),
            policy,
            wait: if nonblock { Wait::No } else { Wait::ByPolicy },
            conflict_code: lock.conflict_exit_code.unwrap_or(exit_codes::NOT_ACQUIRED),
            command,
            options: Options {
                detach_ok: child.detach_ok,
                others: dynamodb,
            },
            signal: child.signal,
            on_lost: child.on_lost,
            max_hold: lock.max_hold,
            hold_at_least,
        })
    }
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

/// The policy with the given options. A default never makes it invalid: the default grace, or else the default lease,
/// is adjusted.
fn fitting(
    policy: PolicyBuilder,
    lease: Option<Duration>,
    grace: Option<Duration>,
) -> Result<Policy, Error> {
    let with = |lease, grace| policy.clone().lease_duration(lease).grace(grace).build();
    let built = with(lease.unwrap_or(LEASE), grace.unwrap_or(GRACE));
    let Err(error) = &built else { return built };
    match (lease, grace, error.needed()) {
        (Some(lease), None, Some(_)) => {
            let (mut fits, mut too_long) = (Duration::ZERO, GRACE);
            while too_long - fits > STEP {
                let middle = fits + (too_long - fits) / 2;
                match with(lease, middle) {
                    Ok(_) => fits = middle,
                    Err(_) => too_long = middle,
                }
            }
            with(lease, fits)
        }
        (None, Some(grace), Some(needed)) => with(needed, grace),
        _ => built,
    }
}

/// The error of an invalid policy, with options of the command line in place of the library's settings.
fn options(error: &Error) -> Failure {
    let failure = Failure::from(error);
    let option = match error.setting() {
        Some("lease_duration") => "--lease",
        Some("grace") => "--grace",
        Some("check_delay") => "--check-delay",
        // The retention has no option here.
        Some("retention") => {
            return Failure {
                message: "`--lease` is too long: records are kept for 7 days, and must outlive it"
                    .to_owned(),
                ..failure.hint(format!("set `--lease` to {LONGEST_LEASE_HOURS}h or less"))
            };
        }
        _ => return failure,
    };
    let hint = match (error.needed(), error.hint()) {
        (Some(needed), _) => {
            format!("set `{option}` to {needed:?} or more, or make `--grace` smaller")
        }
        (None, Some(hint)) => format!("change `{option}`: {hint}"),
        (None, None) => format!("change `{option}`"),
    };
    failure.hint(hint)
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
        RunPlan::new(*args)
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
            let (grace, kill, lead) = (plan.grace, plan.kill_wait(), plan.policy.safety_margin());
            assert!(
                grace + kill < lead,
                "{grace:?} + {kill:?}, {lead:?} before the end"
            );
            assert!(kill >= Duration::from_millis(500), "{kill:?}");
            // The rest of the lease is for renewals.
            assert!(plan.policy.lease_duration() / 3 + lead < plan.policy.lease_duration());
        }
    }
}

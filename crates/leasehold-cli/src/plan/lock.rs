//! The lock of a verb: its key and store, its policy, and how long it is waited for.

use std::time::Duration;

use leasehold::{CheckDelay, Error, Key, Policy, PolicyBuilder};

use crate::args::LockArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::store::Place;

/// The longest lease: a record is kept for 7 days, and must outlive it by some minutes.
const LONGEST_LEASE_HOURS: u32 = 167;

/// The default lease.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);

/// The step in which a grace is adjusted.
const STEP: Duration = Duration::from_millis(10);

/// A validated lock.
#[derive(Debug)]
pub(crate) struct LockPlan {
    /// Its name.
    pub(crate) key: Key,
    /// Its location.
    pub(crate) place: Place,
    /// How it is held.
    pub(crate) policy: Policy,
    /// How long it is waited for.
    pub(crate) wait: Wait,
    /// The exit code if another holds it.
    pub(crate) conflict_code: u8,
    /// What the record says while it is held.
    pub(crate) data: Option<String>,
}

/// How long a lock is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// As the policy says, perhaps without a limit.
    ByPolicy,
}

impl LockPlan {
    /// The key of a lock with this name.
    ///
    /// # Errors
    ///
    /// 64, when no lock can have this name.
    pub(crate) fn key(name: &str) -> Result<Key, Failure> {
        Key::new(name).map_err(|error| Failure::from(error).hint("give the lock another name"))
    }

    /// Resolves the options. `grace` is the one that the user has set.
    ///
    /// # Errors
    ///
    /// 78, when the durations do not fit together.
    pub(crate) fn new(
        key: Key,
        place: Place,
        lock: LockArgs,
        grace: Option<Duration>,
    ) -> Result<LockPlan, Failure> {
        let lease = lock.lease;
        // The command's processes may outlive a `leasehold` that was killed, so the lease must expire instead of
        // being taken over at once.
        Self::resolve(key, place, lock, |policy| {
            fitting(policy.bound_to_process(false), lease, grace)
                .map_err(|error| options(&error, ", or make `--grace` smaller"))
        })
    }

    /// Resolves the options of a verb without a command, which needs no grace, with its default lease.
    ///
    /// # Errors
    ///
    /// 78, when the durations do not fit together.
    pub(crate) fn without_command(
        key: Key,
        place: Place,
        lock: LockArgs,
        default_lease: Duration,
        change: impl FnOnce(PolicyBuilder) -> PolicyBuilder,
    ) -> Result<LockPlan, Failure> {
        let lease = lock.lease.unwrap_or(default_lease);
        Self::resolve(key, place, lock, |policy| {
            let policy = change(policy).lease_duration(lease).build();
            policy.map_err(|error| options(&error, ""))
        })
    }

    fn resolve(
        key: Key,
        place: Place,
        lock: LockArgs,
        build: impl FnOnce(PolicyBuilder) -> Result<Policy, Failure>,
    ) -> Result<LockPlan, Failure> {
        let nonblock = lock.nonblock || lock.wait == Some(Duration::ZERO);
        let mut policy = Policy::builder().strict(lock.strict);
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
        let policy = build(policy)?;
        Ok(LockPlan {
            key,
            place,
            policy,
            wait: if nonblock { Wait::No } else { Wait::ByPolicy },
            data: lock.data,
            conflict_code: lock.conflict_exit_code.unwrap_or(exit_codes::NOT_ACQUIRED),
        })
    }

    /// Whether the wait has no limit.
    pub(crate) fn waits_for_ever(&self) -> bool {
        self.wait == Wait::ByPolicy && self.policy.wait().is_none()
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

/// The error of an invalid policy, with options of the command line in place of the library's settings. `or` is what
/// may be changed instead of the option.
fn options(error: &Error, or: &str) -> Failure {
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
            format!("set `{option}` to {needed:?} or more{or}")
        }
        (None, Some(hint)) => format!("change `{option}`: {hint}"),
        (None, None) => format!("change `{option}`"),
    };
    failure.hint(hint)
}

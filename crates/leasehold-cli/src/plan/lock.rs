//! The lock of a verb: its key and store, its policy, and how long it is waited for.

use std::time::Duration;

use leasehold::store::Store;
use leasehold::{CheckDelay, Error, LockClient, Policy, PolicyBuilder};

use super::keys::Keys;
use crate::args::{LockArgs, WaitArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::store::Place;

/// The default lease.
pub(crate) const LEASE: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(5);

/// The step in which a grace is adjusted.
const STEP: Duration = Duration::from_millis(10);

/// A validated lock.
#[derive(Debug)]
pub(crate) struct LockPlan {
    /// Its name, or those of several that are held together.
    pub(crate) keys: Keys,
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
    /// How many may hold it at once; `None` for one.
    pub(crate) slots: Option<u32>,
    max_polls: Option<u32>,
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
    /// Resolves the options. `grace` is the one that the user has set.
    ///
    /// # Errors
    ///
    /// 78, when the durations do not fit together.
    pub(crate) fn new(
        keys: Keys,
        place: Place,
        lock: LockArgs,
        wait: WaitArgs,
        grace: Option<Duration>,
    ) -> Result<LockPlan, Failure> {
        let policy = configured(&lock, &wait);
        // The command's processes may outlive a `leasehold` that was killed, so the lease must expire instead of
        // being taken over at once.
        let policy = fitting(policy.bound_to_process(false), &lock, grace, (LEASE, GRACE));
        let policy = policy.map_err(|error| options(&error, ", or make `--grace` smaller"))?;
        Ok(Self::with_policy(keys, place, lock, wait, policy))
    }

    /// Resolves the options of a verb without a command, which needs no grace, with its default lease.
    ///
    /// # Errors
    ///
    /// 78, when the durations do not fit together.
    pub(crate) fn without_command(
        keys: Keys,
        place: Place,
        lock: LockArgs,
        wait: WaitArgs,
        default_lease: Duration,
        change: impl FnOnce(PolicyBuilder) -> PolicyBuilder,
    ) -> Result<LockPlan, Failure> {
        let policy = change(configured(&lock, &wait));
        let policy = fitting(policy, &lock, None, (default_lease, Duration::ZERO));
        let policy = policy.map_err(|error| options(&error, ""))?;
        Ok(Self::with_policy(keys, place, lock, wait, policy))
    }

    fn with_policy(
        keys: Keys,
        place: Place,
        lock: LockArgs,
        wait: WaitArgs,
        policy: Policy,
    ) -> LockPlan {
        LockPlan {
            keys,
            place,
            policy,
            wait: if must_not_wait(&wait) {
                Wait::No
            } else {
                Wait::ByPolicy
            },
            data: lock.data,
            slots: None,
            max_polls: lock.policy.max_polls_per_second,
            conflict_code: wait.conflict_exit_code.unwrap_or(exit_codes::NOT_ACQUIRED),
        }
    }

    /// The same for one of so many slots.
    pub(crate) fn with_slots(self, slots: Option<u32>) -> LockPlan {
        LockPlan { slots, ..self }
    }

    /// A client with the policy.
    pub(crate) fn client(&self, store: impl Store) -> LockClient {
        let mut client = LockClient::builder(store).policy(self.policy.clone());
        if let Some(polls) = self.max_polls {
            client = client.max_polls_per_second(polls);
        }
        client.build()
    }

    /// Whether the wait has no limit.
    pub(crate) fn waits_for_ever(&self) -> bool {
        self.wait == Wait::ByPolicy && self.policy.wait().is_none()
    }
}

fn must_not_wait(wait: &WaitArgs) -> bool {
    wait.nonblock || wait.wait == Some(Duration::ZERO)
}

/// The policy of the options, but for those that [`fitting`] adjusts.
fn configured(lock: &LockArgs, wait: &WaitArgs) -> PolicyBuilder {
    let options = &lock.policy;
    let mut policy = Policy::builder()
        .strict(lock.strict)
        .shared_with_fsharp(options.shared_with_fsharp);
    policy = match wait.wait {
        Some(bound) if !must_not_wait(wait) => policy.wait(bound),
        _ => policy.wait_forever(),
    };
    if let Some(delay) = lock.check_delay {
        policy = policy.check_delay(CheckDelay::Fixed(delay));
    }
    if let Some(label) = &lock.label {
        policy = policy.label(label.as_str());
    }
    if let Some(margin) = options.margin {
        policy = policy.margin(margin);
    }
    if let Some(timeout) = options.request_timeout {
        policy = policy.request_timeout(timeout);
    }
    if let Some(timeout) = options.call_timeout {
        policy = policy.call_timeout(timeout);
    }
    if let Some(padding) = options.expiry_padding {
        policy = policy.expiry_padding(padding);
    }
    if let Some(retention) = options.retention {
        policy = policy.retention(retention);
    }
    policy
}

/// The policy with the set options. A default never makes it invalid: the default grace, the default lease or the default
/// retention is adjusted.
fn fitting(
    policy: PolicyBuilder,
    set: &LockArgs,
    set_grace: Option<Duration>,
    (lease, grace): (Duration, Duration),
) -> Result<Policy, Error> {
    let with = |lease, grace| {
        let policy = policy.clone().lease_duration(lease).grace(grace);
        let built = policy.clone().build();
        match &built {
            Err(error)
                if error.setting() == Some("retention") && set.policy.retention.is_none() =>
            {
                match error.needed() {
                    Some(needed) => policy.retention(needed).build(),
                    None => built,
                }
            }
            _ => built,
        }
    };
    let built = with(set.lease.unwrap_or(lease), set_grace.unwrap_or(grace));
    let Err(error) = &built else { return built };
    if error.setting() != Some("lease_duration") {
        return built;
    }
    match (set.lease, set_grace, error.needed()) {
        (Some(lease), None, Some(_)) if !grace.is_zero() => {
            let (mut fits, mut too_long) = (Duration::ZERO, grace);
            while too_long - fits > STEP {
                let middle = fits + (too_long - fits) / 2;
                match with(lease, middle) {
                    Ok(_) => fits = middle,
                    Err(_) => too_long = middle,
                }
            }
            with(lease, fits)
        }
        (None, _, Some(needed)) => with(needed, set_grace.unwrap_or(grace)),
        _ => built,
    }
}

/// The error of an invalid policy, with options of the command line in place of the library's settings. `or` is what
/// may be changed instead of the option.
fn options(error: &Error, or: &str) -> Failure {
    let failure = Failure::from(error);
    let option = match error.setting() {
        Some("lease_duration") => "--lease".to_owned(),
        Some("retention") => {
            return failure.hint("make `--lease` smaller, or set `--retention` to more");
        }
        Some(setting) => format!("--{}", setting.replace('_', "-")),
        None => return failure,
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

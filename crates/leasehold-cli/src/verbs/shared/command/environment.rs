//! The environment variables of the command's lock.
//!
//! Invariant: the innermost lock wins. New values replace inherited ones, which move to
//! `LEASEHOLD_PARENT_*`. `LEASEHOLD_GRANTS` has the grants of all locks, for [`nested`].

use std::env;
use std::ffi::OsString;

use leasehold::Lease;

use crate::plan::RunPlan;
use crate::process::Command;
use crate::text::duration::millis;
use crate::verbs::shared::nested;

const NAMES: [&str; 4] = ["NAME", "TOKEN", "LEASE_MS", "STORE"];

/// The command with the lock in its environment.
pub(super) fn with_lock(plan: &RunPlan, lease: &Lease) -> Command {
    let mut command = plan.command.clone();
    let outer = |name| env::var_os(format!("LEASEHOLD_{name}"));
    // A store without name and token is the user's setting, not an outer lock.
    if outer("NAME").is_some() && outer("TOKEN").is_some() {
        for name in NAMES {
            if let Some(value) = outer(name) {
                command.set(format!("LEASEHOLD_PARENT_{name}"), value);
            }
        }
    }
    let ours: [OsString; 4] = [
        plan.lock.key.as_str().into(),
        lease.token().to_string().into(),
        millis(plan.lock.policy.lease_duration()).to_string().into(),
        plan.lock.place.location.url(),
    ];
    for (name, value) in NAMES.into_iter().zip(ours) {
        command.set(format!("LEASEHOLD_{name}"), value);
    }
    command.set(nested::GRANTS, nested::with(lease.id().attempt()));
    command
}

//! The environment variables of the command's lock.
//!
//! Invariant: the innermost lock wins. New values replace inherited ones, which move to
//! `LEASEHOLD_PARENT_*`. Of several locks, they are those of the one that is named first, and `LEASEHOLD_TOKENS` has a
//! line for each. `LEASEHOLD_GRANTS` has the grants of all locks, for [`nested`].

use std::env;
use std::ffi::OsString;

use leasehold::Lease;

use crate::plan::RunPlan;
use crate::process::Command;
use crate::text::duration::millis;
use crate::verbs::shared::locks::Locks;
use crate::verbs::shared::nested;

const NAMES: [&str; 4] = ["NAME", "TOKEN", "LEASE_MS", "STORE"];

/// The variable with the tokens of several locks.
const TOKENS: &str = "TOKENS";

/// The command with the locks in its environment.
pub(super) fn with_locks(plan: &RunPlan, locks: Locks<'_>) -> Command {
    let mut command = plan.command.clone();
    let outer = |name| env::var_os(format!("LEASEHOLD_{name}"));
    // A store without name and token is the user's setting, not an outer lock.
    if outer("NAME").is_some() && outer("TOKEN").is_some() {
        for name in NAMES.into_iter().chain([TOKENS]) {
            if let Some(value) = outer(name) {
                command.set(format!("LEASEHOLD_PARENT_{name}"), value);
            }
        }
    }
    let first = &plan.lock.keys.first;
    let token = locks.iter().find(|lease| lease.key() == first);
    let token = token.map(|lease| lease.token().to_string());
    let ours: [OsString; 4] = [
        first.as_str().into(),
        token.unwrap_or_default().into(),
        millis(plan.lock.policy.lease_duration()).to_string().into(),
        plan.lock.place.location.url(),
    ];
    for (name, value) in NAMES.into_iter().zip(ours) {
        command.set(format!("LEASEHOLD_{name}"), value);
    }
    if plan.lock.keys.are_several() || outer(TOKENS).is_some() {
        let line = |lease: &Lease| format!("{}={}\n", lease.key(), lease.token());
        let lines: String = locks.iter().map(line).collect();
        command.set(format!("LEASEHOLD_{TOKENS}"), lines.trim_end_matches('\n'));
    }
    let attempts = locks.iter().map(|lease| lease.id().attempt());
    command.set(nested::GRANTS, nested::with(attempts));
    command
}

//! A run inside the command of another run of the same lock, which would wait for itself for ever.
//!
//! Each command gets the grants that it runs under. A waiter compares them with the grant in the record.
//! The same grant means the same lock, however its store is spelled. A grant that has ended is in no
//! record, so an old environment has no effect.
//!
//! Two cases are not recognised: a command that itself clears its environment without a shell between
//! (`env -i leasehold run …`), and a command that another process started (cron, a server).

use std::ffi::{OsStr, OsString};

use leasehold::store::protocol::AttemptId;
use leasehold::store::{Consistency, Store};

use crate::failure::Failure;
use crate::plan::LockPlan;
use crate::process::of_ancestors;

/// The variable: attempt ids, outermost first, with commas between.
pub(crate) const GRANTS: &str = "LEASEHOLD_GRANTS";

/// The variable's value for a command under these grants.
pub(crate) fn with(attempts: impl Iterator<Item = AttemptId>) -> OsString {
    let mut grants = std::env::var_os(GRANTS).unwrap_or_default();
    for attempt in attempts {
        if !grants.is_empty() {
            grants.push(",");
        }
        grants.push(attempt.to_string());
    }
    grants
}

/// The failure if the command of an outer run holds the lock. It costs one read for each lock, and none outside
/// of a run.
pub(crate) async fn refused(plan: &LockPlan, store: &dyn Store) -> Option<Failure> {
    if !plan.waits_for_ever() {
        return None;
    }
    // The environment of a parent still has variables that sudo or `env -i` removed.
    let mut all = of_ancestors(GRANTS);
    all.extend(std::env::var_os(GRANTS));
    if all.is_empty() {
        return None;
    }
    for key in &plan.keys.all {
        // The acquisition reports a failure of the store.
        let answer = store.read(key, Consistency::Strong).await;
        let owner = answer.ok().and_then(|reply| reply.value?.owner);
        if owner.is_some_and(|owner| all.iter().any(|grants| names(grants, &owner))) {
            let message = format!(
                "`{key}` is held by the command that this one runs in: it would wait for itself"
            );
            return Some(Failure::new(plan.conflict_code, message).hint(
                "drop one of the two, or give them different names; `-w` of `run` and `once` bounds the wait",
            ));
        }
    }
    None
}

fn names(grants: &OsStr, owner: &str) -> bool {
    grants
        .to_string_lossy()
        .split(',')
        .any(|grant| grant == owner)
}

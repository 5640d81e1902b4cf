//! A run inside of the command of another run of the same lock, which would wait for itself for ever.
//!
//! Each command is told the grants that it runs under. A waiter compares them with the grant on the record: the same grant is the same lock,
//! however its store is spelled. A grant that is over is on no record, so an environment that outlived its run says nothing.
//!
//! Not recognised: a command that is itself, without a shell between, the one that clears its environment (`env -i leasehold run …`), and
//! one that was started by another process on its behalf (cron, a server).

use std::ffi::{OsStr, OsString};

use leasehold::store::protocol::AttemptId;
use leasehold::store::{Consistency, Store};

use crate::failure::Failure;
use crate::plan::RunPlan;
use crate::process::of_ancestors;

/// The variable: attempt ids, outermost first, with commas between.
pub(super) const GRANTS: &str = "LEASEHOLD_GRANTS";

/// What the command is told, under this grant.
pub(super) fn with(attempt: AttemptId) -> OsString {
    let mut grants = std::env::var_os(GRANTS).unwrap_or_default();
    if !grants.is_empty() {
        grants.push(",");
    }
    grants.push(attempt.to_string());
    grants
}

/// Why nothing is run, when the lock is held by the command that this one runs in. One read, and none outside of any run.
pub(super) async fn refused(plan: &RunPlan, store: &dyn Store) -> Option<Failure> {
    if !plan.waits_for_ever() {
        return None;
    }
    // A parent still has what sudo or `env -i` took away.
    let mut all = of_ancestors(GRANTS);
    all.extend(std::env::var_os(GRANTS));
    if all.is_empty() {
        return None;
    }
    // What is wrong with the store is told by the acquisition.
    let answer = store.read(plan.key.as_str(), Consistency::Strong).await;
    let owner = answer.ok()?.value?.owner?;
    all.iter().any(|grants| names(grants, &owner)).then(|| {
        let message = format!(
            "`{}` is held by the command that this one runs in: it would wait for itself",
            plan.key
        );
        Failure::new(plan.conflict_code, message).hint(
            "drop one of the two `leasehold run`, give them different names, or bound the wait with `-w`",
        )
    })
}

fn names(grants: &OsStr, owner: &str) -> bool {
    grants
        .to_string_lossy()
        .split(',')
        .any(|grant| grant == owner)
}

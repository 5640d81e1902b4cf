//! One renewal outside of the renewal task's loop.

use std::sync::Arc;
use std::time::Duration;

use leasehold_protocol::renewal::{Ended, Kept, RenewalRefused};

use crate::meter::CallUsage;
use crate::shared::Core;
use crate::store::{Outcome, StoreError};

/// Why such a renewal was not acknowledged.
#[derive(Debug)]
pub(crate) enum NotRenewed {
    /// The grant has ended.
    Ended(Ended),
    /// The store failed.
    Failed(StoreError),
}

/// Renews a grant once, outside of its renewal task's loop, perhaps for a longer lease.
pub(crate) async fn renew_once(
    core: &Arc<Core>,
    kept: &mut Kept,
    longer: Option<Duration>,
    bound_to_process: bool,
    timeout: Duration,
    call_usage: &CallUsage,
) -> Result<(), NotRenewed> {
    let now = core.clocks.reading();
    let (sent, write) = core.clocks.with_service(|service| match longer {
        Some(lease) => kept.renew_for(lease, service, now, bound_to_process),
        None => kept.renew(service, now, bound_to_process),
    });
    let answer = core.write_detached(write, now, timeout, call_usage).await;
    let now = core.clocks.reading();
    match answer.result {
        Ok(Outcome::Applied(record)) => {
            record.iter().for_each(|record| kept.saw(record));
            core.clocks
                .with_service(|service| kept.renewed(&sent, service, now));
            Ok(())
        }
        Ok(Outcome::Refused(record)) => {
            let refused = core
                .clocks
                .with_service(|service| kept.renewal_refused(record.as_ref(), service, now));
            match refused {
                RenewalRefused::StillOurs => Ok(()),
                RenewalRefused::Lost(ended) => Err(NotRenewed::Ended(ended)),
            }
        }
        Err(error) => Err(NotRenewed::Failed(error)),
    }
}

//! The guardian's part after the worker was killed: the release of the lock.
//!
//! The lock may be released only when no process of the command is left. The release names the grant, so it cannot
//! end another one.

use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{LeaseId, Policy, ReleaseOutcome};

use crate::args::RunArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::process::Survivor;
use crate::store::Place;

/// How long the release may take, with the credentials of a table. Later the lease expires.
const RELEASE: Duration = Duration::from_secs(5);

/// Releases the lock of the killed worker, and returns the exit code: 128 + the signal.
pub(crate) fn survived(args: RunArgs, survivor: &Survivor, messages: &Arc<Messages>) -> u8 {
    let code = survivor.status.exit_code();
    let name = args.name.clone();
    let Ok(id) = survivor.sent.parse::<LeaseId>() else {
        messages.failure(&Failure::new(
            code,
            format!("leasehold was killed (exit code {code}) without the lock `{name}`"),
        ));
        return code;
    };
    let then = if survivor.alone {
        release(args, &id, messages)
    } else {
        Err(Failure::new(
            exit_codes::OWN_FAILURE,
            "KILL did not end all processes of the command",
        ))
    };
    let then = match then {
        Ok(()) => "the lock is released".to_owned(),
        Err(failure) => format!("the lease expires by itself: {}", failure.message),
    };
    messages.failure(&Failure::new(
        code,
        format!(
            "leasehold was killed (exit code {code}), and its command with it: `{name}`: {then}"
        ),
    ));
    code
}

fn release(args: RunArgs, id: &LeaseId, messages: &Arc<Messages>) -> Result<(), Failure> {
    let place = Place::resolve(args.store.store)?;
    let runtime = place.runtime()?;
    let released = runtime.block_on(async {
        let give_up = SystemClock.elapsed().plus(RELEASE);
        let release = async {
            let client = place.client(Policy::default(), messages).await?;
            client.release(id).await.map_err(Failure::from)
        };
        tokio::select! {
            outcome = release => outcome,
            () = SystemClock.sleep_until(give_up) => {
                Err(Failure::new(exit_codes::UNAVAILABLE, "the store has not answered"))
            }
        }
    });
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    match released? {
        ReleaseOutcome::Released | ReleaseOutcome::ReleasedLate | ReleaseOutcome::HandedOff => {
            Ok(())
        }
        outcome => Err(Failure::new(exit_codes::LOST, outcome.to_string())),
    }
}

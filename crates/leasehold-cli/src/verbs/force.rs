//! `force-release`: ends the grant of a stuck holder.

use std::sync::Arc;

use leasehold::{Policy, ReleaseOutcome};

use super::shared::{waiting, who};
use crate::args::ForceArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::Keys;
use crate::store::Place;
use crate::text::quoted;

/// Ends the grant with the token of the arguments, and no other.
///
/// # Errors
///
/// 76 when another grant is the present one, or none; when the store fails; and for invalid arguments.
pub(crate) fn force_release(args: ForceArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let key = Keys::new(&args.name, &[])?.first;
    let place = Place::resolve(args.store.store)?;
    let moved_on = |now: String| {
        let message = format!(
            "token {} is not the present one, nothing was changed: {now} ({})",
            args.token, place.location
        );
        Failure::new(exit_codes::LOST, message).hint(format!(
            "check who holds it: `leasehold show {}{}`",
            quoted(key.as_str()),
            place.option()
        ))
    };
    let nowhere = || moved_on(format!("there is no record of `{key}`"));
    if place.missing_file().is_some() {
        return Err(nowhere());
    }
    let label = args.label.clone().unwrap_or_else(who::am_i);
    let policy = Policy::builder().label(label).build()?;
    let runtime = place.runtime()?;
    let client = runtime.block_on(place.client(policy, messages))?;
    let forced = client.force_release(key.as_str(), args.token, &args.reason);
    let outcome = runtime
        .block_on(forced)
        .map_err(|error| place.explain(error.into()).about(key.as_str()))?;
    match outcome {
        outcome if outcome.is_released() => {
            messages.note(format_args!(
                "released `{key}` by force ({}): its holder learns of it at its next renewal, and works on until then",
                place.location
            ));
            Ok(())
        }
        ReleaseOutcome::AlreadyReleased => {
            messages.note(format_args!(
                "`{key}` with token {} was released already ({})",
                args.token, place.location
            ));
            Ok(())
        }
        ReleaseOutcome::TakenOver(held) => {
            let token = held
                .token()
                .map_or_else(String::new, |token| format!(", with token {token}"));
            Err(moved_on(format!("{}{token}", waiting::holder(&held))))
        }
        ReleaseOutcome::NoRecord => Err(nowhere()),
        _ => Err(moved_on(format!("`{key}` is free, with a later token"))),
    }
}

//! `forget`: lets the work of a name run again.

use std::sync::Arc;

use leasehold::Policy;

use super::shared::who;
use crate::args::ForgetArgs;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::Keys;
use crate::store::Place;
use crate::text::{one_line, times};

/// Makes the key forget the run that it remembers, if there is one.
///
/// # Errors
///
/// When the work runs now, or the name is held as a lock; when the store fails; and for invalid arguments.
pub(crate) fn forget(args: ForgetArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let key = Keys::new(&args.name, &[])?.first;
    let place = Place::resolve(args.store.store)?;
    let nothing = || {
        messages.note(format_args!(
            "nothing to forget: no run of `{key}` is remembered ({})",
            place.location
        ));
        Ok(())
    };
    if place.missing_file().is_some() {
        return nothing();
    }
    let policy = Policy::builder().label(who::am_i()).build()?;
    let runtime = place.runtime()?;
    let client = runtime.block_on(place.client(policy, messages))?;
    let forgotten = runtime
        .block_on(client.forget(key.as_str()))
        .map_err(|error| place.explain(error.into()).about(key.as_str()))?;
    let Some(done) = forgotten else {
        return nothing();
    };
    messages.note(format_args!(
        "`{key}` may run again: forgot the run by {} {} ({})",
        one_line(done.runner()),
        times::relative(done.at()),
        place.location
    ));
    Ok(())
}

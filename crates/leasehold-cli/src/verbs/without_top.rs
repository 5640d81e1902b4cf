//! `top` in a build without its screen.

use std::sync::Arc;

use crate::args::TopArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::Place;

/// Says that there is none.
///
/// # Errors
///
/// Always.
pub(crate) fn top(args: TopArgs, _: &Arc<Messages>) -> Result<u8, Failure> {
    let option = Place::resolve(args.store.store)?.option();
    let message = "this `leasehold` was built without `top`";
    Err(Failure::new(exit_codes::CONFIG, message).hint(format!(
        "run `leasehold watch{option}`, or build it with `top`: `cargo install --path crates/leasehold-cli`"
    )))
}

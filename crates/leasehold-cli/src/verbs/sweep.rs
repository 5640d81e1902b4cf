//! `sweep`: deletes the records past their retention, for a table without TTL.

use std::sync::Arc;

use crate::args::SweepArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::Place;
use crate::store::url::Location;

/// Deletes what is past its retention.
///
/// # Errors
///
/// When the store is no table, or fails.
pub(crate) fn sweep(args: SweepArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let place = Place::resolve(args.store.store)?;
    let Location::DynamoDb(table) = &place.location else {
        let message = "the store is a file, which deletes its old records itself";
        return Err(Failure::new(exit_codes::USAGE, message)
            .hint("name a table with `--store dynamodb://TABLE`"));
    };
    let older_than = args.older_than.unwrap_or_default();
    let swept = place
        .runtime()?
        .block_on(place.sweep(table, older_than, args.limit))?;
    messages.note(format_args!("{swept} ({})", place.location));
    Ok(())
}

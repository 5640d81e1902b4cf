//! `init`: creates the file or table for the locks, or prints the table's definition.

use std::sync::Arc;

use crate::args::{InitArgs, Tool};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::url::{Location, Table};
use crate::store::{Place, aws};
use crate::verbs::list::print;

/// The name of a table if `--print` has none: that of the documents.
const TABLE: &str = "locks";

/// Creates the file or table, or prints the table's definition.
///
/// # Errors
///
/// When it cannot be created, has the wrong schema, or there is nothing to print.
pub(crate) fn init(args: InitArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    if let Some(tool) = args.print {
        return print_definition(tool, args.store.store, messages);
    }
    let place = Place::resolve(args.store.store)?;
    let new = place.runtime()?.block_on(place.create())?;
    let done = if new {
        "created"
    } else {
        "is there already, and fine:"
    };
    messages.note(format_args!("{done} {}", place.location));
    Ok(())
}

fn print_definition(
    tool: Tool,
    store: Option<Location>,
    messages: &Messages,
) -> Result<(), Failure> {
    let table = match store {
        Some(Location::DynamoDb(table)) => *table,
        Some(Location::Sqlite { .. }) => {
            return Err(Failure::new(
                exit_codes::USAGE,
                "--print needs a table, and the store is none",
            )
            .hint("name it with `--store dynamodb://TABLE`"));
        }
        None => {
            messages.note(format_args!(
                "printing a table named `{TABLE}`; `--store dynamodb://TABLE` names another"
            ));
            Table {
                name: TABLE.to_owned(),
                ..Table::default()
            }
        }
    };
    print(&aws::definition_for(tool, &table)?)
}

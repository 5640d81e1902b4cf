//! `init`: creates the file or table for the locks, or prints the table's definition.

use std::sync::Arc;

use crate::args::{InitArgs, Tool};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::url::{Location, Table};
use crate::store::{Place, aws};
use crate::text::quoted;
use crate::verbs::list::print;

/// The name of a table if `--print` has none: that of the documents.
const TABLE: &str = "locks";

/// Creates the file or table, or prints the table's definition.
///
/// # Errors
///
/// When it cannot be created, has the wrong schema, or there is nothing to print.
pub(crate) fn init(args: InitArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let mut store = args.store.store;
    if args.mrsc {
        store = Some(with_mrsc(store)?);
    }
    if let Some(tool) = args.print {
        return print_definition(tool, store, messages);
    }
    let place = Place::resolve(store)?;
    let new = place.runtime()?.block_on(place.create())?;
    let done = if new {
        "created"
    } else {
        "is there already, and fine:"
    };
    messages.note(format_args!("{done} {}", place.location));
    if let Location::DynamoDb(table) = &place.location
        && table.keys.is_mrsc()
    {
        messages.note(format_args!("{}", next_steps(table)));
    }
    Ok(())
}

/// The same table as one of multi-Region strong consistency.
fn with_mrsc(store: Option<Location>) -> Result<Location, Failure> {
    match store {
        Some(Location::DynamoDb(mut table)) => {
            table.keys.mrsc = Some("true".to_owned());
            Ok(Location::DynamoDb(table))
        }
        _ => Err(Failure::new(
            exit_codes::USAGE,
            "--mrsc needs a table, and the store is none",
        )
        .hint("name it with `--store dynamodb://TABLE`")),
    }
}

/// The service adds Regions to an empty table that exists, and has no way to create all at once.
fn next_steps(table: &Table) -> String {
    format!(
        "while it is empty, add two Regions, of which one may be a witness: `aws dynamodb update-table --table-name {}{} \
         --multi-region-consistency STRONG --replica-updates Create={{RegionName=REGION}} \
         --global-table-witness-updates Create={{RegionName=REGION}}`; it has no TTL: run `leasehold sweep` from time to time",
        quoted(&table.name),
        table.aws_options()
    )
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

//! `init`: makes the place for the locks, or prints what makes it.

use std::sync::Arc;

use leasehold::store::dynamodb::definition;

use crate::args::{InitArgs, Tool};
use crate::exit_codes;
use crate::failure::Failure;
use crate::location::Location;
use crate::look::print;
use crate::open::Site;
use crate::voice::Voice;

/// Creates the file or table, or prints the table's definition.
///
/// # Errors
///
/// When it cannot be made, has the wrong shape, or there is nothing to print.
pub(crate) fn init(args: InitArgs, voice: &Arc<Voice>) -> Result<(), Failure> {
    if let Some(tool) = args.print {
        return print_definition(tool, args.store.store.as_ref());
    }
    let site = Site::resolve(args.store.store)?;
    let new = site.runtime()?.block_on(site.create())?;
    let done = if new {
        "created"
    } else {
        "is there already, and fine:"
    };
    voice.note(format_args!("{done} {}", site.location));
    Ok(())
}

fn print_definition(tool: Tool, store: Option<&Location>) -> Result<(), Failure> {
    let Some(Location::DynamoDb(table)) = store else {
        return Err(Failure::new(
            exit_codes::USAGE,
            "--print is about a table, and the store is none",
        )
        .hint("name it with `--store dynamodb://TABLE`"));
    };
    let definition = definition(&table.name);
    let text = match tool {
        Tool::Cloudformation => definition.cloud_formation().to_string(),
        Tool::Terraform => definition.terraform().to_string(),
        Tool::Cdk => definition.cdk().to_string(),
    };
    print(&text)
}

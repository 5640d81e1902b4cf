//! `ls` and `show`: the status of locks, for people and for programs.
//!
//! They only read. A lock file that does not exist counts as empty, and is not created. Only the results
//! go to standard output.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Table, presets};
use leasehold::{ErrorKind, HolderInfo, Key, LockClient, LockState, Policy};

use super::shared::entry::Entry;
use super::shared::output::{self, json_line};
use crate::args::{LsArgs, ShowArgs};
use crate::failure::Failure;
use crate::messages::Messages;
use crate::store::Place;
use crate::store::url::Location;
use crate::text::duration;
use crate::text::one_line;
use crate::text::times;

/// Lists locks.
///
/// # Errors
///
/// When the store cannot be read.
pub(crate) fn ls(args: LsArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let place = Place::resolve(args.store.store.clone())?;
    let found = client(&place, messages)?;
    let there = found.is_some();
    let mut entries = match found {
        Some((runtime, client)) => runtime
            .block_on(list(&client, &args, &place.location.probe()))
            .map_err(|failure| place.explain(failure))?,
        None => Vec::new(),
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if args.json {
        return print(&json_lines(&entries)?);
    }
    if entries.is_empty() {
        if there {
            let which = match (&args.prefix, args.held) {
                (Some(prefix), _) => format!("no locks that begin with `{prefix}`"),
                (None, true) => "no held locks".to_owned(),
                (None, false) => "no locks".to_owned(),
            };
            messages.note(format_args!("{which} in {}", place.location));
        }
        return Ok(());
    }
    print(&table(&entries))
}

/// Shows one lock.
///
/// # Errors
///
/// When the store or the record cannot be read, or the name is invalid.
pub(crate) fn show(args: ShowArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let key = Key::new(&args.name)?;
    let place = Place::resolve(args.store.store)?;
    let entry = match client(&place, messages)? {
        Some((runtime, client)) => {
            let status = runtime
                .block_on(client.inspect(key.as_str()))
                .map_err(|error| place.explain(error.into()))?;
            Entry::of(&status)
        }
        None => Entry::free(key.as_str()),
    };
    if args.json {
        return print(&json_lines(&[entry])?);
    }
    print(&details(&entry, &place.location))
}

/// The client; `None` for a file that does not exist yet, which may be a typing mistake.
pub(super) fn client(
    place: &Place,
    messages: &Arc<Messages>,
) -> Result<Option<(tokio::runtime::Runtime, LockClient)>, Failure> {
    if let Some(path) = place.missing_file() {
        messages.note(format_args!(
            "no locks: the lock file `{}` does not exist yet",
            path.display()
        ));
        return Ok(None);
    }
    let runtime = place.runtime()?;
    let client = runtime.block_on(place.client(Policy::default(), messages))?;
    Ok(Some((runtime, client)))
}

async fn list(client: &LockClient, args: &LsArgs, probe: &str) -> Result<Vec<Entry>, Failure> {
    let mut lister = client.list();
    if let Some(prefix) = &args.prefix {
        lister = lister.prefix(prefix);
    }
    let wanted = |state: &LockState| match state {
        LockState::Free => args.all,
        LockState::Held(_) => true,
        _ => !args.held,
    };
    let mut entries = Vec::new();
    let mut a_lock = false;
    while let Some(page) = lister.next_page().await? {
        a_lock |= page.iter().any(Result::is_ok);
        for status in page {
            match status {
                Ok(status) if wanted(status.state()) => {
                    entries.push(Entry::of(&status));
                }
                Ok(_) => {}
                // A person must inspect it, so it is never omitted.
                Err(error) => entries.push(Entry::malformed(&error)),
            }
        }
    }
    // A table of any schema can be listed; only a read of a key checks the schema. Without permission
    // to read, the list is enough.
    if !a_lock
        && let Err(error) = client.inspect(probe).await
        && error.kind() == ErrorKind::Configuration
    {
        return Err(error.into());
    }
    Ok(entries)
}

fn json_lines(entries: &[Entry]) -> Result<String, Failure> {
    entries.iter().map(json_line).collect()
}

fn table(entries: &[Entry]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "NAME", "STATE", "HOLDER", "SINCE", "UNTIL", "WAITING", "TOKEN",
    ]);
    let or_dash =
        |text: Option<String>| text.map_or_else(|| "-".to_owned(), |text| one_line(&text));
    for entry in entries {
        let (held, done) = (entry.held.as_ref(), entry.done.as_ref());
        let since = held.and_then(HolderInfo::since);
        let until = held.map(HolderInfo::until);
        table.add_row([
            one_line(&entry.name),
            entry.state.to_owned(),
            or_dash(
                entry
                    .slot_holders()
                    .or_else(|| entry.holder.clone())
                    .or_else(|| {
                        let by = |how: &str, whom: &String| format!("- ({how}: {whom})");
                        let last = entry.last_holder.as_ref().map(|last| by("last", last));
                        last.or_else(|| Some(by("run by", entry.runner.as_ref()?)))
                    }),
            ),
            or_dash(since.or_else(|| done?.began()).map(times::relative)),
            or_dash(until.or_else(|| done?.until()).map(times::relative)),
            or_dash(entry.waiting.map(|waiting| waiting.to_string())),
            or_dash(entry.token.map(|token| token.to_string())),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

fn details(entry: &Entry, location: &Location) -> String {
    let (held, done) = (entry.held.as_ref(), entry.done.as_ref());
    let since = held.and_then(HolderInfo::since);
    let until = held.map(HolderInfo::until);
    let forgotten = done.filter(|done| done.until().is_none());
    let lease = entry
        .lease_ms
        .map(|ms| duration::show(Duration::from_millis(ms)));
    let rows = [
        ("name", Some(entry.name.clone())),
        ("state", Some(entry.state.to_owned())),
        (
            "holder",
            entry.holder.clone().filter(|_| entry.slots.is_none()),
        ),
        ("slots", entry.taken()),
        ("last", entry.last_holder.clone()),
        ("left", entry.left.clone()),
        ("run by", entry.runner.clone()),
        ("since", since.or_else(|| done?.began()).map(times::local)),
        ("done", done.map(|done| times::local(done.at()))),
        (
            "until",
            until
                .filter(|_| entry.slots.is_none())
                .or_else(|| done?.until())
                .map(times::local),
        ),
        ("until", forgotten.map(|_| "it is forgotten".to_owned())),
        ("lease", lease.filter(|_| entry.slots.is_none())),
        ("waiting", entry.waiting.map(|waiting| waiting.to_string())),
        (
            "token",
            entry
                .token
                .filter(|_| entry.slots.is_none())
                .map(|token| token.to_string()),
        ),
        ("data", entry.data.clone()),
        ("result", entry.result.clone()),
        ("forced", entry.last_force.clone()),
        ("store", Some(location.to_string())),
    ];
    let slots = entry.slots.iter().flatten();
    let slots = slots.map(|slot| {
        let token = slot
            .token
            .map_or_else(String::new, |token| format!(", token {token}"));
        let until = times::local(slot.ends);
        let holder = format!("{}{token}, until {until}", slot.holder);
        ("holder", Some(holder))
    });
    rows.into_iter()
        .chain(slots)
        .filter_map(|(name, value)| Some(format!("{name:<9}{}\n", one_line(&value?))))
        .collect()
}

/// Writes to standard output. A closed pipe is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match output::write_here(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(output::failed(&error)),
        _ => Ok(()),
    }
}

//! `watch`: a line for each change of a lock.
//!
//! It only reads. Each interval has one read of each name, or one listing of the store. So its cost is bounded;
//! what begins and ends between two reads may be missed. A store that does not answer is asked again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Done, Error, ErrorKind, HolderInfo, Key, LockClient, Policy};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::shared::entry::Entry;
use super::shared::{output, waiting};
use crate::args::WatchArgs;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::process::Signals;
use crate::store::url::Location;
use crate::store::{Place, own_failure};
use crate::text::{one_line, times};

/// The default interval.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same for all locks of a table: a scan reads all of it.
const OF_A_TABLE: Duration = Duration::from_secs(5);

/// What happened to a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    /// It has a holder, and had none.
    Held,
    /// The same grant lasts longer.
    Renewed,
    /// It has another holder.
    HandedOver,
    /// Its lease has run out without a release.
    Lost,
    /// Its work is done, or has failed and is remembered.
    Done,
    /// It has no holder.
    Free,
    /// Its record is unreadable.
    Malformed,
}

/// A change as a JSON object. Field names are stable; new ones may be added.
#[derive(Debug, Serialize)]
struct Change<'a> {
    event: Event,
    /// When it was seen.
    at: String,
    #[serde(flatten)]
    entry: &'a Entry,
}

/// Writes each change, until a signal or until nobody reads.
///
/// # Errors
///
/// When the store cannot be read, except for a time; when a name is invalid.
pub(crate) fn watch(args: WatchArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let names = args.names.iter().map(|name| Key::new(name));
    let names = names.collect::<Result<Vec<Key>, _>>()?;
    let place = Place::resolve(args.store.store)?;
    let table = names.is_empty() && matches!(place.location, Location::DynamoDb(_));
    let default = if table { OF_A_TABLE } else { INTERVAL };
    let mut signals =
        Signals::install().map_err(|error| own_failure("cannot listen to signals", &error))?;
    let runtime = place.runtime()?;
    let mut watch = Watch {
        names,
        place,
        json: args.json,
        messages,
        client: None,
        seen: BTreeMap::new(),
        troubled: false,
    };
    let forever = watch.go_on(args.interval.unwrap_or(default));
    let ended = runtime.block_on(waiting::or_signal(&mut signals, messages, forever));
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    // A signal is the usual end.
    ended.unwrap_or(Ok(()))
}

struct Watch<'a> {
    names: Vec<Key>,
    place: Place,
    json: bool,
    messages: &'a Arc<Messages>,
    /// `None` until the lock file exists.
    client: Option<LockClient>,
    seen: BTreeMap<String, Entry>,
    /// Whether the store has failed since the last message about it.
    troubled: bool,
}

impl Watch<'_> {
    async fn go_on(&mut self, interval: Duration) -> Result<(), Failure> {
        let mut due = SystemClock.elapsed();
        let mut first = true;
        loop {
            match self.read().await {
                Ok(now) => {
                    self.recovered();
                    let text = self.changes(now, first)?;
                    first = false;
                    match output::write(text).await {
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                        written => written.map_err(|error| output::failed(&error))?,
                    }
                }
                Err(Trouble::Passing(error)) => self.troubled_by(&error),
                Err(Trouble::Fatal(failure)) => return Err(failure),
            }
            if nobody_reads() {
                return Ok(());
            }
            // From now on, where the reads took longer than the interval.
            due = due.plus(interval).max(SystemClock.elapsed());
            SystemClock.sleep_until(due).await;
        }
    }

    /// The locks as they are now. A free one of an unnamed lock may be missing.
    async fn read(&mut self) -> Result<Vec<Entry>, Trouble> {
        if self.client.is_none() && self.place.missing_file().is_none() {
            let client = self.place.client(Policy::default(), self.messages).await;
            self.client = Some(client.map_err(Trouble::Fatal)?);
        }
        let Some(client) = &self.client else {
            return Ok(self
                .names
                .iter()
                .map(|key| Entry::free(key.as_str()))
                .collect());
        };
        let mut entries = Vec::new();
        let mut take = |status: Result<leasehold::LockStatus, Error>| match status {
            Ok(status) => {
                entries.push(Entry::of(&status));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Malformed => {
                entries.push(Entry::malformed(&error));
                Ok(())
            }
            Err(error) => Err(Trouble::of(error, &self.place)),
        };
        for key in &self.names {
            take(client.inspect(key.as_str()).await)?;
        }
        if self.names.is_empty() {
            let mut lister = client.list();
            let pages = lister.read_all().await;
            for status in pages.map_err(|error| Trouble::of(error, &self.place))? {
                take(status)?;
            }
        }
        Ok(entries)
    }

    /// A line for each change since the last read.
    fn changes(&mut self, now: Vec<Entry>, first: bool) -> Result<String, Failure> {
        let mut gone = std::mem::take(&mut self.seen);
        let mut text = String::new();
        for entry in now {
            let before = gone.remove(&entry.name);
            let event = match &before {
                // A free lock that nobody has asked for is no news.
                None if entry.state == "free" && first && self.names.is_empty() => None,
                before => event(before.as_ref(), &entry),
            };
            if let Some(event) = event {
                text.push_str(&self.line(event, &entry)?);
            }
            self.seen.insert(entry.name.clone(), entry);
        }
        for (name, before) in gone {
            if before.state != "free" {
                text.push_str(&self.line(Event::Free, &Entry::free(&name))?);
            }
        }
        Ok(text)
    }

    fn line(&self, event: Event, entry: &Entry) -> Result<String, Failure> {
        let now = std::time::UNIX_EPOCH
            + Duration::from_millis(SystemClock.wall_unix_ms().unsigned_abs());
        if self.json {
            return output::json_line(&Change {
                event,
                at: times::utc(now),
                entry,
            });
        }
        Ok(format!(
            "{}  {}  {}\n",
            times::clock(now),
            one_line(&entry.name),
            one_line(&words(event, entry))
        ))
    }

    fn troubled_by(&mut self, failure: &Failure) {
        if !self.troubled {
            self.messages.note(format_args!(
                "{}, trying again until it answers",
                failure.message
            ));
        }
        self.troubled = true;
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.troubled) {
            self.messages
                .note(format_args!("{} answers again", self.place.location));
        }
    }
}

/// Why a read failed.
enum Trouble {
    /// The store may answer later.
    Passing(Failure),
    Fatal(Failure),
}

impl Trouble {
    fn of(error: Error, place: &Place) -> Trouble {
        let passes = matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Throttled);
        let failure = place.explain(error.into());
        match passes {
            true => Trouble::Passing(failure),
            false => Trouble::Fatal(failure),
        }
    }
}

/// What has happened between two reads.
fn event(before: Option<&Entry>, now: &Entry) -> Option<Event> {
    let was = before.map(|before| before.state);
    let same = before.is_some_and(|before| before.token == now.token);
    Some(match (was, now.state) {
        (Some("held"), "held") if !same => Event::HandedOver,
        (Some("held"), "held") if told(before?) == told(now) => return None,
        (Some("held" | "expired"), "held") if same => Event::Renewed,
        (_, "held") => Event::Held,
        (Some("done" | "failed"), "done" | "failed") if same => return None,
        (_, "done" | "failed") => Event::Done,
        (Some("expired"), "expired") if same => return None,
        (_, "expired") => Event::Lost,
        // A grant that began and ended between the two.
        (Some("free"), "free") if before?.last_token == now.last_token => return None,
        (_, "free") => Event::Free,
        (Some("malformed"), _) => return None,
        _ => Event::Malformed,
    })
}

/// What a held lock says of its grant. One that was handed over has its label and data with its first renewal.
fn told(entry: &Entry) -> (&Option<String>, &Option<String>, &Option<String>) {
    (&entry.until, &entry.holder, &entry.data)
}

fn words(event: Event, entry: &Entry) -> String {
    let who = entry.holder.as_deref().unwrap_or("unknown");
    let token = entry
        .token
        .map_or_else(String::new, |t| format!(", token {t}"));
    let left = entry.held.as_ref().map_or_else(String::new, |held| {
        format!(", until {}", times::relative(HolderInfo::until(held)))
    });
    let data = entry
        .data
        .as_ref()
        .map_or_else(String::new, |data| format!(", data {data}"));
    match event {
        Event::Held => format!("held by {who}{token}{left}{data}"),
        Event::Renewed => format!("renewed by {who}{left}{data}"),
        Event::HandedOver => format!("handed over to {who}{token}{left}{data}"),
        Event::Lost => format!("lost by {who}{token}: its lease has run out"),
        Event::Done => {
            let runner = entry.runner.as_deref().unwrap_or("unknown");
            let until = entry.done.as_ref().and_then(Done::until);
            let until = until.map_or_else(String::new, |until| {
                format!(", remembered until {}", times::relative(until))
            });
            format!("{}, run by {runner}{token}{until}", entry.state)
        }
        Event::Free => match &entry.last_holder {
            Some(last) => format!("free, after {last}"),
            None => "free".to_owned(),
        },
        Event::Malformed => {
            format!("malformed: {}", entry.error.as_deref().unwrap_or_default())
        }
    }
}

/// Whether standard output is a pipe whose reader has gone. Without changes, no write would show it.
fn nobody_reads() -> bool {
    let stdout = io::stdout();
    let mut pipe = [PollFd::new(&stdout, PollFlags::empty())];
    let asked = poll(&mut pipe, Some(&Timespec::default()));
    asked.is_ok() && pipe[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: &'static str, token: u64, until: &str) -> Entry {
        let held = state != "free";
        let mut entry = Entry::free("job");
        entry.state = state;
        entry.token = held.then_some(token);
        entry.until = held.then(|| until.to_owned());
        entry.last_token = (!held).then_some(token);
        entry
    }

    #[test]
    fn each_change_has_its_event() {
        let (free, held) = (entry("free", 1, ""), entry("held", 2, "a"));
        let lost = entry("expired", 2, "a");
        let mut with_data = entry("held", 2, "a");
        with_data.data = Some("10.0.0.1:80".to_owned());
        for (before, now, expected) in [
            (None, &free, Some(Event::Free)),
            (None, &held, Some(Event::Held)),
            (None, &lost, Some(Event::Lost)),
            (Some(&free), &free, None),
            (Some(&free), &held, Some(Event::Held)),
            (Some(&held), &held, None),
            (Some(&held), &entry("held", 2, "b"), Some(Event::Renewed)),
            (Some(&held), &with_data, Some(Event::Renewed)),
            (Some(&with_data), &with_data, None),
            (Some(&held), &entry("held", 3, "b"), Some(Event::HandedOver)),
            (Some(&held), &entry("free", 2, ""), Some(Event::Free)),
            (Some(&held), &lost, Some(Event::Lost)),
            (Some(&lost), &lost, None),
            (Some(&lost), &entry("expired", 3, "b"), Some(Event::Lost)),
            // It was late, and nobody had taken the lock.
            (Some(&lost), &entry("held", 2, "b"), Some(Event::Renewed)),
            (Some(&lost), &entry("held", 3, "b"), Some(Event::Held)),
            (Some(&lost), &free, Some(Event::Free)),
            (Some(&held), &entry("done", 2, "c"), Some(Event::Done)),
            (None, &entry("failed", 2, "c"), Some(Event::Done)),
            (Some(&entry("done", 2, "c")), &entry("done", 2, "c"), None),
            (
                Some(&entry("done", 2, "c")),
                &entry("done", 3, "d"),
                Some(Event::Done),
            ),
            (
                Some(&entry("done", 2, "c")),
                &entry("held", 3, "a"),
                Some(Event::Held),
            ),
            (Some(&entry("done", 2, "c")), &free, Some(Event::Free)),
            // Too short to be seen.
            (Some(&free), &entry("free", 2, ""), Some(Event::Free)),
        ] {
            assert_eq!(event(before, now), expected, "{before:?} {now:?}");
        }
    }
}

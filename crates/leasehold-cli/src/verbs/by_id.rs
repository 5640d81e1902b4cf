//! `renew` and `release`: a grant is kept or ended by its id, from any process and host.
//!
//! Invariant: a stale id changes nothing, and the message says who holds the lock now.

use std::sync::Arc;

use leasehold::{EndReason, HolderInfo, Key, LeaseId, LockClient, ReleaseOutcome, RenewOutcome};
use tokio::runtime::Runtime;

use super::list::{client, print};
use super::shared::id_file::{self, Contents};
use super::shared::output::Grant;
use super::shared::waiting;
use crate::args::{IdArg, ReleaseArgs, RenewArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::Keys;
use crate::store::Place;
use crate::store::url::Location;
use crate::text::quoted;

/// Renews a grant, and writes until when it lasts; of several locks, each of them.
///
/// # Errors
///
/// 76 for a stale id; when the store fails; and for invalid arguments.
pub(crate) fn renew(args: RenewArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let keys = Keys::new(&args.name, &args.keys)?;
    let ids = given(&args.id, &keys, "renew")?;
    if ids.is_empty() {
        let message = format!("there is no id of `{keys}` in the id file");
        return Err(Failure::new(exit_codes::USAGE, message)
            .hint("acquire the lock first: `leasehold acquire NAME --id-file FILE`"));
    }
    for_each(ids, args.store.store, messages, |work, id| {
        let (client, ended) = (work.client, work.ended(id));
        let renewed = work.runtime.block_on(client.renew(id, args.lease));
        match renewed.map_err(|error| failed(work.place, error, id.key()))? {
            RenewOutcome::Renewed(held) => {
                let lease = held.lease_duration().unwrap_or_default();
                print(&Grant::new(id.key(), id.token(), held.until(), lease).line()?)
            }
            RenewOutcome::Ended(why) => Err(ended.why(&why)),
            _ => Err(ended.unknown()),
        }
    })
}

/// Ends a grant, or those of several locks. It succeeds as often as it is repeated.
///
/// # Errors
///
/// As [`renew`].
pub(crate) fn release(args: ReleaseArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let keys = Keys::new(&args.name, &args.keys)?;
    let ids = given(&args.id, &keys, "release")?;
    if ids.is_empty() {
        // The file appears with the lock. Without it nothing was acquired.
        let path = args.id.id_file.unwrap_or_default();
        messages.note(format_args!(
            "nothing to release: there is no id in `{}`, so `{keys}` was not acquired with it",
            path.display()
        ));
        return Ok(());
    }
    for_each(ids, args.store.store, messages, |work, id| {
        let (client, key, ended) = (work.client, id.key(), work.ended(id));
        let released = work.runtime.block_on(client.release(id));
        match released.map_err(|error| failed(work.place, error, key))? {
            outcome if outcome.is_released() => {
                messages.detail(format_args!("released `{key}`"));
                Ok(())
            }
            ReleaseOutcome::AlreadyReleased => {
                messages.note(format_args!(
                    "`{key}` was released before by this id ({})",
                    client.describe_store()
                ));
                Ok(())
            }
            ReleaseOutcome::TakenOver(held) => Err(ended.taken_over(&held)),
            ReleaseOutcome::Superseded => Err(ended.superseded()),
            ReleaseOutcome::NoRecord => Err(ended.nowhere()),
            _ => Err(ended.unknown()),
        }
    })
}

/// What the work on an id has at hand.
struct Work<'a> {
    runtime: &'a Runtime,
    client: &'a LockClient,
    place: &'a Place,
}

impl Work<'_> {
    fn ended<'a>(&'a self, id: &'a LeaseId) -> Ended<'a> {
        Ended {
            key: id.key(),
            place: self.place,
        }
    }
}

/// Does `work` for each id, also after a failure. The first failure is returned, and the others are written.
fn for_each(
    ids: Vec<LeaseId>,
    store: Option<Location>,
    messages: &Arc<Messages>,
    work: impl Fn(&Work<'_>, &LeaseId) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let place = Place::resolve(store)?;
    let Some((runtime, client)) = client(&place, messages)? else {
        let key = ids[0].key();
        return Err(Ended { key, place: &place }.nowhere());
    };
    let at_hand = Work {
        runtime: &runtime,
        client: &client,
        place: &place,
    };
    let mut first = Ok(());
    for id in &ids {
        match (work(&at_hand, id), &first) {
            (Ok(()), _) => {}
            (failed, Ok(())) => first = failed,
            (Err(failure), Err(_)) => messages.failure(&failure),
        }
    }
    first
}

fn failed(place: &Place, error: leasehold::Error, key: &Key) -> Failure {
    place.explain(error.into()).about(key.as_str())
}

/// The ids of the arguments, one for each lock; none for a file that does not exist or is empty.
fn given(arg: &IdArg, keys: &Keys, verb: &str) -> Result<Vec<LeaseId>, Failure> {
    let usage = |message: String| Failure::new(exit_codes::USAGE, message);
    let ids = match &arg.id_file {
        None => arg.ids.clone(),
        Some(path) => {
            let at = path.display();
            match id_file::read_all(path, keys) {
                Ok(Contents::Nothing) => return Ok(Vec::new()),
                Ok(Contents::Ids(ids)) => ids,
                Ok(Contents::Other) => {
                    return Err(usage(format!("`{at}` has something else than an id"))
                        .hint("name the file of `leasehold acquire --id-file`"));
                }
                Err(error) => {
                    return Err(usage(format!("cannot read the id in `{at}`: {error}"))
                        .hint("name the file of `leasehold acquire --id-file`"));
                }
            }
        }
    };
    if let Some(other) = ids.iter().find(|id| !keys.all.contains(id.key())) {
        let other = other.key();
        return Err(
            usage(format!("the id is of the lock `{other}`, not of `{keys}`")).hint(format!(
                "name that one: `leasehold {verb} {} …`",
                quoted(other.as_str())
            )),
        );
    }
    for key in &keys.all {
        let count = ids.iter().filter(|id| id.key() == key).count();
        if count != 1 {
            let message = format!("there are {count} ids of `{key}`, and not one");
            return Err(usage(message).hint("give each lock its id: repeat `--key` and `--id`"));
        }
    }
    Ok(ids)
}

/// The failures of a grant that has ended.
struct Ended<'a> {
    key: &'a Key,
    place: &'a Place,
}

impl Ended<'_> {
    fn why(&self, why: &EndReason) -> Failure {
        match why {
            EndReason::TakenOver(held) => self.taken_over(held),
            EndReason::Superseded => self.superseded(),
            EndReason::NoRecord => self.nowhere(),
            _ => self
                .stale(format_args!("`{}` was released by it", self.key))
                .hint(format!(
                    "acquire it again: `leasehold acquire {}{}`",
                    quoted(self.key.as_str()),
                    self.place.option()
                )),
        }
    }

    fn taken_over(&self, held: &HolderInfo) -> Failure {
        let token = held
            .token()
            .map_or_else(String::new, |token| format!(", with token {token}"));
        self.stale(format_args!("{}{token}", waiting::holder(held)))
    }

    fn superseded(&self) -> Failure {
        self.stale(format_args!(
            "another has taken `{}` over and released it since, or has ended it by force",
            self.key
        ))
    }

    fn nowhere(&self) -> Failure {
        let (key, store) = (self.key, &self.place.location);
        let message =
            format!("unknown id, nothing was changed: there is no record of `{key}` in {store}");
        Failure::new(exit_codes::LOST, message).hint(
            "check `--store` and LEASEHOLD_STORE: the lock was acquired in another store, or ended long ago",
        )
    }

    fn unknown(&self) -> Failure {
        self.stale(format_args!("`{}` has ended", self.key))
    }

    fn stale(&self, now: std::fmt::Arguments<'_>) -> Failure {
        let message = format!(
            "stale id, nothing was changed: {now} ({})",
            self.place.location
        );
        Failure::new(exit_codes::LOST, message).hint(format!(
            "check what was done since it ended: `leasehold show {}{}`; a longer `--lease` lasts longer",
            quoted(self.key.as_str()),
            self.place.option()
        ))
    }
}

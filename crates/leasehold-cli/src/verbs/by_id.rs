//! `renew` and `release`: a grant is kept or ended by its id, from any process and host.
//!
//! Invariant: a stale id changes nothing, and the message says who holds the lock now.

use std::sync::Arc;

use leasehold::{EndReason, HolderInfo, Key, LeaseId, ReleaseOutcome, RenewOutcome};

use super::list::{client, print};
use super::shared::id_file::{self, Contents};
use super::shared::output::Grant;
use super::shared::waiting;
use crate::args::{IdArg, ReleaseArgs, RenewArgs};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::LockPlan;
use crate::store::Place;
use crate::text::quoted;

/// Renews a grant, and writes until when it lasts.
///
/// # Errors
///
/// 76 for a stale id; when the store fails; and for invalid arguments.
pub(crate) fn renew(args: RenewArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let key = LockPlan::key(&args.name)?;
    let Some(id) = given(&args.id, &key, "renew")? else {
        let message = format!("there is no id of `{key}` in the id file");
        return Err(Failure::new(exit_codes::USAGE, message)
            .hint("acquire the lock first: `leasehold acquire NAME --id-file FILE`"));
    };
    let place = Place::resolve(args.store.store)?;
    let ended = Ended {
        key: &key,
        place: &place,
    };
    let Some((runtime, client)) = client(&place, messages)? else {
        return Err(ended.nowhere());
    };
    let renewed = runtime.block_on(client.renew(&id, args.lease));
    match renewed.map_err(|error| failed(&place, error, &key))? {
        RenewOutcome::Renewed(held) => {
            let lease = held.lease_duration().unwrap_or_default();
            print(&Grant::new(&key, id.token(), held.until(), lease).line()?)
        }
        RenewOutcome::Ended(why) => Err(ended.why(&why)),
        _ => Err(ended.unknown()),
    }
}

/// Ends a grant. It succeeds as often as it is repeated.
///
/// # Errors
///
/// As [`renew`].
pub(crate) fn release(args: ReleaseArgs, messages: &Arc<Messages>) -> Result<(), Failure> {
    let key = LockPlan::key(&args.name)?;
    let Some(id) = given(&args.id, &key, "release")? else {
        // The file appears with the lock. Without it nothing was acquired.
        let path = args.id.id_file.unwrap_or_default();
        messages.note(format_args!(
            "nothing to release: there is no id in `{}`, so `{key}` was not acquired with it",
            path.display()
        ));
        return Ok(());
    };
    let place = Place::resolve(args.store.store)?;
    let ended = Ended {
        key: &key,
        place: &place,
    };
    let Some((runtime, client)) = client(&place, messages)? else {
        return Err(ended.nowhere());
    };
    let released = runtime.block_on(client.release(&id));
    match released.map_err(|error| failed(&place, error, &key))? {
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
}

fn failed(place: &Place, error: leasehold::Error, key: &Key) -> Failure {
    place.explain(error.into()).about(key.as_str())
}

/// The id of the arguments; `None` for a file that does not exist or is empty.
fn given(arg: &IdArg, key: &Key, verb: &str) -> Result<Option<LeaseId>, Failure> {
    let usage = |message: String| Failure::new(exit_codes::USAGE, message);
    let id = match (&arg.id, &arg.id_file) {
        (Some(id), _) => id.clone(),
        (None, Some(path)) => {
            let at = path.display();
            match id_file::read(path) {
                Ok(Contents::Nothing) => return Ok(None),
                Ok(Contents::Id(id)) => id,
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
        // Clap asks for one of them.
        (None, None) => return Ok(None),
    };
    if id.key() == key {
        return Ok(Some(id));
    }
    let other = id.key();
    Err(
        usage(format!("the id is of the lock `{other}`, not of `{key}`")).hint(format!(
            "name that one: `leasehold {verb} {} …`",
            quoted(other.as_str())
        )),
    )
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
            "another has ended the grant of `{}` by force, or has taken it over and released it",
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

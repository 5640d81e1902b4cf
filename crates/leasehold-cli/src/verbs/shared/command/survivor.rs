//! The guardian's part after the worker was killed: the release of each lock, or of the place in its queue.
//!
//! The lock may be released only when no process of the command is left. Each write names the worker's attempt, so it
//! cannot end another grant.

use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::protocol::{AttemptId, Record, Write};
use leasehold::store::{Consistency, Store};
use leasehold::{Key, LeaseId, LockClient};

use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::Keys;
use crate::process::Survivor;
use crate::store::Place;
use crate::store::url::Location;

/// How long the release may take, with the credentials of a table. Later the lease expires.
const RELEASE: Duration = Duration::from_secs(5);

/// The locks of the killed worker.
pub(crate) struct Left<'a> {
    pub(crate) name: &'a str,
    pub(crate) more: &'a [String],
    pub(crate) store: Option<Location>,
    /// Whether the lock is kept until its lease has run out: when it was acquired is not known here.
    pub(crate) keep: bool,
}

/// What became of them.
pub(crate) struct GivenBack {
    /// The exit code: 128 + the signal.
    pub(crate) code: u8,
    /// Each of them, sorted by its name.
    pub(crate) locks: Vec<Returned>,
}

/// What became of one of them.
pub(crate) struct Returned {
    pub(crate) key: Key,
    pub(crate) token: Option<u64>,
    pub(crate) release: Option<String>,
}

/// Releases the locks of the killed worker, and says so.
pub(crate) fn survived(left: Left<'_>, survivor: &Survivor, messages: &Arc<Messages>) -> GivenBack {
    let code = survivor.status.exit_code();
    // The worker has refused other names.
    let keys = Keys::new(left.name, left.more).map_or_else(|_| Vec::new(), |keys| keys.all);
    let attempts = survivor.sent.split(',').map(|sent| sent.parse().ok());
    let wanted: Vec<Wanted> = keys
        .into_iter()
        .zip(attempts.chain(std::iter::repeat(None)))
        .map(|(key, attempt)| Wanted { key, attempt })
        .collect();
    let backs = withdraw_all(&wanted, left, survivor.alone, messages);
    let (mut then, mut locks) = (Vec::new(), Vec::new());
    for (Wanted { key, .. }, back) in wanted.into_iter().zip(backs) {
        let (token, release, what) = match back {
            Ok(back) => {
                let release = back.token.map(|_| "released".to_owned());
                (back.token, release, back.then.to_owned())
            }
            Err(failure) => {
                let then = format!("the lease expires by itself: {}", failure.message);
                (None, Some(then.clone()), then)
            }
        };
        then.push(format!("`{key}`: {what}"));
        locks.push(Returned {
            key,
            token,
            release,
        });
    }
    messages.failure(&Failure::new(
        code,
        format!(
            "leasehold was killed (exit code {code}), and its command with it: {}",
            then.join("; ")
        ),
    ));
    GivenBack { code, locks }
}

/// A lock, and the attempt at it that the worker has announced last.
struct Wanted {
    key: Key,
    /// `None`: it has sent no request for it.
    attempt: Option<AttemptId>,
}

/// Ends what the attempts have in the records.
fn withdraw_all(
    wanted: &[Wanted],
    left: Left<'_>,
    alone: bool,
    messages: &Arc<Messages>,
) -> Vec<Result<Back, Failure>> {
    let nothing = wanted.iter().all(|wanted| wanted.attempt.is_none());
    let store = match alone || nothing {
        true => Ok(()),
        false => Err(Failure::new(
            exit_codes::OWN_FAILURE,
            "KILL may not have ended all processes of its command",
        )),
    };
    let store = store.and_then(|()| match nothing {
        true => Ok(Vec::new()),
        false => withdraw(wanted, left, messages),
    });
    match store {
        Ok(backs) if backs.len() == wanted.len() => backs,
        Ok(_) => wanted.iter().map(|_| Ok(Back::NOTHING)).collect(),
        Err(failure) => wanted
            .iter()
            .map(|wanted| match wanted.attempt {
                Some(_) => Err(failure.clone()),
                None => Ok(Back::NOTHING),
            })
            .collect(),
    }
}

/// What the attempt of the worker had in the record.
struct Back {
    token: Option<u64>,
    then: &'static str,
}

impl Back {
    const NOTHING: Self = Self {
        token: None,
        then: "did not have the lock",
    };
}

fn withdraw(
    wanted: &[Wanted],
    left: Left<'_>,
    messages: &Arc<Messages>,
) -> Result<Vec<Result<Back, Failure>>, Failure> {
    let place = Place::resolve(left.store)?;
    // Its opening would create a new one.
    if let Some(path) = place.missing_file() {
        let message = format!("the lock file `{}` does not exist any more", path.display());
        return Err(Failure::new(exit_codes::UNAVAILABLE, message));
    }
    let runtime = place.runtime()?;
    let mut backs = Vec::new();
    let done = runtime.block_on(async {
        let give_up = SystemClock.elapsed().plus(RELEASE);
        let all = async {
            let store = place.store(messages).await?;
            for Wanted { key, attempt } in wanted {
                backs.push(match attempt {
                    Some(attempt) => give_back(store.clone(), key, *attempt, left.keep).await,
                    None => Ok(Back::NOTHING),
                });
            }
            Ok(())
        };
        let late = || Failure::new(exit_codes::UNAVAILABLE, "the store has not answered");
        tokio::select! {
            done = all => done,
            () = SystemClock.sleep_until(give_up) => Err(late()),
        }
    });
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    // What was released before the bound is released.
    match done {
        Err(failure) if backs.is_empty() => Err(failure),
        Err(failure) => {
            backs.resize_with(wanted.len(), || Err(failure.clone()));
            Ok(backs)
        }
        Ok(()) => Ok(backs),
    }
}

/// Ends what the attempt has in the record.
async fn give_back(
    store: Arc<dyn Store>,
    key: &str,
    attempt: AttemptId,
    keep: bool,
) -> Result<Back, Failure> {
    let record = store.read(key, Consistency::Strong).await?.value;
    if let Some(id) = record
        .as_ref()
        .and_then(|record| held_by(record, key, attempt))
    {
        if keep {
            let why = "--hold-at-least keeps the lock";
            return Err(Failure::new(exit_codes::OWN_FAILURE, why));
        }
        LockClient::builder(store).build().release(&id).await?;
        return Ok(Back {
            token: Some(id.token().get()),
            then: "the lock is released",
        });
    }
    let recorded = record.as_ref();
    if let Some(record) = recorded.filter(|record| attempt.when_done().owns(record)) {
        return Ok(Back {
            token: record.token(),
            then: "its run is recorded",
        });
    }
    let mut queue = record.iter().flat_map(|record| &record.queue).enumerate();
    if let Some((index, place)) = queue.find(|(_, place)| place.attempt() == attempt) {
        let leave = Write::Leave {
            key: key.into(),
            place: *place,
            index,
        };
        store.write(leave).await?;
        return Ok(Back {
            token: None,
            then: "its place in the queue is free",
        });
    }
    Ok(Back::NOTHING)
}

/// The identity of the grant in the record, if it is the attempt's.
fn held_by(record: &Record, key: &str, attempt: AttemptId) -> Option<LeaseId> {
    if let Some(slot) = record.slot_of(attempt) {
        return format!("1:{attempt}:{}:0s:{key}", slot.token).parse().ok();
    }
    let token = record.token()?;
    let owner = record.owner.as_ref()?;
    if *owner != attempt.to_string() {
        return None;
    }
    format!("1:{attempt}:{token}:0:{key}").parse().ok()
}

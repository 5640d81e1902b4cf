//! The guardian's part after the worker was killed: the release of the lock, or of the place in its queue.
//!
//! The lock may be released only when no process of the command is left. Each write names the worker's attempt, so it
//! cannot end another grant.

use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::store::protocol::{AttemptId, Record, Write};
use leasehold::store::{Consistency, Store};
use leasehold::{LeaseId, LockClient};

use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::process::Survivor;
use crate::store::Place;
use crate::store::url::Location;

/// How long the release may take, with the credentials of a table. Later the lease expires.
const RELEASE: Duration = Duration::from_secs(5);

/// The lock of the killed worker.
pub(crate) struct Left<'a> {
    pub(crate) name: &'a str,
    pub(crate) store: Option<Location>,
    /// Whether the lock is kept until its lease has run out: when it was acquired is not known here.
    pub(crate) keep: bool,
}

/// What became of it.
pub(crate) struct GivenBack {
    /// The exit code: 128 + the signal.
    pub(crate) code: u8,
    pub(crate) token: Option<u64>,
    pub(crate) release: Option<String>,
}

/// Releases the lock of the killed worker, and says so.
pub(crate) fn survived(left: Left<'_>, survivor: &Survivor, messages: &Arc<Messages>) -> GivenBack {
    let code = survivor.status.exit_code();
    let name = left.name;
    let back = match survivor.sent.parse::<AttemptId>() {
        // It has sent no request.
        Err(_) => Ok(Back::NOTHING),
        Ok(_) if !survivor.alone => Err(Failure::new(
            exit_codes::OWN_FAILURE,
            "KILL may not have ended all processes of its command",
        )),
        Ok(attempt) => withdraw(left, attempt, messages),
    };
    let (token, release, then) = match back {
        Ok(back) => {
            let release = back.token.map(|_| "released".to_owned());
            (back.token, release, back.then.to_owned())
        }
        Err(failure) => {
            let then = format!("the lease expires by itself: {}", failure.message);
            (None, Some(then.clone()), then)
        }
    };
    messages.failure(&Failure::new(
        code,
        format!(
            "leasehold was killed (exit code {code}), and its command with it: `{name}`: {then}"
        ),
    ));
    GivenBack {
        code,
        token,
        release,
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

fn withdraw(left: Left<'_>, attempt: AttemptId, messages: &Arc<Messages>) -> Result<Back, Failure> {
    let place = Place::resolve(left.store)?;
    // Its opening would create a new one.
    if let Some(path) = place.missing_file() {
        let message = format!("the lock file `{}` does not exist any more", path.display());
        return Err(Failure::new(exit_codes::UNAVAILABLE, message));
    }
    let runtime = place.runtime()?;
    let done = runtime.block_on(async {
        let give_up = SystemClock.elapsed().plus(RELEASE);
        let store = async {
            let store = place.store(messages).await?;
            give_back(store, left.name, attempt, left.keep).await
        };
        tokio::select! {
            done = store => done,
            () = SystemClock.sleep_until(give_up) => {
                Err(Failure::new(exit_codes::UNAVAILABLE, "the store has not answered"))
            }
        }
    });
    // Not dropped: the drop would wait for a name lookup.
    runtime.shutdown_background();
    done
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
    let token = record.token()?;
    let owner = record.owner.as_ref()?;
    if *owner != attempt.to_string() {
        return None;
    }
    format!("1:{attempt}:{token}:0:{key}").parse().ok()
}

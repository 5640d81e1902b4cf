//! `acquire`: takes a lock and returns. Its lease lives on without a process, and its id keeps or ends it.
//!
//! Invariant: an exit code other than 0 leaves no lock that its caller does not know of. What cannot be written, or was
//! interrupted, is released again; where that fails, a message says until when the lock is held.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Error, Lease, LeaseId};

use super::shared::alone::{self, Held};
use super::shared::output::{self, Grant};
use super::shared::{id_file, release, waiting, who};
use crate::args::{AcquireArgs, Output};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::LockPlan;
use crate::process::in_thread;
use crate::store::{Place, own_failure};
use crate::text::{duration, times};

/// The default lease. No process renews it, and a step of a pipeline takes minutes.
const LEASE: Duration = Duration::from_secs(300);

/// How long standard output, the id file and a renewal may take. The lock is held meanwhile.
const WRITE: Duration = Duration::from_secs(10);

/// A grant with nine tenths of its lease left is written as it is. Another one is renewed first.
const FRESH: f64 = 0.9;

/// Carries out the verb, and returns the exit code.
pub(crate) fn acquire(args: AcquireArgs, messages: &Arc<Messages>) -> u8 {
    let name = args.name.clone();
    taken(args, messages).unwrap_or_else(|failure| {
        let failure = failure.about(&name);
        messages.failure(&failure);
        failure.code
    })
}

fn taken(mut args: AcquireArgs, messages: &Arc<Messages>) -> Result<u8, Failure> {
    if args.id_file.is_some() && args.output == Output::Id {
        let message = "--output id and --id-file are two places for the id";
        return Err(Failure::new(exit_codes::USAGE, message).hint("omit one of the two"));
    }
    let key = LockPlan::key(&args.name)?;
    let place = Place::resolve(args.store.store)?;
    args.lock.label.get_or_insert_with(who::am_i);
    let plan = LockPlan::without_command(key, place, args.lock, args.wait, LEASE, |policy| {
        // It outlives this process.
        policy.bound_to_process(false)
    })?;
    let to = To {
        output: args.output,
        id_file: args.id_file,
    };
    if let Some(path) = &to.id_file {
        id_file::check(path, &plan.key)?;
    }
    alone::under_lock(&plan, messages, async |mut held, lease| {
        let id = lease.id().clone();
        match to.hand_out(&mut held, lease).await {
            Ok(()) => Ok(0),
            Err(Problem::Signal(code)) => {
                to.take_back(&mut held, &id).await;
                Ok(code)
            }
            Err(Problem::Failed(failure)) => {
                let told = to.take_back(&mut held, &id).await;
                Err(Failure {
                    message: format!("{}; {told}", failure.message),
                    ..failure
                })
            }
        }
    })
}

/// Where the grant goes.
struct To {
    output: Output,
    id_file: Option<PathBuf>,
}

/// Why the grant does not reach its caller.
enum Problem {
    Signal(u8),
    Failed(Failure),
}

impl To {
    async fn hand_out(&self, held: &mut Held<'_>, lease: Lease) -> Result<(), Problem> {
        let (plan, until) = (held.plan, lease.until());
        let (id, token) = (lease.id().clone(), lease.token());
        let failed = |error: Error| Problem::Failed(plan.place.explain(error.into()));
        let until = within(held, Late::Store, async {
            let whole = plan.policy.lease_duration().mul_f64(FRESH);
            // A grant that was handed over is a short one.
            let until = if lease.remaining() + plan.policy.safety_margin() < whole {
                lease.renew().await?;
                lease.until()
            } else {
                until
            };
            lease.detach().await?;
            Ok(until)
        })
        .await?
        .map_err(failed)?;

        let mut grant = Grant::new(&plan.key, token, until, plan.policy.lease_duration());
        if let Some(path) = &self.id_file {
            let (to, id) = (path.clone(), id.clone());
            let written = in_thread("id file", move || id_file::write(&to, &id));
            let written = async { written.await.unwrap_or_else(Err) };
            let written = within(held, Late::IdFile, written).await?;
            written.map_err(|error| {
                let what = format!("cannot write the id to `{}`", path.display());
                let failure = own_failure(&what, &error).hint("give `--id-file` another file");
                Problem::Failed(failure)
            })?;
        } else {
            grant = grant.with_id(&id);
        }
        let text = match self.output {
            Output::Json => grant.line().map_err(Problem::Failed)?,
            Output::Id => format!("{id}\n"),
            Output::Token => format!("{token}\n"),
        };
        let written = within(held, Late::Output, output::write(text)).await?;
        written.map_err(|error| Problem::Failed(output::failed(&error)))?;
        if held.messages.has_line() && self.output != Output::Json {
            let until = times::local(until);
            held.messages
                .note(format_args!("acquired `{}` until {until}", plan.key));
        }
        Ok(())
    }

    /// Releases the grant again, and returns what became of it.
    async fn take_back(&self, held: &mut Held<'_>, id: &LeaseId) -> String {
        let (plan, client) = (held.plan, held.client);
        let released = release::patiently(held.signals, held.messages, client.release(id)).await;
        let lease = duration::show(plan.policy.lease_duration());
        match released {
            Some(Ok(_)) => {
                // Its id is of no use any more.
                if let Some(path) = &self.id_file
                    && matches!(id_file::read(path), Ok(id_file::Contents::Id(old)) if old == *id)
                {
                    let _removed = std::fs::remove_file(path);
                }
                format!("`{}` is released again", plan.key)
            }
            Some(Err(_)) | None => {
                let store = client.describe_store();
                let told = format!(
                    "{store} has not confirmed the release of `{}`: its lease expires within {lease}",
                    plan.key
                );
                held.messages.note(&told);
                told
            }
        }
    }
}

/// What takes too long.
enum Late {
    Store,
    IdFile,
    Output,
}

impl Late {
    fn failure(&self) -> Failure {
        let (code, what, hint) = match self {
            Late::Store => (
                exit_codes::UNAVAILABLE,
                "the store has not answered",
                "check the endpoint and the network, then try again",
            ),
            Late::IdFile => (
                exit_codes::OWN_FAILURE,
                "the id file was not written",
                "give `--id-file` a file on a disk that answers",
            ),
            Late::Output => (
                exit_codes::OWN_FAILURE,
                "standard output was not read",
                "give it a reader that reads",
            ),
        };
        Failure::new(code, format!("{what} within {}", duration::show(WRITE))).hint(hint)
    }
}

/// The result of `work`, if neither a signal nor the bound comes first.
async fn within<T>(
    held: &mut Held<'_>,
    late: Late,
    work: impl Future<Output = T>,
) -> Result<T, Problem> {
    let until = SystemClock.elapsed().plus(WRITE);
    let bounded = async {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = SystemClock.sleep_until(until) => None,
        }
    };
    match waiting::or_signal(held.signals, held.messages, bounded).await {
        Ok(Some(done)) => Ok(done),
        Ok(None) => Err(Problem::Failed(late.failure())),
        Err(signal) => Err(Problem::Signal(alone::ended_by(signal))),
    }
}

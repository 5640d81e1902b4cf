//! `acquire`: takes a lock and returns. Its lease lives on without a process, and its id keeps or ends it.
//!
//! Invariant: an exit code other than 0 leaves no lock that its caller does not know of. What cannot be written, or was
//! interrupted, is released again; where that fails, a message says until when the lock is held.

use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Error, LeaseId, Leases};

use super::shared::alone::{self, Held};
use super::shared::output::{self, Grant};
use super::shared::{id_file, release, waiting, who};
use crate::args::{AcquireArgs, Output};
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{Keys, LockPlan};
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
    let names = [slice::from_ref(&args.name), &args.keys].concat();
    taken(args, messages).unwrap_or_else(|failure| {
        let failure = failure.about_one_of(&names);
        messages.failure(&failure);
        failure.code
    })
}

fn taken(mut args: AcquireArgs, messages: &Arc<Messages>) -> Result<u8, Failure> {
    if args.id_file.is_some() && args.output == Output::Id {
        let message = "--output id and --id-file are two places for the id";
        return Err(Failure::new(exit_codes::USAGE, message).hint("omit one of the two"));
    }
    let keys = Keys::new(&args.name, &args.keys)?;
    let place = Place::resolve(args.store.store)?;
    args.lock.label.get_or_insert_with(who::am_i);
    let plan = LockPlan::without_command(keys, place, args.lock, args.wait, LEASE, |policy| {
        // It outlives this process.
        policy.bound_to_process(false)
    })?;
    let plan = plan.with_slots(args.slots.limit());
    let to = To {
        output: args.output,
        id_file: args.id_file,
    };
    if let Some(path) = &to.id_file {
        id_file::check(path, &plan.keys)?;
    }
    alone::under_lock(&plan, messages, async |mut held, leases| {
        let ids: Vec<LeaseId> = leases.iter().map(|lease| lease.id().clone()).collect();
        match to.hand_out(&mut held, leases).await {
            Ok(()) => Ok(0),
            Err(Problem::Signal(code)) => {
                to.take_back(&mut held, &ids).await;
                Ok(code)
            }
            Err(Problem::Failed(failure)) => {
                let told = to.take_back(&mut held, &ids).await;
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
    async fn hand_out(&self, held: &mut Held<'_>, leases: Leases) -> Result<(), Problem> {
        let plan = held.plan;
        let failed = |error: Error| Problem::Failed(plan.place.explain(error.into()));
        let grants = within(held, Late::Store, detached(plan, leases))
            .await?
            .map_err(failed)?;
        let lasts = plan.policy.lease_duration();
        let mut text = String::new();
        for (id, until) in &grants {
            let mut grant = Grant::new(id.key(), id.token(), *until, lasts);
            if self.id_file.is_none() {
                grant = grant.with_id(id);
            }
            match self.output {
                Output::Json => text += &grant.line().map_err(Problem::Failed)?,
                Output::Id => text += &format!("{id}\n"),
                Output::Token => text += &format!("{}\n", id.token()),
            }
        }
        if let Some(path) = &self.id_file {
            let to = path.clone();
            let ids: Vec<LeaseId> = grants.iter().map(|(id, _)| id.clone()).collect();
            let written = in_thread("id file", move || id_file::write(&to, &ids));
            let written = async { written.await.unwrap_or_else(Err) };
            let written = within(held, Late::IdFile, written).await?;
            written.map_err(|error| {
                let what = format!("cannot write the id to `{}`", path.display());
                let failure = own_failure(&what, &error).hint("give `--id-file` another file");
                Problem::Failed(failure)
            })?;
        }
        let written = within(held, Late::Output, output::write(text)).await?;
        written.map_err(|error| Problem::Failed(output::failed(&error)))?;
        let first = grants.iter().map(|(_, until)| *until).min();
        if let Some(until) = first
            && held.messages.has_line()
            && self.output != Output::Json
        {
            let until = times::local(until);
            held.messages
                .note(format_args!("acquired `{}` until {until}", plan.keys));
        }
        Ok(())
    }

    /// Releases the grants again, and returns what became of them.
    async fn take_back(&self, held: &mut Held<'_>, ids: &[LeaseId]) -> String {
        let (plan, client) = (held.plan, held.client);
        let releases = async {
            let mut all = Ok(());
            for id in ids {
                all = all.and(client.release(id).await.map(drop));
            }
            all
        };
        let released = release::patiently(held.signals, held.messages, releases).await;
        let lease = duration::show(plan.policy.lease_duration());
        let are = match plan.keys.are_several() {
            true => "are",
            false => "is",
        };
        match released {
            Some(Ok(())) => {
                // Their ids are of no use any more.
                if let Some(path) = &self.id_file
                    && id_file::read_all(path, &plan.keys).is_ok_and(|old| old.is(ids))
                {
                    let _removed = std::fs::remove_file(path);
                }
                format!("`{}` {are} released again", plan.keys)
            }
            Some(Err(_)) | None => {
                let store = client.describe_store();
                let told = format!(
                    "{store} has not confirmed the release of `{}`: its lease expires within {lease}",
                    plan.keys
                );
                held.messages.note(&told);
                told
            }
        }
    }
}

/// Detaches the leases, with most of their time left. Until when each is held.
async fn detached(plan: &LockPlan, leases: Leases) -> Result<Vec<(LeaseId, SystemTime)>, Error> {
    let whole = plan.policy.lease_duration().mul_f64(FRESH);
    let mut grants = Vec::new();
    for lease in &leases {
        // A grant that was handed over is a short one.
        if lease.remaining() + plan.policy.safety_margin() < whole {
            lease.renew().await?;
        }
        grants.push((lease.id().clone(), lease.until()));
    }
    for lease in leases.into_leases() {
        lease.detach().await?;
    }
    Ok(grants)
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

//! `leasehold elect`: a command for every term that is won.
//!
//! The order is guaranteed, for each term as for `run`:
//!
//! 1. The command starts only in a term, whose token is larger than that of every earlier one.
//! 2. The term ends only when no process of the command is left.
//! 3. It stands again only after that, and not at once: a command that fails at once must not make the store busy.
//! 4. A signal that asks for the end ends the command, and then the election.
//!
//! The library stands again through failures of the store. [`command`] runs the command, and [`pace`] has the pauses.

mod pace;

use std::sync::Arc;

use leasehold::clock::{Clock, SystemClock};
use leasehold::{Election, Error, LockClient};

use self::pace::Pace;
use super::shared::alone::ended_by;
use super::shared::command::grant::Grant;
use super::shared::command::holding::End;
use super::shared::command::survivor::{self, Left};
use super::shared::command::{self, Ended, Site};
use super::shared::waiting;
use crate::args::ElectArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{ElectPlan, LockPlan};
use crate::process::{Guardian, Status, Survivor};
use crate::text::duration;

/// Carries out the verb, and returns the exit code.
pub(crate) fn elect(args: ElectArgs, guardian: &Arc<Guardian>, messages: &Arc<Messages>) -> u8 {
    let name = args.name.clone();
    let ended = ElectPlan::new(args).and_then(|plan| {
        command::start(&plan.term, guardian, messages, async |mut site| {
            stand(&plan, &mut site).await
        })
    });
    ended.unwrap_or_else(|failure| {
        let failure = failure.about(&name);
        messages.failure(&failure);
        failure.code
    })
}

/// The guardian's part after the worker was killed. Returns the exit code.
pub(crate) fn survived(args: ElectArgs, survivor: &Survivor, messages: &Arc<Messages>) -> u8 {
    let left = Left {
        name: &args.name,
        more: &[],
        store: args.store.store,
        keep: false,
    };
    survivor::survived(left, survivor, messages).code
}

async fn stand(plan: &ElectPlan, site: &mut Site<'_>) -> Result<u8, Failure> {
    let client = match command::open(site).await {
        Ok(client) => client?,
        Err(signal) => return Ok(ended_by(signal)),
    };
    let lock = &plan.term.lock;
    let mut election = election(lock, &client).map_err(|error| lock.place.explain(error.into()))?;
    let mut pace = Pace::default();
    loop {
        let (signals, messages) = (&mut *site.signals, site.messages);
        let won = waiting::next_term(lock, &client, &mut election, signals, messages).await;
        let code = match won {
            Ok(Ok(Some(term))) => {
                messages.detail(format_args!(
                    "leads `{}` with token {} ({})",
                    lock.keys,
                    term.token(),
                    client.describe_store()
                ));
                let ended =
                    command::under(site, &client, Grant::Locks(term.into_lease().into())).await;
                if is_last(plan, &ended, site) {
                    return ended.code();
                }
                let pause = pace.after(ended.ran);
                let until = SystemClock.elapsed().plus(pause);
                messages.note(format_args!(
                    "`{}`: {} after {}: stands again in {}",
                    lock.keys,
                    how(&ended),
                    duration::show(ended.ran),
                    duration::show(pause)
                ));
                let paused = SystemClock.sleep_until(until);
                match waiting::or_end(site.signals, messages, paused).await {
                    Ok(()) => continue,
                    Err(signal) => Ok(ended_by(signal)),
                }
            }
            Ok(Ok(None)) => Err(Failure::new(
                exit_codes::OWN_FAILURE,
                "the client was shut down",
            )),
            Ok(Err(error)) => Err(lock.place.explain(error.into())),
            Err(signal) => Ok(ended_by(signal)),
        };
        drop(election);
        waiting::clean_up(lock, &client, site.signals, messages).await;
        return code;
    }
}

fn election(lock: &LockPlan, client: &LockClient) -> Result<Election, Error> {
    let election = client.elect(lock.keys.first.as_str())?;
    Ok(match &lock.data {
        Some(data) => election.data(data),
        None => election,
    })
}

/// Whether the election ends with this term.
fn is_last(plan: &ElectPlan, ended: &Ended, site: &Site<'_>) -> bool {
    let again = match &ended.end {
        // It ended with a signal that was for all of us.
        Ok(End::Killed { .. }) => false,
        // It could be run when the election began: it may be replaced at this moment.
        Err(_) => true,
        // Left-over processes work under the term, which another may follow.
        Ok(end) => !end.has_survivors(),
    };
    plan.once || !again || site.signals.asked_to_end()
}

/// How the term ended, for a message.
fn how(ended: &Ended) -> String {
    match &ended.end {
        _ if ended.lost_unseen => "the term was lost before the command ended".to_owned(),
        Ok(End::Finished { status, .. }) => match status {
            Status::Exited(code) => format!("the command ended with code {code}"),
            Status::Signalled(number) => format!("signal {number} ended the command"),
            Status::Unknown => "the command ended".to_owned(),
        },
        Ok(End::MaxHold { .. }) => "the command was stopped".to_owned(),
        Ok(End::Lost { .. } | End::Killed { .. }) => "the term was lost".to_owned(),
        Err(failure) => failure.message.clone(),
    }
}

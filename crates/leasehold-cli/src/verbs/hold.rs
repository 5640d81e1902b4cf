//! `hold`: holds a lock until a signal.
//!
//! Invariant: nothing here waits for a reader. The line on standard output says that the lock is held; a reader that
//! goes away changes nothing.

use std::future::pending;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use leasehold::clock::{Clock, Elapsed, SystemClock};
use leasehold::{EndReason, Key, Leases};
use rustix::process::Signal;

use super::shared::alone::{self, Held};
use super::shared::output::{self, Grant};
use super::shared::release;
use crate::args::HoldArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::plan::{Keys, LEASE, LockPlan};
use crate::process::suspend_ourselves;
use crate::store::Place;
use crate::text::duration;

/// Carries out the verb, and returns the exit code.
pub(crate) fn hold(args: HoldArgs, messages: &Arc<Messages>) -> u8 {
    let names = [slice::from_ref(&args.name), &args.keys].concat();
    held(args, messages).unwrap_or_else(|failure| {
        let failure = failure.about_one_of(&names);
        messages.failure(&failure);
        failure.code
    })
}

fn held(args: HoldArgs, messages: &Arc<Messages>) -> Result<u8, Failure> {
    let keys = Keys::new(&args.name, &args.keys)?;
    let place = Place::resolve(args.store.store)?;
    if args.max_hold == Some(Duration::ZERO) {
        let message = "--max-hold is 0: the lock would be released at once";
        return Err(
            Failure::new(exit_codes::USAGE, message).hint("set a longer time, or omit --max-hold")
        );
    }
    let plan = LockPlan::without_command(keys, place, args.lock, args.wait, LEASE, |policy| {
        // No process works under it but this one, as far as the store can know.
        policy.bound_to_process(true)
    })?;
    let plan = plan.with_slots(args.slots.limit());
    alone::under_lock(&plan, messages, async |held, leases| {
        Ok(until_the_end(held, leases, args.max_hold).await)
    })
}

/// Why it ends.
enum End {
    Signal,
    MaxHold,
    Lost(Key, EndReason),
}

async fn until_the_end(held: Held<'_>, leases: Leases, max_hold: Option<Duration>) -> u8 {
    let Held {
        plan,
        messages,
        signals,
        client,
    } = held;
    let over = max_hold.map_or(Elapsed::NEVER, |most| SystemClock.elapsed().plus(most));
    let lasts = plan.policy.lease_duration();
    let lines = leases.iter().map(|lease| {
        let grant = Grant::new(lease.key(), lease.token(), lease.until(), lasts);
        grant.line()
    });
    let mut written = match lines.collect::<Result<String, Failure>>() {
        Ok(lines) => Some(output::start(lines)),
        Err(failure) => {
            messages.note_failure(&failure);
            None
        }
    };
    let end = loop {
        let received = tokio::select! {
            biased;
            (key, loss) = leases.lost() => break End::Lost(key.clone(), loss),
            () = release::at(over) => break End::MaxHold,
            received = signals.next() => received,
            done = async {
                match &mut written {
                    Some(written) => written.await,
                    None => pending().await,
                }
            } => {
                written = None;
                if let Ok(Err(error)) = done {
                    messages.note(format_args!(
                        "cannot write to standard output ({error}): `{}` is held all the same",
                        plan.keys
                    ));
                }
                continue;
            }
        };
        match received.signal {
            _ if received.suspends() => {
                messages.pause();
                suspend_ourselves();
            }
            Signal::CONT if !leases.is_held() => {
                let (key, loss) = leases.lost().await;
                break End::Lost(key.clone(), loss);
            }
            Signal::CONT | Signal::WINCH => {}
            _ => break End::Signal,
        }
    };
    let (name, store) = (&plan.keys, client.describe_store());
    let code = match &end {
        End::Signal => 0,
        End::MaxHold => {
            let most = max_hold.map_or_else(String::new, duration::show);
            messages.failure(
                &Failure::new(
                    exit_codes::MAX_HOLD,
                    format!("held the lock `{name}` ({store}) for {most}"),
                )
                .hint("raise `--max-hold` if it needs longer"),
            );
            exit_codes::MAX_HOLD
        }
        End::Lost(name, loss) => {
            messages.failure(
                &Failure::new(
                    exit_codes::LOST,
                    format!("lost the lock `{name}` ({store}): {loss}"),
                )
                .hint("stop what works under it; a longer `--lease` survives longer failures and pauses"),
            );
            exit_codes::LOST
        }
    };
    let released = release::release(plan, messages, signals, client, leases).await;
    match end {
        // This process did not run when the lease ended.
        End::Signal if released.was_too_late() => exit_codes::LOST,
        _ => code,
    }
}

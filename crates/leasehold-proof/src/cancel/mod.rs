//! Every public future dropped at every await, with every outcome of its requests.
//!
//! The library awaits its clock, its store, and channels from tasks that await those two. So a case drops
//! the future of a call after n polls, or when any task reaches the n-th await of clock or store. n grows
//! until the call ends before it is dropped. This is done for every combination of outcomes of the first
//! `DEPTH` requests of the whole case, clean-up requests included. The outcomes are `ok`, `error`, `slow`
//! and `never`. `error` and `never` have two kinds: the request was applied, or it was not.
//!
//! After each case:
//!
//! - The key is free again within a lease, or at once if every request was answered.
//! - The next holder keeps its grant unchanged (S4).
//! - No request was cancelled in flight, and no release overtook a renewal (rule 5).
//! - A lost lease stays lost (rule 4).
//! - No task exceeds its bound, and none panicked.
//! - Work that is done stays done for its keep, nothing replaces its result, and each answer about it is
//!   true (S7).
//! - No slot is left, none of another was changed, and never were more held than there are (S8).
//! - A call that was not dropped keeps its guarantees (S5, S6, effects).
//!
//! There are 702,682 cases. The number follows from the library's awaits. It is printed and compared with
//! `LEAST`, so that it cannot shrink silently.

mod call;
mod calls;
mod cast;
mod gave;
mod judge;
mod landing;
mod once;
mod runs;
mod seat;
mod slots;
mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{bail, ensure};
use clap::Parser;
use leasehold::clock::{Clock, SystemClock};

use self::call::{CALLS, Call};
use self::judge::Cut;
use self::stage::FORTUNES;

/// How many requests of a case meet an outcome; those after them succeed.
const DEPTH: usize = 3;
/// No call has more awaits than this.
const AWAITS: usize = 2_000;

/// The cases of a call.
#[derive(Clone, Debug, Default)]
struct Count {
    places: usize,
    cases: usize,
    wrong: Vec<String>,
}

/// Public futures dropped at every await.
#[derive(Debug, Parser)]
#[command(name = "leasehold-cancellation", disable_version_flag = true)]
struct Order {
    /// How many requests of a case meet an outcome
    #[arg(long, default_value_t = DEPTH)]
    depth: usize,
    /// This call alone
    #[arg(long, value_name = "CALL")]
    only: Option<String>,
    /// Stop after so many
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    failures: usize,
}

/// Entry.
///
/// # Errors
///
/// When a case shows something wrong, or there are fewer cases than there were.
pub fn main() -> anyhow::Result<()> {
    let Order {
        depth,
        only,
        failures,
    } = Order::parse();
    let started = SystemClock.elapsed();
    watch_panics();
    let calls: Vec<Call> = CALLS
        .into_iter()
        .filter(|call| {
            only.as_ref()
                .is_none_or(|only| format!("{call:?}") == *only)
        })
        .collect();
    ensure!(!calls.is_empty(), "no such call; there are {CALLS:?}");
    let counts = run(&calls, depth, failures)?;
    let took = SystemClock.elapsed().since(started).as_secs_f64();
    let wrong = say(&calls, &counts, depth, took);
    if wrong {
        // The lines above are the message; a backtrace of this place says nothing.
        std::process::exit(1);
    }
    if depth == DEPTH && only.is_none() {
        check_counts(&counts)?;
    }
    Ok(())
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A panic in a task is caught by the runtime; here it counts.
fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
}

/// Runs the cases of all calls, on every core.
fn run(calls: &[Call], depth: usize, failures: usize) -> anyhow::Result<Vec<Count>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let counts = Mutex::new(vec![Count::default(); calls.len()]);
    let work = || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = calls.get(number) else {
                return Ok(());
            };
            let count = cases(*call, depth, &failed, failures)?;
            counts.lock().unwrap_or_else(PoisonError::into_inner)[number] = count;
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a case panicked"),
            }
        }
        Ok(())
    })?;
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Every place to drop a call at, and there every combination of outcomes.
fn cases(call: Call, depth: usize, failed: &AtomicUsize, failures: usize) -> anyhow::Result<Count> {
    let mut count = Count::default();
    for place in [Cut::Polls, Cut::Gate] {
        let mut number = 0;
        loop {
            let mut script = Vec::new();
            let mut all_ended = true;
            loop {
                let before = PANICS.load(Ordering::Relaxed);
                let cut = place(number);
                let mut shown = judge::run(call, cut, &script, depth)?;
                if PANICS.load(Ordering::Relaxed) > before {
                    shown.wrong.push("something panicked".to_owned());
                }
                all_ended &= shown.ended;
                count.cases += 1;
                for text in shown.wrong {
                    let met: Vec<_> = shown.taken.iter().map(|n| FORTUNES[*n]).collect();
                    count.wrong.push(format!(
                        "{text}; {call:?} cut at {cut:?}, requests met {met:?}"
                    ));
                    if failed.fetch_add(1, Ordering::Relaxed) + 1 >= failures {
                        return Ok(count);
                    }
                }
                script = shown.taken;
                if !advance(&mut script) {
                    break;
                }
            }
            count.places += 1;
            number += 1;
            if all_ended {
                break;
            }
            ensure!(number < AWAITS, "{call:?} does not end");
        }
    }
    Ok(count)
}

/// The next combination, or `false` after the last: as an odometer whose length follows what was met.
fn advance(script: &mut Vec<usize>) -> bool {
    while let Some(last) = script.pop() {
        if last + 1 < FORTUNES.len() {
            script.push(last + 1);
            return true;
        }
    }
    false
}

/// Prints the table; whether something is wrong.
fn say(calls: &[Call], counts: &[Count], depth: usize, took: f64) -> bool {
    println!("| call | places to drop it at | cases |\n|---|---:|---:|");
    for (call, count) in calls.iter().zip(counts) {
        println!("| {call:?} | {} | {} |", count.places, count.cases);
    }
    let sum = |what: fn(&Count) -> usize| counts.iter().map(what).sum::<usize>();
    let (places, cases) = (sum(|c| c.places), sum(|c| c.cases));
    let wrong: Vec<_> = counts.iter().flat_map(|count| &count.wrong).collect();
    println!("| all | {places} | {cases} |\n");
    println!(
        "the first {depth} requests meet one of {} outcomes; {} wrong; {took:.1} s",
        FORTUNES.len(),
        wrong.len()
    );
    for text in wrong.iter().take(40) {
        println!("VIOLATION of {text}");
    }
    !wrong.is_empty()
}

/// The least number of cases of each call, at the default depth. The numbers follow from the library's
/// awaits, so a change that loses cases is seen. After an intended removal of awaits, copy the numbers that
/// the command prints.
const LEAST: &[(Call, usize)] = &[
    (Call::TryAcquireFree, 7095),
    (Call::TryAcquireHeld, 5860),
    (Call::TryAcquireDead, 7583),
    (Call::AcquireFree, 7125),
    (Call::AcquireAhead, 8561),
    (Call::AcquireBehind, 8561),
    (Call::AcquireHeld, 18_232),
    (Call::AcquireHeldByWriting, 17_294),
    (Call::AcquireInLine, 1487),
    (Call::AcquireInVain, 20_392),
    (Call::AcquireDead, 22_552),
    (Call::AcquireDeadStrict, 65_104),
    (Call::Run, 9733),
    (Call::RunLong, 17_493),
    (Call::RunBrief, 7824),
    (Call::RunImpatient, 7171),
    (Call::Release, 4427),
    (Call::ReleaseRenewing, 5247),
    (Call::ReleaseKeepingData, 4427),
    (Call::Renew, 5385),
    (Call::RenewLate, 5290),
    (Call::RenewStopped, 1814),
    (Call::RenewReleased, 3525),
    (Call::RenewTwice, 6465),
    (Call::SetData, 5596),
    (Call::SetDataTwice, 6887),
    (Call::Ensure, 5596),
    (Call::Detach, 3487),
    (Call::Adopt, 5698),
    (Call::ReleaseById, 3365),
    (Call::RenewById, 5353),
    (Call::RenewByIdLonger, 5353),
    (Call::ForceRelease, 6562),
    (Call::ForceReleaseHeld, 6537),
    (Call::Inspect, 3365),
    (Call::List, 590),
    (Call::ReadAll, 1689),
    (Call::Stream, 1689),
    (Call::Lost, 1789),
    (Call::LostRenewing, 18_340),
    (Call::LostBehind, 13_156),
    (Call::Shutdown, 11_584),
    (Call::Elect, 6527),
    (Call::ElectHeld, 17_860),
    (Call::Lead, 9150),
    (Call::LeadLong, 16_895),
    (Call::Observe, 6137),
    (Call::Once, 7185),
    (Call::OnceFails, 7185),
    (Call::OnceFailsForGood, 7185),
    (Call::OnceHeld, 14_813),
    (Call::OnceDead, 20_087),
    (Call::OnceStart, 7185),
    (Call::Forget, 6562),
    (Call::AcquireAllHeld, 19_130),
    (Call::TrySlot, 7327),
    (Call::TrySlotBeside, 7402),
    (Call::TrySlotFull, 5386),
    (Call::AcquireSlot, 7407),
    (Call::AcquireSlotBeside, 7402),
    (Call::AcquireSlotFull, 17_539),
    (Call::AcquireSlotDead, 21_909),
    (Call::ReleaseSlot, 4287),
    (Call::ReleaseSlotAhead, 6330),
    (Call::RenewSlot, 5385),
    (Call::DetachSlot, 3487),
    (Call::AdoptSlot, 6211),
    (Call::ReleaseSlotById, 3365),
    (Call::RenewSlotById, 5353),
    (Call::AcquireShared, 7402),
    (Call::AcquireSharedHeld, 17_539),
    (Call::AcquireExclusiveHeld, 18_232),
    (Call::AcquireExclusiveDead, 23_200),
    (Call::ReleaseExclusiveAhead, 6330),
];

fn check_counts(counts: &[Count]) -> anyhow::Result<()> {
    ensure!(LEAST.len() == CALLS.len(), "not every call has its number");
    for ((call, least), (found, count)) in LEAST.iter().zip(CALLS.iter().zip(counts)) {
        ensure!(call == found, "{found:?} has no number");
        ensure!(
            count.cases >= *least,
            "{call:?} has {} cases, there were {least}",
            count.cases
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_counted_to_the_end() {
        let mut script = vec![0, 0];
        let mut seen = 1;
        while advance(&mut script) {
            // As long as before, as where every case makes two requests.
            script.resize(2, 0);
            seen += 1;
        }
        assert_eq!(seen, FORTUNES.len() * FORTUNES.len());
    }

    #[test]
    fn nothing_is_wrong_with_one_request_troubled() {
        let counts = run(&CALLS, 1, 1).expect("runs");
        let wrong: Vec<_> = counts.iter().flat_map(|count| &count.wrong).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

//! One alarm for all who wait for a time: held leases and waiters of a client, however many.
//!
//! Sleepers lie in one map; one task sleeps until the first of them is due, and for a second at the
//! most. So a thousand leases at rest cost one wake-up a second and not a thousand. Once a second it
//! also compares the clocks: where the wall clock has run ahead of the elapsed one (a paused virtual
//! machine, holder rule 2), it wakes everybody to look for themselves. Invariants: a nap may end
//! early, never late while the alarm's task runs; when that ends in any way, with its runtime or by a
//! panic, every sleeper wakes, and the next one to lie down starts another task on its own runtime. No
//! waker is called or dropped under the lock.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::exchange::Core;
use crate::protocol::time::{Elapsed, Reading};

/// How often the clocks are compared.
const LOOK: Duration = Duration::from_secs(1);
/// How much the wall clock may run ahead before everybody looks: much less than any margin, and more than
/// a clock that is being adjusted gains in seconds.
const AHEAD_MS: i64 = 10;

#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sleepers: BTreeMap<(Elapsed, u64), Waker>,
    last_number: u64,
    running: bool,
    /// When the task will wake by itself, and how to wake it before.
    armed: Elapsed,
    task: Option<Waker>,
}

impl Alarm {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits until `at`, or shorter.
pub(crate) fn nap(core: &Arc<Core>, at: Elapsed) -> Nap<'_> {
    Nap {
        core,
        at,
        number: None,
    }
}

/// See [`nap`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Nap<'a> {
    core: &'a Arc<Core>,
    at: Elapsed,
    number: Option<u64>,
}

impl Future for Nap<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (core, at) = (self.core, self.at);
        if let Some(number) = self.number {
            let (poll, _old) =
                core.alarm
                    .with(|inner| match inner.sleepers.get_mut(&(at, number)) {
                        None => (Poll::Ready(()), None),
                        Some(waker) if waker.will_wake(context.waker()) => (Poll::Pending, None),
                        Some(waker) => {
                            let old = std::mem::replace(waker, context.waker().clone());
                            (Poll::Pending, Some(old))
                        }
                    });
            return poll;
        }
        let now = core.clock.elapsed();
        if now >= at {
            return Poll::Ready(());
        }
        let (number, start, early) = core.alarm.with(|inner| {
            inner.last_number += 1;
            let number = inner.last_number;
            inner.sleepers.insert((at, number), context.waker().clone());
            let start = !std::mem::replace(&mut inner.running, true);
            // Or it is late already: after a suspend its own timer may take another second.
            let early = if at < inner.armed || inner.armed <= now {
                inner.task.take()
            } else {
                None
            };
            (number, start, early)
        });
        self.number = Some(number);
        if start {
            begin(core);
        } else if let Some(task) = early {
            task.wake();
        }
        Poll::Pending
    }
}

impl Drop for Nap<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let _old = self
                .core
                .alarm
                .with(|inner| inner.sleepers.remove(&(self.at, number)));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing of the client's is left undone in it: `shutdown` need not wait for its last second"
)]
fn begin(core: &Arc<Core>) {
    let running = Running {
        core: core.clone(),
        done: false,
    };
    drop(tokio::spawn(running.run()));
}

/// The task. Where it is dropped before it is done, everybody wakes.
struct Running {
    core: Arc<Core>,
    done: bool,
}

impl Running {
    async fn run(mut self) {
        let core = self.core.clone();
        let core = &core;
        let mut before = ahead_ms(core.clock.reading());
        loop {
            let now = core.clock.reading();
            let ahead = ahead_ms(now);
            let everybody = ahead > before.saturating_add(AHEAD_MS);
            before = if everybody { ahead } else { ahead.min(before) };
            let (due, armed, _old) = core.alarm.with(|inner| {
                let later = if everybody {
                    BTreeMap::new()
                } else {
                    inner.sleepers.split_off(&(now.elapsed, u64::MAX))
                };
                let due = std::mem::replace(&mut inner.sleepers, later);
                let first = inner.sleepers.first_key_value().map(|((at, _), _)| *at);
                inner.armed = now.elapsed.plus(LOOK).min(first.unwrap_or(Elapsed::NEVER));
                // Those that are woken may lie down again at once: one more look then.
                let done = due.is_empty() && inner.sleepers.is_empty();
                inner.running = !done;
                (due, (!done).then_some(inner.armed), inner.task.take())
            });
            for waker in due.into_values() {
                waker.wake();
            }
            let Some(armed) = armed else {
                self.done = true;
                return;
            };
            tokio::select! {
                biased;
                () = woken(core, armed) => {}
                () = core.clock.sleep_until(armed) => {}
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            // There may be another task already.
            return;
        }
        let (sleepers, _task) = self.core.alarm.with(|inner| {
            inner.running = false;
            (std::mem::take(&mut inner.sleepers), inner.task.take())
        });
        for waker in sleepers.into_values() {
            waker.wake();
        }
    }
}

/// How far the wall clock is ahead of the elapsed one, from an origin of no matter.
fn ahead_ms(now: Reading) -> i64 {
    let elapsed = i64::try_from(now.elapsed.0.as_millis()).unwrap_or(i64::MAX);
    now.wall_ms.saturating_sub(elapsed)
}

/// Ends when somebody must be woken before `armed`, or that is over.
async fn woken(core: &Core, armed: Elapsed) {
    poll_fn(|context| {
        let late = core.clock.elapsed() >= armed;
        let (poll, _old) = core.alarm.with(|inner| {
            let first = inner.sleepers.first_key_value().map(|((at, _), _)| *at);
            if late || first.is_some_and(|first| first < armed) {
                (Poll::Ready(()), None)
            } else {
                (Poll::Pending, inner.task.replace(context.waker().clone()))
            }
        });
        poll
    })
    .await;
}

//! One timer per runtime for all held leases and waiters of a client. Each runtime has its own, so that
//! a blocked runtime delays no other.
//!
//! One task sleeps until the first sleeper is due, for at most a second. So a thousand idle leases cost
//! one wake-up a second. Once a second the task also compares the clocks. If the wall clock has run
//! ahead of the elapsed one (a paused virtual machine, holder rule 2), it wakes all sleepers.
//!
//! Invariants:
//!
//! - A sleep may end early, but not late while the timer's task runs.
//! - When the task ends, with its runtime or by a panic, every sleeper wakes. The next sleeper starts
//!   another task; after panics this is bounded.
//! - No waker is called or dropped under the mutex.

use std::collections::{BTreeMap, HashMap};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::{Handle, Id};

use crate::clock::Clock;
use leasehold_protocol::time::{Elapsed, Reading};

/// How often the clocks are compared.
const CHECK: Duration = Duration::from_secs(1);
/// How much the wall clock may run ahead, in milliseconds, before all sleepers wake. It is much less
/// than any margin, and more than a slewed clock gains in seconds.
const AHEAD_MS: i64 = 10;
/// How often the task is started again after a panic in the clock.
const PANICS: u32 = 8;

/// The timers of a client, by runtime. A timer exists while its task runs. The task holds only the
/// client's clock, so it does not keep client and store alive.
#[derive(Debug)]
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    by_runtime: Mutex<HashMap<Id, Arc<Timer>>>,
}

impl Timers {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Timers {
            clock,
            by_runtime: Mutex::default(),
        })
    }

    /// Wakes all sleepers on every runtime, because the known time has changed.
    pub(crate) fn wake_all(&self) {
        let timers: Vec<_> = self.with(|timers| timers.values().cloned().collect());
        for timer in timers {
            let sleepers = timer.with(|inner| std::mem::take(&mut inner.sleepers));
            for waker in sleepers.into_values() {
                waker.wake();
            }
        }
    }

    /// The timer of the current runtime; `None` outside of a runtime.
    fn here(&self) -> Option<Arc<Timer>> {
        let here = Handle::try_current().ok()?.id();
        Some(self.with(|timers| timers.entry(here).or_default().clone()))
    }

    /// Removes a timer without sleepers. A sleeper that comes at this moment starts it again, unlisted.
    fn forget(&self, timer: &Arc<Timer>) {
        self.with(|timers| timers.retain(|_, listed| !Arc::ptr_eq(listed, timer)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Id, Arc<Timer>>) -> T) -> T {
        f(&mut self
            .by_runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct Timer(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sleepers: BTreeMap<(Elapsed, u64), Waker>,
    last_number: u64,
    running: bool,
    /// How often the task has panicked.
    panics: u32,
    /// When the task wakes by itself.
    armed: Elapsed,
    task: Option<Waker>,
}

impl Timer {
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits until `at`, or shorter.
///
/// # Panics
///
/// When the client's clock has panicked [`PANICS`] times on this runtime.
pub(crate) fn sleep(timers: &Arc<Timers>, at: Elapsed) -> Sleep<'_> {
    Sleep {
        timers,
        at,
        entry: None,
    }
}

/// See [`sleep`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Sleep<'a> {
    timers: &'a Arc<Timers>,
    at: Elapsed,
    /// Its timer and number, after the first poll.
    entry: Option<(Arc<Timer>, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (timers, at) = (self.timers, self.at);
        if let Some((timer, number)) = &self.entry {
            let (poll, _old) = timer.with(|inner| match inner.sleepers.get_mut(&(at, *number)) {
                None => (Poll::Ready(()), None),
                Some(waker) if waker.will_wake(context.waker()) => (Poll::Pending, None),
                Some(waker) => {
                    let old = std::mem::replace(waker, context.waker().clone());
                    (Poll::Pending, Some(old))
                }
            });
            return poll;
        }
        let now = timers.clock.elapsed();
        if now >= at {
            return Poll::Ready(());
        }
        // Outside of a runtime, another event always ends the wait.
        let Some(timer) = timers.here() else {
            return Poll::Pending;
        };
        assert!(
            timer.with(|inner| inner.panics) < PANICS,
            "the clock of this lock client panics in every sleep"
        );
        let (number, start, early) = timer.with(|inner| {
            inner.last_number += 1;
            let number = inner.last_number;
            inner.sleepers.insert((at, number), context.waker().clone());
            let start = !std::mem::replace(&mut inner.running, true);
            // Also if the task is late: after a suspend its timer may take another second.
            let early = if at < inner.armed || inner.armed <= now {
                inner.task.take()
            } else {
                None
            };
            (number, start, early)
        });
        if start {
            begin(timers, &timer);
        } else if let Some(task) = early {
            task.wake();
        }
        self.entry = Some((timer, number));
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some((timer, number)) = self.entry.take() {
            let _old = timer.with(|inner| inner.sleepers.remove(&(self.at, number)));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "`shutdown` need not wait for this task, which does no work of the client"
)]
fn begin(timers: &Arc<Timers>, timer: &Arc<Timer>) {
    let running = Running {
        timers: timers.clone(),
        timer: timer.clone(),
        done: false,
    };
    drop(tokio::spawn(running.run()));
}

/// The task. If it is dropped before it is done, all sleepers wake.
struct Running {
    timers: Arc<Timers>,
    timer: Arc<Timer>,
    done: bool,
}

impl Running {
    async fn run(mut self) {
        let (clock, timer) = (self.timers.clock.clone(), self.timer.clone());
        let mut before = ahead_ms(clock.reading());
        loop {
            let now = clock.reading();
            let ahead = ahead_ms(now);
            let everybody = ahead > before.saturating_add(AHEAD_MS);
            before = if everybody { ahead } else { ahead.min(before) };
            let (due, armed, _old) = timer.with(|inner| {
                let later = if everybody {
                    BTreeMap::new()
                } else {
                    inner.sleepers.split_off(&(now.elapsed, u64::MAX))
                };
                let due = std::mem::replace(&mut inner.sleepers, later);
                let first = inner.sleepers.first_key_value().map(|((at, _), _)| *at);
                inner.armed = now.elapsed.plus(CHECK).min(first.unwrap_or(Elapsed::NEVER));
                // Woken sleepers may sleep again at once, so check once more.
                let done = due.is_empty() && inner.sleepers.is_empty();
                inner.running = !done;
                (due, (!done).then_some(inner.armed), inner.task.take())
            });
            for waker in due.into_values() {
                waker.wake();
            }
            let Some(armed) = armed else {
                self.done = true;
                self.timers.forget(&timer);
                return;
            };
            tokio::select! {
                biased;
                () = woken(&*clock, &timer, armed) => {}
                () = clock.sleep_until(armed) => {}
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.done {
            // Another task may run already.
            return;
        }
        let panicked = std::thread::panicking();
        if !panicked {
            self.timers.forget(&self.timer);
        }
        let (sleepers, _task) = self.timer.with(|inner| {
            inner.running = false;
            inner.panics += u32::from(panicked);
            (std::mem::take(&mut inner.sleepers), inner.task.take())
        });
        for waker in sleepers.into_values() {
            waker.wake();
        }
    }
}

/// How far the wall clock is ahead of the elapsed one, from an arbitrary origin.
fn ahead_ms(now: Reading) -> i64 {
    let elapsed = i64::try_from(now.elapsed.0.as_millis()).unwrap_or(i64::MAX);
    now.wall_ms.saturating_sub(elapsed)
}

/// Ends when a sleeper is due before `armed`, or at `armed`.
async fn woken(clock: &dyn Clock, timer: &Timer, armed: Elapsed) {
    poll_fn(|context| {
        let late = clock.elapsed() >= armed;
        let (poll, _old) = timer.with(|inner| {
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

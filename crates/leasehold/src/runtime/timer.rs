//! One alarm for all who wait for a time on a runtime: held leases and waiters of a client, however
//! many. Each runtime has its own, so that one that stands still silences nobody on another.
//!
//! Sleepers lie in one map; one task sleeps until the first of them is due, and for a second at the
//! most. So a thousand leases at rest cost one wake-up a second and not a thousand. Once a second it
//! also compares the clocks: where the wall clock has run ahead of the elapsed one (a paused virtual
//! machine, holder rule 2), it wakes everybody to look for themselves. Invariants: a nap may end
//! early, never late while the alarm's task runs; when that ends in any way, with its runtime or by a
//! panic, every sleeper wakes, and the next one to lie down starts another task, a bounded number of times
//! after panics. No waker is called or dropped under the lock.

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
const LOOK: Duration = Duration::from_secs(1);
/// How much the wall clock may run ahead before everybody looks: much less than any margin, and more than
/// a clock that is being adjusted gains in seconds.
const AHEAD_MS: i64 = 10;
/// How often the task is started again after a panic in the clock.
const PANICS: u32 = 8;

/// The alarms of a client, by runtime. One is kept while its task runs. The task holds nothing of the
/// client but its clock: a client and its store are gone with their last handle.
#[derive(Debug)]
pub(crate) struct Alarms {
    clock: Arc<dyn Clock>,
    by_runtime: Mutex<HashMap<Id, Arc<Alarm>>>,
}

impl Alarms {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Alarms {
            clock,
            by_runtime: Mutex::default(),
        })
    }

    /// Wakes everybody who waits for a time, on every runtime: what they know of the time has changed.
    pub(crate) fn wake_all(&self) {
        let alarms: Vec<_> = self.with(|alarms| alarms.values().cloned().collect());
        for alarm in alarms {
            let sleepers = alarm.with(|inner| std::mem::take(&mut inner.sleepers));
            for waker in sleepers.into_values() {
                waker.wake();
            }
        }
    }

    /// That of the current runtime; `None` outside of one.
    fn here(&self) -> Option<Arc<Alarm>> {
        let here = Handle::try_current().ok()?.id();
        Some(self.with(|alarms| alarms.entry(here).or_default().clone()))
    }

    /// Nobody sleeps there any more. One that lies down at this moment starts it again, unlisted.
    fn forget(&self, alarm: &Arc<Alarm>) {
        self.with(|alarms| alarms.retain(|_, listed| !Arc::ptr_eq(listed, alarm)));
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<Id, Arc<Alarm>>) -> T) -> T {
        f(&mut self
            .by_runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct Alarm(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sleepers: BTreeMap<(Elapsed, u64), Waker>,
    last_number: u64,
    running: bool,
    /// How often the task has panicked.
    panics: u32,
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
///
/// # Panics
///
/// Where the client's clock has panicked on this runtime again and again.
pub(crate) fn nap(alarms: &Arc<Alarms>, at: Elapsed) -> Nap<'_> {
    Nap {
        alarms,
        at,
        bed: None,
    }
}

/// See [`nap`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Nap<'a> {
    alarms: &'a Arc<Alarms>,
    at: Elapsed,
    /// Where it lies, once it has been polled.
    bed: Option<(Arc<Alarm>, u64)>,
}

impl Future for Nap<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (alarms, at) = (self.alarms, self.at);
        if let Some((alarm, number)) = &self.bed {
            let (poll, _old) = alarm.with(|inner| match inner.sleepers.get_mut(&(at, *number)) {
                None => (Poll::Ready(()), None),
                Some(waker) if waker.will_wake(context.waker()) => (Poll::Pending, None),
                Some(waker) => {
                    let old = std::mem::replace(waker, context.waker().clone());
                    (Poll::Pending, Some(old))
                }
            });
            return poll;
        }
        let now = alarms.clock.elapsed();
        if now >= at {
            return Poll::Ready(());
        }
        // Outside of a runtime nobody waits for a time alone: another event ends the wait.
        let Some(alarm) = alarms.here() else {
            return Poll::Pending;
        };
        assert!(
            alarm.with(|inner| inner.panics) < PANICS,
            "the clock of this lock client panics whenever it is asked to sleep"
        );
        let (number, start, early) = alarm.with(|inner| {
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
        if start {
            begin(alarms, &alarm);
        } else if let Some(task) = early {
            task.wake();
        }
        self.bed = Some((alarm, number));
        Poll::Pending
    }
}

impl Drop for Nap<'_> {
    fn drop(&mut self) {
        if let Some((alarm, number)) = self.bed.take() {
            let _old = alarm.with(|inner| inner.sleepers.remove(&(self.at, number)));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing of the client's is left undone in it: `shutdown` need not wait for its last second"
)]
fn begin(alarms: &Arc<Alarms>, alarm: &Arc<Alarm>) {
    let running = Running {
        alarms: alarms.clone(),
        alarm: alarm.clone(),
        done: false,
    };
    drop(tokio::spawn(running.run()));
}

/// The task. Where it is dropped before it is done, everybody wakes.
struct Running {
    alarms: Arc<Alarms>,
    alarm: Arc<Alarm>,
    done: bool,
}

impl Running {
    async fn run(mut self) {
        let (clock, alarm) = (self.alarms.clock.clone(), self.alarm.clone());
        let mut before = ahead_ms(clock.reading());
        loop {
            let now = clock.reading();
            let ahead = ahead_ms(now);
            let everybody = ahead > before.saturating_add(AHEAD_MS);
            before = if everybody { ahead } else { ahead.min(before) };
            let (due, armed, _old) = alarm.with(|inner| {
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
                self.alarms.forget(&alarm);
                return;
            };
            tokio::select! {
                biased;
                () = woken(&*clock, &alarm, armed) => {}
                () = clock.sleep_until(armed) => {}
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
        let panicked = std::thread::panicking();
        if !panicked {
            self.alarms.forget(&self.alarm);
        }
        let (sleepers, _task) = self.alarm.with(|inner| {
            inner.running = false;
            inner.panics += u32::from(panicked);
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
async fn woken(clock: &dyn Clock, alarm: &Alarm, armed: Elapsed) {
    poll_fn(|context| {
        let late = clock.elapsed() >= armed;
        let (poll, _old) = alarm.with(|inner| {
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

//! The executor of one simulated process: a tokio runtime without timers and without threads.
//!
//! The world runs it until all of its tasks wait. A stopped process is not run, and a crash drops the runtime and all
//! its tasks. Tokio's current-thread scheduler is deterministic if one thread wakes it, and every `select!` of the
//! library is `biased`.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::task::AbortHandle;

/// The state that the runtime's idle hook and the waiting driver share.
#[derive(Debug, Default)]
struct Idle {
    reached: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// One process's executor.
#[derive(Debug)]
pub(crate) struct Host {
    runtime: Runtime,
    idle: Arc<Idle>,
}

impl Host {
    pub(crate) fn new() -> anyhow::Result<Host> {
        let idle = Arc::new(Idle::default());
        let hook = idle.clone();
        let runtime = Builder::new_current_thread()
            .on_thread_park(move || {
                // No task is ready: the process is idle.
                hook.reached.store(true, Ordering::Relaxed);
                let waker = hook.waker.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(waker) = &*waker {
                    waker.wake_by_ref();
                }
            })
            .build()?;
        Ok(Host { runtime, idle })
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// The same, to be cancelled.
    pub(crate) fn spawn_abortable(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        self.runtime.spawn(task).abort_handle()
    }

    /// The context of its tasks, for futures that are polled by hand.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Lets some of what is ready run, and no more.
    pub(crate) fn run_some(&self, polls: u32) {
        self.runtime.block_on(async {
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
        });
    }

    /// Runs the process until all of its tasks wait.
    pub(crate) fn run_until_idle(&self) {
        self.idle.reached.store(false, Ordering::Relaxed);
        self.runtime.block_on(poll_fn(|context| {
            if self.idle.reached.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            let mut waker = self
                .idle
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match &mut *waker {
                Some(known) => known.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        }));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The runtime owns its hook, the hook this waker, and the waker the runtime.
        let mut waker = self
            .idle
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *waker = None;
    }
}

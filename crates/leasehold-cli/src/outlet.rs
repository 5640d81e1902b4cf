//! Standard error, written by a thread of its own.
//!
//! Invariant: no caller waits for a write. Standard error may be a pipe that nobody reads, or a terminal that Ctrl-S has stopped: a write
//! to it may never return, and the thread that renews the lock or stops the command must not be the one that finds out.
//! Messages wait in a queue. When the queue is full the next message is left out, and a count says so once writing works
//! again; an error is never left out, because errors are few.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::process::block_signals_here;

/// Messages that may wait. A reader that pauses for seconds loses none with `-v`; what nobody reads costs some 100 KiB.
const QUEUE: usize = 512;

/// Wipes the passing line.
const WIPE: &str = "\r\x1b[K";

/// The queue and its thread.
#[derive(Debug)]
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    /// False where no thread could be started: whoever speaks then writes, too.
    threaded: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// What waits to be written. The lock is never held during a write.
#[derive(Debug, Default)]
struct Queue {
    texts: VecDeque<String>,
    /// The passing line that is to be on the screen; a newer one replaces it.
    line: Option<String>,
    /// The passing line on the screen is to go.
    wipe: bool,
    /// There is a passing line on the screen.
    shown: bool,
    left_out: u64,
    writing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.line.is_none() && !self.wipe && self.left_out == 0
    }

    /// What is written next.
    fn next(&mut self) -> Option<String> {
        let wipe = if self.shown { WIPE } else { "" };
        let text = if let Some(text) = self.texts.pop_front() {
            self.shown = false;
            format!("{wipe}{text}")
        } else if self.left_out > 0 {
            self.shown = false;
            let count = std::mem::take(&mut self.left_out);
            format!(
                "{wipe}leasehold: standard error was not read: {count} messages were left out\n"
            )
        } else if let Some(line) = self.line.take() {
            self.shown = true;
            format!("{WIPE}{line}")
        } else if std::mem::take(&mut self.wipe) && self.shown {
            self.shown = false;
            WIPE.to_owned()
        } else {
            return None;
        };
        self.wipe = false;
        Some(text)
    }
}

impl Outlet {
    /// Starts the thread.
    pub(crate) fn new() -> Self {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        let started = thread::Builder::new()
            .name("messages".to_owned())
            .spawn(move || writer.serve());
        Self {
            shared,
            threaded: started.is_ok(),
        }
    }

    /// Whether writes are another thread's. Without one, a lock must not be taken.
    pub(crate) fn has_thread(&self) -> bool {
        self.threaded
    }

    /// Puts a text into the queue. It wipes the passing line. One that is not `needed` is left out when the queue is full.
    pub(crate) fn text(&self, text: String, needed: bool) {
        let mut queue = self.shared.lock();
        queue.line = None;
        if needed || queue.texts.len() < QUEUE {
            queue.texts.push_back(text);
        } else {
            queue.left_out += 1;
        }
        self.announce(queue);
    }

    /// Shows a passing line, in place of the one before.
    pub(crate) fn line(&self, line: String) {
        let mut queue = self.shared.lock();
        queue.line = Some(line);
        self.announce(queue);
    }

    /// Wipes the passing line.
    pub(crate) fn wipe(&self) {
        let mut queue = self.shared.lock();
        queue.line = None;
        queue.wipe = true;
        self.announce(queue);
    }

    /// Waits until everything is written, at most for `bound`.
    pub(crate) fn flush(&self, bound: Duration) {
        let queue = self.shared.lock();
        let _late = self
            .shared
            .changed
            .wait_timeout_while(queue, bound, |queue| queue.writing || !queue.is_empty());
    }

    fn announce(&self, mut queue: MutexGuard<'_, Queue>) {
        if self.threaded {
            drop(queue);
            self.shared.changed.notify_all();
            return;
        }
        while let Some(text) = queue.next() {
            write(&text);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        // A write from the background of a terminal with `stty tostop` sends TTOU to the whole process, and stops it, unless TTOU is
        // blocked where the write is made.
        block_signals_here();
        let mut queue = self.lock();
        loop {
            match queue.next() {
                Some(text) => {
                    queue.writing = true;
                    drop(queue);
                    write(&text);
                    queue = self.lock();
                    queue.writing = false;
                    self.changed.notify_all();
                }
                None => {
                    self.changed.notify_all();
                    queue = self
                        .changed
                        .wait_while(queue, |queue| queue.is_empty())
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// In one piece, so that it is not torn by what the command writes meanwhile. Not through std: its lock would be held during the write,
/// and whoever else writes to standard error, a panic message for one, would wait for it.
fn write(text: &str) {
    let stderr = io::stderr();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(&stderr, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another program that has the same pipe made it non-blocking.
            Err(Errno::AGAIN) => {
                let _woken = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            // Closed, or its reader is gone, or its disk is full: no reason to fail.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_leaves_out_and_counts_but_keeps_errors() {
        let outlet = Outlet {
            shared: Arc::default(),
            // Nobody writes here.
            threaded: true,
        };
        for number in 0..QUEUE + 3 {
            outlet.text(format!("{number}\n"), false);
        }
        outlet.text("error\n".to_owned(), true);
        let mut queue = outlet.shared.lock();
        let written: Vec<String> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(written.len(), QUEUE + 2);
        assert_eq!(written[QUEUE], "error\n");
        assert!(written[QUEUE + 1].contains("3 messages were left out"));
    }

    #[test]
    fn the_passing_line_is_replaced_and_wiped() {
        let mut queue = Queue {
            line: Some("waiting".to_owned()),
            ..Queue::default()
        };
        assert_eq!(queue.next().as_deref(), Some("\r\x1b[Kwaiting"));
        queue.texts.push_back("message\n".to_owned());
        assert_eq!(queue.next().as_deref(), Some("\r\x1b[Kmessage\n"));
        queue.wipe = true;
        assert_eq!(queue.next(), None);
    }
}

//! Standard error, written by a separate thread.
//!
//! Invariant: no caller waits for a write. Standard error may be an unread pipe, or a terminal that Ctrl-S has stopped. A
//! write to it may never return, and must not block the thread that renews the lock or stops the command.
//!
//! Messages wait in a queue. If the queue is full, the next message is left out, and a count is written later. Errors are
//! never left out, because they are few.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::process::block_signals_here;

/// The most messages in the queue, some 100 KiB. With `-v`, a reader may pause for seconds without a loss.
const QUEUE: usize = 512;

/// Wipes the status line.
const WIPE: &str = "\r\x1b[K";

/// The queue and its thread.
#[derive(Debug)]
pub(crate) struct Outlet {
    shared: Arc<Shared>,
    /// False if no thread could be started: the caller then writes.
    threaded: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// The waiting messages. The mutex is never held during a write.
#[derive(Debug, Default)]
struct Queue {
    texts: VecDeque<String>,
    /// The next status line; a newer one replaces it.
    line: Option<String>,
    /// Whether the status line must be wiped.
    wipe: bool,
    /// Whether there is a status line on the screen.
    shown: bool,
    left_out: u64,
    writing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.line.is_none() && !self.wipe && self.left_out == 0
    }

    /// The next text to write.
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

    /// Whether a separate thread writes. Without it, no lock may be acquired.
    pub(crate) fn has_thread(&self) -> bool {
        self.threaded
    }

    /// Puts a text into the queue. It wipes the status line. A text that is not `needed` is left out if the queue is full.
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

    /// Shows a status line, and replaces an older one.
    pub(crate) fn line(&self, line: String) {
        let mut queue = self.shared.lock();
        queue.line = Some(line);
        self.announce(queue);
    }

    /// Wipes the status line.
    pub(crate) fn wipe(&self) {
        let mut queue = self.shared.lock();
        queue.line = None;
        queue.wipe = true;
        self.announce(queue);
    }

    /// Waits until all messages are written, at most for `bound`.
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
        // A write from the background of a terminal with `stty tostop` stops the whole process by TTOU, unless this thread
        // blocks TTOU.
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

/// Writes in one piece, so that output of the command does not split it. It does not use std, whose lock would make
/// other writers wait during the write.
fn write(text: &str) {
    let stderr = io::stderr();
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(&stderr, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another program made the shared pipe non-blocking.
            Err(Errno::AGAIN) => {
                let _woken = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            // Closed, without a reader, or on a full disk: no failure.
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

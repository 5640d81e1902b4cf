//! Waits of fractions of a millisecond: the executor's own timer counts whole ones, and half of a
//! round trip of 5 ms is none.
//!
//! One thread for the whole program sleeps until the next of them is due.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::stopwatch::now;

type Wait = (Instant, oneshot::Sender<()>);

static TIMER: LazyLock<Sender<Wait>> = LazyLock::new(|| {
    let (send, receive) = channel::<Wait>();
    std::thread::spawn(move || {
        // The number keeps apart what is due at the same instant.
        let mut due: BTreeMap<(Instant, Reverse<u64>), oneshot::Sender<()>> = BTreeMap::new();
        let mut number = 0;
        loop {
            let next = due.first_key_value().map(|((at, _), _)| *at);
            let wait = next.map_or(Duration::MAX, |at| at.saturating_duration_since(now()));
            match receive.recv_timeout(wait) {
                Ok((at, tell)) => {
                    number += 1;
                    due.insert((at, Reverse(number)), tell);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(entry) = due.first_entry()
                && entry.key().0 <= now()
            {
                // Who waited may have gone.
                let _gone = entry.remove().send(());
            }
        }
    });
    send
});

/// Returns after `by`, to within about a tenth of a millisecond on an idle machine.
pub(crate) async fn exactly(by: Duration) {
    if by.is_zero() {
        return;
    }
    let (tell, told) = oneshot::channel();
    if TIMER.send((now() + by, tell)).is_ok() {
        // The thread never ends before the program does.
        drop(told.await);
    }
}

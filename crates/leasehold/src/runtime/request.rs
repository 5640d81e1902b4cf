//! A request in flight, which outlives its caller.
//!
//! Invariant: once sent, a request is polled until it has its answer. Its caller polls it, which needs
//! no task and wakes no other thread. If the caller leaves first, the request moves to a separate task.
//! `shutdown` waits for it either way.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use leasehold_protocol::attempt::Shown;
use leasehold_protocol::time::{Elapsed, Reading};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::detached::Detached;
use crate::store::StoreError;

/// The answer to a request, or its failure.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) result: Result<T, StoreError>,
    /// Both clocks before the request was made.
    pub(crate) sent: Reading,
    /// The elapsed clock when it arrived.
    pub(crate) received: Elapsed,
}

impl<T> Answer<T> {
    /// How it shows a record. A refusal and a strongly consistent read show all writes before them.
    pub(crate) fn shown(&self, consistent: bool) -> Shown {
        Shown {
            sent: self.sent,
            received: self.received,
            consistent,
        }
    }
}

/// What arrives in an mailbox. Boxed: a channel keeps room for 32 at once.
type Message<Tag, T> = Box<(Tag, Answer<T>)>;

type Channel<Tag, T> = (
    mpsc::Sender<Message<Tag, T>>,
    mpsc::Receiver<Message<Tag, T>>,
);

/// Receives answers. It takes memory only while an answer is awaited.
#[derive(Debug)]
pub(crate) struct Mailbox<Tag, T> {
    room: usize,
    open: Option<Channel<Tag, T>>,
}

impl<Tag, T> Mailbox<Tag, T> {
    /// A mailbox for `room` answers.
    pub(crate) fn new(room: usize) -> Self {
        Mailbox { room, open: None }
    }

    fn address(&mut self) -> mpsc::Sender<Message<Tag, T>> {
        let room = self.room;
        let (address, _) = self.open.get_or_insert_with(|| mpsc::channel(room));
        address.clone()
    }

    /// The next answer. It never ends if no answer is due.
    pub(crate) async fn next(&mut self) -> (Tag, Answer<T>) {
        match &mut self.open {
            // Not closed: this mailbox has a sender.
            Some((_, messages)) => match messages.recv().await {
                Some(message) => *message,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// Frees the memory. No answer may be due.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight<T: Send + 'static>(Detached<Answer<T>>);

impl<T: Send + 'static> InFlight<T> {
    /// `no_answer` makes the result if the store panics.
    pub(crate) fn new(
        tasks: &TaskTracker,
        work: impl Future<Output = Answer<T>> + Send + 'static,
        no_answer: impl Fn() -> Answer<T> + Send + 'static,
    ) -> Self {
        InFlight(Detached::new(tasks, async move {
            let mut work = pin!(work);
            poll_fn(move |context| {
                // The work is not polled again after a panic, so it is unwind safe.
                catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
                    .unwrap_or_else(|_| Poll::Ready(no_answer()))
            })
            .await
        }))
    }

    /// Moves the request to a separate task. Its answer arrives in `mailbox` with `tag`.
    ///
    /// The mailbox has room for all requests of its owner, so a message never waits. If the owner has
    /// gone, the answer is dropped.
    pub(crate) fn post<Tag: Send + 'static>(self, tag: Tag, mailbox: &mut Mailbox<Tag, T>) {
        let address = mailbox.address();
        self.0
            .detach(move |answer| drop(address.try_send(Box::new((tag, answer)))));
    }
}

impl<T: Send + 'static> Future for InFlight<T> {
    type Output = Answer<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer<T>> {
        Pin::new(&mut self.0).poll(context)
    }
}

//! A request in flight: it outlives whoever waits for it.
//!
//! Invariant: once sent, a request is polled until it has its answer. Its waiter polls it, which
//! costs no task and wakes no other thread; when the waiter leaves first, it moves to a task of its
//! own. `shutdown` waits for it either way. An acquisition is the same kind of thing: what it was
//! granted must be given back when its caller has left.

use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::error::Effect;
use crate::exchange::{Answer, Core};

/// What arrives in an inbox. Boxed: a channel keeps room for 32 at once.
type Letter<Tag, T> = Box<(Tag, Answer<T>)>;

type Channel<Tag, T> = (mpsc::Sender<Letter<Tag, T>>, mpsc::Receiver<Letter<Tag, T>>);

/// Where answers arrive. It takes memory only while one is awaited: ten thousand leases at rest have
/// none.
#[derive(Debug)]
pub(crate) struct Inbox<Tag, T> {
    room: usize,
    open: Option<Channel<Tag, T>>,
}

impl<Tag, T> Inbox<Tag, T> {
    /// With room for so many answers.
    pub(crate) fn new(room: usize) -> Self {
        Inbox { room, open: None }
    }

    fn address(&mut self) -> mpsc::Sender<Letter<Tag, T>> {
        let room = self.room;
        let (address, _) = self.open.get_or_insert_with(|| mpsc::channel(room));
        address.clone()
    }

    /// The next answer. Does not end where none is on its way.
    pub(crate) async fn next(&mut self) -> (Tag, Answer<T>) {
        match &mut self.open {
            // Not closed: an address of it is right here.
            Some((_, letters)) => match letters.recv().await {
                Some(letter) => *letter,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// No answer is on its way.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }
}

const NO_ANSWER: &str = "the request ended without an answer";

/// A future that is never cancelled: polled by its owner, and in a task of its own when that drops
/// it.
pub(crate) struct Enduring<T: Send + 'static> {
    core: Arc<Core>,
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    /// The runtime that it was begun on: its owner may drop it elsewhere.
    runtime: Handle,
    /// So that `shutdown` waits for it also while its owner polls it.
    tracked: TaskTrackerToken,
}

impl<T: Send + 'static> Enduring<T> {
    pub(crate) fn new(core: &Arc<Core>, work: impl Future<Output = T> + Send + 'static) -> Self {
        Enduring {
            core: core.clone(),
            work: Some(Box::pin(work)),
            runtime: Handle::current(),
            tracked: core.tasks.token(),
        }
    }

    /// Goes on in a task of its own, and hands over what comes out.
    fn detach(mut self, then: impl FnOnce(T) + Send + 'static) {
        if let Some(work) = self.work.take() {
            let task = async move { then(work.await) };
            self.core.tasks.spawn_on(task, &self.runtime);
        }
    }
}

impl<T: Send + 'static> Future for Enduring<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        // Taken out, so that work that panics is dropped and not polled again.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Enduring<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // Whatever comes out is dropped: a lease that nobody receives is released by its guard.
            let task = async move { drop(work.await) };
            self.core.tasks.spawn_on(task, &self.runtime);
        }
    }
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Flight<T: Send + 'static>(Enduring<Answer<T>>);

impl<T: Send + 'static> Flight<T> {
    /// `effect` is what may have happened when a store panics instead of answering.
    pub(crate) fn new(
        core: &Arc<Core>,
        effect: Effect,
        work: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Self {
        let shared = core.clone();
        Flight(Enduring::new(core, async move {
            let mut work = pin!(work);
            poll_fn(move |context| {
                // The store is not asked again by this request after a panic in it.
                catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)))
                    .unwrap_or_else(|_| Poll::Ready(shared.no_answer(effect, NO_ANSWER)))
            })
            .await
        }))
    }

    /// Goes on in a task of its own; the answer arrives in `inbox` with `tag`.
    ///
    /// The inbox has room for every request that its owner may have in flight, so posting to it never
    /// waits; when the owner has gone, nobody needs the answer.
    pub(crate) fn post<Tag: Send + 'static>(self, tag: Tag, inbox: &mut Inbox<Tag, T>) {
        let address = inbox.address();
        self.0
            .detach(move |answer| drop(address.try_send(Box::new((tag, answer)))));
    }
}

impl<T: Send + 'static> Future for Flight<T> {
    type Output = Answer<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer<T>> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T: Send + 'static> Debug for Enduring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enduring")
            .field("done", &self.work.is_none())
            .field("tracked", &self.tracked)
            .finish_non_exhaustive()
    }
}

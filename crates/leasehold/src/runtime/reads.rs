//! Several reads of one owner in flight.
//!
//! Invariant: the owner polls them. If it drops them, each goes on in the background until its answer
//! ([`request`](super::request)).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use leasehold_protocol::record::Record;

use super::request::Answer;

/// A read, which ends in bounded time.
pub(crate) type Read = Pin<Box<dyn Future<Output = Answer<Option<Record>>> + Send>>;

/// Reads in flight, each with its tag.
pub(crate) struct Reads<Tag>(Vec<(Tag, Read)>);

impl<Tag> Default for Reads<Tag> {
    fn default() -> Self {
        Reads(Vec::new())
    }
}

impl<Tag> std::fmt::Debug for Reads<Tag> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} reads", self.0.len())
    }
}

impl<Tag> Reads<Tag> {
    pub(crate) fn push(&mut self, tag: Tag, read: Read) {
        self.0.push((tag, read));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// The next answer. It never ends without a read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> (Tag, Answer<Option<Record>>) {
        poll_fn(|context| {
            let mut all = self.0.iter_mut().enumerate();
            let ready = all.find_map(|(at, (_, read))| match read.as_mut().poll(context) {
                Poll::Ready(answer) => Some((at, answer)),
                Poll::Pending => None,
            });
            match ready {
                Some((at, answer)) => Poll::Ready((self.0.remove(at).0, answer)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

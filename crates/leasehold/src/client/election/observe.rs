//! The leader of a key, as others see it.
//!
//! Invariant: what is shown never goes back to an earlier state of the record. An answer that may be older than
//! what was shown is confirmed by a strongly consistent read.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::Elapsed;
use leasehold_protocol::write::Operation;

use crate::client::LockClient;
use crate::error::Error;
use crate::inspect::{LockState, LockStatus};
use crate::key::Key;
use crate::shared::Core;
use crate::store::Consistency;

/// The default pause between two polls.
const EVERY: Duration = Duration::from_secs(1);

impl LockClient {
    /// Watches who leads `key`, without standing: see [`Leaders`]. Nothing is sent before
    /// [`next_change`](Leaders::next_change) or the stream is polled.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) when the key is empty or too long.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let mut election = locks.elect("scheduler")?.data("10.0.0.7:8080");
    /// let term = election.next_term().await?.expect("no shutdown");
    ///
    /// let mut leaders = locks.observe("scheduler")?;
    /// while let Some(status) = leaders.next_change().await? {
    ///     let address = status.holder().and_then(|leader| leader.data());
    ///     println!("{status}: {:?}", address.map(String::from_utf8_lossy));
    /// #   assert_eq!(address, Some(&b"10.0.0.7:8080"[..]));
    /// #   locks.shutdown(std::time::Duration::ZERO).await;
    /// }
    /// # drop(term);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(&self, key: &str) -> Result<Leaders, Error> {
        Ok(Leaders {
            core: self.core.clone(),
            key: self.key(key)?,
            every: EVERY,
            due: Elapsed::default(),
            shown: None,
            newest: None,
            poll: None,
        })
    }
}

/// The changes of a key's leader, by polls. [`LockClient::observe`] makes it.
///
/// The first item is the present state. Another one follows whenever the [state](LockStatus::state), or the
/// holder's token, label or data changes, but not for a renewal. What begins and ends between two polls is not
/// shown. An item never goes back to what was before an earlier one.
///
/// A leader that was first in the queue is handed the key, with a token. It adds its label and its data when it has
/// noticed that. There are two items then.
///
/// **An observer is late.** An item may be as old as the pause between two polls and a read. Where only watching a
/// record tells that a leader is dead, it is shown until another follows: with
/// [`strict`](crate::PolicyBuilder::strict), and on a host whose wall clock disagrees with the store's. So an
/// address from [`data`](crate::HolderInfo::data) may be that of a former leader, which refuses the request if it
/// knows.
///
/// A poll is an eventually consistent read: half a read unit on DynamoDB, 43,200 units a day at one poll a second.
/// The first poll, an answer that may be old, and the end of a lease without a release take a strongly
/// consistent read, which is a whole unit.
///
/// The [`Stream`] also yields failures as items, and goes on after them. It ends when
/// [`LockClient::shutdown`] begins.
#[must_use = "nothing is read until a change is asked for"]
pub struct Leaders {
    core: Arc<Core>,
    key: Key,
    every: Duration,
    /// When the next poll is due.
    due: Elapsed,
    shown: Option<LockStatus>,
    newest: Option<Version>,
    /// Kept between polls of the stream.
    poll: Option<Polling>,
}

/// Ends with `None` when the client is shut down.
type Polling = Pin<Box<dyn Future<Output = Result<Option<Polled>, Error>> + Send>>;

/// A state that is not older than what was shown.
type Polled = (LockStatus, Option<Version>);

/// The order of a record's states: by grants, then by renewals, then the end of the grant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Version {
    token: u64,
    ended: bool,
    renew_count: u64,
}

impl Version {
    /// `None` for a record of an F# client.
    fn of(record: &Record) -> Option<Version> {
        let native = record.native?;
        Some(Version {
            token: native.token,
            ended: record.owner.is_none() || record.done.is_some(),
            renew_count: native.renew_count,
        })
    }
}

impl fmt::Debug for Leaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaders")
            .field("store", &self.core)
            .field("key", &self.key)
            .field("every", &self.every)
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

impl Leaders {
    /// The pause between two polls. Default: 1 s. Too small: polls cost more, up to the
    /// [limit](crate::LockClientBuilder::max_polls_per_second) of the client. Too large: changes are seen later,
    /// and more of them are missed.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// Waits for the next change, without a limit; at first, for the present state. `None` after
    /// [`LockClient::shutdown`] has begun.
    ///
    /// # Errors
    ///
    /// By [`ErrorKind`](crate::ErrorKind), when polls have failed for the
    /// [call time-out](crate::PolicyBuilder::call_timeout), or when a retry does not help. The next call polls
    /// again after the pause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the same poll, and no change is lost.
    pub async fn next_change(&mut self) -> Result<Option<LockStatus>, Error> {
        poll_fn(|context| self.poll_change(context)).await
    }

    fn poll_change(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<LockStatus>, Error>> {
        loop {
            if self.core.shut.is_cancelled() {
                self.poll = None;
                return Poll::Ready(Ok(None));
            }
            if self.poll.is_none() {
                let checked = self.core.check_clock(Some(self.key.as_str()));
                self.core.meter.counted(checked)?;
            }
            let poll = self.poll.get_or_insert_with(|| {
                let look = Look {
                    core: self.core.clone(),
                    key: self.key.shared(),
                    shown: self.shown.clone(),
                    newest: self.newest,
                };
                Box::pin(look.at(self.due))
            });
            let polled = ready!(poll.as_mut().poll(context));
            self.poll = None;
            self.due = self.core.clocks.elapsed().plus(self.every);
            let Some((status, version)) = self.core.meter.counted(polled)? else {
                return Poll::Ready(Ok(None));
            };
            self.newest = version;
            if self
                .shown
                .as_ref()
                .is_none_or(|shown| differs(shown, &status))
            {
                self.shown = Some(status.clone());
                return Poll::Ready(Ok(Some(status)));
            }
        }
    }
}

impl Stream for Leaders {
    type Item = Result<LockStatus, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_change(context).map(Result::transpose)
    }
}

/// One poll.
struct Look {
    core: Arc<Core>,
    key: Arc<str>,
    shown: Option<LockStatus>,
    newest: Option<Version>,
}

impl Look {
    async fn at(self, due: Elapsed) -> Result<Option<Polled>, Error> {
        let core = self.core.clone();
        let polled = async {
            core.clocks.sleep_until(due).await;
            let turn = core.poll_limit.take(core.clocks.elapsed());
            core.clocks.sleep_until(turn).await;
            if self.shown.is_some() {
                let polled = self.read(Consistency::Eventual).await?;
                if self.is_sure(&polled) {
                    return Ok(polled);
                }
            }
            self.read(Consistency::Strong).await
        };
        tokio::select! {
            biased;
            () = core.shut.cancelled() => Ok(None),
            polled = polled => polled.map(Some),
        }
    }

    async fn read(&self, consistency: Consistency) -> Result<Polled, Error> {
        let clocks = &self.core.clocks;
        let record = loop {
            let asked = clocks.elapsed();
            let read = self.core.read_retrying(self.key.clone(), consistency);
            let record = read
                .await
                .map_err(|error| error.into_error(Operation::Read, Some(&self.key)))?;
            // The answer has lain there for long if nobody has polled this.
            if clocks.elapsed().since(asked) <= self.core.policy.call_timeout() {
                break record;
            }
        };
        let status = LockStatus::of(&self.core, &self.key, record.as_ref());
        Ok((status, record.as_ref().and_then(Version::of)))
    }

    /// Whether an eventually consistent answer is certainly not older than what was shown.
    fn is_sure(&self, (status, version): &Polled) -> bool {
        let same = self
            .shown
            .as_ref()
            .is_some_and(|shown| !differs(shown, status));
        match (version, self.newest) {
            // The holder may have renewed since.
            _ if !same && matches!(status.state(), LockState::Expired(_)) => false,
            (Some(version), Some(newest)) => *version >= newest,
            // Without a record, or with one of an F# client, there is no order.
            _ => same && version.is_none() && self.newest.is_none(),
        }
    }
}

/// Whether the leader is another one.
fn differs(shown: &LockStatus, now: &LockStatus) -> bool {
    match (shown.state(), now.state()) {
        (LockState::Free, LockState::Free) => false,
        (LockState::Done(shown), LockState::Done(now)) => shown != now,
        (LockState::Held(shown), LockState::Held(now))
        | (LockState::Expired(shown), LockState::Expired(now)) => {
            (shown.token(), shown.label(), shown.data()) != (now.token(), now.label(), now.data())
        }
        _ => true,
    }
}

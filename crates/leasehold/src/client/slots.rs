//! Slots and shared locks: several holders of one key.

use super::limits::check_limit;
use super::{LockClient, LockRequest};
use crate::error::Error;
use leasehold_protocol::slots::MOST;

impl LockClient {
    /// A request for one of `limit` slots of a key: for work of which only so much may run at once, such as three
    /// exports. The [`Lease`](crate::Lease) of a slot is that of a lock: it is renewed, and it can be lost. A dead
    /// holder's slot comes back by the same rules.
    ///
    /// The limit is stored with the key. Another limit is refused while somebody holds a slot or waits for one. Who
    /// finds no free slot waits in the queue of the key, and nobody passes it.
    /// [`acquire`](LockClient::acquire) of the same key takes the **whole** key: it waits until no slot is held.
    ///
    /// A slot costs what a lock costs, after one read of the key for half a read unit. An item of more than 1 KB doubles
    /// the price of a write: this begins at some 14 holders, and again with each further KB. For 50 holders or more,
    /// spread them over several keys.
    ///
    /// Tokens of holders at the same time differ, and each is valid: they order successive holders of the whole key,
    /// and those before and after it. A slot has no payload, and is not handed off inside a process.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an invalid key, and for a limit of 0 or above 1000. When it is
    /// sent: `InvalidInput` for another limit than that of the key, for a payload, for a lease above 12 hours, and on
    /// a table that F# clients share.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let first = locks.slots("export", 2)?.acquire().await?;
    /// let second = locks.slots("export", 2)?.acquire().await?;
    /// let third = locks.slots("export", 2)?.try_acquire().await?;
    /// assert!(third.into_lease().is_none(), "both are held");
    /// # first.release().await?;
    /// # second.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn slots(&self, key: &str, limit: u32) -> Result<LockRequest, Error> {
        let request = self.request(key)?;
        check_limit(&request.key, limit)?;
        Ok(request.for_slot(limit))
    }

    /// A request for a shared lock of a key: any number of holders share it, up to 1000, while nobody holds the
    /// whole key. It is a [slot](LockClient::slots) of 1000.
    ///
    /// [`exclusive`](LockClient::exclusive) takes the whole key. A waiter for that is not passed by later shared
    /// holders, and does not pass earlier ones. If it dies, later ones wait until nobody shares the lock, and some 6 s
    /// more, or until its own wait would have ended: give it a [limit](crate::PolicyBuilder::wait).
    ///
    /// # Errors
    ///
    /// As [`slots`](LockClient::slots).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), leasehold::Error> {
    /// use leasehold::{LockClient, store::memory::MemoryStore};
    ///
    /// let locks = LockClient::new(MemoryStore::new());
    /// let reader = locks.shared("catalogue")?.acquire().await?;
    /// let other = locks.shared("catalogue")?.acquire().await?;
    /// let writer = locks.exclusive("catalogue")?.try_acquire().await?;
    /// assert!(writer.into_lease().is_none(), "two read");
    /// # reader.release().await?;
    /// # other.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn shared(&self, key: &str) -> Result<LockRequest, Error> {
        Ok(self.request(key)?.for_slot(MOST))
    }

    /// A request for the whole key, beside [`shared`](LockClient::shared): another name of
    /// [`request`](LockClient::request).
    ///
    /// # Errors
    ///
    /// As [`request`](LockClient::request).
    pub fn exclusive(&self, key: &str) -> Result<LockRequest, Error> {
        self.request(key)
    }
}

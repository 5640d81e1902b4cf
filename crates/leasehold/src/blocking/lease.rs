//! A held lock, for code that blocks.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::error::Error;
use crate::{HolderInfo, ReleaseOutcome};

/// The answer to a try.
#[derive(Debug)]
#[must_use]
pub enum Tried {
    /// The caller holds the key.
    Acquired(Lease),
    /// Another holder has the key.
    Held(HolderInfo),
}

impl Tried {
    /// The lease, if it was acquired.
    pub fn into_lease(self) -> Option<Lease> {
        match self {
            Tried::Acquired(lease) => Some(lease),
            Tried::Held(_) => None,
        }
    }
}

/// A held lock, renewed by the client's thread. It dereferences to [`crate::Lease`] for calls that
/// do not wait.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    // Dropped before the runtime, which releases it.
    pub(super) lease: crate::Lease,
    pub(super) shared: Arc<Shared>,
}

impl Lease {
    /// Ends the grant. See [`crate::Lease::release`]. If this is the last handle of its client, the
    /// client ends, too.
    ///
    /// # Errors
    ///
    /// When the store did not answer or refused: the lease then expires.
    pub fn release(self) -> Result<ReleaseOutcome, Error> {
        let Lease { lease, shared } = self;
        shared.block_on(lease.release())
    }

    /// Renews now. See [`crate::Lease::renew`].
    ///
    /// # Errors
    ///
    /// [`Lost`](crate::ErrorKind::Lost) when the lease is lost, before the call or during it.
    pub fn renew(&self) -> Result<(), Error> {
        self.shared.block_on(self.lease.renew())
    }

    /// Makes sure that at least `time` is left. See [`crate::Lease::ensure`].
    ///
    /// # Errors
    ///
    /// As [`crate::Lease::ensure`].
    pub fn ensure(&self, time: Duration) -> Result<(), Error> {
        self.shared.block_on(self.lease.ensure(time))
    }

    /// Replaces the payload in the record. See [`crate::Lease::set_data`].
    ///
    /// # Errors
    ///
    /// As [`crate::Lease::set_data`].
    pub fn set_data(&self, data: impl AsRef<[u8]>) -> Result<(), Error> {
        self.shared.block_on(self.lease.set_data(data))
    }

    /// Ends the grant, and leaves its payload to the next holder. See [`crate::Lease::release_keeping_data`].
    ///
    /// # Errors
    ///
    /// As [`Lease::release`].
    pub fn release_keeping_data(self) -> Result<ReleaseOutcome, Error> {
        let Lease { lease, shared } = self;
        shared.block_on(lease.release_keeping_data())
    }
}

impl Deref for Lease {
    type Target = crate::Lease;

    fn deref(&self) -> &crate::Lease {
        &self.lease
    }
}

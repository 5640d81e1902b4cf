//! The locks that are held: one, or several of which the loss of one is the loss of all.

use leasehold::{EndReason, Key, Lease, Leases};

/// The leases under which something is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Locks<'a> {
    One(&'a Lease),
    All(&'a Leases),
}

impl<'a> Locks<'a> {
    /// Each of them, sorted by its name.
    pub(crate) fn iter(self) -> std::slice::Iter<'a, Lease> {
        match self {
            Locks::One(lease) => std::slice::from_ref(lease).iter(),
            Locks::All(leases) => leases.iter(),
        }
    }

    /// Whether all of them are held.
    pub(crate) fn are_held(self) -> bool {
        self.iter().all(Lease::is_held)
    }

    /// Waits for the first loss. It only waits.
    pub(crate) async fn lost(self) -> (&'a Key, EndReason) {
        match self {
            Locks::One(lease) => (lease.key(), lease.lost().await),
            Locks::All(leases) => leases.lost().await,
        }
    }
}

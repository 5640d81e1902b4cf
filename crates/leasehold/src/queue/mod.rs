//! The wait queue of one key, among the tasks of one client.
//!
//! It decides nothing about leases. A [`Waiter`] is a place in the queue. A [`LeaderRole`] is the
//! handle of the one waiter that talks to the store. A [`Holding`] exists while a guard of this client
//! holds the key.
//!
//! # Invariants
//!
//! 1. If there are waiters without a guard or error, exactly one of them is the leader. Every change
//!    ends with [`restore`](state::State::restore), which chooses it.
//! 2. The role belongs to a place, not to a request. A waiter that leaves gives it up.
//! 3. A leader promises a sign of life by some time. An overdue leader (its runtime is blocked, or its
//!    future is not polled) loses the role to the next waiter that runs.
//! 4. The leader sends no request while the lease of a guard of this client has time left, even if
//!    the renewal task of that guard does not run.
//! 5. A guard or error for a waiter lies in its place until the waiter takes it. If the waiter leaves,
//!    the guard is released. The guard's task takes it back after [`PATIENCE`].
//! 6. The mutex is never held across an await. No waker, guard or error is woken or dropped under it.

mod holding;
mod leader;
mod looker;
mod pace;
mod registry;
mod state;
mod waiter;

pub(crate) use self::holding::{Holding, Released};
pub(crate) use self::leader::LeaderRole;
pub(crate) use self::looker::Looker;
pub(crate) use self::pace::{Delays, KeyShown, Pace, turns_before};
pub(crate) use self::registry::{Queue, Queues, of_slots};
pub(crate) use self::state::{PATIENCE, Polls, Start};
pub(crate) use self::waiter::{Next, Stop, Waiter};

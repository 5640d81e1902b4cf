//! The wait queue of one key, among the tasks of one client.
//!
//! It decides nothing about leases. A [`Waiter`] is a waiter's place in the queue, a [`LeaderRole`] the
//! view of the one waiter that talks to the store, a [`Holding`] says that a guard of this client
//! holds the key.
//!
//! # Invariants
//!
//! 1. Whenever somebody waits who has been given nothing, exactly one of those is the leader.
//!    [`State::restore`] is the only place that chooses one, and ends every change.
//! 2. The role belongs to a place, not to a request: a waiter that leaves, in any way, leaves it behind.
//! 3. A leader says by when it will be heard of again. One that is overdue (its runtime is blocked, its
//!    future is kept without being polled) loses the role to the next waiter that runs.
//! 4. A guard of this client keeps the leader from asking only while its lease has time left. Whether its
//!    renewal task runs does not matter.
//! 5. What a waiter is given (a guard, an error) lies in its place until it takes it, and moves on when the
//!    waiter leaves.
//!    A guard that nobody takes is taken back after [`PATIENCE`] by the task that keeps it.
//! 6. The lock is never held across an await, and no waker, guard or error is woken or dropped under it.

mod holding;
mod leader;
mod registry;
mod state;
mod waiter;

pub(crate) use self::holding::{Holding, Turns};
pub(crate) use self::leader::LeaderRole;
pub(crate) use self::registry::{Queue, Queues};
pub(crate) use self::state::{PATIENCE, Polls, Start};
pub(crate) use self::waiter::{Next, Stop, Waiter};

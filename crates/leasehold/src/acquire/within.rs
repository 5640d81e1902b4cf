//! Calls by the work that runs under the lock in `run`.

use std::cell::RefCell;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::shared::Core;

thread_local! {
    /// The locks whose work this thread polls now, innermost last.
    static WITHIN: RefCell<Vec<Within>> = const { RefCell::new(Vec::new()) };
}

/// A lock of a client whose work is polled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Within {
    pub(crate) client: usize,
    pub(crate) key: Arc<str>,
}

impl Within {
    pub(crate) fn enter(&self) -> Entered {
        WITHIN.with_borrow_mut(|all| all.push(self.clone()));
        Entered
    }
}

/// The thread polls such work until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered;

impl Drop for Entered {
    fn drop(&mut self) {
        WITHIN.with_borrow_mut(Vec::pop);
    }
}

/// Whether this task works under the lock already, and would wait for itself.
pub(crate) fn is_within(core: &Arc<Core>, key: &str) -> bool {
    let client = Arc::as_ptr(&core.leases).addr();
    WITHIN.with_borrow(|all| {
        let mut all = all.iter();
        all.any(|within| within.client == client && &*within.key == key)
    })
}

pub(crate) fn asked_within(key: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "the work under the lock `{key}` acquires `{key}` again, and would wait for itself"
        ),
    )
    .with_key(key)
    .with_hint(
        "use the lock of the work (its `LockScope`), or another key: locks are not re-entrant",
    )
}

//! What the verbs that acquire a lock share: [`nested`] finds a run that would wait for itself, [`waiting`] acquires
//! the lock, and [`release`] releases it.

pub(crate) mod nested;
pub(crate) mod release;
pub(crate) mod waiting;

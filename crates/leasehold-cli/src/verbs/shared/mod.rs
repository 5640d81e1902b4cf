//! What the verbs share: [`nested`] finds a run that would wait for itself. [`waiting`] acquires the lock,
//! [`alone`] does so for a verb without a command. [`command`] runs a command under it, and [`release`] releases
//! it. [`output`] writes results, [`entry`] is a lock in them, and [`id_file`] ids.

pub(crate) mod alone;
pub(crate) mod command;
pub(crate) mod entry;
pub(crate) mod id_file;
pub(crate) mod locks;
pub(crate) mod nested;
pub(crate) mod output;
pub(crate) mod release;
pub(crate) mod waiting;
pub(crate) mod who;

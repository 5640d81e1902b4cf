//! The verbs.

pub(crate) mod acquire;
pub(crate) mod by_id;
pub(crate) mod doctor;
pub(crate) mod elect;
pub(crate) mod force;
pub(crate) mod forget;
pub(crate) mod generate;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod sweep;
pub(crate) mod top;
pub(crate) mod watch;

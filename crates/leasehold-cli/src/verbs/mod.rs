//! The verbs.

pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod run;
pub(crate) mod shared;
pub(crate) mod top;

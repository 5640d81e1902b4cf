//! Work that runs once, and is remembered.
//!
//! A run is a grant like any other. Its end is a completion in place of a release (`docs/protocol.md`
//! section 12). `request` has the settings, `look` finds out whether the work is to run, `work` runs it,
//! and `run` is a run under way.

mod end;
mod look;
mod pace;
mod request;
mod run;
mod value;
mod work;

pub use self::end::{Once, OnceError};
pub use self::look::Started;
pub use self::request::OnceRequest;
pub use self::run::OnceRun;
#[cfg(feature = "serde")]
pub use self::value::Json;
pub use self::value::OnceValue;

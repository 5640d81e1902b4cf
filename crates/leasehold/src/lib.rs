//! leasehold
pub mod clock;
mod error;
mod held;
mod key;
pub mod protocol;
pub mod store;

pub use self::error::{Effect, Error, ErrorKind};
pub use self::held::Held;
pub use self::key::{Key, MAX_KEY_BYTES};

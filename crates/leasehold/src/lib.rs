//! leasehold
pub mod clock;
pub mod protocol;
pub mod store;

mod acquire;
mod client;
mod error;
mod exchange;
mod held;
mod identity;
mod keeper;
mod key;
mod lease;
mod meter;
mod observe;
mod policy;
mod run;

pub use self::client::{Drained, LockClient, LockClientBuilder, LockRequest, TryAcquire};
pub use self::error::{Effect, Error, ErrorKind};
pub use self::held::Held;
pub use self::identity::LeaseId;
pub use self::key::{Key, MAX_KEY_BYTES};
pub use self::lease::{Lease, Loss, LostSignal, ReleaseOutcome};
pub use self::meter::Usage;
pub use self::observe::{Lister, LockState, LockStatus};
pub use self::policy::{CheckDelay, DropPolicy, Policy, PolicyBuilder};
pub use self::protocol::token::FencingToken;
pub use self::run::Scope;

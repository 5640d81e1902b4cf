//! Distributed locks with leases and fencing tokens, on AWS DynamoDB, and on one machine with
//! SQLite.
//!
//! # A lease in thirty lines
//!
//! [`LockClient::try_acquire`] tries once. [`LockClient::acquire`] waits, within a bound.
//! [`LockClient::run`] does work under a lock and always releases it afterwards. A [`Lease`]
//! is renewed in the background until it is released or dropped.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), leasehold::Error> {
//! use leasehold::{LockClient, TryAcquireOutcome, store::memory::MemoryStore};
//!
//! let locks = LockClient::new(MemoryStore::new());
//!
//! let lease = locks.acquire("customer/42").await?;
//! // The protected resource gets the token, and refuses smaller tokens than it has seen.
//! let token = lease.token().get();
//! # assert!(token > 0);
//! match locks.try_acquire("customer/42").await? {
//!     TryAcquireOutcome::Acquired(_) => unreachable!("we hold it"),
//!     TryAcquireOutcome::Held(held) => println!("{held} until {:?}", held.until()),
//! }
//! assert!(lease.release().await?.is_released());
//!
//! let sum = locks.run("customer/42", |scope| async move {
//!     // This future is dropped if the lease is lost. The token protects what it wrote.
//!     scope.token().get() + 1
//! }).await?;
//! # assert!(sum > token);
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not protect from
//!
//! A process can always be paused between the check of its lease and its next action: by a debugger,
//! a hypervisor or a full disk. During the pause its lease ends and another begins. Afterwards the
//! process acts, and no lock service can stop it. The resource can: it gets the [`FencingToken`]
//! with every write and refuses older ones. This library makes three promises (the assumptions are
//! in `docs/protocol.md`, the evidence in `docs/proof.md`):
//!
//! - The validity intervals of two leases of a key never overlap. Assumed: the service's hosts agree
//!   on the time within 200 ms, and elapsed clocks are off by at most 0.1 %. Wall clocks may show
//!   anything.
//! - Tokens of successive grants strictly increase, under any clocks.
//! - [`Lease::lost`] fires before the lease can have ended.
//!
//! # What it is not
//!
//! It is no semaphore and no transaction. It does not support eventually consistent replicas: pin one Region of a global
//! table, and do not use DAX.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `dynamodb` | `DynamoDbStore`: a table of FSharp.DynamoDbLock's shape |
//! | `sqlite` | `SqliteStore`: a file, for the processes of one machine |
//! | `blocking` | `leasehold::blocking`: a client for code without async |
//! | `metrics` | counts requests, units, grants, hand-offs, waits and losses with the `metrics` facade; the names are in `docs/operating.md` |
//! | `serde` | [`FencingToken`] as a number, and results of `once` as JSON |
//! | `test-util` | `store::testing::contract`: the suite for authors of stores |
//!
//! [`MemoryStore`](store::memory::MemoryStore) needs no feature. [Its
//! page](store::memory#testing-code-that-uses-locks) shows how to test code that uses locks.
//!
//! # Runtimes
//!
//! Tasks on the tokio runtime of the acquiring call renew a lease and release a dropped guard. That
//! runtime needs its timers, and must run for as long as the lease is held.
//!
//! | runtime | works |
//! |---|---|
//! | multi-thread: `#[tokio::main]`, `#[tokio::test(flavor = "multi_thread")]` | yes |
//! | current-thread that always runs: `#[tokio::main(flavor = "current_thread")]`, `#[tokio::test]`, a thread in `block_on(pending())` | yes, while no task blocks it for long |
//! | current-thread that runs only in a `block_on` for each call | no: nothing renews between the calls, and the lease is lost |
//! | without timers (no `enable_time`), or no tokio runtime at all | no: each call fails with [`Configuration`](ErrorKind::Configuration) |
//! | several, with one client | yes; the runtime of the acquiring call renews each guard |
//!
//! Code without async uses `leasehold::blocking` (feature `blocking`), or its own multi-thread
//! runtime. One worker thread is enough:
//!
//! ```
//! use leasehold::{LockClient, store::memory::MemoryStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
//! let locks = LockClient::new(MemoryStore::new());
//! let lease = runtime.block_on(locks.acquire("nightly-report"))?;
//! // Blocking work: the worker thread renews meanwhile.
//! println!("write with token {}", lease.token());
//! runtime.block_on(lease.release())?;
//! # Ok(())
//! # }
//! ```
//!
//! **The end of a runtime ends its leases without a release.** A guard that is dropped at the end of `main` or of a
//! `#[tokio::test]` is not released. Its key stays held until the lease has run out. Await [`Lease::release`], or
//! [`LockClient::shutdown`], which waits for the releases of all dropped guards.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "blocking")]
pub mod blocking;
pub mod clock;
pub mod store;

mod acquire;
mod client;
mod done;
mod error;
mod holder;
mod inspect;
mod key;
mod lease;
mod lease_id;
mod meter;
mod metrics;
mod policy;
mod queue;
mod renewal;
mod run;
mod runtime;
mod shared;
mod text;
mod usage;

pub use self::acquire::TryAcquireOutcome;
pub use self::client::all::{Leases, RequestAll};
pub use self::client::election::{Election, Leaders, Term, TermEnd};
#[cfg(feature = "serde")]
pub use self::client::once::Json;
pub use self::client::once::{Once, OnceError, OnceRequest, OnceRun, OnceValue, Started};
pub use self::client::{LockClient, LockClientBuilder, LockRequest};
pub use self::done::Done;
pub use self::error::{Effect, Error, ErrorKind};
pub use self::holder::{HolderInfo, LastHolder};
pub use self::inspect::{Lister, LockState, LockStatus};
pub use self::key::Key;
pub use self::lease::end::{EndReason, ReleaseOutcome, RenewOutcome};
pub use self::lease::guard::Lease;
pub use self::lease::watch::LeaseWatch;
pub use self::lease_id::LeaseId;
pub use self::policy::{CheckDelay, DropPolicy, Policy, PolicyBuilder};
pub use self::run::LockScope;
pub use self::usage::Usage;
pub use leasehold_protocol::token::FencingToken;

/// Runs the examples of the documents as tests.
#[cfg(all(doctest, feature = "dynamodb", feature = "sqlite"))]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/operating.md")]
    struct Operating;
}

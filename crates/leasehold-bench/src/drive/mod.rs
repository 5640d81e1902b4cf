//! The hidden mode `drive`: this program as a driver of its own locks and of peers without another SDK.
//!
//! The call is `leasehold-bench drive WHO WHERE TABLE SETTINGS`, with jobs on standard input (see
//! [`work`]). The driver is a separate process, so that it is started, measured and killed like the peers.

mod once;
mod work;

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{CheckDelay, Lease, LockClient, Policy};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::work::{Inside, Locker, serve};
use crate::dynamodb;
use crate::floor::{Answers, Floor};
use crate::fsharp::FSharp;
use crate::semaphore::Semaphore;
use crate::stopwatch::pause;

pub(crate) use self::work::monotonic_ns;

pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(("once", rest)) = args.split_first().map(|(who, rest)| (who.as_str(), rest)) {
        return tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(once::once(rest));
    }
    let [who, place, table, settings] = args else {
        bail!("usage: leasehold-bench drive WHO WHERE TABLE SETTINGS");
    };
    let settings: Value = serde_json::from_str(settings).context("bad settings")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(drive(who, place, table, &settings))
}

async fn drive(who: &str, place: &str, table: &str, settings: &Value) -> Result<()> {
    match who {
        "leasehold" => {
            serve(settings, async || {
                ours(DynamoDbStore::new(dynamodb::client(place), table), settings)
            })
            .await
        }
        "sqlite" => serve(settings, async || ours(SqliteStore::open(place)?, settings)).await,
        "fsharp" => {
            let expiry = millis(settings, "lease_ms").unwrap_or(Duration::from_secs(20));
            let delay = millis(settings, "poll_ms").unwrap_or(Duration::from_millis(20));
            serve(settings, async || {
                Ok(FSharpLocker {
                    requests: FSharp::new(dynamodb::client(place), table),
                    expiry,
                    delay,
                })
            })
            .await
        }
        "semaphore" => {
            let delay = millis(settings, "poll_ms");
            let limit = number(settings, "slots").unwrap_or(1);
            serve(settings, async || {
                let requests = Semaphore::new(dynamodb::client(place), table, limit);
                Ok(SemaphoreLocker { requests, delay })
            })
            .await
        }
        "raw" => {
            serve(settings, async || {
                Ok(Raw(Floor::new(place, table, "", Answers::Bare)))
            })
            .await
        }
        "fd-lock" => serve(settings, async || Ok(FdLock(place.into()))).await,
        "flock" => serve(settings, async || Ok(Flock(place.into()))).await,
        _ => bail!("nobody is called `{who}`"),
    }
}

fn millis(settings: &Value, name: &str) -> Option<Duration> {
    let ms = settings.get(name).and_then(Value::as_u64);
    ms.map(Duration::from_millis)
}

fn number(settings: &Value, name: &str) -> Option<u32> {
    let number = settings.get(name).and_then(Value::as_u64);
    number.and_then(|number| u32::try_from(number).ok())
}

/// Ours, as a user of the library has it.
struct Ours {
    locks: LockClient,
    /// The whole key, or one of its slots.
    slots: Option<u32>,
    kept: Mutex<Vec<Lease>>,
}

fn ours(store: impl Store, settings: &Value) -> Result<Ours> {
    let mut policy = Policy::builder().wait_forever();
    if let Some(lease) = millis(settings, "lease_ms") {
        policy = policy.lease_duration(lease);
    }
    if let (Some(first), Some(max)) = (
        millis(settings, "poll_first_ms"),
        millis(settings, "poll_max_ms"),
    ) {
        policy = policy.check_delay(CheckDelay::Backoff { first, max });
    }
    if let Some(delay) = millis(settings, "poll_ms") {
        policy = policy.check_delay(CheckDelay::Fixed(delay));
    }
    if let Some(delay) = millis(settings, "ask_ms") {
        policy = policy.check_delay(CheckDelay::ByAcquire(delay));
    }
    Ok(Ours {
        locks: LockClient::builder(store).policy(policy.build()?).build(),
        slots: number(settings, "slots"),
        kept: Mutex::default(),
    })
}

impl Locker for Ours {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let lease = match self.slots {
            None => self.locks.acquire(key).await?,
            Some(limit) => self.locks.slots(key, limit)?.acquire().await?,
        };
        if inside.is_for_ever() {
            inside.enter();
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(lease);
            return Ok(());
        }
        inside.stay().await;
        let outcome = lease.release().await?;
        ensure!(outcome.is_released(), "not ours to release: {outcome}");
        Ok(())
    }
}

/// FSharp.DynamoDbLock: its two requests and its loop. The expiry is an instant that is fixed
/// before the wait, as `LockSettings` has it.
struct FSharpLocker {
    requests: FSharp,
    expiry: Duration,
    delay: Duration,
}

impl Locker for FSharpLocker {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let me = FSharp::client_id();
        let expires_ms = FSharp::now_ms() + i64::try_from(self.expiry.as_millis())?;
        while !self.requests.acquire(key, &me, expires_ms).await? {
            pause(self.delay).await;
        }
        inside.stay().await;
        ensure!(
            self.requests.release(key, &me).await?,
            "the lock was not available to release"
        );
        Ok(())
    }
}

/// The semaphore of AWS's sample: its requests, and its loop or one with a fixed delay.
struct SemaphoreLocker {
    requests: Semaphore,
    delay: Option<Duration>,
}

impl Locker for SemaphoreLocker {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let me = FSharp::client_id();
        let mut refused = 0;
        while !self.requests.acquire(key, &me).await? {
            pause(self.delay.unwrap_or_else(|| Semaphore::delay(refused))).await;
            refused += 1;
        }
        if inside.is_for_ever() {
            inside.enter();
            return Ok(());
        }
        inside.stay().await;
        ensure!(
            self.requests.release(key, &me).await?,
            "not ours to release"
        );
        Ok(())
    }
}

/// Two raw requests. It cannot wait.
struct Raw(Floor);

impl Locker for Raw {
    async fn turn(&self, key: &str, inside: &Arc<Inside>) -> Result<()> {
        let floor = self.0.of(key);
        let (me, token) = floor.acquire_anew().await?;
        inside.stay().await;
        floor.release(&me, token).await
    }
}

/// The crate `fd-lock`: a file opened for each turn, so that tasks of one process exclude each
/// other, too. It blocks its thread.
struct FdLock(PathBuf);

impl Locker for FdLock {
    async fn turn(&self, _key: &str, inside: &Arc<Inside>) -> Result<()> {
        let mut lock = fd_lock::RwLock::new(open(&self.0)?);
        let guard = tokio::task::block_in_place(|| lock.write())?;
        inside.stay().await;
        drop(guard);
        Ok(())
    }
}

fn open(path: &PathBuf) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// `flock FILE COMMAND`: the command reports its start, and ends with its input.
struct Flock(PathBuf);

impl Locker for Flock {
    async fn turn(&self, _key: &str, inside: &Arc<Inside>) -> Result<()> {
        let mut flock = tokio::process::Command::new("flock")
            .arg(&self.0)
            .arg("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start flock: install util-linux")?;
        let mut input = flock.stdin.take().context("no standard input")?;
        let mut output = flock.stdout.take().context("no standard output")?;
        input.write_all(b"x").await?;
        output.read_exact(&mut [0]).await?;
        inside.stay().await;
        drop(input);
        let status = flock.wait().await?;
        ensure!(status.success(), "flock failed ({status})");
        Ok(())
    }
}

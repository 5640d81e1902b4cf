//! What the integration tests share: stores to run against.
//!
//! DynamoDB Local is started by `cargo xtask test`, which passes its address in
//! `LEASEHOLD_TEST_DYNAMODB`. Where it is missing, the tests that need it fail; nothing is skipped.

pub(crate) mod file;
pub(crate) mod gate;
pub(crate) mod http;
pub(crate) mod waiters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use leasehold::clock::{Clock, SystemClock, TokioClock};
use leasehold::store::Store;
use leasehold::store::dynamodb::{DynamoDbStore, TableShape};
use leasehold::store::memory::MemoryStore;
use leasehold::store::sqlite::SqliteStore;
use leasehold::store::testing::counting::CountingStore;
use leasehold::store::testing::faulty::FaultyStore;
use leasehold::{LockClient, LockState, Policy};

/// The wall clock at the start of tests in virtual time.
pub(crate) const VIRTUAL_START_MS: i64 = 1_800_000_000_000;

/// The address of DynamoDB Local.
pub(crate) fn endpoint() -> String {
    std::env::var("LEASEHOLD_TEST_DYNAMODB").expect(
        "LEASEHOLD_TEST_DYNAMODB is not set: run the tests with `cargo xtask test`, \
         or start a server with `cargo xtask dynamodb` and set it to its address",
    )
}

/// A fifth of the work of a test with real processes. `cargo xtask test --whole` asks for all of it.
pub(crate) fn share(work: u64) -> u64 {
    match std::env::var_os("LEASEHOLD_TEST_WHOLE") {
        Some(_) => work,
        None => work / 5,
    }
}

/// A client of DynamoDB Local, or of whatever listens at `endpoint`.
pub(crate) fn client(endpoint: &str) -> Client {
    Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint)
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

/// A name that no other test of this run uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemClock.elapsed().0.as_nanos();
    format!("{prefix}-{}-{n}-{now}", std::process::id())
}

/// A new table on DynamoDB Local.
pub(crate) async fn dynamodb() -> DynamoDbStore {
    dynamodb_shaped(TableShape::default()).await
}

/// A new table of this shape on DynamoDB Local.
pub(crate) async fn dynamodb_shaped(shape: TableShape) -> DynamoDbStore {
    let store = DynamoDbStore::new(client(&endpoint()), unique("locks"));
    let store = store.with_shape(shape).expect("a valid shape");
    store.create_table().await.expect("create the table");
    store
}

/// The shape of locks in a table of many kinds of items: every lock has one sort key.
pub(crate) fn shared_shape() -> TableShape {
    TableShape::default()
        .partition_key("PK")
        .sort_key("SK", "LOCK")
        .prefix("LOCK#")
        .ttl("ttl")
}

/// A new SQLite file.
pub(crate) fn sqlite() -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = SqliteStore::open(dir.path().join("locks.db")).expect("open");
    (dir, store)
}

/// A store with the clock that its clients use.
#[derive(Debug)]
pub(crate) struct Kit {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    _dir: Option<tempfile::TempDir>,
}

impl Kit {
    /// A memory store in the virtual time of a paused tokio runtime.
    pub(crate) fn memory() -> Kit {
        let clock = Arc::new(TokioClock::new(VIRTUAL_START_MS));
        Kit {
            name: "memory",
            store: Arc::new(MemoryStore::with_clock(clock.clone())),
            clock,
            _dir: None,
        }
    }

    /// A memory store in real time.
    pub(crate) fn memory_in_real_time() -> Kit {
        Kit {
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(SystemClock),
            ..Kit::memory()
        }
    }

    /// A SQLite file in real time.
    pub(crate) fn sqlite() -> Kit {
        let (dir, store) = sqlite();
        Kit {
            name: "sqlite",
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            _dir: Some(dir),
        }
    }

    /// DynamoDB Local in real time.
    pub(crate) async fn dynamodb() -> Kit {
        Kit::dynamodb_shaped(TableShape::default()).await
    }

    /// The same with a table that other items share.
    pub(crate) async fn dynamodb_shared() -> Kit {
        Kit::dynamodb_shaped(shared_shape()).await
    }

    async fn dynamodb_shaped(shape: TableShape) -> Kit {
        Kit {
            name: "dynamodb",
            store: Arc::new(dynamodb_shaped(shape).await),
            clock: Arc::new(SystemClock),
            _dir: None,
        }
    }
}

/// A memory store whose requests can be counted and broken, in virtual time.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) memory: MemoryStore,
    pub(crate) counted: CountingStore,
    pub(crate) faulty: FaultyStore,
    pub(crate) clock: Arc<TokioClock>,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let clock = Arc::new(TokioClock::new(VIRTUAL_START_MS));
        let memory = MemoryStore::with_clock(clock.clone());
        let counted = CountingStore::new(Arc::new(memory.clone()));
        let faulty = FaultyStore::new(Arc::new(counted.clone()), clock.clone());
        Lab {
            memory,
            counted,
            faulty,
            clock,
        }
    }

    /// A client whose requests pass through the faults and are counted.
    pub(crate) fn client(&self, policy: Policy) -> LockClient {
        LockClient::builder(self.faulty.clone())
            .clock(self.clock.clone())
            .policy(policy)
            .build()
    }

    /// A client beside the faults, uncounted.
    pub(crate) fn bystander(&self) -> LockClient {
        LockClient::builder(self.memory.clone())
            .clock(self.clock.clone())
            .build()
    }

    /// The identity of a lease that a bystander has acquired and detached.
    pub(crate) async fn detached(&self, key: &str) -> leasehold::LeaseId {
        let lease = self.bystander().acquire(key).await.expect("free");
        lease.detach().await.expect("works")
    }

    /// The state of a key, as a bystander sees it.
    pub(crate) async fn state(&self, key: &str) -> leasehold::LockState {
        let status = self.bystander().inspect(key).await.expect("works");
        status.state().clone()
    }

    pub(crate) async fn sleep(&self, by: Duration) {
        self.clock.sleep_until(self.clock.elapsed().plus(by)).await;
    }

    /// Waits, in virtual time, until nobody holds the key.
    pub(crate) async fn free_within(&self, key: &str, limit: Duration) -> Duration {
        let start = self.clock.elapsed();
        let bystander = self.bystander();
        loop {
            let passed = self.clock.elapsed().since(start);
            let status = bystander.inspect(key).await.expect("memory works");
            if *status.state() == LockState::Free {
                return passed;
            }
            assert!(passed < limit, "`{key}` is not free after {passed:?}");
            self.sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Lab {
    pub(crate) fn clock_now(&self) -> Duration {
        self.clock.elapsed().0
    }

    /// Makes the record of a key look as if its holder had died long ago.
    /// Deletes the record of a key, as a table's TTL does.
    pub(crate) async fn expire_record_of(&self, key: &str) {
        self.memory.expunge(key);
        let read = self.memory.read(key, leasehold::store::Consistency::Strong);
        assert_eq!(read.await.expect("memory works").value, None, "deleted");
    }

    pub(crate) async fn kill_record_of(&self, key: &str) {
        let reply = self
            .memory
            .read(key, leasehold::store::Consistency::Strong)
            .await
            .expect("memory works");
        let mut record = reply.value.expect("there is a record");
        record.expires_at = leasehold_protocol::time::ServiceTime(1);
        self.memory.plant(record);
    }
}

impl Lab {
    /// Waits, in virtual time, until nobody holds the key with a live lease.
    pub(crate) async fn free_or_expired_within(&self, key: &str, limit: Duration) -> Duration {
        let start = self.clock.elapsed();
        let bystander = self.bystander();
        loop {
            let passed = self.clock.elapsed().since(start);
            let status = bystander.inspect(key).await.expect("memory works");
            if !matches!(status.state(), LockState::Held(_)) {
                return passed;
            }
            assert!(passed < limit, "`{key}` is held after {passed:?}");
            self.sleep(Duration::from_millis(5)).await;
        }
    }
}

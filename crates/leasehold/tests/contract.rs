//! One contract, every store.

mod support;

use std::sync::Arc;

use leasehold::store::Store;
use leasehold::store::contract::{against_the_model, run_all};
use leasehold::store::memory::MemoryStore;
use leasehold::store::sqlite::SqliteStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    run_all(Arc::new(MemoryStore::new()), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_long_model() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for seed in 0..20 {
        against_the_model(&store, "model/", seed, 5_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("locks.db")).expect("opened");
    run_all(Arc::new(store), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_long_model() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path().join("locks.db")).expect("opened");
    let store: Arc<dyn Store> = Arc::new(store);
    for seed in 0..4 {
        against_the_model(&store, "model/", seed, 2_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb() {
    run_all(Arc::new(support::dynamodb().await), "contract/").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb_long_model() {
    let store: Arc<dyn Store> = Arc::new(support::dynamodb().await);
    against_the_model(&store, "model/", 1, 2_000).await;
}

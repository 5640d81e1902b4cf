//! `leasehold-contract`: the contract suite of stores on the memory store, which runs the protocol's
//! own `apply`. `crates/leasehold/tests/contract.rs` holds the other stores to the same; without their
//! dependencies this builds in a second, so that mutants of the protocol meet it.

use std::sync::Arc;

use leasehold::store::Store;
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::contract::{against_the_model, leaves_what_is_not_ours, run_all};
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let memory = MemoryStore::new();
    memory.plant(Record {
        last_hold: None,
        key: "strange".into(),
        owner: None,
        expires_at: ServiceTime(0),
        native: None,
        ttl_seconds: None,
        holder: None,
        acquired_at: None,
        data: None,
        queue: Vec::new(),
        done: None,
        slots: None,
        last_force: None,
        holder_is_dead: false,
    });
    let store: Arc<dyn Store> = Arc::new(memory);
    leaves_what_is_not_ours(&store, "strange").await;
    run_all(store.clone(), "contract/").await;
    for seed in 0..4 {
        against_the_model(&store, "model/", seed, 5_000).await;
    }
}

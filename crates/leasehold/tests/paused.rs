//! A client on the host's clock in a test with paused time: it says so, and does not use up a core.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use leasehold::LockClient;
use leasehold::store::memory::MemoryStore;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no panics").push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a user's test is what is tested")]
async fn u8_paused_time_with_the_hosts_clock_is_told_once() {
    let warnings = Warnings::default();
    let _scope = tracing::subscriber::set_default(warnings.clone());
    let locks = LockClient::new(MemoryStore::new());
    let lease = locks.acquire("k").await.expect("free");
    // The test's own timers go on.
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(begun.elapsed() >= Duration::from_secs(30));
    let other = locks.acquire("other").await.expect("free");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(lease.is_held() && other.is_held(), "in real time");
    let warnings = warnings.0.lock().expect("no panics").clone();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("TokioClock"), "{warnings:?}");
}

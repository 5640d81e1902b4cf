//! Metrics over OpenTelemetry: the feature `metrics` counts through the `metrics` facade, and a bridge exports it.
//!
//! `cargo run -p leasehold-examples --bin opentelemetry -- /tmp/locks.db`

use leasehold::LockClient;
use leasehold::store::sqlite::SqliteStore;
use metrics_exporter_opentelemetry::Recorder;
use opentelemetry_stdout::MetricExporter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Before the first client, which describes its metrics at its creation.
    let (provider, recorder) = Recorder::builder("locks")
        .with_meter_provider(|provider| provider.with_periodic_exporter(MetricExporter::default()))
        .build();
    metrics::set_global_recorder(recorder)?;

    let path = std::env::args().nth(1).unwrap_or_else(|| "locks.db".into());
    let work = async {
        let locks = LockClient::new(SqliteStore::open(path)?);
        locks.run("nightly-report", async |_| ()).await
    };
    let done = work.await;
    // Exports what has not been exported yet, also after a failure.
    provider.shutdown()?;
    Ok(done?)
}

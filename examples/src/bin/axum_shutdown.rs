//! A web service that serialises work per customer, and releases its locks before it ends.
//!
//! `cargo run -p leasehold-examples --bin axum_shutdown -- /tmp/locks.db 127.0.0.1:8080`, then Ctrl-C.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{ErrorKind, LockClient};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().unwrap_or_else(|| "locks.db".into());
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let locks = LockClient::new(SqliteStore::open(path)?);

    let app = Router::new()
        .route("/import/{customer}", post(import))
        .with_state(locks.clone());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        })
        .await?;

    // Requests are done. Guards that were dropped are released in the background: wait for that.
    let released = locks.shutdown(Duration::from_secs(10)).await;
    println!("all locks released: {released}");
    Ok(())
}

async fn import(
    Path(customer): Path<String>,
    State(locks): State<LockClient>,
) -> (StatusCode, String) {
    let key = format!("customer/{customer}");
    let done = locks
        .run(&key, |scope| async move {
            format!("imported with token {}", scope.token())
        })
        .await;
    match done {
        Ok(text) => (StatusCode::OK, text),
        Err(error) if error.kind() == ErrorKind::WaitExpired => {
            (StatusCode::CONFLICT, error.to_string())
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

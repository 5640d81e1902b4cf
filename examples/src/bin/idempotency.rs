//! An HTTP service whose clients may send a request twice: the `Idempotency-Key` goes in, the stored answer comes out.
//!
//! A retry while the first request runs waits for its answer. A retry with another body is refused. A request that fails
//! may be sent again.
//! `cargo run -p leasehold-examples --bin idempotency -- /tmp/locks.db`

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use leasehold::store::sqlite::SqliteStore;
use leasehold::{ErrorKind, Json, LockClient, LockScope, Once, OnceError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// For how long an answer is stored.
const KEEP: Duration = Duration::from_secs(24 * 3_600);
/// How long a retry waits for the first request.
const WAIT: Duration = Duration::from_secs(20);

type Answer = (StatusCode, String);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "locks.db".into());
    let locks = LockClient::new(SqliteStore::open(path)?);
    let service = Router::new()
        .route("/charges", post(charge))
        .with_state(locks);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, service).await?;
    Ok(())
}

async fn charge(State(locks): State<LockClient>, headers: HeaderMap, body: Bytes) -> Answer {
    let key = headers
        .get("Idempotency-Key")
        .and_then(|key| key.to_str().ok());
    let Some(key) = key else {
        let hint = "send an `Idempotency-Key`".to_owned();
        return (StatusCode::BAD_REQUEST, hint);
    };
    let once = match locks.once(&format!("charge/{key}")) {
        Ok(once) => once.keep(KEEP).wait(WAIT).input(Sha256::digest(&body)),
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()),
    };
    match once.run(|scope| work(scope, &body)).await {
        Ok(Once::Ran(Json(answer))) => (StatusCode::CREATED, answer.to_string()),
        Ok(Once::Done(done)) => match done.value::<Json<Value>>() {
            Ok(Json(answer)) => (StatusCode::OK, answer.to_string()),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Err(error) => (status(&error), error.to_string()),
    }
}

/// The token makes the charge safe even if this process is paused for longer than its lease.
async fn work(scope: LockScope, body: &[u8]) -> Result<Json<Value>, String> {
    let order: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(Json(
        json!({ "charged": order["amount"], "token": scope.token().get() }),
    ))
}

fn status<T>(error: &OnceError<T, String>) -> StatusCode {
    match error.lock_error().map(leasehold::Error::kind) {
        // The work itself has failed.
        None | Some(ErrorKind::InvalidInput) => StatusCode::UNPROCESSABLE_ENTITY,
        Some(ErrorKind::WaitExpired) => StatusCode::CONFLICT,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

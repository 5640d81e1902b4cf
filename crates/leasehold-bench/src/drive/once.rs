//! One call of `once`, as the drivers of peers make theirs: `drive once URL TABLE KEY WORK_MS EFFECTS AHEAD_S KEEP_S LEASE_S`.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use leasehold::clock::{Clock, Elapsed, SystemClock};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::{LockClient, Once, Policy};
use serde_json::json;

use crate::dynamodb;
use crate::stopwatch::{Stopwatch, pause};

/// A host whose wall clock is ahead.
#[derive(Debug)]
struct Ahead(i64);

#[async_trait]
impl Clock for Ahead {
    fn elapsed(&self) -> Elapsed {
        SystemClock.elapsed()
    }

    fn wall_unix_ms(&self) -> i64 {
        SystemClock.wall_unix_ms() + self.0 * 1_000
    }

    async fn sleep_until(&self, at: Elapsed) {
        SystemClock.sleep_until(at).await;
    }
}

pub(super) async fn once(args: &[String]) -> Result<()> {
    let [url, table, key, work_ms, effects, ahead_s, keep_s, lease_s] = args else {
        bail!(
            "usage: leasehold-bench drive once URL TABLE KEY WORK_MS EFFECTS AHEAD_S KEEP_S LEASE_S"
        );
    };
    let seconds = |text: &str| anyhow::Ok(Duration::from_secs(text.parse()?));
    let policy = Policy::builder()
        .lease_duration(seconds(lease_s)?)
        .build()?;
    let locks = LockClient::builder(DynamoDbStore::new(dynamodb::client(url), table.as_str()))
        .clock(Arc::new(Ahead(ahead_s.parse()?)))
        .policy(policy)
        .build();
    let work = Duration::from_millis(work_ms.parse()?);
    let own = format!("by {}", std::process::id());
    let started = Stopwatch::start();
    let call = locks.once(key)?.keep(seconds(keep_s)?).wait_forever();
    let answer = call.run(|_| async {
        let mut file = OpenOptions::new().create(true).append(true).open(effects)?;
        writeln!(file, "{own}")?;
        pause(work).await;
        Ok::<_, std::io::Error>(own.clone())
    });
    let answer = answer.await;
    let ms = u64::try_from(started.elapsed().as_millis())?;
    let line = match answer.map(Once::into_value) {
        Ok(Ok(result)) => json!({ "own": result == own, "result": result, "ms": ms }),
        Ok(Err(error)) => json!({ "own": false, "error": error.to_string(), "ms": ms }),
        Err(error) => json!({ "own": false, "error": error.to_string(), "ms": ms }),
    };
    println!("{line}");
    Ok(())
}

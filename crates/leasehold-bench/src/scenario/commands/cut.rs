//! A TCP forwarder that can fall silent: connections stay open, and nothing passes any more.
//!
//! A network that is cut looks like this to both ends. A server that is stopped resets its connections instead,
//! which every client notices at once.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running forwarder. Dropping it closes its connections.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) address: String,
    silent: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Cut {
    /// Forwards from a free port of loopback to `upstream`, `HOST:PORT`.
    pub(super) async fn start(upstream: &str) -> Result<Cut> {
        let upstream: SocketAddr = upstream.parse().context("no address of loopback")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (silent, watched) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, watched));
        Ok(Cut {
            address,
            silent,
            _tasks: tasks,
        })
    }

    /// From now on nothing passes.
    pub(super) fn cut(&self) {
        self.silent.send_replace(true);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, silent: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(forward(client, upstream, silent.clone()));
    }
}

async fn forward(mut client: TcpStream, upstream: SocketAddr, mut silent: watch::Receiver<bool>) {
    let passing = async {
        let mut server = TcpStream::connect(upstream).await.ok()?;
        copy_bidirectional(&mut client, &mut server).await.ok()
    };
    // First the silence: a new connection after the cut is accepted and never answered.
    tokio::select! {
        biased;
        cut = silent.wait_for(|silent| *silent) => drop(cut),
        _ = passing => return,
    }
    // `client` stays open until the forwarder is dropped.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::stopwatch::within;

    #[tokio::test]
    async fn after_the_cut_connections_stay_open_and_nothing_passes() {
        let echo = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let upstream = echo.local_addr().expect("bound").to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() {
                    stream.write_all(&byte).await.expect("echoed");
                }
            }
        });
        let cut = Cut::start(&upstream).await.expect("started");
        let mut old = TcpStream::connect(&cut.address).await.expect("accepted");
        let mut byte = [0];
        old.write_all(b"x").await.expect("sent");
        let answer = within(Duration::from_secs(10), old.read_exact(&mut byte)).await;
        answer.expect("in time").expect("an echo");

        cut.cut();
        let mut new = TcpStream::connect(&cut.address).await.expect("accepted");
        for stream in [&mut old, &mut new] {
            stream.write_all(b"x").await.expect("sent");
            let silence = within(Duration::from_millis(200), stream.read(&mut byte)).await;
            silence.expect_err("neither an answer nor an end");
        }
    }
}

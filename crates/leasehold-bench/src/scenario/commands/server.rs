//! The peers' servers: one process each on loopback, with its files in a directory of this run.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::case::until;
use crate::scenario::ms;
use crate::stopwatch::within;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    /// `HOST:PORT` of its clients.
    pub(super) address: String,
    _child: Child,
}

/// etcd with one member.
pub(super) async fn etcd(directory: &Path) -> Result<Server> {
    let [clients, peers] = ports().await?;
    let (clients, peers) = (format!("127.0.0.1:{clients}"), format!("127.0.0.1:{peers}"));
    let url = |address: &str| format!("http://{address}");
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(directory.join("etcd"))
        .args(["--name", "bench"])
        .args(["--listen-client-urls", &url(&clients)])
        .args(["--advertise-client-urls", &url(&clients)])
        .args(["--listen-peer-urls", &url(&peers)])
        .args(["--initial-advertise-peer-urls", &url(&peers)])
        .args(["--initial-cluster", &format!("bench={}", url(&peers))]);
    start(command, clients, "/health", "true").await
}

/// Consul's agent in development mode: a server with one member, in memory.
pub(super) async fn consul() -> Result<Server> {
    let [http, rpc, lan, wan] = ports().await?;
    let mut command = Command::new("consul");
    command
        .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"])
        .args(["-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1"])
        .arg(format!("-http-port={http}"))
        .arg(format!("-server-port={rpc}"))
        .arg(format!("-serf-lan-port={lan}"))
        .arg(format!("-serf-wan-port={wan}"))
        .arg("-hcl=disable_update_check = true");
    start(
        command,
        format!("127.0.0.1:{http}"),
        "/v1/status/leader",
        "127.0.0.1",
    )
    .await
}

/// Starts it, and waits until the answer to `path` contains `ready`.
async fn start(mut command: Command, address: String, path: &str, ready: &str) -> Result<Server> {
    let what = format!("{:?}", command.as_std());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    let answers = async || {
        let answer = request(&address, "GET", path).await;
        answer.is_ok_and(|answer| answer.contains(ready))
    };
    let up = until(ms(30_000), answers).await;
    if up.is_none() {
        bail!("{what} is not ready after 30 s ({:?})", child.try_wait()?);
    }
    Ok(Server {
        address,
        _child: child,
    })
}

/// One request, and the body of its answer. By HTTP/1.0, which has no chunks.
pub(super) async fn request(address: &str, method: &str, path: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head =
            format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = within(ms(5_000), exchange).await??;
    ensure!(
        answer.starts_with("HTTP/1.0 200"),
        "{method} {path}: {answer}"
    );
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    Ok(body.to_owned())
}

/// Ports of loopback that were free just now.
async fn ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

//! One running DynamoDB Local.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guard::{self, Guarded};
use crate::wait;

/// How long it may take to answer. Usual is a second; a machine that also compiles needs more.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How many free ports are tried: another program may take a port before the server binds it.
const ATTEMPTS: u32 = 5;

/// A server that answers, for as long as `program` lives.
#[derive(Debug)]
pub(crate) struct Server {
    /// `http://127.0.0.1:PORT`.
    pub(crate) url: String,
    /// The process; dropping it ends the server.
    pub(crate) program: Guarded,
    /// What the server printed.
    pub(crate) log: Log,
}

/// A server's output, in a file without a name, which needs no removal.
#[derive(Debug)]
pub(crate) struct Log(File);

/// How one attempt to start ended without a server.
enum Failure {
    PortTaken(anyhow::Error),
    Other(anyhow::Error),
}

/// Starts the server in `home` with `java`, and waits until it answers: on `port`, or on a free one.
pub(crate) fn start(java: &Path, home: &Path, port: Option<u16>) -> Result<Server> {
    let mut attempt = 1;
    loop {
        let number = match port {
            Some(port) => port,
            None => free_port()?,
        };
        match try_start(java, home, number) {
            Ok(server) => return Ok(server),
            Err(Failure::PortTaken(_)) if port.is_none() && attempt < ATTEMPTS => attempt += 1,
            Err(Failure::PortTaken(error) | Failure::Other(error)) => return Err(error),
        }
    }
}

fn try_start(java: &Path, home: &Path, port: u16) -> Result<Server, Failure> {
    let (mut program, log) = spawn(java, home, port).map_err(Failure::Other)?;
    let outcome = wait::until(START_LIMIT, Duration::from_millis(25), || {
        match program.ended() {
            Ok(None) => answers(port).then_some(Ok(())),
            Ok(Some(status)) => Some(Err(status.to_string())),
            Err(error) => Some(Err(format!("{error:#}"))),
        }
    });
    match outcome {
        Some(Ok(())) => Ok(Server {
            url: format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
            program,
            log,
        }),
        Some(Err(status)) => {
            let tail = log.tail();
            if tail.contains("Failed to bind") {
                return Err(Failure::PortTaken(anyhow::anyhow!(
                    "port {port} is taken: choose another, or none for a free one"
                )));
            }
            Err(Failure::Other(anyhow::anyhow!(
                "DynamoDB Local did not start ({status}); its log:\n{tail}"
            )))
        }
        None => Err(Failure::Other(anyhow::anyhow!(
            "DynamoDB Local did not answer on port {port} within {} s; its log:\n{}",
            START_LIMIT.as_secs(),
            log.tail()
        ))),
    }
}

fn spawn(java: &Path, home: &Path, port: u16) -> Result<(Guarded, Log)> {
    let log = Log::create(home)?;
    let mut command = guard::command(java)?;
    command
        .args([
            "-Djava.library.path=./DynamoDBLocal_lib",
            "-jar",
            "DynamoDBLocal.jar",
        ])
        .args([
            "-inMemory",
            "-sharedDb",
            "-disableTelemetry",
            "-port",
            &port.to_string(),
        ])
        .current_dir(home)
        .stdout(log.0.try_clone()?)
        .stderr(log.0.try_clone()?);
    Ok((Guarded::spawn(&mut command)?, log))
}

/// A port that is free on all interfaces, which the server binds. Another program may take it a moment later.
fn free_port() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot find a free port")?;
    Ok(listener
        .local_addr()
        .context("cannot find a free port")?
        .port())
}

/// Does a DynamoDB answer on this port?
fn answers(port: u16) -> bool {
    ask(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok_and(|answer| is_dynamodb(&answer))
}

/// Sends an unsigned request, which needs no credentials and changes nothing.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Some other HTTP server may have got the port; DynamoDB puts this header on every answer.
fn is_dynamodb(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 ")
        && answer
            .to_ascii_lowercase()
            .contains("\r\nx-amzn-requestid:")
}

impl Log {
    /// How much of it an error shows: the end of a Java stack trace names the cause.
    const SHOWN_BYTES: u64 = 4096;

    fn create(directory: &Path) -> Result<Self> {
        let path = directory.join(format!("log-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok(Self(file))
    }

    /// The last lines, or why they cannot be had.
    pub(crate) fn tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let length = self.0.metadata()?.len();
            let shown = length.min(Self::SHOWN_BYTES);
            let mut bytes = vec![0; usize::try_from(shown).unwrap_or(0)];
            self.0.read_exact_at(&mut bytes, length - shown)?;
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        match read() {
            Ok(text) if text.is_empty() => "(empty)".to_owned(),
            Ok(text) => text,
            Err(error) => format!("(unreadable: {error})"),
        }
    }
}

/// The address that people set to use a server of their own, checked; `None` when it is not set.
pub(crate) fn given(value: Option<&str>) -> Result<Option<&str>> {
    match value.map(str::trim) {
        None | Some("") => Ok(None),
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => Ok(Some(url)),
        Some(other) => bail!(
            "bad LEASEHOLD_TEST_DYNAMODB {other:?}: give a URL such as http://127.0.0.1:8000, or unset it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert_ne!(port, 0);
        // Another process may take it in between, hence more than one try.
        let bound = (0..ATTEMPTS)
            .any(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).is_ok());
        assert!(bound);
    }

    #[test]
    fn a_port_in_use_is_not_called_free() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_ne!(free_port().unwrap(), taken.local_addr().unwrap().port());
    }

    #[test]
    fn only_dynamodb_is_taken_for_dynamodb() {
        assert!(is_dynamodb(
            "HTTP/1.1 400 Bad Request\r\nServer: Jetty\r\nx-amzn-RequestId: 7cf4\r\n\r\n{}"
        ));
        assert!(!is_dynamodb(
            "HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n<p>x-amzn-requestid:"
        ));
        assert!(!is_dynamodb("SSH-2.0-OpenSSH_9.2\r\n"));
        assert!(!is_dynamodb(""));
    }

    #[test]
    fn an_own_server_is_used_when_it_is_a_url() {
        assert_eq!(given(None).unwrap(), None);
        assert_eq!(given(Some("")).unwrap(), None);
        assert_eq!(
            given(Some("http://127.0.0.1:8000")).unwrap(),
            Some("http://127.0.0.1:8000")
        );
        assert!(
            given(Some("127.0.0.1:8000"))
                .unwrap_err()
                .to_string()
                .contains("unset it")
        );
    }
}

//! A proxy on loopback, between any DynamoDB client and DynamoDB Local.
//!
//! It speaks plain HTTP/1.1 with `Content-Length`, as the SDKs do with DynamoDB. It knows no locks and
//! decides nothing: what happens to a request is up to its [`Rule`], which can pass it on, count it,
//! delay it, lose it or its answer, or answer in the service's place.
//!
//! One connection of a client is one connection to the service, and on it requests and answers take
//! turns. A request that a rule has passed on is carried to the service even if its client leaves.

mod message;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use self::message::Message;

/// What happens to a request.
#[async_trait]
pub trait Rule: Debug + Send + Sync + 'static {
    /// Carries one request to the service, or not, and says what its client gets.
    ///
    /// # Errors
    ///
    /// Ends the connection; [`Proxy::check`] tells.
    async fn carry(&self, request: Message, service: &mut Service) -> Result<Reply>;
}

/// What a client gets.
#[derive(Debug)]
pub enum Reply {
    /// An answer.
    Answer(Message),
    /// The end of its connection.
    Close,
    /// The end of its connection, by a reset.
    Reset,
}

/// The way to the service.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Service {
    /// Asks the service; `None` when it closes the connection instead of answering. Connects, again
    /// if need be, but never asks twice.
    ///
    /// # Errors
    ///
    /// When it cannot be reached, or answers with what this proxy does not understand.
    pub async fn ask(&mut self, request: &Message) -> Result<Option<Message>> {
        // A service ends connections that were idle; what is sent on one of those is lost.
        let open = self.stream.take().filter(is_open);
        let mut stream = match open {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)
                    .await
                    .context("cannot connect to the service")?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(&request.bytes()).await?;
        let answer = Message::read(&mut stream).await.context("bad answer")?;
        if answer.is_some() {
            self.stream = Some(stream);
        }
        Ok(answer)
    }
}

/// Whether the other side has not closed it, as far as is known here.
fn is_open(stream: &BufReader<TcpStream>) -> bool {
    let read = stream.get_ref().try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A running proxy; it stops when this value is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    failure: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts on a free port of loopback, in the current runtime. `upstream` is `http://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// When there is no such address, or no free port.
    pub async fn start(upstream: &str, rule: Arc<dyn Rule>) -> Result<Proxy> {
        let upstream = address(upstream).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("cannot listen on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let failure = Arc::<Mutex<Option<String>>>::default();
        let shared = failure.clone();
        let task = tokio::runtime::Handle::current().spawn(async move {
            // Ends the connections when this task is aborted.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (failure, rule) = (shared.clone(), rule.clone());
                connections.spawn(async move {
                    if let Err(error) = serve(client, upstream, rule.as_ref()).await {
                        lock(&failure).get_or_insert(format!("{error:#}"));
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Proxy { url, failure, task })
    }

    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether everything that passed since the last check was understood.
    ///
    /// # Errors
    ///
    /// The first failure of a connection.
    pub fn check(&self) -> Result<()> {
        match lock(&self.failure).take() {
            Some(failure) => bail!("the proxy failed: {failure}"),
            None => Ok(()),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under this lock can leave it half changed.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn address(url: &str) -> Result<SocketAddr> {
    let host = url
        .strip_prefix("http://")
        .with_context(|| format!("the proxy speaks plain HTTP only, not {url}"))?;
    tokio::net::lookup_host(host.trim_end_matches('/'))
        .await
        .with_context(|| format!("cannot resolve {url}"))?
        .next()
        .with_context(|| format!("{url} has no address"))
}

/// Serves one connection of a client until one side closes it.
async fn serve(client: TcpStream, upstream: SocketAddr, rule: &dyn Rule) -> Result<()> {
    client.set_nodelay(true)?;
    let mut service = Service {
        address: upstream,
        stream: None,
    };
    let mut client = BufReader::new(client);
    while let Some(mut request) = Message::read(&mut client).await.context("bad request")? {
        request.remove_header("accept-encoding");
        match rule.carry(request, &mut service).await? {
            Reply::Answer(answer) => {
                // A client that has left needs no answer.
                if client.get_mut().write_all(&answer.bytes()).await.is_err() {
                    return Ok(());
                }
            }
            Reply::Close => return Ok(()),
            Reply::Reset => {
                client.get_ref().set_zero_linger()?;
                return Ok(());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A service that answers with the body of each request, until one says `end`.
    async fn echo() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                while let Ok(Some(request)) = Message::read(&mut stream).await {
                    if request.body == b"end" {
                        break;
                    }
                    let last = request.body == b"last";
                    let answer = Message::answer(200, &[], request.body);
                    stream
                        .get_mut()
                        .write_all(&answer.bytes())
                        .await
                        .expect("open");
                    if last {
                        break;
                    }
                }
            }
        });
        url
    }

    #[derive(Debug)]
    struct AsTold;

    #[async_trait]
    impl Rule for AsTold {
        async fn carry(&self, request: Message, service: &mut Service) -> Result<Reply> {
            Ok(match request.body.as_slice() {
                b"close" => Reply::Close,
                b"reset" => Reply::Reset,
                b"fail" => bail!("told to"),
                b"pause" => {
                    // The service's end of the connection comes on its own time; one round trip on
                    // another connection is later.
                    let mut other = Service {
                        address: service.address,
                        stream: None,
                    };
                    other.ask(&Message::answer(0, &[], vec![])).await?;
                    Reply::Answer(Message::answer(200, &[], vec![]))
                }
                b"made up" => Reply::Answer(Message::answer(500, &[("X-A", "b")], vec![])),
                _ => match service.ask(&request).await? {
                    Some(answer) => Reply::Answer(answer),
                    None => Reply::Close,
                },
            })
        }
    }

    /// Sends each body on one connection, and returns what came back until its end.
    async fn talk(proxy: &Proxy, bodies: &[&str]) -> std::io::Result<String> {
        let mut client = TcpStream::connect(proxy.url().trim_start_matches("http://")).await?;
        for body in bodies {
            let length = body.len();
            let text = format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
            client.write_all(text.as_bytes()).await?;
        }
        let mut got = String::new();
        client.read_to_string(&mut got).await?;
        Ok(got)
    }

    #[tokio::test]
    async fn a_rule_decides_what_each_client_gets() {
        let proxy = Proxy::start(&echo().await, Arc::new(AsTold))
            .await
            .expect("starts");
        let got = talk(&proxy, &["one", "made up", "two", "close", "three"])
            .await
            .expect("closed");
        let ends: Vec<_> = got.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(ends.len(), 3, "{got}");
        assert!(ends[0].starts_with("200") && ends[0].ends_with("one"));
        assert!(ends[1].starts_with("500") && ends[1].contains("X-A: b"));
        assert!(ends[2].ends_with("two"));
        talk(&proxy, &["reset"]).await.expect_err("a reset");
        // The service went away under a request: its client's connection ends, and that is no failure.
        assert_eq!(talk(&proxy, &["end"]).await.expect("closed"), "");
        proxy.check().expect("nothing failed");
        // What the service has closed is not used again.
        let got = talk(&proxy, &["last", "pause", "two", "close"]).await;
        assert!(got.expect("closed").ends_with("two"));
        talk(&proxy, &["fail"]).await.expect("closed");
        let failure = proxy.check().expect_err("told to").to_string();
        assert!(failure.contains("told to"), "{failure}");
        proxy.check().expect("told once");
    }
}

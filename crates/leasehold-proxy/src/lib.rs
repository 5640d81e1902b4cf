//! A proxy on loopback, between any DynamoDB client and DynamoDB Local.
//!
//! It speaks plain HTTP/1.1, by hyper. It knows nothing of locks. Its [`Rule`] decides what happens to a request: it can
//! forward it, count it, delay it, lose it or its answer, or answer in place of the service.
//!
//! Each connection of a client has one connection to the service, with one request at a time. A request that a rule has
//! forwarded reaches the service even if its client leaves.

mod message;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub use self::message::Message;

/// Decides what happens to a request.
#[async_trait]
pub trait Rule: Debug + Send + Sync + 'static {
    /// Forwards one request to the service, or not, and returns the reply for its client.
    ///
    /// # Errors
    ///
    /// An error ends the connection, and [`Proxy::check`] returns it.
    async fn carry(&self, request: Message, service: &mut Service) -> Result<Reply>;
}

/// The reply for a client.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Reply {
    /// An answer.
    Answer(Message),
    /// The end of its connection.
    Close,
    /// The end of its connection, by a reset.
    Reset,
}

/// The service behind the proxy.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    connection: Option<Connection>,
}

/// A connection to the service. It ends when this is dropped.
#[derive(Debug)]
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.context("cannot connect to the service")?;
        stream.set_nodelay(true)?;
        let (requests, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driven = JoinSet::new();
        driven.spawn(async move {
            // The next request finds the end of the connection.
            let _ended = driver.await;
        });
        Ok(Connection {
            requests,
            _driver: driven,
        })
    }
}

impl Service {
    fn new(address: SocketAddr) -> Self {
        Service {
            address,
            connection: None,
        }
    }

    /// Sends a request to the service. `None`: the service closed the connection without an answer. It connects if
    /// necessary, but never sends twice.
    ///
    /// # Errors
    ///
    /// When the service cannot be reached, or its answer is not HTTP.
    pub async fn ask(&mut self, request: &Message) -> Result<Option<Message>> {
        // A service ends idle connections, and a request on one of those is lost.
        let mut kept = self.connection.take();
        if let Some(open) = &mut kept
            && open.requests.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(open) => open,
            None => Connection::open(self.address).await?,
        };
        let answer = connection.requests.send_request(request.to_request()).await;
        let answer = match answer {
            Ok(answer) => Message::of_answer(answer).await?,
            Err(error) if error.is_incomplete_message() || error.is_canceled() => return Ok(None),
            Err(error) => return Err(error).context("bad answer"),
        };
        self.connection = Some(connection);
        Ok(Some(answer))
    }
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
                    if let Err(error) = serve(client, upstream, rule).await {
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

    /// Checks that no connection has failed since the last check.
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
    // A panic under this mutex cannot leave the value half changed.
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
async fn serve(client: TcpStream, upstream: SocketAddr, rule: Arc<dyn Rule>) -> Result<()> {
    client.set_nodelay(true)?;
    // The same socket, to end it by a reset.
    let client = client.into_std()?;
    let socket = TcpStream::from_std(client.try_clone()?)?;
    let client = TcpStream::from_std(client)?;
    let service = Arc::new(tokio::sync::Mutex::new(Service::new(upstream)));
    // Requests in flight, also after their client has left.
    let carried = Mutex::new(JoinSet::new());
    let failure = Mutex::new(None);
    let answer = async |request: Request<Incoming>| -> Result<Response<Full<Bytes>>, Ended> {
        let fail = |error| {
            lock(&failure).get_or_insert(error);
            Ended
        };
        let request = Message::of_request(request).await;
        let mut request = request.context("bad request").map_err(fail)?;
        request.remove_header(hyper::header::ACCEPT_ENCODING);
        request.remove_header(hyper::header::CONNECTION);
        let (sender, reply) = tokio::sync::oneshot::channel();
        let (rule, service) = (rule.clone(), service.clone());
        lock(&carried).spawn(async move {
            let reply = rule.carry(request, &mut *service.lock().await).await;
            // A client that has left needs no answer.
            let _left = sender.send(reply);
        });
        match reply.await.map_err(|_| Ended)?.map_err(fail)? {
            Reply::Answer(mut answer) => {
                // Each connection ends on its own.
                answer.remove_header(hyper::header::CONNECTION);
                Ok(answer.into_answer())
            }
            Reply::Close => Err(Ended),
            Reply::Reset => {
                // A closed socket cannot be reset.
                let _closed = socket.set_zero_linger();
                Err(Ended)
            }
        }
    };
    let served = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(client), service_fn(answer))
        .await;
    let mut rest = std::mem::take(&mut *lock(&carried));
    while let Some(done) = rest.join_next().await {
        done.context("a rule panicked")?;
    }
    if let Some(failure) = lock(&failure).take() {
        return Err(failure);
    }
    match served {
        // The end of a connection, on purpose or by its client.
        Err(error) if !error.is_user() && !error.is_incomplete_message() && !is_reset(&error) => {
            Err(error).context("bad request")
        }
        _ => Ok(()),
    }
}

/// Ends a connection without an answer.
#[derive(Clone, Copy, Debug)]
struct Ended;

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ended on purpose")
    }
}

impl std::error::Error for Ended {}

/// A client that ends its process resets its connections.
fn is_reset(error: &hyper::Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        )
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A service that answers with the body of each request, until one says `end`.
    async fn echo() -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = |request: Request<Incoming>| async move {
                    let request = Message::of_request(request).await?;
                    if request.body == b"end" {
                        bail!("the end");
                    }
                    let last = request.body == b"last";
                    let headers: &[_] = if last {
                        &[("Connection", "close")]
                    } else {
                        &[]
                    };
                    Ok(Message::answer(200, headers, request.body).into_answer())
                };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                // By a request or by its client.
                let _ended = served.await;
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
                    Service::new(service.address)
                        .ask(&Message::request(&[], vec![]))
                        .await?;
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
        assert!(ends[1].starts_with("500") && ends[1].contains("x-a: b"));
        assert!(ends[2].ends_with("two"));
        talk(&proxy, &["reset"]).await.expect_err("a reset");
        // The service went away under a request: its client's connection ends, and that is no failure.
        assert_eq!(talk(&proxy, &["end"]).await.expect("closed"), "");
        proxy.check().expect("nothing failed");
        // A connection that the service has closed is not reused.
        let got = talk(&proxy, &["last", "pause", "two", "close"]).await;
        assert!(got.expect("closed").ends_with("two"));
        talk(&proxy, &["fail"]).await.expect("closed");
        let failure = proxy.check().expect_err("told to").to_string();
        assert!(failure.contains("told to"), "{failure}");
        proxy.check().expect("told once");
    }
}

//! A proxy on loopback, between any DynamoDB client and the service.
//!
//! It speaks plain HTTP/1.1 with `Content-Length`, as the SDKs do with DynamoDB; anything else ends
//! the connection, and then [`Proxy::take`] fails rather than give a wrong count. It knows no locks:
//! it sees requests and answers ([`message`]) and counts them ([`count`]). What it changes: it asks the
//! service to report the units where a client does not ask, because those who do not ask pay all
//! the same, and it asks for answers that are not compressed.
//!
//! One connection of a client is one connection to the service, and on it requests and answers
//! take turns. The place for latency and faults is between the two, in [`exchange`].

mod count;
mod message;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use self::count::Counts;
use self::message::Message;

/// A running proxy; it stops when this value is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    url: String,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    failure: Option<String>,
}

impl Proxy {
    /// Starts on a free port of loopback, in the current runtime. `upstream` is `http://HOST:PORT`.
    pub(crate) async fn start(upstream: &str) -> Result<Proxy> {
        let upstream = address(upstream).await?;
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("cannot listen on loopback")?;
        let url = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        let task = tokio::runtime::Handle::current().spawn(async move {
            // Ends the connections when this task is aborted.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let seen = shared.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(client, upstream, &seen).await {
                        lock(&seen).failure.get_or_insert(format!("{error:#}"));
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Proxy { url, seen, task })
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What passed since the last time this was asked. Fails if something passed uncounted.
    pub(crate) fn take(&self) -> Result<Counts> {
        let seen = std::mem::take(&mut *lock(&self.seen));
        match seen.failure {
            Some(failure) => bail!("the proxy failed, its counts are not complete: {failure}"),
            None => Ok(seen.counts),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    // Nothing under this lock can leave it half changed.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Serves one connection of a client until it closes it.
async fn serve(client: TcpStream, upstream: SocketAddr, seen: &Mutex<Seen>) -> Result<()> {
    let service = TcpStream::connect(upstream)
        .await
        .context("cannot connect to the service")?;
    client.set_nodelay(true)?;
    service.set_nodelay(true)?;
    let (mut client, mut service) = (BufReader::new(client), BufReader::new(service));
    while let Some(mut request) = Message::read(&mut client).await.context("bad request")? {
        request.remove_header("accept-encoding");
        count::ask_for_units(&mut request);
        let Some(answer) = exchange(&mut service, &request).await? else {
            // A kept-alive connection may end at any time; the client tries again or fails, which
            // its driver reports.
            return Ok(());
        };
        lock(seen).counts.add(&request, &answer)?;
        client.get_mut().write_all(&answer.bytes()).await?;
    }
    Ok(())
}

/// One request and its answer; `None` when the service closes the connection instead.
async fn exchange(
    service: &mut BufReader<TcpStream>,
    request: &Message,
) -> Result<Option<Message>> {
    service.get_mut().write_all(&request.bytes()).await?;
    Message::read(service).await.context("bad answer")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    /// A service with fixed answers.
    async fn service(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::runtime::Handle::current().spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = BufReader::new(stream);
            for answer in answers {
                let request = Message::read(&mut stream).await.expect("well-formed");
                let body = String::from_utf8(request.expect("one more").body).expect("text");
                assert!(
                    body.contains(r#""ReturnConsumedCapacity":"TOTAL""#),
                    "{body}"
                );
                stream
                    .get_mut()
                    .write_all(answer.as_bytes())
                    .await
                    .expect("open");
            }
        });
        url
    }

    fn request(operation: &str) -> String {
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: DynamoDB_20120810.{operation}\r\nContent-Length: 2\r\n\r\n{{}}"
        )
    }

    #[tokio::test]
    async fn requests_pass_and_are_counted() {
        const TAKEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{\"ConsumedCapacity\":{\"CapacityUnits\":1.0}}";
        const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 54\r\n\r\n{\"__type\":\"com.amazonaws#ConditionalCheckFailedException\"}";
        let fixed = |text: &'static str| {
            let (head, body) = text.split_once("\r\n\r\n").expect("a body");
            let (line, _) = head.split_once("\r\n").expect("a header");
            let text = format!("{line}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            &*Box::leak(text.into_boxed_str())
        };
        let url = service(vec![fixed(TAKEN), fixed(REFUSED), fixed(TAKEN)]).await;
        let proxy = Proxy::start(&url).await.expect("starts");
        let mut client = TcpStream::connect(proxy.url().trim_start_matches("http://"))
            .await
            .expect("listens");
        for (operation, answer) in [
            ("UpdateItem", fixed(TAKEN)),
            ("UpdateItem", fixed(REFUSED)),
            ("GetItem", fixed(TAKEN)),
        ] {
            client
                .write_all(request(operation).as_bytes())
                .await
                .expect("open");
            let mut got = vec![0; answer.len()];
            client.read_exact(&mut got).await.expect("an answer");
            assert_eq!(String::from_utf8_lossy(&got), answer);
        }
        let counts = proxy.take().expect("nothing failed");
        assert_eq!(counts.requests(), 3);
        assert_eq!(counts.refused(), 1);
        assert_eq!((counts.write_units(), counts.read_units()), (2.0, 1.0));
        assert_eq!(counts.to_string(), "GetItem 1, UpdateItem 2");
        // Taken once, counted once.
        assert_eq!(proxy.take().expect("nothing failed").requests(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_counted_is_a_failure() {
        let url = service(vec![
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ])
        .await;
        let proxy = Proxy::start(&url).await.expect("starts");
        let mut client = TcpStream::connect(proxy.url().trim_start_matches("http://"))
            .await
            .expect("listens");
        client
            .write_all(request("GetItem").as_bytes())
            .await
            .expect("open");
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.expect("closed");
        assert!(got.is_empty());
        let failure = proxy.take().expect_err("not countable").to_string();
        assert!(failure.contains("Content-Length"), "{failure}");
    }
}

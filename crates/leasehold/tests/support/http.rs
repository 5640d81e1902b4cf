//! A server on loopback that answers as it is told: what DynamoDB Local cannot be made to say.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// Status and body; a `Date` is added.
    Answer(u16, String),
    /// The same without a `Date`.
    Undated(u16, String),
    /// The same with a `Date`, and without the id that the service gives each request.
    Foreign(u16, String),
    /// Nothing, for ever.
    Nothing,
    /// The connection is closed without an answer.
    Close,
    /// What the server at this address (`host:port`) answers.
    Pass(String),
}

/// An error as DynamoDB says it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Say {
    Say::Answer(
        status,
        format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"{message}"}}"#),
    )
}

/// What the `Date` of every answer says.
pub(crate) const SERVER_DATE_MS: i64 = 1_795_435_200_000;

/// A server that answers every request by its operation (`UpdateItem`, `GetItem`…).
pub(crate) struct Server {
    pub(crate) endpoint: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server of the tests, not of the library"
)]
pub(crate) async fn serve(answer: impl Fn(&str) -> Say + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let endpoint = format!("http://{}", listener.local_addr().expect("address"));
    let answer = Arc::new(answer);
    let task = tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::task::spawn(async move { talk(stream, &*answer).await });
        }
    });
    Server { endpoint, task }
}

async fn talk(mut stream: TcpStream, answer: &(impl Fn(&str) -> Say + Send + Sync)) {
    let mut buffer = Vec::new();
    loop {
        let Some(request) = read_message(&mut stream, &mut buffer).await else {
            return;
        };
        let Message { raw, head, body } = request;
        let target = header(&head, "x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        // So that a test can tell the two kinds of reads apart.
        let consistent = body.contains("\"ConsistentRead\":true");
        let operation = match (operation.as_str(), consistent) {
            ("GetItem", false) => "GetItem, eventual".to_owned(),
            _ => operation,
        };
        const ID: &str = "x-amzn-requestid: TEST-1\r\n";
        const DATE: &str = "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n";
        let (status, body, id, date) = match answer(&operation) {
            Say::Answer(status, body) => (status, body, ID, DATE),
            Say::Undated(status, body) => (status, body, ID, ""),
            Say::Foreign(status, body) => (status, body, "", DATE),
            Say::Nothing => std::future::pending().await,
            Say::Close => return,
            Say::Pass(server) => {
                let answer = pass(&server, &raw).await;
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let response = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n{id}{date}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Sends a request on, and reads the answer.
async fn pass(server: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("connect");
    stream.write_all(request).await.expect("sent");
    let answer = read_message(&mut stream, &mut Vec::new()).await;
    answer.expect("an answer").raw
}

/// A request or an answer.
struct Message {
    raw: Vec<u8>,
    head: String,
    body: String,
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

/// Reads one message; the rest of what came with it stays in the buffer.
async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Message> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let head = text[..end].to_owned();
            let length: usize =
                header(&head, "content-length").map_or(0, |n| n.parse().unwrap_or(0));
            if buffer.len() >= end + 4 + length {
                let raw: Vec<u8> = buffer.drain(..end + 4 + length).collect();
                let body = String::from_utf8_lossy(&raw[end + 4..]).into_owned();
                return Some(Message { raw, head, body });
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}

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
    /// Nothing, for ever.
    Nothing,
    /// The connection is closed without an answer.
    Close,
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
        let Some(operation) = read_request(&mut stream, &mut buffer).await else {
            return;
        };
        let (status, body, date) = match answer(&operation) {
            Say::Answer(status, body) => (status, body, "Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"),
            Say::Undated(status, body) => (status, body, ""),
            Say::Nothing => std::future::pending().await,
            Say::Close => return,
        };
        let response = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\nx-amzn-requestid: TEST-1\r\n{date}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request; the operation from its `x-amz-target`.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(end) = text.find("\r\n\r\n") {
            let header = |name: &str| {
                text[..end].lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name)
                        .then(|| value.trim().to_owned())
                })
            };
            let length: usize = header("content-length").map_or(0, |n| n.parse().unwrap_or(0));
            if buffer.len() >= end + 4 + length {
                buffer.drain(..end + 4 + length);
                let target = header("x-amz-target").unwrap_or_default();
                return Some(target.rsplit('.').next().unwrap_or_default().to_owned());
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&chunk[..n]),
            _ => return None,
        }
    }
}

//! HTTP/1.1 messages with `Content-Length`, read whole.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// DynamoDB answers with at most 16 MB.
const MAX_BODY_BYTES: usize = 32 << 20;
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A request or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    start_line: String,
    headers: Vec<(String, String)>,
    /// Its body, whole.
    pub body: Vec<u8>,
}

impl Message {
    /// An answer that no service gave.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Message {
        let mut message = Message {
            start_line: format!("HTTP/1.1 {status} Made up"),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Vec::new(),
        };
        message.set_body(body);
        message
    }

    /// Reads the next message; `None` when the connection ends before one begins.
    pub async fn read(reader: &mut (impl AsyncBufRead + Unpin + Send)) -> Result<Option<Message>> {
        let mut reader = reader.take(MAX_HEAD_BYTES as u64);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if let Err(error) = reader.read_line(&mut line).await {
                // A client that ends its process resets its idle connections.
                let idle = lines.is_empty() && line.is_empty();
                if idle && error.kind() == std::io::ErrorKind::ConnectionReset {
                    return Ok(None);
                }
                return Err(error).context("cannot read the head");
            }
            if line.is_empty() && lines.is_empty() {
                return Ok(None);
            }
            ensure!(
                line.ends_with("\r\n"),
                "the head is cut short or longer than {MAX_HEAD_BYTES} bytes"
            );
            line.truncate(line.len() - 2);
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let start_line = lines.next().context("no start line")?;
        let headers = lines
            .map(|line| {
                let (name, value) = line
                    .split_once(':')
                    .with_context(|| format!("not a header: {line:?}"))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<_>>()?;
        let mut message = Message {
            start_line,
            headers,
            body: Vec::new(),
        };
        message.body = vec![0; message.content_length()?];
        reader.into_inner().read_exact(&mut message.body).await?;
        Ok(Some(message))
    }

    fn content_length(&self) -> Result<usize> {
        let length = match self.header("content-length") {
            Some(length) => length
                .parse()
                .with_context(|| format!("bad Content-Length {length:?}"))?,
            // A GET of a health check.
            None if self.header("transfer-encoding").is_none() && self.status().is_none() => 0,
            None => bail!(
                "`{}` has no Content-Length: this proxy understands nothing else",
                self.start_line
            ),
        };
        ensure!(length <= MAX_BODY_BYTES, "a body of {length} bytes");
        Ok(length)
    }

    /// `UpdateItem` of `X-Amz-Target: DynamoDB_20120810.UpdateItem`; `None` for anything else.
    pub fn operation(&self) -> Option<&str> {
        self.header("x-amz-target")?.rsplit('.').next()
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Removes all headers of this name.
    pub fn remove_header(&mut self, name: &str) {
        self.headers
            .retain(|(header, _)| !header.eq_ignore_ascii_case(name));
    }

    /// The status of an answer; `None` for requests.
    pub fn status(&self) -> Option<u16> {
        self.start_line
            .strip_prefix("HTTP/1.1 ")?
            .split(' ')
            .next()?
            .parse()
            .ok()
    }

    /// Sets the body and its length.
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.remove_header("content-length");
        let length = body.len().to_string();
        self.headers.push(("Content-Length".to_owned(), length));
        self.body = body;
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.start_line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(text: &str) -> Result<Option<Message>> {
        Message::read(&mut text.as_bytes()).await
    }

    #[tokio::test]
    async fn messages_survive_a_round_trip() {
        let text = "POST / HTTP/1.1\r\nX-Amz-Target: A.B\r\ncontent-length: 3\r\n\r\nabc";
        let message = parse(text).await.expect("well-formed").expect("one");
        assert_eq!(message.header("x-amz-target"), Some("A.B"));
        assert_eq!(message.operation(), Some("B"));
        assert_eq!(message.status(), None);
        assert_eq!(String::from_utf8_lossy(&message.bytes()), text);
        let answer = parse("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(answer.expect("fine").expect("one").status(), Some(400));
    }

    #[tokio::test]
    async fn two_messages_follow_each_other() {
        let text = "A\r\nContent-Length: 1\r\n\r\nxB\r\nContent-Length: 2\r\n\r\nyz";
        let mut reader = text.as_bytes();
        for body in ["x", "yz"] {
            let message = Message::read(&mut reader).await.expect("fine");
            assert_eq!(message.expect("one").body, body.as_bytes());
        }
        assert_eq!(Message::read(&mut reader).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for text in [
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhalf",
            "POST / HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            parse(text).await.expect_err(text);
        }
    }
}

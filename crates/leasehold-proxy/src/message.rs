//! Requests and answers, read whole.

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};

/// DynamoDB answers with at most 16 MB.
const MAX_BODY_BYTES: usize = 32 << 20;

/// A request or an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    start: Start,
    headers: HeaderMap,
    /// Its body, whole.
    pub body: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Start {
    Request(Method, Uri),
    Answer(StatusCode),
}

impl Message {
    /// A request for `/`.
    pub fn request(headers: &[(&str, &str)], body: Vec<u8>) -> Message {
        Message {
            start: Start::Request(Method::POST, Uri::from_static("/")),
            headers: header_map(headers),
            body,
        }
    }

    /// An answer that does not come from the service.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Message {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Message {
            start: Start::Answer(status),
            headers: header_map(headers),
            body,
        }
    }

    pub(crate) async fn of_request<B>(request: Request<B>) -> Result<Message>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        Ok(Message {
            start: Start::Request(parts.method, parts.uri),
            headers: parts.headers,
            body: whole(body).await?,
        })
    }

    pub(crate) async fn of_answer<B>(answer: Response<B>) -> Result<Message>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = answer.into_parts();
        Ok(Message {
            start: Start::Answer(parts.status),
            headers: parts.headers,
            body: whole(body).await?,
        })
    }

    /// As a request.
    pub(crate) fn to_request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(self.body.clone()));
        if let Start::Request(method, uri) = &self.start {
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
        }
        *request.headers_mut() = self.headers_for_wire();
        request
    }

    /// As an answer.
    pub(crate) fn into_answer(self) -> Response<Full<Bytes>> {
        let headers = self.headers_for_wire();
        let mut answer = Response::new(Full::from(self.body));
        if let Start::Answer(status) = self.start {
            *answer.status_mut() = status;
        }
        *answer.headers_mut() = headers;
        answer
    }

    /// The headers without the old length: the body is complete, so its length is computed again.
    fn headers_for_wire(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.remove(hyper::header::CONTENT_LENGTH);
        headers.remove(hyper::header::TRANSFER_ENCODING);
        headers
    }

    /// `UpdateItem` of `X-Amz-Target: DynamoDB_20120810.UpdateItem`; `None` for anything else.
    pub fn operation(&self) -> Option<&str> {
        self.header("x-amz-target")?.rsplit('.').next()
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Removes all headers of this name.
    pub(crate) fn remove_header(&mut self, name: HeaderName) {
        self.headers.remove(name);
    }

    /// The status of an answer; `None` for requests.
    pub fn status(&self) -> Option<u16> {
        match &self.start {
            Start::Answer(status) => Some(status.as_u16()),
            Start::Request(..) => None,
        }
    }
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let parsed = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(*name).ok()?;
        Some((name, HeaderValue::try_from(*value).ok()?))
    });
    parsed.collect()
}

async fn whole<B>(body: B) -> Result<Vec<u8>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error));
    Ok(body.context("cannot read the body")?.to_bytes().into())
}

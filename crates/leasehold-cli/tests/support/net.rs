//! Servers that are not as they should be: one that never answers, one that always says the same, and a way to a good one that
//! can be slowed down and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Takes connections and requests, and never answers.
pub(crate) fn black_hole() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.push(stream);
        }
    });
    address
}

/// A port where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Answers every request with this status and this DynamoDB error.
pub(crate) fn always(status: u16, error: &str, message: &str) -> String {
    refusing(status, error, message).0
}

/// The same, and the requests that have come, with their headers.
pub(crate) fn refusing(status: u16, error: &str, message: &str) -> (String, Arc<Mutex<String>>) {
    let answer = refusal(status, error, message);
    answering(move |_| answer.clone())
}

/// An error as DynamoDB says it.
pub(crate) fn refusal(status: u16, error: &str, message: &str) -> String {
    let body =
        format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{error}","message":"{message}"}}"#);
    answer(status, "application/x-amz-json-1.0", &body)
}

/// An answer as it is sent.
pub(crate) fn answer(status: u16, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The action that a request asks for, such as `UpdateItem`.
pub(crate) fn action(request: &str) -> &str {
    let target = request
        .lines()
        .find_map(|line| line.strip_prefix("x-amz-target: DynamoDB_20120810."));
    target.unwrap_or_default().trim()
}

/// Answers each request with what it makes of it; and the requests that have come.
pub(crate) fn answering(
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (String, Arc<Mutex<String>>) {
    let answer = Arc::new(answer);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests = Arc::<Mutex<String>>::default();
    let seen = requests.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, seen) = (answer.clone(), seen.clone());
            thread::spawn(move || {
                if let Some(request) = whole_request(&mut stream) {
                    seen.lock().unwrap().push_str(&request);
                    let _sent = stream.write_all(answer(&request).as_bytes());
                    let _sent = stream.shutdown(Shutdown::Write);
                    // Until the other side closes, so that the answer is not reset away.
                    let _rest = stream.read(&mut [0; 16]);
                }
            });
        }
    });
    (address, requests)
}

/// Head and body of the next request.
pub(crate) fn whole_request(stream: &mut impl Read) -> Option<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
        }
        let text = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
    }
}

/// A way to a server.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) address: String,
    delay_ms: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Way {
    /// To this server, open and fast.
    pub(crate) fn to(server: &str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Way {
            address: listener.local_addr().unwrap().to_string(),
            delay_ms: Arc::default(),
            cut: Arc::default(),
            closed: Arc::default(),
            answers: Arc::default(),
        };
        let (server, here) = (server.to_owned(), way.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if here.closed.load(Ordering::SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&server).unwrap();
                let (there, back) = (here.clone(), here.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || there.pump(from, to, false));
                thread::spawn(move || back.pump(server, client, true));
            }
        });
        way
    }

    /// Every answer takes this much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap();
        self.delay_ms.store(millis, Ordering::SeqCst);
    }

    /// From now on nothing gets through, in either direction, and nobody is told.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// From now on everything gets through again. What was lost stays lost.
    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    /// From now on every connection is closed, as by a server that has ended.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, back: bool) {
        let mut buffer = [0; 65_536];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            if back {
                self.answers.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst)));
            }
            if self.closed.load(Ordering::SeqCst) {
                let _closed = from.shutdown(Shutdown::Both);
                break;
            }
            if self.cut.load(Ordering::SeqCst) {
                continue;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _closed = to.shutdown(Shutdown::Write);
    }
}

//! Results on standard output, which a reader may not read.
//!
//! Invariant: no caller waits for a reader without a bound or a signal. A thread writes, and a write that never
//! returns ends with the process.

use std::io::{self, Write};

use leasehold::{FencingToken, Key, LeaseId};
use rustix::io::Errno;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::process::output_was_closed;
use crate::store::own_failure;

/// The version of the JSON objects. Fields may be added to it; a change of their meaning raises it.
pub(crate) const VERSION: u8 = 1;

/// A grant as a JSON object. Field names are stable; new ones may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Grant<'a> {
    v: u8,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    token: u64,
    /// RFC 3339, UTC, in service time.
    until: String,
    lease_ms: u64,
}

impl<'a> Grant<'a> {
    /// A grant without its id.
    pub(crate) fn new(
        key: &'a Key,
        token: FencingToken,
        until: std::time::SystemTime,
        lease: std::time::Duration,
    ) -> Self {
        Grant {
            v: VERSION,
            name: key.as_str(),
            id: None,
            token: token.get(),
            until: crate::text::times::utc(until),
            lease_ms: crate::text::duration::millis(lease),
        }
    }

    /// The same with its id. A process that has the id can end the grant.
    pub(crate) fn with_id(self, id: &LeaseId) -> Self {
        Grant {
            id: Some(id.to_string()),
            ..self
        }
    }

    /// One line.
    ///
    /// # Errors
    ///
    /// 125, which does not happen.
    pub(crate) fn line(&self) -> Result<String, Failure> {
        json_line(self)
    }
}

/// One object a line.
///
/// # Errors
///
/// 125, which does not happen.
pub(crate) fn json_line(object: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(object)
        .map(|line| line + "\n")
        .map_err(|error| own_failure("cannot write JSON", &error.into()))
}

/// Starts to write to standard output. The receiver gets the result.
pub(crate) fn start(text: impl Into<Vec<u8>>) -> oneshot::Receiver<io::Result<()>> {
    let (sender, done) = oneshot::channel();
    let text = text.into();
    let write = move || {
        // Nobody may listen any more.
        let _unheard = sender.send(write_here(&text));
    };
    // Without a thread the sender is dropped, and the receiver gets an error.
    let _started = std::thread::Builder::new()
        .name("output".to_owned())
        .spawn(write);
    done
}

/// Writes to standard output, and waits for that.
///
/// # Errors
///
/// The error of the write, a closed pipe included.
///
/// # Cancel safety
///
/// When it is dropped, the write goes on.
pub(crate) async fn write(text: impl Into<Vec<u8>>) -> io::Result<()> {
    let no_thread = || io::Error::from(io::ErrorKind::WouldBlock);
    start(text).await.unwrap_or_else(|_| Err(no_thread()))
}

/// Writes to standard output in this thread, which may wait for a reader for ever.
///
/// # Errors
///
/// The error of the write, a closed pipe and a closed standard output included.
pub(crate) fn write_here(text: impl AsRef<[u8]>) -> io::Result<()> {
    if output_was_closed() {
        return Err(Errno::BADF.into());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_ref())?;
    stdout.flush()
}

/// Standard output cannot be written.
pub(crate) fn failed(error: &io::Error) -> Failure {
    own_failure("cannot write to standard output", error).hint("check where it goes")
}

//! What a key remembers of work that is done.

use std::fmt;
use std::time::SystemTime;

use crate::holder::system_time;
use crate::text::one_line;
use leasehold_protocol::done::FOR_EVER;
use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::token::FencingToken;

/// A run that is remembered: the work of the key is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    key: String,
    runner: Option<String>,
    began: Option<ServiceTime>,
    at: ServiceTime,
    until: ServiceTime,
    token: Option<FencingToken>,
    failed: bool,
    result: Option<Vec<u8>>,
    input: Option<Vec<u8>>,
}

impl Done {
    /// `None` for a record that remembers no run.
    pub(crate) fn of(record: &Record) -> Option<Done> {
        let done = record.done.as_ref()?;
        Some(Done {
            key: record.key.clone(),
            runner: record.holder.clone(),
            began: record.acquired_at,
            at: done.at,
            until: record.expires_at,
            token: record.token().map(|t| FencingToken::new(t, 0, false)),
            failed: done.failed,
            result: record.data.clone(),
            input: done.input.as_deref().map(<[u8]>::to_vec),
        })
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The label of the runner.
    pub fn runner(&self) -> &str {
        self.runner.as_deref().unwrap_or("unknown")
    }

    /// When the run began.
    pub fn began(&self) -> Option<SystemTime> {
        self.began.map(system_time)
    }

    /// When the run was recorded.
    pub fn at(&self) -> SystemTime {
        system_time(self.at)
    }

    /// Until when it is remembered. `None`: until somebody makes the key
    /// [forget](crate::LockClient::forget) it.
    pub fn until(&self) -> Option<SystemTime> {
        (self.until < FOR_EVER).then(|| system_time(self.until))
    }

    /// The fencing token of the run.
    pub fn token(&self) -> Option<FencingToken> {
        self.token
    }

    /// Whether the run failed, and was remembered all the same.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// The result, or of a run that failed its error. `None` if it was too large to be kept.
    pub fn result(&self) -> Option<&[u8]> {
        self.result.as_deref()
    }

    /// The fingerprint of its input, if the runner gave one.
    pub fn input(&self) -> Option<&[u8]> {
        self.input.as_deref()
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.failed { "failed" } else { "is done" };
        let runner = self.runner();
        f.write_str(&one_line(format!("`{}` {how}, run by {runner}", self.key)))
    }
}

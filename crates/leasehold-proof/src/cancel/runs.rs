//! Completed runs, and S7: what a done record may become, and when its keep may end.

use std::collections::HashMap;
use std::time::Duration;

use leasehold_protocol::record::Record;
use leasehold_protocol::time::ServiceTime;
use leasehold_protocol::write::Write;

/// The runs of a case.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// When an answer first showed the grant of each attempt.
    seen: HashMap<String, ServiceTime>,
    /// The attempts whose runs were completed, and what they left.
    completed: Vec<(String, Option<Vec<u8>>)>,
    /// Until when the record remembers the last of them: its keep, from its beginning.
    until: Option<ServiceTime>,
    /// Whether somebody makes the key forget.
    pub(super) forgets: bool,
    /// Whether a call returned that its run is not remembered.
    pub(super) unrecorded: bool,
}

impl Runs {
    /// An answer has shown a record.
    pub(super) fn shows(&mut self, record: Option<&Record>, now: ServiceTime) {
        if let Some(owner) = record.and_then(|record| record.owner.clone()) {
            self.seen.entry(owner).or_insert(now);
        }
    }

    /// What was completed, in this order.
    pub(super) fn completed(&self) -> &[(String, Option<Vec<u8>>)] {
        &self.completed
    }

    /// Judges a write that was carried out, and takes note of it.
    pub(super) fn judge(
        &mut self,
        before: Option<&Record>,
        write: &Write,
        now: ServiceTime,
    ) -> Option<&'static str> {
        let done = before.is_some_and(|record| record.done.is_some());
        let found = match write {
            Write::TakeOver(..) if done => {
                let kept = self.until.is_some_and(|until| now <= until);
                (kept && !self.forgets).then_some("S7: what is done was taken within its keep")
            }
            _ if done => Some("S7: what is done was changed by no take-over"),
            Write::Complete(_) if self.until.is_some_and(|until| now <= until) => {
                (!self.forgets).then_some("S7: a run was completed within the keep of another")
            }
            _ => None,
        };
        let Write::Complete(completion) = write else {
            return found;
        };
        let attempt = completion.attempt.to_string();
        let began = self.seen.get(&attempt).copied().unwrap_or_default();
        let until = began.plus(completion.keep);
        self.until = Some(until);
        let result = completion.result.as_deref().map(<[u8]>::to_vec);
        self.completed.push((attempt, result));
        if completion.until < until {
            return Some("S7: the keep ends before its length has passed since the beginning");
        }
        if completion.keep > Duration::ZERO && completion.ttl_seconds.is_none() {
            return Some("S7: nobody knows when the keep ends, and the service tells the time");
        }
        found
    }
}

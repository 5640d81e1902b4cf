//! What an attempt knows of its place in a queue.

use std::collections::VecDeque;

use crate::queue::Place;
use crate::time::{Elapsed, Reading};

/// How a record was shown: by a read, or by a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Both clocks before the request was sent.
    pub sent: Reading,
    /// When its answer came.
    pub received: Elapsed,
    /// Whether it shows all writes before the request: a refusal and a strongly consistent read do.
    pub consistent: bool,
}

/// What is known of our place in a queue.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Waiting {
    pub(super) place: Place,
    /// Before the first request to join: the key was not handed to us before that.
    pub(super) since: Reading,
    /// Consistent answers that did not show the key as ours: send and answer.
    pub(super) before: VecDeque<(Reading, Elapsed)>,
}

/// How many answers without a grant are remembered. Older ones only make the deadline earlier.
const POLLS: usize = 8;

impl Waiting {
    /// The latest instant at which the key was certainly not ours yet, for the answer that shows it as
    /// ours. Only answers from before the send of its request count: a later one may show the time
    /// after the grant. So may one of the same instant, if the clock stood still in between. An answer
    /// that may be old says nothing of the order, so the join counts.
    pub(super) fn not_before(&self, shown: &Shown) -> Reading {
        let counts = |received: Elapsed| shown.consistent && received < shown.sent.elapsed;
        let earlier = self.before.iter().filter(|(_, received)| counts(*received));
        let latest = earlier.max_by_key(|(sent, _)| sent.elapsed);
        latest.map_or(self.since, |(sent, _)| *sent)
    }

    pub(super) fn not_ours(&mut self, shown: &Shown) {
        if shown.consistent {
            if self.before.len() == POLLS {
                self.before.pop_front();
            }
            self.before.push_back((shown.sent, shown.received));
        }
    }
}

//! What an answer means: "did my write land?"

use super::{Attempt, Granted, Refusal, Request, SEED_TOLERANCE, Shown};
use crate::deadline::{Deadline, Sent};
use crate::lens::{Crowd, Want};
use crate::record::Record;
use crate::takeover::Verdict;
use crate::time::{Reading, ServiceClock, ServiceTime};
use crate::token::FencingToken;
use crate::write::Description;

impl Attempt {
    /// The grant of a `request` that the store applied, which made `record`.
    pub fn applied(
        &self,
        request: &Request,
        record: &Record,
        clock: &ServiceClock,
        now: Reading,
    ) -> Granted {
        let crowd = Crowd::of(record, self.id);
        let record = &*self.view(record);
        let token = record.token().unwrap_or(0);
        let renew_count = record.native.map_or(0, |n| n.renew_count);
        // Only a record without a token starts at renew count 1.
        let seeded = renew_count == 1 && token == u64_of(request.seed).saturating_add(1);
        Granted {
            token: FencingToken::new(
                token,
                0,
                self.wish.shared_with_fsharp || request.over_foreign,
            ),
            at: now.elapsed,
            began: clock.latest(now),
            deadline: Deadline::of(&request.sent, &self.terms, clock, now),
            expires_at: record.expires_at,
            queue: record.queue.clone(),
            ttl_seconds: record.ttl_seconds,
            description: is_handed_over(record).then(|| Description {
                holder: self.wish.holder.clone(),
                data: self.wish.data.clone(),
            }),
            left: match (&self.wish.data, &record.data) {
                (None, Some(left)) => Some(left.as_slice().into()),
                _ => None,
            },
            impossible_seed: seeded && is_impossible(request.seed, clock, now),
            crowd,
        }
    }

    /// The store refused a request, or a read showed `record`. `now` is the present.
    pub fn refused(
        &mut self,
        record: Option<&Record>,
        shown: &Shown,
        now: Reading,
        clock: &ServiceClock,
    ) -> Refusal {
        let raw = record;
        let earliest = clock.earliest(now.elapsed);
        let record = raw.map(|record| record.seen_by(self.id, self.wish.want, earliest));
        let record = record.as_deref();
        let has_slots = |record: &&Record| record.slots.is_some() || self.wish.want != Want::Whole;
        self.latest = raw.filter(has_slots).cloned().map(Box::new);
        self.blind = false;
        if let (Some(raw), Some(record)) = (raw, record)
            && self.id.owns(record)
            && let Some(request) = self.origin_of(record, shown)
        {
            return Refusal::Ours(self.applied(&request, raw, clock, now));
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.not_ours(shown);
        }
        let sampled = clock.latest_by_elapsed(now.elapsed).is_some();
        self.seen_ttl_seconds = record.and_then(|r| r.ttl_seconds).filter(|_| !sampled);
        if self.wish.want != Want::Whole && record.is_some_and(Record::is_foreign) {
            // Its clients know nothing of slots.
            return Refusal::Others(Verdict::Wait { ends: None });
        }
        // A slot that has ended is removed at once by the first two that wait for the end of all slots: this takes
        // nobody's turn. The second does it in case the first is dead, whose claim begins afterwards.
        let place = raw.and_then(|record| record.place_of(self.id));
        let removes = self.drains(earliest) && place.is_some_and(|index| index <= 1);
        Refusal::Others(self.observation.judge(
            (!removes).then_some(self.id),
            record,
            shown.received,
            now,
            clock,
            &self.rules,
        ))
    }

    /// The request that published the stored P, or else the first request with the stored P. The key
    /// of a waiting attempt may have been handed over, which its record shows. That grant counts from
    /// before the hand-over, whatever its P. Any other counts from its own request: it may be from before
    /// the join, and be shown after it.
    fn origin_of(&self, record: &Record, shown: &Shown) -> Option<Request> {
        let same = |r: &&Request| r.sent.expires_at == record.expires_at;
        let request = self.recent.iter().find(same).or(self.first.as_ref());
        let handed_over = is_handed_over(record) || request.is_none();
        let waited = self.waiting.as_ref().filter(|_| handed_over);
        let since = waited.map(|waiting| waiting.not_before(shown));
        let sent = Sent {
            at: since.or_else(|| request.map(|request| request.sent.at))?,
            expires_at: record.expires_at,
        };
        let origin = request.copied().unwrap_or(Request {
            sent,
            seed: ServiceTime(0),
            unsampled: false,
            over_foreign: false,
        });
        Some(Request { sent, ..origin })
    }
}

/// Whether the grant of a record was handed over: the releaser did not know its label.
pub(super) fn is_handed_over(record: &Record) -> bool {
    record.holder.is_none()
}

pub(super) fn u64_of(t: ServiceTime) -> u64 {
    u64::try_from(t.0).unwrap_or(0)
}

pub(super) fn is_impossible(seed: ServiceTime, clock: &ServiceClock, now: Reading) -> bool {
    match (clock.earliest(now.elapsed), clock.latest(now)) {
        (Some(earliest), Some(latest)) => {
            seed > latest.plus(SEED_TOLERANCE) || seed.plus(SEED_TOLERANCE) < earliest
        }
        _ => false,
    }
}

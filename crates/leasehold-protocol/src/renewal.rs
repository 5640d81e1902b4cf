//! One held grant: when to renew, what an answer means, how it ends.
//!
//! Invariants (holder rules 3 to 5 of `docs/protocol.md`):
//!
//! - Only acknowledged requests move the deadline, and only forward.
//! - A refusal that does not carry our id and token means that the grant is lost now.
//! - Any other failure is retried until `lost` fires.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{AttemptId, Granted};
use super::deadline::{Deadline, Sent, Terms, service_now};
use super::done::{Completion, Done, FOR_EVER, LONGEST};
use super::ending::Ending;
use super::lens::Crowd;
use super::queue::{PLACES, Place};
use super::record::{Record, State};
use super::slot_write::SlotWrite;
use super::slots::{Slot, Slots};
use super::time::{Elapsed, Reading, ServiceClock, ServiceTime};
use super::write::{Description, Left, Write};

/// How a grant ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The record shows a release under the grant's own token.
    Released,
    /// Another client took the key over.
    TakenOver(Box<Record>),
    /// Another client took the key over and released it: the record has a later token.
    Superseded,
    /// There is no record: it never existed, or was deleted.
    NoRecord,
}

/// What a refused renewal means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RenewalRefused {
    /// The record carries the grant's id and token: an earlier or duplicate request landed.
    StillOurs,
    /// The grant is over.
    Lost(Ended),
}

/// A held grant, as its holder tracks it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    key: Arc<str>,
    attempt: AttemptId,
    token: u64,
    terms: Terms,
    /// Since when it is held; `None` for a grant that is known only by its identity.
    began: Option<Elapsed>,
    /// Service time was at most this when it began.
    began_by: Option<ServiceTime>,
    deadline: Deadline,
    last_expires_at: ServiceTime,
    unanswered: Vec<Sent>,
    queue: Vec<Place>,
    ttl_seconds: Option<i64>,
    /// What the record may not say of it yet. Boxed, since most grants have none.
    description: Option<Box<Unwritten>>,
    /// The label of a slot; `None` for the whole key.
    slot: Option<Arc<str>>,
    /// Of a key with slots.
    crowd: Option<Crowd>,
}

/// A description that no acknowledged renewal has written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Unwritten {
    description: Description,
    /// The renewals that have it publish a later P than this.
    after: ServiceTime,
}

/// How many unanswered renewals are remembered. An older one that lands gives no deadline.
const REMEMBERED: usize = 8;

impl Kept {
    /// A new grant.
    pub fn new(key: Arc<str>, attempt: AttemptId, granted: &Granted, terms: Terms) -> Self {
        Kept {
            key,
            attempt,
            token: granted.token.stored(),
            terms,
            began: Some(granted.at),
            began_by: granted.began,
            deadline: granted.deadline,
            last_expires_at: granted.expires_at,
            unanswered: Vec::new(),
            queue: granted.queue.clone(),
            ttl_seconds: granted.ttl_seconds,
            description: granted.description.clone().map(|description| {
                let after = granted.expires_at;
                Box::new(Unwritten { description, after })
            }),
            slot: None,
            crowd: granted.crowd.clone(),
        }
    }

    /// The same of a slot, whose holder has this label.
    #[must_use]
    pub fn of_slot(self, label: Arc<str>) -> Self {
        Kept {
            slot: Some(label),
            ..self
        }
    }

    fn view<'a>(&self, record: &'a Record) -> Cow<'a, Record> {
        record.seen_by_holder(self.attempt, self.slot.is_some())
    }

    /// A grant known only by its identity. The holder must not believe in it until a renewal is
    /// acknowledged. `last_expires_at` is the stored P, if known.
    pub fn adopted(
        key: Arc<str>,
        attempt: AttemptId,
        token: u64,
        last_expires_at: Option<ServiceTime>,
        terms: Terms,
    ) -> Self {
        Kept {
            key,
            attempt,
            token,
            terms,
            began: None,
            began_by: None,
            deadline: Deadline::over(),
            last_expires_at: last_expires_at.unwrap_or(ServiceTime(0)),
            unanswered: Vec::new(),
            queue: Vec::new(),
            ttl_seconds: None,
            description: None,
            slot: None,
            crowd: None,
        }
    }

    /// Until when the holder may believe in it.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The latest expiry that was published for it.
    pub fn expires_at(&self) -> ServiceTime {
        self.last_expires_at
    }

    /// Whether the grant is a slot.
    pub fn is_slot(&self) -> bool {
        self.slot.is_some()
    }

    /// Who waits for the key, as it was last seen.
    pub fn queue(&self) -> &[Place] {
        &self.queue
    }

    /// How many may wait for it.
    pub fn places(&self) -> usize {
        let limit = self.crowd.as_ref().map(|crowd| crowd.limit);
        limit.map_or(PLACES, Slots::places)
    }

    /// Remembers who waits for the key, as an answer shows it.
    pub fn saw(&mut self, record: &Record) {
        if self.is_ours(record) {
            self.queue.clone_from(&record.queue);
            self.ttl_seconds = record.ttl_seconds;
            self.crowd = Crowd::of(record, self.attempt);
        }
    }

    /// The lengths it is made of.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The time that is left until the safety margin begins.
    pub fn remaining(&self, now: Reading, clock: &ServiceClock) -> Duration {
        self.deadline
            .remaining(now, self.terms.safety_margin, clock)
    }

    /// The next renewal. `now` must be read before any other step of the renewal.
    pub fn renew(
        &mut self,
        clock: &ServiceClock,
        now: Reading,
        bound_to_process: bool,
    ) -> (Sent, Write) {
        let expires_at = self.terms.publish(clock, now, Some(self.last_expires_at));
        self.last_expires_at = expires_at;
        let sent = Sent {
            at: now,
            expires_at,
        };
        if self.unanswered.len() == REMEMBERED {
            self.unanswered.remove(0);
        }
        self.unanswered.push(sent);
        let ttl_seconds = self.terms.ttl_seconds(expires_at, clock, now);
        if let Some(label) = &self.slot {
            let write = Write::Slot(SlotWrite::Extend {
                key: self.key.clone(),
                slot: Slot::new(
                    self.attempt,
                    self.token,
                    expires_at,
                    self.terms.lease,
                    label,
                ),
                ttl_seconds,
                bound_to_process,
            });
            return (sent, write);
        }
        let unwritten = self.description.as_deref();
        let write = Write::Renew {
            key: self.key.clone(),
            attempt: self.attempt,
            token: self.token,
            expires_at,
            ttl_seconds,
            bound_to_process,
            lease: None,
            description: unwritten.map(|unwritten| unwritten.description.clone()),
        };
        (sent, write)
    }

    /// The next renewal, with this lease instead of the record's, which must not be longer. The record's L grows
    /// with the expiry: an observer that times the grant by the old L would take a live one.
    pub fn renew_for(
        &mut self,
        lease: Duration,
        clock: &ServiceClock,
        now: Reading,
        bound_to_process: bool,
    ) -> (Sent, Write) {
        // Rounded down, an observer would wait too short.
        let lease = whole_ms(lease + Duration::from_nanos(999_999));
        self.terms.lease = lease;
        let (sent, mut write) = self.renew(clock, now, bound_to_process);
        if let Write::Renew { lease: longer, .. } = &mut write {
            *longer = Some(lease);
        }
        (sent, write)
    }

    /// Records that a renewal was applied.
    pub fn renewed(&mut self, sent: &Sent, clock: &ServiceClock, now: Reading) {
        let deadline = Deadline::of(sent, &self.terms, clock, now);
        self.deadline = self.deadline.later(deadline);
        self.unanswered.retain(|s| s.expires_at > sent.expires_at);
        // A renewal from before the description did not write it.
        self.description
            .take_if(|unwritten| sent.expires_at > unwritten.after);
    }

    /// The meaning of a refused renewal, whose answer showed `record`.
    pub fn renewal_refused(
        &mut self,
        record: Option<&Record>,
        clock: &ServiceClock,
        now: Reading,
    ) -> RenewalRefused {
        if let Some(record) = record
            && self.is_ours(record)
        {
            let record = self.view(record);
            self.last_expires_at = self.last_expires_at.max(record.expires_at);
            let landed = |s: &&Sent| s.expires_at == record.expires_at;
            if let Some(sent) = self.unanswered.iter().find(landed).copied() {
                self.renewed(&sent, clock, now);
            }
            return RenewalRefused::StillOurs;
        }
        RenewalRefused::Lost(self.ended(record))
    }

    /// Describes the grant: the next renewal writes it, and those after that until one is acknowledged.
    pub fn describe(&mut self, description: Description) {
        let after = self.last_expires_at;
        self.description = Some(Box::new(Unwritten { description, after }));
    }

    /// Whether the record lacks the label or the payload, which the next renewal writes.
    pub fn is_undescribed(&self) -> bool {
        self.description.is_some()
    }

    /// Whether the record lacks a payload that a renewal would write.
    pub fn hides_data(&self) -> bool {
        self.unwritten_data().is_some()
    }

    fn unwritten_data(&self) -> Option<&Arc<[u8]>> {
        self.description.as_ref()?.description.data.as_ref()
    }

    /// When the next renewal is due: a third of the lease after the send of the last acknowledged request, less up
    /// to a fifth of that. `jitter` in 0..=1 spreads many holders. It is earlier where the grant ends before its
    /// lease, because a clock that is behind published its expiry. An answer within `request_timeout` then still
    /// comes before the loss.
    pub fn renewal_due(&self, jitter: f64, request_timeout: Duration) -> Elapsed {
        let interval = (self.terms.lease / 3).mul_f64(1.0 - 0.2 * jitter.clamp(0.0, 1.0));
        let latest = self
            .deadline
            .at
            .minus(self.terms.safety_margin + request_timeout);
        self.deadline.sent_at().plus(interval).min(latest)
    }

    /// The write that ends the grant, which was held until `over`: a hand-over to the first known contender that waits, or a
    /// release. It removes the payload, unless that is kept for the next holder.
    pub fn release(
        &self,
        keeps_data: bool,
        over: Elapsed,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let left = match self.unwritten_data() {
            _ if !keeps_data => Left::Nothing,
            Some(data) => Left::Payload(data.clone()),
            None => Left::AsItIs,
        };
        let ending = Ending {
            key: &self.key,
            attempt: self.attempt,
            token: Some(self.token),
            terms: &self.terms,
            queue: &self.queue,
            ttl_seconds: self.ttl_seconds,
            held: self.held(over),
            is_slot: self.slot.is_some(),
            crowd: self.crowd.as_ref(),
            left,
        };
        ending.write(clock, now)
    }

    fn held(&self, over: Elapsed) -> Option<Duration> {
        self.began.map(|began| whole_ms(over.since(began)))
    }

    /// The write that remembers the work of this grant as done for `keep`, counted from its beginning.
    /// `done.at` is set here. Without service time it is remembered until somebody makes the key forget it.
    pub fn complete(
        &self,
        keep: Duration,
        done: Done,
        result: Option<Arc<[u8]>>,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let until = self.began_by.map(|began| began.plus(keep).min(FOR_EVER));
        Write::Complete(Completion {
            key: self.key.clone(),
            attempt: self.attempt,
            token: self.token,
            until: until.unwrap_or(FOR_EVER),
            keep: whole_ms(keep.min(LONGEST) + Duration::from_nanos(999_999)),
            ttl_seconds: until.map(|until| self.terms.ttl_seconds(until, clock, now)),
            done: Done {
                at: service_now(clock, now),
                ..done
            },
            result,
            held: self.held(now.elapsed),
        })
    }

    /// Whether a record shows this grant as completed.
    pub fn shows_completion(&self, record: Option<&Record>) -> bool {
        record.is_some_and(|record| {
            self.attempt.when_done().owns(record) && record.token() == Some(self.token)
        })
    }

    /// How the grant ended, by a record that is not ours.
    pub fn ended(&self, record: Option<&Record>) -> Ended {
        match record {
            None => Ended::NoRecord,
            Some(_) if self.slot.is_some() => Ended::Superseded,
            Some(record) => match record.state() {
                State::Released if record.token() == Some(self.token) => Ended::Released,
                State::Released => Ended::Superseded,
                State::Granted(_) => Ended::TakenOver(Box::new(record.clone())),
            },
        }
    }

    /// Whether a record shows this grant as released, or as handed over to a contender that waited.
    /// After a release without an answer, that was the release itself.
    pub fn shows_release(&self, record: Option<&Record>) -> bool {
        record.is_some_and(|record| match record.state() {
            _ if self.slot.is_some() => record.slot_of(self.attempt).is_none(),
            State::Released => record.token() == Some(self.token),
            State::Granted(_) => {
                let waited = |place: &Place| place.attempt().owns(record);
                record.token() == Some(self.token.saturating_add(1))
                    && self.queue.iter().any(waited)
            }
        })
    }

    /// Whether a record shows the grant itself.
    pub fn is_ours(&self, record: &Record) -> bool {
        let record = self.view(record);
        self.attempt.owns(&record) && record.token() == Some(self.token)
    }
}

/// As it is stored.
fn whole_ms(length: Duration) -> Duration {
    Duration::from_millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;

//! One acquisition: its identity, its requests, and "did my write land?"
//!
//! Invariants (`docs/protocol.md` sections 4, 5 and 8):
//!
//! - An attempt id belongs to one acquire call and is never used again. One id per process breaks
//!   exclusion in 13 steps.
//! - A refusal that carries our own id is a success. Its deadline counts from the request that
//!   published the stored expiry, or from the first one. Counted from the latest, exclusion breaks
//!   in 12 steps.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use super::id::AttemptId;

use super::deadline::{Deadline, Sent, Terms, service_now};
use super::ending::{Ending, next_token};
use super::lens::{Crowd, Want};
use super::queue::{PLACES, Place};
use super::record::{Record, Seen};
use super::slot_write::{self, Entry, Over, SlotWrite};
use super::slots::Slots;
use super::takeover::{Observation, Rules, Verdict};
use super::time::{Elapsed, Reading, ServiceClock, ServiceTime};
use super::token::FencingToken;
use super::write::{Description, Grant, Left, Write};

/// The largest credible distance between a token's seed and service time. The service refuses
/// older signatures, so no correct request carries a seed that is further away.
pub const SEED_TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// How many of an attempt's latest requests are remembered.
const REMEMBERED: usize = 32;

/// The fields that an attempt writes besides times and identity.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wish {
    /// The key.
    pub key: Arc<str>,
    /// Label of the holder, for people.
    pub holder: Arc<str>,
    /// The holder's payload.
    pub data: Option<Arc<[u8]>>,
    /// As in [`Grant::bound_to_process`].
    pub bound_to_process: bool,
    /// Whether F# clients share the table, so that tokens are best effort only.
    pub shared_with_fsharp: bool,
    /// What it wants of the key.
    pub want: Want,
}

/// A grant of the caller, as the store's answer shows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Granted {
    /// The token.
    pub token: FencingToken,
    /// When its answer was read.
    pub at: Elapsed,
    /// Service time was at most this at `at`; `None` without a recent stamp.
    pub began: Option<ServiceTime>,
    /// Until when the holder may believe in it.
    pub deadline: Deadline,
    /// The stored P.
    pub expires_at: ServiceTime,
    /// Whether the token's seed is further than [`SEED_TOLERANCE`] from service time. If so, the
    /// record must be withdrawn.
    pub impossible_seed: bool,
    /// Who waits for the key behind it.
    pub queue: Vec<Place>,
    /// The TTL of the record.
    pub ttl_seconds: Option<i64>,
    /// What the record does not say of it, because the key was handed over.
    pub description: Option<Description>,
    /// Of a key with slots.
    pub crowd: Option<Crowd>,
    /// The payload that the last holder left. `None` for an attempt with a payload of its own, which replaces it.
    pub left: Option<Arc<[u8]>>,
}

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
struct Waiting {
    place: Place,
    /// Before the first request to join: the key was not handed to us before that.
    since: Reading,
    /// Consistent answers that did not show the key as ours: send and answer.
    before: VecDeque<(Reading, Elapsed)>,
}

/// How many answers without a grant are remembered. Older ones only make the deadline earlier.
const POLLS: usize = 8;

impl Waiting {
    /// The latest instant at which the key was certainly not ours yet, for the answer that shows it as
    /// ours. Only answers from before the send of its request count: a later one may show the time
    /// after the grant. So may one of the same instant, if the clock stood still in between. An answer
    /// that may be old says nothing of the order, so the join counts.
    fn not_before(&self, shown: &Shown) -> Reading {
        let counts = |received: Elapsed| shown.consistent && received < shown.sent.elapsed;
        let earlier = self.before.iter().filter(|(_, received)| counts(*received));
        let latest = earlier.max_by_key(|(sent, _)| sent.elapsed);
        latest.map_or(self.since, |(sent, _)| *sent)
    }

    fn not_ours(&mut self, shown: &Shown) {
        if shown.consistent {
            if self.before.len() == POLLS {
                self.before.pop_front();
            }
            self.before.push_back((shown.sent, shown.received));
        }
    }
}

/// What a refusal means.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The record carries the attempt's id: an earlier request of it landed.
    Ours(Granted),
    /// Another client has or had the key.
    Others(Verdict),
}

/// A request of the attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request {
    sent: Sent,
    seed: ServiceTime,
    /// The seed comes from the host's wall clock.
    unsampled: bool,
    over_foreign: bool,
}

/// One acquisition under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    id: AttemptId,
    wish: Wish,
    terms: Terms,
    rules: Rules,
    first: Option<Request>,
    recent: VecDeque<Request>,
    observation: Observation,
    /// The TTL in the latest refused record, kept only while there is no recent stamp.
    seen_ttl_seconds: Option<i64>,
    waiting: Option<Waiting>,
    /// The latest record, of a key with slots.
    latest: Option<Box<Record>>,
    /// Whether it wants a slot, and has seen no answer yet.
    blind: bool,
}

impl Attempt {
    /// An attempt that has sent nothing yet. `observation` holds earlier observations of the key.
    pub fn new(
        id: AttemptId,
        wish: Wish,
        terms: Terms,
        rules: Rules,
        observation: Observation,
    ) -> Self {
        let blind = wish.want != Want::Whole;
        Attempt {
            id,
            wish,
            terms,
            rules,
            first: None,
            recent: VecDeque::new(),
            observation,
            seen_ttl_seconds: None,
            waiting: None,
            latest: None,
            blind,
        }
    }

    /// What a record shows to this attempt.
    pub fn view<'a>(&self, record: &'a Record) -> Cow<'a, Record> {
        record.seen_by(self.id, self.wish.want, None)
    }

    /// The label of its holder.
    pub fn label(&self) -> Arc<str> {
        self.wish.holder.clone()
    }

    /// Whether it wants a slot, and does not know the record: a read comes before its first request.
    pub fn must_look(&self) -> bool {
        self.blind
    }

    /// The limit of slots in a record, if it is in use and another than this attempt knows.
    pub fn other_limit(&self, record: &Record) -> Option<u32> {
        let limit = self.wish.want.limit()?;
        let other = record.slots.as_ref()?.limit;
        (!slot_write::has_limit(record, limit)).then_some(other)
    }

    /// The contender's observations of the key.
    pub fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Its identity.
    pub fn id(&self) -> AttemptId {
        self.id
    }

    /// The next request: an acquire, or a take-over of what was seen. `now` must be read before any
    /// other step of the request.
    pub fn request(
        &mut self,
        take_over: Option<(Seen, Vec<Place>)>,
        clock: &ServiceClock,
        now: Reading,
    ) -> (Request, Write) {
        let last = self.recent.back().map(|r| r.sent.expires_at);
        let expires_at = self.terms.publish(clock, now, last);
        let seed = service_now(clock, now);
        let sampled = clock.latest_by_elapsed(now.elapsed);
        let unsampled = sampled.is_none();
        let ttl_seconds = self.terms.ttl_seconds(expires_at, clock, now);
        let request = Request {
            sent: Sent {
                at: now,
                expires_at,
            },
            seed,
            unsampled,
            over_foreign: matches!(take_over, Some((Seen::Foreign { .. }, _))),
        };
        self.first.get_or_insert(request);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(request);
        let grant = Grant {
            key: self.wish.key.clone(),
            attempt: self.id,
            expires_at,
            ttl_seconds: match self.seen_ttl_seconds {
                Some(seen) if unsampled => ttl_seconds.max(seen),
                _ => ttl_seconds,
            },
            ttl_is_guess: unsampled,
            lease: self.terms.lease,
            seed: match take_over {
                // A wall clock starts a token, where there is no other, and raises none.
                Some((Seen::Native { .. }, _)) => sampled.unwrap_or(ServiceTime(0)),
                _ => seed,
            },
            acquired_at: seed,
            holder: self.wish.holder.clone(),
            data: self.wish.data.clone(),
            bound_to_process: self.wish.bound_to_process,
        };
        let (over, places) = match take_over {
            Some((seen, places)) => (self.over(seen), Some(places)),
            None => (None, self.own_place()),
        };
        let drains = self.drains(clock.earliest(now.elapsed));
        let write = match (self.wish.want, over, places) {
            (_, Some(Over::Slot(slot)), _) if drains => Write::Slot(SlotWrite::Evict {
                key: self.wish.key.clone(),
                slot,
            }),
            (Want::Slot(limit), over, places) => {
                self.enter(grant, limit, over, places.unwrap_or_default(), clock, now)
            }
            (Want::Whole, Some(Over::Whole(seen)), Some(places)) => {
                Write::TakeOver(grant, seen, places)
            }
            (Want::Whole, _, Some(places)) => Write::Slot(SlotWrite::Claim(grant, places)),
            (Want::Whole, _, None) => Write::Acquire(grant),
        };
        (request, write)
    }

    /// The first place of a free key, if it is ours.
    fn own_place(&self) -> Option<Vec<Place>> {
        let latest = self
            .latest
            .as_ref()
            .filter(|record| record.owner.is_none())?;
        let first = latest
            .queue
            .first()
            .filter(|place| place.attempt() == self.id)?;
        Some(vec![*first])
    }

    /// Whether it waits until no slot is held, by the record that was seen last.
    fn drains(&self, earliest: Option<ServiceTime>) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|record| record.must_drain(self.id, self.wish.want, earliest))
    }

    /// The grant that was seen: a slot or the whole key. `None`: it was the first place of a free key.
    fn over(&self, seen: Seen) -> Option<Over> {
        let owner = match &seen {
            Seen::Native { owner, .. } => owner.parse().ok(),
            Seen::Foreign { .. } => None,
        };
        let Some(latest) = self.latest.as_ref().filter(|record| record.owner.is_none()) else {
            return Some(Over::Whole(seen));
        };
        Some(Over::Slot(latest.slot_of(owner?)?.clone()))
    }

    fn enter(
        &self,
        grant: Grant,
        limit: u32,
        over: Option<Over>,
        places: Vec<Place>,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let latest = self.latest.as_deref();
        Write::Slot(SlotWrite::Enter(Entry {
            token: next_token(latest.and_then(Record::token), clock, now),
            limit,
            first: latest.is_none_or(|record| record.slots.is_none()),
            over,
            places,
            grant,
        }))
    }

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

    /// A request for a place at the end of the queue, the same place each time. `now` must be read
    /// before any other step of the request. `until` is when the wait ends, in service time.
    pub fn join(&mut self, claim: Duration, until: ServiceTime, now: Reading) -> Write {
        let (id, lease) = (self.id, self.terms.lease);
        let limit = self.wish.want.limit();
        let seen = self.latest.as_ref().map(|record| record.places(limit));
        let waiting = self.waiting.get_or_insert_with(|| {
            let place = Place::new(id, lease, claim.min(lease), until);
            Waiting {
                place: limit.map_or(place, |_| place.for_slot()),
                since: now,
                before: VecDeque::new(),
            }
        });
        Write::Join {
            key: self.wish.key.clone(),
            place: waiting.place,
            limit,
            most: seen.or(limit.map(Slots::places)).unwrap_or(PLACES),
            bound_to_process: self.wish.bound_to_process,
        }
    }

    /// A request to give up its place, which was seen at this index of the queue; `None` if it has not
    /// joined.
    pub fn leave(&self, index: usize) -> Option<Write> {
        let waiting = self.waiting.as_ref()?;
        Some(Write::Leave {
            key: self.wish.key.clone(),
            place: waiting.place,
            index,
        })
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

    /// The release of any grant of this attempt, even of one that no answer showed. It is refused while
    /// others wait for the key. The refusal shows the record to [`give_back`](Self::give_back).
    pub fn abandon(&self, clock: &ServiceClock, now: Reading) -> Write {
        self.end(None, None, self.own_data_goes(), clock, now)
    }

    /// The write that ends the grant of this attempt in `record`; `None` if the record is not ours. A
    /// record with an unverified or impossible seed is deleted, before another client sees its token.
    pub fn give_back(&self, record: &Record, clock: &ServiceClock, now: Reading) -> Option<Write> {
        let crowd = Crowd::of(record, self.id);
        let record = &*self.view(record);
        let native = record.native.filter(|_| self.id.owns(record))?;
        let sampled = clock.earliest(now.elapsed).is_some();
        let began = |r: &Request| {
            native.token == u64_of(r.seed).saturating_add(1)
                && (is_impossible(r.seed, clock, now) || r.unsampled && !sampled)
        };
        if native.renew_count == 1 && self.recent.iter().any(began) {
            return Some(Write::Withdraw {
                key: self.wish.key.clone(),
                attempt: self.id,
                token: native.token,
            });
        }
        let token = Some(native.token);
        let left = match is_handed_over(record) {
            true => Left::AsItIs,
            false => self.own_data_goes(),
        };
        Some(self.end(token, Some((record, crowd.as_ref())), left, clock, now))
    }

    /// Whether a request for a place was made. The key may then be handed to this attempt at any time.
    pub fn has_joined(&self) -> bool {
        self.waiting.is_some()
    }

    /// The release of a grant of this attempt by its token, like [`abandon`](Self::abandon).
    pub fn release_late(&self, token: u64, clock: &ServiceClock, now: Reading) -> Write {
        self.end(Some(token), None, self.own_data_goes(), clock, now)
    }

    /// Nobody has seen a grant that is given back. So what the last holder left stays for the next one, unless it
    /// was replaced.
    fn own_data_goes(&self) -> Left {
        match self.wish.data {
            Some(_) => Left::Nothing,
            None => Left::AsItIs,
        }
    }

    /// `seen`: the record as it shows the grant, and the other holders of slots.
    fn end(
        &self,
        token: Option<u64>,
        seen: Option<(&Record, Option<&Crowd>)>,
        left: Left,
        clock: &ServiceClock,
        now: Reading,
    ) -> Write {
        let ending = Ending {
            key: &self.wish.key,
            attempt: self.id,
            token,
            terms: &self.terms,
            queue: seen.map_or(&[], |(record, _)| &record.queue),
            ttl_seconds: seen.and_then(|(record, _)| record.ttl_seconds),
            held: None,
            is_slot: self.wish.want != Want::Whole,
            crowd: seen.and_then(|(_, crowd)| crowd),
            left,
        };
        ending.write(clock, now)
    }

    /// The deletion of the record that this attempt created with an impossible seed.
    pub fn withdraw(&self, granted: &Granted) -> Write {
        Write::Withdraw {
            key: self.wish.key.clone(),
            attempt: self.id,
            token: granted.token.stored(),
        }
    }
}

/// Whether the grant of a record was handed over: the releaser did not know its label.
fn is_handed_over(record: &Record) -> bool {
    record.holder.is_none()
}

fn u64_of(t: ServiceTime) -> u64 {
    u64::try_from(t.0).unwrap_or(0)
}

fn is_impossible(seed: ServiceTime, clock: &ServiceClock, now: Reading) -> bool {
    match (clock.earliest(now.elapsed), clock.latest(now)) {
        (Some(earliest), Some(latest)) => {
            seed > latest.plus(SEED_TOLERANCE) || seed.plus(SEED_TOLERANCE) < earliest
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::{ClockBounds, Stamp};
    use super::super::write::apply;
    use super::*;

    fn attempt(id: u8) -> Attempt {
        let terms = Terms {
            lease: Duration::from_secs(20),
            expiry_padding: Duration::from_secs(1),
            retention: Duration::from_secs(7 * 86_400),
            safety_margin: Duration::from_secs(1),
            bounds: ClockBounds::default(),
        };
        let rules = Rules {
            strict: false,
            expiry_padding: terms.expiry_padding,
            bounds: terms.bounds,
        };
        let wish = Wish {
            key: "k".into(),
            holder: "me".into(),
            data: None,
            bound_to_process: false,
            shared_with_fsharp: false,
            want: Want::Whole,
        };
        Attempt::new(
            AttemptId::from_random([id; 16]),
            wish,
            terms,
            rules,
            Observation::default(),
        )
    }

    fn reading(ms: u64) -> Reading {
        Reading {
            elapsed: Elapsed(Duration::from_millis(ms)),
            wall_ms: 1_000_000_000_000 + i64::try_from(ms).expect("small"),
        }
    }

    fn shown(now: Reading) -> Shown {
        Shown {
            sent: now,
            received: now.elapsed,
            consistent: true,
        }
    }

    fn unsampled() -> ServiceClock {
        ServiceClock::new(ClockBounds::default())
    }

    #[test]
    fn an_earlier_success_counts_from_its_own_request() {
        let clock = unsampled();
        let mut me = attempt(1);
        let (_, first) = me.request(None, &clock, reading(0));
        let (_, second) = me.request(None, &clock, reading(5_000));
        // The first one landed, the answer was lost; the second one is refused by our own record.
        let stored = apply(None, &first).expect("free").expect("record");
        assert!(apply(Some(&stored), &second).is_err());
        let now = reading(5_010);
        let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
            panic!("our own record");
        };
        assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(19_980)));
        // The second one landed instead.
        let stored = apply(None, &second).expect("free").expect("record");
        let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
            panic!("our own record");
        };
        assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(24_980)));
    }

    #[test]
    fn an_unknown_expiry_of_ours_counts_from_the_first_request() {
        let clock = unsampled();
        let mut me = attempt(1);
        let (_, first) = me.request(None, &clock, reading(0));
        let mut stored = apply(None, &first).expect("free").expect("record");
        stored.expires_at = ServiceTime(stored.expires_at.0 + 5);
        me.request(None, &clock, reading(9_000));
        let now = reading(9_001);
        let Refusal::Ours(granted) = me.refused(Some(&stored), &shown(now), now, &clock) else {
            panic!("our own record");
        };
        assert_eq!(granted.deadline.at, Elapsed(Duration::from_millis(19_980)));
    }

    #[test]
    fn requests_of_one_attempt_never_publish_the_same_expiry() {
        let clock = unsampled();
        let mut me = attempt(1);
        let (a, _) = me.request(None, &clock, reading(0));
        let (b, _) = me.request(None, &clock, reading(0));
        assert!(b.sent.expires_at > a.sent.expires_at);
    }

    #[test]
    fn an_impossible_seed_is_found_and_others_are_not() {
        let now = reading(0);
        let granted_at = |service_s: i64| {
            let mut clock = unsampled();
            let mut me = attempt(1);
            let (request, write) = me.request(None, &clock, now);
            let stored = apply(None, &write).expect("free").expect("record");
            clock.learn(Stamp::WholeSeconds(service_s), now, now);
            me.applied(&request, &stored, &clock, now)
        };
        assert!(!granted_at(1_000_000_000).impossible_seed);
        assert!(!granted_at(1_000_000_000 + 890).impossible_seed);
        assert!(granted_at(1_000_000_000 + 910).impossible_seed);
        assert!(granted_at(1_000_000_000 - 910).impossible_seed);
    }

    #[test]
    fn a_grant_on_an_existing_token_is_not_seeded() {
        let mut clock = unsampled();
        let mut me = attempt(1);
        let (_, write) = attempt(2).request(None, &clock, reading(0));
        let mut stored = apply(None, &write).expect("free").expect("record");
        stored.owner = None;
        let (request, write) = me.request(None, &clock, reading(0));
        let stored = apply(Some(&stored), &write)
            .expect("released")
            .expect("record");
        let now = reading(0);
        clock.learn(Stamp::WholeSeconds(5), now, now);
        let granted = me.applied(&request, &stored, &clock, now);
        assert!(!granted.impossible_seed);
        assert_eq!(granted.token.stored(), 1_000_000_000_002);
    }

    #[test]
    fn a_clock_far_behind_does_not_have_the_record_deleted() {
        let mut clock = unsampled();
        let later = |seconds: i64| Reading {
            wall_ms: reading(0).wall_ms + seconds * 1_000,
            ..reading(0)
        };
        // Released by a host with a right clock, a month ahead of this one.
        let (_, write) = attempt(2).request(None, &clock, later(30 * 86_400));
        let mut free = apply(None, &write).expect("free").expect("record");
        free.owner = None;
        let now = reading(0);
        let mut me = attempt(1);
        let (_, first) = me.request(None, &clock, now);
        assert!(apply(Some(&free), &first).is_err(), "would end its record");
        // Without a stamp in the answer either: it keeps what it has seen.
        let refusal = me.refused(Some(&free), &shown(now), now, &clock);
        assert!(matches!(refusal, Refusal::Others(Verdict::Free)));
        let (_, second) = me.request(None, &clock, now);
        let taken = apply(Some(&free), &second).expect("free").expect("record");
        assert_eq!(taken.ttl_seconds, free.ttl_seconds);
        // With a stamp it uses service time, also after a clock that was ahead.
        clock.learn(Stamp::WholeSeconds(1_000_000_000), now, now);
        let (_, third) = me.request(None, &clock, now);
        let taken = apply(Some(&free), &third).expect("free").expect("record");
        assert!(taken.ttl_seconds < free.ttl_seconds);
    }
}

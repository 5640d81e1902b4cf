//! What passes without a choice of a client: its deadline, the service's clock, and what it forgets. Judges S6.

use leasehold_protocol::takeover::Observation;
use leasehold_protocol::time::{Reading, Stamp};

use super::broken::Broken;
use super::client::Client;
use super::phase::{Lost, Phase, Purpose};
use super::shape::{Breach, Property, Shape};

impl Client {
    /// A tick has passed: the renewal task checks the deadline.
    pub(super) fn tick(&mut self, shape: &Shape, time: u8, missed: bool) -> Option<Breach> {
        self.missed += u8::from(missed);
        self.watch_the_deadline(shape, time);
        self.settle(shape, time);
        self.judge_lead(shape, time)
    }

    pub(super) fn watch_the_deadline(&mut self, shape: &Shape, time: u8) {
        let now = self.reading(shape, time);
        if let Phase::Holding { kept, lost, .. } = &mut self.phase
            && *lost == Lost::No
            && kept.remaining(now, &self.clock).is_zero()
        {
            *lost = Lost::Expired;
        }
    }

    /// S6: a holder whose `lost` has not fired has more than the margin left.
    pub(super) fn judge_lead(&self, shape: &Shape, time: u8) -> Option<Breach> {
        let Phase::Holding {
            kept,
            lost: Lost::No,
            ..
        } = &self.phase
        else {
            return None;
        };
        let now = self.reading(shape, time);
        let left = kept.deadline().at.since(kept.deadline().effective_now(now));
        (left <= shape.terms.safety_margin).then_some(Breach {
            property: Property::S6,
            how: "less than the margin is left, and the holder was not told",
        })
    }

    /// Forgets what no later step depends on, so that equal futures are equal values.
    pub(super) fn settle(&mut self, shape: &Shape, time: u8) {
        let limits = &shape.clients[usize::from(self.index)];
        let spent = self.requests >= limits.requests;
        let over = match &self.phase {
            Phase::Over { .. } => {
                spent
                    || (!self.has_to_give_back()
                        && self.unanswered(|p| {
                            matches!(
                                p,
                                Purpose::Acquire { .. } | Purpose::Join | Purpose::GiveBack
                            )
                        }) == 0)
            }
            Phase::Releasing { .. } => spent && self.unanswered(|p| *p == Purpose::Complete) == 0,
            Phase::Acquiring { .. } => spent && self.waiting.is_empty(),
            Phase::Holding { lost, worked, .. } => {
                let renewing = self.unanswered(|p| matches!(p, Purpose::Renew(_))) > 0;
                let works = shape.register && !worked;
                spent && *lost != Lost::No && !renewing && !works && !self.believes(shape, time)
            }
            _ => false,
        };
        self.forget_the_way(shape);
        if over {
            self.phase = Phase::Idle;
            self.waiting.clear();
        }
        if self.phase == Phase::Idle && (spent || self.attempts >= limits.attempts) {
            *self = Client {
                attempts: limits.attempts,
                requests: limits.requests,
                ..Client::new(self.index, 0, shape)
            };
        }
    }

    /// How a grant was won matters only while a request of its call may still land.
    fn forget_the_way(&mut self, shape: &Shape) {
        if self.attempts >= shape.clients[usize::from(self.index)].attempts {
            self.observation = Observation::default();
        }
        let open = self.unanswered_claims() > 0 || self.unanswered(|p| *p == Purpose::GiveBack) > 0;
        let bare = self.new_attempt(shape);
        if let Phase::Holding { attempt, late, .. } | Phase::Releasing { attempt, late, .. } =
            &mut self.phase
            && late.is_none()
            && !open
        {
            *attempt = bare;
        }
    }

    /// Feeds the service clock with a stamp.
    pub(super) fn learn(
        &mut self,
        stamp: Option<Stamp>,
        sent: Reading,
        received: Reading,
        shape: &Shape,
    ) {
        let Some(stamp) = stamp else { return };
        if shape.lacks(Broken::SampleFromWrongEnd) {
            self.clock.learn(stamp, received, sent);
        } else {
            self.clock.learn(stamp, sent, received);
        }
    }
}

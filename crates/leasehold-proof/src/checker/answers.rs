//! How a client handles an answer: the other half of [`Client`].

use std::time::Duration;

use leasehold_protocol::attempt::{Attempt, Granted, Refusal, Request, Shown};
use leasehold_protocol::deadline::{Deadline, Sent};
use leasehold_protocol::record::Record;
use leasehold_protocol::renewal::{Ended, Kept, RenewalRefused};
use leasehold_protocol::takeover::Verdict;
use leasehold_protocol::time::{Elapsed, Reading, ServiceClock, ServiceTime, Stamp};

use super::after::beside_a_lease;
use super::broken::Broken;
use super::client::Client;
use super::completes::{NEW, without_work};
use super::message::{Answer, Outcome};
use super::phase::{Lost, Next, Note, Output, Owed, Phase, Purpose, Waiting};
use super::shape::{Breach, Property, Shape};
use super::turn::without_claims;

impl Client {
    /// Takes an answer that it waits for.
    pub(super) fn take(&mut self, answer: &Answer, shape: &Shape, time: u8) -> Output {
        let Some(at) = self.waiting.iter().position(|w| w.tag == answer.tag) else {
            return Output::NOTHING;
        };
        let waiting = self.waiting.remove(at);
        let now = self.reading(shape, time);
        self.learn(answer.stamp, waiting.sent, now, shape);
        // Before the answer counts: a lost lease stays lost.
        self.watch_the_deadline(shape, time);
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let mut output = match phase {
            Phase::Acquiring {
                attempt,
                next,
                place,
                counts,
            } => {
                let turn = (next, place, counts);
                self.take_acquiring(attempt, turn, &waiting, answer, now, shape)
            }
            Phase::Withdrawing { attempt, granted } => {
                self.phase = if waiting.purpose == Purpose::Withdraw {
                    // Withdrawn, or gone already: the acquisition begins again.
                    Phase::Acquiring {
                        attempt,
                        next: Next::Acquire,
                        place: None,
                        counts: None,
                    }
                } else {
                    Phase::Withdrawing { attempt, granted }
                };
                Output::NOTHING
            }
            Phase::HandingOver {
                attempt,
                mut kept,
                token,
                began,
            } => {
                let renewed = matches!(waiting.purpose, Purpose::Renew(_));
                self.take_renewal(&mut kept, &waiting, answer, now, shape);
                if renewed {
                    self.hand_over(attempt, kept, (token, began), now, shape)
                } else {
                    self.phase = Phase::HandingOver {
                        attempt,
                        kept,
                        token,
                        began,
                    };
                    Output::NOTHING
                }
            }
            Phase::Holding {
                attempt,
                mut kept,
                token,
                mut lost,
                worked,
                began,
                mut late,
            } => {
                let told = lost;
                if self.take_renewal(&mut kept, &waiting, answer, now, shape) {
                    lost = Lost::Ended;
                } else if shape.lacks(Broken::LostUnfires)
                    && matches!(waiting.purpose, Purpose::Renew(_))
                    && !kept.remaining(now, &self.clock).is_zero()
                {
                    lost = Lost::No;
                }
                late = beside_a_lease(&attempt, late, &waiting, answer, token);
                self.phase = Phase::Holding {
                    attempt,
                    kept,
                    token,
                    lost,
                    worked,
                    began,
                    late,
                };
                Output {
                    breach: (told != Lost::No && lost == Lost::No).then_some(Breach {
                        property: Property::S6,
                        how: "a holder that was told of its loss was told that it holds after all",
                    }),
                    ..Output::NOTHING
                }
            }
            Phase::Releasing {
                attempt,
                kept,
                token,
                completes: Some(began),
                late,
            } => {
                let late = beside_a_lease(&attempt, late, &waiting, answer, token);
                match waiting.purpose == Purpose::Complete {
                    true => self.take_completion(attempt, &kept, token, late, answer, shape),
                    false => {
                        self.phase = Phase::Releasing {
                            attempt,
                            kept,
                            token,
                            completes: Some(began),
                            late,
                        };
                        Output::NOTHING
                    }
                }
            }
            Phase::Releasing {
                attempt,
                kept,
                token,
                completes: None,
                late,
            } => {
                let late = beside_a_lease(&attempt, late, &waiting, answer, token);
                let mut kept = kept;
                self.phase = if waiting.purpose == Purpose::Release {
                    match &answer.outcome {
                        // Somebody has come to wait, or has left.
                        Outcome::Refused(Some(record)) if kept.is_ours(record) => {
                            kept.saw(record);
                            Phase::Releasing {
                                attempt,
                                kept,
                                token,
                                completes: None,
                                late,
                            }
                        }
                        _ => {
                            self.observation = attempt.observation().clone();
                            Phase::Over {
                                attempt,
                                leased: Some(token),
                                owed: late.map_or(Owed::Nothing, Owed::Shown),
                            }
                        }
                    }
                } else {
                    Phase::Releasing {
                        attempt,
                        kept,
                        token,
                        completes: None,
                        late,
                    }
                };
                Output::NOTHING
            }
            Phase::Over {
                attempt,
                leased,
                owed,
            } => {
                self.phase = self.take_late((attempt, leased, owed), &waiting, answer);
                Output::NOTHING
            }
            Phase::Idle => Output::NOTHING,
        };
        self.mark_beginning(shape, time);
        self.settle(shape, time);
        output.breach = output.breach.or_else(|| self.judge_lead(shape, time));
        output
    }

    fn take_acquiring(
        &mut self,
        mut attempt: Attempt,
        (next, place, counts): (Next, Option<u8>, Option<Reading>),
        waiting: &Waiting,
        answer: &Answer,
        now: Reading,
        shape: &Shape,
    ) -> Output {
        let record = match (&waiting.purpose, &answer.outcome) {
            (Purpose::Acquire { request, published }, Outcome::Applied(Some(record))) => {
                let mut granted = attempt.applied(request, record, &self.clock, now);
                if shape.lacks(Broken::DeadlineFromAnswer) {
                    granted.deadline = self.deadline(now, *published, now, shape);
                }
                return self.granted(attempt, granted, now, shape, (waiting, request));
            }
            (Purpose::Acquire { .. }, Outcome::Refused(record))
            | (Purpose::Join, Outcome::Applied(record) | Outcome::Refused(record))
            | (Purpose::Read { .. }, Outcome::Read(record)) => record.as_ref(),
            _ => {
                self.phase = Phase::Acquiring {
                    attempt,
                    next,
                    place,
                    counts,
                };
                return Output::NOTHING;
            }
        };
        let latest = self.latest_request(waiting);
        match self.judge(&mut attempt, record, waiting, now, shape) {
            Refusal::Ours(mut granted) => {
                if let Some((at, published)) = latest
                    && shape.lacks(Broken::DeadlineFromLatestSend)
                {
                    granted.deadline = self.deadline(at, published, now, shape);
                }
                self.count_wrongly(&mut granted, (waiting, counts), now, shape);
                self.received(attempt, granted, now, shape)
            }
            Refusal::Others(verdict) => {
                let counts = self.counts_wrongly(waiting, counts, shape);
                let turn = (next, place);
                let (next, place) =
                    self.next_turn(&attempt, turn, verdict, (waiting, answer), shape);
                self.phase = Phase::Acquiring {
                    attempt,
                    next,
                    place,
                    counts,
                };
                Output::NOTHING
            }
        }
    }

    fn judge(
        &self,
        attempt: &mut Attempt,
        record: Option<&Record>,
        waiting: &Waiting,
        now: Reading,
        shape: &Shape,
    ) -> Refusal {
        let mut shown = Shown {
            sent: waiting.sent,
            received: now.elapsed,
            consistent: waiting.purpose.is_consistent() || shape.lacks(Broken::StaleReadsCount),
        };
        if shape.lacks(Broken::SameInstantCounts) {
            shown.received = shown.received.minus(Duration::from_nanos(1));
        }
        if shape.lacks(Broken::ObservedFromSend) {
            shown.received = waiting.sent.elapsed;
        }
        if shape.lacks(Broken::RenewalsUnseen) {
            // The observation goes on over renewals; the take-over still names what is there.
            let mut blurred = record.cloned();
            let native = blurred.as_mut().and_then(|r| r.native.as_mut());
            let count = native.map(|n| std::mem::replace(&mut n.renew_count, 0));
            let verdict = attempt.refused(blurred.as_ref(), &shown, now, &self.clock);
            return match (verdict, record.map(Record::state)) {
                (
                    Refusal::Others(Verdict::TakeOver(_, places)),
                    Some(leasehold_protocol::record::State::Granted(seen)),
                ) if count.is_some() => Refusal::Others(Verdict::TakeOver(seen, places)),
                (verdict, _) => verdict,
            };
        }
        if shape.lacks(Broken::ClaimsUnwaited) {
            return without_claims(attempt, record, &shown, now, &self.clock);
        }
        let shown_as = without_work(record, shape);
        let record = shown_as.as_ref().or(record);
        let believed = self.other_end(now, shape);
        let clock = believed.as_ref().unwrap_or(&self.clock);
        attempt.refused(record, &shown, now, clock)
    }

    /// The service clock that a broken contender judges by.
    fn other_end(&self, now: Reading, shape: &Shape) -> Option<ServiceClock> {
        let time = match shape.broken? {
            Broken::BoundsSwapped => self.clock.latest(now)?,
            Broken::WallClockJudges => ServiceTime(now.wall_ms),
            _ => return None,
        };
        let mut clock = ServiceClock::new(shape.terms.bounds);
        clock.learn(Stamp::Exact(time), now, now);
        Some(clock)
    }

    /// The latest request of this call: its send and the expiry that it published.
    fn latest_request(&self, waiting: &Waiting) -> Option<(Reading, ServiceTime)> {
        let others = self.waiting.iter().chain([waiting]);
        let requests = others.filter_map(|w| match w.purpose {
            Purpose::Acquire { published, .. } => Some((w.sent, published)),
            _ => None,
        });
        requests.max_by_key(|(_, published)| *published)
    }

    fn deadline(
        &self,
        at: Reading,
        expires_at: ServiceTime,
        now: Reading,
        shape: &Shape,
    ) -> Deadline {
        Deadline::of(&Sent { at, expires_at }, &shape.terms, &self.clock, now)
    }

    fn granted(
        &mut self,
        attempt: Attempt,
        mut granted: Granted,
        now: Reading,
        shape: &Shape,
        (waiting, _): (&Waiting, &Request),
    ) -> Output {
        if shape.lacks(Broken::HolderTrustsPad)
            && let Purpose::Acquire { published, .. } = waiting.purpose
        {
            let mut terms = shape.terms;
            terms.expiry_padding = Duration::ZERO;
            let sent = Sent {
                at: waiting.sent,
                expires_at: published,
            };
            granted.deadline = Deadline::of(&sent, &terms, &self.clock, now);
        }
        self.received(attempt, granted, now, shape)
    }

    /// The call has a grant.
    fn received(
        &mut self,
        attempt: Attempt,
        granted: Granted,
        now: Reading,
        shape: &Shape,
    ) -> Output {
        if granted.impossible_seed && !shape.lacks(Broken::SeedUnchecked) {
            self.phase = Phase::Withdrawing { attempt, granted };
            return Output::NOTHING;
        }
        let token = granted.token.stored();
        let granted = Granted {
            at: Elapsed::default(),
            began: self.run_begins(&granted, now, shape),
            ..granted
        };
        let kept = Kept::new("k".into(), attempt.id(), &granted, shape.terms);
        if kept.remaining(now, &self.clock).is_zero() && !shape.lacks(Broken::WorthlessHandedOver) {
            self.phase = Phase::HandingOver {
                attempt,
                kept,
                token,
                began: NEW,
            };
            return Output::NOTHING;
        }
        self.hand_over(attempt, kept, (token, NEW), now, shape)
    }

    fn hand_over(
        &mut self,
        attempt: Attempt,
        kept: Kept,
        (token, began): (u64, u8),
        now: Reading,
        shape: &Shape,
    ) -> Output {
        self.observation = attempt.observation().clone();
        if kept.remaining(now, &self.clock).is_zero() && !shape.lacks(Broken::WorthlessHandedOver) {
            self.phase = Phase::Over {
                attempt,
                leased: None,
                owed: Owed::Perhaps,
            };
            return Output::NOTHING;
        }
        let deadline = kept.deadline();
        let worthless = deadline.at.since(deadline.effective_now(now)) <= shape.terms.safety_margin;
        self.phase = Phase::Holding {
            attempt,
            kept,
            token,
            lost: Lost::No,
            worked: false,
            began,
            late: None,
        };
        Output {
            note: Note::Shown {
                attempt: self.attempts,
                token,
            },
            breach: worthless.then_some(Breach {
                property: Property::S5,
                how: "a lease was given of which no more than the margin is left",
            }),
            ..Output::NOTHING
        }
    }

    /// Takes the answer to a renewal, and returns whether the grant has ended.
    fn take_renewal(
        &self,
        kept: &mut Kept,
        waiting: &Waiting,
        answer: &Answer,
        now: Reading,
        shape: &Shape,
    ) -> bool {
        let Purpose::Renew(sent) = waiting.purpose else {
            return false;
        };
        match &answer.outcome {
            Outcome::Applied(record) => {
                record.iter().for_each(|record| kept.saw(record));
                let mut sent = sent;
                if shape.lacks(Broken::DeadlineFromAnswer) {
                    sent.at = now;
                }
                kept.renewed(&sent, &self.clock, now);
                false
            }
            Outcome::Refused(record) => {
                record.iter().for_each(|record| kept.saw(record));
                let refused = kept.renewal_refused(record.as_ref(), &self.clock, now);
                match refused {
                    RenewalRefused::StillOurs => false,
                    RenewalRefused::Lost(
                        Ended::Released | Ended::TakenOver(_) | Ended::Superseded | Ended::NoRecord,
                    ) => true,
                }
            }
            Outcome::Read(_) => false,
        }
    }
}

//! One client: a contender, a holder, or gone.

use std::time::Duration;

use leasehold_protocol::attempt::{Attempt, AttemptId, Refusal, Shown, Wish};
use leasehold_protocol::deadline::Terms;
use leasehold_protocol::lens::Want;
use leasehold_protocol::queue::Place;
use leasehold_protocol::record::{Record, Seen};
use leasehold_protocol::renewal::{Kept, RenewalRefused};
use leasehold_protocol::takeover::{Observation, Rules, Verdict};
use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceClock, ServiceTime, Stamp};
use leasehold_protocol::write::Write;

use super::variants::Case;

pub(super) const LEASE: Duration = Duration::from_secs(20);
const CLAIM: Duration = Duration::from_secs(5);
const WALL: i64 = 1_800_000_000_000;

pub(super) fn terms() -> Terms {
    Terms {
        lease: LEASE,
        expiry_padding: Duration::from_secs(1),
        retention: Duration::from_secs(7 * 86_400),
        safety_margin: Duration::from_secs(1),
        bounds: ClockBounds::default(),
    }
}

/// Both clocks at a time, and the service's.
pub(super) fn reading(ms: u64) -> Reading {
    Reading {
        elapsed: Elapsed(Duration::from_millis(ms)),
        wall_ms: WALL + i64::try_from(ms).unwrap_or(i64::MAX),
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client {
    pub(super) want: Want,
    pub(super) clock: ServiceClock,
    pub(super) phase: Phase,
    /// Writes that it may still send.
    pub(super) left: u8,
    /// Reads that it may still send.
    pub(super) polls: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    Contends {
        attempt: Box<Attempt>,
        next: Next,
    },
    Holds {
        kept: Box<Kept>,
        lost: bool,
        /// Its end was asked for: nobody works under it.
        ends: bool,
    },
    /// It has died while it held or waited, or has ended.
    Gone,
}

/// What a contender does next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Next {
    /// Read.
    Poll,
    Ask(Option<(Seen, Vec<Place>)>),
    /// Join, or read.
    Wait,
}

impl Client {
    /// With a stamp of the beginning, its clock is exact from there on.
    pub(super) fn new(index: u8, want: Want, case: &Case) -> Client {
        let wish = Wish {
            key: "k".into(),
            holder: format!("client {index}").into(),
            data: None,
            adopts: false,
            force: None,
            bound_to_process: false,
            shared_with_fsharp: false,
            want,
        };
        let rules = Rules {
            strict: case.strict,
            expiry_padding: terms().expiry_padding,
            bounds: terms().bounds,
        };
        let id = AttemptId::from_random([index + 1; 16]);
        let attempt = Attempt::new(id, wish, terms(), rules, Observation::default());
        let mut clock = ServiceClock::new(ClockBounds::default());
        if case.stamped {
            let now = reading(0);
            clock.learn(Stamp::Exact(ServiceTime(now.wall_ms)), now, now);
        }
        Client {
            want,
            clock,
            phase: Phase::Contends {
                attempt: Box::new(attempt),
                next: Next::Poll,
            },
            left: case.requests,
            polls: case.polls,
        }
    }

    /// Whether it believes in its grant.
    pub(super) fn believes(&self, ms: u64) -> bool {
        match &self.phase {
            Phase::Holds {
                kept, ends: false, ..
            } => {
                let deadline = kept.deadline();
                !deadline
                    .remaining(reading(ms), Duration::ZERO, &self.clock)
                    .is_zero()
            }
            _ => false,
        }
    }

    pub(super) fn tick(&mut self, ms: u64) {
        if let Phase::Holds { kept, lost, .. } = &mut self.phase {
            *lost |= kept.remaining(reading(ms), &self.clock).is_zero();
        }
    }

    /// The write of this step, and what its answer means; `None` if the step is not open.
    pub(super) fn write(&mut self, step: Step, ms: u64) -> Option<Write> {
        if self.left == 0 {
            return None;
        }
        let now = reading(ms);
        let write = match (&mut self.phase, step) {
            (
                Phase::Contends {
                    attempt,
                    next: Next::Ask(over),
                },
                Step::Ask,
            ) => attempt.request(over.clone(), &self.clock, now).1,
            (
                Phase::Contends {
                    attempt,
                    next: Next::Wait,
                },
                Step::Join,
            ) => attempt.join(CLAIM, ServiceTime(i64::MAX), now),
            (
                Phase::Holds {
                    kept,
                    lost: false,
                    ends: false,
                },
                Step::Renew,
            ) => kept.renew(&self.clock, now, false).1,
            (Phase::Holds { kept, ends, .. }, Step::End) => {
                *ends = true;
                kept.release(false, now.elapsed, &self.clock, now)
            }
            _ => return None,
        };
        self.left -= 1;
        Some(write)
    }

    /// The answer of a write, or a read, that shows this record.
    pub(super) fn sees(
        &mut self,
        step: Step,
        record: Option<&Record>,
        applied: Option<bool>,
        ms: u64,
    ) {
        let now = reading(ms);
        let shown = Shown {
            sent: now,
            received: now.elapsed,
            // A read may be old.
            consistent: applied.is_some(),
        };
        match &mut self.phase {
            Phase::Contends { attempt, next } => {
                let refusal = attempt.refused(record, &shown, now, &self.clock);
                let granted = match refusal {
                    Refusal::Ours(granted) => granted,
                    Refusal::Others(verdict) => {
                        *next = match verdict {
                            Verdict::Free => Next::Ask(None),
                            Verdict::TakeOver(seen, places) => Next::Ask(Some((seen, places))),
                            Verdict::Wait { .. } | Verdict::Done { .. } => Next::Wait,
                        };
                        return;
                    }
                };
                let kept = Kept::new("k".into(), attempt.id(), &granted, terms());
                let kept = match self.want {
                    Want::Whole => kept,
                    Want::Slot(_) => kept.of_slot(attempt.label()),
                };
                let lost = kept.remaining(now, &self.clock).is_zero();
                self.phase = Phase::Holds {
                    kept: Box::new(kept),
                    lost,
                    ends: false,
                };
            }
            Phase::Holds { kept, lost, .. } => {
                record.into_iter().for_each(|record| kept.saw(record));
                match (step, applied) {
                    (Step::End, Some(true)) => self.phase = Phase::Gone,
                    (Step::End, _) if record.is_some_and(|record| kept.is_ours(record)) => {}
                    (Step::End, _) => self.phase = Phase::Gone,
                    _ => {
                        // An applied renewal shows its own expiry, as a refused one does.
                        let refused = kept.renewal_refused(record, &self.clock, now);
                        *lost |= matches!(refused, RenewalRefused::Lost(_));
                        if *lost {
                            self.phase = Phase::Gone;
                        }
                    }
                }
            }
            Phase::Gone => {}
        }
    }
}

/// A step of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    Poll,
    Ask,
    Join,
    Renew,
    End,
    /// It does nothing any more.
    Die,
}

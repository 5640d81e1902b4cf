//! `time.rs` and `deadline.rs`: bounds on the service's clock, what is published, until when it is
//! believed in.

use super::{Edit, Mutant};

const TIME: &str = "crates/leasehold-protocol/src/time.rs";
const DEADLINE: &str = "crates/leasehold-protocol/src/deadline.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the lower bound counts from the send",
        breaks: "a sample timed from the wrong end: the service's clock seems further than it is",
        edits: &[Edit {
            file: TIME,
            old: "time: lowest,
            at: received.elapsed,",
            new: "time: lowest,
            at: sent.elapsed,",
        }],
    },
    Mutant {
        name: "the upper bound counts from the answer",
        breaks: "a sample timed from the wrong end: the service's clock may be further than it seems",
        edits: &[Edit {
            file: TIME,
            old: "time: highest,
            at: sent,",
            new: "time: highest,
            at: received,",
        }],
    },
    Mutant {
        name: "the service's hosts agree, below",
        breaks: "`earliest` without delta",
        edits: &[Edit {
            file: TIME,
            old: "ServiceTime(d.saturating_sub(delta)),",
            new: "ServiceTime(d),",
        }],
    },
    Mutant {
        name: "the service's hosts agree, above",
        breaks: "`latest` without delta",
        edits: &[Edit {
            file: TIME,
            old: "ServiceTime(d.saturating_add(1_000).saturating_add(delta)),",
            new: "ServiceTime(d.saturating_add(1_000).saturating_add(delta - delta)),",
        }],
    },
    Mutant {
        name: "a date is not floored",
        breaks: "`latest` without the second that a whole-second stamp hides",
        edits: &[Edit {
            file: TIME,
            old: "ServiceTime(d.saturating_add(1_000).saturating_add(delta)),",
            new: "ServiceTime(d.saturating_add(delta)),",
        }],
    },
    Mutant {
        name: "drift on the wrong side, below",
        breaks: "`earliest` runs ahead of the service's clock",
        edits: &[Edit {
            file: TIME,
            old: "bound.time.plus_floor(self.at_least(now.since(bound.at)))",
            new: "bound.time.plus_floor(self.at_most(now.since(bound.at)))",
        }],
    },
    Mutant {
        name: "drift on the wrong side, above",
        breaks: "`latest` falls behind the service's clock",
        edits: &[Edit {
            file: TIME,
            old: "let passed = self.at_most(passed) + Duration::from_nanos(1);",
            new: "let passed = self.at_least(passed) + Duration::from_nanos(1);",
        }],
    },
    Mutant {
        name: "a pause does not age the upper bound",
        breaks: "`latest` ignores what only the wall clock has seen",
        edits: &[Edit {
            file: TIME,
            old: "let passed = now.elapsed.since(bound.at.elapsed) + bound.missed(now);",
            new: "let passed = now.elapsed.since(bound.at.elapsed);",
        }],
    },
    Mutant {
        name: "a pause does not bring the end nearer",
        breaks: "the instant at which service time reaches P ignores what the elapsed clock has missed",
        edits: &[Edit {
            file: TIME,
            old: "w.high.at.elapsed.plus(divided).minus(w.high.missed(now))",
            new: "w.high.at.elapsed.plus(divided)",
        }],
    },
    Mutant {
        name: "no pad is published",
        breaks: "the expiry leaves F# clients no margin for their clocks",
        edits: &[Edit {
            file: DEADLINE,
            old: "let fresh = base.plus(self.lease).plus(self.pad);",
            new: "let fresh = base.plus(self.lease);",
        }],
    },
    Mutant {
        name: "the holder believes in the pad",
        breaks: "belief until P, where an F# client may act at P less the pad",
        edits: &[Edit {
            file: DEADLINE,
            old: "let believed = ServiceTime(sent.expires_at.0.saturating_sub(pad));",
            new: "let believed = ServiceTime(sent.expires_at.0.saturating_sub(pad - pad));",
        }],
    },
    Mutant {
        name: "the wall clock decides although there is a sample",
        breaks: "expiry and seed are published by the host's wall clock",
        edits: &[Edit {
            file: DEADLINE,
            old: "    clock
        .latest_by_elapsed(now.elapsed)
        .unwrap_or(ServiceTime(now.wall_ms))",
            new: "    clock
        .latest_by_elapsed(now.elapsed)
        .map_or(ServiceTime(now.wall_ms), |_| ServiceTime(now.wall_ms))",
        }],
    },
    Mutant {
        name: "published by the lower bound",
        breaks: "`earliest` where `latest` belongs: the expiry is too early by the width of the interval",
        edits: &[Edit {
            file: DEADLINE,
            old: "        .latest_by_elapsed(now.elapsed)",
            new: "        .earliest(now.elapsed)",
        }],
    },
    Mutant {
        name: "the deadline counts from the answer",
        breaks: "belief for a lease from the answer instead of the send",
        edits: &[Edit {
            file: DEADLINE,
            old: "let by_lease = sent.at.elapsed.plus(clock.bounds().at_least(terms.lease));",
            new: "let by_lease = now.elapsed.plus(clock.bounds().at_least(terms.lease));",
        }],
    },
    Mutant {
        name: "the lease runs by a slow clock",
        breaks: "drift on the wrong side of the holder's lease",
        edits: &[Edit {
            file: DEADLINE,
            old: "let by_lease = sent.at.elapsed.plus(clock.bounds().at_least(terms.lease));",
            new: "let by_lease = sent.at.elapsed.plus(clock.bounds().at_most(terms.lease));",
        }],
    },
    Mutant {
        name: "the deadline ignores service time",
        breaks: "belief for a whole lease, even where P was published by a clock that is behind",
        edits: &[Edit {
            file: DEADLINE,
            old: "Some(by_service) => by_lease.min(by_service),",
            new: "Some(by_service) => by_lease.max(by_service.min(by_lease)),",
        }],
    },
    Mutant {
        name: "the deadline ignores the lease",
        breaks: "belief until P, which a clock that is ahead put far away, while observers wait one lease",
        edits: &[Edit {
            file: DEADLINE,
            old: "Some(by_service) => by_lease.min(by_service),",
            new: "Some(by_service) => by_service,",
        }],
    },
    Mutant {
        name: "the guard ignores the wall clock",
        breaks: "a machine pause, seen by the wall clock alone, does not end the belief (holder rule 2)",
        edits: &[Edit {
            file: DEADLINE,
            old: "now.elapsed.max(self.anchor.elapsed.plus(wall))",
            new: "now.elapsed.max(self.anchor.elapsed.plus(wall.min(Duration::ZERO)))",
        }],
    },
    Mutant {
        name: "lost comes without its margin",
        breaks: "`lost` fires at the deadline, not the margin before it",
        edits: &[Edit {
            file: DEADLINE,
            old: "self.at.minus(margin).since(self.effective_now(now))",
            new: "self.at.minus(margin.min(Duration::ZERO)).since(self.effective_now(now))",
        }],
    },
    Mutant {
        name: "the TTL is floored",
        breaks: "the record may be deleted before its retention has passed",
        edits: &[Edit {
            file: DEADLINE,
            old: "ms.div_euclid(1_000) + i64::from(ms.rem_euclid(1_000) != 0)",
            new: "ms.div_euclid(1_000)",
        }],
    },
    Mutant {
        name: "the TTL counts from no later than now",
        breaks: "the retention is left out: token and record are deleted with the lease",
        edits: &[Edit {
            file: DEADLINE,
            old: "let ms = until.plus(self.retention).0.max(0);",
            new: "let ms = until.0.max(0);",
        }],
    },
    Mutant {
        name: "a release dates its TTL by the wall clock",
        breaks: "without a sample, a wall clock far behind has the token deleted at once",
        edits: &[Edit {
            file: DEADLINE,
            old: "clock.latest(now).map(|latest| self.ttl_seconds(latest))",
            new: "Some(self.ttl_seconds(ServiceTime(now.wall_ms))).filter(|_| clock.bounds().drift_ppm > 0)",
        }],
    },
];

//! `takeover.rs`, `attempt.rs` and `renewal.rs`: who may take a key, and whose grant it is.

use super::{Edit, Mutant};

const TAKEOVER: &str = "crates/leasehold-protocol/src/takeover.rs";
const ATTEMPT: &str = "crates/leasehold-protocol/src/attempt.rs";
const RENEWAL: &str = "crates/leasehold-protocol/src/renewal.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "earliest and latest swapped",
        breaks: "a contender acts once service time *may* be past the expiry",
        edits: &[Edit {
            file: TAKEOVER,
            old: "if clock.earliest(now).is_some_and(|earliest| earliest > end) {",
            new: "if clock.latest_by_elapsed(now).is_some_and(|latest| latest > end) {",
        }],
    },
    Mutant {
        name: "no pad towards F# clients",
        breaks: "a contender does not wait for an F# holder whose clock is behind",
        edits: &[Edit {
            file: TAKEOVER,
            old: "Seen::Foreign { .. } => record.expires_at.plus(rules.pad),",
            new: "Seen::Foreign { .. } => record.expires_at,",
        }],
    },
    Mutant {
        name: "an observation goes on across renewals",
        breaks: "the observation is not started again when the record has changed",
        edits: &[Edit {
            file: TAKEOVER,
            old: "Some((before, since)) if *before == seen => *since,",
            new: "Some((_, since)) => *since,",
        }],
    },
    Mutant {
        name: "an observation by a fast clock",
        breaks: "drift on the wrong side of the watched lease",
        edits: &[Edit {
            file: TAKEOVER,
            old: ".map(|native| since.plus(rules.bounds.at_most(native.lease)));",
            new: ".map(|native| since.plus(rules.bounds.at_least(native.lease)));",
        }],
    },
    Mutant {
        name: "an observation of half a lease",
        breaks: "a live holder is taken over between two of its renewals",
        edits: &[Edit {
            file: TAKEOVER,
            old: ".map(|native| since.plus(rules.bounds.at_most(native.lease)));",
            new: ".map(|native| since.plus(rules.bounds.at_most(native.lease / 2)));",
        }],
    },
    Mutant {
        name: "strict trusts the service's clock",
        breaks: "strict uses the service rule all the same",
        edits: &[Edit {
            file: TAKEOVER,
            old: "let by_service = if rules.strict {",
            new: "let by_service = if rules.strict && rules.bounds.drift_ppm == u32::MAX {",
        }],
    },
    Mutant {
        name: "anybody's record is our own",
        breaks: "a refusal counts as success without carrying our id",
        edits: &[Edit {
            file: ATTEMPT,
            old: "            && self.id.owns(record)
            && let Some(request)",
            new: "            && let Some(request)",
        }],
    },
    Mutant {
        name: "our own record is somebody's",
        breaks: "an earlier write that landed is not recognised",
        edits: &[Edit {
            file: ATTEMPT,
            old: "            && self.id.owns(record)
            && let Some(request)",
            new: "            && !self.id.owns(record)
            && self.id.owns(record)
            && let Some(request)",
        }],
    },
    Mutant {
        name: "a found grant counts from the latest send",
        breaks: "the deadline of an earlier write that landed is that of the last request",
        edits: &[Edit {
            file: ATTEMPT,
            old: "self.recent.iter().find(same).copied().or_else(|| {",
            new: "self.recent.back().or(self.recent.iter().find(same)).copied().or_else(|| {",
        }],
    },
    Mutant {
        name: "a retry keeps the time of the first try",
        breaks: "an acquire tries again with a stale expiry",
        edits: &[Edit {
            file: ATTEMPT,
            old: "let expires_at = self.terms.publish(clock, now, last);",
            new: "let expires_at = last.unwrap_or_else(|| self.terms.publish(clock, now, last));",
        }],
    },
    Mutant {
        name: "a token is seeded by the wall clock",
        breaks: "the seed is the host's time although there is a sample",
        edits: &[Edit {
            file: ATTEMPT,
            old: "let seed = service_now(clock, now);",
            new: "let seed = service_now(&ServiceClock::new(clock.bounds()), now);",
        }],
    },
    Mutant {
        name: "impossible seeds stay",
        breaks: "no grant is withdrawn for its seed",
        edits: &[Edit {
            file: ATTEMPT,
            old: "impossible_seed: seeded && is_impossible(request.seed, clock, now),",
            new: "impossible_seed: seeded && is_impossible(request.seed, &ServiceClock::new(clock.bounds()), now),",
        }],
    },
    Mutant {
        name: "seeds from the future stay",
        breaks: "a seed more than 15 minutes ahead is not withdrawn",
        edits: &[Edit {
            file: ATTEMPT,
            old: "seed > latest.plus(SEED_TOLERANCE) || seed.plus(SEED_TOLERANCE) < earliest",
            new: "latest >= earliest && seed.plus(SEED_TOLERANCE) < earliest",
        }],
    },
    Mutant {
        name: "seeds from the past stay",
        breaks: "a seed more than 15 minutes behind is not withdrawn",
        edits: &[Edit {
            file: ATTEMPT,
            old: "seed > latest.plus(SEED_TOLERANCE) || seed.plus(SEED_TOLERANCE) < earliest",
            new: "latest >= earliest && seed > latest.plus(SEED_TOLERANCE)",
        }],
    },
    Mutant {
        name: "a refused renewal is no loss",
        breaks: "the holder goes on although its record is another's or released",
        edits: &[Edit {
            file: RENEWAL,
            old: "RenewalRefused::Lost(self.ended(record))",
            new: "RenewalRefused::StillOurs",
        }],
    },
    Mutant {
        name: "a renewal repeats the last expiry",
        breaks: "a renewal that is tried again keeps a stale time",
        edits: &[Edit {
            file: RENEWAL,
            old: "let expires_at = self.terms.publish(clock, now, Some(self.last_expires_at));",
            new: "let expires_at = match self.unanswered.last() {
            Some(stale) => stale.expires_at,
            None => self.terms.publish(clock, now, Some(self.last_expires_at)),
        };",
        }],
    },
    Mutant {
        name: "a found renewal counts from the latest send",
        breaks: "the deadline of an earlier renewal that landed is that of the last one",
        edits: &[Edit {
            file: RENEWAL,
            old: "if let Some(sent) = self.unanswered.iter().find(landed).copied() {",
            new: "if let Some(sent) = self.unanswered.last().or(self.unanswered.iter().find(landed)).copied() {",
        }],
    },
    Mutant {
        name: "a short first grant is not renewed in time",
        breaks: "the first renewal waits for a third of the lease, whatever the grant is worth",
        edits: &[Edit {
            file: RENEWAL,
            old: "self.deadline.sent_at().plus(interval).min(latest)",
            new: "self.deadline.sent_at().plus(interval).min(latest.max(Elapsed::NEVER))",
        }],
    },
];

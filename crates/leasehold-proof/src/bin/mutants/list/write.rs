//! `write.rs`: the conditions and effects of the five writes.

use super::{Edit, Mutant};

const WRITE: &str = "crates/leasehold-protocol/src/write.rs";

const FREE: &str = "let free = record.owner.is_none() && record.native.is_some();";
const TAKE_OVER: &str = "Some(record) if record.state() == State::Granted(seen.clone()) => {";
const OWNED: &str =
    "let ours = attempt.owns(record) && token.is_none_or(|token| token == native.token);";

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "acquire takes a held key",
        breaks: "acquire without its conjunct `no ClientId`",
        edits: &[Edit {
            file: WRITE,
            old: FREE,
            new: "let free = record.native.is_some();",
        }],
    },
    Mutant {
        name: "acquire takes what is not ours",
        breaks: "acquire without its conjunct `has V`",
        edits: &[Edit {
            file: WRITE,
            old: FREE,
            new: "let free = record.owner.is_none();",
        }],
    },
    Mutant {
        name: "a clock far behind shortens the TTL",
        breaks: "acquire without its conjunct on a guessed TTL",
        edits: &[Edit {
            file: WRITE,
            old: "free && !(grant.ttl_is_guess && shortens)",
            new: "let _ = shortens;
    free",
        }],
    },
    Mutant {
        name: "take-over of whatever is there",
        breaks: "take-over without any condition on the grant that was seen",
        edits: &[Edit {
            file: WRITE,
            old: TAKE_OVER,
            new: "Some(record) if record.state() != State::Released || record.owner.as_deref() == Some(&format!(\"{seen:?}\")) => {",
        }],
    },
    Mutant {
        name: "take-over does not compare the owner",
        breaks: "the compare-and-set without ClientId",
        edits: &[Edit {
            file: WRITE,
            old: TAKE_OVER,
            new: "Some(record) if match (record.state(), seen) {
                (State::Granted(Seen::Native { token: a, renew_count: b, .. }), Seen::Native { token: c, renew_count: d, .. }) => (a, b) == (*c, *d),
                (State::Granted(Seen::Foreign { expires_at: a, .. }), Seen::Foreign { expires_at: b, .. }) => a == *b,
                _ => false,
            } => {",
        }],
    },
    Mutant {
        name: "take-over does not compare the token",
        breaks: "the compare-and-set without FencingToken",
        edits: &[Edit {
            file: WRITE,
            old: TAKE_OVER,
            new: "Some(record) if match (record.state(), seen) {
                (State::Granted(Seen::Native { owner: a, renew_count: b, .. }), Seen::Native { owner: c, renew_count: d, .. }) => (&a, b) == (c, *d),
                (now, seen) => now == State::Granted(seen.clone()),
            } => {",
        }],
    },
    Mutant {
        name: "take-over does not compare the renewals",
        breaks: "the compare-and-set without RenewCount: a grant renewed since it was seen is taken",
        edits: &[Edit {
            file: WRITE,
            old: TAKE_OVER,
            new: "Some(record) if match (record.state(), seen) {
                (State::Granted(Seen::Native { owner: a, token: b, .. }), Seen::Native { owner: c, token: d, .. }) => (&a, b) == (c, *d),
                (now, seen) => now == State::Granted(seen.clone()),
            } => {",
        }],
    },
    Mutant {
        name: "a late renewal shortens the lease",
        breaks: "renewal without the monotone conjunct",
        edits: &[Edit {
            file: WRITE,
            old: "if record.expires_at >= *expires_at {",
            new: "if record.expires_at.0 == i64::MAX {",
        }],
    },
    Mutant {
        name: "writes do not ask for our id",
        breaks: "renewal, release and withdrawal without their conjunct `ClientId = me`",
        edits: &[Edit {
            file: WRITE,
            old: OWNED,
            new: "let ours = token.is_none_or(|token| token == native.token) && !attempt.to_string().is_empty();",
        }],
    },
    Mutant {
        name: "writes do not ask for our token",
        breaks: "renewal, release and withdrawal without their conjunct `FencingToken = n`",
        edits: &[Edit {
            file: WRITE,
            old: OWNED,
            new: "let ours = attempt.owns(record) && token.is_none_or(|token| token <= u64::MAX);",
        }],
    },
    Mutant {
        name: "a withdrawal deletes whatever is there",
        breaks: "withdrawal without its condition",
        edits: &[Edit {
            file: WRITE,
            old: "owned(current, attempt, Some(*token))?;
            Ok(None)",
            new: "let _ = (attempt, token);
            Ok(None)",
        }],
    },
    Mutant {
        name: "a released record keeps its owner",
        breaks: "release without REMOVE ClientId: a delayed renewal revives the grant",
        edits: &[Edit {
            file: WRITE,
            old: "owner: None,
                expires_at: ServiceTime(0),",
            new: "owner: record.owner.clone(),
                expires_at: ServiceTime(0),",
        }],
    },
    Mutant {
        name: "a renewal does not count",
        breaks: "RenewCount stays: observers take a renewed grant for a dead one",
        edits: &[Edit {
            file: WRITE,
            old: "renew_count: native.renew_count.saturating_add(1),",
            new: "renew_count: native.renew_count,",
        }],
    },
    Mutant {
        name: "a grant does not count",
        breaks: "RenewCount stays when a grant begins",
        edits: &[Edit {
            file: WRITE,
            old: "renew_count: before.map_or(0, |n| n.renew_count).saturating_add(1),",
            new: "renew_count: before.map_or(1, |n| n.renew_count),",
        }],
    },
    Mutant {
        name: "a take-over counts on what was seen",
        breaks: "a take-over does not raise the token to service time",
        edits: &[Edit {
            file: WRITE,
            old: "seen.max(seed).saturating_add(1)",
            new: "seed.min(seen).max(seen).saturating_add(1)",
        }],
    },
    Mutant {
        name: "a grant keeps the token of the last",
        breaks: "the token does not grow from grant to grant",
        edits: &[Edit {
            file: WRITE,
            old: "token: before.map_or(seed, |n| n.token).saturating_add(1),",
            new: "token: before.map_or(seed.saturating_add(1), |n| n.token),",
        }],
    },
    Mutant {
        name: "every grant seeds its token anew",
        breaks: "the token follows a clock instead of the counter in the record",
        edits: &[Edit {
            file: WRITE,
            old: "token: before.map_or(seed, |n| n.token).saturating_add(1),",
            new: "token: seed.saturating_add(1),",
        }],
    },
];

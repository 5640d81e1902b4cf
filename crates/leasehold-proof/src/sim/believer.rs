//! Whoever believes in a grant.

use leasehold::LeaseWatch;
use leasehold_protocol::attempt::AttemptId;

use super::shape::SECOND;
use super::world::{Still, World};

/// Whoever believes in a grant.
pub(super) struct Believer {
    pub(super) process: usize,
    pub(super) incarnation: u32,
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// Checks at which its time was over and `lost` had not fired.
    pub(super) late: u32,
    /// Checks in a row at which its time was over.
    pub(super) over: u32,
}

pub(super) enum Kind {
    Ours {
        attempt: AttemptId,
        token: u64,
        place: usize,
        /// As in the grant.
        limit: Option<u32>,
        signal: LeaseWatch,
    },
    Foreign {
        owner: u64,
        until_ms: i64,
    },
}

/// Nothing has kept a process from running lately.
pub(super) fn undisturbed(world: &World, process: usize) -> bool {
    let p = &world.processes[process];
    p.still == Still::Running && (p.disturbances == 0 || p.disturbed_at + 4 * SECOND < world.now)
}

impl Believer {
    /// The limit of its slot; `None`: it has the whole key.
    pub(super) fn limit(&self) -> Option<u32> {
        match self.kind {
            Kind::Ours { limit, .. } => limit,
            Kind::Foreign { .. } => None,
        }
    }
}

pub(super) fn same_grant(a: &Believer, b: &Believer) -> bool {
    match (&a.kind, &b.kind) {
        // A detached grant and its adopter; not two guards of a grant that was handed off.
        (
            Kind::Ours {
                place: a, token: s, ..
            },
            Kind::Ours {
                place: b, token: t, ..
            },
        ) => a == b && s == t,
        // Between two of them it is what their library gives.
        (Kind::Foreign { .. }, Kind::Foreign { .. }) => true,
        _ => false,
    }
}

pub(super) fn describe(believer: &Believer) -> String {
    match &believer.kind {
        Kind::Ours {
            place,
            limit,
            signal,
            ..
        } => format!(
            "p{} (grant {place}{} pass {}, {:?} left)",
            believer.process,
            limit.map_or(String::new(), |limit| format!(", one of {limit} slots,")),
            signal.id().token().pass(),
            signal.remaining()
        ),
        Kind::Foreign { until_ms, .. } => {
            format!("p{} (F#, until {until_ms})", believer.process)
        }
    }
}

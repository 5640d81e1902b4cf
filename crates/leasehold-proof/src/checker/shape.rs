//! One configuration: clients, clocks, the service's stamps, bounds, guarantees.
//!
//! True time is a small integer, the tick. Clock readings and stamps for the protocol code are computed from it
//! here. Invariant: the rates and errors of a configuration are exactly within its [`ClockBounds`].

use std::time::Duration;

use leasehold_protocol::deadline::Terms;
use leasehold_protocol::takeover::Rules;
use leasehold_protocol::time::{ClockBounds, Elapsed, Reading, ServiceTime, Stamp};

use super::broken::Broken;

/// The service's clock at tick 0 shows this and the phase: 2027-01-15 08:00:00.
const START_MS: i64 = 1_800_000_000_000;
/// Clients of one configuration at most.
pub(super) const CLIENTS: usize = 3;

/// What is promised, by the numbers of `docs/protocol.md` section 11.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Property {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
    S7,
    S9,
}

/// A promise that was broken, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Breach {
    pub(super) property: Property,
    pub(super) how: &'static str,
}

/// Whose client it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Ours,
    Fsharp,
}

/// What answers say about the service's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stamps {
    /// The store's one clock.
    Exact,
    /// `Date`: whole seconds, floored, by hosts that are at most `error_ms` off.
    Dates { error_ms: i64 },
    /// Nothing.
    None,
}

/// How contenders wait in the queue of the record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Queueing {
    /// How soon they promise to notice a grant.
    pub(super) claim_ms: u64,
    /// How long they wait, as their places say; for ever if `None`.
    pub(super) wait_ms: Option<i64>,
    /// Whether they poll by eventually consistent reads besides strongly consistent ones.
    pub(super) weak: bool,
    /// How many of a contender's polls may be under way; with 1 a new one replaces the last.
    pub(super) reads: u8,
}

/// What becomes of work that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keeping {
    /// The keep of every run.
    pub(super) keep_ms: u64,
    /// Whether the end of the keep is judged: the clocks keep their bounds.
    pub(super) judged: bool,
    /// Whether the store shows the process of a run that is done as dead.
    pub(super) dead: bool,
}

/// One client: its clocks and how much it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ClientShape {
    pub(super) kind: Kind,
    /// How far its wall clock may be off, one of these. Each is explored.
    pub(super) walls_ms: &'static [i64],
    /// What its elapsed clock counts in so much true time.
    pub(super) rate: (u32, u32),
    /// Acquire calls.
    pub(super) attempts: u8,
    /// Requests in all.
    pub(super) requests: u8,
    /// Whether it joins the queue.
    pub(super) joins: bool,
}

/// Faults of one run, over all clients.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Faults {
    /// Requests that the service applies a second time, at any later moment.
    pub(super) duplicates: u8,
    /// Ticks that a client's elapsed clock does not count, as in a paused machine.
    pub(super) pauses: u8,
    /// Crashes with a restart: the process begins anew, with the attempts and requests it has left.
    pub(super) crashes: u8,
    /// Steps of a wall clock, by this much or by its negative.
    pub(super) wall_steps: u8,
    pub(super) wall_step_ms: i64,
    /// Messages that are late or lost; any number of them if `None`. All others are delivered at once.
    pub(super) late: Option<u8>,
}

/// One configuration.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) clients: Vec<ClientShape>,
    pub(super) tick_ms: u32,
    /// Where in a second the service's clock stands at tick 0.
    pub(super) phase_ms: i64,
    /// The last tick.
    pub(super) horizon: u8,
    pub(super) stamps: Stamps,
    pub(super) terms: Terms,
    pub(super) rules: Rules,
    /// Acquire requests and renewals of one client that may be unanswered at the same time.
    pub(super) open: u8,
    /// Whether a request may be sent again within the tick of its last send; else a tick has to pass,
    /// as a time-out.
    pub(super) eager: bool,
    /// Whether an answer is taken at once or never; else it may come at any later moment.
    pub(super) prompt: bool,
    /// Whether callers give up, and what may have landed is given back.
    pub(super) gives_up: bool,
    pub(super) faults: Faults,
    pub(super) queueing: Queueing,
    /// Whether holders may complete their grants; `None` if they only release them.
    pub(super) keeping: Option<Keeping>,
    /// Whether an eventually consistent read may show the record before its last change.
    pub(super) stale_reads: bool,
    /// Whether holders write to a fenced register.
    pub(super) register: bool,
    /// Whether the service deletes records whose TTL has passed.
    pub(super) ttl: bool,
    /// Requests whose signature (the sender's wall clock) is further off than this are refused.
    pub(super) signature_life_ms: Option<i64>,
    /// What is judged. S4 and S5 always are.
    pub(super) s1: bool,
    pub(super) s2: bool,
    pub(super) broken: Option<Broken>,
}

impl Shape {
    /// A configuration of `clients`, with a tick of half a second, a lease of 1.5 ticks, perfect clocks
    /// and exact stamps.
    pub(super) fn new(
        name: &'static str,
        about: &'static str,
        clients: Vec<ClientShape>,
        horizon: u8,
    ) -> Shape {
        let bounds = ClockBounds {
            disagreement: Duration::ZERO,
            drift_ppm: 0,
        };
        Shape {
            name,
            about,
            clients,
            tick_ms: 500,
            phase_ms: 0,
            horizon,
            stamps: Stamps::Exact,
            terms: Terms {
                lease: Duration::from_millis(750),
                expiry_padding: Duration::ZERO,
                retention: Duration::from_secs(86_400),
                safety_margin: Duration::from_millis(100),
                bounds,
            },
            rules: Rules {
                strict: false,
                expiry_padding: Duration::ZERO,
                bounds,
            },
            open: 2,
            eager: false,
            gives_up: false,
            prompt: false,
            faults: Faults::default(),
            queueing: Queueing {
                claim_ms: 300,
                wait_ms: None,
                weak: false,
                reads: 1,
            },
            keeping: None,
            stale_reads: false,
            register: false,
            ttl: false,
            signature_life_ms: None,
            s1: true,
            s2: true,
            broken: None,
        }
    }

    /// Sets what is assumed of clocks, for holders and contenders.
    pub(super) fn assume(&mut self, disagreement_ms: u64, drift_ppm: u32) {
        let bounds = ClockBounds {
            disagreement: Duration::from_millis(disagreement_ms),
            drift_ppm,
        };
        self.terms.bounds = bounds;
        self.rules.bounds = bounds;
    }

    /// Sets the expiry padding, for holders and contenders.
    pub(super) fn expiry_padding(&mut self, pad_ms: u64) {
        self.terms.expiry_padding = Duration::from_millis(pad_ms);
        self.rules.expiry_padding = self.terms.expiry_padding;
    }

    pub(super) fn has_fsharp(&self) -> bool {
        self.clients.iter().any(|c| c.kind == Kind::Fsharp)
    }

    /// Whether any client joins the queue.
    pub(super) fn has_queue(&self) -> bool {
        self.clients.iter().any(|c| c.joins)
    }

    /// Whether service time at a tick is within the keep of a run that began at another.
    pub(super) fn keeps(&self, began: u8, time: u8) -> bool {
        let keep_ms = match &self.keeping {
            Some(keeping) if keeping.judged => keeping.keep_ms,
            _ => return false,
        };
        let keep_ms = i64::try_from(keep_ms).unwrap_or(i64::MAX);
        self.service_ms(time) <= self.service_ms(began).saturating_add(keep_ms)
    }

    /// Whether a broken variant has this rule removed.
    pub(super) fn lacks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    /// Service time at a tick.
    pub(super) fn service_ms(&self, time: u8) -> i64 {
        START_MS + self.phase_ms + i64::from(self.tick_ms) * i64::from(time)
    }

    /// Both clocks of a client at a tick. The wall clock runs at the rate of the elapsed one (both
    /// come from one oscillator), and counts the pauses that the elapsed one has `missed`.
    pub(super) fn reading(&self, client: u8, time: u8, missed: u8, wall_offset_ms: i64) -> Reading {
        let (counts, of) = self.clients[usize::from(client)].rate;
        let ns = |ticks: u8| {
            u64::from(ticks) * u64::from(self.tick_ms) * 1_000_000 * u64::from(counts)
                / u64::from(of)
        };
        // Machines were started at different times.
        let origin = Duration::from_secs(1_000 + 777 * u64::from(client));
        let passed = Duration::from_nanos(ns(time));
        let wall = START_MS + self.phase_ms + wall_offset_ms;
        Reading {
            elapsed: Elapsed(origin + Duration::from_nanos(ns(time - missed))),
            wall_ms: wall + i64::try_from(passed.as_millis()).unwrap_or(0),
        }
    }

    /// The stamps that an answer made at a tick may carry.
    pub(super) fn stamps_at(&self, time: u8) -> Vec<Option<Stamp>> {
        let now = self.service_ms(time);
        match self.stamps {
            Stamps::None => vec![None],
            Stamps::Exact => vec![Some(Stamp::Exact(ServiceTime(now)))],
            Stamps::Dates { error_ms } => {
                let date = |error: i64| (now + error).div_euclid(1_000);
                let mut dates = vec![date(-error_ms), date(0), date(error_ms)];
                dates.dedup();
                let stamp = |date| Some(Stamp::WholeSeconds(date));
                dates.into_iter().map(stamp).collect()
            }
        }
    }

    /// Whether a host of the service may find a TTL to have passed.
    pub(super) fn may_delete(&self, ttl_seconds: i64, time: u8) -> bool {
        let ahead = match self.stamps {
            Stamps::Exact | Stamps::None => 0,
            Stamps::Dates { error_ms } => error_ms,
        };
        self.service_ms(time) + ahead >= ttl_seconds.saturating_mul(1_000)
    }
}

//! The configuration of a seed's world, drawn once before the run.
//!
//! A [`Shape`] has the number of processes, their clocks and policies, and the rates of faults. It also has the
//! guarantees of such a world: S1 only if the clocks are within the bounds, tokens across records only if the service
//! gives the time.

use std::time::Duration;

use leasehold::{CheckDelay, DropPolicy, Policy};

use super::random::Rng;
use super::runs::KEEPS;
use super::slots::Wants;

/// Nanoseconds of true time since the world began.
pub(super) type Nanos = u64;

/// A second.
pub(super) const SECOND: Nanos = 1_000_000_000;
/// A millisecond.
pub(super) const MILLI: Nanos = 1_000_000;
/// The bounds that the library assumes by default.
const DELTA_MS: i64 = 200;
const RHO_PPM: i64 = 1_000;

/// One process of the world.
#[derive(Clone, Debug)]
pub(super) struct ProcessShape {
    /// Its wall clock less true service time at the start.
    pub(super) skew_ms: i64,
    /// Rate error of its elapsed clock.
    pub(super) drift_ppm: i64,
    /// What its elapsed clock shows at the start.
    pub(super) elapsed_origin: Nanos,
    /// Whether it is a client of FSharp.DynamoDbLock.
    pub(super) foreign: bool,
    /// Its policy, if it is one of ours.
    pub(super) policy: Policy,
    /// Whose jitter it draws.
    pub(super) jitter_of: usize,
}

/// How often what goes wrong with requests, in ten thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Any fault of a request.
    pub(super) request: u64,
    /// Mean time between two faults of one process; 0: never.
    pub(super) process_every: Nanos,
}

/// What is promised in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Promises {
    /// S1: clocks keep within the bounds.
    pub(super) exclusion: bool,
    /// S2 and S3: no F# clients erase tokens.
    pub(super) tokens: bool,
    /// S2 across deletions of the record: the service tells the time.
    pub(super) next_life: bool,
}

/// A world.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) keys: usize,
    pub(super) processes: Vec<ProcessShape>,
    /// Nothing goes wrong, and all want one key: then waits are bounded (L3).
    pub(super) fair: bool,
    /// How many more tasks of each process crowd the same keys.
    pub(super) crowd: u64,
    /// Service time at the start, Unix milliseconds.
    pub(super) start_ms: i64,
    /// How far each of the service's hosts is from true service time.
    pub(super) hosts_ms: Vec<i64>,
    /// Answers carry no `Date`.
    pub(super) dateless: bool,
    /// No bounds are kept: drift and disagreement of anything.
    pub(super) lawless: bool,
    /// Pauses of the virtual machine: only the wall clock shows them.
    pub(super) machine_pauses: bool,
    /// Records may be deleted at any time after their TTL.
    pub(super) expires_records: bool,
    pub(super) mixed: bool,
    pub(super) weather: Weather,
    /// The usual latency of the service, one way.
    pub(super) latency: Nanos,
    /// How old an eventually consistent read may be.
    pub(super) staleness: Nanos,
    /// The longest that the store waits for an answer.
    pub(super) request_bound: Nanos,
    pub(super) lease: Duration,
    pub(super) expiry_padding: Duration,
    pub(super) strict: bool,
    pub(super) retention: Duration,
    /// How long work that runs once is remembered, in worlds that have some.
    pub(super) keep: Option<Duration>,
    /// What is wanted of the last key, in worlds with slots.
    pub(super) slots: Option<Wants>,
}

/// The longest check delay of any policy here.
pub(super) const CHECK_DELAY_MAX: Duration = Duration::from_millis(1_200);
/// The longest hold of a fair world.
pub(super) const FAIR_HOLD: Duration = Duration::from_millis(200);
/// The bound of calls that wait for no holder.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// One seed in ten has several tasks in each process. The number of the seed decides, with a separate stream, so that the
/// worlds of other seeds do not depend on it.
fn crowd(seed: u64) -> u64 {
    if seed.is_multiple_of(10) {
        Rng::new(seed, 11).within(1, 5)
    } else {
        0
    }
}

impl Shape {
    /// The world of a seed.
    pub(super) fn of(seed: u64) -> anyhow::Result<Shape> {
        let mut rng = Rng::new(seed, 1);
        let rng = &mut rng;
        let mixed = rng.chance(18);
        let lawless = !mixed && rng.chance(12);
        let dateless = !mixed && !lawless && rng.chance(12);
        let machine_pauses = !mixed && !lawless && rng.chance(15);
        let strict = rng.chance(15);
        let pad_ms = if mixed {
            1_000
        } else {
            rng.pick(&[0, 0, 1_000])
        };
        let lease_ms = rng.pick(&[1_500, 2_000, 3_000, 4_000, 6_000]);
        let retention_s = rng.pick(&[86_400 + 1_000, 7 * 86_400]);
        let count = rng.within(3, 8) as usize;
        let cloned = rng.chance(30);
        let spread_ms = if lawless { 3_000 } else { DELTA_MS };
        let mut shape = Shape {
            keys: rng.within(1, 3) as usize,
            processes: Vec::new(),
            fair: false,
            crowd: crowd(seed),
            start_ms: 1_790_000_000_000 + rng.below(100_000_000).cast_signed(),
            hosts_ms: (0..rng.within(1, 4))
                .map(|_| rng.around(spread_ms))
                .collect(),
            dateless,
            lawless,
            machine_pauses,
            expires_records: rng.chance(60),
            mixed,
            weather: Weather {
                request: rng.pick(&[0, 100, 500, 1_500, 3_000]),
                process_every: rng.pick(&[0, 60, 20, 8]) * SECOND,
            },
            latency: rng.pick(&[1, 3, 8, 20, 60]) * MILLI,
            staleness: rng.pick(&[0, 100, 1_000, 4_000]) * MILLI,
            request_bound: rng.pick(&[3, 10, 25]) * SECOND,
            lease: Duration::from_millis(lease_ms),
            expiry_padding: Duration::from_millis(pad_ms),
            strict,
            retention: Duration::from_secs(retention_s),
            keep: None,
            slots: None,
        };
        for number in 0..count {
            let foreign = mixed && (number == 0 || rng.chance(30));
            let process = shape.process(number, foreign, cloned, rng)?;
            shape.processes.push(process);
        }
        shape.run_once(seed);
        shape.stray(seed);
        shape.check_by_writing(seed)?;
        shape.be_fair(seed)?;
        shape.have_slots(seed);
        Ok(shape)
    }

    /// F# clients know nothing of slots. In half of these worlds crowds want them.
    fn have_slots(&mut self, seed: u64) {
        if let Some((wants, crowd)) = Wants::of(seed).filter(|_| !self.mixed) {
            self.slots = Some(wants);
            self.crowd = if self.fair { 0 } else { crowd };
        }
    }

    /// In four seeds of forty, in one of them with wrong clocks, most calls are for work that runs once. It has a
    /// separate stream, as with crowds. F# clients know nothing of done work. No seed that ever failed before
    /// is one of these.
    fn run_once(&mut self, seed: u64) {
        if !self.mixed && matches!(seed % 40, 8 | 18 | 28 | 37) {
            self.keep = Some(Rng::new(seed, 15).pick(&KEEPS));
        }
    }

    /// In one seed of ten no wall clock is near the truth, records are deleted, hosts restart and machines pause: elsewhere
    /// withdrawals of impossible tokens are too rare to meet every fault. It has a separate stream, as with crowds.
    fn stray(&mut self, seed: u64) {
        if seed % 10 != 7 || self.mixed || self.lawless || self.dateless {
            return;
        }
        let mut rng = Rng::new(seed, 12);
        for process in &mut self.processes {
            // Not before November 2026: such a clock asks for the time first.
            let days = rng.pick(&[1, 2, 9]) * 1_440 * 60_000;
            process.skew_ms = rng.pick(&[-1, 1]) * days;
        }
        self.machine_pauses = true;
        self.expires_records = true;
        self.weather.process_every = 8 * SECOND;
        self.weather.request = self.weather.request.max(500);
    }

    /// In three seeds of forty, 2 to 64 processes want one key, and nothing goes wrong; in one of them they want slots.
    /// It has a separate stream, as with crowds.
    fn be_fair(&mut self, seed: u64) -> anyhow::Result<()> {
        if seed % 20 != 3 && seed % 40 != 12 {
            return Ok(());
        }
        let mut rng = Rng::new(seed, 14);
        (self.fair, self.keys, self.crowd) = (true, 1, 0);
        (self.lawless, self.dateless, self.mixed) = (false, false, false);
        (self.machine_pauses, self.expires_records) = (false, false);
        (self.weather.request, self.weather.process_every) = (0, 0);
        self.latency = rng.pick(&[1, 3, 8, 20]) * MILLI;
        self.staleness = self.staleness.min(SECOND);
        self.lease = Duration::from_secs(6);
        self.hosts_ms = vec![0];
        let policy = Policy::builder()
            .lease_duration(self.lease)
            .call_timeout(CALL_TIMEOUT)
            .retention(self.retention)
            .strict(self.strict)
            .label("fair")
            .build()?;
        let count = rng.pick(&[2, 3, 5, 8, 16, 32, 64]);
        self.processes = (0..count)
            .map(|number| ProcessShape {
                skew_ms: rng.around(200),
                drift_ppm: rng.around(RHO_PPM),
                elapsed_origin: rng.below(1_000_000) * SECOND / 7,
                foreign: false,
                policy: policy.clone(),
                jitter_of: number,
            })
            .collect();
        Ok(())
    }

    /// L3: the longest hold, and one hand-over. That is a release that is refused and sent again, the longest delay of a
    /// waiter that was not the first a moment ago, and its poll. One message in fifty takes ten times as long. Holders
    /// of slots change the record side by side, so with slots a hand-over takes up to twice as long.
    pub(super) fn turn(&self) -> Option<Duration> {
        let messages = Duration::from_nanos(self.latency * 10 * 6);
        let hand_over = (CHECK_DELAY_MAX + messages) * if self.slots.is_some() { 2 } else { 1 };
        self.fair.then(|| FAIR_HOLD + hand_over)
    }

    /// In three seeds of forty, waits poll by acquire requests, as F# does, in one of them with crowds. It has a separate
    /// stream, as with crowds.
    fn check_by_writing(&mut self, seed: u64) -> anyhow::Result<()> {
        if seed % 20 != 5 && seed % 40 != 10 {
            return Ok(());
        }
        let mut rng = Rng::new(seed, 13);
        for process in &mut self.processes {
            let delay = CheckDelay::ByAcquire(Duration::from_millis(rng.pick(&[200, 400, 1_200])));
            process.policy = process.policy.to_builder().check_delay(delay).build()?;
        }
        Ok(())
    }

    fn process(
        &self,
        number: usize,
        foreign: bool,
        cloned: bool,
        rng: &mut Rng,
    ) -> anyhow::Result<ProcessShape> {
        let rho = if self.lawless { 100_000 } else { RHO_PPM };
        let drift_ppm = match rng.below(4) {
            0 => 0,
            1 => rho,
            2 => -rho,
            _ => rng.around(rho),
        };
        let minute = 60_000;
        let bound = rng.pick(&[
            0,
            50,
            900,
            900,
            5_000,
            5 * minute,
            14 * minute,
            120 * minute,
            1_440 * minute,
            9 * 1_440 * minute,
        ]);
        // An F# client is promised S1 only while its wall clock is within S of the service's. Its
        // answers take time, and its clock drifts, too: a little less.
        let bound = match (foreign, self.mixed) {
            (true, _) => 930,
            // Beside F# clients a wall clock that is a little behind is the worst case: part of its first lease is
            // still usable.
            (false, true) if rng.chance(60) => rng.pick(&[900, 2_000]),
            _ => bound,
        };
        let skew_ms = match rng.below(3) {
            0 => bound,
            1 => -bound,
            _ => rng.around(bound),
        };
        // Different leases on one table are allowed: observers read the length in the record.
        let lease = self.lease.mul_f64(rng.pick(&[1.0, 1.0, 1.5]));
        let margin = match rng.pick(&[1, 1, 100, 1_000]) {
            1_000 if lease < Duration::from_secs(3) => 20,
            ms => ms,
        };
        let max = rng.pick(&[400, 800, 1_200]);
        let policy = Policy::builder()
            .lease_duration(lease)
            .margin(Duration::from_millis(margin))
            .expiry_padding(self.expiry_padding)
            .call_timeout(CALL_TIMEOUT)
            .retention(self.retention)
            .check_delay(if rng.chance(20) {
                CheckDelay::Fixed(Duration::from_millis(max))
            } else {
                CheckDelay::Backoff {
                    first: Duration::from_millis(100),
                    max: Duration::from_millis(max).min(CHECK_DELAY_MAX),
                }
            })
            .strict(self.strict)
            .manual_renewal(rng.chance(if self.mixed { 35 } else { 15 }))
            .shared_with_fsharp(self.mixed)
            .drop_policy(if rng.chance(20) {
                DropPolicy::LeaveToExpire
            } else {
                DropPolicy::Release
            })
            .label(format!("p{number}"))
            .build()?;
        Ok(ProcessShape {
            skew_ms,
            drift_ppm,
            elapsed_origin: rng.below(1_000_000) * SECOND / 7,
            foreign,
            policy,
            jitter_of: if cloned { 0 } else { number },
        })
    }

    /// What holds in this world.
    pub(super) fn promises(&self) -> Promises {
        Promises {
            exclusion: !self.lawless,
            tokens: !self.mixed,
            next_life: !self.mixed && !self.lawless && !self.dateless,
        }
    }

    /// In plain words, for people.
    pub(super) fn describe(&self) -> String {
        let mut words = format!(
            "{} processes, {} keys, lease {:?}, expiry_padding {:?}, latency {} ms",
            self.processes.len(),
            self.keys,
            self.lease,
            self.expiry_padding,
            self.latency / MILLI
        );
        for (on, word) in [
            (self.strict, "strict"),
            (self.dateless, "no Date"),
            (self.lawless, "clocks out of bounds"),
            (self.machine_pauses, "machine pauses"),
            (self.mixed, "mixed with F#"),
            (self.crowd > 0, "a crowd in each process"),
            (self.keep.is_some(), "work that runs once"),
            (self.slots.is_some(), "slots"),
        ] {
            if on {
                words.push_str(", ");
                words.push_str(word);
            }
        }
        for (number, p) in self.processes.iter().enumerate() {
            words.push_str(&format!(
                "\n  p{number}{}: wall clock {:+} ms, drift {:+} ppm, lease {:?}, lead of lost {:?}",
                if p.foreign { " (F#)" } else { "" },
                p.skew_ms,
                p.drift_ppm,
                p.policy.lease_duration(),
                p.policy.safety_margin()
            ));
        }
        words
    }
}

/// Whole milliseconds.
pub(super) fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

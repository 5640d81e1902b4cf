//! 500 hosts whose cron starts the same work once a minute for a month, in virtual time. Each start is a new process, as
//! `leasehold once --every 1m` is. 10 % of the runners are killed during their work.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use leasehold::clock::{Clock, TokioClock};
use leasehold::store::memory::MemoryStore;
use leasehold::store::testing::wrap::Wrapped;
use leasehold::{LockClient, Policy, Started};
use serde_json::json;

use super::far::{Asked, Far};
use crate::prices;
use crate::report::{Report, dollars};
use crate::scenario::ms;

/// Midnight of a day in 2027, by the store's clock.
const START_MS: i64 = 1_800_000_000_000;
const PERIOD: Duration = ms(60_000);
/// As `--every 1m` has it.
const TOLERANCE: Duration = ms(15_000);
const WORK: Duration = ms(200);
/// Short, since a killed runner is to be replaced within the tolerance, perhaps more than once.
const LEASE: Duration = ms(3_000);
/// Of a hundred runners.
const KILLED: u64 = 10;
const MONTH: u32 = 30 * 24 * 60;

/// What the hosts' clocks show, and how a process begins.
#[derive(Clone, Copy)]
struct World {
    name: &'static str,
    /// Clocks are off by at most this, either way.
    off: Duration,
    acquires_first: bool,
    ticks: u32,
}

impl World {
    /// Whether the clocks agree within the tolerance.
    fn agrees(&self) -> bool {
        self.off * 2 <= TOLERANCE
    }
}

/// A run that was completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Run {
    /// When its grant was seen, in the store's time.
    began_ms: i64,
    /// The tick of its host.
    tick: u32,
}

#[derive(Default)]
struct Seen {
    completed: Vec<Run>,
    /// When, in the store's time.
    killed: Vec<i64>,
    lost: u64,
    failed: Vec<String>,
}

pub(crate) fn run(quick: bool) -> Result<()> {
    let mut report = Report::new(
        "fleet",
        &[
            "clocks",
            "begins with",
            "ticks",
            "killed",
            "completed runs",
            "per tick",
            "starts apart, at most one killed",
            "longest",
            "$ a month",
        ],
    );
    let hosts = if quick { 20 } else { 500 };
    report.note(format!(
        "{hosts} hosts, once a minute, 10 % of the runners killed during work of 200 ms; keep 45 s, lease 3 s, 5 ms round \
         trip, dates in whole seconds. Virtual time; units priced as on demand in us-east-1, for 30 days."
    ));
    let ticks = |full| if quick { 30 } else { full };
    let worlds = [
        World {
            name: "within the tolerance (± 7 s)",
            off: ms(7_000),
            acquires_first: false,
            ticks: ticks(MONTH),
        },
        World {
            name: "within the tolerance (± 7 s)",
            off: ms(7_000),
            acquires_first: true,
            ticks: ticks(24 * 60),
        },
        World {
            name: "off by up to an hour",
            off: ms(3_600_000),
            acquires_first: false,
            ticks: ticks(7 * 24 * 60),
        },
    ];
    for world in worlds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        runtime.block_on(one(&mut report, world, hosts))?;
    }
    report.finish()
}

async fn one(report: &mut Report, world: World, hosts: u64) -> Result<()> {
    let truth = Arc::new(TokioClock::new(START_MS));
    let store = MemoryStore::with_clock(truth.clone());
    let (asked, seen) = (Arc::<Asked>::default(), Arc::<Mutex<Seen>>::default());
    let all = (0..hosts).map(|host| {
        let (truth, store, asked, seen) =
            (truth.clone(), store.clone(), asked.clone(), seen.clone());
        async move {
            let mut dice = Dice(host * 7_919 + 1);
            let width = 2 * world.off.as_millis();
            let off = i64::try_from(u128::from(dice.next()) % width).unwrap_or(0)
                - i64::try_from(world.off.as_millis()).unwrap_or(0);
            let clock = Arc::new(truth.with_wall_ahead(off));
            // The hosts of a tick mean the same minute, if their clocks agree.
            let shown = if world.agrees() {
                START_MS
            } else {
                clock.wall_unix_ms()
            };
            let first = shown / 60_000 + 2;
            for tick in 0..world.ticks {
                let due = (first + i64::from(tick)) * 60_000;
                let left = u64::try_from(due - clock.wall_unix_ms()).unwrap_or(0);
                clock.sleep_until(clock.elapsed().plus(ms(left))).await;
                let far = Far::new(&store, &clock, &asked, true);
                let kill = dice.next() % 100 < KILLED;
                let at = WORK.mul_f64((dice.next() % 1_000) as f64 / 1e3);
                process(
                    &far,
                    &truth,
                    &clock,
                    &seen,
                    world,
                    (tick, kill.then_some(at)),
                )
                .await;
            }
        }
    });
    join_all(all).await;
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    judge(report, world, seen, &asked)
}

/// One start of the work on one host, and when it is killed if it is the runner.
async fn process(
    far: &Arc<Wrapped<Far>>,
    truth: &TokioClock,
    clock: &Arc<TokioClock>,
    seen: &Mutex<Seen>,
    world: World,
    (tick, killed): (u32, Option<Duration>),
) {
    let told = |tell: &dyn Fn(&mut Seen)| {
        tell(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let policy = Policy::builder()
        .lease_duration(LEASE)
        .label("host")
        .bound_to_process(false)
        .wait_forever()
        .build();
    let started = async {
        let locks = LockClient::builder(far.clone())
            .clock(clock.clone())
            .policy(policy?)
            .build();
        let once = locks.once("nightly")?.keep(PERIOD - TOLERANCE);
        once.patient(true)
            .acquires_first(world.acquires_first)
            .start()
            .await
    };
    let run = match started.await {
        Ok(Started::Run(run)) => run,
        Ok(Started::Done(_)) => return,
        Err(error) => return told(&|seen| seen.failed.push(error.to_string())),
    };
    let began_ms = truth.wall_unix_ms();
    let works = killed.unwrap_or(WORK);
    clock.sleep_until(clock.elapsed().plus(works)).await;
    if killed.is_some() {
        // Nothing that it still sends arrives.
        far.0.die();
        drop(run);
        let killed = truth.wall_unix_ms();
        return told(&|seen| seen.killed.push(killed));
    }
    match run.complete(b"").await {
        Ok(()) => told(&|seen| seen.completed.push(Run { began_ms, tick })),
        Err(_) => told(&|seen| seen.lost += 1),
    }
}

fn judge(report: &mut Report, world: World, mut seen: Seen, asked: &Asked) -> Result<()> {
    ensure!(
        seen.failed.is_empty(),
        "{} failed: {}",
        seen.failed.len(),
        seen.failed[0]
    );
    seen.completed.sort_unstable();
    // Each runner that is killed before a completed run delays it by a lease.
    let gaps = |most: usize| {
        let pairs = seen.completed.windows(2);
        let kills = |pair: &[Run]| {
            let between = pair[0].began_ms..pair[1].began_ms;
            seen.killed.iter().filter(|at| between.contains(at)).count()
        };
        pairs
            .filter(move |pair| kills(pair) <= most)
            .map(|pair| (pair[1].began_ms - pair[0].began_ms) as f64 / 1e3)
    };
    let shortest = gaps(usize::MAX).fold(f64::INFINITY, f64::min);
    let longest = |kills| gaps(kills).fold(0.0, f64::max);
    let (longest, with_two) = (longest(1), longest(usize::MAX));
    let mut ticks = vec![0_u32; world.ticks as usize];
    for run in &seen.completed {
        ticks[run.tick as usize] += 1;
    }
    let per_tick = (ticks.iter().min().copied(), ticks.iter().max().copied());
    let (writes, reads) = (
        asked.writes.load(Ordering::Relaxed) as f64,
        asked.half_reads.load(Ordering::Relaxed) as f64 / 2.0,
    );
    let month = f64::from(MONTH) / f64::from(world.ticks);
    let price = prices::dollars(writes, reads) * month;
    let many = match (world.agrees(), per_tick) {
        (true, (Some(least), Some(most))) if least == most => format!("exactly {least}"),
        (true, (least, most)) => format!("{} to {}", least.unwrap_or(0), most.unwrap_or(0)),
        (false, _) => "–".to_owned(),
    };
    report.add(
        vec![
            world.name.to_owned(),
            if world.acquires_first {
                "a write"
            } else {
                "a poll"
            }
            .to_owned(),
            world.ticks.to_string(),
            seen.killed.len().to_string(),
            seen.completed.len().to_string(),
            many,
            format!("{shortest:.1} to {longest:.1} s"),
            format!("{with_two:.1} s"),
            dollars(Some(price)),
        ],
        json!({
            "off_ms": u64::try_from(world.off.as_millis())?,
            "acquires_first": world.acquires_first,
            "ticks": world.ticks,
            "killed": seen.killed.len(),
            "lost": seen.lost,
            "completed": seen.completed.len(),
            "per_tick": [per_tick.0, per_tick.1],
            "shortest_gap_s": shortest,
            "longest_gap_s": longest,
            "longest_gap_after_several_kills_s": with_two,
            "write_units": writes,
            "read_units": reads,
            "dollars_a_month": price,
        }),
    );
    Ok(())
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

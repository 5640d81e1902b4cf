//! Four processes on one store, and what is done to them: two of the library, two of `leasehold run`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use leasehold_proxy::Proxy;

use super::dice::Dice;
use super::event::{At, now};
use super::fault::{Counts, Faults};
use super::guardian::Guardian;
use super::history::SLOTS;
use super::history::{History, Kind};
use super::member::{Ear, Member, Start, lock};
use super::place::Place;
use super::register::Register;
use super::wall;
use super::worker::{Job, KEYS};

/// The lease of the commands: the shortest whose sums add up with this grace.
const COMMAND_LEASE: &str = "3s";
const GRACE: &str = "200ms";

/// A process that wrote within this time and still holds its lease is about to write again: the best time
/// to stop it.
const JUST_NOW: At = 100_000_000;
/// An aimed stop lasts until another process has written, and at most this long.
const AIMED: At = 10_000_000_000;

/// Exit codes of `leasehold run` that chaos explains: done, unreachable, not acquired, lost.
const EXPLAINED: [i32; 4] = [0, 69, 75, 76];

/// What runs in a fleet.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// This program.
    pub(super) own: PathBuf,
    /// `leasehold`.
    pub(super) command: PathBuf,
}

/// What has been done, for the report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Deeds {
    pub(super) starts: u64,
    pub(super) stops: u64,
    pub(super) kills: u64,
    pub(super) clocks: u64,
    pub(super) steps: u64,
    pub(super) partitions: u64,
    /// Exit codes of `leasehold run`.
    pub(super) exits: BTreeMap<i32, u64>,
}

/// A place in the fleet: what runs there changes, its proxy and its clock file stay.
#[derive(Debug)]
struct Seat {
    who: usize,
    kind: Kind,
    strict: bool,
    place: Place,
    proxy: Option<(Proxy, Arc<Faults>)>,
    clock: PathBuf,
    offsets: Arc<Mutex<Vec<i64>>>,
    member: Option<Member>,
    start_at: At,
    thaw_at: Option<At>,
    /// Continued earlier if this token of this key has become an old one.
    thaw_once_outdated: Option<(String, u64)>,
}

/// The fleet of one store.
#[derive(Debug)]
pub(super) struct Fleet {
    seats: Vec<Seat>,
    dice: Dice,
    history: Arc<Mutex<History>>,
    ear: Ear,
    register: Register,
    guardian: Guardian,
    faketime: Option<PathBuf>,
    programs: Programs,
    ended: Vec<Member>,
    pub(super) deeds: Deeds,
    /// Ends that nothing explains.
    pub(super) unexplained: Vec<String>,
}

impl Fleet {
    /// Puts it together; nothing runs yet.
    pub(super) async fn new(
        place: &Place,
        programs: &Programs,
        seed: u64,
        counts: &Arc<Counts>,
        history: Arc<Mutex<History>>,
        guardian: &Guardian,
    ) -> Result<Fleet> {
        let register = Register::start(history.clone()).await?;
        let (name, lane) = match place {
            Place::Sqlite { .. } => ("sqlite", 100),
            Place::DynamoDb { .. } => ("dynamodb", 200),
        };
        let mut seats = Vec::new();
        for (who, (kind, strict)) in [
            (Kind::Library, false),
            (Kind::Library, true),
            (Kind::Command, false),
            (Kind::Command, true),
        ]
        .into_iter()
        .enumerate()
        {
            let (place, proxy) = match place {
                Place::Sqlite { .. } => (place.clone(), None),
                Place::DynamoDb { table, endpoint } => {
                    let dice = Dice::new(seed, lane + 1 + who as u64);
                    let faults = Arc::new(Faults::new(dice, counts.clone()));
                    let proxy = Proxy::start(endpoint, faults.clone()).await?;
                    let place = Place::DynamoDb {
                        table: table.clone(),
                        endpoint: proxy.url().to_owned(),
                    };
                    (place, Some((proxy, faults)))
                }
            };
            seats.push(Seat {
                who,
                kind,
                strict,
                place,
                proxy,
                clock: guardian.directory().join(format!("{name}-{who}.clock")),
                offsets: Arc::default(),
                member: None,
                start_at: 0,
                thaw_at: None,
                thaw_once_outdated: None,
            });
        }
        Ok(Fleet {
            seats,
            dice: Dice::new(seed, lane),
            ear: Ear::new({
                let history = history.clone();
                move |who, event| lock(&history).told(who, event)
            }),
            history,
            register,
            guardian: guardian.clone(),
            faketime: wall::library(),
            programs: programs.clone(),
            ended: Vec::new(),
            deeds: Deeds::default(),
            unexplained: Vec::new(),
        })
    }

    /// Reaps who has ended, starts who is due, continues who has been stopped for long enough.
    pub(super) fn tend(&mut self) -> Result<()> {
        for place in 0..self.seats.len() {
            self.reap(place)?;
            let seat = &mut self.seats[place];
            if seat.member.is_none() && now() >= seat.start_at {
                self.start(place)?;
            }
            let seat = &mut self.seats[place];
            if let (Some(member), Some(at)) = (&seat.member, seat.thaw_at) {
                let outdated = seat
                    .thaw_once_outdated
                    .as_ref()
                    .is_some_and(|(key, token)| lock(&self.history).outdated(key, *token));
                if outdated || now() >= at {
                    member.thaw()?;
                    lock(&self.history).thaws(seat.who, now());
                    seat.thaw_at = None;
                    seat.thaw_once_outdated = None;
                }
            }
        }
        Ok(())
    }

    fn reap(&mut self, place: usize) -> Result<()> {
        let seat = &mut self.seats[place];
        let Some(member) = &mut seat.member else {
            return Ok(());
        };
        let Some(status) = member.ended()? else {
            return Ok(());
        };
        let explained = match seat.kind {
            // A worker never ends by itself.
            Kind::Library => member.was_killed(),
            Kind::Command => {
                member.was_killed() || status.code().is_some_and(|code| EXPLAINED.contains(&code))
            }
        };
        if !explained {
            self.unexplained.push(format!(
                "{:?} process {} ended with {status}, and nobody had killed it:\n{}",
                seat.kind,
                seat.who,
                member.last_words()
            ));
        }
        if let (Kind::Command, Some(code)) = (seat.kind, status.code()) {
            *self.deeds.exits.entry(code).or_default() += 1;
        }
        seat.start_at = now() + nanos(self.dice.millis(0, 400));
        seat.thaw_at = None;
        seat.thaw_once_outdated = None;
        self.ended.extend(seat.member.take());
        Ok(())
    }

    fn start(&mut self, place: usize) -> Result<()> {
        let offset = wall::offset(&mut self.dice);
        let key = match self.dice.permille(250) {
            true => SLOTS,
            false => *self.dice.pick(&KEYS),
        };
        let seed = self.dice.below(u64::MAX);
        let seat = &mut self.seats[place];
        let own = self.programs.own.clone();
        let shifted = self.faketime.is_some() || seat.kind == Kind::Library;
        *lock(&seat.offsets) = vec![if shifted { offset } else { 0 }];
        self.deeds.starts += 1;
        self.deeds.clocks += u64::from(shifted && offset != 0);
        let mut environment: Vec<(&'static str, OsString)> = vec![
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ];
        if let Some(library) = &self.faketime {
            wall::set(&seat.clock, offset)?;
            environment.extend(wall::environment(library, &seat.clock));
        }
        let (program, arguments) = match seat.kind {
            Kind::Library => {
                let job = Job {
                    place: seat.place.clone(),
                    register: self.register.address().to_owned(),
                    seed,
                    strict: seat.strict,
                    ahead: if self.faketime.is_some() { 0 } else { offset },
                };
                let mut arguments = vec!["worker".to_owned()];
                arguments.extend(job.arguments());
                (own, arguments)
            }
            Kind::Command => {
                let own = own.to_str().context("our path is not UTF-8")?.to_owned();
                let store = seat.place.to_string();
                let mut arguments: Vec<String> = [
                    "run",
                    key,
                    "--store",
                    &store,
                    "--lease",
                    COMMAND_LEASE,
                    "--grace",
                    GRACE,
                    "-w",
                    "8s",
                ]
                .map(str::to_owned)
                .into();
                arguments.extend(seat.strict.then(|| "--strict".to_owned()));
                arguments.extend(["--", &own, "child", self.register.address()].map(str::to_owned));
                (self.programs.command.clone(), arguments)
            }
        };
        let start = Start {
            who: seat.who,
            kind: seat.kind,
            program,
            arguments,
            environment,
            offsets: seat.offsets.clone(),
            ear: self.ear.clone(),
        };
        lock(&self.history).starts(seat.who, now());
        seat.member = Some(Member::start(start, &self.guardian)?);
        Ok(())
    }

    /// Injects one fault into one process.
    pub(super) fn harm(&mut self) -> Result<()> {
        // A random stop seldom comes between check and write, so some stops are aimed: all of them, until the
        // register has refused a write.
        let aims = self.dice.permille(200) || lock(&self.history).totals.refused == 0;
        if aims && self.stop_who_writes()? {
            return Ok(());
        }
        let roll = self.dice.below(100);
        let place = self.dice.below(self.seats.len() as u64) as usize;
        let frozen = self.seats.iter().filter(|s| s.thaw_at.is_some()).count();
        let long = self.dice.millis(3_500, 10_000);
        let short = self.dice.millis(1_500, 7_000);
        let all = self.dice.permille(500);
        let offset = wall::offset(&mut self.dice);
        let seat = &mut self.seats[place];
        let Some(member) = &mut seat.member else {
            return Ok(());
        };
        match roll {
            // Some process must go on, or no key is taken over.
            0..50 if frozen < 2 && seat.thaw_at.is_none() => {
                // Just before, so that every sign of life after it is explained.
                lock(&self.history).freezes(seat.who, now());
                member.freeze(all)?;
                seat.thaw_at = Some(now() + nanos(long));
                self.deeds.stops += 1;
            }
            50..70 => {
                lock(&self.history).dies(seat.who, now());
                member.kill()?;
                self.deeds.kills += 1;
            }
            70..85 => {
                if let Some((_, faults)) = &seat.proxy {
                    faults.cut_off(short);
                    self.deeds.partitions += 1;
                }
            }
            85..100 if self.faketime.is_some() => {
                lock(&seat.offsets).push(offset);
                wall::set(&seat.clock, offset)?;
                self.deeds.steps += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// Stops a process of the library that is about to write, until another process has written. Returns whether
    /// there was one.
    fn stop_who_writes(&mut self) -> Result<bool> {
        let frozen = self.seats.iter().any(|seat| seat.thaw_at.is_some());
        let mut history = lock(&self.history);
        let writing = history.writing(now().saturating_sub(JUST_NOW));
        let Some((who, key, token)) = writing.filter(|_| !frozen) else {
            return Ok(false);
        };
        let seat = &mut self.seats[who];
        let Some(member) = &seat.member else {
            return Ok(false);
        };
        history.freezes(who, now());
        member.freeze(false)?;
        seat.thaw_at = Some(now() + AIMED);
        seat.thaw_once_outdated = Some((key, token));
        self.deeds.stops += 1;
        Ok(true)
    }

    /// When something is done next.
    pub(super) fn next_harm(&mut self) -> At {
        now() + nanos(self.dice.millis(400, 1_200))
    }

    /// Ends all processes, and waits until none of the fleet is left. A left process or an unclear event is an
    /// error.
    pub(super) async fn end(&mut self) -> Result<()> {
        for seat in &mut self.seats {
            let Some(mut member) = seat.member.take() else {
                continue;
            };
            lock(&self.history).dies(seat.who, now());
            member.kill()?;
            while member.ended()?.is_none() {
                wall::pause(Duration::from_millis(5)).await;
            }
            self.ended.push(member);
        }
        for member in self.ended.drain(..) {
            silence(member).await?;
        }
        for seat in &self.seats {
            if let Some((proxy, _)) = &seat.proxy {
                understood(proxy)?;
            }
        }
        Ok(())
    }

    /// Reads the events of ended processes, so that a long run does not accumulate them.
    pub(super) async fn settle(&mut self) -> Result<()> {
        // The latest may have grandchildren that are just being killed.
        let old = self.ended.len().saturating_sub(16);
        for member in self.ended.drain(..old) {
            silence(member).await?;
        }
        Ok(())
    }

    /// What wall clocks were shifted with.
    pub(super) fn clocks(&self) -> &'static str {
        match self.faketime {
            Some(_) => "libfaketime, all processes",
            None => "the library's `Clock`, workers only",
        }
    }
}

/// Waits until nothing is left of a process that has ended.
async fn silence(member: Member) -> Result<()> {
    let words = member.last_words();
    tokio::select! {
        silent = member.silence() => silent,
        () = wall::pause(Duration::from_secs(10)) => {
            bail!("something that a process started is still alive 10 s after its end: {words}")
        }
    }
}

/// Ignores requests that a kill has cut, but not a failure of the service.
fn understood(proxy: &Proxy) -> Result<()> {
    match proxy.check() {
        Err(error) if !error.to_string().contains("bad request") => {
            let text = error.to_string();
            let about_us = text.contains("the service") || text.contains("bad answer");
            if about_us { Err(error) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn nanos(length: Duration) -> At {
    At::try_from(length.as_nanos()).unwrap_or(At::MAX)
}

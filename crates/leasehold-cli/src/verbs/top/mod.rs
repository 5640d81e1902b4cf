//! `top`: a live screen of locks, holders, leases and what happens to them.
//!
//! It only reads, and holds no lock, so it may wait for the terminal. A signal ends it even while the terminal takes nothing.
//! [`source`] reads snapshots, [`model`] makes rows and events of them, [`draw`] draws both, [`screen`] has the terminal,
//! [`rate`] counts requests. This module is the loop.

mod draw;
mod model;
mod rate;
mod screen;
mod source;

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use leasehold::clock::{Clock, Elapsed, SystemClock};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use self::draw::View;
use self::model::{Model, Snapshot};
use self::rate::Rate;
use self::screen::Screen;
use self::source::{Source, wall};
use crate::args::TopArgs;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::{Messages, is_dumb};
use crate::process::{Signals, suspend_ourselves};
use crate::store::{Place, own_failure};

/// The shortest interval: at most 10 reads a second.
const SHORTEST: Duration = Duration::from_millis(100);

/// How often the bars move.
const FRAME: Duration = Duration::from_millis(250);

/// How long a signal waits for the way back to the normal screen.
const WAY_BACK: Duration = Duration::from_secs(2);

/// Shows the screen until a key or a signal ends it. Returns the exit code.
///
/// # Errors
///
/// When there is no terminal, or the store cannot be read at the start.
pub(crate) fn top(args: TopArgs, messages: &Arc<Messages>) -> Result<u8, Failure> {
    if args.interval < SHORTEST {
        let message = format!("--interval is shorter than {SHORTEST:?}");
        return Err(Failure::new(exit_codes::USAGE, message)
            .hint(format!("set `--interval {SHORTEST:?}` or more")));
    }
    let place = Place::resolve(args.store.store)?;
    let lacks = match io::stdout().is_terminal() {
        true if is_dumb() => Some("top needs a terminal with a cursor, and TERM is `dumb`"),
        true => None,
        false => Some("top needs a terminal, and standard output is none"),
    };
    if let Some(lacks) = lacks {
        let option = place.option();
        return Err(Failure::new(exit_codes::USAGE, lacks).hint(format!(
            "run `leasehold ls{option}` once, or `leasehold watch{option}` for a line for each change"
        )));
    }
    // Before any other thread starts.
    let signals =
        Signals::install().map_err(|error| own_failure("cannot handle signals", &error))?;
    let timers = Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| own_failure("cannot start a runtime", &error))?;
    let (sender, wishes) = channel(16);
    let watched = sender.clone();
    thread::Builder::new()
        .name("top-signals".to_owned())
        .spawn(move || watch(&timers, signals, &watched))
        .map_err(|error| own_failure("cannot start a thread", &error))?;
    let runtime = place.runtime()?;
    let store = place.location.to_string();
    let prefix = args.prefix.unwrap_or_default();
    let source = Source::new(place, prefix.clone(), messages);
    let top = Top {
        model: Model::default(),
        rate: Rate::default(),
        zone: TimeZone::system(),
        store,
        prefix,
        interval: args.interval,
        problem: None,
        scroll: 0,
    };
    let ended = runtime.block_on(top.show(source, sender, wishes));
    // A request in flight must not keep the user waiting.
    runtime.shutdown_background();
    ended
}

/// What a key or a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    End(u8),
    /// The terminal gives no keys.
    Gone,
    Suspend,
    Up(usize),
    Down(usize),
    PageUp,
    PageDown,
    First,
    Last,
    /// All of the screen again.
    Refresh,
    /// Only what has changed.
    Draw,
}

/// What the loop knows.
#[derive(Debug)]
struct Top {
    model: Model,
    rate: Rate,
    zone: TimeZone,
    store: String,
    prefix: String,
    interval: Duration,
    problem: Option<String>,
    scroll: usize,
}

impl Top {
    async fn show(
        mut self,
        mut source: Source,
        sender: Sender<Wish>,
        mut wishes: Receiver<Wish>,
    ) -> Result<u8, Failure> {
        let lost = |error: io::Error| own_failure("cannot use the terminal", &error);
        // A store that cannot be read is an error on the normal screen.
        let first = tokio::select! {
            first = source.read() => first?,
            code = end_by(&mut wishes) => return Ok(code),
        };
        self.read(Ok(first), &source);
        let mut screen = Screen::enter().map_err(lost)?;
        keys(sender).map_err(lost)?;
        let mut next = SystemClock.elapsed().plus(self.interval);
        loop {
            let done = {
                let mut reading = pin!(async {
                    SystemClock.sleep_until(next).await;
                    source.read().await
                });
                loop {
                    self.draw(&mut screen).map_err(lost)?;
                    let frame = SystemClock.elapsed().plus(FRAME.min(self.interval));
                    let wish = tokio::select! {
                        biased;
                        // The sender of signals lives as long as the process.
                        Some(wish) = wishes.recv() => wish,
                        done = &mut reading => break done,
                        () = SystemClock.sleep_until(frame) => Wish::Draw,
                    };
                    match wish {
                        Wish::End(code) => return Ok(code),
                        Wish::Gone => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                        wish => self.obey(wish, &mut screen).map_err(lost)?,
                    }
                }
            };
            self.read(done, &source);
            next = later(next, self.interval, SystemClock.elapsed());
        }
    }

    fn read(&mut self, done: Result<Snapshot, Failure>, source: &Source) {
        let (requests, units) = source.usage();
        self.rate.note(SystemClock.elapsed(), requests, units);
        match done {
            Ok(snapshot) => {
                self.model.update(snapshot);
                self.problem = None;
            }
            Err(failure) => self.problem = Some(format!("trying again: {}", failure.message)),
        }
    }

    fn draw(&mut self, screen: &mut Screen) -> io::Result<()> {
        let most = self.model.rows().len().saturating_sub(screen.page());
        self.scroll = self.scroll.min(most);
        screen.draw(&View {
            model: &self.model,
            wall: wall(),
            zone: &self.zone,
            store: &self.store,
            prefix: &self.prefix,
            interval: self.interval,
            rate: self.rate.per_second(),
            problem: self.problem.as_deref(),
            scroll: self.scroll,
        })
    }

    fn obey(&mut self, wish: Wish, screen: &mut Screen) -> io::Result<()> {
        let page = screen.page().max(1);
        match wish {
            Wish::Up(rows) => self.scroll = self.scroll.saturating_sub(rows),
            Wish::Down(rows) => self.scroll = self.scroll.saturating_add(rows),
            Wish::PageUp => self.scroll = self.scroll.saturating_sub(page),
            Wish::PageDown => self.scroll = self.scroll.saturating_add(page),
            Wish::First => self.scroll = 0,
            Wish::Last => self.scroll = usize::MAX,
            Wish::Suspend => {
                return screen.aside(|| {
                    suspend_ourselves();
                });
            }
            Wish::Refresh => return screen.refresh(),
            Wish::End(_) | Wish::Gone | Wish::Draw => {}
        }
        Ok(())
    }
}

/// The next read: on the beat, or an interval after a read that took longer.
fn later(planned: Elapsed, interval: Duration, now: Elapsed) -> Elapsed {
    let next = planned.plus(interval);
    if next < now { now.plus(interval) } else { next }
}

/// Waits for a signal that ends the program.
async fn end_by(wishes: &mut Receiver<Wish>) -> u8 {
    while let Some(wish) = wishes.recv().await {
        if let Wish::End(code) = wish {
            return code;
        }
    }
    std::future::pending().await
}

/// Passes signals on. If the program has not ended soon after one that ends it, the terminal takes nothing.
fn watch(timers: &Runtime, mut signals: Signals, wishes: &Sender<Wish>) {
    timers.block_on(async {
        loop {
            let Some(wish) = of_signal(signals.next().await.signal) else {
                continue;
            };
            let _full = wishes.try_send(wish);
            if let Wish::End(code) = wish {
                SystemClock
                    .sleep_until(SystemClock.elapsed().plus(WAY_BACK))
                    .await;
                screen::restore_keys();
                signal_hook::low_level::exit(code.into());
            }
        }
    });
}

fn of_signal(signal: Signal) -> Option<Wish> {
    match signal {
        Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT => {
            Some(Wish::End(exit_codes::signalled(signal.as_raw())))
        }
        Signal::TSTP | Signal::TTIN | Signal::TTOU => Some(Wish::Suspend),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Wish::End(0)),
            KeyCode::Char('z') => Some(Wish::Suspend),
            KeyCode::Char('l') => Some(Wish::Refresh),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Wish::End(0),
        KeyCode::Up | KeyCode::Char('k') => Wish::Up(1),
        KeyCode::Down | KeyCode::Char('j') => Wish::Down(1),
        KeyCode::PageUp => Wish::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Wish::First,
        KeyCode::End | KeyCode::Char('G') => Wish::Last,
        _ => return None,
    })
}

/// Starts to read keys and changes of the size, on a thread that ends with the process.
fn keys(sender: Sender<Wish>) -> io::Result<()> {
    let thread = thread::Builder::new().name("top-keys".to_owned());
    thread.spawn(move || forward(&sender)).map(drop)
}

fn forward(wishes: &Sender<Wish>) {
    loop {
        let wish = match event::read() {
            Ok(Event::Key(key)) => of_key(key),
            Ok(Event::Resize(..)) => Some(Wish::Draw),
            Ok(_) => None,
            Err(_) => Some(Wish::Gone),
        };
        let Some(wish) = wish else { continue };
        // What is typed after the last key is for the shell.
        let last = matches!(wish, Wish::End(_) | Wish::Gone);
        if wishes.blocking_send(wish).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keys_end_it_and_others_do_not() {
        let plain = |code| of_key(KeyEvent::new(code, KeyModifiers::NONE));
        let control = |c| of_key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        let end = Some(Wish::End(0));
        assert_eq!(
            [plain(KeyCode::Char('q')), plain(KeyCode::Esc), control('c')],
            [end; 3]
        );
        assert_eq!(plain(KeyCode::Char('c')), None);
        assert_eq!(control('q'), None);
        assert_eq!(plain(KeyCode::Down), Some(Wish::Down(1)));
    }

    #[test]
    fn signals_end_it_with_their_codes() {
        assert_eq!(of_signal(Signal::TERM), Some(Wish::End(143)));
        assert_eq!(of_signal(Signal::INT), Some(Wish::End(130)));
        assert_eq!(of_signal(Signal::CONT), None);
    }

    #[test]
    fn a_slow_store_is_not_read_more_often() {
        let at = |ms| Elapsed(Duration::from_millis(ms));
        let interval = Duration::from_secs(1);
        assert_eq!(later(at(1_000), interval, at(1_010)), at(2_000));
        assert_eq!(later(at(1_000), interval, at(5_000)), at(6_000));
    }
}

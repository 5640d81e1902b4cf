//! The terminal: the other screen, raw keys, and the way back.
//!
//! Invariant: the terminal is as before after the drop, also after a panic, whose message then comes after the way back.

use std::io::{self, Stdout, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Position;

use super::draw::{View, draw};

/// Whether the terminal is changed now.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// The terminal, while `top` has it.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Changes to the other screen.
    pub(super) fn enter() -> io::Result<Screen> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        let screen = Screen { terminal };
        change()?;
        Ok(screen)
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, view)).map(drop)
    }

    /// The rows of locks that fit.
    pub(super) fn page(&self) -> usize {
        let size = self.terminal.size().unwrap_or_default();
        super::draw::page((Position::ORIGIN, size).into())
    }

    /// Changes back while `between` runs, and draws everything afterwards.
    pub(super) fn aside(&mut self, between: impl FnOnce()) -> io::Result<()> {
        restore();
        between();
        change()?;
        self.refresh()
    }

    /// Draws everything the next time. `Terminal::clear` would ask the terminal for its cursor, and wait for the answer.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize((Position::ORIGIN, size).into())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn change() -> io::Result<()> {
    CHANGED.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen)
}

/// Once for each change. Nothing can be done about a failure.
fn restore() {
    if CHANGED.swap(false, Ordering::SeqCst) {
        let _written = execute!(stdout(), LeaveAlternateScreen, Show);
        let _set = disable_raw_mode();
    }
}

/// The settings of the keys alone, which needs no output.
pub(super) fn restore_keys() {
    let _set = disable_raw_mode();
}

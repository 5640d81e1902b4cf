//! The screen, drawn from the model. Pure.
//!
//! | width | columns |
//! |---|---|
//! | below 60 | name, holder, lease, what is left of it |
//! | below 100 | also renewals and queue |
//! | more | also age and token |
//!
//! With few lines there are no events.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};

use super::model::{Event, Kind, Lock, Model, Row, State};
use crate::text::{duration, one_line};

const NARROW: u16 = 60;
const WIDE: u16 = 100;

/// Below it there are no events.
const TALL: u16 = 14;

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) model: &'a Model,
    pub(super) wall: SystemTime,
    pub(super) zone: &'a TimeZone,
    pub(super) store: &'a str,
    pub(super) prefix: &'a str,
    pub(super) interval: std::time::Duration,
    /// Requests and read units a second.
    pub(super) rate: Option<(f64, f64)>,
    /// Why the last read failed.
    pub(super) problem: Option<&'a str>,
    /// Rows above the first visible one.
    pub(super) scroll: usize,
}

/// The rows of locks that fit into a screen of this size.
pub(super) fn page(area: Rect) -> usize {
    usize::from(parts(area)[1].height.saturating_sub(1))
}

fn parts(area: Rect) -> [Rect; 4] {
    let events = if area.height < TALL {
        0
    } else {
        area.height / 4
    };
    Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Length(events),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View<'_>) {
    let [head, locks, events, foot] = parts(frame.area());
    frame.render_widget(header(view), head);
    frame.render_widget(table(view, locks), locks);
    if events.height > 0 {
        frame.render_widget(log(view, events.height), events);
    }
    frame.render_widget(footer(view, page(frame.area())), foot);
}

fn header<'a>(view: &View<'a>) -> Paragraph<'a> {
    let model = view.model;
    let mut counts = vec![
        format!("{} held", model.count(State::Held)),
        format!("{} waiting", model.waiting()),
    ];
    for (state, word) in [(State::Expired, "expired"), (State::Malformed, "malformed")] {
        match model.count(state) {
            0 => {}
            count => counts.push(format!("{count} {word}")),
        }
    }
    let mut reads = vec![format!("every {:?}", view.interval)];
    if let Some((requests, units)) = view.rate {
        reads.push(format!("{requests:.1} requests/s"));
        reads.push(format!("{units:.1} read units/s"));
    }
    if !view.prefix.is_empty() {
        reads.push(format!("names with {}", one_line(view.prefix)));
    }
    Paragraph::new(vec![
        Line::from(vec![
            Span::from(counts.join(", ")).bold(),
            Span::from(format!("  {}", one_line(view.store))),
        ]),
        Line::from(reads.join(", ")).dim(),
    ])
}

fn table<'a>(view: &View<'a>, area: Rect) -> Table<'a> {
    let bar = match area.width {
        ..NARROW => 6,
        NARROW..WIDE => 12,
        _ => 20,
    };
    let mut columns = vec![
        ("NAME", Constraint::Fill(3)),
        ("HOLDER", Constraint::Fill(3)),
        ("LEASE", Constraint::Length(bar)),
        ("LEFT", Constraint::Length(7)),
    ];
    if area.width >= NARROW {
        columns.push(("RENEWED", Constraint::Length(7)));
        columns.push(("QUEUE", Constraint::Length(5)));
    }
    if area.width >= WIDE {
        columns.push(("SINCE", Constraint::Length(8)));
        columns.push(("TOKEN", Constraint::Length(17)));
    }
    let visible = usize::from(area.height.saturating_sub(1));
    let rows = view.model.rows().skip(view.scroll).take(visible);
    let rows: Vec<_> = rows
        .map(|(name, row)| {
            let mut cells = cells(view, name, row, usize::from(bar));
            cells.truncate(columns.len());
            TableRow::new(cells)
        })
        .collect();
    let header = columns.iter().map(|(title, _)| Cell::from(*title));
    Table::new(rows, columns.iter().map(|(_, width)| *width))
        .header(TableRow::new(header).style(Style::new().bold().underlined()))
        .column_spacing(1)
}

fn cells<'a>(view: &View<'_>, name: &str, row: &Row, width: usize) -> Vec<Cell<'a>> {
    let lock = &row.lock;
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let left = view.model.left(lock, view.wall);
    let (bar, left) = match lock.state {
        State::Held => {
            let bar = lock.lease.map_or_else(
                || Span::from("-"),
                |lease| {
                    let fraction = left.as_secs_f64() / lease.as_secs_f64().max(0.001);
                    Span::styled(self::bar(fraction, width), color(fraction))
                },
            );
            (bar, Span::from(duration::show(left)))
        }
        State::Expired => (Span::from(""), Span::from("expired").red()),
        State::Malformed => (Span::from(""), Span::from("bad").red()),
    };
    vec![
        Cell::from(one_line(name)),
        Cell::from(one_line(&lock.holder)),
        Cell::from(bar),
        Cell::from(left),
        Cell::from(row.renewals.to_string()),
        Cell::from(or_dash(lock.waiting.map(|waiting| waiting.to_string()))),
        Cell::from(or_dash(age(lock, view.wall))),
        Cell::from(or_dash(lock.token.map(|token| token.to_string()))),
    ]
}

fn age(lock: &Lock, wall: SystemTime) -> Option<String> {
    let age = wall.duration_since(lock.since?).unwrap_or_default();
    Some(duration::show(age))
}

/// A bar of this width in characters, in eighths of one.
fn bar(fraction: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (fraction.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(PARTS[eighths % 8]);
    bar
}

fn color(fraction: f64) -> Color {
    match fraction {
        f if f > 0.5 => Color::Green,
        f if f > 0.25 => Color::Yellow,
        _ => Color::Red,
    }
}

fn log<'a>(view: &View<'a>, height: u16) -> Paragraph<'a> {
    let mut lines = vec![Line::from("EVENTS").bold().underlined()];
    let newest = view.model.events();
    lines.extend(
        newest
            .take(usize::from(height.saturating_sub(1)))
            .map(|event| line(event, view.zone)),
    );
    Paragraph::new(lines)
}

fn line<'a>(event: &Event, zone: &TimeZone) -> Line<'a> {
    let time = match Timestamp::try_from(event.at) {
        Ok(stamp) => stamp
            .to_zoned_datetime(zone.clone())
            .strftime("%H:%M:%S")
            .to_string(),
        Err(_) => "unknown".to_owned(),
    };
    let (what, style) = match &event.kind {
        Kind::Acquired { by } => (format!("acquired by {by}"), Style::new().green()),
        Kind::Renewed { times } => (format!("renewed ({times} seen)"), Style::new().dim()),
        Kind::RenewedMany(count) => (format!("{count} locks renewed"), Style::new().dim()),
        Kind::HandedOver { from, to } => (
            format!("handed over by {from} to {to}"),
            Style::new().cyan(),
        ),
        Kind::Released { by } => (format!("released by {by}"), Style::new()),
        Kind::Lost { by } => (
            format!("lost by {by}, whose lease ended without a release"),
            Style::new().red(),
        ),
    };
    let name = if event.name.is_empty() {
        String::new()
    } else {
        format!("{} ", one_line(&event.name))
    };
    Line::from(vec![
        Span::from(format!("{time} ")).dim(),
        Span::from(name).bold(),
        Span::styled(one_line(&what), style),
    ])
}

fn footer<'a>(view: &View<'a>, page: usize) -> Line<'a> {
    if let Some(problem) = view.problem {
        return Line::from(one_line(problem)).red();
    }
    let all = view.model.rows().len();
    let mut text = "q quit".to_owned();
    if all > page {
        let first = view.scroll + 1;
        let last = (view.scroll + page).min(all);
        text = format!("{text}  ↑↓ scroll  {first}-{last} of {all}");
    }
    if !view.model.is_complete() {
        text.push_str("  only the first part of the store");
    }
    Line::from(text).dim()
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;

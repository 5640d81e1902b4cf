//! Who held when: a panel for each lock, a row for each contender; pale while it waits, solid while
//! it holds the lock. White between two solid bars is time that nobody used.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::lineup::Subject;
use crate::plot::{Axis, Canvas, GREY, INK, RULE, colour, line, text, time_label};
use crate::turns::Turns;
use crate::who::Who;

const WIDTH: u32 = 1_120;
const ROW: i32 = 5;
const LEFT: i32 = 430;
const TOP: i32 = 92;
const GAP: i32 = 16;
/// Of the time line. Who takes longer runs out of it.
const SHOWN_MS: f64 = 1_000.0;

/// `wanted` asked in each panel.
pub(crate) fn draw(
    name: &str,
    title: &str,
    wanted: usize,
    found: &[(Subject, Turns)],
) -> Result<()> {
    let mut panels: Vec<&(Subject, Turns)> = found.iter().collect();
    panels.sort_by_key(|(_, turns)| {
        // Who finished first is on top; who did not finish, at the bottom, by how far it came.
        (wanted.saturating_sub(done(turns)), turns.wall())
    });
    let panel_height = i32::try_from(wanted)? * ROW + GAP;
    let bottom = TOP + i32::try_from(panels.len())? * panel_height;
    let canvas = Canvas::new(name, (WIDTH, u32::try_from(bottom + 66)?), title)?;
    let axis = Axis {
        values: (0.0, SHOWN_MS),
        pixels: (LEFT, i32::try_from(WIDTH)? - 50),
        logarithmic: false,
    };
    canvas.draw(|area| {
        let legend =
            "A row for each contender: pale while it waits, solid while it holds the lock.";
        text(area, legend, (24, 58), 14, GREY, (HPos::Left, VPos::Center))?;
        for tick in [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0] {
            let x = axis.at(tick);
            line(area, vec![(x, TOP - 6), (x, bottom)], RULE, 1)?;
            let label = if tick == 0.0 {
                "0".to_owned()
            } else {
                time_label(tick)
            };
            text(
                area,
                &label,
                (x, bottom + 16),
                14,
                GREY,
                (HPos::Center, VPos::Center),
            )?;
        }
        let mut top = TOP;
        for (subject, turns) in panels {
            panel(area, axis, top, wanted, subject, turns)?;
            top += panel_height;
        }
        Ok(())
    })
}

fn panel(
    area: &super::Area<'_>,
    axis: Axis,
    top: i32,
    wanted: usize,
    subject: &Subject,
    turns: &Turns,
) -> Result<()> {
    let shade = colour(subject.who);
    let start = turns.0.iter().map(|turn| turn.asked).min().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "seconds, not eons")]
    let at = |ns: i64| axis.at((ns - start) as f64 / 1e6);
    let mut in_order: Vec<_> = turns.0.iter().collect();
    in_order.sort_by_key(|turn| turn.granted.unwrap_or(i64::MAX));
    for (n, turn) in (0..).zip(&in_order) {
        let y = top + n * ROW;
        let granted = turn.granted.unwrap_or(i64::MAX - 1);
        let wait = [
            (at(turn.asked), y),
            (at(granted.min(start + 2_000_000_000)), y + ROW - 2),
        ];
        area.draw(&Rectangle::new(wait, shade.mix(0.22).filled()))?;
        if let (Some(granted), Some(letting)) = (turn.granted, turn.letting) {
            let (from, to) = (at(granted), at(letting));
            if from < axis.pixels.1 {
                let held = [(from, y), (to.max(from + 2), y + ROW - 2)];
                area.draw(&Rectangle::new(held, shade.filled()))?;
            }
        }
    }
    // Those who were not even granted it have told nothing.
    for n in in_order.len()..wanted {
        let y = top + i32::try_from(n)? * ROW;
        let wait = [(axis.pixels.0, y), (axis.pixels.1, y + ROW - 2)];
        area.draw(&Rectangle::new(wait, shade.mix(0.22).filled()))?;
    }
    let y = top + i32::try_from(wanted)? * ROW / 2;
    let ink = if subject.who == Who::Ours {
        colour(Who::Ours)
    } else {
        INK
    };
    text(
        area,
        &subject.label(),
        (LEFT - 14, y - 8),
        15,
        ink,
        (HPos::Right, VPos::Center),
    )?;
    let open = wanted.saturating_sub(done(turns));
    let done = if open == 0 {
        format!("all done after {:.0} ms", turns.wall().as_secs_f64() * 1e3)
    } else {
        format!("{open} of {wanted} not in time")
    };
    text(
        area,
        &done,
        (LEFT - 14, y + 10),
        13,
        GREY,
        (HPos::Right, VPos::Center),
    )
}

fn done(turns: &Turns) -> usize {
    turns.0.iter().filter(|turn| turn.letting.is_some()).count()
}

//! How long they waited: a lane for each lock, a dot for each wait, a bar at the median.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::lineup::Subject;
use crate::plot::{Axis, Canvas, GREY, INK, RULE, colour, line, text, time_label};
use crate::turns::Turns;
use crate::who::Who;

const WIDTH: u32 = 1_120;
const LANE: i32 = 30;
const LEFT: i32 = 430;
const TOP: i32 = 92;

/// `wanted` asked in each lane.
pub(crate) fn draw(
    name: &str,
    title: &str,
    wanted: usize,
    found: &[(Subject, Turns)],
) -> Result<()> {
    let mut lanes: Vec<(&Subject, Vec<f64>)> = found
        .iter()
        .map(|(subject, turns)| {
            let waits = turns.waits().sorted();
            (
                subject,
                waits.iter().map(|wait| wait.as_secs_f64() * 1e3).collect(),
            )
        })
        .collect();
    // Of all who asked: those who never got it have waited longest.
    let middle = |waits: &[f64]| waits.get(wanted / 2).copied().unwrap_or(f64::INFINITY);
    let missing = |waits: &[f64]| wanted.saturating_sub(waits.len());
    lanes.sort_by(|(_, one), (_, two)| {
        let by_missing = missing(one).cmp(&missing(two));
        by_missing.then(middle(one).total_cmp(&middle(two)))
    });
    let count = i32::try_from(lanes.len())?;
    let bottom = TOP + count * LANE;
    let canvas = Canvas::new(
        name,
        (WIDTH, u32::try_from(bottom + 66)?),
        &format!("Waits: {title}"),
    )?;
    let axis = Axis {
        values: (1.0, 20_000.0),
        pixels: (LEFT, i32::try_from(WIDTH)? - 40),
        logarithmic: true,
    };
    canvas.draw(|area| {
        let legend =
            "A dot for each wait that ended, a bar at the median of all who asked; the best are on top.";
        text(area, legend, (24, 58), 14, GREY, (HPos::Left, VPos::Center))?;
        for tick in axis.ticks() {
            let x = axis.at(tick);
            line(area, vec![(x, TOP - 6), (x, bottom)], RULE, 1)?;
            text(
                area,
                &time_label(tick),
                (x, bottom + 16),
                14,
                GREY,
                (HPos::Center, VPos::Center),
            )?;
        }
        let what = "from asking to the grant (logarithmic)";
        let middle_x = (axis.pixels.0 + axis.pixels.1) / 2;
        text(
            area,
            what,
            (middle_x, bottom + 42),
            14,
            GREY,
            (HPos::Center, VPos::Center),
        )?;
        for (n, (subject, waits)) in (0..).zip(&lanes) {
            let y = TOP + n * LANE + LANE / 2;
            let ink = if subject.who == Who::Ours {
                colour(Who::Ours)
            } else {
                INK
            };
            text(
                area,
                &subject.label(),
                (LEFT - 14, y),
                15,
                ink,
                (HPos::Right, VPos::Center),
            )?;
            let shade = colour(subject.who);
            for wait in waits {
                area.draw(&Circle::new(
                    (axis.at(*wait), y),
                    5,
                    shade.mix(0.45).filled(),
                ))?;
            }
            let median = middle(waits);
            if median.is_finite() {
                let x = axis.at(median);
                area.draw(&Rectangle::new(
                    [(x - 2, y - 11), (x + 2, y + 11)],
                    shade.filled(),
                ))?;
            }
            let missing = missing(waits);
            if missing > 0 {
                let never = format!("{missing} of {wanted} not in time");
                let right = (axis.pixels.1, y);
                text(area, &never, right, 13, GREY, (HPos::Right, VPos::Center))?;
            }
        }
        Ok(())
    })
}

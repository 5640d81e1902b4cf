//! What an acquisition costs over the number of contenders, both logarithmic.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::plot::{Axis, Canvas, GREY, INK, RULE, colour, line, text};
use crate::who::Who;

const SIZE: (u32, u32) = (1_060, 640);
const LEFT: i32 = 90;
const RIGHT: i32 = 700;
const TOP: i32 = 84;
const BOTTOM: i32 = 570;
/// Between two labels.
const LABEL: i32 = 21;

/// A line: its label, whose it is, and dollars by contenders.
pub(crate) type Line = (String, Who, Vec<(u32, f64)>);

pub(crate) fn draw(name: &str, lines: &[Line]) -> Result<()> {
    let title = "Dollars for a million acquisitions, over the number of contenders";
    let canvas = Canvas::new(name, SIZE, title)?;
    let prices = || {
        lines
            .iter()
            .flat_map(|(_, _, points)| points.iter().map(|point| point.1))
    };
    let highest = prices().fold(10.0, f64::max);
    let lowest = prices().fold(1.25, f64::min);
    let most = lines
        .iter()
        .flat_map(|(_, _, points)| points.iter().map(|point| point.0));
    let x = Axis {
        values: (1.0, f64::from(most.max().unwrap_or(2).max(2))),
        pixels: (LEFT, RIGHT),
        logarithmic: true,
    };
    let y = Axis {
        values: (lowest * 0.8, highest * 1.3),
        pixels: (BOTTOM, TOP),
        logarithmic: true,
    };
    canvas.draw(|area| {
        let legend = "Each holds the key for 20 ms; 5 ms round trip. The dotted rule is two writes: the least without hand-off.";
        text(area, legend, (24, 58), 14, GREY, (HPos::Left, VPos::Center))?;
        for tick in y.ticks() {
            let at = y.at(tick);
            line(area, vec![(LEFT, at), (RIGHT, at)], RULE, 1)?;
            let label = if tick < 1.0 { format!("${tick:.2}") } else { format!("${tick}") };
            text(area, &label, (LEFT - 10, at), 14, GREY, (HPos::Right, VPos::Center))?;
        }
        let mut contenders = 1;
        while f64::from(contenders) <= x.values.1 {
            let at = x.at(f64::from(contenders));
            line(area, vec![(at, BOTTOM), (at, BOTTOM + 5)], GREY, 1)?;
            let label = contenders.to_string();
            text(area, &label, (at, BOTTOM + 18), 14, GREY, (HPos::Center, VPos::Center))?;
            contenders *= 2;
        }
        let below = ((LEFT + RIGHT) / 2, BOTTOM + 44);
        text(area, "contenders", below, 14, GREY, (HPos::Center, VPos::Center))?;
        let floor = y.at(1.25);
        for dash in (LEFT..RIGHT).step_by(10) {
            line(area, vec![(dash, floor), (dash + 4, floor)], GREY, 1)?;
        }
        let mut ends = Vec::new();
        for (label, who, points) in lines {
            let shade = colour(*who);
            let places: Vec<(i32, i32)> =
                points.iter().map(|(n, price)| (x.at(f64::from(*n)), y.at(*price))).collect();
            let width = if *who == Who::Ours { 3 } else { 2 };
            line(area, places.clone(), shade, width)?;
            for place in &places {
                area.draw(&Circle::new(*place, 4, shade.filled()))?;
            }
            ends.extend(places.last().map(|end| (*end, label, *who)));
        }
        labels(area, ends)
    })
}

/// Beside the lines' ends, moved apart so that each can be read, and joined to its line.
fn labels(area: &super::Area<'_>, mut ends: Vec<((i32, i32), &String, Who)>) -> Result<()> {
    ends.sort_by_key(|((_, y), ..)| *y);
    let mut places: Vec<i32> = Vec::new();
    for ((_, y), ..) in &ends {
        let above = places.last().map_or(i32::MIN, |last| last + LABEL);
        places.push((*y).max(above));
    }
    // Back up where they have run out of the canvas.
    let mut lowest = BOTTOM;
    for place in places.iter_mut().rev() {
        *place = (*place).min(lowest);
        lowest = *place - LABEL;
    }
    for (((x, y), label, who), place) in ends.into_iter().zip(places) {
        line(area, vec![(x + 7, y), (RIGHT + 14, place)], RULE, 1)?;
        let ink = if who == Who::Ours { colour(who) } else { INK };
        area.draw(&Circle::new((RIGHT + 20, place), 4, colour(who).filled()))?;
        text(
            area,
            label,
            (RIGHT + 32, place),
            14,
            ink,
            (HPos::Left, VPos::Center),
        )?;
    }
    Ok(())
}

//! Plots as SVG, under `target/bench/`: drawn on a plain canvas, with one colour for each lock
//! everywhere, and ours the only strong one.

pub(crate) mod price;
pub(crate) mod timeline;
pub(crate) mod waits;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report;
use crate::who::Who;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const INK: RGBColor = RGBColor(38, 38, 43);
const GREY: RGBColor = RGBColor(125, 125, 132);
const RULE: RGBColor = RGBColor(226, 226, 230);

fn colour(who: Who) -> RGBColor {
    match who {
        Who::Ours => RGBColor(0, 98, 204),
        Who::FSharp => RGBColor(196, 62, 36),
        Who::Raw => GREY,
        Who::DLock => RGBColor(214, 138, 18),
        Who::DynamoDbLease => RGBColor(112, 84, 168),
        Who::DynamoDbLock => RGBColor(164, 96, 132),
        Who::Node => RGBColor(70, 138, 84),
        Who::Python => RGBColor(60, 138, 150),
        Who::Java => RGBColor(120, 92, 60),
        Who::Go => RGBColor(40, 176, 214),
        Who::Semaphore => RGBColor(148, 140, 40),
    }
}

/// A drawing of this size, with a title.
struct Canvas {
    path: std::path::PathBuf,
    size: (u32, u32),
    title: String,
}

impl Canvas {
    fn new(name: &str, size: (u32, u32), title: &str) -> Result<Canvas> {
        Ok(Canvas {
            path: report::file(name)?,
            size,
            title: title.to_owned(),
        })
    }

    fn draw(&self, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<()> {
        let area = SVGBackend::new(&self.path, self.size).into_drawing_area();
        let failed = || format!("cannot draw {}", self.path.display());
        area.fill(&WHITE).with_context(failed)?;
        text(
            &area,
            &self.title,
            (24, 30),
            20,
            INK,
            (HPos::Left, VPos::Center),
        )?;
        draw(&area)?;
        area.present().with_context(failed)?;
        eprintln!("   drawn: {}", self.path.display());
        Ok(())
    }
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    (horizontal, vertical): (HPos, VPos),
) -> Result<()> {
    let style = ("sans-serif", size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(horizontal, vertical));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

fn line(area: &Area<'_>, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Result<()> {
    area.draw(&PathElement::new(points, colour.stroke_width(width)))?;
    Ok(())
}

/// From a value to a place on the canvas.
#[derive(Clone, Copy, Debug)]
struct Axis {
    values: (f64, f64),
    pixels: (i32, i32),
    logarithmic: bool,
}

impl Axis {
    fn at(self, value: f64) -> i32 {
        let scale = |value: f64| {
            if self.logarithmic {
                value.max(1e-12).ln()
            } else {
                value
            }
        };
        let (from, to) = (scale(self.values.0), scale(self.values.1));
        let share = ((scale(value) - from) / (to - from)).clamp(0.0, 1.0);
        let (left, right) = (f64::from(self.pixels.0), f64::from(self.pixels.1));
        #[expect(clippy::cast_possible_truncation, reason = "within the canvas")]
        let pixel = (left + share * (right - left)).round() as i32;
        pixel
    }

    /// Powers of ten, and where there is room twos and fives.
    fn ticks(self) -> Vec<f64> {
        let decades = (self.values.1 / self.values.0).log10();
        let steps: &[f64] = if decades > 2.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let mut ticks = Vec::new();
        let mut power = 10_f64.powf(self.values.0.log10().floor());
        while power <= self.values.1 {
            ticks.extend(steps.iter().map(|step| step * power));
            power *= 10.0;
        }
        ticks.retain(|tick| *tick >= self.values.0 * 0.999 && *tick <= self.values.1 * 1.001);
        ticks
    }
}

/// Milliseconds in the unit that people would use.
fn time_label(ms: f64) -> String {
    if ms >= 1_000.0 {
        format!("{} s", ms / 1_000.0)
    } else if ms >= 1.0 {
        format!("{ms} ms")
    } else {
        format!("{} µs", (ms * 1e3).round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_map_their_ends_to_their_ends() {
        let axis = Axis {
            values: (1.0, 1_000.0),
            pixels: (100, 400),
            logarithmic: true,
        };
        assert_eq!(
            [1.0, 10.0, 1_000.0, 5e9].map(|v| axis.at(v)),
            [100, 200, 400, 400]
        );
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        let line = Axis {
            values: (0.0, 10.0),
            pixels: (10, 0),
            logarithmic: false,
        };
        assert_eq!(line.at(2.5), 8);
        assert_eq!(
            [0.2, 20.0, 5_000.0].map(time_label),
            ["200 µs", "20 ms", "5 s"]
        );
    }
}

//! What a scenario leaves: a markdown table on standard output and in `report.md`, the same as JSON,
//! and plots. All under `target/bench/`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::count::Counts;
use crate::lineup::Subject;
use crate::{place, table};

/// One scenario's findings.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    data: Vec<Value>,
    notes: Vec<String>,
    /// Rows of those who cannot take part. They come last.
    absent: Vec<(Vec<String>, Value)>,
}

impl Report {
    pub(crate) fn new(name: &'static str, head: &[&'static str]) -> Report {
        Report {
            name,
            head: head.to_vec(),
            rows: Vec::new(),
            data: Vec::new(),
            notes: Vec::new(),
            absent: Vec::new(),
        }
    }

    /// One row, and the same for programs.
    pub(crate) fn add(&mut self, row: Vec<String>, data: Value) {
        eprintln!("   {}", row.join(" | "));
        self.rows.push(row);
        self.data.push(data);
    }

    /// A row without figures, for one that cannot take part.
    pub(crate) fn absent(&mut self, subject: &Subject, why: &str) {
        let cell = |column: &&str| match *column {
            "lock" => subject.who.label(),
            "settings" => subject.variant,
            "remarks" => why,
            _ => "–",
        };
        let row = self.head.iter().map(|column| cell(column).to_owned());
        let data = json!({ "who": who(subject), "remarks": why });
        self.absent.push((row.collect(), data));
    }

    /// A line of text above the table.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the table and writes the files.
    pub(crate) fn finish(mut self) -> Result<()> {
        for (row, data) in std::mem::take(&mut self.absent) {
            self.add(row, data);
        }
        let table = table::render(&self.head, &self.rows);
        let notes = self.notes.join("\n");
        let gap = if notes.is_empty() { "" } else { "\n\n" };
        println!("{notes}{gap}{table}");
        let json = json!({
            "scenario": self.name,
            "machine": place::machine(),
            "notes": self.notes,
            "rows": self.data,
        });
        fs::write(file(&format!("{}.json", self.name))?, format!("{json:#}\n"))?;
        let mut report = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file("report.md")?)?;
        write!(report, "\n## {}\n\n{notes}{gap}{table}\n", self.name)?;
        Ok(())
    }
}

/// Starts a new `report.md`.
pub(crate) fn begin(note: &str) -> Result<()> {
    let text = format!("# leasehold's benchmarks\n\n{}{note}\n", place::machine());
    fs::write(file("report.md")?, text).context("cannot write the report")
}

/// A file of the results.
pub(crate) fn file(name: &str) -> Result<PathBuf> {
    let directory = place::target()?.join("bench");
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory.join(name))
}

/// Milliseconds, in as many digits as mean something.
pub(crate) fn short_ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms >= 100.0 {
        format!("{ms:.0} ms")
    } else if ms >= 1.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.3} ms")
    }
}

/// Dollars for a million of something that was bought `count` times.
pub(crate) fn dollars_per_million(counts: &Counts, count: usize) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    (count > 0).then(|| counts.dollars() / count as f64 * 1e6)
}

/// Dollars for a table; a dash for nothing.
pub(crate) fn dollars(amount: Option<f64>) -> String {
    amount.map_or_else(|| "–".to_owned(), |amount| format!("${amount:.2}"))
}

/// Who, for programs.
pub(crate) fn who(subject: &Subject) -> Value {
    json!({
        "lock": subject.who.label(),
        "settings": subject.variant,
        "config": subject.settings,
    })
}

/// Counts, for programs.
pub(crate) fn counted(counts: &Counts) -> Value {
    json!({
        "requests": counts.requests(),
        "by_operation": counts.to_string(),
        "refused": counts.refused(),
        "write_units": counts.write_units(),
        "read_units": counts.read_units(),
        "dollars": counts.dollars(),
    })
}

/// Milliseconds for programs.
pub(crate) fn as_ms(time: Duration) -> Value {
    json!((time.as_secs_f64() * 1e6).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::who::Who;

    #[test]
    fn a_row_of_an_absent_subject_has_its_reason_and_no_figure() {
        let mut report = Report::new("x", &["round trip", "lock", "settings", "wall", "remarks"]);
        report.absent(&Subject::new(Who::Go, "5 ms", json!({})), "not to be had");
        let (row, data) = &report.absent[0];
        assert_eq!(
            row,
            &["–", "Go dynamolock 2.2.0", "5 ms", "–", "not to be had"]
        );
        assert_eq!(data["remarks"], "not to be had");
    }
}

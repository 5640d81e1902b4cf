//! What became of each mutant, as a line and as a table.

use std::fmt::{self, Write};

use crate::killers::KILLERS;
use crate::list::Mutant;

/// The longest account of a kill in the table.
const LONGEST: usize = 140;

/// How a mutant ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Seen, by whom, and in which words.
    Killed { by: &'static str, how: String },
    /// Nobody saw it.
    Survived,
    /// It does not compile, or a killer did not come to an answer.
    Undecided(anyhow::Error),
}

/// What became of a mutant.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) mutant: &'static Mutant,
    pub(crate) end: End,
    /// Builds and runs together.
    pub(crate) seconds: f64,
}

impl Fate {
    pub(crate) fn is_killed(&self) -> bool {
        matches!(self.end, End::Killed { .. })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, seconds) = (self.mutant.name, self.seconds);
        match &self.end {
            End::Killed { by, how } => write!(f, "{seconds:5.1} s  {name}: {by}: {how}"),
            End::Survived => write!(f, "{seconds:5.1} s  {name}: SURVIVED"),
            End::Undecided(why) => write!(f, "{seconds:5.1} s  {name}: UNDECIDED: {why}"),
        }
    }
}

/// The table for PROOF.md.
pub(crate) fn table(fates: &[Fate], prepared: f64, whole: f64) -> String {
    let mut text = String::from("| mutants | |\n|---|---|\n");
    let mut row = |name: &str, value: String| {
        text.push_str(&format!("| {name} | {value} |\n"));
    };
    let killed = fates.iter().filter(|fate| fate.is_killed()).count();
    row("killed", format!("{killed} of {}", fates.len()));
    for killer in KILLERS {
        let by = |fate: &&Fate| matches!(fate.end, End::Killed { by, .. } if by == killer.name);
        let count = fates.iter().filter(by).count();
        row(&format!("… by {}", killer.name), count.to_string());
    }
    row(
        "wall time",
        format!("{whole:.0} s, {prepared:.0} s of it for builds and the copy without a change"),
    );
    text.push_str("\n| mutant | file | what it breaks | killed by | how | s |\n");
    text.push_str("|---|---|---|---|---|---:|\n");
    for fate in fates {
        let mutant = fate.mutant;
        let (by, how) = match &fate.end {
            End::Killed { by, how } => (*by, cell(how)),
            End::Survived => ("**nothing**", String::new()),
            End::Undecided(why) => ("**undecided**", cell(&why.to_string())),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {by} | {} | {:.1} |",
            mutant.name,
            short(mutant.edits[0].file),
            mutant.breaks,
            how,
            fate.seconds
        );
    }
    text
}

/// The path without what all of them have.
fn short(file: &str) -> String {
    file.trim_start_matches("crates/").replacen("/src/", "/", 1)
}

/// A table's cell: one line, no bars, not too long.
fn cell(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

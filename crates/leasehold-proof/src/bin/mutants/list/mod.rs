//! The mutants: what text becomes what, and which rule that breaks.
//!
//! One file a room of the code. Each mutant is the smallest change that takes a rule away: a
//! conjunct of a condition, a clock, a side of a bound. Rules that are held twice on purpose (a
//! take-over compares owner, token and count, where the count alone would do) have a mutant for
//! each part all the same; those the contract suite has to see.
//!
//! Not in the list, because nothing that is promised breaks: what only matters once a clock breaks its
//! bounds (a stamp that contradicts the interval replaces it); what costs a request or a part of a
//! lease (without ALL_OLD a refusal is read up on; an older renewal that moves the deadline back).
//! Nor what ends in a loop without end, which is no kill: a head of the line beside the one there is.

mod client;
mod contest;
mod line;
mod stores;
mod time;
mod write;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One rule taken away.
#[derive(Debug)]
pub(crate) struct Mutant {
    /// Unique, for people and for `--only`.
    pub(crate) name: &'static str,
    /// One sentence: what no longer holds.
    pub(crate) breaks: &'static str,
    /// At least one.
    pub(crate) edits: &'static [Edit<'static>],
}

/// One change of text.
#[derive(Debug)]
pub(crate) struct Edit<'a> {
    /// From the root of the workspace.
    pub(crate) file: &'a str,
    /// Occurs exactly once.
    pub(crate) old: &'a str,
    /// Takes its place.
    pub(crate) new: &'a str,
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<&'static Mutant> {
    let parts = [
        write::MUTANTS,
        time::MUTANTS,
        contest::MUTANTS,
        client::MUTANTS,
        line::MUTANTS,
        stores::MUTANTS,
    ];
    parts.into_iter().flatten().collect()
}

/// Fails where the list has not kept up with the code, before anything is built.
pub(crate) fn check(mutants: &[&Mutant], root: &Path) -> Result<()> {
    let mut names = BTreeSet::new();
    let mut stale = Vec::new();
    for mutant in mutants {
        ensure!(names.insert(mutant.name), "two are called {}", mutant.name);
        ensure!(!mutant.edits.is_empty(), "{} changes nothing", mutant.name);
        for edit in mutant.edits {
            let text = std::fs::read_to_string(root.join(edit.file))
                .with_context(|| format!("{} of mutant `{}`", edit.file, mutant.name))?;
            if let Err(error) = edit.apply(&text) {
                stale.push(format!("mutant `{}`: {error}", mutant.name));
            }
        }
    }
    ensure!(stale.is_empty(), "{}", stale.join("\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_kept_up_with_the_code() {
        check(&all(), &crate::workspace()).expect("every text occurs once");
    }

    #[test]
    fn a_text_that_is_gone_is_named() {
        let gone = Edit {
            file: "Cargo.toml",
            old: "no such text",
            new: "",
        };
        let error = gone.apply("[workspace]").expect_err("it is gone");
        assert!(error.to_string().contains("occurs 0 times"), "{error}");
    }
}

//! The output of a run, and whether it counts: each fault must have happened.

use std::fmt::Write;

use super::campaign::Outcome;
use super::fault::Fault;

/// The table, in markdown: one column for each store.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, of: &dyn Fn(&Outcome) -> String| {
        let cells: Vec<String> = outcomes.iter().map(of).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("real processes, 4 each", &|o| o.store.to_owned());
    row("---", &|_| "---:".to_owned());
    row("seconds", &|o| format!("{:.0}", o.seconds));
    row("acquisitions, library", &|o| {
        o.totals.library_grants.to_string()
    });
    row("of them slots, and slots beside another", &|o| {
        format!("{}, {}", o.totals.slots, o.totals.beside)
    });
    row("acquisitions, `leasehold run`", &|o| {
        o.totals.command_grants.to_string()
    });
    row("writes accepted", &|o| o.totals.accepted.to_string());
    row(
        "writes refused (an unfenced resource would have taken them)",
        &|o| o.totals.refused.to_string(),
    );
    row("processes started", &|o| o.deeds.starts.to_string());
    row("SIGSTOP for longer than the lease", &|o| {
        o.deeds.stops.to_string()
    });
    row("SIGKILL", &|o| o.deeds.kills.to_string());
    row("started with a wrong wall clock", &|o| {
        o.deeds.clocks.to_string()
    });
    row("wall clock stepped", &|o| o.deeds.steps.to_string());
    row("wall clocks by", &|o| o.clocks.to_owned());
    row("partitions", &|o| o.deeds.partitions.to_string());
    row("requests", &|o| {
        o.counts
            .as_ref()
            .map_or("-".to_owned(), |c| c.requests().to_string())
    });
    for fault in Fault::ALL {
        row(fault.name(), &|o| {
            o.counts
                .as_ref()
                .map_or("-".to_owned(), |c| c.of(fault).to_string())
        });
    }
    row("how grants ended, library", &|o| listed(&o.totals.ends));
    row("errors of calls, library", &|o| listed(&o.totals.errors));
    row("exit codes of `leasehold run`", &|o| {
        let exits = o.deeds.exits.iter();
        let words: Vec<String> = exits.map(|(code, n)| format!("{n} x {code}")).collect();
        words.join(", ")
    });
    row("most of the history in memory", &|o| {
        o.remembered.to_string()
    });
    row("**violations**", &|o| o.violations.len().to_string());
    text
}

fn listed(counts: &std::collections::HashMap<String, u64>) -> String {
    let mut all: Vec<_> = counts.iter().collect();
    all.sort();
    let words: Vec<String> = all.iter().map(|(what, n)| format!("{n} {what}")).collect();
    words.join(", ")
}

/// What has to have happened, and has not.
pub(super) fn missing(outcome: &Outcome) -> Vec<String> {
    let mut wanted = vec![
        (
            "an acquisition by the library",
            outcome.totals.library_grants,
        ),
        (
            "an acquisition by `leasehold run`",
            outcome.totals.command_grants,
        ),
        ("a slot beside another", outcome.totals.beside),
        ("an accepted write", outcome.totals.accepted),
        ("a refused write", outcome.totals.refused),
        ("a SIGSTOP", outcome.deeds.stops),
        ("a SIGKILL", outcome.deeds.kills),
        ("a wrong wall clock", outcome.deeds.clocks),
    ];
    if outcome.clocks.starts_with("libfaketime") {
        wanted.push(("a step of a wall clock", outcome.deeds.steps));
    }
    if let Some(counts) = &outcome.counts {
        wanted.extend(Fault::ALL.map(|fault| (fault.name(), counts.of(fault))));
    }
    wanted
        .into_iter()
        .filter(|(_, times)| *times == 0)
        .map(|(what, _)| format!("{}: never happened: {what}", outcome.store))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            store: "DynamoDB Local",
            seconds: 1.0,
            totals: Default::default(),
            deeds: Default::default(),
            counts: Some(Arc::default()),
            violations: Default::default(),
            clocks: "libfaketime, all processes",
            remembered: 0,
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_proves_nothing() {
        let missing = missing(&outcome());
        assert_eq!(missing.len(), 9 + Fault::ALL.len(), "{missing:?}");
    }

    #[test]
    fn every_fault_has_its_row() {
        let table = table(&[outcome(), outcome()]);
        for fault in Fault::ALL {
            assert!(table.contains(&format!("| {} | 0 | 0 |", fault.name())));
        }
    }
}

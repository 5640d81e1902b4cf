//! `doctor`: checks the store and the way to it, and says what to do.
//!
//! It writes no lock record. Findings go to standard output.

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::finding::{Finding, Level};
use crate::store::{Place, own_failure};
use crate::verbs::list::print;

/// Checks everything, and prints each finding.
///
/// # Errors
///
/// When there is a problem, with the code of the first one: `run` would end with it.
pub(crate) fn doctor(args: DoctorArgs) -> Result<(), Failure> {
    let place = Place::resolve(args.store.store)?;
    let findings = place.runtime()?.block_on(place.examine());
    let mut text = String::new();
    for finding in &findings {
        if args.json {
            let line = serde_json::to_string(finding)
                .map_err(|error| own_failure("cannot write JSON", &error.into()))?;
            text.push_str(&line);
            text.push('\n');
        } else {
            text.push_str(&finding.lines());
        }
    }
    print(&text)?;
    match verdict(&findings) {
        Some(failure) => Err(failure.on(&place.location.to_string())),
        None => Ok(()),
    }
}

/// The failure to end with, if there is a problem.
fn verdict(findings: &[Finding]) -> Option<Failure> {
    let problems = || findings.iter().filter(|f| f.level == Level::Problem);
    let first = problems().next()?;
    let checks: Vec<_> = problems().map(|finding| finding.check).collect();
    let message = match checks.len() {
        1 => format!("1 problem: {}", checks.join(", ")),
        count => format!("{count} problems: {}", checks.join(", ")),
    };
    let failure = Failure::new(first.code, message);
    Some(match &first.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_codes;

    #[test]
    fn the_first_problem_gives_the_code_and_a_warning_gives_none() {
        let fine = [
            Finding::ok("clock", "right"),
            Finding::warning("ttl", "off", "turn it on"),
            Finding::unknown("backups", "no permission"),
        ];
        assert!(verdict(&fine).is_none());
        let denied = Failure::new(exit_codes::NO_PERMISSION, "denied").hint("allow it");
        let mut all = fine.to_vec();
        all.push(Finding::failed("permissions", denied));
        all.push(Finding::problem(
            "shape",
            "another key",
            "name another table",
        ));
        let failure = verdict(&all).expect("problems");
        assert_eq!(failure.code, exit_codes::NO_PERMISSION);
        assert_eq!(failure.message, "2 problems: permissions, shape");
        assert_eq!(failure.hint.as_deref(), Some("allow it"));
    }

    #[test]
    fn a_finding_is_a_line_and_a_hint() {
        let warning = Finding::warning("clock", "ahead\nby far", "`timedatectl`");
        assert_eq!(
            warning.lines(),
            "warning  clock        ahead\\nby far\n                      hint: `timedatectl`\n"
        );
    }
}

//! A finding of `doctor`: what was looked at, what was found, and what to do.

use std::fmt::Write as _;

use serde::Serialize;

#[cfg(any(feature = "dynamodb", test))]
use crate::exit_codes;
use crate::failure::Failure;
use crate::store::url::Location;
use crate::text::one_line;

/// How good a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It is as it should be, or a fact without a judgement.
    Ok,
    /// It could not be found out.
    Unknown,
    /// Locks work, but something may surprise later.
    Warning,
    /// `run` would fail, or locks would not be safe.
    Problem,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// The version of the JSON object. Fields may be added to it; a change of their meaning raises it.
const VERSION: u8 = 1;

/// One finding, also as a JSON object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    v: u8,
    /// The checked thing, one word.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// A lowercase fragment.
    pub(crate) found: String,
    /// The next command.
    pub(crate) hint: Option<String>,
    /// The exit code of `run` with this problem; 0 if it is none.
    pub(crate) code: u8,
}

impl Finding {
    fn new(check: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self {
            v: VERSION,
            check,
            level,
            found: found.into(),
            hint: None,
            code: 0,
        }
    }

    /// All is well.
    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, found)
    }

    /// It could not be found out.
    pub(crate) fn unknown(check: &'static str, why: impl AsRef<str>) -> Self {
        Self::new(
            check,
            Level::Unknown,
            format!("not known: {}", why.as_ref()),
        )
    }

    /// It may surprise later.
    pub(crate) fn warning(
        check: &'static str,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(check, Level::Warning, found).hint(hint)
    }

    /// Bad configuration.
    #[cfg(any(feature = "dynamodb", test))]
    pub(crate) fn problem(
        check: &'static str,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            code: exit_codes::CONFIG,
            ..Self::new(check, Level::Problem, found).hint(hint)
        }
    }

    /// The failure of a verb as a problem, with its exit code.
    pub(crate) fn failed(check: &'static str, failure: Failure) -> Self {
        Self {
            hint: failure.hint,
            code: failure.code,
            ..Self::new(check, Level::Problem, failure.message)
        }
    }

    /// The same with what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with the hint of this store.
    pub(crate) fn at(mut self, location: &Location) -> Self {
        if let Some(hint) = self.hint.take() {
            self.hint = Failure::new(self.code, "").hint(hint).at(location).hint;
        }
        self
    }

    /// For people: a line, and perhaps a line with the hint.
    pub(crate) fn lines(&self) -> String {
        let mut text = format!(
            "{:<8} {:<12} {}\n",
            self.level.word(),
            self.check,
            one_line(&self.found)
        );
        if let Some(hint) = &self.hint {
            let _infallible = writeln!(text, "{:<21} hint: {}", "", one_line(hint));
        }
        text
    }
}

//! A failure of `leasehold`: the message, the hint, and the exit code.
//!
//! Only this module maps kinds of errors to exit codes.

use std::error::Error as StdError;

use leasehold::store::StoreError;
use leasehold::{Error, ErrorKind};

use crate::exit_codes;
use crate::process::SpawnError;
use crate::store::url::Location;
use crate::text::quoted;

/// A message for standard error, and an exit code.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// A lowercase fragment without a full stop.
    pub(crate) message: String,
    /// What to change, with the exact command or setting.
    pub(crate) hint: Option<String>,
    /// The causes, nearest first; shown with `-v`.
    pub(crate) causes: Vec<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            causes: Vec::new(),
        }
    }

    /// The same with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same for this store: a file has no network to check.
    pub(crate) fn at(mut self, location: &Location) -> Self {
        if let (Some(NETWORK), Location::Sqlite { path }) = (self.hint.as_deref(), location) {
            self.hint = Some(format!(
                "check whether its disk answers: `ls -l {}`, `dmesg`",
                quoted(&path.to_string_lossy())
            ));
        }
        self
    }

    /// The same with the endpoint or region.
    pub(crate) fn on(mut self, way: &str) -> Self {
        self.message = format!("{} ({way})", self.message);
        self
    }

    /// The same with the name of the lock, if the message lacks it. An invalid command line has no lock.
    pub(crate) fn about(mut self, key: &str) -> Self {
        if self.code != exit_codes::USAGE && !self.message.contains(&format!("`{key}`")) {
            self.message = format!("`{key}`: {}", self.message);
        }
        self
    }

    /// The same for several locks, if the message names none of them.
    pub(crate) fn about_one_of(self, names: &[String]) -> Self {
        let named = |name: &String| self.message.contains(&format!("`{name}`"));
        match names.first() {
            Some(name) if !names.iter().any(named) => self.about(name),
            _ => self,
        }
    }

    fn caused_by(mut self, error: &dyn StdError) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            self.causes.push(error.to_string());
            cause = error.source();
        }
        self
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let failure = Failure::new(code(error.kind()), error.message()).caused_by(error);
        if let Some(done) = error.done() {
            let name = quoted(done.key());
            return failure.hint(format!(
                "use another name, or let the work run again: `leasehold forget {name}`, on the same store"
            ));
        }
        match error.hint().or(default_hint(error.kind())) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        (&error).into()
    }
}

/// A store that could not be opened.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let kind = ErrorKind::from(error.kind);
        let failure = Failure::new(code(kind), error.to_string()).caused_by(&error);
        match error.hint.as_deref().or(default_hint(kind)) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<&SpawnError> for Failure {
    fn from(error: &SpawnError) -> Self {
        let cause = error
            .source()
            .map_or_else(String::new, |cause| format!(": {cause}"));
        Failure::new(error.exit_code(), format!("{error}{cause}")).hint(error.hint())
    }
}

/// The code of a kind of error.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => exit_codes::USAGE,
        // A retry does not help with a malformed record, either: a person must inspect it.
        ErrorKind::Configuration | ErrorKind::Malformed => exit_codes::CONFIG,
        ErrorKind::AccessDenied | ErrorKind::Credentials => exit_codes::NO_PERMISSION,
        // The cause of "too late" is a slow store and no holder, so `-E` must not change it.
        ErrorKind::Unreachable
        | ErrorKind::Throttled
        | ErrorKind::TooLate
        | ErrorKind::Unexpected => exit_codes::UNAVAILABLE,
        ErrorKind::WaitExpired | ErrorKind::AlreadyDone => exit_codes::NOT_ACQUIRED,
        ErrorKind::Lost => exit_codes::LOST,
        // ShutDown comes from this program, and an unknown kind is a bug.
        _ => exit_codes::OWN_FAILURE,
    }
}

const NETWORK: &str = "check the endpoint, the region and the network, then try again";

/// The hint if the library gives none.
fn default_hint(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::InvalidInput => "see `leasehold --help`",
        ErrorKind::Unreachable => NETWORK,
        ErrorKind::Throttled => "try again later, or raise the table's capacity",
        ErrorKind::AccessDenied => "check your identity: `aws sts get-caller-identity`",
        ErrorKind::Credentials => {
            "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add `profile=…` to the store URL"
        }
        ErrorKind::Configuration => "check `--store` and LEASEHOLD_STORE",
        ErrorKind::Unexpected => "run it again with `-v`, and report the output",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c27_a_file_has_no_network() {
        let file = Location::Sqlite {
            path: "/var/lib/locks.db".into(),
        };
        let hint = |location| {
            let unreachable = Failure::new(exit_codes::UNAVAILABLE, "no answer").hint(NETWORK);
            unreachable.at(location).hint.expect("a hint")
        };
        assert!(hint(&file).contains("`ls -l /var/lib/locks.db`"));
        let table = Location::parse("dynamodb://locks".as_ref()).expect("a table");
        assert_eq!(hint(&table), NETWORK);
    }

    #[test]
    fn every_kind_of_error_has_its_code() {
        for (kind, expected) in [
            (ErrorKind::InvalidInput, 64),
            (ErrorKind::Configuration, 78),
            (ErrorKind::Malformed, 78),
            (ErrorKind::AccessDenied, 77),
            (ErrorKind::Credentials, 77),
            (ErrorKind::Unreachable, 69),
            (ErrorKind::Throttled, 69),
            (ErrorKind::TooLate, 69),
            (ErrorKind::Unexpected, 69),
            (ErrorKind::WaitExpired, 75),
            (ErrorKind::AlreadyDone, 75),
            (ErrorKind::Lost, 76),
            (ErrorKind::ShutDown, 125),
        ] {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
    }
}

//! The location of the locks, from `--store` and `LEASEHOLD_STORE`.
//!
//! `sqlite:PATH`, `dynamodb://TABLE[?PARAMETER=…&…]`, or by default the file in the user's state directory. This module only reads and writes the text. Invariant: the text of [`Location::url`]
//! is read back as the same location, from any directory, so that the command can get it in its
//! environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use super::keys::Keys;
use crate::text::quoted;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The parameters of `dynamodb://` URLs.
const PARAMETERS: &str = "`region`, `endpoint`, `profile`, and for its keys `key`, `sort`, `sort_value`, `sort_after`, `prefix`, `ttl` and `mrsc`";

/// The known schemes.
const SCHEMES: &str = "use `sqlite:PATH` or `dynamodb://TABLE[?region=…&endpoint=…&profile=…]`";

/// Characters that a parameter does not escape, because endpoints usually have them.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b':')
    .remove(b'/');

/// The longest name: that of a table's ARN.
const LONGEST_TABLE: usize = 1024;

/// The location of locks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    /// A file on this machine.
    Sqlite {
        /// Absolute, unless there is no current directory.
        path: PathBuf,
    },
    /// A table.
    DynamoDb(Box<Table>),
}

/// A DynamoDB table and how to reach it. The AWS defaults replace `None`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Table {
    /// Its name or ARN.
    pub(crate) name: String,
    /// The AWS region.
    pub(crate) region: Option<String>,
    /// Another endpoint than the region's, such as DynamoDB Local's.
    pub(crate) endpoint: Option<String>,
    /// A profile of the AWS configuration files.
    pub(crate) profile: Option<String>,
    /// Its keys.
    pub(crate) keys: Keys,
}

impl Table {
    /// The options by which the AWS CLI reaches it.
    pub(crate) fn aws_options(&self) -> String {
        let options = [
            ("region", &self.region),
            ("endpoint-url", &self.endpoint),
            ("profile", &self.profile),
        ];
        let given = options.into_iter().filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some(format!(" --{name} {}", quoted(value)))
        });
        given.collect()
    }

    /// A lock name for reads, whether or not there is such a lock.
    pub(crate) fn probe(&self) -> String {
        self.keys.name_of("leasehold", "doctor")
    }
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// A fragment for a message, and a `hint:` line with the valid forms.
    pub(crate) fn parse(url: &OsStr) -> Result<Location, String> {
        if let Some(path) = strip_prefix(url, "sqlite:") {
            return sqlite(path);
        }
        let Some(text) = url.to_str() else {
            return Err(format!("not a store URL\nhint: {SCHEMES}"));
        };
        if let Some(rest) = text.strip_prefix("dynamodb://") {
            return Ok(Location::DynamoDb(Box::new(dynamodb(rest)?)));
        }
        if text.is_empty() {
            return Err(format!(
                "the store URL is empty\nhint: {SCHEMES}, or omit it for the file in your state directory"
            ));
        }
        match text.split_once(':') {
            Some(("dynamodb", _)) => Err(format!("the table comes after `//`\nhint: {SCHEMES}")),
            Some((scheme, _)) if !scheme.contains('/') => {
                Err(format!("unknown store scheme `{scheme}`\nhint: {SCHEMES}"))
            }
            _ => Err(format!(
                "a store URL starts with its scheme\nhint: {SCHEMES}"
            )),
        }
    }

    /// The file in the user's state directory.
    ///
    /// # Errors
    ///
    /// A fragment for a message when there is no such directory.
    pub(crate) fn of_user() -> Result<Location, String> {
        // The XDG specification ignores relative paths.
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .ok_or(
                "no place for locks: neither XDG_STATE_HOME nor HOME is set to an absolute path",
            )?;
        file(state.join("leasehold/locks.db"))
    }

    /// A lock name for a test read, whether or not there is such a lock.
    pub(crate) fn probe(&self) -> String {
        match self {
            Location::Sqlite { .. } => Table::default().probe(),
            Location::DynamoDb(table) => table.probe(),
        }
    }

    /// As a URL.
    pub(crate) fn url(&self) -> OsString {
        match self {
            Location::Sqlite { path } => {
                let mut url = OsString::from("sqlite:");
                url.push(path);
                url
            }
            Location::DynamoDb(table) => table.to_string().into(),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url().to_string_lossy())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dynamodb://{}", self.name)?;
        let parameters = [
            ("region", &self.region),
            ("endpoint", &self.endpoint),
            ("profile", &self.profile),
        ];
        let mut mark = '?';
        for (name, value) in parameters.into_iter().chain(self.keys.parameters()) {
            if let Some(value) = value {
                write!(f, "{mark}{name}={}", utf8_percent_encode(value, PLAIN))?;
                mark = '&';
            }
        }
        Ok(())
    }
}

/// A path is not decoded: a file may have a `%` in its name, and need not be UTF-8. It must have no `?`,
/// which begins parameters, and a file has none. A `~/` before it means home: shells do not expand it
/// after `sqlite:`.
fn sqlite(path: OsString) -> Result<Location, String> {
    if path.is_empty() {
        return Err("the path of the lock file is missing\nhint: write `sqlite:PATH`".to_owned());
    }
    if path.to_string_lossy().starts_with([':']) || path.to_string_lossy().starts_with("file:") {
        return Err(
            "locks in memory or behind a SQLite URI cannot be shared between processes\nhint: write `sqlite:PATH` with the path of a file"
                .to_owned(),
        );
    }
    if let Some((file, parameter)) = path.to_string_lossy().split_once('?') {
        return Err(format!(
            "unknown store parameter `{}`\nhint: a SQLite file has none, and a file's name cannot have a `?`: write `sqlite:{file}`, or rename the file",
            parameter.split(['=', '&']).next().unwrap_or_default()
        ));
    }
    let path = from_home(PathBuf::from(path))?;
    // Without a current directory, the opening fails with its own error.
    let path = std::path::absolute(&path).unwrap_or(path);
    file(path).map_err(|message| format!("{message}\nhint: name a file elsewhere"))
}

/// Expands a `~` at the beginning, as a shell does.
fn from_home(path: PathBuf) -> Result<PathBuf, String> {
    let mut parts = path.components();
    match parts.next() {
        Some(Component::Normal(first)) if first == "~" => {
            let home = absolute("HOME").ok_or(
                "`~` has no meaning: HOME is not set to an absolute path\nhint: write the whole path",
            )?;
            Ok(home.join(parts.as_path()))
        }
        Some(Component::Normal(first)) if first.to_string_lossy().starts_with('~') => Err(format!(
            "the home of another user (`{}`) is not looked up\nhint: write the whole path, or `./~…` for a file of that name",
            first.display()
        )),
        _ => Ok(path),
    }
}

/// A variable with the path of a directory. A relative path is ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// A file, if [`Location::url`] can write its path.
fn file(path: PathBuf) -> Result<Location, String> {
    if path.to_string_lossy().contains('?') {
        return Err(format!(
            "the lock file `{}` is in a directory with a `?` in its name, which a store URL cannot contain",
            path.display()
        ));
    }
    Ok(Location::Sqlite { path })
}

fn dynamodb(rest: &str) -> Result<Table, String> {
    let (name, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
    let arn = name.starts_with("arn:");
    if name.is_empty() {
        return Err("the name of the table is missing\nhint: write `dynamodb://TABLE`".to_owned());
    }
    if !name.chars().all(known) || (!arn && name.contains([':', '/'])) || name.len() > LONGEST_TABLE
    {
        return Err(format!(
            "`{name}` is not the name of a table\nhint: it has letters, digits, `-`, `_` and `.`, or is the ARN of a table"
        ));
    }
    let mut table = Table {
        name: name.to_owned(),
        ..Table::default()
    };
    for parameter in parameters.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let place = match key {
            "region" => &mut table.region,
            "endpoint" => &mut table.endpoint,
            "profile" => &mut table.profile,
            _ => table.keys.place(key).ok_or_else(|| {
                format!(
                    "unknown store parameter `{key}`\nhint: a table has the parameters {PARAMETERS}"
                )
            })?,
        };
        let value = percent_decode_str(value).decode_utf8().map_err(|_| {
            format!("the store parameter `{key}` is not UTF-8\nhint: encode it as %XX")
        })?;
        if value.is_empty() {
            return Err(format!(
                "the store parameter `{key}` is empty\nhint: write `{key}=VALUE`, or omit it"
            ));
        }
        if place.replace(value.into_owned()).is_some() {
            return Err(format!(
                "the store parameter `{key}` is given twice\nhint: remove one"
            ));
        }
    }
    if let Some(endpoint) = &table.endpoint
        && !endpoint.starts_with("http://")
        && !endpoint.starts_with("https://")
    {
        return Err(format!(
            "the endpoint `{endpoint}` is not a URL\nhint: write `endpoint=https://…` or `endpoint=http://…`"
        ));
    }
    table.keys.check()?;
    Ok(table)
}

fn strip_prefix(url: &OsStr, prefix: &str) -> Option<OsString> {
    use std::os::unix::ffi::OsStrExt;
    let rest = url.as_bytes().strip_prefix(prefix.as_bytes())?;
    Some(OsStr::from_bytes(rest).to_owned())
}

/// Whether the file is missing. An inaccessible file counts as present: its opening reports the problem.
pub(crate) fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Location, String> {
        Location::parse(OsStr::new(url))
    }

    #[test]
    fn urls_are_read_back() {
        for url in [
            "sqlite:/var/lib/locks.db",
            "sqlite:/odd %41&=/locks.db",
            "dynamodb://locks",
            "dynamodb://locks?region=eu-west-1",
            "dynamodb://arn:aws:dynamodb:eu-west-1:123456789012:table/locks",
            "dynamodb://locks?region=local&endpoint=http://127.0.0.1:8000&profile=a%20b%26c",
            "dynamodb://shared?region=local&key=PK&sort=SK&sort_value=LOCK&prefix=LOCK%23&ttl=ttl",
            "dynamodb://shared?key=PK&sort=SK&sort_after=%23",
            "dynamodb://locks?mrsc=true",
        ] {
            let location = parse(url).expect(url);
            assert_eq!(location.url(), OsStr::new(url));
        }
    }

    #[test]
    fn parameters_are_decoded() {
        let Ok(Location::DynamoDb(table)) =
            parse("dynamodb://locks?profile=a%26b%3D%C3%A4&endpoint=http%3A%2F%2Flocalhost%3A8000")
        else {
            panic!("a table");
        };
        assert_eq!(table.profile.as_deref(), Some("a&b=ä"));
        assert_eq!(table.endpoint.as_deref(), Some("http://localhost:8000"));
    }

    #[test]
    fn relative_paths_become_absolute() {
        let Ok(Location::Sqlite { path }) = parse("sqlite:locks.db") else {
            panic!("a file");
        };
        assert!(path.is_absolute() && path.ends_with("locks.db"));
    }

    #[test]
    fn what_is_unknown_is_refused_with_what_is_known() {
        for (url, message) in [
            ("redis://x", "unknown store scheme `redis`"),
            ("locks.db", "starts with its scheme"),
            ("/tmp/a:b", "starts with its scheme"),
            ("", "is empty"),
            ("sqlite:", "path of the lock file is missing"),
            (
                "sqlite:/tmp/locks.db?mode=rw&x",
                "unknown store parameter `mode`",
            ),
            ("dynamodb:locks", "comes after `//`"),
            ("dynamodb://", "name of the table is missing"),
            ("dynamodb://lo cks", "not the name of a table"),
            ("dynamodb://locks/x", "not the name of a table"),
            (
                "dynamodb://locks?regoin=x",
                "unknown store parameter `regoin`",
            ),
            ("dynamodb://locks?region=", "`region` is empty"),
            ("dynamodb://locks?region", "`region` is empty"),
            ("dynamodb://locks?region=a&region=b", "given twice"),
            ("dynamodb://locks?profile=%FF", "not UTF-8"),
            ("dynamodb://locks?endpoint=localhost:8000", "not a URL"),
            ("dynamodb://locks?sort=SK", "the sort key has no value"),
            ("dynamodb://locks?sort_after=/", "the sort key has no name"),
            ("dynamodb://locks?sort_value=x", "the sort key has no name"),
            (
                "dynamodb://locks?sort=SK&sort_value=x&sort_after=/",
                "two values",
            ),
            (
                "dynamodb://locks?sort=SK&sort_after=::",
                "not one character",
            ),
            ("dynamodb://locks?key=", "`key` is empty"),
            ("dynamodb://locks?mrsc=yes", "`mrsc` is `yes`"),
        ] {
            let refused = parse(url).expect_err(url);
            assert!(refused.contains(message), "{url}: {refused}");
            assert!(refused.contains("\nhint: "), "{url}: {refused}");
        }
        assert!(
            parse("redis://x")
                .expect_err("unknown")
                .contains("`sqlite:PATH`")
        );
        assert!(
            parse("dynamodb://t?x=1")
                .expect_err("unknown")
                .contains(PARAMETERS)
        );
    }
}

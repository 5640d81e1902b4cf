//! Scripts whose interpreter is missing, found before the lock is acquired.
//!
//! The system reports a missing interpreter like a missing script. The first line shows the difference. A
//! carriage return at the end of that line, from a Windows editor, becomes an invisible part of the
//! interpreter's name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How many bytes of a first line Linux reads.
const FIRST_LINE: u64 = 256;

/// How many scripts Linux allows as interpreters of scripts.
const DEPTH: usize = 4;

/// A missing interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// The script that names it.
    pub(super) script: PathBuf,
    /// The interpreter in the first line.
    pub(super) interpreter: OsString,
}

impl Missing {
    /// Whether a Windows line break is the reason.
    pub(super) fn is_crlf(&self) -> bool {
        self.interpreter.as_bytes().ends_with(b"\r")
    }
}

/// The missing interpreter of `program`, if it is such a script. `find` searches the command's PATH for a name,
/// for `env`.
pub(super) fn missing(program: &Path, find: impl Fn(&OsStr) -> bool) -> Option<Missing> {
    let mut script = program.to_owned();
    for _ in 0..DEPTH {
        let (interpreter, argument) = first_line(&script)?;
        let lacks = |interpreter: &OsStr| {
            Some(Missing {
                script: script.clone(),
                interpreter: interpreter.to_owned(),
            })
        };
        let path = PathBuf::from(&interpreter);
        if !path.exists() {
            return lacks(&interpreter);
        }
        // `#!/usr/bin/env python3`. With options or settings, env decides.
        if path.file_name() == Some(OsStr::new("env"))
            && let Some(argument) = argument
            && !argument.as_bytes().starts_with(b"-")
            && !argument
                .as_bytes()
                .iter()
                .any(|byte| b"= \t/".contains(byte))
        {
            return if find(&argument) {
                None
            } else {
                lacks(&argument)
            };
        }
        script = path;
    }
    None
}

/// The interpreter and its argument, as Linux reads them. `None` if the file is no script or not readable.
fn first_line(script: &Path) -> Option<(OsString, Option<OsString>)> {
    let mut start = Vec::new();
    File::open(script)
        .ok()?
        .take(FIRST_LINE)
        .read_to_end(&mut start)
        .ok()?;
    let line = start.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?;
    let blank = |byte: &u8| b" \t".contains(byte);
    let line = trimmed(line);
    let end = line.iter().position(blank).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at_checked(end)?;
    if interpreter.is_empty() {
        return None;
    }
    let argument = trimmed(rest);
    let argument = (!argument.is_empty()).then(|| OsStr::from_bytes(argument).to_owned());
    Some((OsStr::from_bytes(interpreter).to_owned(), argument))
}

/// The text without blanks at both ends. A carriage return is no blank.
fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        for (line, lacks) in [
            ("#!/bin/sh\n", None),
            ("#! /bin/sh -e\n", None),
            ("#!/bin/sh", None),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!/no/such\n", Some("/no/such")),
            ("#!/no/such -x\r\n", Some("/no/such")),
            ("#!/usr/bin/env sh\n", None),
            ("#!/usr/bin/env sh\r\n", Some("sh\r")),
            ("#!/usr/bin/env absent\n", Some("absent")),
            ("#!/usr/bin/env -S absent\n", None),
            ("#!\n", None),
            ("echo\n", None),
            ("", None),
        ] {
            std::fs::write(&script, line).unwrap();
            let found = missing(&script, |name| name == "sh");
            let found = found.map(|missing| missing.interpreter);
            assert_eq!(found, lacks.map(OsString::from), "{line:?}");
        }
    }

    #[test]
    fn a_script_may_have_a_script_as_its_interpreter() {
        let directory = tempfile::tempdir().unwrap();
        let (outer, inner) = (
            directory.path().join("outer"),
            directory.path().join("inner"),
        );
        std::fs::write(&outer, format!("#!{}\n", inner.display())).unwrap();
        std::fs::write(&inner, "#!/no/such\n").unwrap();
        let found = missing(&outer, |_| true).unwrap();
        assert_eq!(found.script, inner);
    }
}

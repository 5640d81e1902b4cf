//! The names of a verb: one lock, or several that are held together.

use std::fmt;

use leasehold::Key;

use crate::exit_codes;
use crate::failure::Failure;

/// The locks of a verb.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// The one that is named first.
    pub(crate) first: Key,
    /// All of them, sorted, each once.
    pub(crate) all: Vec<Key>,
}

impl Keys {
    /// The locks with these names.
    ///
    /// # Errors
    ///
    /// 64, when no lock can have such a name, or not beside others.
    pub(crate) fn new(name: &str, more: &[String]) -> Result<Keys, Failure> {
        let first = key(name)?;
        let others = more.iter().map(|name| key(name));
        let mut all = others.collect::<Result<Vec<Key>, Failure>>()?;
        all.push(first.clone());
        all.sort();
        all.dedup();
        let is_line = |key: &Key| !key.contains(['\n', '\r']);
        if all.len() > 1 && !all.iter().all(is_line) {
            // Tokens and ids of several locks are lines.
            let message = "the name of one of several locks has a line break";
            return Err(Failure::new(exit_codes::USAGE, message).hint("give the lock another name"));
        }
        Ok(Keys { first, all })
    }

    /// Whether they are more than one.
    pub(crate) fn are_several(&self) -> bool {
        self.all.len() > 1
    }
}

/// For a message that has them in back quotes.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.all.iter().map(Key::as_str).collect();
        f.write_str(&names.join("`, `"))
    }
}

fn key(name: &str) -> Result<Key, Failure> {
    Key::new(name).map_err(|error| Failure::from(error).hint("give the lock another name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_count_once() {
        let more = ["c".to_owned(), "a".to_owned(), "c".to_owned()];
        let keys = Keys::new("b", &more).expect("names");
        assert_eq!(keys.first.as_str(), "b");
        assert_eq!(format!("`{keys}`"), "`a`, `b`, `c`");
        assert!(keys.are_several());
        let one = Keys::new("b", &["b".to_owned()]).expect("a name");
        assert_eq!((one.to_string().as_str(), one.are_several()), ("b", false));
    }

    #[test]
    fn a_line_break_is_for_a_lock_alone() {
        assert!(Keys::new("a\nb", &[]).is_ok());
        for (name, more) in [("a\nb", "c"), ("c", "a\rb")] {
            let failure = Keys::new(name, &[more.to_owned()]).expect_err("refused");
            assert_eq!(failure.code, exit_codes::USAGE);
        }
        let failure = Keys::new("c", &[String::new()]).expect_err("no name");
        assert_eq!(failure.code, exit_codes::USAGE);
    }
}

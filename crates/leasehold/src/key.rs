//! Keys: what is locked.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};

/// A valid key: a string of 1 to 1024 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key(Arc<str>);

impl Key {
    /// The longest key in bytes. DynamoDB allows 2048; the rest is reserved.
    pub const MAX_BYTES: usize = 1024;

    /// Checks a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when it is empty or longer than [`Key::MAX_BYTES`].
    pub fn new(key: &str) -> Result<Key, Error> {
        if key.is_empty() {
            let message = format!("the key is empty: a key has 1 to {} bytes", Key::MAX_BYTES);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_key(key));
        }
        if key.len() > Key::MAX_BYTES {
            let start: String = key.chars().take(40).collect();
            let message = format!(
                "the key `{start}…` has {} bytes, the maximum is {}: hash the long part of it",
                key.len(),
                Key::MAX_BYTES
            );
            // Only the start of the key, so that the error stays small.
            return Err(Error::new(ErrorKind::InvalidInput, message).with_key(&start));
        }
        Ok(Key(key.into()))
    }

    /// As a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

/// `&key` works where a `&str` is expected.
impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(key: &str) -> Result<Key, Error> {
        Key::new(key)
    }
}

impl TryFrom<&str> for Key {
    type Error = Error;

    fn try_from(key: &str) -> Result<Key, Error> {
        Key::new(key)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(key: String) -> Result<Key, Error> {
        Key::new(&key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_keys_is_asked_with_text() {
        let key = Key::new("k").expect("valid");
        let map = std::collections::HashMap::from([(key, 7)]);
        assert_eq!((map.get("k"), map.get("l")), (Some(&7), None));
    }

    #[test]
    fn the_bounds_are_bytes() {
        assert!(Key::new("k").is_ok());
        assert!(Key::new(&"ä".repeat(512)).is_ok());
        let long = Key::new(&"ä".repeat(513)).expect_err("too long");
        assert_eq!(long.kind(), ErrorKind::InvalidInput);
        assert!(long.to_string().contains("1026 bytes"));
        let empty = Key::new("").expect_err("empty");
        assert!(empty.to_string().contains("1 to 1024 bytes"));
    }
}

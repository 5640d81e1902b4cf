//! Results that are remembered.

use std::error::Error as StdError;

use crate::done::Done;
use crate::error::{Error, ErrorKind};

/// Why a result is no bytes, or bytes are no result.
type Cause = Box<dyn StdError + Send + Sync>;

/// A result that can be remembered. Keep it small: at most 900 bytes are kept, and on DynamoDB a record of
/// more than 1 KB doubles the price of a write.
pub trait OnceValue: Sized {
    /// The result as bytes.
    ///
    /// # Errors
    ///
    /// When it has no such form. The work is then remembered as done, without its result.
    fn to_bytes(&self) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>>;

    /// The result that these bytes are.
    ///
    /// # Errors
    ///
    /// When they are no such result.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Box<dyn StdError + Send + Sync>>;
}

impl OnceValue for () {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(Vec::new())
    }

    fn from_bytes(_: &[u8]) -> Result<Self, Cause> {
        Ok(())
    }
}

impl OnceValue for Vec<u8> {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.clone())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(bytes.to_vec())
    }
}

impl OnceValue for String {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(self.clone().into_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(String::from_utf8(bytes.to_vec())?)
    }
}

/// A result that is remembered as JSON.
#[cfg(feature = "serde")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Json<T>(pub T);

#[cfg(feature = "serde")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> OnceValue for Json<T> {
    fn to_bytes(&self) -> Result<Vec<u8>, Cause> {
        Ok(serde_json::to_vec(&self.0)?)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, Cause> {
        Ok(Json(serde_json::from_slice(bytes)?))
    }
}

impl Done {
    /// The result of the run.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) when the run failed, when its result was too large to be kept, or when
    /// it is no `T`.
    pub fn value<T: OnceValue>(&self) -> Result<T, Error> {
        let key = self.key();
        let problem = |problem: &str| {
            Error::new(ErrorKind::InvalidInput, format!("`{key}`: {problem}")).with_key(key)
        };
        let bytes = match self.result() {
            _ if self.is_failed() => return Err(problem("the remembered run failed")),
            None => return Err(problem("the result of the run was not kept")),
            Some(bytes) => bytes,
        };
        T::from_bytes(bytes).map_err(|cause| {
            problem("the remembered result is of another type")
                .with_hint("use one type of result for one key")
                .with_source(cause)
        })
    }
}

//! A store that changes some methods of another.

use async_trait::async_trait;

use crate::store::protocol::{Record, Write};
use crate::store::{Consistency, Hints, Outcome, Page, Reply, Store, StoreError};

/// The methods that a wrapper changes. The default of each one calls the inner store.
#[async_trait]
pub trait Wrap: Send + Sync + std::fmt::Debug + 'static {
    /// The inner store.
    fn inner(&self) -> &dyn Store;

    /// As [`Store::hints`].
    fn hints(&self) -> Hints {
        self.inner().hints()
    }

    /// As [`Store::write`].
    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.inner().write(write).await
    }

    /// As [`Store::read`].
    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.inner().read(key, consistency).await
    }

    /// As [`Store::list`].
    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.inner().list(prefix, after).await
    }
}

/// A wrapper as a store.
#[derive(Clone, Debug)]
pub struct Wrapped<W>(pub W);

#[async_trait]
impl<W: Wrap> Store for Wrapped<W> {
    fn describe(&self) -> String {
        self.0.inner().describe()
    }

    fn hints(&self) -> Hints {
        self.0.hints()
    }

    async fn write(&self, write: Write) -> Result<Reply<Outcome>, StoreError> {
        self.0.write(write).await
    }

    async fn read(
        &self,
        key: &str,
        consistency: Consistency,
    ) -> Result<Reply<Option<Record>>, StoreError> {
        self.0.read(key, consistency).await
    }

    async fn list(&self, prefix: &str, after: Option<String>) -> Result<Reply<Page>, StoreError> {
        self.0.list(prefix, after).await
    }
}

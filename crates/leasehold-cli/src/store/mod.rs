//! Opens the store of the locks, and makes its client.
//!
//! Only this module knows AWS. Invariant: parts that a verb does not need are not built. A SQLite file
//! needs no HTTP client, no TLS and no I/O driver; help needs none of this.

#[cfg(feature = "dynamodb")]
pub(crate) mod aws;
#[cfg(not(feature = "dynamodb"))]
#[path = "without_aws.rs"]
pub(crate) mod aws;
mod keys;
mod latency;
mod logging;
mod sqlite;
pub(crate) mod url;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leasehold::store::Store;
use leasehold::{LockClient, Policy};
use tokio::runtime::{Builder, Runtime};

use self::logging::Logging;
use crate::exit_codes;
use crate::failure::Failure;
use crate::finding::Finding;
use crate::messages::Messages;
use crate::panics;
use crate::process::in_thread;
use crate::store::url::{Location, Table, is_missing};
use crate::text::quoted;

/// The resolved location of the locks.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The location.
    pub(crate) location: Location,
    /// Whether it is the default in the user's state directory, which this program creates.
    of_user: bool,
    /// The endpoint or region of a table, when known; for messages.
    endpoint: OnceLock<String>,
}

impl Place {
    /// The named location, or the default one.
    ///
    /// # Errors
    ///
    /// When none was named and the user has no home directory.
    pub(crate) fn resolve(named: Option<Location>) -> Result<Place, Failure> {
        match named {
            Some(location) => Ok(Place {
                location,
                of_user: false,
                endpoint: OnceLock::new(),
            }),
            None => Ok(Place {
                location: Location::of_user().map_err(|message| {
                    Failure::new(exit_codes::CONFIG, message)
                        .hint("name one with `--store sqlite:PATH` or LEASEHOLD_STORE")
                })?,
                of_user: true,
                endpoint: OnceLock::new(),
            }),
        }
    }

    /// The lock file, if it does not exist yet: its opening would create it.
    pub(crate) fn missing_file(&self) -> Option<&Path> {
        match &self.location {
            Location::Sqlite { path } if is_missing(path) => Some(path),
            _ => None,
        }
    }

    /// A runtime on this thread with the drivers that the store needs.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a resource.
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        let mut builder = Builder::new_current_thread();
        match self.location {
            Location::Sqlite { .. } => builder.enable_time(),
            Location::DynamoDb(_) => builder.enable_all(),
        };
        builder
            .build()
            .map_err(|error| own_failure("cannot start an event loop", &error))
    }

    /// The store. A file is opened on a separate thread: another program may have it locked, and signals
    /// must still arrive. A table gets no request.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or the region of the table is unknown.
    pub(crate) async fn store(&self, messages: &Arc<Messages>) -> Result<Arc<dyn Store>, Failure> {
        let store: Arc<dyn Store> = match &self.location {
            Location::Sqlite { path } => {
                let (path, of_user) = (path.clone(), self.of_user);
                let opened = in_thread("open", move || sqlite::open(&path, of_user));
                let opened = opened
                    .await
                    .map_err(|error| own_failure("cannot open the lock file", &error))?;
                Arc::new(opened?.0)
            }
            Location::DynamoDb(table) => self.table(table).await?.store,
        };
        Ok(Arc::new(Logging::new(store, messages.clone())))
    }

    /// A client with this policy.
    ///
    /// # Errors
    ///
    /// As [`Place::store`].
    pub(crate) async fn client(
        &self,
        policy: Policy,
        messages: &Arc<Messages>,
    ) -> Result<LockClient, Failure> {
        let store = self.store(messages).await?;
        Ok(LockClient::builder(store).policy(policy).build())
    }

    /// Creates the file or the table if it is missing, and checks it. Returns whether it is new.
    ///
    /// # Errors
    ///
    /// When it cannot be created, or has the wrong schema.
    pub(crate) async fn create(&self) -> Result<bool, Failure> {
        match &self.location {
            Location::Sqlite { path } => Ok(sqlite::open(path, self.of_user)?.1),
            Location::DynamoDb(table) => {
                let opened = self.table(table).await?;
                let created = panics::caught(aws::create(&opened)).await;
                let created = created.map_err(|said| {
                    own_failure("cannot create the table", &io::Error::other(said))
                })?;
                created.map_err(|failure| self.explain(failure))
            }
        }
    }

    /// Deletes up to `most` records of the table whose retention ended so long ago, and returns a line about it.
    ///
    /// # Errors
    ///
    /// When the table cannot be read or written.
    pub(crate) async fn sweep(
        &self,
        table: &Table,
        older_than: Duration,
        most: u64,
    ) -> Result<String, Failure> {
        let opened = self.table(table).await?;
        let swept = aws::sweep(&opened, older_than, most).await;
        swept.map_err(|failure| self.explain(failure))
    }

    /// Whether it is a lock file that does not exist yet, but may.
    ///
    /// # Errors
    ///
    /// When there cannot be such a file.
    #[cfg(feature = "top")]
    pub(crate) fn is_empty(&self) -> Result<bool, Failure> {
        match &self.location {
            Location::Sqlite { path } if is_missing(path) => {
                // The default directory is created with the file.
                if !self.of_user {
                    leasehold::store::sqlite::SqliteStore::check_place(path)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Checks the store and the way to it, for `doctor`. It writes no lock record.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        let named = std::env::var_os("LEASEHOLD_STORE")
            .is_some_and(|url| Location::parse(&url).as_ref() == Ok(&self.location));
        let source = match (self.of_user, named) {
            (true, _) => "by default, for neither `--store` nor LEASEHOLD_STORE is given",
            (false, true) => "from LEASEHOLD_STORE",
            (false, false) => "from `--store`",
        };
        let store = Finding::ok("store", format!("{}, {source}", self.location));
        let found = match &self.location {
            Location::Sqlite { path } => sqlite::examine(path, self.of_user).await,
            Location::DynamoDb(table) => aws::examine(table).await,
        };
        let explained = found.into_iter().map(|finding| finding.at(&self.location));
        std::iter::once(store).chain(explained).collect()
    }

    async fn table(&self, table: &Table) -> Result<aws::Opened, Failure> {
        let opened = aws::open(table).await?;
        // The same table is reached the same way each time.
        let _first = self.endpoint.set(opened.endpoint.clone());
        Ok(opened)
    }

    /// ` --store URL` for a command in a hint, if the command needs it.
    pub(crate) fn option(&self) -> String {
        let environment = std::env::var_os("LEASEHOLD_STORE");
        if self.of_user
            || environment.is_some_and(|url| Location::parse(&url).as_ref() == Ok(&self.location))
        {
            return String::new();
        }
        format!(" --store {}", quoted(&self.location.to_string()))
    }

    /// A failure of the store, with its hint and the endpoint or region.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        let mut failure = failure.at(&self.location);
        let about_the_endpoint = [
            exit_codes::UNAVAILABLE,
            exit_codes::NO_PERMISSION,
            exit_codes::CONFIG,
        ];
        if let Some(endpoint) = self.endpoint.get()
            && about_the_endpoint.contains(&failure.code)
        {
            failure = failure.on(endpoint);
        }
        failure
    }
}

/// The operating system refused something that is not about locks.
pub(crate) fn own_failure(what: &str, error: &io::Error) -> Failure {
    Failure::new(exit_codes::OWN_FAILURE, format!("{what}: {error}"))
        .hint("check the limits of this process: `ulimit -a`")
}

//! Opening the place where the locks live, and the client of it.
//!
//! The only module that knows AWS. Invariant: what a verb does not need is not built: no HTTP client and no TLS for a SQLite file, no
//! I/O driver for it either, and nothing at all for help.

#[cfg(feature = "dynamodb")]
pub(crate) mod aws;
#[cfg(not(feature = "dynamodb"))]
#[path = "without_aws.rs"]
pub(crate) mod aws;
mod logging;
mod sqlite;
pub(crate) mod url;

use std::io;
use std::sync::{Arc, OnceLock};

use leasehold::store::Store;
use leasehold::{LockClient, Policy};
use tokio::runtime::{Builder, Runtime};

use self::logging::Logging;
use crate::exit_codes;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::panics;
use crate::store::url::{Location, Table};
use crate::text::quoted;

/// Where the locks live, with what was left to us decided.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The place.
    pub(crate) location: Location,
    /// Nobody named it: it is the user's own, and we look after its directory.
    of_user: bool,
    /// How a table is reached, once that is known; for messages.
    endpoint: OnceLock<String>,
}

impl Place {
    /// The place that was named, or the user's own.
    ///
    /// # Errors
    ///
    /// When none was named and the user has no home.
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

    /// A runtime on this thread with the drivers that the place needs.
    ///
    /// # Errors
    ///
    /// When the system refuses what an event loop needs.
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

    /// The store. A file is opened on a thread of its own: another program may have it locked, and signals are listened to meanwhile.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, or nobody says in which region the table is. Nothing is sent to a table yet.
    pub(crate) async fn store(&self, messages: &Arc<Messages>) -> Result<Arc<dyn Store>, Failure> {
        let store: Arc<dyn Store> = match &self.location {
            Location::Sqlite { path } => {
                let (path, of_user) = (path.clone(), self.of_user);
                let opened = tokio::task::spawn_blocking(move || sqlite::open(&path, of_user));
                let opened = opened.await.map_err(|error| {
                    own_failure("cannot open the lock file", &io::Error::other(error))
                })?;
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
    /// Those of [`Place::store`].
    pub(crate) async fn client(
        &self,
        policy: Policy,
        messages: &Arc<Messages>,
    ) -> Result<LockClient, Failure> {
        let store = self.store(messages).await?;
        Ok(LockClient::builder(store).policy(policy).build())
    }

    /// Creates the file or the table where it is missing, and checks what is there. Says whether it is new.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or has the wrong shape.
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

    async fn table(&self, table: &Table) -> Result<aws::Opened, Failure> {
        let opened = aws::open(table).await?;
        // The same table is reached the same way each time.
        let _first = self.endpoint.set(opened.endpoint.clone());
        Ok(opened)
    }

    /// ` --store URL` for a command in a hint, where it would not find the place by itself.
    pub(crate) fn option(&self) -> String {
        let environment = std::env::var_os("LEASEHOLD_STORE");
        if self.of_user
            || environment.is_some_and(|url| Location::parse(&url).as_ref() == Ok(&self.location))
        {
            return String::new();
        }
        format!(" --store {}", quoted(&self.location.to_string()))
    }

    /// A failure of the store with what only we know: the whole URL, and the endpoint or region.
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

/// The system refused something that has nothing to do with locks.
pub(crate) fn own_failure(what: &str, error: &io::Error) -> Failure {
    Failure::new(exit_codes::OWN_FAILURE, format!("{what}: {error}"))
        .hint("look at the limits of this process: `ulimit -a`")
}

//! Opening the place where the locks live, and the client of it.
//!
//! The only room that knows AWS. Invariant: what a verb does not need is not built: no HTTP client and no TLS for a SQLite file, no
//! I/O driver for it either, and nothing at all for help.

mod credentials;
mod dynamodb;
mod http;
mod narrated;
mod settings;
mod sqlite;

use std::io;
use std::sync::{Arc, OnceLock};

use leasehold::store::Store;
use leasehold::store::dynamodb::{Created, DynamoDbStore};
use leasehold::{LockClient, Policy};
use tokio::runtime::{Builder, Runtime};

use self::narrated::Narrated;
use crate::exit_codes;
use crate::failure::Failure;
use crate::location::{Location, Table};
use crate::panics;
use crate::text::quoted;
use crate::voice::Voice;

/// Where the locks live, with what was left to us decided.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The place.
    pub(crate) location: Location,
    /// Nobody named it: it is the user's own, and we look after its directory.
    of_user: bool,
    /// How a table is reached, once that is known; for messages.
    way: OnceLock<String>,
}

impl Site {
    /// The place that was named, or the user's own.
    ///
    /// # Errors
    ///
    /// When none was named and the user has no home.
    pub(crate) fn resolve(named: Option<Location>) -> Result<Site, Failure> {
        match named {
            Some(location) => Ok(Site {
                location,
                of_user: false,
                way: OnceLock::new(),
            }),
            None => Ok(Site {
                location: Location::of_user().map_err(|message| {
                    Failure::new(exit_codes::CONFIG, message)
                        .hint("name one with `--store sqlite:PATH` or LEASEHOLD_STORE")
                })?,
                of_user: true,
                way: OnceLock::new(),
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
    pub(crate) async fn store(&self, voice: &Arc<Voice>) -> Result<Arc<dyn Store>, Failure> {
        let store: Arc<dyn Store> = match &self.location {
            Location::Sqlite { path } => {
                let (path, of_user) = (path.clone(), self.of_user);
                let opened = tokio::task::spawn_blocking(move || sqlite::open(&path, of_user));
                let opened = opened.await.map_err(|error| {
                    own_failure("cannot open the lock file", &io::Error::other(error))
                })?;
                Arc::new(opened?.0)
            }
            Location::DynamoDb(table) => Arc::new(self.table(table).await?),
        };
        Ok(Arc::new(Narrated::new(store, voice.clone())))
    }

    /// A client with this policy.
    ///
    /// # Errors
    ///
    /// Those of [`Site::store`].
    pub(crate) async fn client(
        &self,
        policy: Policy,
        voice: &Arc<Voice>,
    ) -> Result<LockClient, Failure> {
        let store = self.store(voice).await?;
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
                let store = self.table(table).await?;
                let created = panics::caught(store.create_table()).await;
                let created = created.map_err(|said| {
                    own_failure("cannot create the table", &io::Error::other(said))
                })?;
                let created = created.map_err(|error| self.told(error.into()))?;
                Ok(created == Created::New)
            }
        }
    }

    async fn table(&self, table: &Table) -> Result<DynamoDbStore, Failure> {
        let opened = dynamodb::open(table).await?;
        // The same table is reached the same way each time.
        let _first = self.way.set(opened.way);
        Ok(opened.store)
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
    pub(crate) fn told(&self, failure: Failure) -> Failure {
        let mut failure = failure.at(&self.location);
        let about_the_way = [
            exit_codes::UNAVAILABLE,
            exit_codes::NO_PERMISSION,
            exit_codes::CONFIG,
        ];
        if let Some(way) = self.way.get()
            && about_the_way.contains(&failure.code)
        {
            failure = failure.on(way);
        }
        failure
    }
}

/// The system refused something that has nothing to do with locks.
pub(crate) fn own_failure(what: &str, error: &io::Error) -> Failure {
    Failure::new(exit_codes::OWN_FAILURE, format!("{what}: {error}"))
        .hint("look at the limits of this process: `ulimit -a`")
}

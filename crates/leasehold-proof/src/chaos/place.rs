//! Where the locks of a fleet live: a SQLite file, or a table on DynamoDB Local.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use leasehold::store::Store;
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::sqlite::SqliteStore;

const REGION: &str = "eu-west-1";

/// A store. Its text is a store URL of the command line, which all processes get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Sqlite { path: PathBuf },
    DynamoDb { table: String, endpoint: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Sqlite { path } => write!(f, "sqlite:{}", path.display()),
            Place::DynamoDb { table, endpoint } => {
                write!(f, "dynamodb://{table}?region={REGION}&endpoint={endpoint}")
            }
        }
    }
}

impl Place {
    /// Reads what [`Place`] is as text.
    pub(super) fn parse(text: &str) -> Result<Place> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return Ok(Place::Sqlite { path: path.into() });
        }
        let rest = text
            .strip_prefix("dynamodb://")
            .with_context(|| format!("not a store: {text:?}"))?;
        match rest.split_once(&format!("?region={REGION}&endpoint=")) {
            Some((table, endpoint)) => Ok(Place::DynamoDb {
                table: table.to_owned(),
                endpoint: endpoint.to_owned(),
            }),
            None => bail!("not a store: {text:?}"),
        }
    }

    /// Opens it.
    pub(super) fn open(&self) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Place::Sqlite { path } => Arc::new(SqliteStore::open(path)?),
            Place::DynamoDb { table, endpoint } => {
                Arc::new(DynamoDbStore::new(client(endpoint), table.as_str()))
            }
        })
    }
}

/// A client of DynamoDB Local, or of a proxy in front of it.
pub(super) fn client(endpoint: &str) -> Client {
    Client::from_conf(
        aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_a_round_trip() {
        for place in [
            Place::Sqlite {
                path: "/tmp/x y.db".into(),
            },
            Place::DynamoDb {
                table: "t".to_owned(),
                endpoint: "http://127.0.0.1:8000".to_owned(),
            },
        ] {
            assert_eq!(Place::parse(&place.to_string()).expect("its own"), place);
        }
        Place::parse("redis://x").expect_err("unknown");
    }
}

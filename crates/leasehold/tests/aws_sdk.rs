//! What the AWS SDK cannot send, and answers that are not DynamoDB's: one error that says what is wrong, at once, with its effect.

use crate::support::http::{Say, error, serve};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Config, Credentials, Region};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use leasehold::store::dynamodb::DynamoDbStore;
use leasehold::store::{Store, StoreErrorKind};
use leasehold::{Effect, Error, ErrorKind, LockClient};
use leasehold_protocol::attempt::AttemptId;
use leasehold_protocol::write::{Left, Write};

/// A client that works, at an address where nobody is.
fn config() -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url("http://127.0.0.1:9")
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
}

async fn refused(config: Builder) -> Error {
    let store = DynamoDbStore::new(Client::from_conf(config.build()), "locks");
    let client = LockClient::new(store);
    let error = client.acquire("k").await.expect_err("cannot work");
    // Nothing goes on in the background.
    assert_eq!(client.usage().requests, 1, "{error:?}");
    error
}

#[tokio::test]
async fn c6_a_panic_of_the_sdk_is_one_error_that_says_so() {
    let credentials = Credentials::new("one\ntwo", "test", None, None, "test");
    let error = refused(config().credentials_provider(credentials)).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("panicked"), "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("credentials"))
    );
    // The control plane, too.
    let credentials = Credentials::new("one\ntwo", "test", None, None, "test");
    let config = config().credentials_provider(credentials).build();
    let store = DynamoDbStore::new(Client::from_conf(config), "locks");
    let error = Error::from(store.create_table().await.expect_err("cannot work"));
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
}

#[tokio::test]
async fn c6_a_header_that_cannot_be_sent_is_told() {
    let token = Some("one\ntwo".to_owned());
    let credentials = Credentials::new("test", "test", token, None, "test");
    let error = refused(config().credentials_provider(credentials)).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("header value"), "{error}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("line breaks"))
    );
}

#[tokio::test]
async fn c7_an_endpoint_and_a_region_that_cannot_be_one_are_told() {
    for config in [
        config().endpoint_url(""),
        config().endpoint_url("localhost:8000"),
        config().region(Region::new("one\ntwo")),
        config().region(Region::new("")),
    ] {
        let error = refused(config).await;
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
        assert_eq!(error.effect(), Effect::NotApplied);
        assert!(error.hint().is_some_and(|hint| hint.contains("region")));
    }
}

#[tokio::test]
async fn c9_a_failure_of_tls_is_told_at_once_and_nothing_was_sent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // It speaks no TLS.
            let _written = std::io::Write::write_all(&mut stream, b"220 hello\r\n");
        }
    });
    let tls = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let endpoint = format!("https://{address}");
    let error = refused(config().http_client(tls).endpoint_url(endpoint)).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    assert_eq!(error.effect(), Effect::NotApplied);
    assert!(error.message().contains("no TLS connection"), "{error}");
}

#[tokio::test]
async fn c20_an_answer_that_is_not_dynamodbs_is_told_with_its_status() {
    for (status, kind, effect) in [
        (403, ErrorKind::Configuration, Effect::NotApplied),
        (301, ErrorKind::Configuration, Effect::NotApplied),
        (503, ErrorKind::Unreachable, Effect::Unknown),
        // Whoever wrote the page may have passed the request on.
        (200, ErrorKind::Configuration, Effect::Unknown),
    ] {
        let server =
            serve(move |_| Say::Answer(status, "<p>Please <b>log in</b></p>".into())).await;
        let client = config().endpoint_url(&server.endpoint).build();
        let store = DynamoDbStore::new(Client::from_conf(client), "locks");
        let error = LockClient::new(store).try_acquire("k").await;
        let error = error.expect_err("no lock");
        assert_eq!((error.kind(), error.effect()), (kind, effect), "{error:?}");
        assert_eq!(error.status(), Some(status));
        let told = format!("status {status}, \"Please log in\"");
        assert!(error.message().contains(&told), "{error}");
    }
}

#[tokio::test]
async fn c27_a_message_is_one_line_whatever_a_key_is() {
    let error = {
        let store = DynamoDbStore::new(
            Client::from_conf(config().endpoint_url("").build()),
            "locks",
        );
        let client = LockClient::new(store);
        client
            .acquire("one\nleasehold: two")
            .await
            .expect_err("cannot work")
    };
    assert!(!error.to_string().contains('\n'), "{error}");
    assert!(
        error.message().contains("`one\\nleasehold: two`"),
        "{error}"
    );
    assert_eq!(error.key(), Some("one\nleasehold: two"));
}

/// The error of one write, which no retry follows.
async fn error_of(endpoint: &str) -> leasehold::store::StoreError {
    let client = config().endpoint_url(endpoint).build();
    let store = DynamoDbStore::new(Client::from_conf(client), "locks");
    let release = Write::Release {
        left: Left::Nothing,
        held: None,
        key: "k".into(),
        attempt: AttemptId::from_random([1; 16]),
        token: None,
        passed: Vec::new(),
        ttl_seconds: None,
    };
    store
        .write(release)
        .await
        .expect_err("no answer of a store")
}

#[tokio::test]
async fn every_answer_is_told_by_kind_and_effect() {
    use Effect::{NotApplied, Unknown};
    use StoreErrorKind::{
        AccessDenied, Configuration, Conflict, Credentials, InvalidInput, Other, Throttled,
        Unavailable,
    };
    let page = |status| Say::Answer(status, "<p>1 > 0</p>".to_owned());
    let coded = |status, code| error(status, code, "because");
    for (say, kind, effect, words) in [
        (page(429), Throttled, NotApplied, "status 429, \"1 > 0\""),
        (page(408), Unavailable, Unknown, "status 408"),
        (page(500), Unavailable, Unknown, "status 500"),
        (page(299), Configuration, Unknown, "status 299"),
        (page(300), Configuration, NotApplied, "status 300"),
        (page(404), Configuration, NotApplied, "status 404"),
        (
            coded(400, "RequestLimitExceeded"),
            Throttled,
            NotApplied,
            "because",
        ),
        (
            coded(400, "ThrottlingException"),
            Throttled,
            NotApplied,
            "because",
        ),
        (
            coded(400, "TransactionInProgressException"),
            Conflict,
            NotApplied,
            "because",
        ),
        (
            coded(400, "TransactionConflictException"),
            Conflict,
            NotApplied,
            "because",
        ),
        (
            coded(400, "ResourceNotFoundException"),
            Configuration,
            NotApplied,
            "does not exist",
        ),
        (
            coded(400, "ValidationException"),
            InvalidInput,
            NotApplied,
            "because",
        ),
        (
            coded(400, "NotAuthorized"),
            AccessDenied,
            NotApplied,
            "because",
        ),
        (
            coded(400, "RequestExpired"),
            Credentials,
            NotApplied,
            "because",
        ),
        (coded(400, "SomethingNew"), Other, NotApplied, "because"),
        (coded(429, "SomethingNew"), Throttled, NotApplied, "because"),
        (coded(500, "SomethingNew"), Unavailable, Unknown, "because"),
        (Say::Close, Unavailable, Unknown, "the connection broke"),
    ] {
        let shown = format!("{say:?}");
        let server = serve(move |_| say.clone()).await;
        let told = error_of(&server.endpoint).await;
        assert_eq!((told.kind, told.effect), (kind, effect), "{shown}: {told}");
        assert!(told.message.contains(words), "{shown}: {told}");
    }
    // Nobody listens.
    let told = error_of("http://127.0.0.1:9").await;
    assert_eq!((told.kind, told.effect), (Unavailable, NotApplied));
    assert!(told.message.contains("cannot connect"), "{told}");
}

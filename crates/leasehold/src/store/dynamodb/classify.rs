//! The classification of the SDK's failures.
//!
//! The protocol needs two facts: whether the write may have been applied, and whether a retry may
//! succeed. An uncertain write counts as "may have been applied".

use std::collections::HashMap;
use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::RequestId;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;

use super::sending::{Panicked, Sending};
use super::shape::Table;
use crate::error::Effect;
use crate::store::{StoreError, StoreErrorKind};

/// Whether a condition did not hold.
pub(super) enum Refusal<'a> {
    /// The condition did not hold; this is the current item.
    With(&'a HashMap<String, AttributeValue>),
    /// The condition did not hold; the answer does not show the item.
    Bare,
    /// Another failure.
    None,
}

/// The errors of conditional writes.
pub(super) trait Conditional {
    fn refusal(&self) -> Refusal<'_>;
}

impl Conditional for UpdateItemError {
    fn refusal(&self) -> Refusal<'_> {
        match self {
            Self::ConditionalCheckFailedException(refused) => shown(refused),
            _ => Refusal::None,
        }
    }
}

impl Conditional for DeleteItemError {
    fn refusal(&self) -> Refusal<'_> {
        match self {
            Self::ConditionalCheckFailedException(refused) => shown(refused),
            _ => Refusal::None,
        }
    }
}

fn shown(refused: &ConditionalCheckFailedException) -> Refusal<'_> {
    refused.item().map_or(Refusal::Bare, Refusal::With)
}

/// The meaning of a failed read, which never writes.
pub(super) fn read_failure<E>(error: SdkError<E>, table: &Table, sending: &Sending) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    StoreError {
        effect: Effect::NotApplied,
        ..failure(error, table, sending)
    }
}

/// The meaning of a failed write.
pub(super) fn failure<E>(error: SdkError<E>, table: &Table, sending: &Sending) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let raw = error.raw_response();
    let status = raw.map(|raw| raw.status().as_u16());
    let request_id = error.request_id().map(str::to_owned);
    let body = raw.and_then(|raw| raw.body().bytes()).unwrap_or_default();
    let (kind, effect, what, hint) = match &error {
        _ if !sending.sent() => not_sent(&error),
        SdkError::ServiceError(service) if service.err().code().is_some() => {
            service_error(service.err(), status.unwrap_or(0), table, sending.action())
        }
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            foreign(status.unwrap_or(0), body, &error)
        }
        SdkError::DispatchFailure(_) => not_connected(&error)
            .unwrap_or_else(|| lost(format!("the connection broke: {}", root_cause(&error)))),
        SdkError::TimeoutError(_) => lost("no answer in time".to_owned()),
        _ => lost(root_cause(&error)),
    };
    StoreError {
        kind,
        effect,
        message: format!("dynamodb table `{}`: {what}", table.name),
        hint,
        status,
        request_id,
        stamp: sending.stamp(),
        source: Some(Box::new(SourceChain(
            format!("{error:?}"),
            root_cause(&error),
        ))),
    }
}

type Classified = (StoreErrorKind, Effect, String, Option<String>);

fn lost(what: String) -> Classified {
    (StoreErrorKind::Unavailable, Effect::Unknown, what, None)
}

const ODD_VALUES: &str = "look for line breaks and empty values in credentials, region, endpoint, AWS_EXECUTION_ENV and the table's name";

/// The request never left this process: settings or credentials.
fn not_sent(error: &(dyn StdError + 'static)) -> Classified {
    let (kind, what, hint) = if causes(error).any(|cause| cause.is::<Panicked>()) {
        (
            StoreErrorKind::Configuration,
            format!(
                "the AWS SDK cannot make the request, it panicked: {}",
                root_cause(error)
            ),
            ODD_VALUES.to_owned(),
        )
    } else if is_about_the_endpoint(error) {
        (
            StoreErrorKind::Configuration,
            format!("no endpoint: {}", root_cause(error)),
            "set AWS_REGION or the client's region to one such as `eu-west-1`, and give an endpoint with its scheme".to_owned(),
        )
    } else if matches_any(error, &["timeout", "timed out"]) || is_about_identity(error) {
        // Before a request is sent, the SDK only waits for credentials.
        (
            StoreErrorKind::Credentials,
            format!("no usable AWS credentials: {}", root_cause(error)),
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run on a role"
                .to_owned(),
        )
    } else {
        (
            StoreErrorKind::Configuration,
            format!("the request cannot be made: {}", root_cause(error)),
            ODD_VALUES.to_owned(),
        )
    };
    (kind, Effect::NotApplied, what, Some(hint))
}

/// The failure to connect, so that nothing was sent; `None` if there was a connection.
fn not_connected(error: &(dyn StdError + 'static)) -> Option<Classified> {
    use std::io::ErrorKind as Io;
    // The types of the HTTP client are not public, so this searches their text.
    if matches_any(error, &["tls handshake failed", "invalid peer certificate"]) {
        return Some((
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            format!("no TLS connection: {}", root_cause(error)),
            Some(
                "correct the endpoint, or trust who signed its certificate: install that certificate on this host, or name its file \
                 in AWS_CA_BUNDLE, which the `leasehold` command reads"
                    .to_owned(),
            ),
        ));
    }
    // Other errors, such as an unreachable host, may also end a connection after the send.
    let refused = causes(error).any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == Io::ConnectionRefused)
    });
    let signs = [
        "client error (connect)",
        "dns error",
        "tcp connect error",
        "unsupported scheme",
    ];
    (refused || matches_any(error, &signs)).then(|| {
        (
            StoreErrorKind::Unavailable,
            Effect::NotApplied,
            format!("cannot connect: {}", root_cause(error)),
            Some("check the endpoint, the region, the proxy and the network".to_owned()),
        )
    })
}

/// An answer that does not come from DynamoDB, but from a proxy or another server.
fn foreign(status: u16, body: &[u8], error: &(dyn StdError + 'static)) -> Classified {
    let words = first_words(body);
    let what = if words.is_empty() {
        format!(
            "the answer is not DynamoDB's: status {status}, {}",
            root_cause(error)
        )
    } else {
        format!("the answer is not DynamoDB's: status {status}, \"{words}\"")
    };
    match status {
        429 => (StoreErrorKind::Throttled, Effect::NotApplied, what, None),
        // A proxy with a time-out may have passed the request on.
        408 | 500.. => (
            StoreErrorKind::Unavailable,
            Effect::Unknown,
            what,
            Some("ask who runs the proxy or the endpoint, or try again later".to_owned()),
        ),
        _ => (
            StoreErrorKind::Configuration,
            // Such an answer refuses or redirects the request. A success status may be a real success.
            if status < 300 {
                Effect::Unknown
            } else {
                Effect::NotApplied
            },
            what,
            Some("check the endpoint, and HTTPS_PROXY, HTTP_PROXY and NO_PROXY: another server than DynamoDB answers".to_owned()),
        ),
    }
}

/// The first words of a page, without its markup.
fn first_words(body: &[u8]) -> String {
    const LONGEST: usize = 80;
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    let mut words = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                words.push(' ');
            }
            c if !inside => words.push(if c.is_control() { ' ' } else { c }),
            _ => {}
        }
    }
    let words: Vec<_> = words.split_whitespace().collect();
    let words = words.join(" ");
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

fn is_about_the_endpoint(error: &(dyn StdError + 'static)) -> bool {
    matches_any(
        error,
        &[
            "resolveendpoint",
            "missing region",
            "invalid value for field",
        ],
    )
}

fn is_about_identity(error: &(dyn StdError + 'static)) -> bool {
    matches_any(
        error,
        &["credential", "identity", "authscheme", "auth scheme"],
    )
}

fn service_error(error: &dyn Described, status: u16, table: &Table, action: &str) -> Classified {
    let (code, message) = (error.error_code(), error.error_message());
    let (table, shape, url) = (&table.name, &table.shape, &table.url);
    let what = format!("{code}: {message}");
    let not_applied = |kind, hint: Option<String>| (kind, Effect::NotApplied, what.clone(), hint);
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => not_applied(
            StoreErrorKind::Throttled,
            Some(format!(
                "raise the capacity of table `{table}` or wait with a longer `check_delay`"
            )),
        ),
        "TransactionConflictException"
        | "ReplicatedWriteConflictException"
        | "TransactionInProgressException" => not_applied(StoreErrorKind::Conflict, None),
        "ResourceNotFoundException" => (
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            "the table does not exist".to_owned(),
            Some(format!(
                "create it with `leasehold init --store {url}`, or correct the table name or the region"
            )),
        ),
        "ValidationException" if is_about_the_shape(message) => (
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            format!(
                "the table has another key schema than {}: {message}",
                shape.key_schema()
            ),
            Some(
                "name the keys of the table (`TableShape`, or `key=` and `sort=` in the store URL), or use another \
                 table: `leasehold init` creates one"
                    .to_owned(),
            ),
        ),
        "ValidationException" => not_applied(
            StoreErrorKind::InvalidInput,
            Some("the record may be too large: make key, label or payload shorter".to_owned()),
        ),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => not_applied(
            StoreErrorKind::AccessDenied,
            Some(match action {
                "UpdateItem" | "GetItem" | "DeleteItem" | "Scan" | "Query" => format!(
                    "allow dynamodb:UpdateItem, GetItem, DeleteItem, Scan and Query on table `{table}`"
                ),
                other => format!("allow dynamodb:{other} on table `{table}`"),
            }),
        ),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "SignatureDoesNotMatch" => not_applied(
            StoreErrorKind::Credentials,
            Some("renew the AWS credentials, and check this host's clock".to_owned()),
        ),
        _ if status == 429 => not_applied(StoreErrorKind::Throttled, None),
        _ if status >= 500 => (StoreErrorKind::Unavailable, Effect::Unknown, what, None),
        _ => not_applied(StoreErrorKind::Other, None),
    }
}

fn is_about_the_shape(message: &str) -> bool {
    [
        "key element does not match the schema",
        "number of conditions on the keys is invalid",
        "Missing the key",
        "required keys was not given",
        "Type mismatch for key",
        "key schema",
        "Cannot update attribute",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

/// Code and message of any operation's error.
trait Described {
    fn error_code(&self) -> &str;
    fn error_message(&self) -> &str;
}

impl<E: ProvideErrorMetadata> Described for E {
    fn error_code(&self) -> &str {
        self.code().unwrap_or("unknown error")
    }

    fn error_message(&self) -> &str {
        self.message().unwrap_or("no message")
    }
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// Whether the text of one of the causes contains one of `signs`, in lower case.
fn matches_any(error: &(dyn StdError + 'static), signs: &[&str]) -> bool {
    causes(error).any(|cause| {
        let text = format!("{cause} {cause:?}").to_lowercase();
        signs.iter().any(|sign| text.contains(sign))
    })
}

/// The SDK's error as a cause, without its type: the type would make the SDK's version part of the API.
struct SourceChain(String, String);

impl std::fmt::Display for SourceChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::fmt::Debug for SourceChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for SourceChain {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c20_a_page_is_told_by_its_first_words() {
        let page =
            b"<!DOCTYPE html><html><head><title>Access\ndenied</title></head><body>by\x1b policy";
        assert_eq!(first_words(page), "Access denied by policy");
        assert_eq!(first_words(b""), "");
        assert_eq!(
            first_words("ä".repeat(200).as_bytes()),
            format!("{}…", "ä".repeat(80))
        );
    }
}

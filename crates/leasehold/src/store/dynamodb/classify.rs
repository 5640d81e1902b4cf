//! Failures of the SDK, classified once, in one place.
//!
//! What matters to the protocol: may the write have been applied, and is it worth another try?
//! Whatever is not certain counts as "may have been applied".

use std::collections::HashMap;
use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::RequestId;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;

use crate::error::Effect;
use crate::protocol::time::Stamp;
use crate::store::{StoreError, StoreErrorKind};

/// Whether a condition did not hold.
pub(super) enum Refusal<'a> {
    /// It did not; this item stood in the way.
    With(&'a HashMap<String, AttributeValue>),
    /// It did not; the answer does not show what stood in the way.
    Bare,
    /// The failure is another one.
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

/// What a failed read means: nothing was written in any case.
pub(super) fn read_failure<E>(error: SdkError<E>, table: &str, stamp: Option<Stamp>) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    StoreError {
        effect: Effect::NotApplied,
        ..failure(error, table, stamp)
    }
}

/// What a failed write means.
pub(super) fn failure<E>(error: SdkError<E>, table: &str, stamp: Option<Stamp>) -> StoreError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let request_id = error.request_id().map(str::to_owned);
    let (kind, effect, what, hint) = match &error {
        SdkError::ServiceError(service) => service_error(service.err(), status.unwrap_or(0), table),
        SdkError::ConstructionFailure(_) => not_sent(&error, table),
        SdkError::DispatchFailure(dispatch) => {
            // "Other" also covers connections that break after the request was sent: only a failure
            // of credentials or endpoint resolution certainly happened before.
            let before = is_about_identity(&error) || is_about_the_endpoint(&error);
            if dispatch.is_user() || (dispatch.is_other() && before) {
                not_sent(&error, table)
            } else if never_connected(&error) {
                (
                    StoreErrorKind::Unavailable,
                    Effect::NotApplied,
                    format!("cannot connect: {}", root_cause(&error)),
                    Some("check the endpoint, the region and the network".to_owned()),
                )
            } else {
                lost(format!("the connection broke: {}", root_cause(&error)))
            }
        }
        SdkError::TimeoutError(_) => lost("no answer in time".to_owned()),
        SdkError::ResponseError(_) => lost(format!(
            "the answer is not readable: {}",
            root_cause(&error)
        )),
        _ => lost(root_cause(&error)),
    };
    StoreError {
        kind,
        effect,
        message: format!("dynamodb table `{table}`: {what}"),
        hint,
        status,
        request_id,
        stamp,
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

/// The request never left this process: settings or credentials.
fn not_sent(error: &(dyn StdError + 'static), table: &str) -> Classified {
    if is_about_the_endpoint(error) {
        (
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            "no endpoint: no region is configured".to_owned(),
            Some("set AWS_REGION, or give the client a region".to_owned()),
        )
    } else if is_about_identity(error) {
        (
            StoreErrorKind::Credentials,
            Effect::NotApplied,
            "no usable AWS credentials".to_owned(),
            Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run on a role"
                    .to_owned(),
            ),
        )
    } else {
        (
            StoreErrorKind::InvalidInput,
            Effect::NotApplied,
            format!("the request could not be sent: {}", root_cause(error)),
            Some(format!(
                "check the client's settings and the table name `{table}`"
            )),
        )
    }
}

fn is_about_the_endpoint(error: &(dyn StdError + 'static)) -> bool {
    let all = chain(error).to_lowercase();
    all.contains("resolveendpoint") || all.contains("missing region")
}

fn is_about_identity(error: &(dyn StdError + 'static)) -> bool {
    let all = chain(error).to_lowercase();
    ["credential", "identity", "authscheme", "auth scheme"]
        .iter()
        .any(|sign| all.contains(sign))
}

fn service_error(error: &dyn Described, status: u16, table: &str) -> Classified {
    let (code, message) = (error.error_code(), error.error_message());
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
                "create it with `leasehold init --store dynamodb://{table}`, or correct the table name or the region"
            )),
        ),
        "ValidationException" if is_about_the_shape(message) => (
            StoreErrorKind::Configuration,
            Effect::NotApplied,
            format!("the table has another key schema than `LockKey` (S, HASH): {message}"),
            Some("use another table; `leasehold init` creates one of the right shape".to_owned()),
        ),
        "ValidationException" => not_applied(
            StoreErrorKind::InvalidInput,
            Some("the record may be too large: make key, label or payload shorter".to_owned()),
        ),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => not_applied(
            StoreErrorKind::AccessDenied,
            Some(format!(
                "allow dynamodb:UpdateItem, GetItem, DeleteItem and Scan on table `{table}`"
            )),
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

/// Whether the connection was refused or the host not found, so that nothing was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    use std::io::ErrorKind as Io;
    causes(error).any(|cause| {
        // Others, such as an unreachable host, may also end a connection after the request was sent.
        let refused = cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == Io::ConnectionRefused);
        let text = cause.to_string();
        refused || text.contains("dns error") || text.contains("tcp connect error")
    })
}

fn root_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    causes(error)
        .map(|cause| format!("{cause} {cause:?} "))
        .collect()
}

/// The SDK's error as a cause without its type, which would make its version part of our API.
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

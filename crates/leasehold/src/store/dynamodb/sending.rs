//! One request in flight: whether any of it was sent, the date of its answer, and panics of the SDK.
//!
//! Invariants: a request that never reached the network changed nothing. A panic of the SDK becomes an
//! error of its request.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use aws_sdk_dynamodb::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::{BoxError, SdkError};
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};

use leasehold_protocol::time::Stamp;

/// The facts of one request. It is an interceptor of the request.
#[derive(Clone, Debug)]
pub(super) struct Sending(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// The API's name of the action, such as `UpdateItem`.
    action: &'static str,
    /// The `Date` header of the answer, refusals included, in Unix seconds: the service's clock.
    date: OnceLock<i64>,
    sent: AtomicBool,
}

impl Sending {
    /// For a request of this action.
    pub(super) fn new(action: &'static str) -> Self {
        Sending(Arc::new(Known {
            action,
            date: OnceLock::new(),
            sent: AtomicBool::new(false),
        }))
    }

    pub(super) fn action(&self) -> &'static str {
        self.0.action
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.0.date.get().copied().map(Stamp::WholeSeconds)
    }

    /// Whether it was passed to the network.
    pub(super) fn sent(&self) -> bool {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Waits for the request. A panic in it becomes a [`Panicked`].
    pub(super) async fn answer<T, E>(
        &self,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        let mut request = pin!(request);
        std::future::poll_fn(|context| {
            // It is not polled again after a panic.
            catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context))).unwrap_or_else(
                |panic| {
                    let panicked = Panicked::of(&*panic);
                    Poll::Ready(Err(SdkError::construction_failure(panicked)))
                },
            )
        })
        .await
    }
}

impl Intercept for Sending {
    fn name(&self) -> &'static str {
        "leasehold::Sending"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.sent.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        // Only answers of the service itself: error pages of proxies carry their own dates.
        let date = headers
            .get("x-amzn-requestid")
            .and_then(|_| headers.get("date"));
        if let Some(seconds) = date.and_then(parse) {
            // A request is tried once and has one answer, so the slot is empty.
            let _ = self.0.date.set(seconds);
        }
        Ok(())
    }
}

fn parse(date: &str) -> Option<i64> {
    DateTime::from_str(date, DateTimeFormat::HttpDate)
        .ok()
        .map(|time| time.secs())
}

/// A panic of the SDK, with its message.
#[derive(Debug)]
pub(super) struct Panicked(String);

impl Panicked {
    fn of(panic: &(dyn Any + Send)) -> Self {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Panicked(said.unwrap_or("no message").to_owned())
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:01:40 GMT"), Some(100));
        assert_eq!(parse("yesterday"), None);
    }

    #[tokio::test]
    async fn a_panic_comes_out_with_what_it_said() {
        let said: [Box<dyn Any + Send>; 3] =
            [Box::new("plain"), Box::new("made".to_owned()), Box::new(7)];
        for (panic, told) in said.into_iter().zip(["plain", "made", "no message"]) {
            let request = async { std::panic::resume_unwind(panic) };
            let answer: Result<(), SdkError<std::io::Error>> =
                Sending::new("GetItem").answer(request).await;
            let error = answer.expect_err("it panicked");
            let cause = std::error::Error::source(&error).expect("the panic");
            assert_eq!(cause.to_string(), told);
        }
    }
}

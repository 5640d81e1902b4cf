//! The `Date` header of an answer, refusals included: the service's clock.

use std::sync::{Arc, OnceLock};

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};

use crate::protocol::time::Stamp;

/// Catches the `Date` of one request's answer.
#[derive(Clone, Debug, Default)]
pub(super) struct DateSlot(Arc<OnceLock<i64>>);

impl DateSlot {
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.0.get().copied().map(Stamp::WholeSeconds)
    }
}

impl Intercept for DateSlot {
    fn name(&self) -> &'static str {
        "leasehold::DateSlot"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        // Only what the service itself said: error pages of proxies carry their own dates.
        let date = headers
            .get("x-amzn-requestid")
            .and_then(|_| headers.get("date"));
        if let Some(seconds) = date.and_then(parse) {
            // One request, one try, one answer: the slot is empty.
            let _ = self.0.set(seconds);
        }
        Ok(())
    }
}

fn parse(date: &str) -> Option<i64> {
    DateTime::from_str(date, DateTimeFormat::HttpDate)
        .ok()
        .map(|time| time.secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates() {
        assert_eq!(parse("Thu, 01 Jan 1970 00:01:40 GMT"), Some(100));
        assert_eq!(parse("yesterday"), None);
    }
}

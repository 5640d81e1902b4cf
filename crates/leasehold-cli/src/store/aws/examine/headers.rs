//! The headers of answers, as an interceptor of requests collects them.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::error::BoxError;

use super::dates::Answered;

/// What all answers said about who answered.
#[derive(Clone, Default, Debug)]
pub(super) struct Headers(Arc<Mutex<Vec<Answered>>>);

impl Headers {
    pub(super) fn all(&self) -> Vec<Answered> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Intercept for Headers {
    fn name(&self) -> &'static str {
        "leasehold::Headers"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        let text = |name| headers.get(name).map(ToOwned::to_owned);
        let answered = Answered {
            server: text("server"),
            via: text("via"),
            dates: headers.get_all("date").count(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(answered);
        Ok(())
    }
}

//! Credentials, which are loaded before the first request, with their own time-out and errors.
//!
//! Inside a request they would count against its time-out, and their failure would look like the network's.

use std::env;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, Result as Provided, SharedCredentialsProvider, future,
};
use leasehold::clock::{Clock, SystemClock};

use super::settings::{Settings, causes, unfit_for_a_header};
use crate::exit_codes;
use crate::failure::Failure;
use crate::panics;
use crate::process::Helpers;
use crate::text::quoted;

/// How long loading them may take. A `credential_process` may ask a server or a person. After this time it
/// is killed.
pub(super) const WITHIN: Duration = Duration::from_secs(30);

/// The longest reason in a message, in characters.
const LONGEST_REASON: usize = 400;

/// A provider whose first credentials are loaded already.
#[derive(Debug)]
pub(super) struct Ready {
    first: Mutex<Option<Credentials>>,
    provider: SharedCredentialsProvider,
}

impl ProvideCredentials for Ready {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.next())
    }
}

impl Ready {
    /// Loads the first credentials.
    ///
    /// # Errors
    ///
    /// When there are none, or a header cannot carry them.
    pub(super) async fn get(
        provider: SharedCredentialsProvider,
        settings: &Settings,
        url_names_profile: bool,
    ) -> Result<Self, Failure> {
        let helpers = Helpers::watch();
        let got = tokio::select! {
            got = panics::caught(provider.provide_credentials()) => got,
            () = SystemClock.sleep_until(SystemClock.elapsed().plus(WITHIN)) => {
                // Kills a `credential_process` that still runs.
                drop(helpers);
                return Err(late(settings));
            }
        };
        helpers.done();
        let credentials = match got {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(error)) => return Err(refused(&error, settings, url_names_profile)),
            Err(said) => {
                let message = format!("no usable AWS credentials: the AWS SDK panicked: {said}");
                return Err(Failure::new(exit_codes::CONFIG, message).hint(
                    "look for invalid values in the AWS_ variables and the AWS configuration files",
                ));
            }
        };
        check(&credentials)?;
        Ok(Self {
            first: Mutex::new(Some(credentials)),
            provider,
        })
    }

    /// The first credentials, until a request takes them.
    pub(super) fn first(&self) -> Option<Credentials> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }

    async fn next(&self) -> Provided {
        let first = self
            .first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match first {
            Some(credentials) => Ok(credentials),
            None => {
                let credentials = self.provider.provide_credentials().await?;
                match check(&credentials) {
                    Ok(()) => Ok(credentials),
                    Err(failure) => Err(CredentialsError::invalid_configuration(failure.message)),
                }
            }
        }
    }
}

/// Refuses credentials that a header cannot carry.
fn check(credentials: &Credentials) -> Result<(), Failure> {
    let account = credentials.account_id().map(|id| id.as_str());
    for (value, variable, name) in [
        (
            Some(credentials.access_key_id()),
            "AWS_ACCESS_KEY_ID",
            "access key id",
        ),
        (
            Some(credentials.secret_access_key()),
            "AWS_SECRET_ACCESS_KEY",
            "secret access key",
        ),
        (
            credentials.session_token(),
            "AWS_SESSION_TOKEN",
            "session token",
        ),
        (account, "AWS_ACCOUNT_ID", "account id"),
    ] {
        // The account may become a part of the endpoint's name.
        let strange = variable == "AWS_ACCOUNT_ID"
            && value.is_some_and(|id| !id.chars().all(|c| c.is_ascii_alphanumeric()));
        let Some(why) = value
            .and_then(unfit_for_a_header)
            .or(strange.then_some("is not the number of an account"))
        else {
            continue;
        };
        let of_environment = env::var(variable).ok();
        let ours = of_environment.as_deref().map(str::trim) == value.map(str::trim);
        let (place, hint) = if ours {
            (variable.to_owned(), format!("correct {variable}"))
        } else {
            (
                format!("the {name} of the AWS credentials"),
                "correct it where the AWS profile has it from".to_owned(),
            )
        };
        return Err(Failure::new(exit_codes::CONFIG, format!("{place} {why}")).hint(hint));
    }
    Ok(())
}

fn late(settings: &Settings) -> Failure {
    let seconds = WITHIN.as_secs();
    match settings.of_credentials("credential_process") {
        Some((profile, _)) => Failure::new(
            exit_codes::NO_PERMISSION,
            format!(
                "no AWS credentials within {seconds}s: the `credential_process` of the profile `{profile}` did not end, and was killed"
            ),
        )
        .hint("run that command by hand to see what it waits for"),
        None => Failure::new(
            exit_codes::NO_PERMISSION,
            format!("no AWS credentials within {seconds}s"),
        )
        .hint(format!(
            "see what they wait for: `aws sts get-caller-identity{}`",
            option(settings.profile())
        )),
    }
}

fn refused(error: &CredentialsError, settings: &Settings, url_names_profile: bool) -> Failure {
    let profile = settings.profile();
    let nowhere = matches!(error, CredentialsError::CredentialsNotLoaded(_));
    let mut message = "no usable AWS credentials".to_owned();
    let reason = match settings.unreadable() {
        Some(why) => format!("the AWS configuration files cannot be read: {why}"),
        None if nowhere => String::new(),
        // The outer type has no reason.
        None => std::iter::successors(error.source(), |&error| error.source())
            .find(|cause| !cause.is::<CredentialsError>())
            .map(causes)
            .unwrap_or_default(),
    };
    if !reason.is_empty() {
        let cut: String = reason.chars().take(LONGEST_REASON).collect();
        message = format!("{message}: {cut}");
    }
    let sso = ["sso_session", "sso_start_url"];
    let sso = sso.iter().find_map(|name| settings.of_credentials(name));
    let hint = if let Some((name, _)) = sso {
        format!("log in: `aws sso login{}`", option(&name))
    } else if let Some((name, _)) = settings.of_credentials("credential_process") {
        format!(
            "run the `credential_process` of the profile `{name}` by hand: it must print credentials as JSON"
        )
    } else if url_names_profile {
        format!(
            "give the profile `{profile}` credentials, or remove `profile={profile}` from the store URL"
        )
    } else {
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add `profile=…` to the store URL; \
         `aws sts get-caller-identity` shows your identity"
            .to_owned()
    };
    let mut failure = Failure::new(exit_codes::NO_PERMISSION, message).hint(hint);
    let chain = std::iter::successors(error.source(), |&error| error.source());
    failure.causes = chain.map(ToString::to_string).collect();
    failure
}

fn option(profile: &str) -> String {
    format!(" --profile {}", quoted(profile))
}

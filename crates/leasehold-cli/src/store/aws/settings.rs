//! The settings of store URL, environment and AWS configuration files, each with the name of its source.
//!
//! The SDK reads most of them itself, and panics or fails obscurely with an invalid value. Invariant: such
//! a value is refused here, by its name, before a request is sent. An empty variable counts as unset, as
//! for the AWS CLI.

use std::env;
use std::fmt;

use aws_config::SdkConfig;
use aws_config::profile::ProfileSet;
use aws_types::service_config::ServiceConfigKey;

use crate::exit_codes;
use crate::failure::Failure;
use crate::store::url::{Location, Table};
use crate::text::quoted;

/// The default profile.
const DEFAULT: &str = "default";

/// The longest label of a host name, which a region becomes.
const LONGEST_LABEL: usize = 63;

/// A value, and the name of its source.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) value: String,
    name: String,
}

impl Named {
    pub(super) fn new(value: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            name: name.into(),
        }
    }

    /// The name of the source.
    pub(super) fn source(&self) -> &str {
        &self.name
    }

    /// The error of an invalid value.
    pub(super) fn refused(&self, why: impl fmt::Display, hint: impl Into<String>) -> Failure {
        Failure::new(exit_codes::CONFIG, format!("{} {why}", self.name)).hint(hint)
    }
}

/// A variable of the environment, if it is not empty.
///
/// # Errors
///
/// When it is not text.
pub(super) fn variable(name: &str) -> Result<Option<Named>, Failure> {
    match env::var_os(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(value) => Ok(Some(Named::new(value, name))),
            Err(_) => Err(
                Failure::new(exit_codes::CONFIG, format!("{name} is not UTF-8"))
                    .hint(format!("correct it, or `unset {name}`")),
            ),
        },
    }
}

/// The settings that are read before the SDK.
#[derive(Debug)]
pub(super) struct Settings {
    table: Table,
    /// The name of the effective profile, which need not exist.
    profile: String,
    profiles: Option<ProfileSet>,
    /// Why the configuration files cannot be read.
    unreadable: Option<String>,
}

impl Settings {
    /// Reads the configuration files.
    ///
    /// # Errors
    ///
    /// When the profile in the URL does not exist: the AWS defaults would then find other credentials.
    pub(super) async fn read(table: &Table) -> Result<Self, Failure> {
        // A header of every request contains it.
        if let Some(name) = variable("AWS_EXECUTION_ENV")?
            && let Some(why) = unfit_for_a_header(&name.value)
        {
            return Err(name.refused(why, "correct it, or `unset AWS_EXECUTION_ENV`"));
        }
        // The real files, environment and file names.
        let (fs, env, files) = Default::default();
        let (profiles, unreadable) = match aws_config::profile::load(&fs, &env, &files, None).await
        {
            Ok(profiles) => (Some(profiles), None),
            Err(error) => (None, Some(causes(&error))),
        };
        let profile = match &table.profile {
            Some(name) => name.clone(),
            None => variable("AWS_PROFILE")?.map_or_else(|| DEFAULT.to_owned(), |name| name.value),
        };
        let settings = Self {
            table: table.clone(),
            profile,
            profiles,
            unreadable,
        };
        if let Some(name) = &table.profile {
            settings.check_profile(name)?;
        }
        Ok(settings)
    }

    fn check_profile(&self, name: &str) -> Result<(), Failure> {
        let why = match (&self.profiles, &self.unreadable) {
            (Some(profiles), _) if profiles.get_profile(name).is_some() => return Ok(()),
            (Some(_), _) => "is not in the AWS configuration files".to_owned(),
            (None, why) => format!(
                "cannot be read from the AWS configuration files: {}",
                why.as_deref().unwrap_or_default()
            ),
        };
        let store = Location::DynamoDb(Box::new(self.table.clone()));
        let message = format!("the profile `{name}` of {store} {why}");
        Err(Failure::new(exit_codes::CONFIG, message).hint(format!(
            "correct `profile={name}` in the store URL, or add the profile with `aws configure --profile {}`",
            quoted(name)
        )))
    }

    /// The name of the effective profile.
    pub(super) fn profile(&self) -> &str {
        &self.profile
    }

    /// Why the configuration files cannot be read.
    pub(super) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// A property of the profile, or of the profile that its credentials come from, with the name of that
    /// profile.
    pub(super) fn of_credentials(&self, property: &str) -> Option<(String, String)> {
        let profiles = self.profiles.as_ref()?;
        let mut name = self.profile.as_str();
        // A circle of profiles ends here; the SDK reports it.
        for _ in 0..8 {
            let profile = profiles.get_profile(name)?;
            if let Some(value) = profile.get(property) {
                return Some((name.to_owned(), value.to_owned()));
            }
            name = profile.get("source_profile")?;
        }
        None
    }

    fn property(&self, property: &str) -> Option<Named> {
        let profiles = self.profiles.as_ref()?;
        let value = profiles.get_profile(&self.profile)?.get(property)?;
        let name = format!("`{property}` of the AWS profile `{}`", self.profile);
        (!value.trim().is_empty()).then(|| Named::new(value, name))
    }

    /// The region, unless only the instance metadata has it.
    ///
    /// # Errors
    ///
    /// When it is invalid.
    pub(super) fn region(&self) -> Result<Option<Named>, Failure> {
        let parameter = self.table.region.as_deref();
        let found = match parameter {
            Some(region) => Some(Named::new(region, "the store parameter `region`")),
            None => match variable("AWS_REGION")? {
                Some(region) => Some(region),
                None => variable("AWS_DEFAULT_REGION")?.or_else(|| self.property("region")),
            },
        };
        if let Some(region) = &found {
            check_label(region, "a region is a word such as `eu-west-1`")?;
        }
        Ok(found)
    }

    /// The endpoint that replaces the region's, in the SDK's order.
    ///
    /// # Errors
    ///
    /// When it is not the URL of an endpoint.
    pub(super) fn endpoint(&self, shared: &SdkConfig) -> Result<Option<Named>, Failure> {
        let found = match &self.table.endpoint {
            Some(endpoint) => Some(Named::new(endpoint, "the store parameter `endpoint`")),
            None if self.ignores_endpoints()? => None,
            None => match variable("AWS_ENDPOINT_URL_DYNAMODB")? {
                Some(endpoint) => Some(endpoint),
                None => match self.endpoint_of_service(shared) {
                    Some(endpoint) => Some(endpoint),
                    None => variable("AWS_ENDPOINT_URL")?.or_else(|| self.property("endpoint_url")),
                },
            },
        };
        if let Some(endpoint) = &found {
            check_url(endpoint, "endpoint")?;
            if endpoint.value.contains(['@', '?', '#']) {
                return Err(endpoint.refused(
                    "has a user name, a `?` or a `#`, which DynamoDB does not take",
                    "write `https://HOST` or `http://HOST:PORT`",
                ));
            }
        }
        Ok(found)
    }

    fn ignores_endpoints(&self) -> Result<bool, Failure> {
        let found = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")?
            .or_else(|| self.property("ignore_configured_endpoint_urls"));
        Ok(found.is_some_and(|ignore| ignore.value.eq_ignore_ascii_case("true")))
    }

    /// The endpoint of DynamoDB in the `services` section of the profile.
    fn endpoint_of_service(&self, shared: &SdkConfig) -> Option<Named> {
        // With a variable that nobody sets: AWS variables have another order here, and empty ones are unset.
        let key = ServiceConfigKey::builder()
            .service_id("DynamoDB")
            .env("LEASEHOLD_NO_VARIABLE")
            .profile("endpoint_url")
            .build()
            .ok()?;
        let value = shared.service_config()?.load_config(key)?;
        if value.trim().is_empty()
            || self
                .property("endpoint_url")
                .is_some_and(|g| g.value == value)
        {
            return None;
        }
        let name = format!(
            "`endpoint_url` of DynamoDB in the AWS profile `{}`",
            self.profile
        );
        Some(Named::new(value, name))
    }

    /// A file with the trusted certificates, which replaces the system's.
    ///
    /// # Errors
    ///
    /// When its name is not text.
    pub(super) fn ca_bundle(&self) -> Result<Option<Named>, Failure> {
        Ok(variable("AWS_CA_BUNDLE")?.or_else(|| self.property("ca_bundle")))
    }
}

/// Checks a word that becomes a part of a host name.
fn check_label(named: &Named, hint: &str) -> Result<(), Failure> {
    let value = &named.value;
    if let Some(why) = unfit_for_a_header(value) {
        return Err(named.refused(why, hint));
    }
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if value.chars().all(known) && value.len() <= LONGEST_LABEL && !value.starts_with('-') {
        return Ok(());
    }
    Err(named.refused(format_args!("is `{value}`, which is not a region"), hint))
}

/// Checks the URL of a server.
pub(super) fn check_url(named: &Named, what: &str) -> Result<(), Failure> {
    let hint = "write `https://HOST` or `http://HOST:PORT`";
    if let Some(why) = unfit_for_a_header(&named.value) {
        return Err(named.refused(why, hint));
    }
    // It may have a password.
    let shown = match named.value.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => named.value.clone(),
    };
    let refused = |why: &str| Err(named.refused(format_args!("is `{shown}`: {why}"), hint));
    match named.value.split_once("://") {
        Some(("http" | "https", _)) => {}
        Some((scheme, _)) => {
            return refused(&format!("the scheme `{scheme}` is not that of an {what}"));
        }
        None => return refused(&format!("the URL of the {what} has no scheme")),
    }
    let Ok(uri) = named.value.parse::<http::Uri>() else {
        return refused("that is not a URL");
    };
    let Some(authority) = uri.authority().filter(|found| !found.host().is_empty()) else {
        return refused("there is no host in it");
    };
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    let after_host = place.rsplit(']').next().unwrap_or_default();
    match after_host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_err() => {
            refused(&format!("`{port}` is not a port"))
        }
        _ => Ok(()),
    }
}

/// Why a header cannot carry a value, if so.
pub(super) fn unfit_for_a_header(value: &str) -> Option<&'static str> {
    if value.contains(['\n', '\r']) {
        Some("has a line break")
    } else if value.contains(|c: char| c.is_control()) {
        Some("has a control character")
    } else if !value.is_ascii() {
        Some("has a letter that is not ASCII")
    } else {
        None
    }
}

/// An error and its causes on one line, without repetitions.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in std::iter::successors(Some(error), |&error| error.source()) {
        let text = cause.to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if said.iter().any(|before| before.contains(&text)) {
            continue;
        }
        said.retain(|before| !text.contains(before.as_str()));
        said.push(text);
    }
    said.join(": ")
}

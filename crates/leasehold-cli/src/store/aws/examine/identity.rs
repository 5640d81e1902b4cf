//! Region, endpoint, credentials and identity, each with its source.

use std::env;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::SharedCredentialsProvider;
use leasehold::clock::{Clock, SystemClock};

use crate::finding::Finding;
use crate::panics;
use crate::store::aws::Origin;
use crate::store::aws::settings::causes;
use crate::text::times;

/// How long the identity service has.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) fn region(origin: &Origin) -> Finding {
    let region = &origin.region;
    Finding::ok(
        "region",
        format!("{}, from {}", region.value, region.source()),
    )
}

pub(super) fn endpoint(origin: &Origin) -> Finding {
    Finding::ok(
        "endpoint",
        match &origin.endpoint {
            Some(named) => format!("{}, from {}", named.value, named.source()),
            None => "that of the region".to_owned(),
        },
    )
}

/// The proxies of the environment. Their URLs may have passwords.
pub(super) fn proxies() -> Option<Finding> {
    let named = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    let set: Vec<_> = named.into_iter().filter(|name| is_set(name)).collect();
    let exceptions = match ["NO_PROXY", "no_proxy"]
        .into_iter()
        .find(|name| is_set(name))
    {
        Some(name) => format!("; {name} has exceptions"),
        None => String::new(),
    };
    (!set.is_empty()).then(|| {
        let found = format!("requests go through that of {}{exceptions}", set.join(", "));
        Finding::ok("proxy", found)
    })
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

pub(super) fn credentials(origin: &Origin) -> Finding {
    let Some((credentials, _)) = &origin.credentials else {
        return Finding::unknown("credentials", "the requests are not signed");
    };
    let key: Vec<char> = credentials.access_key_id().chars().collect();
    let shown: String = key.iter().skip(key.len().saturating_sub(4)).collect();
    let until = match credentials.expiry() {
        Some(end) => format!(", until {}", times::local(end)),
        None => String::new(),
    };
    Finding::ok(
        "credentials",
        format!(
            "the access key …{shown}, from {}{until}",
            source(credentials)
        ),
    )
}

fn source(credentials: &Credentials) -> &'static str {
    use AwsCredentialFeature as F;
    let features = credentials.get_property::<Vec<F>>();
    // The first provider is the one that a person has set; a role comes after it.
    let mut known = features.into_iter().flatten().filter_map(|feature| {
        Some(match feature {
            F::CredentialsEnvVars => "the environment",
            F::CredentialsEnvVarsStsWebIdToken | F::CredentialsStsAssumeRoleWebId => {
                "a web identity token"
            }
            F::CredentialsProfile => "a profile",
            F::CredentialsProfileSourceProfile => "a role of a profile",
            F::CredentialsProfileNamedProvider => "a role of a profile with a named source",
            F::CredentialsProfileStsWebIdToken => "a web identity token of a profile",
            F::CredentialsProfileSso | F::CredentialsSso => "single sign-on",
            F::CredentialsProfileProcess | F::CredentialsProcess => "a `credential_process`",
            F::CredentialsHttp => "the container's credential service",
            F::CredentialsImds => "the instance metadata",
            F::CredentialsStsAssumeRole => "an assumed role",
            F::CredentialsProfileLogin => "`aws login`",
            _ => return None,
        })
    });
    known
        .next()
        .unwrap_or("a source that the SDK does not name")
}

/// Who the service says that we are. It needs no permission.
pub(super) async fn identity(origin: &Origin) -> Finding {
    let Some((_, provider)) = &origin.credentials else {
        return Finding::unknown("identity", "the requests are not signed");
    };
    let named = is_set("AWS_ENDPOINT_URL_STS") || is_set("AWS_ENDPOINT_URL");
    if origin.endpoint.is_some() && !named {
        return Finding::unknown(
            "identity",
            "it is not asked for, since the endpoint may be none of AWS; set AWS_ENDPOINT_URL_STS to ask",
        );
    }
    let asked = panics::caught(ask(origin, provider.clone()));
    let answer = tokio::select! {
        answer = asked => answer.unwrap_or_else(|said| Err(format!("the AWS SDK panicked: {said}"))),
        () = SystemClock.sleep_until(SystemClock.elapsed().plus(WITHIN)) => {
            Err(format!("sts did not answer within {WITHIN:?}"))
        }
    };
    match answer {
        Ok(arn) => Finding::ok("identity", arn),
        Err(why) => Finding::unknown("identity", why),
    }
}

async fn ask(origin: &Origin, provider: SharedCredentialsProvider) -> Result<String, String> {
    let config = aws_sdk_sts::config::Builder::from(&origin.shared)
        .credentials_provider(provider)
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    let answer = client.get_caller_identity().send().await;
    let answer = answer.map_err(|error| format!("sts refused: {}", causes(&error)))?;
    Ok(answer.arn().unwrap_or("without an ARN").to_owned())
}

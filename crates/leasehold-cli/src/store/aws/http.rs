//! The HTTP client: proxies, and the certificates that TLS trusts.
//!
//! TLS is set up at the first request: the read of the system's certificates takes up to 50 ms.

use std::fs;
use std::time::Duration;

use aws_sdk_dynamodb::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

use super::settings::{Named, Settings, check_url, variable};
use crate::exit_codes;
use crate::failure::Failure;
use crate::panics;

/// Sockets that were idle for longer are not reused: load balancers drop them, and the next renewal
/// would hang.
const IDLE: Duration = Duration::from_secs(20);

/// The settings of HTTP connections.
#[derive(Debug)]
pub(super) struct Http {
    trust: TrustStore,
    /// Whether there are no trusted certificates.
    trusts_nobody: bool,
    /// Proxies for `https` only, for credentials.
    secure_proxy: ProxyConfig,
}

impl Http {
    /// The settings of environment and configuration.
    ///
    /// # Errors
    ///
    /// When a proxy is invalid, or the file of certificates has none.
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut secure = None;
        // The HTTP client ignores an invalid value, and would bypass the proxy.
        for (upper, lower) in [
            ("ALL_PROXY", "all_proxy"),
            ("HTTP_PROXY", "http_proxy"),
            ("HTTPS_PROXY", "https_proxy"),
        ] {
            let Some(mut proxy) =
                variable(upper)?.map_or_else(|| variable(lower), |p| Ok(Some(p)))?
            else {
                continue;
            };
            if !proxy.value.contains("://") {
                proxy.value = format!("http://{}", proxy.value);
            }
            check_url(&proxy, "HTTP proxy")?;
            if upper != "HTTP_PROXY" {
                secure = Some(proxy);
            }
        }
        let secure_proxy = match secure {
            None => ProxyConfig::disabled(),
            Some(proxy) => {
                let config = ProxyConfig::https(proxy.value.as_str());
                let config = config.map_err(|error| proxy.refused(error, "correct it"))?;
                match variable("NO_PROXY")?.map_or_else(|| variable("no_proxy"), |p| Ok(Some(p)))? {
                    Some(hosts) => config.no_proxy(hosts.value),
                    None => config,
                }
            }
        };
        let (trust, trusts_nobody) = match settings.ca_bundle()? {
            Some(file) => (read(&file)?, false),
            None if rustls_native_certs::load_native_certs().certs.is_empty() => {
                (TrustStore::empty(), true)
            }
            None => (TrustStore::default(), false),
        };
        Ok(Self {
            trust,
            trusts_nobody,
            secure_proxy,
        })
    }

    /// The client for credentials. The metadata services of machines and containers have `http` addresses
    /// that no proxy can reach.
    pub(super) fn for_credentials(&self) -> SharedHttpClient {
        self.client(self.secure_proxy.clone(), true)
    }

    /// The client for the table.
    ///
    /// # Errors
    ///
    /// When no certificate is trusted.
    pub(super) fn for_table(&self, endpoint: Option<&str>) -> Result<SharedHttpClient, Failure> {
        let tls = endpoint.is_none_or(|endpoint| endpoint.starts_with("https://"));
        // A server without TLS may be behind a proxy with it.
        let proxy_tls = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
            .iter()
            .any(|name| std::env::var(name).is_ok_and(|url| url.starts_with("https://")));
        if tls && self.trusts_nobody {
            return Err(Failure::new(
                exit_codes::CONFIG,
                "no TLS connection: this system has no trusted certificates",
            )
            .hint("install them, for example with `apt-get install ca-certificates`, or name a file with certificates in AWS_CA_BUNDLE"));
        }
        Ok(self.client(ProxyConfig::from_env(), tls || proxy_tls))
    }

    fn client(&self, proxy: ProxyConfig, tls: bool) -> SharedHttpClient {
        let context = TlsContext::builder().with_trust_store(self.trust.clone());
        // It cannot fail.
        let context = context.build().unwrap_or_default();
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder()
                .pool_idle_timeout(IDLE)
                .proxy_config(proxy.clone());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|all| all.sleep_impl()));
            if tls {
                connector
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .tls_context(context.clone())
                    .build()
            } else {
                connector.build_http()
            }
        })
    }
}

/// The certificates of a file.
fn read(file: &Named) -> Result<TrustStore, Failure> {
    let hint = "name a file with certificates in PEM form";
    let refused = |why: String| file.refused(format_args!("names `{}`, {why}", file.value), hint);
    let pem =
        fs::read(&file.value).map_err(|error| refused(format!("which cannot be read: {error}")))?;
    let found = rustls_native_certs::load_certs_from_paths(Some(file.value.as_ref()), None);
    if let Some(error) = found.errors.first() {
        return Err(refused(format!("which cannot be read: {error}")));
    }
    if found.certs.is_empty() {
        return Err(refused("which has no certificate".to_owned()));
    }
    let trust = TrustStore::empty().with_pem_certificate(pem);
    // Only a trial shows whether TLS can use them, and it panics if not.
    let context = TlsContext::builder()
        .with_trust_store(trust.clone())
        .build();
    panics::caught_in(|| {
        Connector::builder()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(context.unwrap_or_default())
            .build()
    })
    .map_err(|said| {
        refused(format!(
            "which has a certificate that cannot be used: {said}"
        ))
    })?;
    Ok(trust)
}

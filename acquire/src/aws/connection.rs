//! One connection to an account: region, credentials, time limits, and the clients that share them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::runtime::Runtime;

use super::wire::Wire;
use crate::error::{Error, Result};

/// A server that does not take a connection in this time is not there.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// A server that gives no byte for this time has forgotten us.
pub(super) const READ: Duration = Duration::from_secs(15);

/// One attempt of one request takes no longer: 512 KiB at the slowest line that is of use.
pub(super) const ATTEMPT: Duration = Duration::from_secs(60);

/// What a person may choose of a connection; all else is as the AWS command line finds it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The region, as `eu-central-1`.
    pub region: Option<String>,
    /// A profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Credentials, where they shall not be searched for.
    pub credentials: Option<Credentials>,
    /// Another server than AWS's for every service: a private endpoint, a test server, an S3 server of another maker.
    pub endpoint: Option<String>,
}

/// What requests are signed with.
#[derive(Clone)]
pub struct Credentials {
    /// The id of the access key, which is no secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// The token of credentials that end by themselves.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// How long credentials are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialsLife {
    /// Whether they are those of a session, which ends.
    pub is_session: bool,
    /// When they end, in seconds since 1970, where their provider says it: one that does gives new ones then.
    pub ends: Option<i64>,
}

/// A connection to one account in one region.
///
/// Credentials are found where every AWS tool finds them (environment, profile, SSO, web identity, container, instance) and are kept
/// in memory alone: neither they nor what is signed with them is ever shown by [`fmt::Debug`] or by a [`super::Failure`].
///
/// Requests are tried once: who calls knows which failures are worth another try. Every attempt has a time limit.
#[derive(Clone)]
pub struct Connection {
    runtime: Arc<Runtime>,
    config: SdkConfig,
    own_endpoint: bool,
    wire: Arc<Wire>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("region", &self.region()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads configuration and finds the region. Nothing is sent before the first request, but where credentials need it.
    ///
    /// # Errors
    ///
    /// [`Error::NoRegion`], [`Error::Thread`].
    pub fn open(settings: &Settings) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("cloud")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .pool_max_idle_per_host(1024)
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .operation_attempt_timeout(ATTEMPT)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled());
        if let Some(region) = &settings.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(Credentials { access_key_id, secret_access_key, session_token }) =
            settings.credentials.clone()
        {
            let given = aws_credential_types::Credentials::new(
                access_key_id,
                secret_access_key,
                session_token,
                None,
                "given",
            );
            loader = loader.credentials_provider(given);
        }
        if let Some(endpoint) = &settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = runtime.block_on(loader.load());
        if config.region().is_none() {
            return Err(Error::NoRegion);
        }
        let own_endpoint = config.endpoint_url().is_some();
        Ok(Self { runtime: Arc::new(runtime), config, own_endpoint, wire: Arc::default() })
    }

    /// A connection without an account, for requests that are signed already: nothing is read, and nothing can be signed.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`].
    pub(crate) fn without_account(place: &custody::bundle::RemotePlace) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("cloud")
            .enable_all()
            .build()
            .map_err(Error::Thread)?;
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(place.region.clone()));
        config.set_endpoint_url(place.endpoint.clone());
        let (config, own_endpoint) = (config.build(), place.endpoint.is_some());
        Ok(Self { runtime: Arc::new(runtime), config, own_endpoint, wire: Arc::default() })
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.config.region().map_or("", Region::as_ref)
    }

    /// Whether every request goes to a server that was named, and not to AWS's own.
    #[must_use]
    pub fn has_own_endpoint(&self) -> bool {
        self.own_endpoint
    }

    /// That server.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.config.endpoint_url()
    }

    /// The server that every request goes to, if it is not AWS's own: without what may stand before or behind its name.
    pub(crate) fn own_endpoint(&self) -> Option<String> {
        let (scheme, rest) = self.config.endpoint_url()?.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
        Some(format!("{scheme}://{host}"))
    }

    /// Whether the credentials of this connection end, and when: nothing of them is told.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Credentials`] where there are none.
    pub fn credentials_life(&self) -> std::result::Result<CredentialsLife, super::Failure> {
        let found = self.wait(self.wire.credentials(&self.config, "credentials"))?;
        let ends = found.expiry().and_then(|end| end.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(CredentialsLife {
            is_session: found.session_token().is_some(),
            ends: ends.and_then(|ends| i64::try_from(ends.as_secs()).ok()),
        })
    }

    /// The same account in another region.
    pub(crate) fn in_region(&self, region: &str) -> Self {
        let config = self.config.to_builder().region(Region::new(region.to_owned())).build();
        Self { config, ..self.clone() }
    }

    /// Configuration and credentials, for a client of one service.
    pub(crate) fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Sockets and credentials of requests that we sign ourselves.
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// A client of the EBS direct APIs.
    pub(crate) fn ebs(&self) -> aws_sdk_ebs::Client {
        aws_sdk_ebs::Client::new(&self.config)
    }

    /// A client of S3. Other servers than AWS's seldom have a name for each bucket, so there it stands in the path.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(self.own_endpoint);
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Where tasks of this connection run.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Waits for an answer.
    pub(crate) fn wait<F: Future>(&self, answer: F) -> F::Output {
        self.runtime.block_on(answer)
    }
}

//! What every HTTP client of ours holds to.

use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// Settings of a client that sends what is meant for one party to no other.
///
/// No redirect is followed and no proxy of the environment is used; any status is an answer; heads have 64 KiB at most. The
/// whole exchange may take `patience`, of it the connection `connect`. Who needs more (certificates, a proxy that was named)
/// adds it.
#[must_use]
pub fn careful_agent(patience: Duration, connect: Duration) -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder()
        .timeout_global(Some(patience))
        .timeout_connect(Some(connect))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(64 << 10)
        .user_agent(concat!("exhibit/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
}

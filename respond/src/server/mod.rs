//! The door: HTTP in, durable before 202.

use serde::Deserialize;

/// Where and how much is let in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// `127.0.0.1:8700` unless told.
    pub listen: Option<String>,
}

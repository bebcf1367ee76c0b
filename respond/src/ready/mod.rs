//! Whether a capture would work, tried before it is needed. One file a group of checks.

use serde::Deserialize;

/// What readiness is measured against.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadySettings {}

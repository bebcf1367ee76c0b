//! Who sent a request. One file a scheme; the outcome is kept with the alert.

use serde::Deserialize;

/// One source that may send alerts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Its name, which is its path too: `/alerts/NAME`.
    pub name: String,
    /// What it sends: a word of [`crate::alert::SOURCES`].
    pub kind: String,
}

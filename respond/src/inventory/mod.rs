//! The assets that may be acted on: a file, and what was found in accounts. A name in an alert alone is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alert::AssetKind;

/// One asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// What it is.
    pub kind: AssetKind,
    /// Its id.
    pub id: String,
    /// Other names of the same: host names, addresses, ids that an EDR gives it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Account, subscription, cluster.
    #[serde(default)]
    pub account: String,
    /// Region.
    #[serde(default)]
    pub region: String,
    /// Who answers for it.
    #[serde(default)]
    pub owner: String,
    /// `low`, `normal`, `high`, `critical`.
    #[serde(default)]
    pub criticality: String,
    /// What group it belongs to, of which not too many may be isolated at once.
    #[serde(default)]
    pub group: String,
    /// Through which target of the settings it is reached: `local`, or a name of `[targets]`.
    #[serde(default)]
    pub target: String,
    /// Anything else, for rules.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

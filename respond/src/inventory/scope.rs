//! Assets that come and go, so that no list has them: containers, pods, hosts of a pool. A scope says which of them are ours.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::Asset;
use super::file::check_texts;
use crate::alert::{AssetKind, AssetRef};

/// A scope as a file has it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScope {
    kind: AssetKind,
    /// A pattern of ids.
    id: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    criticality: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// All assets of a kind whose ids are like a pattern. Whether there is such a thing is seen when it is captured.
///
/// It has no group: of how many things a scope is, nobody knows, and so no share of them can be kept.
#[derive(Debug, Clone)]
pub struct Scope {
    pattern: GlobMatcher,
    like: Asset,
}

impl Scope {
    pub(super) fn new(raw: RawScope) -> Result<Self, String> {
        let RawScope { kind, id, account, region, owner, criticality, target, tags } = raw;
        let ours = [AssetKind::Container, AssetKind::K8sPod, AssetKind::Host];
        if !ours.contains(&kind) {
            return Err(format!(
                "a scope is of containers, pods or hosts; {} is of a cloud account",
                kind.word()
            ));
        }
        let pattern =
            Glob::new(&id).map_err(|error| format!("the pattern {id:?} is none: {}", error.kind()))?;
        let like = Asset {
            kind,
            id: String::new(),
            aliases: Vec::new(),
            account,
            region,
            owner,
            criticality,
            group: String::new(),
            target,
            tags,
        };
        check_texts(&like)?;
        Ok(Self { pattern: pattern.compile_matcher(), like })
    }

    /// The kind of its assets.
    #[must_use]
    pub fn kind(&self) -> AssetKind {
        self.like.kind
    }

    /// Whether what an alert names is within it.
    pub(super) fn holds(&self, reference: &AssetRef) -> bool {
        reference.kind == self.like.kind && self.pattern.is_match(&reference.id)
    }

    /// What is known of it.
    pub(super) fn asset(&self, reference: &AssetRef) -> Asset {
        Asset { id: reference.id.clone(), ..self.like.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Inventory;
    use super::*;
    use crate::alert::Alert;

    fn of(text: &str) -> crate::Result<Inventory> {
        Inventory::of_files(&[("assets.toml".into(), format!("version = 1\n{text}"))])
    }

    #[test]
    fn what_a_scope_holds_is_ours_and_nothing_beside_it() {
        let inventory =
            of("[[scope]]\nkind = 'k8s_pod'\nid = '*/shop/*'\ntarget = 'prod'\nowner = 'team-a'\n").unwrap();
        let find = |kind, id: &str| {
            let reference = AssetRef { kind, id: id.into(), role: "primary".into() };
            inventory.find(&reference, &Alert::default())
        };
        let found = find(AssetKind::K8sPod, "/shop/web-0").unwrap();
        assert_eq!(
            (found.id.as_str(), found.target.as_str(), found.owner.as_str()),
            ("/shop/web-0", "prod", "team-a")
        );
        assert!(inventory.lists(&found), "a scope says as much of it as a file does");
        assert!(find(AssetKind::K8sPod, "/kube-system/dns-0").is_err());
        assert!(find(AssetKind::K8sPod, "/shop/../x").is_err());
        assert!(find(AssetKind::Container, "0123456789ab").is_err());
    }

    #[test]
    fn a_scope_that_cannot_be_meant_is_told_with_its_line() {
        for (scope, says) in [
            ("kind = 'ec2_instance'\nid = '*'", "line 2: a scope is of containers, pods or hosts"),
            ("kind = 'host'\nid = '[a'", "line 2: the pattern"),
            ("kind = 'host'\nid = '*'\ngroup = 'web'", "line 5: unknown field `group`"),
            ("kind = 'host'\nid = '*'\ncriticality = 'x'", "line 2: criticality is"),
        ] {
            let error = of(&format!("[[scope]]\n{scope}\n")).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

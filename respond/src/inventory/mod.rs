//! The assets that may be acted on: a file, and what was found in accounts. A name in an alert alone is none.

mod discover;
mod file;
mod kubernetes;
mod scope;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AssetKind, AssetRef};

pub use discover::{Discover, Ec2Assets};
pub use file::written;
pub use kubernetes::KubernetesAssets;
pub use scope::Scope;

/// How much an asset matters.
pub const CRITICALITIES: [&str; 4] = ["low", "normal", "high", "critical"];

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

impl Asset {
    /// Whether it may be gone at any moment, so that it comes first: a container, a pod, an instance of a scaling group, and
    /// whatever has the tag `ephemeral = "true"`.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        matches!(self.kind, AssetKind::Container | AssetKind::K8sPod)
            || self.tags.get("ephemeral").is_some_and(|value| value == "true")
            || self.tags.contains_key("aws:autoscaling:groupName")
    }
}

/// All assets that may be acted on.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    assets: Vec<Asset>,
    ids: HashMap<(AssetKind, String), usize>,
    /// Other names, in lower case, and all assets that have one.
    aliases: HashMap<String, Vec<usize>>,
    scopes: Vec<Scope>,
    accounts: Vec<String>,
}

impl Inventory {
    /// An inventory of these. An asset that is there twice is one: the first to say something of it is right.
    #[must_use]
    pub fn of(assets: impl IntoIterator<Item = Asset>) -> Self {
        let mut inventory = Self::default();
        for asset in assets {
            inventory.add(asset);
        }
        inventory
    }

    /// The same, with the cloud accounts whose assets may be touched though no file names them.
    #[must_use]
    pub fn with_accounts(mut self, accounts: Vec<String>) -> Self {
        self.accounts = accounts;
        self
    }

    /// The assets, in the order in which they were read.
    #[must_use]
    pub fn assets(&self) -> &[Asset] {
        &self.assets
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.assets.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assets.is_empty()
    }

    /// All assets of a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Vec<&Asset> {
        self.assets.iter().filter(|asset| !name.is_empty() && asset.group == name).collect()
    }

    /// Kinds of assets that come and go, of which none is listed.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The asset that an alert means: by its id, else by an alias that no other asset has, else in a scope, else in an account that
    /// is ours.
    ///
    /// # Errors
    ///
    /// Why it must not be acted on, in words.
    pub fn find(&self, reference: &AssetRef, alert: &Alert) -> Result<Asset, String> {
        if !reference.kind.allows(&reference.id) {
            return Err(format!("that is no id of the kind {}", reference.kind.word()));
        }
        let is_of_cloud = of_cloud(reference.kind);
        if let Some(asset) = self.known(reference)? {
            let other = is_of_cloud && !alert.account.is_empty() && !asset.account.is_empty();
            if other && alert.account != asset.account {
                return Err("the alert says another account than the inventory".to_owned());
            }
            return Ok(asset.clone());
        }
        if let Some(scope) = self.scopes.iter().find(|scope| scope.holds(reference)) {
            return Ok(scope.asset(reference));
        }
        if is_of_cloud && !alert.account.is_empty() && self.accounts.contains(&alert.account) {
            return Ok(Asset {
                kind: reference.kind,
                id: reference.id.clone(),
                aliases: Vec::new(),
                account: alert.account.clone(),
                region: alert.region.clone(),
                owner: String::new(),
                criticality: String::new(),
                group: String::new(),
                target: String::new(),
                tags: BTreeMap::new(),
            });
        }
        let account = match (is_of_cloud, alert.account.is_empty()) {
            (true, false) => ", and its account is none of ours",
            (true, true) => ", and the alert names no account",
            (false, _) => "",
        };
        Err(format!("it is not in the inventory{account}"))
    }

    /// Whether a file says something of an asset that was found, by itself or by a scope. Of one that is ours by its account
    /// alone, neither group nor tags nor how much it matters is known.
    #[must_use]
    pub fn lists(&self, asset: &Asset) -> bool {
        let reference = AssetRef { kind: asset.kind, id: asset.id.clone(), role: String::new() };
        self.ids.contains_key(&(asset.kind, folded(asset.kind, &asset.id)))
            || self.scopes.iter().any(|scope| scope.holds(&reference))
    }

    fn known(&self, reference: &AssetRef) -> Result<Option<&Asset>, String> {
        if let Some(at) = self.ids.get(&(reference.kind, folded(reference.kind, &reference.id))) {
            return Ok(self.assets.get(*at));
        }
        let named = self.aliases.get(&reference.id.to_lowercase()).map(Vec::as_slice).unwrap_or_default();
        let of = |kind: AssetKind| -> Vec<usize> {
            let is_of = |at: &usize| self.assets.get(*at).is_some_and(|asset| asset.kind == kind);
            named.iter().copied().filter(is_of).collect()
        };
        let of_kind = of(reference.kind);
        // A host may be an instance by its other name; nothing else is of another kind than the alert says. A volume with the
        // name of its instance is no host, and neither is a pod with an address that a host has too.
        let meant = match (of_kind.is_empty(), reference.kind) {
            (true, AssetKind::Host) => of(AssetKind::Ec2Instance),
            _ => of_kind,
        };
        match meant.as_slice() {
            [] => Ok(None),
            [one] => Ok(self.assets.get(*one)),
            more => Err(format!("{} assets of the inventory have this name", more.len())),
        }
    }

    pub(crate) fn add(&mut self, asset: Asset) {
        let key = (asset.kind, folded(asset.kind, &asset.id));
        let at = match self.ids.get(&key) {
            Some(at) => *at,
            None => {
                let at = self.assets.len();
                self.ids.insert(key, at);
                self.assets.push(Asset { aliases: Vec::new(), ..asset.clone() });
                // Many alerts name a pod without its cluster.
                if let (AssetKind::K8sPod, Some((_, rest))) = (asset.kind, asset.id.split_once('/')) {
                    self.aliases.entry(format!("/{rest}").to_lowercase()).or_default().push(at);
                }
                at
            }
        };
        let Some(own) = self.assets.get_mut(at) else { return };
        for (field, further) in [
            (&mut own.account, asset.account),
            (&mut own.region, asset.region),
            (&mut own.owner, asset.owner),
            (&mut own.criticality, asset.criticality),
            (&mut own.group, asset.group),
            (&mut own.target, asset.target),
        ] {
            if field.is_empty() {
                *field = further;
            }
        }
        for (key, value) in asset.tags {
            own.tags.entry(key).or_insert(value);
        }
        for alias in asset.aliases {
            if !own.aliases.contains(&alias) {
                let of_name = self.aliases.entry(alias.to_lowercase()).or_default();
                if !of_name.contains(&at) {
                    of_name.push(at);
                }
                own.aliases.push(alias);
            }
        }
    }
}

/// Ids of hosts are the same in any case; all others are as they are.
fn folded(kind: AssetKind, id: &str) -> String {
    if kind == AssetKind::Host { id.to_lowercase() } else { id.to_owned() }
}

/// Whether it is a thing of a cloud account, that its id alone leads to.
fn of_cloud(kind: AssetKind) -> bool {
    match kind {
        AssetKind::Ec2Instance
        | AssetKind::EbsVolume
        | AssetKind::IamAccessKey
        | AssetKind::IamUser
        | AssetKind::IamRole
        | AssetKind::S3Bucket => true,
        AssetKind::Container | AssetKind::K8sPod | AssetKind::Host => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(kind: AssetKind, id: &str, aliases: &[&str]) -> Asset {
        Asset {
            kind,
            id: id.into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            account: String::new(),
            region: String::new(),
            owner: String::new(),
            criticality: String::new(),
            group: String::new(),
            target: String::new(),
            tags: BTreeMap::new(),
        }
    }

    fn reference(kind: AssetKind, id: &str) -> AssetRef {
        AssetRef { kind, id: id.into(), role: "primary".into() }
    }

    #[test]
    fn a_pod_may_be_named_without_its_cluster() {
        let listed = ["prod/shop/web-0", "prod/shop/db-0", "test/shop/db-0"];
        let inventory = Inventory::of(listed.map(|id| asset(AssetKind::K8sPod, id, &[])));
        let find =
            |id| inventory.find(&reference(AssetKind::K8sPod, id), &Alert::default()).map(|asset| asset.id);
        assert_eq!(find("/shop/web-0"), Ok("prod/shop/web-0".into()));
        assert_eq!(find("test/shop/db-0"), Ok("test/shop/db-0".into()));
        assert!(find("/shop/db-0").unwrap_err().contains("2 assets"));
        assert!(find("other/shop/web-0").is_err());
    }

    const INSTANCE: &str = "i-0123456789abcdef0";

    #[test]
    fn an_asset_is_found_by_its_id_and_by_a_name_that_only_it_has() {
        let inventory = Inventory::of([
            asset(AssetKind::Host, "WEB01", &["10.0.0.5", "aid-1"]),
            asset(AssetKind::Ec2Instance, INSTANCE, &["db01", "10.0.0.5"]),
        ]);
        let alert = Alert::default();
        let find = |kind, id| inventory.find(&reference(kind, id), &alert).map(|asset| asset.id);
        assert_eq!(find(AssetKind::Host, "web01"), Ok("WEB01".into()));
        assert_eq!(find(AssetKind::Host, "AID-1"), Ok("WEB01".into()));
        assert_eq!(find(AssetKind::Host, "db01"), Ok(INSTANCE.into()));
        assert_eq!(find(AssetKind::Host, "10.0.0.5"), Ok("WEB01".into()));
        assert_eq!(find(AssetKind::Ec2Instance, INSTANCE), Ok(INSTANCE.into()));
        assert!(find(AssetKind::Ec2Instance, "db01").unwrap_err().contains("no id of the kind"));
        assert!(find(AssetKind::Host, "web02").unwrap_err().contains("not in the inventory"));
        assert!(find(AssetKind::Host, "$(reboot)").unwrap_err().contains("no id"));
    }

    #[test]
    fn a_host_is_never_a_volume_or_a_pod_that_has_its_name_or_address() {
        let volume = "vol-0123456789abcdef0";
        let alert = Alert::default();
        let find = |assets: &[Asset], id: &str| {
            Inventory::of(assets.to_vec()).find(&reference(AssetKind::Host, id), &alert).map(|asset| asset.id)
        };
        let named = asset(AssetKind::EbsVolume, volume, &["web01"]);
        let instance = asset(AssetKind::Ec2Instance, INSTANCE, &["web01", "10.0.0.5"]);
        let pod = asset(AssetKind::K8sPod, "prod/shop/web-0", &["10.0.0.5"]);
        let all = [named.clone(), instance, pod.clone()];
        assert_eq!(find(&all, "web01"), Ok(INSTANCE.into()));
        assert_eq!(find(&all, "10.0.0.5"), Ok(INSTANCE.into()));
        assert!(find(&[named], "web01").unwrap_err().contains("not in the inventory"));
        assert!(find(&[pod], "10.0.0.5").unwrap_err().contains("not in the inventory"));
    }

    #[test]
    fn what_is_ours_by_its_account_alone_is_not_listed() {
        let inventory = Inventory::of([asset(AssetKind::Host, "WEB01", &["w1"])])
            .with_accounts(vec!["111122223333".into()]);
        let alert = Alert { account: "111122223333".into(), ..Alert::default() };
        let lists = |kind, id| inventory.lists(&inventory.find(&reference(kind, id), &alert).unwrap());
        assert!(lists(AssetKind::Host, "w1") && lists(AssetKind::Host, "web01"));
        assert!(!lists(AssetKind::Ec2Instance, INSTANCE));
    }

    #[test]
    fn a_name_that_two_assets_have_names_neither() {
        let two = [asset(AssetKind::Host, "a", &["10.0.0.5"]), asset(AssetKind::Host, "b", &["10.0.0.5"])];
        let found = Inventory::of(two).find(&reference(AssetKind::Host, "10.0.0.5"), &Alert::default());
        assert!(found.unwrap_err().contains("2 assets"));
    }

    #[test]
    fn only_things_of_our_own_accounts_need_not_be_listed() {
        let inventory = Inventory::default().with_accounts(vec!["111122223333".into()]);
        let of = |account: &str| Alert {
            account: account.into(),
            region: "eu-central-1".into(),
            ..Alert::default()
        };
        let instance = reference(AssetKind::Ec2Instance, INSTANCE);
        let found = inventory.find(&instance, &of("111122223333")).unwrap();
        assert_eq!((found.account.as_str(), found.region.as_str()), ("111122223333", "eu-central-1"));
        assert!(inventory.find(&instance, &of("999999999999")).unwrap_err().contains("none of ours"));
        assert!(inventory.find(&instance, &of("")).unwrap_err().contains("no account"));
        assert!(inventory.find(&reference(AssetKind::Host, "web01"), &of("111122223333")).is_err());
    }

    #[test]
    fn an_alert_cannot_move_an_asset_to_another_account() {
        let mut listed = asset(AssetKind::Ec2Instance, INSTANCE, &[]);
        listed.account = "111122223333".into();
        let inventory = Inventory::of([listed]);
        let alert = Alert { account: "444455556666".into(), ..Alert::default() };
        let found = inventory.find(&reference(AssetKind::Ec2Instance, INSTANCE), &alert);
        assert!(found.unwrap_err().contains("another account"));
    }
}

//! Assets that an account says it has. What was found becomes a file, which a person may read before it is put in force.

use std::collections::BTreeMap;

use acquire::aws::Connection;
use acquire::aws::ec2::{Ec2, Instance, Tag, Volume};

use super::{Asset, CRITICALITIES};
use crate::alert::AssetKind;
use crate::error::Result;

/// Something that can be asked which assets there are.
pub trait Discover {
    /// All of them, by kind and id.
    ///
    /// # Errors
    ///
    /// Where they could not all be had: a part would look like the whole.
    fn assets(&self) -> Result<Vec<Asset>>;
}

/// Instances and volumes of an account in one region.
pub struct Ec2Assets<'a> {
    /// The account and region.
    pub connection: &'a Connection,
}

impl Discover for Ec2Assets<'_> {
    fn assets(&self) -> Result<Vec<Asset>> {
        let ec2 = Ec2::new(self.connection).map_err(acquire::Error::from)?;
        let region = self.connection.region();
        let instances = ec2.all_instances().map_err(acquire::Error::from)?.value;
        let volumes = ec2.all_volumes().map_err(acquire::Error::from)?.value;
        let mut assets: Vec<Asset> = instances
            .iter()
            .filter(|instance| instance.state != "terminated" && instance.state != "shutting-down")
            .map(|instance| of_instance(instance, region))
            .collect();
        let accounts: BTreeMap<&str, &str> =
            instances.iter().map(|instance| (instance.id.as_str(), instance.owner.as_str())).collect();
        assets.extend(volumes.iter().map(|volume| of_volume(volume, &accounts, region)));
        // What an account calls an id and is none could not be acted on.
        assets.retain(|asset| asset.kind.allows(&asset.id));
        assets.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        Ok(assets)
    }
}

fn of_instance(instance: &Instance, region: &str) -> Asset {
    let mut aliases: Vec<String> = instance.addresses.clone();
    for name in &instance.names {
        aliases.push(name.clone());
        aliases.extend(name.split_once('.').map(|(host, _)| host.to_owned()));
    }
    let mut asset = of_tags(AssetKind::Ec2Instance, &instance.id, &instance.tags, aliases);
    asset.account.clone_from(&instance.owner);
    region.clone_into(&mut asset.region);
    asset
}

fn of_volume(volume: &Volume, accounts: &BTreeMap<&str, &str>, region: &str) -> Asset {
    let mut asset = of_tags(AssetKind::EbsVolume, &volume.id, &volume.tags, Vec::new());
    let account = volume.attached.iter().find_map(|(instance, _)| accounts.get(instance.as_str()));
    asset.account = account.map(|account| (*account).to_owned()).unwrap_or_default();
    region.clone_into(&mut asset.region);
    asset
}

/// What tags say in the words that most accounts use; all of them stay tags too.
pub(super) fn of_tags(kind: AssetKind, id: &str, tags: &[Tag], mut aliases: Vec<String>) -> Asset {
    let tags: BTreeMap<String, String> = tags
        .iter()
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (plain(key), plain(value)))
        .collect();
    let said = |names: &[&str]| {
        let of_name = |name: &&str| {
            tags.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
        };
        names.iter().find_map(of_name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    // Volumes are named like their instances, and no alert calls a volume by such a name.
    aliases.extend(tags.get("Name").filter(|_| kind != AssetKind::EbsVolume).cloned());
    aliases.retain(|alias| !alias.is_empty() && alias != id);
    let mut seen = std::collections::BTreeSet::new();
    aliases.retain(|alias| seen.insert(alias.clone()));
    let criticality = said(&["criticality"]).to_lowercase();
    Asset {
        kind,
        id: id.to_owned(),
        aliases,
        account: String::new(),
        region: String::new(),
        owner: said(&["owner", "team"]),
        criticality: if CRITICALITIES.contains(&criticality.as_str()) { criticality } else { String::new() },
        group: said(&["group", "aws:autoscaling:groupName", "service"]),
        target: String::new(),
        tags,
    }
}

/// A text of an account, as an inventory may hold it.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_say_who_owns_an_instance_and_what_else_it_is_called() {
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let instance = Instance {
            id: "i-0123456789abcdef0".into(),
            owner: "111122223333".into(),
            names: vec!["ip-10-0-0-5.eu-central-1.compute.internal".into()],
            addresses: vec!["10.0.0.5".into()],
            tags: vec![
                tag("Name", "web01"),
                tag("Owner", "team-a"),
                tag("Criticality", "High"),
                tag("aws:autoscaling:groupName", "web\n"),
            ],
            ..Instance::default()
        };
        let asset = of_instance(&instance, "eu-central-1");
        assert_eq!(
            asset.aliases,
            ["10.0.0.5", "ip-10-0-0-5.eu-central-1.compute.internal", "ip-10-0-0-5", "web01"]
        );
        assert_eq!((asset.owner.as_str(), asset.criticality.as_str()), ("team-a", "high"));
        assert_eq!((asset.group.as_str(), asset.account.as_str()), ("web", "111122223333"));
        assert!(asset.is_ephemeral());
    }

    #[test]
    fn a_volume_has_no_other_name_though_it_is_tagged_like_its_instance() {
        let tags = [("Name".to_owned(), "web01".to_owned())];
        let asset = of_tags(AssetKind::EbsVolume, "vol-0123456789abcdef0", &tags, Vec::new());
        assert_eq!((asset.aliases.len(), asset.tags["Name"].as_str()), (0, "web01"));
    }
}

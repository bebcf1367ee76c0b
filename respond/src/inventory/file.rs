//! The file of assets, TOML or JSON: read, and written by a discovery.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scope::{RawScope, Scope};
use super::{Asset, CRITICALITIES, Inventory};
use crate::error::{Error, Result};
use crate::rules::{Fault, Part, Syntax, files_of, read};

/// More assets one inventory does not hold.
const MOST: usize = 200_000;

/// Longer texts in an inventory are none.
const LONGEST: usize = 2_048;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, rename = "asset")]
    assets: Vec<Asset>,
    #[serde(default, rename = "scope", skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<RawScope>,
}

impl Inventory {
    /// Reads a file of assets, or all `.toml` and `.json` files of a folder. An asset that two files have is one: what the first of
    /// them by name says of it holds, and what it leaves open is taken from the later.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; [`Error::Settings`] with its line for what is no asset, and for the same asset twice in a file.
    pub fn load(path: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for path in files_of(path)? {
            let text = read(&path)?;
            files.push((path, text));
        }
        Self::of_files(&files)
    }

    pub(crate) fn of_files(files: &[(PathBuf, String)]) -> Result<Self> {
        let mut inventory = Self::default();
        for (path, text) in files {
            let wrong = |what: String| Error::Settings { path: path.clone(), what };
            let syntax = Syntax::of(path).unwrap_or(Syntax::Toml);
            let file: File = syntax.read(text).map_err(wrong)?;
            if file.version != 1 {
                return Err(wrong("this program knows version 1".to_owned()));
            }
            let mut of_file = std::collections::BTreeSet::new();
            for (at, asset) in file.assets.into_iter().enumerate() {
                let place = |what: String| {
                    let fault = Fault::new(&[Part::Key("asset"), Part::Item(at)], what);
                    wrong(fault.words(syntax, text))
                };
                check(&asset).map_err(place)?;
                if !of_file.insert((asset.kind, asset.id.clone())) {
                    return Err(place(format!("the asset {:?} is in the file twice", asset.id)));
                }
                inventory.add(asset);
            }
            for (at, raw) in file.scopes.into_iter().enumerate() {
                let scope = Scope::new(raw).map_err(|what| {
                    let fault = Fault::new(&[Part::Key("scope"), Part::Item(at)], what);
                    wrong(fault.words(syntax, text))
                })?;
                inventory.scopes.push(scope);
            }
            if inventory.len() > MOST {
                return Err(wrong(format!("there are more than {MOST} assets")));
            }
        }
        Ok(inventory)
    }
}

fn check(asset: &Asset) -> Result<(), String> {
    if !asset.kind.allows(&asset.id) {
        return Err(format!("{:?} is no id of its kind", asset.id));
    }
    check_texts(asset)
}

/// Whether all that is said of an asset, beside its id, is fit to be repeated.
pub(super) fn check_texts(asset: &Asset) -> Result<(), String> {
    if !asset.criticality.is_empty() && !CRITICALITIES.contains(&asset.criticality.as_str()) {
        return Err(format!("criticality is {}, not {:?}", CRITICALITIES.join(", "), asset.criticality));
    }
    let texts = [&asset.account, &asset.region, &asset.owner, &asset.group, &asset.target];
    let texts = texts.into_iter().chain(&asset.aliases).chain(asset.tags.keys()).chain(asset.tags.values());
    if let Some(text) = texts.into_iter().find(|text| text.len() > LONGEST || text.contains(char::is_control))
    {
        let start: String = text.chars().take(40).collect();
        return Err(format!("a text is too long or has control characters: {start:?}"));
    }
    if asset.aliases.iter().any(String::is_empty) {
        return Err("an alias is empty".to_owned());
    }
    Ok(())
}

/// Assets as a file has them: JSON where the name says so, else TOML.
///
/// # Errors
///
/// [`Error::Settings`] where the name says neither.
pub fn written(assets: &[Asset], path: &Path) -> Result<String> {
    match Syntax::of(path) {
        Some(Syntax::Json) => {
            let file = File { version: 1, assets: assets.to_vec(), scopes: Vec::new() };
            let text = serde_json::to_string_pretty(&file)
                .map_err(|error| Error::Settings { path: path.to_owned(), what: error.to_string() })?;
            Ok(format!("{text}\n"))
        }
        Some(Syntax::Toml) => Ok(toml_of(assets)),
        None => Err(Error::Settings {
            path: path.to_owned(),
            what: "the name of the file ends neither in .toml nor in .json".to_owned(),
        }),
    }
}

fn toml_of(assets: &[Asset]) -> String {
    let mut text = "version = 1\n".to_owned();
    for asset in assets {
        text.push_str("\n[[asset]]\n");
        text.push_str(&format!("kind = {}\n", quoted(asset.kind.word())));
        text.push_str(&format!("id = {}\n", quoted(&asset.id)));
        if !asset.aliases.is_empty() {
            let aliases: Vec<String> = asset.aliases.iter().map(|alias| quoted(alias)).collect();
            text.push_str(&format!("aliases = [{}]\n", aliases.join(", ")));
        }
        for (key, value) in [
            ("account", &asset.account),
            ("region", &asset.region),
            ("owner", &asset.owner),
            ("criticality", &asset.criticality),
            ("group", &asset.group),
            ("target", &asset.target),
        ] {
            if !value.is_empty() {
                text.push_str(&format!("{key} = {}\n", quoted(value)));
            }
        }
        if !asset.tags.is_empty() {
            let tags: Vec<String> = asset
                .tags
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)))
                .collect();
            text.push_str(&format!("tags = {{ {} }}\n", tags.join(", ")));
        }
    }
    text
}

/// A basic string of TOML: every string of JSON is one, but that TOML wants DEL escaped too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::AssetKind;

    fn of(text: &str) -> Result<Inventory> {
        Inventory::of_files(&[(PathBuf::from("assets.toml"), text.to_owned())])
    }

    #[test]
    fn an_asset_that_is_none_is_told_with_its_line() {
        for (asset, says) in [
            ("kind='ec2_instance'\nid='i-xyz'", "line 3: \"i-xyz\" is no id"),
            ("kind='host'\nid='web01'\ncriticality='severe'", "line 3: criticality is low"),
            ("kind='host'\nid='web01'\naliases=['']", "line 3: an alias is empty"),
            ("kind='host'\nid='web01'\nowner=\"a\\u0007\"", "control characters"),
            ("kind='host'\nid='web01'\ncolour='red'", "line 6: unknown field `colour`"),
            ("kind='toaster'\nid='web01'", "line 4: unknown variant `toaster`"),
            (
                "kind='host'\nid='web01'\n[[asset]]\nkind='host'\nid='web01'",
                "line 6: the asset \"web01\" is in the file twice",
            ),
        ] {
            let error =
                of(&format!("version=1\n\n[[asset]]\n{asset}\n")).err().map(|error| error.to_string());
            assert!(error.as_deref().unwrap_or_default().contains(says), "{asset}: {error:?}");
        }
        assert!(of("version=2\n").is_err());
    }

    #[test]
    fn what_one_file_leaves_open_the_next_one_says() {
        let own = "version=1\n[[asset]]\nkind='host'\nid='web01'\nowner='team-a'\ntags={tier='edge'}\n";
        let found = "version=1\n[[asset]]\nkind='host'\nid='web01'\nowner='nobody'\ngroup='web'\naliases=['w1']\ntags={tier='x',os='linux'}\n";
        let files = [("a.toml", own), ("b.toml", found)].map(|(name, text)| (name.into(), text.to_owned()));
        let inventory = Inventory::of_files(&files).unwrap();
        let asset = &inventory.assets()[0];
        assert_eq!((inventory.len(), asset.owner.as_str(), asset.group.as_str()), (1, "team-a", "web"));
        assert_eq!((asset.tags["tier"].as_str(), asset.tags["os"].as_str()), ("edge", "linux"));
        assert_eq!(asset.aliases, ["w1"]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            owner in "[^\\p{Cc}]{0,20}", key in "[^\\p{Cc}]{1,20}", value in "[^\\p{Cc}]{0,20}", json: bool,
        ) {
            let asset = Asset {
                kind: AssetKind::Host, id: "web01".into(), aliases: vec!["w1".into()], account: String::new(),
                region: "eu".into(), owner, criticality: "high".into(), group: String::new(), target: "local".into(),
                tags: [(key, value)].into(),
            };
            let path = PathBuf::from(if json { "a.json" } else { "a.toml" });
            let text = written(std::slice::from_ref(&asset), &path).unwrap();
            let inventory = Inventory::of_files(&[(path, text)]).unwrap();
            prop_assert_eq!(inventory.assets(), std::slice::from_ref(&asset));
        }
    }
}

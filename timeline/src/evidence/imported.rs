//! What lies in a foreign file that was imported: which kind of file it is, the manifest says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{FileTimes, Member, Opening, TarRoot};
use crate::build::Issue;
use crate::bytes::ByteSource;
use crate::error::Error;
use crate::file_scan::EvidenceFile;
use crate::host_facts::HostRoot;
use crate::images::collection::{Collection, Kind, Layout};
use crate::images::ewf::Ewf;
use crate::memory::MemoryImage;
use crate::text::locator_name;

/// An imported file, as the bundle's manifest tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Imported {
    /// `e01`, `raw`, `split-raw`, `lime`, `avml`, `uac-tar`, `velociraptor-zip`, `kape`.
    format: String,
    /// The lengths of its parts in their order; none where it is one file.
    parts: Vec<u64>,
}

impl Imported {
    /// What the manifest's `options` say.
    pub(super) fn of(options: &Map<String, Value>) -> Imported {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let sizes = options.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Imported {
            format: text(options.get("format")),
            parts: sizes.iter().filter_map(|part| part.get("size")?.as_u64()).collect(),
        }
    }
}

/// A container that goes on finding damage while it is read.
pub(super) enum Opened {
    Ewf(Arc<Ewf>),
    Collection(Collection),
}

impl Opened {
    /// All that is damaged or not read in it, as found so far.
    pub(super) fn issues(&self) -> Vec<String> {
        match self {
            Opened::Ewf(ewf) => ewf.issues().iter().map(ToString::to_string).collect(),
            Opened::Collection(collection) => collection.issues(),
        }
    }
}

impl Opening {
    /// Opens an imported file as what it is. What cannot be read in it is an issue.
    pub(super) fn imported(
        &mut self,
        stream: &str,
        imported: &Imported,
        source: Arc<dyn ByteSource>,
    ) -> Result<(), Error> {
        match imported.format.as_str() {
            "raw" | "split-raw" => {
                self.disk_image(stream, source);
                Ok(())
            }
            "e01" => self.e01(stream, imported, source),
            "lime" | "avml" => {
                match MemoryImage::open(stream, source, &[]) {
                    Ok(memory) => self.memory.push(memory),
                    Err(error) => self.issues.push(Issue::new(stream, error)),
                }
                Ok(())
            }
            "uac-tar" => self.collection(stream, Layout::Uac, source),
            "velociraptor-zip" => self.collection(stream, Layout::Velociraptor, source),
            "kape" => self.collection(stream, Layout::Kape, source),
            other => {
                let reason = format!("imported files of format {other:?} are not read by this version");
                self.issues.push(Issue::new(stream, reason));
                Ok(())
            }
        }
    }

    /// A disk of which parts may be missing: that is an issue, where it would be an error of a disk of our own.
    fn disk_image(&mut self, locator: &str, disk: Arc<dyn ByteSource>) {
        if let Err(error) = self.disk(locator, disk) {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            self.issues.push(Issue::new(locator, reason));
        }
    }

    fn e01(&mut self, stream: &str, imported: &Imported, source: Arc<dyn ByteSource>) -> Result<(), Error> {
        let locator = format!("{stream}/e01");
        match Ewf::open(source, &imported.parts)? {
            Ok(ewf) => {
                let ewf = Arc::new(ewf);
                self.opened.push((locator.clone(), Opened::Ewf(ewf.clone())));
                self.disk_image(&locator, ewf);
                Ok(())
            }
            Err(what) => {
                self.issues.push(Issue::new(locator, format!("the file is {what}")));
                Ok(())
            }
        }
    }
}

impl Opening {
    fn collection(&mut self, stream: &str, layout: Layout, source: Arc<dyn ByteSource>) -> Result<(), Error> {
        let collection = match Collection::open(source) {
            Ok(Ok(collection)) => collection,
            Ok(Err(what)) => {
                self.issues.push(Issue::new(stream, format!("the file is {what}")));
                return Ok(());
            }
            Err(error) => {
                self.issues.push(Issue::new(stream, error));
                return Ok(());
            }
        };
        let locator = format!("{stream}/{}", collection.form);
        self.members(&locator, &collection, layout);
        let holes = collection.without_holes();
        if holes > 0 {
            let reason = format!(
                "{holes} files were packed without their holes: offsets in them are not those of the host's files"
            );
            self.issues.push(Issue::new(&locator, reason));
        }
        self.opened.push((locator, Opened::Collection(collection)));
        Ok(())
    }

    fn members(&mut self, locator: &str, collection: &Collection, layout: Layout) {
        let mut on_the_host = HashMap::new();
        let mut names = HashSet::new();
        for member in &collection.members.list {
            let host_path = layout.host_path(&member.name);
            if member.kind == Kind::File {
                let name = member.name.strip_prefix(b"/").unwrap_or(&member.name);
                let name = locator_name(name.strip_prefix(b"./").unwrap_or(name));
                // A name that comes again is told apart by the place of its header.
                let base = match names.insert(name.clone()) {
                    true => locator.to_owned(),
                    false => format!("{locator}@{}", member.facts.offset),
                };
                let content = collection.content(member);
                self.files.push(EvidenceFile {
                    locator: format!("{base}:/{name}"),
                    path: host_path.as_deref().map_or_else(|| format!("/{name}"), locator_name),
                    source: content.clone(),
                    modified: member.modified,
                    order: member.facts.offset,
                    is_deleted: false,
                });
                if let Some(path) = host_path {
                    on_the_host.insert(path, Member::File(content));
                }
            } else if let Some(target) = collection.target(member)
                && let Some(path) = host_path
            {
                on_the_host.insert(path, Member::Link(target));
            }
        }
        if self.root.is_none() {
            self.root = TarRoot::find(on_the_host).map(|root| Box::new(root) as Box<dyn HostRoot>);
        }
        self.file_times.push(FileTimes::Archive {
            locator: locator.to_owned(),
            archive: collection.archive.clone(),
            headers: collection.members.list.iter().map(|member| member.facts).collect(),
            is_zip: collection.form == "zip",
            layout,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_manifest_says_what_an_imported_file_is() {
        let options =
            json!({"format": "e01", "parts": [{"name": "x.E01", "size": 7}, {"name": "x.E02", "size": 5}]});
        let imported = Imported::of(options.as_object().unwrap());
        assert_eq!(imported, Imported { format: "e01".into(), parts: vec![7, 5] });
        assert_eq!(Imported::of(&Map::new()), Imported { format: String::new(), parts: Vec::new() });
    }
}

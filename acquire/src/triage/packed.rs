//! What the tests of live response share: a tar that was packed, read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use custody::bundle::{BundleStore, CatalogWriter, HashedFile, LocalFolder};
use custody::clock::{Clock, FixedClock};

use crate::error::Result;
use crate::pipeline::{PipelineOptions, store_alone};
use crate::source::{Issue, Issues};
use crate::tar_packer::TarPacker;

/// 2026-11-21T01:30:00Z.
pub(crate) const NOW: i64 = 1_795_224_600_000_000_000;

/// What a collector left behind.
pub(crate) struct Packed {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) issues: Vec<Issue>,
}

impl Packed {
    /// The rows of a table, without its header.
    pub(crate) fn rows(&self, name: &str) -> Vec<serde_json::Value> {
        let table = self.files.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.files.keys()));
        let lines = table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).skip(1);
        lines.map(|line| custody::strict_json::parse(line).unwrap()).collect()
    }
}

/// Runs a collector, and reads its tar with another program's code.
pub(crate) fn packed(collect: impl FnOnce(&mut TarPacker<'_>, &dyn Clock) -> Result<()>) -> Packed {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder.path()));
    let file = HashedFile::begin(&*store, "data/commands.catalog.jsonl").unwrap();
    let mut catalog = CatalogWriter::new(file);
    let mut issues = Issues::default();
    let clock = FixedClock::at(NOW);
    let options = PipelineOptions { workers: 1, ..PipelineOptions::default() };
    let ((), written) = store_alone(Arc::clone(&store), "commands", options, |feed| {
        let mut packer = TarPacker::new(feed, &mut catalog, &mut issues, &clock, None);
        collect(&mut packer, &clock)?;
        packer.finish().map(drop)
    })
    .unwrap();
    let (catalog, _) = catalog.finish().unwrap();
    written.writer.finish(written.sha256, written.sha256_data, Some(catalog)).unwrap();
    let mut segments: Vec<_> =
        std::fs::read_dir(folder.path().join("data/commands")).unwrap().map(|f| f.unwrap().path()).collect();
    segments.sort();
    let tar: Vec<u8> = segments
        .iter()
        .flat_map(|path| zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap())
        .collect();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        files.insert(name, content);
    }
    Packed { files, issues: issues.into_kept() }
}

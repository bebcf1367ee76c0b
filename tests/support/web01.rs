//! The made-up server of `samples/web01`: its disk, its logs, and what was written into them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

/// The disk image and the log folder, unpacked.
pub(crate) struct Web01 {
    pub(crate) disk: PathBuf,
    pub(crate) logs: PathBuf,
}

impl Web01 {
    pub(crate) fn unpack(folder: &Path) -> Web01 {
        let open = |name: &str| fs::File::open(samples().join("web01").join(name)).unwrap();
        fs::create_dir_all(folder).unwrap();
        let disk = folder.join("web01-disk.raw");
        zstd::stream::copy_decode(open("web01-disk.raw.zst"), fs::File::create(&disk).unwrap()).unwrap();
        let logs = zstd::stream::read::Decoder::new(open("web01-logs.tar.zst")).unwrap();
        tar::Archive::new(logs).unpack(folder).unwrap();
        Web01 { disk, logs: folder.join("web01") }
    }
}

/// `EXPECTED.md`: how many records were written into each file, by its path on the host.
pub(crate) fn records_written() -> BTreeMap<String, u64> {
    rows_below("## Records").map(|cells| (cells[0].clone(), cells[1].parse().unwrap())).collect()
}

/// `EXPECTED.md`: the deleted files, each with the second of its deletion.
pub(crate) fn deletions() -> BTreeMap<String, String> {
    rows_below("## Deleted").map(|cells| (cells[0].clone(), cells[2].clone())).collect()
}

/// The cells of the table below a heading, without its head.
fn rows_below(heading: &str) -> impl Iterator<Item = Vec<String>> {
    let page = fs::read_to_string(samples().join("web01/EXPECTED.md")).unwrap();
    let lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let rows = lines.into_iter().skip_while(move |line| line != heading).skip(1);
    rows.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `")).map(|line| {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    })
}

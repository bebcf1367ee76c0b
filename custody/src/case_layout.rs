//! Where things lie in a case and beside a log: pure functions from a folder to a path.

use std::path::{Path, PathBuf};

/// The log's entries.
pub const LOG: &str = "custody.jsonl";
/// The cached right edge of the log's tree.
pub const FRONTIER: &str = "custody.frontier";
/// The newest signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint";
/// Checkpoints that are kept whole.
pub const CHECKPOINTS: &str = "checkpoints";
/// How much of the log is in the evidence store that its bundle was written to.
pub const MIRROR: &str = "custody.mirror";
/// Time-stamp tokens and cosigned checkpoints.
pub const ANCHORS: &str = "anchors";
/// The log's first key, as a C2SP verifier key.
pub const LOG_VKEY: &str = "keys/log.vkey";
/// Files that an interrupted append may leave behind; their content means nothing.
pub const LEFTOVERS: [&str; 5] = [
    "custody.checkpoint.tmp",
    "custody.frontier.tmp",
    "custody.kept.tmp",
    "custody.mirror.tmp",
    "custody.store.tmp",
];
/// How the names of kept torn bytes begin.
pub const TORN_PREFIX: &str = "custody.torn.";

/// What the case is.
pub const CASE: &str = "case.json";
/// The case's bundles.
pub const EXHIBITS: &str = "exhibits";
/// What the timeline crate builds.
pub const TIMELINE: &str = "timeline";
/// What reports were issued.
pub const REPORTS: &str = "reports";

/// What is kept of exhibits that were disposed of: all but their content.
pub const DISPOSED: &str = "disposed";

/// Where what comes from another machine lies until it is checked. It is empty or not there unless that was interrupted.
pub const TAKING: &str = "taking";

/// `custody.jsonl` of a case or bundle.
pub fn log(folder: &Path) -> PathBuf {
    folder.join(LOG)
}

/// `checkpoint` of a case or bundle.
pub fn checkpoint(folder: &Path) -> PathBuf {
    folder.join(CHECKPOINT)
}

/// The kept checkpoint of this size.
pub fn kept_checkpoint(folder: &Path, size: u64) -> PathBuf {
    folder.join(CHECKPOINTS).join(kept_checkpoint_name(size))
}

/// The name of the kept checkpoint of this size: eight digits, more when needed.
pub fn kept_checkpoint_name(size: u64) -> String {
    format!("{size:08}")
}

/// Torn bytes kept aside before entry `seq` recorded them; `nth` counts from 0.
pub fn torn_name(seq: u64, nth: u32) -> String {
    format!("{TORN_PREFIX}{seq:08}.{nth}")
}

/// The folder of the bundles of a case.
pub fn exhibits(case: &Path) -> PathBuf {
    case.join(EXHIBITS)
}

/// `case.json`.
pub fn case_file(case: &Path) -> PathBuf {
    case.join(CASE)
}

/// The folder of the timeline store.
pub fn timeline(case: &Path) -> PathBuf {
    case.join(TIMELINE)
}

/// The folder of issued reports.
pub fn reports(case: &Path) -> PathBuf {
    case.join(REPORTS)
}

/// The folder of the records of disposed exhibits.
pub fn disposed(case: &Path) -> PathBuf {
    case.join(DISPOSED)
}

/// The folder in which what comes from another machine is checked before it becomes an exhibit.
pub fn taking(case: &Path) -> PathBuf {
    case.join(TAKING)
}

/// An exhibit's id: `E001`, four digits and more when needed.
pub fn exhibit_id(number: u32) -> String {
    format!("E{number:03}")
}

/// The number in an exhibit's folder name, `E001-web01-disk` or `E001`; `None` when it is no such name.
pub fn exhibit_number(folder_name: &str) -> Option<u32> {
    let (id, _) = folder_name.split_once('-').unwrap_or((folder_name, ""));
    let number = id.strip_prefix('E')?.parse().ok()?;
    (exhibit_id(number) == id && number > 0).then_some(number)
}

/// The folder name of an exhibit: its id, `-`, and its name cut to 64 of `A–Z a–z 0–9 . _ -`.
///
/// Other characters become `_`. A name with nothing left gives the id alone.
pub fn exhibit_folder_name(id: &str, name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .take(64)
        .collect();
    if plain.is_empty() { id.to_owned() } else { format!("{id}-{plain}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exhibit_folder_is_named_by_id_and_safe_name() {
        assert_eq!(exhibit_folder_name("E001", "web01-disk"), "E001-web01-disk");
        assert_eq!(exhibit_folder_name("E002", "../é x"), "E002-..___x");
        assert_eq!(exhibit_folder_name("E003", ""), "E003");
        assert_eq!(exhibit_folder_name("E004", &"x".repeat(100)).len(), 69);
    }

    #[test]
    fn an_exhibit_number_is_read_from_canonical_names_only() {
        assert_eq!(exhibit_number("E001-web01"), Some(1));
        assert_eq!(exhibit_number("E1000"), Some(1000));
        for name in ["E01-x", "E000-x", "001", "E0001", "Ex", "e001", "E+01"] {
            assert_eq!(exhibit_number(name), None, "{name}");
        }
    }
}

//! Cases and bundles that lie somewhere below a folder.

use std::path::{Path, PathBuf};

use crate::case_layout;
use crate::error::{Error, Result};

/// Deeper folders are listed as not looked into.
const DEEPEST: usize = 16;

/// What lies below a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Folders of cases.
    pub cases: Vec<PathBuf>,
    /// Folders of bundles outside them.
    pub bundles: Vec<PathBuf>,
    /// What was not looked into, with the reason.
    pub unread: Vec<String>,
}

/// Looks for cases and bundles in a folder and below it, sorted by path; links are not followed, and nothing is looked
/// for inside a case or a bundle.
///
/// # Errors
///
/// [`Error::Read`] when the folder itself cannot be read. What cannot be read below it is listed.
pub fn find_places(folder: &Path) -> Result<Found> {
    let mut found = Found::default();
    std::fs::read_dir(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
    look(folder, 0, &mut found);
    found.cases.sort();
    found.bundles.sort();
    found.unread.sort();
    Ok(found)
}

fn look(folder: &Path, depth: usize, found: &mut Found) {
    if case_layout::case_file(folder).is_file() {
        found.cases.push(folder.to_owned());
        return;
    }
    let signed = folder.join("manifest.json").is_file() && folder.join("manifest.json.sig").is_file();
    if signed || case_layout::log(folder).is_file() {
        found.bundles.push(folder.to_owned());
        return;
    }
    if depth >= DEEPEST {
        found.unread.push(format!("{}: more than {DEEPEST} folders deep", folder.display()));
        return;
    }
    let listing = match std::fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) => {
            found.unread.push(format!("{}: {error}", folder.display()));
            return;
        }
    };
    for item in listing {
        match item.and_then(|item| Ok((item.path(), item.file_type()?))) {
            Ok((path, kind)) if kind.is_dir() => look(&path, depth + 1, found),
            Ok(_) => {}
            Err(error) => found.unread.push(format!("{}: {error}", folder.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_and_bundles_are_found_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        put("a/case/case.json");
        put("a/case/exhibits/E001/custody.jsonl");
        put("b/c/loose/custody.jsonl");
        put("b/npm/manifest.json");
        put("b/signed/manifest.json");
        put("b/signed/manifest.json.sig");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        let found = find_places(folder.path()).unwrap();
        let below = |path: &str| folder.path().join(path);
        assert_eq!(found.cases, [below("a/case")]);
        assert_eq!(found.bundles, [below("b/c/loose"), below("b/signed")]);
        assert_eq!(found.unread, Vec::<String>::new());
        assert!(find_places(&below("gone")).is_err());
    }

    #[test]
    fn what_lies_too_deep_is_listed_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let deep: PathBuf = (0..DEEPEST + 2).map(|_| "d").collect();
        std::fs::create_dir_all(folder.path().join(deep)).unwrap();
        let found = find_places(folder.path()).unwrap();
        assert_eq!(found.unread.len(), 1);
        assert!(found.unread[0].contains("folders deep"), "{:?}", found.unread);
    }
}

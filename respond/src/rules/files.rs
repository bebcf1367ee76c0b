//! Files of rules and assets: which there are, and their text.

use std::path::{Path, PathBuf};

use super::place::Syntax;
use crate::error::{Error, Result};

/// No file of rules or assets is larger.
const LARGEST_FILE: u64 = 16 << 20;

/// The file itself, or those of a folder by name.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let fault = |source| Error::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(fault)?.is_dir() {
        return match Syntax::of(path) {
            Some(_) => Ok(vec![path.to_owned()]),
            None => Err(Error::Settings {
                path: path.to_owned(),
                what: "the name of the file ends neither in .toml nor in .json".to_owned(),
            }),
        };
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        let is_hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if Syntax::of(&file).is_some() && !is_hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::Settings {
            path: path.to_owned(),
            what: "no .toml and no .json file is in this folder".to_owned(),
        });
    }
    Ok(files)
}

/// A file's text, if it is not too large.
pub(crate) fn read(path: &Path) -> Result<String> {
    use std::io::Read as _;
    let fault = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(fault)?;
    let length = file.take(LARGEST_FILE + 1).read_to_string(&mut text).map_err(fault)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > LARGEST_FILE {
        return Err(Error::Settings {
            path: path.to_owned(),
            what: format!("it has more than {} MiB", LARGEST_FILE >> 20),
        });
    }
    Ok(text)
}

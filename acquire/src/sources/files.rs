//! Files and folders, as they lie on a running or mounted system, packed into one PAX tar with a catalogue.
//!
//! - Order: context files first, then each given path; folders before their content, names by their bytes.
//! - A file's size is fixed when it is opened: a shorter one is filled with zeros (`absent`), growth is noted.
//! - Links are entries and never followed, except one that is itself a given path: then its target is taken as well.
//! - Sockets, pipes and devices are entries without content. A second name of an inode is a hard link.
//! - Mounts are crossed; kernel file systems (`/proc`, `/sys` …) are entered only if given by name.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use serde_json::{Map, Value};

use crate::capture::{Capture, Streams};
use crate::context::context_files;
use crate::error::{Error, Result};

/// Files and folders to acquire.
#[derive(Debug, Clone)]
pub struct FilesSource {
    given: Vec<PathBuf>,
    roots: Vec<PathBuf>,
    context: Vec<PathBuf>,
}

impl FilesSource {
    /// Takes paths to acquire; they must be there.
    ///
    /// # Errors
    ///
    /// [`Error::OpenSource`] for one that is not, [`Error::NotASource`] if none is given.
    pub fn new(paths: &[PathBuf]) -> Result<Self> {
        if paths.is_empty() {
            return Err(Error::NotASource { path: PathBuf::new(), reason: "no file or folder is given" });
        }
        let mut roots = Vec::new();
        for path in paths {
            let failed = |source| Error::OpenSource { path: path.clone(), source };
            let place = absolute(path).map_err(failed)?;
            if place.symlink_metadata().map_err(failed)?.is_symlink() {
                roots.push(place.canonicalize().map_err(failed)?);
            }
            roots.push(place);
        }
        roots.sort();
        roots.dedup();
        // A path within another one comes with it. In this order the outer one stands first.
        let mut outer: Vec<PathBuf> = Vec::new();
        for root in roots {
            if !outer.iter().any(|other| root.starts_with(other)) {
                outer.push(root);
            }
        }
        let context = context_files(&outer);
        Ok(Self { given: paths.to_vec(), roots: outer, context })
    }
}

impl Capture for FilesSource {
    fn facts(&self) -> SourceFacts {
        let text = |path: &PathBuf| escape_text(path.as_os_str().as_bytes());
        let paths: Vec<Value> = self.roots.iter().map(|path| text(path).into()).collect();
        SourceFacts {
            kind: "logs".to_owned(),
            path: self.given.first().filter(|_| self.given.len() == 1).map(text),
            more: Map::from_iter([("paths".to_owned(), Value::Array(paths))]),
            ..SourceFacts::default()
        }
    }

    fn options(&self) -> Map<String, Value> {
        let context: Vec<String> =
            self.context.iter().map(|path| escape_text(path.as_os_str().as_bytes())).collect();
        Map::from_iter([("context".to_owned(), context.into())])
    }

    /// The context files come first, then each given path.
    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        streams.tar("files", "files", |packer| {
            self.context.iter().try_for_each(|path| packer.once(path))?;
            self.roots.iter().try_for_each(|path| packer.tree(path))
        })
    }
}

/// An absolute path without links on the way; its last part may be one.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
        // "/" and paths that end in "..".
        _ => path.canonicalize(),
    }
}

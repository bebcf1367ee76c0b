//! What lies in a foreign file that was imported: which kind of file it is, the manifest says.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Opening;
use crate::build::Issue;
use crate::bytes::ByteSource;
use crate::error::Error;
use crate::images::ewf::Ewf;

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
                self.images.push((locator.clone(), ewf.clone()));
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

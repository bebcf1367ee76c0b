//! `exhibit list`: the exhibits of a case.

use std::path::PathBuf;

use custody::bundle::Bundle;
use custody::verify::{self, Options};
use serde_json::json;

use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::{target, ui};

/// List the exhibits of a case, with size, hash and verdict
///
/// The verdict is that of the exhibit's custody log and of what it says is sealed; `exhibit verify` checks every byte.
///
/// Example: exhibit list ir-2026-017
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    for exhibit in case.exhibits()? {
        let folder = exhibit.folder.display().to_string();
        let bundle = Bundle::open(&exhibit.folder);
        let log = verify::verify_log(&exhibit.folder, &Options::default());
        let (verdict, name, kind, size, sha256, why) = match &bundle {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let size: u64 = manifest.streams.iter().map(|stream| stream.size).sum();
                let sha256 =
                    manifest.streams.first().map(|stream| stream.sha256.to_string()).unwrap_or_default();
                let verdict = log.map_or_else(|_| "BROKEN".to_owned(), |log| log.verdict.to_string());
                (verdict, manifest.name.clone(), manifest.source.kind.clone(), Some(size), sha256, None)
            }
            Err(error) => {
                let open = matches!(error, custody::bundle::Error::NotSealed { .. });
                let verdict = if open { "OPEN" } else { "BROKEN" }.to_owned();
                (verdict, String::new(), String::new(), None, String::new(), Some(chain(error)))
            }
        };
        rows.push(vec![
            exhibit.id.clone(),
            name.clone(),
            kind.clone(),
            size.map(ui::bytes).unwrap_or_default(),
            sha256.get(..16).map(|start| format!("{start}…")).unwrap_or_default(),
            why.clone().map_or_else(|| verdict.clone(), |why| format!("{verdict}: {why}")),
        ]);
        documents.push(json!({
            "id": exhibit.id, "name": name, "kind": kind, "size": size, "sha256": sha256, "log_verdict": verdict,
            "folder": folder, "error": why,
        }));
    }
    if session.ui.is_json() {
        session.ui.document(&documents.into())?;
    } else if rows.is_empty() {
        session.ui.say("the case has no exhibit yet");
    } else {
        session.ui.table(&["id", "name", "kind", "size", "sha-256", "log"], rows)?;
    }
    Ok(Outcome::Done)
}

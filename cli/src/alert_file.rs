//! An alert from a file: as its product sends it, or in the one form that rules see.

use std::path::Path;

use respond::alert::{self, Alert, Mapping, SOURCES, Unparsed, strict_json};
use respond::jobs::OUR_FORM;

use crate::failure::Failure;
use crate::ui::printable;

/// No alert is larger; the service takes less.
const LARGEST: u64 = 16 << 20;

/// The kind whose reader takes any JSON, so that it says nothing of what a file is.
const ANY: &str = "generic";

/// Reads the alerts of a file. Without the word of a source, it is found out: the file is an alert in our own form, or exactly one
/// source knows it.
pub(crate) fn read(
    file: &Path,
    source: Option<&str>,
    mapping: Option<&Mapping>,
) -> Result<Vec<Alert>, Failure> {
    read_as(file, source, mapping).map(|(_, alerts)| alerts)
}

/// As [`read`], with the word of the source, or [`OUR_FORM`].
pub(crate) fn read_as(
    file: &Path,
    source: Option<&str>,
    mapping: Option<&Mapping>,
) -> Result<(&'static str, Vec<Alert>), Failure> {
    let body = bytes(file)?;
    let not = |why: Unparsed| {
        Failure::usage(format!("{} is no alert: {}", file.display(), printable(&why.to_string(), false)))
    };
    if let Some(word) = source {
        let kind = alert::source(word).ok_or_else(|| {
            let words: Vec<&str> = SOURCES.iter().map(|source| source.word).collect();
            Failure::usage(format!("there is no source {word:?}; there are {}", words.join(", ")))
        })?;
        return Ok((kind.word, alert::read(word, mapping, &body).map_err(not)?));
    }
    let value = strict_json::read(&body).map_err(not)?;
    match serde_json::from_value::<Alert>(value) {
        Ok(alert) if !alert.source.is_empty() => return Ok((OUR_FORM, vec![alert])),
        _ => {}
    }
    let mut known: Vec<(&'static str, Vec<Alert>)> = Vec::new();
    for source in SOURCES.iter().filter(|source| source.word != ANY) {
        if let Ok(alerts) = alert::read(source.word, mapping, &body) {
            known.push((source.word, alerts));
        }
    }
    let words = known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    match known.pop() {
        Some(found) if known.is_empty() => Ok(found),
        Some(_) => {
            Err(Failure::usage(format!("{} may be of {words}", file.display()))
                .hint("say which with --source"))
        }
        None => Err(Failure::usage(format!("no source knows {} as its alert", file.display()))
            .hint("say which it is of with --source; then it is told what is wrong with it")),
    }
}

/// The bytes of a file, if they are not too many.
pub(crate) fn bytes(file: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let unread = |error| Failure::usage(format!("{} cannot be read: {error}", file.display()));
    let mut body = Vec::new();
    let open = std::fs::File::open(file).map_err(unread)?;
    let length = open.take(LARGEST + 1).read_to_end(&mut body).map_err(unread)?;
    if length as u64 > LARGEST {
        return Err(Failure::usage(format!("{} has more than {} MiB", file.display(), LARGEST >> 20)));
    }
    Ok(body)
}

//! Exhibits that hold only what changed: whether what they build on is in the case, and whether both together are the
//! whole that was hashed when it was acquired.

use std::collections::BTreeMap;
use std::path::Path;

use super::findings::{FaultKind, Findings, Place};
use super::{ExhibitVerdict, Options};
use crate::bundle::{Base, Bundle, Overlaid, Stream};
use crate::case_layout;
use crate::error::Result;

/// Compares every exhibit that builds on others with the hash of its whole.
pub(super) fn check(
    folder: &Path,
    present: &BTreeMap<String, String>,
    exhibits: &[ExhibitVerdict],
    options: &Options,
    findings: &mut Findings,
) -> Result<()> {
    let open = |name: &str| {
        let exhibit = folder.join(case_layout::EXHIBITS).join(name);
        Bundle::open_with_identities(&exhibit, &options.identities).ok()
    };
    for (name, id) in present {
        let Some(bundle) = open(name).filter(|bundle| bundle.manifest().base.is_some()) else { continue };
        let is_read = |id: &str| {
            exhibits.iter().any(|exhibit| {
                exhibit.id == id
                    && exhibit.fault_count == 0
                    && !exhibit.ciphertext_only
                    && !exhibit.data_not_read
            })
        };
        let mut missing = None;
        let mut find = |base: &Base| {
            let is_it = |bundle: &Bundle| Some(bundle.manifest_sha256()) == base.manifest_sha256;
            let found =
                present.iter().filter(|(_, id)| is_read(id)).find_map(|(name, _)| open(name).filter(is_it));
            if found.is_none() {
                missing = Some(base.clone());
            }
            Ok(found)
        };
        for stream in bundle.manifest().streams.iter().filter(|stream| stream.states.base > 0) {
            if !is_read(id) {
                findings.note(format!(
                    "{id}: its own data was not read or has faults, so the whole was not checked"
                ));
                continue;
            }
            match Overlaid::open(&bundle, &stream.name, &mut find) {
                Ok(Some(whole)) => compare(id, name, stream, &whole, findings),
                Ok(None) => {}
                Err(error) => findings.note(format!("{id}: the whole could not be read: {error}")),
            }
        }
        if let Some(base) = missing {
            findings.note(format!(
                "{id}: what it builds on, {}, is not in this case as it was, or was not read; the whole was not checked",
                base.snapshot
            ));
        }
    }
    Ok(())
}

fn compare(id: &str, name: &str, stream: &Stream, whole: &Overlaid, findings: &mut Findings) {
    let place = || Place {
        bytes: Some((0, stream.size)),
        ..Place::file(format!("{}/{name}/data/{}", case_layout::EXHIBITS, stream.name))
    };
    match (whole.sha256(&mut |_| {}), stream.full_sha256) {
        (Ok(found), Some(listed)) if found != listed => findings.fault(
            place(),
            FaultKind::Stream,
            format!("with what it builds on, it has SHA-256 {found}, and the manifest lists {listed}"),
        ),
        (Ok(found), Some(_)) => {
            findings.note(format!("{id}: with what it builds on, SHA-256 {found}, as listed"));
        }
        (Ok(found), None) => {
            findings.note(format!("{id}: with what it builds on, SHA-256 {found}; the manifest lists none"));
        }
        (Err(error), _) => findings.note(format!("{id}: the whole could not be read: {error}")),
    }
}

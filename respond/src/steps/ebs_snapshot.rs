//! `capture.ebs_snapshot`: the volumes of an instance, or one volume, by snapshots that are made, read, verified and deleted.

use std::collections::BTreeMap;

use acquire::aws::FailureKind;
use acquire::aws::ec2::{Ec2, is_id};
use custody::bundle::Bundle;
use custody::{Case, Entry, Exhibit};
use serde_json::{Value, json};

use super::capture::{account, connection, into};
use super::exhibits::{of_names, told};
use super::{Context, Failed, Step, child};
use crate::alert::AssetKind;

struct EbsSnapshot;

pub(super) static EBS_SNAPSHOT: &dyn Step = &EbsSnapshot;

impl Step for EbsSnapshot {
    fn word(&self) -> &'static str {
        "capture.ebs_snapshot"
    }

    fn about(&self) -> &'static str {
        "Makes snapshots of an instance's volumes at one point in time, and reads them into bundles"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        matches!(kind, AssetKind::Ec2Instance | AssetKind::EbsVolume)
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let prefix = match context.asset.kind {
            AssetKind::EbsVolume => "vol-",
            _ => "i-",
        };
        if !is_id(&context.asset.id, prefix) {
            return Err(Failed::for_good(format!("{:?} is no id of its kind", context.asset.id)));
        }
        if let Some(done) = done(context)? {
            return Ok(done);
        }
        let mut arguments: Vec<_> = vec!["acquire".into(), "ebs".into(), context.asset.id.as_str().into()];
        arguments.extend(into(context, context.id));
        if context.settings.capture.to.is_none() {
            arguments.extend(account(context));
        }
        // An earlier run may have made snapshots: they carry the case's id, and are gone on with.
        if !context.intents.is_empty() {
            arguments.push("--resume".into());
        }
        let ended = child::run(context, &arguments)?;
        match done(context)? {
            Some(done) if ended.is_done() => Ok(done),
            _ => Err(ended.failure("the acquisition")),
        }
    }
}

/// What earlier runs have captured, if that is all: of every volume that snapshots were asked of there is a sealed exhibit,
/// whose snapshot was then let go.
fn done(context: &Context<'_>) -> Result<Option<Value>, Failed> {
    let fault = |error: custody::Error| Failed::for_now(format!("the case cannot be read: {error}"));
    let case = Case::open(context.case).map_err(fault)?;
    let entries = case.log().read().map_err(fault)?.entries;
    let acts = Acts::of(&entries, &context.asset.id);
    let (mut exhibits, mut unreadable) = (BTreeMap::new(), 0u64);
    let of_step = |exhibit: &Exhibit| {
        let folder = exhibit.folder.file_name().unwrap_or_default().to_string_lossy();
        folder
            .strip_prefix(&exhibit.id)
            .is_some_and(|name| name.trim_start_matches('-').starts_with(context.id))
    };
    for exhibit in of_names(context.case, &of_step)?.sealed {
        let Ok(bundle) = Bundle::open(&exhibit.folder) else { continue };
        let source = &bundle.manifest().source;
        let snapshot =
            source.path.clone().filter(|path| source.kind == "ebs" && acts.let_go.contains_key(path));
        if let Some(snapshot) = snapshot {
            let mut told = told(&exhibit)?;
            let streams = bundle.manifest().streams.iter();
            let bytes = streams.fold(0u64, |all, stream| all.saturating_add(stream.states.unreadable));
            if let (Some(told), 1..) = (told.as_object_mut(), bytes) {
                // Done all the same: its snapshot was kept for who wants to try again.
                told.insert("unreadable_bytes".to_owned(), bytes.into());
                unreadable = unreadable.saturating_add(bytes);
            }
            exhibits.insert(snapshot, told);
        }
    }
    if acts.volumes == 0 || exhibits.len() < acts.volumes {
        return Ok(None);
    }
    // Killed between the request to delete and its answer: only the account knows.
    for (snapshot, has_ended) in acts.let_go.iter().filter(|(snapshot, _)| exhibits.contains_key(*snapshot)) {
        if !has_ended && is_there(context, snapshot)? {
            return Ok(None);
        }
    }
    let bytes: u64 = exhibits.values().filter_map(|told| told.get("bytes")?.as_u64()).sum();
    let begun = exhibits.values().filter_map(|told| told.get("begun")?.as_str()).min();
    let mut done = json!({"begun": begun, "bytes": bytes, "snapshots": exhibits});
    if let (Some(done), 1..) = (done.as_object_mut(), unreadable) {
        done.insert("unreadable_bytes".to_owned(), unreadable.into());
    }
    Ok(Some(done))
}

fn is_there(context: &Context<'_>, snapshot: &str) -> Result<bool, Failed> {
    let fault = |error: &dyn std::fmt::Display| Failed::for_now(format!("EC2 cannot be asked: {error}"));
    let connection = connection(context)?;
    let found = Ec2::new(&connection).and_then(|ec2| ec2.describe_snapshot(snapshot));
    match found {
        Ok(_) => Ok(true),
        Err(failure) if failure.kind == FailureKind::NotFound => Ok(false),
        Err(failure) => Err(fault(&failure)),
    }
}

/// What the case's log says of snapshots of one target.
#[derive(Debug, Default, PartialEq)]
struct Acts {
    /// Of how many volumes snapshots were last asked for.
    volumes: usize,
    /// Snapshots that were deleted or kept on purpose, and whether that is known to have been done.
    let_go: BTreeMap<String, bool>,
}

impl Acts {
    fn of(entries: &[Entry], target: &str) -> Self {
        let mut acts = Self::default();
        for entry in entries {
            let how = &entry.about.how;
            if let (Some(volumes), true) =
                (how.get("volumes").and_then(Value::as_array), entry.how_text("target") == Some(target))
            {
                acts.volumes = volumes.len();
            }
            let is_end = matches!(entry.how_text("act"), Some("EC2 DeleteSnapshot" | "keep snapshot"));
            if let Some(snapshot) = entry.how_text("snapshot").filter(|_| is_end) {
                acts.let_go.entry(snapshot.to_owned()).or_insert(false);
            }
            for word in ["deleted", "kept"] {
                if let Some(snapshot) = entry.about.result.get(word).and_then(Value::as_str) {
                    acts.let_go.insert(snapshot.to_owned(), true);
                }
            }
        }
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_the_kind_are_taken() {
        assert!(is_id("i-0123456789abcdef0", "i-") && is_id("vol-01234567", "vol-"));
        for other in ["i-", "i-0123456789ABCDEF0", "i-01234567;reboot", "vol-01234567", "--resume"] {
            assert!(!is_id(other, "i-"), "{other}");
        }
    }
}

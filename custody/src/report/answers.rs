//! What the logs answer to the plain questions about an exhibit; the summary, the limits and the list of questions all
//! take their sentences from here, so that they cannot disagree.

use serde_json::Value;

use super::blocks::Line;
use super::document::Cite;
use super::material::{ExhibitMaterial, Log, Material};
use super::{text, units};
use crate::bundle::State;
use crate::entry::{Entry, EntryType};
use crate::verify::Level;

/// What kind of thing was copied, in plain words.
pub(super) fn kind_words(kind: &str) -> &str {
    match kind {
        "disk" => "the disk",
        "memory" => "the memory",
        "files" => "the files",
        "logs" => "the log files",
        "container" => "the state, memory and files of the container",
        "triage" => "the state and files of the running machine",
        "cloud-logs" | "objects" => "the log objects",
        "ebs" => "the cloud volume",
        other => other,
    }
}

/// Who an entry says acted.
pub(super) fn actor(entry: &Entry) -> String {
    text::bounded(&super::words::by(entry), 200)
}

/// When, by whom and from where an exhibit was copied.
pub(super) fn copied(x: &ExhibitMaterial) -> Line {
    let Some(manifest) = &x.manifest else {
        return Line::of(format!(
            "{} is not finished or cannot be read: nothing can be said of its content.",
            x.id
        ));
    };
    let start = x.log.first(&EntryType::ACQUIRE_START);
    let who = start.map_or_else(|| text::cell(&manifest.examiner.name), actor);
    let host = if manifest.host.name.is_empty() { "an unnamed machine" } else { &manifest.host.name };
    let size: u64 = manifest.streams.iter().fold(0, |sum, stream| sum.saturating_add(stream.size));
    let source = manifest.source.path.as_deref().unwrap_or("a source without a recorded name");
    Line::default()
        .strong(who)
        .say(format!(" copied {} ", kind_words(&manifest.source.kind)))
        .mono(text::cell(source))
        .say(format!(
            " on {}, on the machine {}: {}. The copy is exhibit {}.",
            units::date_words(&manifest.created),
            text::cell(host),
            units::size(size),
            x.id
        ))
        .cite(x.log.cite_first(&EntryType::ACQUIRE_START))
}

/// Whether the copy is the same as what was read.
pub(super) fn same(x: &ExhibitMaterial) -> Line {
    let Some(found) = x.found.as_ref().filter(|_| x.manifest.is_some()) else {
        return Line::of(format!("{}: ", x.id)).no_record().say(": it is not sealed, or was not verified.");
    };
    let seal = x.log.cite_first(&EntryType::ACQUIRE_END);
    match found.verdict.level {
        Level::Broken => Line::default()
            .bad(format!("No, or it cannot be shown. {} has {}: ", x.id, units::count(found.fault_count, "fault", "faults")))
            .say("what is stored is not what was sealed. Part 14 lists each fault with its place."),
        Level::Open => Line::of(format!("Not known: {} was never sealed.", x.id)),
        _ if found.ciphertext_only => Line::of(format!(
            "{} is encrypted. Its encrypted files are unchanged; what is inside was not checked, because no key was given.",
            x.id
        )),
        _ if found.data_not_read => Line::of(format!(
            "Not checked for this report. The data of {} lies in an evidence store and was not read; its manifest, signature \
             and log are unchanged.",
            x.id
        )),
        _ => Line::of(format!(
            "Yes, for what was read. A digital fingerprint of {} was taken while the source was read. For this report \
             every byte of the stored copy was read again, and gives the same fingerprint.",
            x.id
        )),
    }
    .cite(seal)
}

/// What is not in the copy, each with the entry that says so; empty where nothing is missing.
pub(super) fn missing(x: &ExhibitMaterial) -> Vec<Line> {
    let mut lines = Vec::new();
    let errors = x.log.cite_first(&EntryType::ACQUIRE_ERROR);
    let end = x.log.cite_first(&EntryType::ACQUIRE_END);
    if x.manifest.is_none() {
        lines.push(Line::of(format!(
            "{} was not sealed: how much of the source it holds is not settled.",
            x.id
        )));
    }
    for (state, words) in [
        (State::Unreadable, "could not be read from the source; zeros stand in their place"),
        (State::Absent, "do not exist in the source; zeros stand in their place"),
        (State::Skipped, "were not asked for; zeros stand in their place"),
        (State::Base, "are held by another bundle that this one builds on"),
    ] {
        let bytes = x.bytes(state);
        if bytes > 0 {
            let cites = if state == State::Unreadable && !errors.is_empty() { &errors } else { &end };
            lines.push(Line::of(format!("{}: {} {words}.", x.id, units::size(bytes))).cite(cites.clone()));
        }
    }
    if let Some(hidden) = hidden_bytes(x) {
        lines.push(
            Line::of(format!("{}: the device hides {}, which were not acquired.", x.id, units::size(hidden)))
                .cite(x.sealed()),
        );
    }
    lines
}

/// That irregularities were met while an exhibit was acquired.
pub(super) fn irregular(x: &ExhibitMaterial) -> Option<Line> {
    let entry = x.log.first(&EntryType::ACQUIRE_ERROR)?;
    let issues = entry.about.errors.get("issues").and_then(Value::as_u64).filter(|issues| *issues > 0)?;
    let words = units::count(issues, "irregularity was", "irregularities were");
    let line =
        Line::of(format!("{}: {words} met while it was acquired; part 8 lists what the log names.", x.id));
    Some(line.cite(x.log.cite_first(&EntryType::ACQUIRE_ERROR)))
}

/// Bytes that the device is known to hide.
fn hidden_bytes(x: &ExhibitMaterial) -> Option<u64> {
    let areas = x.source_fact("hidden_areas")?.as_object()?;
    areas.values().filter_map(|area| area.get("hidden_bytes")?.as_u64()).max().filter(|bytes| *bytes > 0)
}

/// Whether hidden areas were looked for, in words; nothing where the question does not arise.
pub(super) fn hidden_areas(x: &ExhibitMaterial) -> Option<String> {
    let manifest = x.manifest.as_ref().filter(|manifest| manifest.source.kind == "disk")?;
    if manifest.source.more.get("form").and_then(Value::as_str) == Some("file") {
        return Some(
            "the source is a file; areas that a device may have hidden from it are not known".to_owned(),
        );
    }
    let areas = x.source_fact("hidden_areas").and_then(Value::as_object);
    let words = areas.into_iter().flatten().map(|(name, found)| {
        let found = match super::words::plain(found) {
            none if none == "none" => "looked for, none found".to_owned(),
            other => other,
        };
        if name == "hpa_dco_ama" {
            found
        } else {
            format!("{}: {found}", name.to_uppercase().replace('_', " "))
        }
    });
    Some(words.collect::<Vec<_>>().join("; "))
}

/// Whether something kept the source from being written to.
pub(super) fn write_block(x: &ExhibitMaterial) -> Line {
    let line = Line::of(format!("{}: a hardware write blocker: ", x.id)).no_record();
    let line = line.say(". The program opened the source for reading only");
    match x.source_fact("read_only").and_then(Value::as_bool) {
        Some(true) => line.say("; the operating system had set the device to read-only."),
        Some(false) => line
            .say("; the device itself was not set to read-only, so other programs could have written to it."),
        None => line.say("; whether anything else could write to it: ").no_record().say("."),
    }
    .cite(x.log.cite_first(&EntryType::ACQUIRE_START))
}

/// Whether the source changed while it was copied, as far as is known.
pub(super) fn source_changed(x: &ExhibitMaterial) -> Line {
    let end = x.log.cite_first(&EntryType::ACQUIRE_END);
    let counters = x.source_fact("write_counters").and_then(Value::as_object);
    let part = |which: &str| counters.and_then(|counters| counters.get(which));
    match (part("before"), part("after")) {
        (Some(before), Some(after)) if before == after => Line::of(format!(
            "{}: No. The program opened it for reading only, and the operating system's counters of writes to the device \
             were the same after as before.",
            x.id
        ))
        .cite(end),
        (Some(_), Some(_)) => Line::of(format!("{}: ", x.id))
            .bad("Yes, something wrote to the device while it was read")
            .say("; the program itself opened it for reading only. Part 7 gives the counters.")
            .cite(end),
        _ => {
            let live = x.manifest.as_ref().is_some_and(|manifest| manifest.source.kind != "disk");
            let line = Line::of(format!("{}: The program opened the source for reading only.", x.id));
            let line = if live {
                line.say(
                    " What was read belonged to a running system, which may have gone on changing meanwhile; part 7 says what \
                     the program itself left behind.",
                )
            } else {
                line.say(" Whether anything else changed it meanwhile: ").no_record().say(".")
            };
            line.cite(x.log.cite_first(&EntryType::ACQUIRE_START))
        }
    }
}

/// Which program made the copy.
pub(super) fn tool(x: &ExhibitMaterial) -> Line {
    let Some(manifest) = &x.manifest else {
        return Line::of(format!("{}: ", x.id)).no_record();
    };
    let tool = &manifest.tool;
    let line =
        Line::of(format!("{}: {} version {}", x.id, text::cell(&tool.name), text::cell(&tool.version)));
    let line = match tool.build_sha256 {
        Some(build) => line.say("; SHA-256 of the program file ").mono(build.to_string()),
        None => line.say("; fingerprint of the program file: ").no_record(),
    };
    line.say(".").cite(x.log.cite_first(&EntryType::ACQUIRE_START))
}

/// The last self-test of the same build on the same machine before an exhibit was acquired.
pub(super) fn selftest_before<'a>(m: &'a Material, x: &ExhibitMaterial) -> Option<(&'a Log, &'a Entry)> {
    let start = x.log.first(&EntryType::ACQUIRE_START)?;
    m.entries()
        .filter(|(_, entry)| entry.kind == EntryType::SELFTEST_RESULT)
        .filter(|(_, entry)| entry.tool == start.tool && entry.host.machine == start.host.machine)
        .filter(|(_, entry)| !start.host.machine.is_empty() && entry.time.wall <= start.time.wall)
        .last()
}

/// Whether the program was tested where it was used.
pub(super) fn tested(m: &Material, x: &ExhibitMaterial) -> Line {
    let Some((log, entry)) = selftest_before(m, x) else {
        return Line::of(format!(
            "{}: a self-test of this build on the acquiring machine before the acquisition: ",
            x.id
        ))
        .no_record()
        .say(".");
    };
    let number = |name: &str| entry.about.result.get(name).and_then(Value::as_u64);
    let cites = vec![log.cite(entry.seq)];
    let (tried, failed) = (number("tried").unwrap_or_default(), number("failed"));
    let when = units::time_utc(&entry.time.wall);
    let line = Line::of(format!("{}: the same build was tested on the same machine at {when}: ", x.id));
    match failed {
        Some(0) => line.say(format!("{}, none failed.", units::count(tried, "assertion", "assertions"))),
        Some(n) => line.bad(format!("{n} of {} failed.", units::count(tried, "assertion", "assertions"))),
        None => line.no_record(),
    }
    .cite(cites)
}

/// Whether the end of a log can have been cut off.
pub(super) fn cut(m: &Material) -> Line {
    let n = m.verification.verdict.anchors;
    let log = &m.verification.log;
    let head = format!("The case's log has {}", units::count(m.log.size(), "signed entry", "signed entries"));
    match (m.verification.verdict.level, n) {
        (Level::Broken, _) => Line::default()
            .bad("It does not hold together")
            .say("; see the faults in part 14."),
        (Level::Complete, n) => Line::of(format!(
            "No entry up to the close of the case can have been cut without it showing: {} outside the presenter's hands \
             {} for the close. {head}.",
            units::count(n.into(), "party", "parties"),
            if n == 1 { "vouches" } else { "vouch" }
        )),
        (_, 0) => Line::of(
            "Cutting entries out of the middle would show. Cutting the last entries, together with everything in the case \
             that tells of them, would not: ",
        )
        .strong("no copy outside the presenter's hands was shown")
        .say(format!(". {head}. Whoever holds an earlier copy of this report can compare.")),
        (_, n) => Line::of(format!(
            "Not up to the entry that the latest independent anchor covers ({}); entries after it, if there were any, could \
             have been cut. {head}, and {} {} for it.",
            latest_anchor(m).map_or_else(|| "part 14 lists them".to_owned(), |size| format!("entry {}", size.saturating_sub(1))),
            units::count(n.into(), "party outside the presenter's hands", "parties outside the presenter's hands"),
            if n == 1 { "vouches" } else { "vouch" }
        )),
    }
    .cite((log.size > 0).then(|| Cite::new("case", log.size.saturating_sub(1))))
}

/// How many entries of the case's log the latest independent anchor covers.
pub(super) fn latest_anchor(m: &Material) -> Option<u64> {
    m.verification.log.anchored.iter().filter(|fact| fact.independent).map(|fact| fact.covers).max()
}

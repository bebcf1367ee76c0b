//! Collects what the report says, each statement from a recomputation or an entry.

use serde::Serialize;
use serde_json::Value;

use super::device_picture::{self, Bar, Key};
use super::words;
use crate::bundle::{Bundle, State, StateBytes, Stream, StreamReader};
use crate::case::{Case, Exhibit};
use crate::clock::parse_rfc3339;
use crate::custody_log::CustodyLog;
use crate::entry::{Entry, EntryType};
use crate::error::Result;
use crate::verify::{ExhibitVerdict, Level, Verification};

/// Longer pauses between two entries of a log are shown as gaps.
const GAP_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Everything that the report says.
#[derive(Debug, Serialize)]
pub struct Report {
    pub(super) case: CasePart,
    pub(super) verdict: VerdictPart,
    pub(super) limits: Vec<String>,
    pub(super) exhibits: Vec<ExhibitPart>,
    pub(super) logs: Vec<LogPart>,
    pub(super) gap_words: &'static str,
    pub(super) timelines: Vec<TimelinePart>,
    pub(super) checks: Vec<CheckPart>,
    pub(super) heads: Vec<HeadPart>,
    pub(super) tool: String,
}

#[derive(Debug, Serialize)]
pub(super) struct CasePart {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) rows: Vec<RowPart>,
}

#[derive(Debug, Serialize)]
pub(super) struct RowPart {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) cite: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct VerdictPart {
    pub(super) word: String,
    pub(super) tone: &'static str,
    pub(super) sentence: String,
    pub(super) anchors: String,
}

#[derive(Debug, Serialize)]
pub(super) struct FaultPart {
    pub(super) place: String,
    pub(super) words: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ExhibitPart {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) size_words: String,
    pub(super) sha256: String,
    pub(super) verdict: String,
    pub(super) rows: Vec<RowPart>,
    pub(super) streams: Vec<StreamPart>,
    pub(super) faults: Vec<FaultPart>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamPart {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) size_words: String,
    pub(super) chunks: u64,
    pub(super) picture: Vec<Bar>,
    pub(super) key: Vec<Key>,
    pub(super) states: Vec<StatePart>,
    pub(super) unreadable: String,
}

#[derive(Debug, Serialize)]
pub(super) struct StatePart {
    pub(super) state: &'static str,
    pub(super) bytes: String,
    pub(super) share: String,
    pub(super) meaning: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct LogPart {
    pub(super) title: String,
    pub(super) entries: Vec<EntryPart>,
    pub(super) faults: Vec<FaultPart>,
}

#[derive(Debug, Serialize)]
pub(super) struct EntryPart {
    pub(super) seq: u64,
    pub(super) time: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) by: String,
    pub(super) what: String,
    pub(super) gap: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct TimelinePart {
    pub(super) exhibit: String,
    pub(super) time: String,
    pub(super) what: String,
    pub(super) cite: String,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckPart {
    pub(super) title: &'static str,
    pub(super) command: String,
    pub(super) expect: String,
}

#[derive(Debug, Serialize)]
pub(super) struct HeadPart {
    pub(super) log: String,
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) origin: String,
}

pub(super) fn collect(case: &Case, verification: &Verification) -> Result<Report> {
    let file = case.file();
    let exhibits = case.exhibits()?;
    let of_case = faults(verification, |file| !file.starts_with("exhibits/"));
    let mut logs = vec![log_part("The case's log", case.log(), of_case)?];
    let mut heads = vec![head(case.log(), "case")?];
    let case_entries = case.log().read()?.entries;
    let mut parts = Vec::new();
    for exhibit in &exhibits {
        let found = verification.exhibits.iter().find(|found| found.id == exhibit.id);
        let prefix = found.map_or_else(String::new, |found| format!("{}/", found.folder));
        let its_own = faults(verification, |file| found.is_some() && file.starts_with(&prefix));
        parts.push(exhibit_part(exhibit, found, its_own));
        // A log that cannot be read is among the faults.
        if let Ok(log) = CustodyLog::open(&exhibit.folder)
            && let Ok(part) = log_part(&format!("The log of {}", exhibit.id), &log, Vec::new())
        {
            logs.push(part);
            heads.push(head(&log, &exhibit.id)?);
        }
    }
    let row = |label, value: &str| RowPart { label, value: value.to_owned(), cite: None };
    let mut rows = vec![row("Case id", &file.id), row("Name", &file.name), row("Examiner", &file.examiner)];
    for (label, value) in [("Organisation", &file.organisation), ("Authority", &file.authority)] {
        rows.push(row(label, if value.is_empty() { "NO RECORD" } else { value }));
    }
    rows.push(row("Created (UTC)", &plain_time(&file.created)));
    Ok(Report {
        case: CasePart { id: file.id.clone(), name: file.name.clone(), rows },
        verdict: verdict_part(verification),
        limits: limits(verification, &parts, &case_entries),
        timelines: timelines(&case_entries),
        checks: checks(case, &exhibits),
        exhibits: parts,
        logs,
        gap_words: "24 hours",
        heads,
        tool: format!("exhibit {}", env!("CARGO_PKG_VERSION")),
    })
}

fn verdict_part(verification: &Verification) -> VerdictPart {
    let verdict = verification.verdict;
    let tone = match verdict.level {
        Level::Broken => "bad",
        Level::Open => "open",
        // It only fits together: nobody but its maker stands for it.
        Level::Consistent => "plain",
        Level::Signed | Level::Anchored | Level::Complete => "good",
    };
    let sentence = verdict.sentence();
    let (sentence, anchors) = match sentence.split_once(". ") {
        Some((meaning, anchors)) => (format!("{meaning}."), anchors.to_owned()),
        None => (sentence, String::new()),
    };
    VerdictPart { word: verdict.to_string(), tone, sentence, anchors }
}

/// What a reader must not conclude, from what is there and what is not.
fn limits(verification: &Verification, exhibits: &[ExhibitPart], entries: &[Entry]) -> Vec<String> {
    let mut limits = vec![
        "The times are those of the acting host's clock. No third party's time is attached to them here.".to_owned(),
        "That a record is in the evidence does not say that what it claims is true: whoever controlled the host \
         could write its logs."
            .to_owned(),
    ];
    if verification.verdict.anchors == 0 {
        limits.push(
            "0 anchors independent of the presenter: that nothing was cut from the end of the logs rests on the \
             presenter's word."
                .to_owned(),
        );
    }
    if verification.verdict.level < Level::Signed {
        limits.push(
            "No key was named as trusted, so the report does not say whose signatures these are.".to_owned(),
        );
    }
    for exhibit in exhibits {
        for stream in exhibit.streams.iter().filter(|stream| !stream.unreadable.starts_with("No part")) {
            limits.push(format!("{}: {}", exhibit.id, stream.unreadable));
        }
        if exhibit.kind == "disk" {
            limits.push(format!(
                "{}: no write blocker is recorded. The source was opened for reading only; what else had it open at \
                 the time is not known.",
                exhibit.id
            ));
        }
    }
    let acts = entries.iter().filter(|entry| entry.kind == EntryType::DEVIATION).count();
    if acts > 0 {
        limits.push(format!("{acts} deviations from procedure are recorded in the case's log."));
    }
    limits
}

fn exhibit_part(exhibit: &Exhibit, found: Option<&ExhibitVerdict>, faults: Vec<FaultPart>) -> ExhibitPart {
    let verdict = found.map_or_else(
        || "not verified".to_owned(),
        |found| match found.ciphertext_only {
            true => format!("{} (CIPHERTEXT ONLY)", found.verdict),
            false => found.verdict.to_string(),
        },
    );
    let Ok(bundle) = Bundle::open(&exhibit.folder) else {
        let name =
            exhibit.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return ExhibitPart {
            id: exhibit.id.clone(),
            name,
            kind: "not sealed or not readable".to_owned(),
            size_words: String::new(),
            sha256: String::new(),
            verdict,
            rows: Vec::new(),
            streams: Vec::new(),
            faults,
        };
    };
    let manifest = bundle.manifest();
    // Of an encrypted stream the manifest alone is told.
    let streams = bundle.streams().unwrap_or_default();
    let sealed = CustodyLog::open(&exhibit.folder)
        .and_then(|log| log.read())
        .ok()
        .and_then(|log| log.entries.into_iter().rev().find(|entry| entry.kind == EntryType::BUNDLE_SEALED));
    let cite = sealed.as_ref().map(|entry| format!("{} entry {}", exhibit.id, entry.seq));
    let known = |value: Option<String>| value.unwrap_or_else(|| "NO RECORD".to_owned());

    let said = |text: &str| if text.is_empty() { "NO RECORD".to_owned() } else { text.to_owned() };
    let mut rows = Vec::new();
    let mut row = |label, value: String| rows.push(RowPart { label, value, cite: cite.clone() });
    row("Bundle id", manifest.id.clone());
    row("Source", known(manifest.source.path.clone()));
    row(
        "Model, serial number",
        format!("{}, {}", known(manifest.source.model.clone()), known(manifest.source.serial.clone())),
    );
    row("Acquired (UTC)", plain_time(&manifest.created));
    row("By", format!("{} with key {}", manifest.examiner.name, manifest.examiner.key));
    row("On host", format!("{} ({})", said(&manifest.host.name), said(&manifest.host.os)));
    row(
        "Program",
        format!(
            "{} {}, build {}",
            manifest.tool.name,
            manifest.tool.version,
            known(manifest.tool.build_sha256.as_ref().map(ToString::to_string))
        ),
    );
    for stream in &manifest.streams {
        row("SHA-256", format!("{} (stream {}, {} bytes)", stream.sha256, stream.name, stream.size));
    }
    let recipients = manifest.options.get("encrypted_to").and_then(Value::as_array);
    if manifest.streams.iter().any(Stream::is_encrypted) {
        let names: Vec<_> = recipients.into_iter().flatten().filter_map(Value::as_str).collect();
        row("Encrypted to", said(&names.join(", ")));
    }
    row("SHA-256 of manifest.json", bundle.manifest_sha256().to_string());
    ExhibitPart {
        id: exhibit.id.clone(),
        name: manifest.name.clone(),
        kind: manifest.source.kind.clone(),
        size_words: size_words(
            manifest.streams.iter().fold(0, |size, stream| size.saturating_add(stream.size)),
        ),
        sha256: manifest.streams.first().map(|stream| stream.sha256.to_string()).unwrap_or_default(),
        verdict,
        rows,
        streams: streams.iter().map(stream_part).collect(),
        faults,
    }
}

fn stream_part(reader: &StreamReader) -> StreamPart {
    let size = reader.len();
    let (picture, key) = device_picture::picture(reader.extents(), size);
    let states: StateBytes = reader.stream().states;
    let meaning = |state| match state {
        State::Data => "read from the source and stored",
        State::Zero => "read from the source as whole chunks of zeros",
        State::Absent => "the source has no such block",
        State::Unreadable => "could not be read; zeros stand in its place",
        State::Skipped => "was not asked for; zeros stand in its place",
        State::Base => "as in the bundle that this one builds on",
    };
    let all = [State::Data, State::Zero, State::Absent, State::Unreadable, State::Skipped, State::Base];
    let rows = all.into_iter().map(|state| StatePart {
        state: state.word(),
        bytes: states.of(state).to_string(),
        share: share(states.of(state), size),
        meaning: meaning(state),
    });
    let lost: Vec<_> = reader.extents().iter().filter(|extent| extent.state == State::Unreadable).collect();
    let unreadable = match lost.len() {
        0 => "No part of the source was unreadable.".to_owned(),
        n => {
            let shown: Vec<String> = lost
                .iter()
                .take(20)
                .map(|extent| format!("{} bytes from {} ({})", extent.length, extent.start, extent.detail))
                .collect();
            let more =
                if n > 20 { format!(", and {} more in the extents table", n - 20) } else { String::new() };
            format!("{n} areas could not be read: {}{more}.", shown.join("; "))
        }
    };
    StreamPart {
        name: reader.name().to_owned(),
        size,
        size_words: size_words(size),
        chunks: reader.chunk_count(),
        picture,
        key,
        states: rows.collect(),
        unreadable,
    }
}

fn log_part(title: &str, log: &CustodyLog, faults: Vec<FaultPart>) -> Result<LogPart> {
    let mut before: Option<i64> = None;
    let mut entries = Vec::new();
    for entry in log.read()?.entries {
        let now = parse_rfc3339(&entry.time.wall).ok();
        let gap = match (before, now) {
            (Some(before), Some(now)) if now.saturating_sub(before) > GAP_NS => {
                let hours = now.saturating_sub(before) / 3_600_000_000_000;
                Some(format!("{hours} hours without an entry"))
            }
            (Some(before), Some(now)) if now < before => Some("the clock went back here".to_owned()),
            _ => None,
        };
        before = now.or(before);
        entries.push(EntryPart {
            seq: entry.seq,
            time: plain_time(&entry.time.wall),
            kind: entry.kind.to_string(),
            by: words::by(&entry),
            what: words::what(&entry),
            gap,
        });
    }
    Ok(LogPart { title: title.to_owned(), entries, faults })
}

fn head(log: &CustodyLog, name: &str) -> Result<HeadPart> {
    let checkpoint = log.read()?.checkpoint;
    let (size, root) = checkpoint.map_or((0, "no checkpoint".to_owned()), |signed| {
        (signed.checkpoint.size, signed.checkpoint.root.to_string())
    });
    Ok(HeadPart { log: name.to_owned(), size, root, origin: log.origin().to_owned() })
}

fn faults(verification: &Verification, of: impl Fn(&str) -> bool) -> Vec<FaultPart> {
    let faults = verification.faults.iter().filter(|fault| of(&fault.place.file));
    faults.map(|fault| FaultPart { place: fault.place.to_string(), words: fault.words.clone() }).collect()
}

fn timelines(entries: &[Entry]) -> Vec<TimelinePart> {
    entries
        .iter()
        .filter(|entry| entry.kind == EntryType::TIMELINE_BUILT)
        .map(|entry| TimelinePart {
            exhibit: entry.about.exhibit.clone().unwrap_or_default(),
            time: plain_time(&entry.time.wall),
            what: words::what(entry),
            cite: format!("case entry {}", entry.seq),
        })
        .collect()
}

/// The commands that check a bundle, with this case's own folders in them.
fn checks(case: &Case, exhibits: &[Exhibit]) -> Vec<CheckPart> {
    let Some(exhibit) = exhibits.iter().find(|exhibit| Bundle::open(&exhibit.folder).is_ok()) else {
        return Vec::new();
    };
    let folder = exhibit.folder.strip_prefix(case.folder()).unwrap_or(&exhibit.folder).display().to_string();
    let stream = Bundle::open(&exhibit.folder).ok().and_then(|bundle| {
        bundle
            .manifest()
            .streams
            .first()
            .map(|stream| (stream.name.clone(), stream.sha256, stream.is_encrypted()))
    });
    let mut checks = vec![CheckPart {
        title: "Every file of the bundle",
        command: format!("(cd '{folder}' && sha256sum -c SHA256SUMS)"),
        expect: "Every line ends in OK.".to_owned(),
    }];
    if let Some((name, sha256, encrypted)) = stream {
        let command = if encrypted {
            format!(
                "for f in '{folder}/data/{name}/'*.zst.age; do age -d -i KEYFILE \"$f\"; done | zstd -dc | sha256sum"
            )
        } else {
            format!("zstd -dc '{folder}/data/{name}/'*.zst | sha256sum")
        };
        checks.push(CheckPart {
            title: "The evidence itself, as it was read",
            command,
            expect: format!("Prints {sha256}"),
        });
    }
    checks.push(CheckPart {
        title: "The manifest's signature",
        command: format!(
            "openssl pkeyutl -verify -pubin -inkey '{folder}/keys/signer.pub.pem' -rawin \\\n  -in '{folder}/manifest.json' -sigfile '{folder}/manifest.json.sig'"
        ),
        expect: "Prints: Signature Verified Successfully".to_owned(),
    });
    checks.push(CheckPart {
        title: "The log's spelling, its chain and its signed root",
        command: format!("jq -cS . '{folder}/custody.jsonl' | cmp - '{folder}/custody.jsonl'"),
        expect: format!(
            "Prints nothing. {folder}/VERIFY.md goes on from here, with this bundle's own values."
        ),
    });
    checks
}

fn plain_time(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

fn share(bytes: u64, of: u64) -> String {
    if of == 0 {
        return "0 %".to_owned();
    }
    let tenths = (u128::from(bytes) * 1000 + u128::from(of) / 2) / u128::from(of);
    if tenths == 0 && bytes > 0 { "< 0.1 %".to_owned() } else { format!("{}.{} %", tenths / 10, tenths % 10) }
}

fn size_words(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

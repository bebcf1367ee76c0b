//! `exhibit show`: one event, its fields, its raw bytes, its proof.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use custody::bundle::ChunkProof;
use custody::digest::sha256;
use custody::proof::EvidenceProof;
use custody::{Case, CustodyLog, EntryType, NewEntry};
use serde_json::{Map, Value, json};
use timeline::event::YearBasis;
use timeline::prove::{Hints, Prover, stream_of};
use timeline::query::Timeline;
use timeline::record::{Place, Record};
use timeline::store::RowMaker;

use super::query;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{target, ui};

/// Events that are held in memory together.
const LOOKED_UP_AT_ONCE: usize = 1_000;

/// Show one event: all its fields, its raw bytes, its proof
///
/// EVENT_ID is any beginning of the id with 8 digits or more; several may be given, or `-` to read them from
/// standard input. --bytes reads the record out of the bundle again, gives its bytes alone to the parser, and says
/// whether the same row comes out. --proof lists the chunks that hold the bytes, each with its path to the root in
/// the signed manifest.
///
/// Example: exhibit show ir-2026-017 3f9a1c2b --bytes --proof
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
    /// The event's id, or its first 8 or more digits
    #[arg(value_name = "EVENT_ID", required = true)]
    events: Vec<String>,
    /// Re-read the record's bytes from the bundle, and parse them again
    #[arg(long)]
    bytes: bool,
    /// List the chunks that hold the bytes, and their way to the signature
    #[arg(long)]
    proof: bool,
    #[cfg(feature = "cloud")]
    #[command(flatten)]
    cloud: crate::cloud_args::CloudArgs,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    #[cfg(feature = "cloud")]
    session.use_cloud(&args.cloud);
    let case = target::open_case(&args.case)?;
    let timeline = query::open(&case, session)?;
    let mut shower = Shower { case: &case, timeline: &timeline, session, provers: BTreeMap::new() };
    let mut outcome = Outcome::Done;
    let mut shown = 0;
    let all = ids(&args.events)?;
    for ids in all.chunks(LOOKED_UP_AT_ONCE) {
        for event in timeline.find_events(ids).map_err(query::refused)? {
            let evidence = if args.bytes || args.proof { Some(shower.evidence(&event)?) } else { None };
            if evidence.as_ref().is_some_and(|evidence| !evidence.same) {
                outcome = Outcome::NotVerified;
            }
            if session.ui.is_json() {
                session.ui.document(&document(event, evidence.as_ref(), args))?;
            } else {
                print(&event, evidence.as_ref(), args, session)?;
            }
            shown += 1;
        }
    }
    let entry = NewEntry::new(EntryType::QUERY_RUN)
        .how("command", "show")
        .how("event", all.first().map_or("", String::as_str))
        .how("ids_sha256", sha256(all.join("\n").as_bytes()).to_string())
        .result("rows", shown);
    session.record_reading(Some(&case), entry);
    Ok(outcome)
}

/// The proof of one event, for `exhibit custody prove`.
pub(crate) fn prove(case: &Case, id: &str, session: &Session) -> Result<EvidenceProof, Failure> {
    let timeline = query::open(case, session)?;
    let mut shower = Shower { case, timeline: &timeline, session, provers: BTreeMap::new() };
    let found = timeline.find_events(&[id.to_owned()]).map_err(query::refused)?;
    let event =
        found.into_iter().next().ok_or_else(|| Failure::usage(format!("there is no event {id:?}")))?;
    let evidence = shower.evidence(&event)?;
    if !evidence.same {
        return Err(
            Failure::new("the record's bytes do not give the event's row again").hint("see `exhibit show`")
        );
    }
    let folder = target::exhibit_of(case, text(&event, "exhibit"))?.folder;
    let prover = custody::proof::Prover::open(session.open_bundle(&folder)?, &folder)?;
    let ranges: Vec<(u64, u64)> =
        evidence.record.ranges.iter().map(|range| (range.start, range.end)).collect();
    let stream = stream_of(text(&event, "locator")).to_owned();
    Ok(prover.event(&stream, event, &ranges)?)
}

/// The ids given, those of standard input among them.
fn ids(given: &[String]) -> Result<Vec<String>, Failure> {
    let mut all = Vec::new();
    for id in given {
        if id == "-" {
            for line in std::io::stdin().lock().lines() {
                all.extend(line?.split_whitespace().map(str::to_owned));
            }
        } else {
            all.push(id.clone());
        }
    }
    Ok(all)
}

/// Whether two rows are equal. The id is left out: it is made of place, `ts_desc` and a count of the rows before it,
/// such as those of a file's other names, which the bytes of one record do not tell.
fn is_same(row: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    row.len() == other.len()
        && row.iter().all(|(key, value)| key == "event_id" || other.get(key) == Some(value))
}

/// Opens each exhibit once, however many events are shown.
struct Shower<'a> {
    case: &'a Case,
    timeline: &'a Timeline,
    session: &'a Session,
    provers: BTreeMap<String, Opened>,
}

struct Opened {
    prover: Prover,
    /// The newest checkpoint of the bundle's log.
    checkpoint: String,
    /// The entry that sealed the bundle.
    sealed: Option<u64>,
}

/// A row's bytes and what they prove.
struct Evidence {
    record: Record,
    /// Whether the bytes alone give the equal row.
    same: bool,
    /// What the row has from elsewhere: the year, the zone, the host.
    given: Vec<String>,
    chunks: Vec<ChunkProof>,
    map_chunks: Vec<ChunkProof>,
    checkpoint: String,
    sealed: Option<u64>,
    manifest_sha256: String,
}

impl Shower<'_> {
    fn evidence(&mut self, event: &Map<String, Value>) -> Result<Evidence, Failure> {
        let exhibit = text(event, "exhibit").to_owned();
        let (case, timeline, session) = (self.case, self.timeline, self.session);
        let opened = match self.provers.entry(exhibit.clone()) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(open(case, timeline, session, &exhibit)?)
            }
        };
        let prover = &opened.prover;
        let place = place_of(event)?;
        let record = prover.record(&place)?;
        let hints = hints_of(event, prover);
        let events = prover.parse(&place, &record, &hints)?;
        let names_host = events.iter().any(|event| event.host.is_some());
        let id = &prover.bundle().manifest().id;
        let host = prover.host();
        let mut maker = RowMaker::new(id, &exhibit, &place.locator, text(event, "parser"), host);
        let same = events.into_iter().map(|again| maker.row(again).to_json()).any(|row| is_same(&row, event));
        let stream = stream_of(&place.locator);
        Ok(Evidence {
            same,
            given: given(event, &hints, names_host, prover),
            chunks: prover.chunks(stream, &record.ranges)?,
            map_chunks: prover.chunks(stream, &record.map_ranges)?,
            checkpoint: opened.checkpoint.clone(),
            sealed: opened.sealed,
            manifest_sha256: prover.bundle().manifest_sha256().to_string(),
            record,
        })
    }
}

fn open(case: &Case, timeline: &Timeline, session: &Session, exhibit: &str) -> Result<Opened, Failure> {
    let folder = target::exhibit_of(case, exhibit)?.folder;
    let bundle = session.open_bundle(&folder)?;
    let built = timeline.manifest().exhibits.get(exhibit);
    let built =
        built.ok_or_else(|| Failure::new(format!("the timeline's manifest has no exhibit {exhibit}")))?;
    if built.manifest_sha256 != bundle.manifest_sha256().to_string() {
        return Err(Failure::new(format!(
            "the timeline of {exhibit} was built from another bundle than {folder:?}"
        ))
        .hint("build it anew with `exhibit timeline CASE`"));
    }
    // What the evidence says of its host is read again, out of the bundle; only a zone that a person gave is not in it.
    let zone = built.options.get("timezone").and_then(|name| timeline::zone::Zone::from_name(name));
    let log = CustodyLog::open(&folder)?.read()?;
    let sealed =
        log.entries.iter().rev().find(|entry| entry.kind == EntryType::BUNDLE_SEALED).map(|entry| entry.seq);
    let checkpoint = log.checkpoint.map(|checkpoint| checkpoint.note.to_text()).unwrap_or_default();
    Ok(Opened { prover: Prover::open(bundle, zone.as_ref())?, checkpoint, sealed })
}

fn place_of(event: &Map<String, Value>) -> Result<Place, Failure> {
    let number = |key: &str| {
        event.get(key).and_then(Value::as_u64).ok_or_else(|| Failure::new(format!("the event has no {key}")))
    };
    Ok(Place {
        locator: text(event, "locator").to_owned(),
        span: timeline::event::Span::new(number("byte_offset")?, number("byte_length")?),
        pieces: event.get("pieces").and_then(Value::as_str).map(str::to_owned),
    })
}

fn hints_of(event: &Map<String, Value>, prover: &Prover) -> Hints {
    let basis = match text(event, "year_basis") {
        "neighbour" => YearBasis::Neighbour,
        "file_time" => YearBasis::FileTime,
        "flag" => YearBasis::Flag,
        _ => YearBasis::InRecord,
    };
    let time = timeline::query::moment(text(event, "ts")).ok();
    Hints {
        parser: text(event, "parser").split('@').next().unwrap_or_default().to_owned(),
        year: time.and_then(|time| Hints::year_of(time, basis, prover.zone())),
    }
}

/// What a row has from elsewhere than its record's bytes.
fn given(event: &Map<String, Value>, hints: &Hints, names_host: bool, prover: &Prover) -> Vec<String> {
    let mut given = Vec::new();
    if let Some((year, basis)) = hints.year {
        given.push(format!("the year {year} ({})", basis.as_str()));
    }
    let basis = text(event, "tz_basis");
    if matches!(basis, "host_config" | "flag" | "assumed_utc") {
        given.push(format!("the time zone {} ({basis})", prover.zone().name()));
    }
    if !names_host && let Some(host) = prover.host() {
        given.push(format!("the host {host} (/etc/hostname)"));
    }
    given
}

fn text<'a>(event: &'a Map<String, Value>, key: &str) -> &'a str {
    event.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn document(event: Map<String, Value>, evidence: Option<&Evidence>, args: &Args) -> Value {
    let mut document = json!({ "event": event });
    if let (Some(evidence), Some(fields)) = (evidence, document.as_object_mut()) {
        let record = &evidence.record;
        if args.bytes {
            fields.insert("bytes_b64".into(), BASE64.encode(&record.bytes).into());
            let pieces: Vec<Value> = record
                .pieces
                .iter()
                .map(|(at, bytes)| json!({"offset": at, "bytes_b64": BASE64.encode(bytes)}))
                .collect();
            fields.insert("pieces".into(), pieces.into());
            fields.insert("same_row".into(), evidence.same.into());
            fields.insert("given".into(), evidence.given.clone().into());
        }
        if args.proof {
            let root = evidence.chunks.first().map(|chunk| chunk.chunk_root.to_string());
            fields.insert(
                "ranges".into(),
                json!(record.ranges.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>()),
            );
            if let Some(stored_as) = record.stored_as {
                fields.insert("stored_as".into(), stored_as.into());
            }
            fields.insert("chunks".into(), evidence.chunks.iter().map(chunk).collect());
            fields.insert("map_chunks".into(), evidence.map_chunks.iter().map(chunk).collect());
            fields.insert("chunk_root".into(), json!(root));
            fields.insert("manifest_sha256".into(), json!(evidence.manifest_sha256));
            fields.insert("sealed_by_entry".into(), json!(evidence.sealed));
            fields.insert("checkpoint".into(), json!(evidence.checkpoint));
        }
    }
    document
}

fn chunk(proof: &ChunkProof) -> Value {
    let path: Vec<String> = proof.path.iter().map(ToString::to_string).collect();
    json!({ "index": proof.index, "sha256": proof.sha256.to_string(), "path": path })
}

fn print(
    event: &Map<String, Value>,
    evidence: Option<&Evidence>,
    args: &Args,
    session: &Session,
) -> Result<(), Failure> {
    let say = |line: &str| session.ui.data(&ui::printable(line, false));
    for (key, value) in event.iter().filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        say(&format!("{key:<14} {value}"))?;
    }
    let Some(evidence) = evidence else { return Ok(()) };
    if args.bytes {
        say("")?;
        say(&format!(
            "{} re-read from the bundle:",
            ui::count(evidence.record.bytes.len() as u64, "byte", "bytes")
        ))?;
        for line in
            hex_dump(&evidence.record.bytes, event.get("byte_offset").and_then(Value::as_u64).unwrap_or(0))
        {
            say(&line)?;
        }
        say(if evidence.same {
            "these bytes alone give the equal row"
        } else {
            "THESE BYTES DO NOT GIVE THE EQUAL ROW"
        })?;
        for given in &evidence.given {
            say(&format!("  given to them: {given}"))?;
        }
    }
    if args.proof {
        say("")?;
        if let Some(stored_as) = evidence.record.stored_as {
            say(&format!("the chunks hold {stored_as}, out of which these bytes were decoded"))?;
        }
        for proof in &evidence.chunks {
            say(&format!("chunk {:<8} sha256 {}", proof.index, proof.sha256))?;
            for (level, hash) in proof.path.iter().enumerate() {
                say(&format!("  level {level:<6} {hash}"))?;
            }
        }
        if let Some(first) = evidence.chunks.first() {
            say(&format!(
                "chunk_root     {} (in manifest.json, of {} chunks)",
                first.chunk_root, first.tree_size
            ))?;
        }
        let map: Vec<String> = evidence.map_chunks.iter().map(|proof| proof.index.to_string()).collect();
        if !map.is_empty() {
            say(&format!("the file's inode and extent map lie in chunk {}", map.join(", ")))?;
        }
        say(&format!("manifest.json  {} (signed: manifest.json.sig)", evidence.manifest_sha256))?;
        if let Some(sealed) = evidence.sealed {
            say(&format!(
                "sealed by      entry {sealed} of the bundle's custody.jsonl, under this checkpoint:"
            ))?;
        }
        for line in evidence.checkpoint.lines() {
            say(&format!("  {line}"))?;
        }
    }
    Ok(())
}

/// Offset, hex and text, 16 bytes a line; long records are cut.
fn hex_dump(bytes: &[u8], offset: u64) -> Vec<String> {
    const LINES: usize = 64;
    let mut lines: Vec<String> = bytes
        .chunks(16)
        .take(LINES)
        .enumerate()
        .map(|(at, part)| {
            let hex: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let text: String = part
                .iter()
                .map(|b| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' })
                .collect();
            format!("{:08x}  {:<47}  {text}", offset + 16 * at as u64, hex.join(" "))
        })
        .collect();
    if bytes.len() > 16 * LINES {
        lines.push(format!(
            "… and {} more; --json gives them all",
            ui::count((bytes.len() - 16 * LINES) as u64, "byte", "bytes")
        ));
    }
    lines
}

//! Part 7: how each exhibit was acquired, field by field.

use serde_json::{Map, Value};

use super::answers::{self, actor};
use super::blocks::{Line, fact, mono_fact, part, row, table, times, words};
use super::document::{Block, Cite, Fact, Part};
use super::material::{ExhibitMaterial, Material};
use super::{text, units};
use crate::bundle::Manifest;
use crate::entry::EntryType;

/// Exhibits that are told field by field; the rest have their manifests.
const MOST: usize = 50;

pub(super) fn record(m: &Material) -> Part {
    let mut blocks = Vec::new();
    for x in m.exhibits.iter().take(MOST) {
        blocks.push(Block::Heading(format!("{}: {}", x.id, x.name())));
        let Some(manifest) = &x.manifest else {
            blocks.push(Line::of("Not sealed or not readable: nothing but its log can be told.").block());
            blocks.extend(acts(x));
            continue;
        };
        blocks.push(Block::Facts(what(x, manifest)));
        blocks.push(Block::Facts(how(m, x, manifest)));
        blocks.push(Block::Facts(footprint(x, manifest)));
        blocks.extend(acts(x));
    }
    if m.exhibits.len() > MOST {
        blocks.push(
            Line::of(format!("{} more exhibits are told by their manifests alone.", m.exhibits.len() - MOST))
                .block(),
        );
    }
    part(7, "acquisition", "Acquisition record", "How was it done?", blocks)
}

/// What the item is.
fn what(x: &ExhibitMaterial, manifest: &Manifest) -> Vec<Fact> {
    let start = x.log.cite_first(&EntryType::ACQUIRE_START);
    let source = &manifest.source;
    let more = |name: &str| source.more.get(name).map(super::words::plain).unwrap_or_default();
    let opt = |text: &Option<String>| text.clone().unwrap_or_default();
    let size = source.size.map_or_else(String::new, |bytes| {
        let sectors = source.sector_size.filter(|size| *size > 0).map(|size| bytes / u64::from(size));
        let sectors = sectors.map(|n| format!(", {} sectors", units::thousands(n))).unwrap_or_default();
        format!("{}{sectors}", units::size(bytes))
    });
    let sector = source.sector_size.map_or_else(String::new, |size| units::size(u64::from(size)));
    let physical = more("physical_sector_size");
    let mut facts = vec![
        mono_fact("Source", &opt(&source.path), &start),
        fact(
            "Kind",
            &[source.kind.as_str(), &more("form")]
                .iter()
                .filter(|it| !it.is_empty())
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
            &start,
        ),
        fact(
            "Make and model",
            &[more("vendor"), opt(&source.model)]
                .iter()
                .filter(|it| !it.is_empty())
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
            &start,
        ),
        fact("Serial number", &opt(&source.serial), &start),
        fact("World-wide name", &more("wwid"), &start),
        fact("Firmware", &more("firmware"), &start),
        fact("Capacity", &size, &start),
        fact("Logical sector size", &sector, &start),
        fact("Physical sector size", &physical.parse().map_or(physical, units::size), &start),
        fact("Interface", &more("transport"), &start),
        fact("Partitions", &more("partitions"), &start),
        fact("Hidden areas (HPA, DCO, AMA)", &answers::hidden_areas(x).unwrap_or_default(), &x.sealed()),
        fact("State found in (on, off, locked)", &more("state"), &start),
        fact("In use meanwhile", &more("in_use"), &start),
        fact("Photographs", "", &[]),
        fact("Scene, rack, bay, port", "", &[]),
    ];
    if source.kind != "disk" {
        let device_only = [
            "Make and model",
            "Serial number",
            "World-wide name",
            "Firmware",
            "Logical sector size",
            "Physical sector size",
            "Interface",
            "Partitions",
            "Hidden areas (HPA, DCO, AMA)",
        ];
        facts.retain(|fact| !device_only.contains(&fact.label.as_str()));
    }
    facts
}

/// How and by what it was acquired.
fn how(m: &Material, x: &ExhibitMaterial, manifest: &Manifest) -> Vec<Fact> {
    let log = &x.log;
    let (start_cite, end_cite) =
        (log.cite_first(&EntryType::ACQUIRE_START), log.cite_first(&EntryType::ACQUIRE_END));
    let start = log.first(&EntryType::ACQUIRE_START);
    let end = log.first(&EntryType::ACQUIRE_END);
    let command = start.and_then(|entry| entry.how_text("command")).unwrap_or_default();
    let whole = start.and_then(|entry| entry.how_text("command_line")).unwrap_or_default();
    let passed = start.zip(end).and_then(|(start, end)| units::between(&start.time.wall, &end.time.wall));
    let bytes = manifest.streams.iter().fold(0, |sum: u64, stream| sum.saturating_add(stream.size));
    let pauses = log.of(&EntryType::ACQUIRE_PAUSED).count();
    let speed = passed.filter(|_| pauses == 0).and_then(|ns| units::speed(bytes, ns)).unwrap_or_default();
    let read_only = |fact: Option<&Value>| match fact.and_then(Value::as_bool) {
        Some(true) => "read-only",
        Some(false) => "writable",
        None => "",
    };
    let tool = &manifest.tool;
    let host = &manifest.host;
    let pauses_words = match pauses {
        0 => "no interruption is recorded".to_owned(),
        n => format!(
            "{}, each resumed from what was stored",
            units::number_of(n, "interruption", "interruptions")
        ),
    };
    let stored: u64 = manifest.streams.iter().flat_map(|stream| &stream.segments).map(|file| file.size).sum();
    let encrypted = manifest.options.get("encrypted_to").map(super::words::plain);
    let mut facts = vec![
        fact("Acquired by", &start.map_or_else(|| manifest.examiner.name.clone(), actor), &start_cite),
        mono_fact("Signed with key", &manifest.examiner.key, &x.sealed()),
        fact("On machine", &host.name, &start_cite),
        fact("Operating system", &host.os, &start_cite),
        fact("Program", &format!("{} {}", tool.name, tool.version), &start_cite),
        mono_fact(
            "SHA-256 of the program file",
            &tool.build_sha256.map(|it| it.to_string()).unwrap_or_default(),
            &start_cite,
        ),
        fact("Act", command, &start_cite),
        mono_fact("Command line as typed", whole, &start_cite),
        fact("Settings", &settings(&manifest.options), &start_cite),
        fact("Begun", &start.map(|entry| units::time_utc(&entry.time.wall)).unwrap_or_default(), &start_cite),
        fact("Ended", &end.map(|entry| units::time_utc(&entry.time.wall)).unwrap_or_default(), &end_cite),
        fact("Took", &passed.map(units::duration).unwrap_or_default(), &end_cite),
        fact("Speed", &speed, &end_cite),
        fact(
            "Interruptions",
            &pauses_words,
            &log.of(&EntryType::ACQUIRE_PAUSED).map(|entry| log.cite(entry.seq)).collect::<Vec<_>>(),
        ),
        fact("Stored in", &format!("{}, compressed", units::size(stored)), &x.sealed()),
        fact(
            "Encrypted to",
            encrypted.as_deref().unwrap_or("nobody: the copy is not encrypted"),
            &start_cite,
        ),
        fact(
            "Reason for this item",
            &start
                .and_then(|entry| entry.about.why.as_ref())
                .map(|why| why.purpose.clone())
                .unwrap_or_default(),
            &start_cite,
        ),
        fact("Hardware write blocker", "", &[]),
        fact("How the program opened the source", "for reading only", &start_cite),
        fact("Device's own setting before", read_only(manifest.source.more.get("read_only")), &start_cite),
        fact("Device's own setting after", read_only(manifest.source.more.get("read_only_after")), &end_cite),
    ];
    let tested = answers::selftest_before(m, x);
    let words = tested.and_then(|(_, entry)| {
        Some(format!(
            "{} tried, {} failed, at {}",
            entry.about.result.get("tried")?.as_u64()?,
            entry.about.result.get("failed")?.as_u64()?,
            units::time_utc(&entry.time.wall)
        ))
    });
    let cites: Vec<Cite> = tested.map(|(log, entry)| log.cite(entry.seq)).into_iter().collect();
    facts.push(fact("Self-test of this build on this machine before", &words.unwrap_or_default(), &cites));
    facts
}

/// The settings, without those that have lines of their own.
fn settings(options: &Map<String, Value>) -> String {
    let own = ["encrypted_to", "base", "parts", "foreign"];
    let words = options.iter().filter(|(name, _)| !own.contains(&name.as_str())).map(|(name, value)| {
        let unit = match name.as_str() {
            "chunk_size" => " bytes",
            "bad_areas_s" => " seconds at most for places that are hard to read",
            _ => "",
        };
        let name = match name.as_str() {
            "bad_areas_s" => "patience".to_owned(),
            "level" => "compression level".to_owned(),
            name => name.replace('_', " "),
        };
        format!("{name}: {}{unit}", super::words::plain(value))
    });
    words.collect::<Vec<_>>().join("; ")
}

/// What the acquisition changed on the original, or may have.
fn footprint(x: &ExhibitMaterial, manifest: &Manifest) -> Vec<Fact> {
    let end = x.log.cite_first(&EntryType::ACQUIRE_END);
    let counters = manifest.source.more.get("write_counters").and_then(Value::as_object);
    let words = counters.map(|counters| {
        let side = |which: &str| {
            let of = |name: &str| counters.get(which)?.get(name)?.as_u64();
            let (writes, sectors) =
                (of("writes").unwrap_or_default(), of("sectors_written").unwrap_or_default());
            format!(
                "{}, {}",
                units::count(writes, "write", "writes"),
                units::count(sectors, "sector", "sectors")
            )
        };
        format!("before: {}; after: {}", side("before"), side("after"))
    });
    let mut facts = vec![fact(
        "Writes to the device that the system counted",
        words.as_deref().unwrap_or_default(),
        &end,
    )];
    if manifest.source.kind != "disk" {
        let listed = "the stream of commands holds footprint.json, which lists processes, files opened, access times and bytes \
                      written by the acquisition";
        let has = manifest.streams.iter().any(|stream| stream.name == "commands");
        facts.push(fact("Footprint on the running machine", if has { listed } else { "" }, &x.sealed()));
    }
    facts.push(fact("Who decided on changes to the original, and why", "", &[]));
    facts
}

/// What the exhibit's own log tells, in order.
fn acts(x: &ExhibitMaterial) -> Vec<Block> {
    let rows = x.log.entries.iter().map(|entry| {
        row([
            x.log.cite(entry.seq).to_string(),
            units::time(&entry.time.wall),
            super::words::act(&entry.kind).to_owned(),
            actor(entry),
            text::cell(&super::words::told(entry)),
        ])
    });
    let columns =
        vec![words("Entry", 2), times("Time (UTC)"), words("Act", 3), words("By", 4), words("What", 9)];
    let rest = format!("{}/custody.jsonl", x.folder);
    table(format!("What the log of {} tells", x.id), columns, rows, &rest)
}

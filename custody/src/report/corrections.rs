//! Part 16: what was corrected, done otherwise, or told about the tools; and the notes. Part 18: words explained.

use super::answers::actor;
use super::blocks::{Line, fact, hashes, mono_fact, numbers, part, row, table, times, words};
use super::document::{Block, Part, Span};
use super::material::Material;
use super::units;
use crate::entry::EntryType;

pub(super) fn corrections(m: &Material) -> Part {
    let mut blocks = vec![
        Line::of("Nothing in a log is ever edited. What was wrong stays, and an entry that refers to it puts it right.").block(),
    ];
    for (kind, title, none) in [
        (EntryType::CORRECTION, "Corrections", "No correction is recorded."),
        (EntryType::DEVIATION, "Deviations from procedure", "No deviation is recorded."),
        (EntryType::TOOL_NOTICE, "Notices about tools", "No notice about a tool is recorded."),
        (EntryType::LOG_RECOVERED, "Recoveries of a log", "No log had to be recovered."),
        (EntryType::NOTE, "Notes", "No note is recorded."),
    ] {
        let kinds = [kind];
        if m.of(&kinds).next().is_none() {
            blocks.push(Line::of(none).block());
            continue;
        }
        let rows = m.of(&kinds).map(|(log, entry)| {
            let refs =
                entry.about.refs.iter().take(8).map(|seq| log.cite(*seq).to_string()).collect::<Vec<_>>();
            row([
                log.cite(entry.seq).to_string(),
                units::time(&entry.time.wall),
                actor(entry),
                super::words::told(entry),
                refs.join(" "),
            ])
        });
        let columns =
            vec![words("Entry", 2), times("Time (UTC)"), words("By", 4), words("What", 9), words("About", 2)];
        blocks.extend(table(title, columns, rows, "custody.jsonl"));
    }
    part(16, "corrections", "Corrections and notices", "What did you get wrong?", blocks)
}

const GLOSSARY: [(&str, &str); 20] = [
    ("Acquisition", "making a copy of evidence in which every byte is accounted for."),
    (
        "Anchor",
        "something outside the presenter's hands that shows what the log looked like at some time: a time stamp, a \
      cosignature, a copy kept elsewhere.",
    ),
    ("Bundle", "the folder that holds one exhibit: its data, its tables, its manifest and its log."),
    ("Checkpoint", "a signed statement of how many entries a log has and what the root over them is."),
    (
        "Chunk",
        "a piece of a stream of fixed size, with a hash of its own, so that one piece can be checked without the rest.",
    ),
    ("Custody log", "the list of all acts on a case or exhibit, to which entries can only be added."),
    (
        "Entry",
        "one line of a log: who did what, when, with what, and with what result. Cited here as [log number].",
    ),
    ("Exhibit", "one thing that was acquired, such as a disk; called E001, E002 and so on."),
    ("Fingerprint of a key", "a short number that names one key and no other."),
    (
        "Hash, SHA-256",
        "a number of 64 digits computed from every byte of something. Change one bit, and it is another number. \
      Nobody knows a way to make two things with the same one.",
    ),
    ("Hidden areas (HPA, DCO, AMA)", "parts of a disk that the disk does not show to its computer."),
    ("KiB, MiB, GiB, TiB", "1,024 bytes, and 1,024 times the one before."),
    ("Manifest", "the signed list of what an exhibit consists of, with the hash of every file."),
    ("Root", "one hash that stands for all entries of a log, or all chunks of a stream."),
    ("Sector", "the smallest piece that a disk reads, mostly 512 or 4,096 bytes."),
    ("Seal", "the moment from which an exhibit's files are fixed: the log names the hash of the manifest."),
    ("Self-test", "a trial of the program on the very machine, on made sources whose true content is known."),
    ("Signature", "a number that only the holder of a secret key can make, and that anybody can check."),
    (
        "Unreadable",
        "the source gave an error instead of bytes, however often it was asked. Zeros stand there in the copy.",
    ),
    ("Write blocker", "a device between a disk and a computer that lets nothing be written to the disk."),
];

pub(super) fn glossary(m: &Material) -> Part {
    let facts = GLOSSARY.iter().map(|(word, meaning)| fact(*word, meaning, &[])).collect();
    let mut blocks = vec![Block::Facts(facts), Block::Heading("For programs".to_owned())];
    blocks.push(Block::Facts(vec![
        fact("report.json", "this report as one JSON document: the same parts, and the checks of part 15", &[]),
        fact(
            "report.case.jsonld",
            "every act of the logs in the ontology CASE 1.4 of the Cyber Domain Ontology, for exchange between tools",
            &[],
        ),
        mono_fact("Made by", &format!("exhibit {}", env!("CARGO_PKG_VERSION")), &[]),
    ]));
    let rows = m.logs().map(|log| {
        let root = log.root().map(|root| root.to_string()).unwrap_or_default();
        let mut row = row([log.name.clone(), units::thousands(log.size()), root.clone(), log.origin.clone()]);
        for (at, text) in [(2, root), (3, log.origin.clone())] {
            if let Some(cell) = row.cells.get_mut(at) {
                *cell = vec![Span::mono(super::text::cell(&text))];
            }
        }
        row
    });
    let columns = vec![
        words("Log", 1),
        numbers("Entries", 2),
        hashes("Root (RFC 6962, SHA-256)", 8),
        hashes("Origin", 6),
    ];
    blocks.extend(table("The heads that this report was made from", columns, rows, "the logs"));
    blocks.push(
        Line::of("The report was made before its own entry was written: the same heads give the same bytes.")
            .block(),
    );
    part(18, "glossary", "Glossary and machine annex", "What do these words mean?", blocks)
}

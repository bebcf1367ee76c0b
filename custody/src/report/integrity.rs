//! Part 14: why the record itself can be believed: logs, keys, checkpoints, anchors, and each threat with its verdict.

use super::blocks::{Line, fact, hashes, list, mono_fact, numbers, part, row, table, times, toned, words};
use super::document::{Block, Fact, NO_RECORD, Part, Row, Span, Tone};
use super::material::{Log, Material};
use super::{text, units};
use crate::verify::{AnchorFact, AnchorKind, ThreatState};

pub(super) fn integrity(m: &Material) -> Part {
    let mut blocks = vec![
        Line::of(
            "Each log is a chain: every entry names the hash of the entry before it. Over all of them stands one hash, the root, \
             which is signed anew after every entry. A checkpoint is that signed root with the number of entries. Whoever keeps \
             one can later show whether entries were changed, put in, or cut off.",
        )
        .block(),
    ];
    for log in m.logs().take(100) {
        blocks.push(Block::Heading(format!("The log of {}", log.title())));
        blocks.push(Block::Facts(of_log(log)));
    }
    let rows = m.logs().flat_map(|log| {
        log.kept.iter().map(|(size, root)| {
            let mut row = row([log.title(), units::thousands(*size), root.to_string()]);
            if let Some(cell) = row.cells.get_mut(2) {
                *cell = vec![Span::mono(root.to_string())];
            }
            row
        })
    });
    let columns = vec![words("Log", 2), numbers("Entries", 2), hashes("Root", 9)];
    blocks.extend(table("Checkpoints kept whole in the case", columns, rows, "the folders checkpoints/"));
    blocks.push(Block::Heading("Anchors, by who controls them".to_owned()));
    blocks.extend(anchors(m));
    blocks.push(Block::Heading("Threat by threat".to_owned()));
    blocks.extend(threats(m));
    blocks.push(Block::Heading("Faults and remarks".to_owned()));
    blocks.extend(faults(m));
    part(14, "integrity", "Integrity proof", "Could you have changed it?", blocks)
}

fn of_log(log: &Log) -> Vec<Fact> {
    if let Some(why) = &log.unread {
        return vec![fact("Could not be read", why, &[])];
    }
    let root = log.root().map(|root| root.to_string()).unwrap_or_default();
    let signer = log.signer.as_ref().map(crate::keys::VerifyingKey::fingerprint).unwrap_or_default();
    vec![
        mono_fact("Origin (the log's random name)", &log.origin, &[log.cite(0)]),
        fact("Entries signed for", &units::thousands(log.size()), &[log.cite(log.size().saturating_sub(1))]),
        mono_fact("Root over them", &root, &[]),
        mono_fact("Signed by the key", &signer, &[]),
        fact(
            "Checkpoints kept",
            &units::number_of(log.kept.len() + log.kept_more, "checkpoint", "checkpoints"),
            &[],
        ),
    ]
}

/// Everything outside the logs that vouches for them: of the case, then of each exhibit.
fn facts(m: &Material) -> impl Iterator<Item = (String, &AnchorFact)> {
    let of_case = m.verification.log.anchored.iter().map(|fact| ("the case".to_owned(), fact));
    let of_exhibits = m.verification.exhibits.iter();
    of_case.chain(of_exhibits.flat_map(|x| x.log.anchored.iter().map(|fact| (x.id.clone(), fact))))
}

fn kind(fact: &AnchorFact) -> &'static str {
    match fact.kind {
        AnchorKind::TimeStamp => "time stamp (RFC 3161)",
        AnchorKind::Cosignature => "cosignature",
        AnchorKind::KeptCopy => "copy kept elsewhere",
    }
}

/// Anchors by who controls them.
fn anchors(m: &Material) -> Vec<Block> {
    let independent = m.verification.verdict.anchors;
    let mut blocks = vec![match independent {
        0 => Line::default()
            .strong("0 anchors independent of the presenter: internal consistency only.")
            .say(" Everything that counted came from one hand.")
            .block(),
        n => Line::of(format!(
            "{} outside the presenter's hands {} for the whole case. Only those count in the verdict.",
            units::count(n.into(), "party", "parties"),
            if n == 1 { "vouches" } else { "vouch" }
        ))
        .block(),
    }];
    let rows = facts(m).map(|(of, fact)| {
        let row = row([
            of,
            kind(fact).to_owned(),
            fact.who.clone(),
            if fact.independent { "no: it counts" } else { "cannot be told: it does not count" }.to_owned(),
            units::thousands(fact.covers),
            fact.file.clone(),
            fact.words.clone(),
        ]);
        toned(row, if fact.independent { Tone::Good } else { Tone::Plain })
    });
    if facts(m).next().is_some() {
        let columns = vec![
            words("Log", 2),
            words("Kind", 3),
            words("Who", 4),
            words("In the presenter's hands?", 3),
            numbers("Entries covered", 2),
            words("File", 4),
            words("What it says", 6),
        ];
        blocks.extend(table("Every anchor that holds", columns, rows, "anchors/"));
    }
    blocks
}

/// The times that others vouch for: what each act was at the latest.
pub(super) fn windows(m: &Material) -> Vec<Block> {
    let timed = || facts(m).filter(|(_, fact)| fact.time.is_some());
    if timed().next().is_none() {
        return vec![
            Line::of("Time stamps, cosignatures and kept copies that name a time: ")
                .no_record()
                .say(".")
                .block(),
        ];
    }
    let rows = timed().map(|(of, fact)| {
        let log = m.logs().find(|log| log.name == of || (of == "the case" && log.folder.is_empty()));
        let last = log.and_then(|log| log.entries.get(usize::try_from(fact.covers).ok()?.checked_sub(1)?));
        let (claimed, cite) = last.map_or_else(
            || (NO_RECORD.to_owned(), String::new()),
            |entry| {
                (
                    units::time(&entry.time.wall),
                    log.map(|log| log.cite(entry.seq).to_string()).unwrap_or_default(),
                )
            },
        );
        let late =
            last.zip(fact.time.as_deref()).and_then(|(entry, time)| units::between(&entry.time.wall, time));
        let sits = match late {
            Some(ns) if ns < -1_000_000_000 => {
                format!("the machine's clock was ahead by {}", units::duration(ns))
            }
            Some(ns) => format!("inside: {} after the entry", units::duration(ns)),
            None => NO_RECORD.to_owned(),
        };
        let tone = if late.is_some_and(|ns| ns < -1_000_000_000) { Tone::Bad } else { Tone::Plain };
        let at = fact.time.as_deref().map(units::time).unwrap_or_default();
        toned(row([of, fact.who.clone(), at, cite, claimed, sits]), tone)
    });
    let columns = vec![
        words("Log", 2),
        words("Who", 4),
        times("There at (UTC)"),
        words("Last entry covered", 3),
        times("Its own clock (UTC)"),
        words("Host's claim against it", 5),
    ];
    let caption = "Each entry up to the named one was there at this time, by the word of somebody else";
    table(caption, columns, rows, "anchors/")
}

/// Every threat with its verdict.
fn threats(m: &Material) -> Vec<Block> {
    let rows = m.verification.threats.iter().map(|threat| {
        let tone = match threat.state {
            ThreatState::Found => Tone::Bad,
            ThreatState::NotProved => Tone::Warn,
            ThreatState::Held | ThreatState::NotApplicable => Tone::Plain,
        };
        let mut row = row([threat.id, threat.name, threat.state.word()]);
        row.cells.push(vec![Span::plain(text::long(&threat.words))]);
        toned(row, tone)
    });
    let columns = vec![
        words("No.", 1),
        words("Threat", 3),
        words("Verdict", 2),
        words("What was seen, and what would show it", 9),
    ];
    let mut blocks = table(
        "Every known way to cheat with a log, and what is known of it here",
        columns,
        rows,
        "the output of verify",
    );
    blocks.push(
        Line::of(
            "HELD: looked for, and not found. NOT PROVED: nothing that was shown could tell; the words say what would. FOUND: there are \
             signs of it. N/A: there is nothing here that it could touch.",
        )
        .block(),
    );
    blocks
}

fn faults(m: &Material) -> Vec<Block> {
    let mut blocks = Vec::new();
    let rows = m
        .verification
        .faults
        .iter()
        .map(|fault| -> Row { toned(row([fault.place.to_string(), fault.words.clone()]), Tone::Bad) });
    if m.verification.faults.is_empty() {
        let counts = &m.verification.counts;
        blocks.push(
            Line::of(format!(
                "Verification for this report read {}, {} and {} of streams, and found no fault.",
                units::count(counts.files, "file", "files"),
                units::count(counts.entries, "entry", "entries"),
                units::size(counts.stream_bytes)
            ))
            .block(),
        );
    } else {
        let caption = units::count(m.verification.fault_count, "fault", "faults");
        blocks.extend(table(
            caption,
            vec![words("Place", 4), words("What is wrong", 8)],
            rows,
            "the output of verify",
        ));
    }
    if !m.verification.notes.is_empty() {
        let notes = m.verification.notes.iter().map(|note| Line::of(text::cell(note))).collect();
        blocks.push(list(notes, "the output of verify"));
    }
    blocks
}

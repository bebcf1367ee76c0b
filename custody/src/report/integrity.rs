//! Part 14: why the record itself can be believed: logs, keys, checkpoints, anchors, and each threat with its verdict.

use super::blocks::{Line, fact, hashes, list, mono_fact, numbers, part, row, table, words};
use super::document::{Block, Fact, Part, Row, Span};
use super::material::{Log, Material};
use super::{text, units};

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

/// Everything outside the logs that vouches for them.
fn anchors(m: &Material) -> Vec<Block> {
    let anchors: Vec<Line> =
        m.verification.log.anchors.iter().map(|anchor| Line::of(text::long(anchor))).collect();
    if anchors.is_empty() {
        return vec![
            Line::default()
                .strong("0 anchors independent of the presenter: internal consistency only.")
                .say(" Everything that was shown came from one hand.")
                .block(),
        ];
    }
    vec![list(anchors, "anchors/")]
}

/// The times that others vouch for.
pub(super) fn windows(m: &Material) -> Vec<Block> {
    if m.verification.log.anchors.is_empty() {
        return vec![Line::of("Time stamps, cosignatures and kept copies: ").no_record().say(".").block()];
    }
    anchors(m)
}

fn faults(m: &Material) -> Vec<Block> {
    let mut blocks = Vec::new();
    let rows = m.verification.faults.iter().map(|fault| -> Row {
        super::blocks::toned(row([fault.place.to_string(), fault.words.clone()]), super::document::Tone::Bad)
    });
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

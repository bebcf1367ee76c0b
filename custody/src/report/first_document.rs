//! The report's document.

use super::Report;
use super::device_picture::DevicePicture;
use super::document::{
    Block, Cite, Column, ColumnKind, Document, Fact, Foot, Part, Row, Span, Style, Table, Tone,
};
use crate::digest::sha256;

impl Report {
    /// The report as parts of blocks, which every printed form renders.
    pub fn document(&self) -> Document {
        let json = self.to_json().unwrap_or_default();
        let report_id: String = sha256(json.as_bytes()).to_string().chars().take(16).collect();
        let exhibits: Vec<&str> = self.exhibits.iter().map(|exhibit| exhibit.id.as_str()).collect();
        let head = self.heads.first();
        let checkpoint =
            head.map_or_else(String::new, |head| format!("size {}, root {}", head.size, head.root));
        Document {
            title: "Custody report".to_owned(),
            subtitle: format!("Case {}, {}", self.case.id, self.case.name),
            foot: Foot { case: self.case.id.clone(), exhibits: exhibits.join(", "), report_id, checkpoint },
            parts: self.parts(),
        }
    }

    fn parts(&self) -> Vec<Part> {
        let tone = match self.verdict.tone {
            "bad" => Tone::Bad,
            "good" => Tone::Good,
            "open" => Tone::Warn,
            _ => Tone::Plain,
        };
        let verdict = vec![
            Block::Verdict {
                word: self.verdict.word.clone(),
                tone,
                sentences: vec![self.verdict.sentence.clone(), self.verdict.anchors.clone()],
            },
            Block::Facts(self.case.rows.iter().map(|row| fact(row.label, &row.value)).collect()),
            Block::Qr { text: "exhibit".to_owned(), caption: "Origin, size and root".to_owned() },
        ];
        let limits = self.limits.iter().map(|limit| vec![Span::plain(limit.clone())]).collect();
        let mut exhibits = Vec::new();
        for exhibit in &self.exhibits {
            exhibits.push(Block::Heading(format!("{}: {}", exhibit.id, exhibit.name)));
            exhibits.push(Block::Facts(exhibit.rows.iter().map(|row| fact(row.label, &row.value)).collect()));
            for stream in &exhibit.streams {
                exhibits.push(Block::Device(DevicePicture {
                    title: format!("Stream {}, {} bytes", stream.name, stream.size),
                    words: stream.unreadable.clone(),
                    bars: stream.picture.clone(),
                    key: stream.key.clone(),
                }));
                let rows = stream
                    .states
                    .iter()
                    .map(|state| row(&[state.state, &state.bytes, &state.share, state.meaning]));
                exhibits.push(Block::Table(Table {
                    caption: "Every byte is in exactly one state".to_owned(),
                    columns: vec![
                        column("State", ColumnKind::Words, 2),
                        column("Bytes", ColumnKind::Number, 3),
                        column("Share", ColumnKind::Number, 2),
                        column("Meaning", ColumnKind::Words, 6),
                    ],
                    rows: rows.collect(),
                }));
            }
        }
        let mut custody = Vec::new();
        for log in &self.logs {
            let rows = log.entries.iter().map(|entry| {
                let seq = entry.seq.to_string();
                row(&[&seq, &entry.time, &entry.kind, &entry.by, &entry.what])
            });
            custody.push(Block::Table(Table {
                caption: log.title.clone(),
                columns: vec![
                    column("Entry", ColumnKind::Number, 1),
                    column("Time (UTC)", ColumnKind::Time, 3),
                    column("Act", ColumnKind::Words, 2),
                    column("By", ColumnKind::Words, 3),
                    column("What", ColumnKind::Words, 8),
                ],
                rows: rows.collect(),
            }));
        }
        let checks = self.checks.iter().map(|check| Block::Check {
            title: check.title.to_owned(),
            command: check.command.clone(),
            expect: check.expect.clone(),
        });
        vec![
            part(1, "verdict", "Verdict", "Can I rely on it?", verdict),
            part(
                2,
                "limits",
                "What this report does not prove",
                "What went wrong?",
                vec![Block::List(limits)],
            ),
            part(3, "exhibits", "Exhibits", "What was acquired?", exhibits),
            part(4, "custody", "Custody", "Who did what, and when?", custody),
            part(5, "checks", "How to check this yourself", "Must I believe you?", checks.collect()),
            part(
                6,
                "certificates",
                "Certificates (drafts)",
                "Who swears to it?",
                vec![Block::Blank { label: "Signature and date".to_owned() }],
            ),
        ]
    }
}

fn part(
    number: u8,
    anchor: &'static str,
    title: &'static str,
    question: &'static str,
    blocks: Vec<Block>,
) -> Part {
    Part { number, anchor, title, question, blocks }
}

fn fact(label: &str, value: &str) -> Fact {
    let style = if value == "NO RECORD" { Style::NoRecord } else { Style::Plain };
    Fact { label: label.to_owned(), value: vec![Span::new(value, style)], cites: vec![Cite::new("case", 0)] }
}

fn column(title: &str, kind: ColumnKind, weight: u8) -> Column {
    Column { title: title.to_owned(), kind, weight }
}

fn row(cells: &[&str]) -> Row {
    Row { cells: cells.iter().map(|cell| vec![Span::plain(*cell)]).collect(), tone: Tone::Plain }
}

//! The report as PDF, read back by poppler and qpdf.

use std::path::{Path, PathBuf};
use std::process::Command;

use custody::report::Report;
use custody::report::device_picture::{Bar, DevicePicture, Key};
use custody::report::document::*;
use custody::report::holder_picture::{HolderPicture, HolderRow, Tick};
use custody::report::pdf::{Attachment, Relationship, render};
use custody::{Case, EntryType, NewCase, NewEntry};

use crate::support::{Recipe, check, note, writer};

const CREATED: &str = "2026-11-21T01:30:00.5Z";
const HASH: &str = "81a87e42f0640c1b6d1d4f6e8e6fd2a90c7a51d8a0c5f2e4b79b1d3c5e7f9a0b";

fn plain(text: &str) -> Vec<Span> {
    vec![Span::plain(text)]
}

fn column(title: &str, kind: ColumnKind, weight: u8) -> Column {
    Column { title: title.to_owned(), kind, weight }
}

fn fact(label: &str, value: Vec<Span>, seqs: &[u64]) -> Fact {
    let cites = seqs.iter().map(|seq| Cite::new("E001", *seq)).collect();
    Fact { label: label.to_owned(), value, cites }
}

/// A log as a table of so many entries.
fn entries(count: u64) -> Table {
    let row = |seq: u64| Row {
        cells: vec![
            plain(&seq.to_string()),
            plain(&format!("2026-11-{:02} 01:30:{:02}", 1 + seq % 28, seq % 60)),
            plain(["acquire.start", "bundle.sealed", "verify.result", "note"][seq as usize % 4]),
            plain("J. Doe, examiner"),
            match seq % 5 {
                0 => plain(
                    "The source was read to its end; 4 sectors could not be read and were filled with zeros, each named.",
                ),
                1 => vec![Span::plain("Sealed as "), Span::mono(HASH)],
                _ => plain("A note."),
            },
            vec![Span::plain(HASH)],
        ],
        tone: [Tone::Plain, Tone::Plain, Tone::Good, Tone::Warn, Tone::Bad][seq as usize % 5],
    };
    Table {
        caption: "The log of E001".to_owned(),
        columns: vec![
            column("Entry", ColumnKind::Number, 1),
            column("Time (UTC)", ColumnKind::Time, 2),
            column("Type", ColumnKind::Words, 2),
            column("By", ColumnKind::Words, 2),
            column("What", ColumnKind::Words, 6),
            column("Hash", ColumnKind::Hash, 3),
        ],
        rows: (0..count).map(row).collect(),
    }
}

fn part(number: u8, title: &'static str, question: &'static str, blocks: Vec<Block>) -> Part {
    Part { number, anchor: "part", title, question, blocks }
}

fn foot() -> Foot {
    Foot {
        case: "ir-2026-017".to_owned(),
        exhibits: "E001, E002".to_owned(),
        report_id: "0123456789abcdef".to_owned(),
        checkpoint: format!("size 412, root {HASH}"),
    }
}

fn keys() -> Vec<Key> {
    [("data", "#2f5d8a"), ("zero", "#e8edf3"), ("absent", "#ffffff"), ("unreadable", "#a3201b")]
        .map(|(words, fill)| Key { words: words.to_owned(), fill })
        .to_vec()
}

fn device() -> Block {
    Block::Device(DevicePicture {
        title: "Stream disk, 1,677,721,600 bytes".to_owned(),
        words: "4 sectors at 838,860,800 could not be read.".to_owned(),
        bars: vec![
            Bar { x: 0, w: 500, fill: "#2f5d8a" },
            Bar { x: 500, w: 1, fill: "#a3201b" },
            Bar { x: 501, w: 299, fill: "#e8edf3" },
            Bar { x: 800, w: 200, fill: "#ffffff" },
        ],
        key: keys(),
    })
}

fn holders() -> Block {
    let row = |label: &str, cut: u64| HolderRow {
        label: label.to_owned(),
        bars: vec![
            Bar { x: 0, w: cut, fill: "#2f5d8a" },
            Bar { x: cut, w: 40, fill: "#a3201b" },
            Bar { x: cut + 40, w: 960 - cut, fill: "#9bb7d4" },
        ],
    };
    let tick = |x: u64, label: &str| Tick { x, label: label.to_owned() };
    Block::Holders(HolderPicture {
        title: "Who held what, when".to_owned(),
        words: "E001 was vouched for by nobody for 3 h 12 min on 2026-11-14.".to_owned(),
        rows: vec![row("E001", 300), row("E002", 620)],
        ticks: vec![
            tick(0, "2026-11-12"),
            tick(20, "overlaps"),
            tick(500, "2026-11-14"),
            tick(1000, "2026-11-16"),
        ],
        key: [("J. Doe", "#2f5d8a"), ("Evidence room", "#9bb7d4"), ("nobody (gap)", "#a3201b")]
            .map(|(words, fill)| Key { words: words.to_owned(), fill })
            .to_vec(),
    })
}

/// Every kind of block, texts that are long, and texts that would harm.
fn sample(rows: u64) -> Document {
    let sentence = "The stream was read once from its first byte to its last, hashed as it was read, and every chunk of it was \
                    hashed again when it was verified.";
    let long = "x".repeat(400);
    let hostile = "a\u{0}b\u{1b}[31m \u{202e}gpj.exe\u{202c} \u{200f}שלום مرحبا 張三 \u{1F600} <script>alert(1)</script> & \\x41 \
                   e\u{301}\u{301}\u{301} \u{e000} \u{feff} (unbalanced ) %PDF endstream endobj";
    Document {
        title: "Custody report".to_owned(),
        subtitle: "Case ir-2026-017, web01 intrusion".to_owned(),
        foot: foot(),
        parts: vec![
            part(1, "Verdict", "Can I rely on it?", vec![
                Block::Verdict {
                    word: "ANCHORED(2)".to_owned(),
                    tone: Tone::Good,
                    sentences: vec![
                        "Everything fits together, is signed by a key that was named as trusted, and two parties \
                         independent of the presenter saw the log at this length."
                            .to_owned(),
                        "2 anchors independent of the presenter.".to_owned(),
                    ],
                },
                Block::Facts(vec![
                    fact("Case id", plain("ir-2026-017"), &[]),
                    fact("Authority", vec![Span::no_record()], &[]),
                    fact("Root", vec![Span::mono(HASH)], &[3, 412]),
                ]),
                Block::Qr { text: format!("exhibit/9f2c\n412\n{HASH}"), caption: "Origin, size and root".to_owned() },
            ]),
            part(2, "In plain words", "What happened?", vec![
                Block::Text(vec![
                    Span::plain(sentence),
                    Span::plain(" "),
                    Cite::new("E001", 12).span(),
                    Span::plain(" "),
                    Span::plain(sentence),
                    Span::plain(" It is "),
                    Span::new("strong", Style::Strong),
                    Span::plain(", "),
                    Span::new("bad", Style::Bad),
                    Span::plain(" and has "),
                    Span::no_record(),
                    Span::plain("."),
                ]),
                Block::Heading("What was not acquired".to_owned()),
                Block::List(vec![plain(sentence), vec![Span::plain("The path "), Span::mono("/var/log/journal/8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d/user-1000@0006151e2b3c4d5e-a1b2c3d4e5f60718.journal~")], plain("Short.")]),
                device(),
                holders(),
            ]),
            part(3, "Tables", "What is recorded?", vec![Block::Table(entries(rows))]),
            part(4, "How to check this yourself", "Need I believe you?", vec![
                Block::Check {
                    title: "The whole stream".to_owned(),
                    command: "cd E001-web01-disk\nzstd -dc data/disk/*.zst | sha256sum".to_owned(),
                    expect: format!("{HASH}  -\n"),
                },
                Block::Check {
                    title: "Each entry names the one before".to_owned(),
                    command: "python3 - <<'EOF'\nimport hashlib\nprev = '0' * 64\nfor line in open('custody.jsonl', 'rb'):\n    assert line.split(b'\"prev\":\"')[1][:64].decode() == prev, 'the chain is broken at the entry that begins with these bytes: ' + repr(line[:64])\n    prev = hashlib.sha256(line.rstrip(b'\\n')).hexdigest()\nEOF".to_owned(),
                    expect: String::new(),
                },
            ]),
            part(5, "Certificates", "Who stands for it?", vec![
                Block::Blank { label: "Name".to_owned() },
                Block::Blank { label: "Signature and date".to_owned() },
            ]),
            part(6, "Hostile", "Is it dangerous?", vec![
                Block::Text(plain(hostile)),
                Block::Text(plain(&long)),
                Block::Facts(vec![fact(&long, plain(hostile), &[1])]),
                Block::Table(Table {
                    caption: hostile.to_owned(),
                    columns: vec![
                        column(&long, ColumnKind::Words, 0),
                        column("", ColumnKind::Time, 255),
                        column("N", ColumnKind::Number, 1),
                    ],
                    rows: vec![
                        Row { cells: vec![plain(&long), plain(&long)], tone: Tone::Bad },
                        Row { cells: vec![], tone: Tone::Plain },
                        Row { cells: vec![plain(&"taller than a page ".repeat(900)), plain(""), plain("1"), plain("more")], tone: Tone::Warn },
                    ],
                }),
                Block::Verdict { word: long.clone(), tone: Tone::Bad, sentences: vec![long.repeat(40)] },
                Block::Check { title: hostile.to_owned(), command: format!("{long} {hostile}\n").repeat(60), expect: long.clone() },
                Block::Qr { text: long.repeat(20), caption: hostile.to_owned() },
                Block::Heading(hostile.to_owned()),
                Block::List(vec![plain(&"word ".repeat(2000)), Vec::new()]),
                Block::List(Vec::new()),
                Block::Facts(Vec::new()),
                Block::Table(Table { caption: String::new(), columns: Vec::new(), rows: Vec::new() }),
                Block::Device(DevicePicture {
                    title: String::new(),
                    words: String::new(),
                    bars: vec![Bar { x: u64::MAX, w: u64::MAX, fill: "nonsense" }],
                    key: Vec::new(),
                }),
                Block::Blank { label: hostile.to_owned() },
            ]),
        ],
    }
}

fn attachments() -> [Attachment<'static>; 3] {
    [
        Attachment {
            name: "E001-manifest.json",
            mime: "application/json",
            description: "The manifest of E001",
            bytes: b"{\"case\":\"ir-2026-017\"}\n",
            relationship: Relationship::Source,
        },
        Attachment {
            name: "case-checkpoint",
            mime: "text/plain",
            description: "The checkpoint of the case's log",
            bytes: b"exhibit/9f2c\n412\n",
            relationship: Relationship::Source,
        },
        Attachment {
            name: "report.case.jsonld",
            mime: "application/ld+json",
            description: "The report in CASE",
            bytes: &[0x5a; 100_000],
            relationship: Relationship::Alternative,
        },
    ]
}

fn write(name: &str, pdf: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pdf).unwrap();
    path
}

/// What a program prints, or nothing where it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    // poppler 22 takes `/Suspects false`, which ISO 32000-1 (table 321) allows, for a fault.
    let said = String::from_utf8_lossy(&output.stderr)
        .replace("Syntax Error: Suspects object is wrong type (boolean)\n", "");
    assert_eq!(said, "", "{program}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_same_document_gives_the_same_bytes_and_another_gives_others() {
    let first = render(&sample(60), &attachments(), CREATED).unwrap();
    assert_eq!(first, render(&sample(60), &attachments(), CREATED).unwrap());
    assert_ne!(first, render(&sample(60), &attachments(), "2026-11-21T01:30:01Z").unwrap());
    assert_ne!(first, render(&sample(60), &[], CREATED).unwrap());
}

#[test]
fn it_says_that_it_is_pdf_a_3a_and_is_tagged_and_whole() {
    let path = write("sample.pdf", &render(&sample(150), &attachments(), CREATED).unwrap());
    let path = path.to_str().unwrap();
    let bytes = std::fs::read(path).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("<pdfaid:part>3</pdfaid:part>") && has("<pdfaid:conformance>A</pdfaid:conformance>"));
    assert!(has("<pdfuaid:part>1</pdfuaid:part>") && has("/AFRelationship"));
    if let Some(info) = run("pdfinfo", &[path]) {
        for line in ["Tagged:          yes", "CreationDate:", "Page size:       595.276 x 841.89 pts (A4)"] {
            assert!(info.contains(line), "{line} in {info}");
        }
    }
    if let Some(fonts) = run("pdffonts", &[path]) {
        let rows: Vec<&str> = fonts.lines().skip(2).collect();
        assert_eq!(rows.len(), 3, "{fonts}");
        assert!(rows.iter().all(|row| row.contains("yes yes yes")), "{fonts}");
    }
    let _ = run("qpdf", &["--check", path]);
}

#[test]
fn attachments_come_out_as_they_went_in() {
    let path = write("attached.pdf", &render(&sample(3), &attachments(), CREATED).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["-saveall", "-o", folder.path().to_str().unwrap(), path.to_str().unwrap()];
    if run("pdfdetach", &arguments).is_some() {
        for attachment in attachments() {
            assert_eq!(std::fs::read(folder.path().join(attachment.name)).unwrap(), attachment.bytes);
        }
    }
}

#[test]
fn the_text_comes_out_in_order_with_hashes_unbroken_and_nothing_hidden() {
    let path = write("text.pdf", &render(&sample(150), &[], CREATED).unwrap());
    let Some(text) = run("pdftotext", &[path.to_str().unwrap(), "-"]) else { return };
    assert!(text.contains(HASH));
    let places: Vec<usize> =
        ["Custody report", "ANCHORED(2)", "Contents", "In plain words", "How to check this yourself"]
            .map(|words| text.find(words).unwrap_or_else(|| panic!("{words:?} in {text}")))
            .to_vec();
    assert!(places.is_sorted(), "{places:?}");
    assert!(text.contains("The stream was read once from its first byte to its last, hashed as it was read"));
    assert!(text.contains("[U+202E]gpj.exe[U+202C]") && text.contains("[U+5F35][U+4E09]"));
    assert!(text.contains("[U+1F600]") && text.contains("[U+0000]") && text.contains("[U+001B]"));
    assert!(text.contains("<script>alert(1)</script> &"));
    assert!(text.contains("Page 1 of ") && text.contains("NO RECORD"));
}

#[test]
fn a_document_of_one_part_is_one_page_without_contents() {
    let mut receipt = sample(1);
    receipt.title = "Receipt".to_owned();
    receipt.parts.truncate(1);
    let path = write("receipt.pdf", &render(&receipt, &[], CREATED).unwrap());
    let Some(text) = run("pdftotext", &[path.to_str().unwrap(), "-"]) else { return };
    assert!(text.contains("Page 1 of 1") && !text.contains("Contents"), "{text}");
    let empty = Document { parts: Vec::new(), ..receipt };
    assert!(render(&empty, &[], CREATED).is_ok());
}

#[test]
fn a_name_that_is_a_path_or_there_twice_and_a_type_that_is_none_are_refused() {
    let [first, second, _] = attachments();
    for name in ["", "a/b", "..", "..\\x", ".hidden", "a\u{0}b", "C:x"] {
        assert!(render(&sample(1), &[Attachment { name, ..first }], CREATED).is_err(), "{name:?}");
    }
    assert!(render(&sample(1), &[first, Attachment { name: first.name, ..second }], CREATED).is_err());
    assert!(render(&sample(1), &[Attachment { mime: "nonsense", ..first }], CREATED).is_err());
    assert!(render(&sample(1), &[], "yesterday").is_err());
}

/// A case with one sealed exhibit, and its report.
fn case_in(folder: &Path) -> (Case, Report) {
    let new = NewCase { name: "ir-2026-017".into(), examiner: "J. Doe".into(), ..NewCase::default() };
    let case = Case::create(folder, &new, &writer()).unwrap();
    let exhibit = case.add_exhibit("web01-disk", &writer()).unwrap();
    Recipe::default().make(&exhibit.folder);
    let report = Report::of_case(&case, &check(folder)).unwrap();
    (case, report)
}

/// The files that poppler takes out of a PDF.
fn enclosed(pdf: &[u8], name: &str) -> Option<tempfile::TempDir> {
    let path = write(name, pdf);
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["-saveall", "-o", folder.path().to_str().unwrap(), path.to_str().unwrap()];
    run("pdfdetach", &arguments).map(|_| folder)
}

#[test]
fn a_report_encloses_logs_checkpoints_and_manifests_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (case, report) = case_in(folder.path());
    let bundle = folder.path().join("exhibits/E001-web01-disk");
    let (log, of_bundle) = (folder.path().join("custody.jsonl"), bundle.join("custody.jsonl"));
    let was = std::fs::read(&log).unwrap();
    let pdf = report.to_pdf(folder.path()).unwrap();
    // What is added to the logs later does not change the report, nor what it encloses.
    case.append(note("later"), &writer()).unwrap();
    assert!(pdf == report.to_pdf(folder.path()).unwrap());
    let Some(out) = enclosed(&pdf, "case.pdf") else { return };
    let read = |name: &str| std::fs::read(out.path().join(name)).unwrap();
    assert_eq!(read("case-custody.jsonl"), was);
    assert_eq!(read("report.json"), report.to_json().as_bytes());
    assert_eq!(read("report.case.jsonld"), report.to_case_jsonld().unwrap().as_bytes());
    assert_eq!(read("E001-custody.jsonl"), std::fs::read(of_bundle).unwrap());
    for name in ["checkpoint", "manifest.json", "manifest.json.sig", "SHA256SUMS"] {
        assert_eq!(read(&format!("E001-{name}")), std::fs::read(bundle.join(name)).unwrap(), "{name}");
    }
}

#[test]
fn a_report_encloses_anchors_and_what_they_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = case_in(folder.path());
    case.append(NewEntry::new(EntryType::KEY_REVOKED).how("fingerprint", "SHA256:nobody"), &writer())
        .unwrap();
    let kept = std::fs::read_dir(folder.path().join("checkpoints")).unwrap().next().unwrap().unwrap();
    let over = format!("checkpoints/{}", kept.file_name().into_string().unwrap());
    let made = NewEntry::new(EntryType::ANCHOR_MADE).how("kind", "copy").how("checkpoint", over.as_str());
    case.log().append_anchor("00000003.w.note", b"kept by a witness\n", made, &writer()).unwrap();
    let report = Report::of_case(&case, &check(folder.path())).unwrap();
    let Some(out) = enclosed(&report.to_pdf(folder.path()).unwrap(), "anchors.pdf") else { return };
    let read = |name: &str| std::fs::read(out.path().join(name)).unwrap();
    assert_eq!(read("case-anchors-00000003.w.note"), b"kept by a witness\n");
    assert_eq!(read(&format!("case-{}", over.replace('/', "-"))), std::fs::read(kept.path()).unwrap());
}

#[test]
fn what_is_no_longer_what_the_report_was_made_from_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_, report) = case_in(folder.path());
    let bundle = folder.path().join("exhibits/E001-web01-disk");
    let manifest = std::fs::read_to_string(bundle.join("manifest.json")).unwrap();
    std::fs::write(bundle.join("manifest.json"), manifest.replace("J. Doe", "J. Roe")).unwrap();
    std::fs::remove_file(bundle.join("SHA256SUMS")).unwrap();
    let log = std::fs::read_to_string(folder.path().join("custody.jsonl")).unwrap();
    std::fs::write(folder.path().join("custody.jsonl"), log.replace("web01-disk", "web02-disk")).unwrap();
    let Some(out) = enclosed(&report.to_pdf(folder.path()).unwrap(), "changed.pdf") else { return };
    for name in ["case-custody.jsonl", "E001-manifest.json", "E001-SHA256SUMS"] {
        assert!(!out.path().join(name).exists(), "{name}");
    }
    assert!(out.path().join("E001-manifest.json.sig").exists());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("changed.pdf");
    let Some(text) = run("pdftotext", &[path.to_str().unwrap(), "-"]) else { return };
    assert!(text.contains("left out: it is not what the log"), "{text}");
    assert!(text.contains("left out: it is no longer what"), "{text}");
}

//! Every parser against the samples that were made for it: reviewed rows, damage, and records read alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it skipped"
)]

#[path = "timeline/e01_images.rs"]
mod e01_images;
#[path = "support/event_text.rs"]
mod event_text;
#[path = "timeline/imports.rs"]
mod imports;
#[path = "timeline/made_bundle.rs"]
mod made_bundle;
#[path = "timeline/made_e01.rs"]
mod made_e01;
#[path = "timeline/memory_image.rs"]
mod memory_image;
#[path = "support/real_evidence.rs"]
mod real_evidence;
#[path = "support/sample_files.rs"]
mod sample_files;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sample_files::{SampleFile, pieces_of, samples_folder, samples_of};
use timeline::event::{Event, Span};
use timeline::parser::{Collected, Parser};
use timeline::parsers::ALL;

/// Parsers that read no file, so that there is nothing to keep as a sample.
const READ_NO_FILE: [&str; 7] = [
    "file_times",
    "memory_host",
    "memory_processes",
    "memory_modules",
    "memory_sockets",
    "memory_commands",
    "memory_lines",
];
/// Folders of `samples/` that are whole hosts or collections, not files of one parser.
const HOSTS: [&str; 3] = ["web01", "web01_story", "collections"];
/// Whole cases, which later versions must verify.
const CASES: [&str; 6] = ["alerts", "case_v1", "case_v1_kept", "inventory", "rules", "serve"];
/// How many bytes a sample may cost in each test of damage: 1 MiB, which is every length of a small one. For every length
/// of all samples but the 8 MiB journals, run the tests with EXHIBIT_DAMAGE_MIB=600, in release.
fn damage_budget() -> usize {
    #[allow(clippy::disallowed_methods, reason = "a test's own setting")]
    let mib = std::env::var("EXHIBIT_DAMAGE_MIB").ok().and_then(|mib| mib.parse::<usize>().ok());
    mib.unwrap_or(1) << 20
}

fn each_sample(check: impl Fn(&'static dyn Parser, &SampleFile)) {
    for parser in ALL {
        for sample in samples_of(*parser) {
            check(*parser, &sample);
        }
    }
}

#[test]
fn every_sample_gives_the_rows_that_a_person_reviewed() {
    let folder = snapshots_folder();
    let mut changed = Vec::new();
    for parser in ALL {
        for sample in samples_of(*parser) {
            let found = sample.parse(*parser, &sample.bytes);
            let page = event_text::page(&sample, *parser, &found);
            let mut settings = insta::Settings::new();
            settings.set_snapshot_path(&folder);
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            let name = snapshot_name(*parser, &sample);
            // One changed sample must not hide the next.
            let assert = || settings.bind(|| insta::assert_snapshot!(name.as_str(), page));
            if catch_unwind(AssertUnwindSafe(assert)).is_err() {
                changed.push(name);
            }
        }
    }
    assert!(
        changed.is_empty(),
        "other rows than reviewed: {changed:#?}\nlook at them with `cargo insta review`"
    );
}

#[test]
fn every_parser_has_a_sample_and_every_sample_folder_a_parser() {
    for parser in ALL.iter().filter(|parser| !READ_NO_FILE.contains(&parser.name())) {
        assert!(!samples_of(*parser).is_empty(), "there is no sample in samples/{}/", parser.name());
    }
    for entry in std::fs::read_dir(samples_folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = HOSTS.contains(&name.as_str())
            || CASES.contains(&name.as_str())
            || timeline::parsers::by_name(&name).is_some();
        assert!(known || !entry.path().is_dir(), "samples/{name}/ belongs to no parser");
    }
}

#[test]
fn no_snapshot_is_left_over_from_a_sample_that_is_gone() {
    let mut names = BTreeSet::new();
    for parser in ALL {
        names.extend(samples_of(*parser).iter().map(|sample| snapshot_name(*parser, sample)));
    }
    for entry in std::fs::read_dir(snapshots_folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_suffix(".snap") else { continue };
        let ours = ALL.iter().any(|parser| name.starts_with(&format!("{}__", parser.name())));
        assert!(!ours || names.contains(name), "{file} has no sample");
    }
}

#[test]
fn each_parser_claims_its_own_samples_and_no_other_claims_them_before_it() {
    each_sample(|parser, sample| {
        let claimed = sample.claimed_by().map(|first| first.name());
        // Damage may leave too little to know a file by; but then nobody else knows it either.
        let hopeless = claimed.is_none() && sample.path.contains("damaged");
        assert!(
            hopeless || claimed == Some(parser.name()),
            "samples/{}{}: {claimed:?}",
            parser.name(),
            sample.path
        );
    });
}

#[test]
fn a_record_read_alone_gives_the_rows_that_it_gave_in_its_file() {
    each_sample(|parser, sample| {
        let all = sample.parse(parser, &sample.bytes).events;
        for rows in all.chunk_by(|a, b| (a.span, &a.pieces) == (b.span, &b.pieces)) {
            let alone = sample.parse_record(parser, &rows[0]);
            let text = |rows: &[Event]| rows.iter().map(event_text::row).collect::<Vec<_>>();
            let place = format!("samples/{}{} at {}", parser.name(), sample.path, rows[0].span.offset);
            assert_eq!(text(&alone), text(rows), "{place}");
            assert!(alone == rows, "{place}: equal as text only");
        }
    });
}

#[test]
fn rows_are_the_same_in_every_run_and_however_the_bytes_arrive() {
    each_sample(|parser, sample| {
        let first = sample.parse(parser, &sample.bytes);
        for again in [sample.parse(parser, &sample.bytes), sample.parse_in_drops(parser)] {
            assert!(first.events == again.events, "{} {}", parser.name(), sample.path);
            assert!(first.rejects == again.rejects, "{} {}", parser.name(), sample.path);
            assert!(first.filler == again.filler, "{} {}", parser.name(), sample.path);
        }
    });
}

#[test]
fn a_file_cut_at_any_length_gives_rows_and_rejects_but_never_a_panic() {
    each_sample(|parser, sample| {
        let mut spent = 0;
        // Every length of a small file; of a larger one, lengths that a step of odd size spreads over it.
        let step = (sample.bytes.len().pow(2) / 2 / damage_budget()) | 1;
        for length in (0..sample.bytes.len()).step_by(step) {
            spent += length;
            let found = sample.parse(parser, &sample.bytes[..length]);
            check_spans(parser, sample, &sample.bytes[..length], &found);
        }
        assert!(spent <= 2 * damage_budget());
    });
}

#[test]
fn random_changes_of_bytes_give_rows_and_rejects_but_never_a_panic() {
    each_sample(|parser, sample| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let rounds = (damage_budget() / sample.bytes.len().max(1)).clamp(4, 400);
        for _ in 0..rounds {
            let mut bytes = sample.bytes.clone();
            for _ in 0..=random.below(8) {
                let at = random.below(bytes.len());
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = [0, 0xff, b'\n', b'"', b'\\', b' ', b'[', 0x83][random.below(8)],
                    2 => drop(bytes.drain(at..bytes.len().min(at + random.below(40) + 1))),
                    _ => bytes[at] = random.below(256) as u8,
                }
                if bytes.is_empty() {
                    break;
                }
            }
            let found = sample.parse(parser, &bytes);
            check_spans(parser, sample, &bytes, &found);
        }
    });
}

#[test]
fn real_evidence_gives_the_counts_that_are_known_of_it() {
    real_evidence::check();
}

/// Every span lies in the file; and in a text, every byte that is not white space lies in a span.
fn check_spans(parser: &dyn Parser, sample: &SampleFile, bytes: &[u8], found: &Collected) {
    let place = || format!("{} {}", parser.name(), sample.path);
    let mut covered = vec![false; bytes.len()];
    let spans = found.events.iter().flat_map(|event| std::iter::once(event.span).chain(pieces_of(event)));
    let others = found.rejects.iter().map(|(span, _)| *span).chain(found.filler.iter().copied());
    let mut cover = |span: Span| {
        let range = usize::try_from(span.offset).unwrap()..usize::try_from(span.end()).unwrap();
        let part = covered.get_mut(range);
        part.unwrap_or_else(|| panic!("{}: {span:?} beyond {} bytes", place(), bytes.len())).fill(true);
    };
    spans.chain(others).for_each(&mut cover);
    if sample.probe().is_text() {
        let lost = (0..bytes.len()).find(|i| !covered[*i] && !bytes[*i].is_ascii_whitespace());
        if let Some(lost) = lost {
            let text = &bytes[lost..bytes.len().min(lost + 60)];
            panic!(
                "{}: byte {lost} is in no row, reject or filler: {:?}",
                place(),
                text.escape_ascii().to_string()
            );
        }
    }
}

fn snapshots_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots")
}

fn snapshot_name(parser: &dyn Parser, sample: &SampleFile) -> String {
    format!("{}__{}", parser.name(), sample.path.trim_start_matches('/').replace(['/', '\\'], "_"))
}

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

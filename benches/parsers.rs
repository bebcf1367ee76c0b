//! Events a second and core, for each parser over its samples: `cargo bench -p exhibit-timeline --no-default-features`
//!
//! The ratio compares bytes a second with SHA-256 of the same bytes in the same run: what the machine does anyway
//! when it reads evidence.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and stops where its own samples are broken"
)]

use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use timeline::parser::{Collected, Context, Input, Parser, Probe};
use timeline::unpack::Codec;
use timeline::year::YearPlan;

const AT_LEAST: Duration = Duration::from_millis(700);

fn main() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    println!("{:<16} {:>9} {:>12} {:>10} {:>14}", "parser", "events", "events/s", "MB/s", "of SHA-256");
    for parser in timeline::parsers::ALL {
        let files = files_of(&samples.join(parser.name()), *parser);
        if files.is_empty() {
            continue;
        }
        let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let (rounds, seconds, events) =
            repeat(|| files.iter().map(|(path, bytes)| parse(*parser, path, bytes)).sum());
        let (hash_rounds, hash_seconds, _) = repeat(|| {
            files
                .iter()
                .map(|(_, bytes)| usize::from(custody::digest::sha256(bytes).as_bytes()[0] == 0))
                .sum()
        });
        let speed = bytes as f64 * rounds as f64 / seconds / 1e6;
        let hash_speed = bytes as f64 * hash_rounds as f64 / hash_seconds / 1e6;
        println!(
            "{:<16} {:>9} {:>12.0} {:>10.1} {:>13.2}x",
            parser.name(),
            events,
            events as f64 * rounds as f64 / seconds,
            speed,
            speed / hash_speed
        );
    }
}

/// Runs for long enough to tell; gives rounds, seconds, and what one round gave.
fn repeat(mut round: impl FnMut() -> usize) -> (u32, f64, usize) {
    let given = round();
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < AT_LEAST {
        black_box(round());
        rounds += 1;
    }
    (rounds, start.elapsed().as_secs_f64(), given)
}

fn parse(parser: &dyn Parser, path: &str, bytes: &Arc<Vec<u8>>) -> usize {
    let year = YearPlan::Forward { first_year: 2026, basis: timeline::event::YearBasis::Flag };
    let context = Context { year, ..Context::default() };
    let mut out = Collected::default();
    let mut input = Input::of_source(path, bytes.clone());
    parser.parse(&mut input, &context, &mut out).expect("samples can be read");
    out.events.len()
}

fn files_of(folder: &Path, parser: &dyn Parser) -> Vec<(String, Arc<Vec<u8>>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            files.extend(files_of(&entry.path(), parser));
            continue;
        }
        let stored = std::fs::read(entry.path()).expect("samples can be read");
        let bytes = match Codec::detect(&stored) {
            None => stored,
            Some(codec) => {
                let mut out = Vec::new();
                codec.open(Arc::new(stored)).0.read_to_end(&mut out).expect("samples unpack");
                out
            }
        };
        let path = entry.path().display().to_string();
        let head = &bytes[..bytes.len().min(4096)];
        if parser.claims(&Probe { path: &path, head, size: Some(bytes.len() as u64) }) {
            files.push((path, Arc::new(bytes)));
        }
    }
    files.sort();
    files
}

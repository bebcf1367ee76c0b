//! What a long custody log costs: `long_log DIR [ENTRIES] [APPENDS]`.
//!
//! Writes a log of that many entries of some 400 bytes into a new folder (a million by default), appends to it, and
//! verifies it. Prints the time of an append in the middle and at the 99th of a hundred, and the CPU seconds that the check
//! of the whole log takes.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]
#![allow(clippy::disallowed_methods, reason = "it measures time and nothing else")]

use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use custody::merkle::Frontier;
use custody::verify::{self, Options};
use custody::{
    Checkpoint, CustodyLog, Entry, EntryType, FixedClock, Identity, NewEntry, SignedCheckpoint, SigningKey,
    Tool, Writer, case_layout, sha256, strict_json,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: long_log DIR [ENTRIES] [APPENDS]")?;
    let entries: u64 = arguments.next().map_or(Ok(1_000_000), |number| number.parse())?;
    let appends: usize = arguments.next().map_or(Ok(1000), |number| number.parse())?;
    let folder = Path::new(&folder);
    std::fs::create_dir(folder)?;

    let key = SigningKey::generate()?;
    let clock = FixedClock::at(1_795_224_600_000_000_000);
    let identity = Identity {
        tool: Tool { name: "exhibit".to_owned(), version: "0".to_owned(), build_sha256: Some(sha256(b"")) },
        ..Identity::default()
    };
    let writer = Writer::new(&key, &clock, identity);
    let log = CustodyLog::create(folder, NewEntry::new(EntryType::LOG_GENESIS), &writer)?;
    lengthen(&log, entries, &key)?;
    let bytes = std::fs::metadata(case_layout::log(folder))?.len();
    println!("{entries} entries, {} bytes each", bytes / entries.max(1));

    let note = NewEntry::new(EntryType::NOTE).how("text", "seal 0042 intact");
    let mut times = Vec::new();
    for _ in 0..appends {
        let begun = Instant::now();
        log.append(&note, &writer)?;
        times.push(begun.elapsed());
    }
    times.sort();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| millis(*time));
    println!("append: {:.2} ms in the middle, {:.2} ms at the 99th of a hundred", at(50), at(99));

    let before = cpu()?;
    let done = verify::verify_log(folder, &Options::default())?;
    println!("verified: {}, {} entries, {:.2} CPU s", done.verdict, done.log.size, cpu()? - before);
    Ok(())
}

/// Writes entries after the first one at the speed of the disk, and signs them once.
fn lengthen(log: &CustodyLog, entries: u64, key: &SigningKey) -> Result<(), Box<dyn Error>> {
    let path = case_layout::log(log.folder());
    let first = std::fs::read(&path)?;
    let first = first.strip_suffix(b"\n").ok_or("the log has no first line")?;
    let mut frontier = Frontier::new();
    frontier.push(first);
    let mut last = sha256(first);
    let mut entry = Entry::parse(first)?;
    entry.kind = EntryType::NOTE;
    entry.about = NewEntry::new(EntryType::NOTE).how("text", "seal 0042 intact").about;
    let mut file = BufWriter::new(std::fs::OpenOptions::new().append(true).open(&path)?);
    for seq in 1..entries {
        (entry.seq, entry.prev) = (seq, last);
        let line = strict_json::to_line(&serde_json::to_value(&entry)?)?;
        frontier.push(line.as_bytes());
        last = sha256(line.as_bytes());
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    let checkpoint =
        Checkpoint { origin: log.origin().to_owned(), size: frontier.size(), root: frontier.root() };
    std::fs::write(
        case_layout::checkpoint(log.folder()),
        SignedCheckpoint::sign(checkpoint, key)?.note.to_text(),
    )?;
    std::fs::write(log.folder().join(case_layout::FRONTIER), frontier.to_text())?;
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// CPU seconds of this process (proc(5), `stat`, fields 14 and 15, in hundredths).
fn cpu() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let ticks: Vec<f64> = after.split(' ').skip(12).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

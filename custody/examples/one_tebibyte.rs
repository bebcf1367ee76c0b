//! Drives journal, tables and reader with the 2,097,152 chunks of a disk of 1 TiB: `one_tebibyte FOLDER [CHUNKS]`.
//!
//! Every other chunk is zeros, so that the table of extents is as long as it can be without bad sectors. The hash of the
//! whole stream is left out: it is the only part whose cost is in bytes and not in records. Prints peak memory.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use custody::bundle::{
    Bundle, BundleStore, Cut, DEFAULT_CHUNK, Encoder, Examiner, FORMAT, LocalFolder, LogOrigin, MARK_EVERY,
    Manifest, Source, StreamWriter, seal,
};
use custody::{
    Actor, CustodyLog, EntryType, Host, Identity, NewEntry, SigningKey, SystemClock, Tool, Writer, sha256,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: one_tebibyte FOLDER [CHUNKS]")?);
    let chunks: u64 = match arguments.next() {
        Some(chunks) => chunks.to_string_lossy().parse()?,
        None => 2 << 20,
    };
    std::fs::create_dir(&folder)?;
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(&folder));
    let key = SigningKey::generate()?;
    let identity =
        Identity { actor: Actor { name: "nobody".to_owned(), ..Actor::default() }, ..Identity::default() };
    let by = Writer::new(&key, &SystemClock, identity);
    let log = CustodyLog::create(&folder, NewEntry::new(EntryType::LOG_GENESIS), &by)?;

    let mut encoder = Encoder::new(1)?;
    let data: Vec<u8> = (0..DEFAULT_CHUNK).map(|at| (at / 4096) as u8 | 1).collect();
    let kinds = [encoder.encode(&data)?, encoder.encode(&vec![0; DEFAULT_CHUNK as usize])?];
    let mut writer = StreamWriter::begin_with_journal(
        Arc::clone(&store),
        "disk",
        "disk",
        Cut::default(),
        None,
        MARK_EVERY,
    )?;
    for chunk in kinds.iter().cycle().zip(0..chunks).map(|(chunk, _)| chunk) {
        writer.push(chunk, &[])?;
    }
    let stream = writer.finish(sha256(b"left out"), sha256(b"left out"), None)?;
    println!("written: {} bytes in {} segments, peak {} MiB", stream.size, stream.segments.len(), peak_mib());

    let manifest = Manifest {
        base: None,
        case: None,
        created: "2026-11-21T00:00:00.000000000Z".to_owned(),
        exhibit: "E001".to_owned(),
        examiner: Examiner { key: key.verifying_key().fingerprint(), name: "nobody".to_owned() },
        format: FORMAT.to_owned(),
        host: Host::default(),
        id: "019aa0d5-0000-7000-8000-000000000000".to_owned(),
        log: LogOrigin { origin: log.origin().to_owned(), vkey: log.genesis_key().to_vkey(log.origin()) },
        name: "one-tebibyte".to_owned(),
        options: serde_json::Map::new(),
        source: Source { kind: "disk".to_owned(), ..Source::default() },
        streams: vec![stream],
        tool: Tool { name: "one_tebibyte".to_owned(), version: "0".to_owned(), build_sha256: None },
    };
    log.append(&seal(&store, &manifest, &key)?.entry(), &by)?;
    let reader = Bundle::open(&folder)?.stream("disk")?;
    let mut buf = vec![0; 8192];
    let mut at = 12_345u64;
    for _ in 0..1000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1) % reader.len().saturating_sub(8192);
        reader.read_exact_at(at, &mut buf)?;
        let chunk = at / u64::from(DEFAULT_CHUNK);
        let within = (at % u64::from(DEFAULT_CHUNK)) as usize;
        let expected = if chunk % 2 == 1 { Some(&0) } else { data.get(within) };
        if buf.first() != expected {
            return Err(format!("byte {at} came back wrong").into());
        }
    }
    let proof = reader.chunk_proof(chunks / 2).ok_or("no proof of the chunk in the middle")?;
    println!("read at 1,000 places, {} hashes in a proof, peak {} MiB", proof.path.len(), peak_mib());
    Ok(())
}

/// The largest resident set so far.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

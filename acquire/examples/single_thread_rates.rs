//! What one thread of this machine needs for a file in memory: `single_thread_rates FILE [LEVEL]`.
//!
//! Prints three numbers, in seconds: SHA-256 of the whole, SHA-256 of each chunk, zstd of each chunk. No acquisition
//! that hashes once whole, once a chunk, and compresses can be faster than their sum on as many cores as there are, nor
//! than the first alone. `benches/acquire.sh` compares with that bound.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]
#![allow(clippy::disallowed_methods, reason = "it measures time and nothing else")]

use std::error::Error;
use std::time::Instant;

use custody::bundle::{DEFAULT_CHUNK, Encoder, is_zero};
use custody::{Hasher, sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: single_thread_rates FILE [LEVEL]")?;
    let level = arguments.next().map_or(Ok(1), |level| level.parse())?;
    let data = std::fs::read(file)?;
    let chunks = || data.chunks(DEFAULT_CHUNK as usize);

    let begun = Instant::now();
    let mut hasher = Hasher::new();
    chunks().for_each(|chunk| hasher.update(chunk));
    let whole = begun.elapsed().as_secs_f64();

    // Chunks of zeros have a hash that is known.
    let begun = Instant::now();
    let hashes: usize = chunks().filter(|chunk| !is_zero(chunk)).map(|chunk| sha256(chunk).0.len()).sum();
    let each = begun.elapsed().as_secs_f64();

    let mut encoder = Encoder::new(level)?;
    let begun = Instant::now();
    let mut stored = 0;
    for chunk in chunks() {
        stored += encoder.encode(chunk)?.frame.as_ref().len();
    }
    let encoded = begun.elapsed().as_secs_f64();
    eprintln_facts(data.len(), hashes, stored, hasher);
    println!("{whole:.4} {each:.4} {:.4}", (encoded - each).max(0.0));
    Ok(())
}

/// So that no hash is left out by the compiler as unused.
#[allow(clippy::print_stderr, reason = "an example says what it measured")]
fn eprintln_facts(bytes: usize, hashes: usize, stored: usize, whole: Hasher) {
    eprintln!("{bytes} bytes, {} chunk hashes, stored in {stored}, SHA-256 {}", hashes / 32, whole.finish());
}

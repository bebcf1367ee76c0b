//! The fault server of the tests by itself, without faults: `ebs_server PORT CONTENT RATE LATENCY-MS [PAGE]`.
//!
//! CONTENT is a file, whose snapshot is `snap-0123456789abcdef0`, or a rule and a number of GiB, as `zeros:4`, `text:4`,
//! `noise:4`, `mixed:4`. RATE is requests for blocks a second, 0 for no limit. It prints its address, and what it was
//! asked once its standard input ends. What `benches/ebs.sh` measures against.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a part of the tests, run by a person"
)]

use std::error::Error;
use std::io::Read as _;
use std::time::Duration;

#[path = "../../tests/support/fault_server/mod.rs"]
mod fault_server;

use fault_server::{BLOCK, FaultServer, Operation, Piece, Plan, Settings, Snapshot};

const ID: &str = "snap-0123456789abcdef0";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, content, rate, latency, more @ ..] = &arguments[..] else {
        return Err("usage: ebs_server PORT CONTENT RATE LATENCY-MS [PAGE]".into());
    };
    let mut settings = Settings {
        rate: rate.parse()?,
        latency: Duration::from_millis(latency.parse()?),
        ..Settings::default()
    };
    if let [page] = more {
        settings.page = page.parse()?;
    }
    let snapshot = snapshot(content)?;
    let server = FaultServer::start_at(port.parse()?, vec![snapshot], Plan { settings, rules: vec![] });
    println!("{}", server.endpoint());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let counts = server.counts();
    println!(
        "{} lists, {} requests for blocks, {} over the rate, {} blocks sent, {} at once",
        counts.of(Operation::ListBlocks),
        counts.of(Operation::GetBlock),
        counts.over_rate,
        counts.blocks,
        counts.most_at_once
    );
    Ok(())
}

fn snapshot(content: &str) -> Result<Snapshot, Box<dyn Error>> {
    let made = |gib: &str, piece: fn(u32) -> Piece| Ok(Snapshot::made(ID, gib.parse()?, piece));
    match content.split_once(':') {
        Some(("zeros", gib)) => made(gib, |_| Piece::Zero),
        Some(("text", gib)) => made(gib, Piece::Text),
        Some(("noise", gib)) => made(gib, Piece::Noise),
        // As a disk in use: a third never written, some zeros, text and what is compressed already.
        Some(("mixed", gib)) => made(gib, |index| match index / 16 % 12 {
            0..4 => Piece::Absent,
            4..6 => Piece::Zero,
            6..10 => Piece::Text(index),
            _ => Piece::Noise(index),
        }),
        _ => {
            let image = std::fs::read(content)?;
            let blocks = image.len().div_ceil(BLOCK);
            let snapshot = Snapshot::of_image(ID, image, move |index| (index as usize) < blocks);
            snapshot.warm();
            Ok(snapshot)
        }
    }
}

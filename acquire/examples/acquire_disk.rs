//! Acquires a disk, an image or standard input into a folder: `acquire_disk SOURCE FOLDER`.
//!
//! The key is made for this run and thrown away. What `benches/acquire.sh` measures.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use std::error::Error;
use std::path::{Path, PathBuf};

use acquire::sources::disk;
use acquire::sources::disk::DiskCapture;
use acquire::{Acquisition, Destination};
use custody::{Actor, Identity, SigningKey, SystemClock, Tool, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: acquire_disk SOURCE FOLDER".into());
    };
    std::fs::create_dir(&folder)?;
    let destination = Destination {
        folder: PathBuf::from(folder),
        exhibit: "E001".to_owned(),
        name: "example".to_owned(),
        case: None,
    };
    let key = SigningKey::generate()?;
    let identity = Identity {
        actor: Actor { name: "nobody".to_owned(), ..Actor::default() },
        tool: Tool {
            name: "acquire_disk".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build_sha256: None,
        },
        ..Identity::default()
    };
    let source = disk::open(Path::new(&source))?;
    let report = Acquisition::new(DiskCapture::new(source), destination).run(&Writer::new(
        &key,
        &SystemClock,
        identity,
    ))?;
    for stream in &report.streams {
        println!(
            "{}  {} bytes, {} issues, {:.2} s",
            stream.sha256, stream.size, report.issue_count, report.seconds
        );
    }
    Ok(())
}

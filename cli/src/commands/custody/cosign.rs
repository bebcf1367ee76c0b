//! `exhibit custody cosign`: a second organisation vouches for a checkpoint, without a network.

use std::fs::File;
use std::path::{Path, PathBuf};

use custody::Clock as _;
use custody::anchors::{self, CosignRequest, MOST_REQUEST};
use custody::verify::{Memory, Options};
use serde_json::json;

use crate::commands::verify::trusted;
use crate::failure::{Failure, Outcome};
use crate::session::{self, Session};

/// Cosign somebody else's checkpoint as a witness (C2SP tlog-cosignature)
///
/// The log's owner gives you the checkpoint (`exhibit custody checkpoint CASE --since SIZE -o FILE`); you give back
/// what this writes, and the owner takes it in with `custody anchor CASE --import FILE`. A state file remembers what
/// you cosigned of each log: one that goes back, or is another, is refused. Sign with a key of your own.
///
/// Example: exhibit custody cosign request.note --name lab.example/w1 --trust log.vkey -o cosigned.note
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A checkpoint, or a request with the proof that it extends what was cosigned before
    #[arg(value_name = "CHECKPOINT-FILE")]
    checkpoint: PathBuf,
    /// The name that you cosign under, such as lab.example/w1
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The log's key: a C2SP vkey (keys/log.vkey), or a PEM public key; may be given again
    #[arg(long, value_name = "KEY", required = true)]
    trust: Vec<String>,
    /// What was cosigned before; in the user's data folder if not given
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Write the cosigned checkpoint to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let path = &args.checkpoint;
    let read = |error| Failure::new(format!("failed to read {path:?}: {error}"));
    if std::fs::metadata(path).map_err(read)?.len() > MOST_REQUEST as u64 {
        return Err(Failure::usage(format!("{path:?} is too large to be a checkpoint")));
    }
    let request = CosignRequest::parse(&std::fs::read(path).map_err(read)?)?;
    let mut options = Options::default();
    for key in &args.trust {
        trusted(key, &mut options)?;
    }
    let key = session.key()?;
    let state = match &args.state {
        Some(state) => state.clone(),
        None => session::data_file("cosigned.json")?,
    };
    // Two runs at once must not cosign two histories.
    let _lock = lock(&state)?;
    let mut memory = Memory::load(&state)?;
    let seconds = u64::try_from(session.clock.now().wall_ns / 1_000_000_000).unwrap_or_default();
    let made = anchors::cosign(&request, &options.trust, &args.name, &*key, seconds, &mut memory)?;
    // Before it leaves this machine: what is not remembered could be cosigned otherwise next time.
    memory.save(&state)?;
    let mut note = request.checkpoint.note.clone();
    note.add_line(made.line.clone())?;
    let text = note.to_text();
    match &args.output {
        Some(output) => super::checkpoint::write_new(output, text.as_bytes())?,
        None if !session.ui.is_json() => session.ui.data(text.trim_end_matches('\n'))?,
        None => {}
    }
    let vkey = key.verifying_key().to_cosigner_vkey(&args.name);
    let checkpoint = &request.checkpoint.checkpoint;
    if session.ui.is_json() {
        session.ui.document(&json!({
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
            "time": made.time(), "vkey": vkey, "note": text,
        }))?;
    }
    session.ui.say(&format!(
        "cosigned {} entries of {}; verifiers trust you by {vkey}",
        checkpoint.size, checkpoint.origin
    ));
    Ok(Outcome::Done)
}

/// An exclusive lock beside the state file, held until it is dropped.
fn lock(state: &Path) -> Result<File, Failure> {
    let mut name = state.as_os_str().to_owned();
    name.push(".lock");
    if let Some(folder) = state.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::create(&name)?;
    file.lock()?;
    Ok(file)
}

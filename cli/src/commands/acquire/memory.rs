//! `exhibit acquire memory`

use std::path::PathBuf;

use acquire::memory::{Forecast, Host, MemoryCapture, MemorySource, Way};
use acquire::{Acquisition, Report};
use serde_json::{Value, json};

use super::{Into, acquire_into, default_name};
use crate::failure::Failure;
use crate::session::Session;
use crate::ui::{self, Ui};

/// The memory of this machine as a LiME image, with the kernel's symbols
///
/// A page that cannot be read is zeros and listed; it never stops the run. Run as root, on the host and not in a
/// container, and keep the case on a disk: in memory it would overwrite what is to be read.
///
/// Example: exhibit acquire memory --case ir-2026-017 --name web01-memory
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// auto, kcore, crash, mem, or an image file (LiME as it is, else raw)
    #[arg(long, default_value = "auto", value_name = "SOURCE")]
    source: PathBuf,
    /// A copy of the machine's /proc/iomem, which says where a raw image file holds memory
    #[arg(long, value_name = "FILE")]
    iomem: Option<PathBuf>,
    /// Only say which ways to read this machine's memory work, and why others do not
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    into: Into,
}

/// Acquires, or only says what would work: then there is no report.
pub(super) fn run(args: &Args, session: &Session) -> Result<Option<Report>, Failure> {
    let source = source(args)?;
    if args.dry_run {
        forecast(&source, session.ui)?;
        return Ok(None);
    }
    let capture = MemoryCapture::plan(&Host::this(), &source)?;
    let name = args.into.name.clone().unwrap_or_else(|| match &source {
        MemorySource::File { path, .. } => default_name(path, "memory"),
        _ => "memory".to_owned(),
    });
    let report = acquire_into(&args.into, &name, session, |to| Acquisition::new(capture, to))?;
    Ok(Some(report))
}

fn source(args: &Args) -> Result<MemorySource, Failure> {
    let way = Way::ALL.into_iter().find(|way| args.source.as_os_str() == way.word());
    let source = match way {
        Some(way) => MemorySource::Only(way),
        None if args.source.as_os_str() == "auto" => MemorySource::Auto,
        None => {
            return Ok(MemorySource::File { path: args.source.clone(), iomem: args.iomem.clone() });
        }
    };
    if args.iomem.is_some() {
        return Err(Failure::usage("--iomem goes with an image file: a running machine has its own table"));
    }
    Ok(source)
}

/// What `--dry-run` says; a failure if nothing would work.
fn forecast(source: &MemorySource, ui: Ui) -> Result<(), Failure> {
    let capture = match source {
        // An image is opened and looked at; there is no table of ways for it.
        MemorySource::File { .. } => {
            let capture = MemoryCapture::plan(&Host::this(), source)?;
            ui.say(&format!("would acquire {}", ui::bytes(acquire::Capture::size(&capture).unwrap_or(0))));
            return Ok(());
        }
        _ => MemoryCapture::plan(&Host::this(), source),
    };
    let forecast = Forecast::of(&Host::this());
    if ui.is_json() {
        let ways: Vec<Value> = forecast
            .outlooks
            .iter()
            .map(|outlook| json!({"source": outlook.way.path(), "works": outlook.works, "why": outlook.why}))
            .collect();
        let best = forecast.best().map(Way::path);
        ui.document(&json!({"memory": forecast.memory, "best": best, "ways": ways}))?;
    } else if capture.is_ok() {
        for line in forecast.to_string().lines() {
            ui.data(line)?;
        }
    }
    capture?;
    Ok(())
}

/// What became of the memory's pages, in the closing summary.
pub(super) fn say(report: &Report, ui: Ui) {
    let number =
        |of: &str, name: &str| report.facts.get(of).and_then(|facts| facts.get(name)).and_then(Value::as_u64);
    if let Some(read) = number("pages", "read") {
        let kinds = [
            ("failed", "unreadable"),
            ("poisoned", "poisoned"),
            ("offline", "offline"),
            ("no_page", "not there"),
            ("absent", "not in the source"),
        ];
        let others: Vec<String> = kinds
            .into_iter()
            .filter_map(|(name, word)| Some((number("pages", name).filter(|&count| count > 0)?, word)))
            .map(|(count, word)| format!(", {} {word}", ui::grouped(count)))
            .collect();
        ui.say(&format!("pages: {} read{}", ui::grouped(read), others.concat()));
    }
    if let (Some(sampled), Some(changed), Some(seconds)) =
        (number("smear", "sampled"), number("smear", "changed"), number("smear", "seconds"))
    {
        let share = if sampled > 0 { changed as f64 * 100.0 / sampled as f64 } else { 0.0 };
        ui.say(&format!(
            "smear: {} of {} pages that were read again had changed within {} s ({share:.1} %)",
            ui::grouped(changed),
            ui::grouped(sampled),
            seconds.max(1)
        ));
    }
    for missing in report.facts.get("symbols_missing").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| missing.get(name).and_then(Value::as_str).unwrap_or_default();
        ui.detail(&format!("symbols without {}: {}", text("path"), text("why")));
    }
}

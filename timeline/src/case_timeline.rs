//! Builds or updates the timeline of one exhibit in a case's `timeline/` folder.

use std::collections::BTreeMap;
use std::path::Path;

use custody::bundle::Bundle;

use crate::build::{self, BuildOptions, FileReport, RowOutput};
use crate::error::Error;
use crate::event::Event;
use crate::evidence::Evidence;
use crate::parser::Parser;
use crate::progress::Progress;
use crate::store::ledger::{Ledger, LedgerRow};
use crate::store::{ExhibitTimeline, Manifest, RowMaker, RowSink, TimelineWriter, Tool};
use crate::zone::Zone;

/// What may be chosen, and who builds.
#[derive(Debug, Clone)]
pub struct UpdateOptions {
    /// Parsers, year, threads.
    pub build: BuildOptions,
    /// The zone of the host's local times, if the person says it.
    pub timezone: Option<Zone>,
    /// The program that builds; another build rebuilds the exhibit.
    pub tool: Tool,
    /// Whether what is there already may stand: its hashes were found to be those of the custody log.
    pub keep_existing: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Update {
    /// `false` if the exhibit's timeline was there already, by the same build from the same bundle and options.
    pub was_built: bool,
    /// The exhibit's part of the manifest.
    pub exhibit: ExhibitTimeline,
    /// Its ledger.
    pub ledger: Ledger,
    /// SHA-256 of the timeline's manifest, in hex.
    pub manifest_sha256: String,
    /// Its size in bytes.
    pub manifest_size: u64,
}

/// Reads a sealed bundle into the timeline in folder `timeline`, unless it is there already.
///
/// Nothing changes for a reader until the manifest is replaced at the very end. The caller holds the case lock.
///
/// # Errors
///
/// [`Error`] when the bundle cannot be read or the timeline cannot be written. Damaged evidence is in the ledger.
pub fn update(
    timeline: &Path,
    exhibit: &str,
    bundle: &Bundle,
    options: &UpdateOptions,
    progress: &dyn Progress,
) -> Result<Update, Error> {
    let parsers: BTreeMap<String, u32> =
        options.build.parsers()?.iter().map(|parser| (parser.name().to_owned(), parser.version())).collect();
    let chosen = chosen_options(options);
    let mut manifest = Manifest::read(timeline)?.unwrap_or_default();
    let sha256 = bundle.manifest_sha256().to_string();
    if let Some(there) = manifest.exhibits.get(exhibit)
        && options.keep_existing
        && there.manifest_sha256 == sha256
        && there.options == chosen
        && there.parsers == parsers
        && there.tool == options.tool
        && manifest.check_sizes(timeline).is_ok()
    {
        let ledger = Ledger::read(timeline, &there.ledger)?;
        let exhibit = there.clone();
        let manifest_sha256 = manifest.write(timeline)?;
        let manifest_size = manifest_size(timeline)?;
        return Ok(Update { was_built: false, exhibit, ledger, manifest_sha256, manifest_size });
    }

    let evidence = Evidence::open(bundle, options.timezone.as_ref())?;
    let threads = options.build.threads.max(1);
    let writer = TimelineWriter::new(timeline, exhibit, threads)?;
    let id = bundle.manifest().id.as_str();
    let host = evidence.context.host.as_deref();
    let mut outputs: Vec<StoreOutput<'_>> =
        (0..threads).map(|_| StoreOutput { id, exhibit, host, maker: None, sink: writer.sink() }).collect();
    let report = {
        let mut borrowed: Vec<Box<dyn RowOutput + '_>> =
            outputs.iter_mut().map(|output| Box::new(output) as Box<dyn RowOutput + '_>).collect();
        build::build(&evidence, &options.build, &mut borrowed, progress)?
    };
    for output in outputs {
        output.sink.finish()?;
    }
    progress.started("writing the timeline", None);
    let parts = writer.finish()?;
    let mut ledger =
        Ledger { files: report.files.into_iter().map(ledger_row).collect(), ..Ledger::default() };
    for (kind, (files, bytes)) in report.unclaimed {
        let count = ledger.summary.unclaimed.entry(kind.to_owned()).or_default();
        (count.files, count.bytes) = (files, bytes);
    }
    for issue in report.issues {
        ledger.summary.issue(issue.place, issue.reason);
    }
    if let Some(there) = manifest.exhibits.get(exhibit)
        && there.manifest_sha256 == sha256
        && parts.is_empty()
        && !there.parts.is_empty()
        && let Some(issue) = ledger.summary.issues.first()
    {
        return Err(Error::Usage {
            what: format!(
                "the evidence of {exhibit} cannot be read any more, and its timeline stays as it is: {}: {}",
                issue.place, issue.reason
            ),
        });
    }
    let listed = ledger.clone().write(timeline, exhibit)?;
    let built = ExhibitTimeline {
        bundle: id.to_owned(),
        manifest_sha256: sha256,
        options: chosen,
        parsers,
        tool: options.tool.clone(),
        context: (&evidence.context).into(),
        parts,
        ledger: listed,
    };
    manifest.exhibits.insert(exhibit.to_owned(), built.clone());
    let manifest_sha256 = manifest.write(timeline)?;
    manifest.remove_unlisted(timeline)?;
    progress.finished();
    let manifest_size = manifest_size(timeline)?;
    Ok(Update { was_built: true, exhibit: built, ledger, manifest_sha256, manifest_size })
}

fn manifest_size(timeline: &Path) -> Result<u64, Error> {
    let path = timeline.join("manifest.json");
    match std::fs::metadata(&path) {
        Ok(file) => Ok(file.len()),
        Err(source) => Err(Error::File { action: "read", path, source }),
    }
}

/// The options that change rows, as the manifest keeps them.
fn chosen_options(options: &UpdateOptions) -> BTreeMap<String, String> {
    let mut chosen = BTreeMap::new();
    if let Some(year) = options.build.year {
        chosen.insert("year".to_owned(), year.to_string());
    }
    if let Some(zone) = &options.timezone {
        chosen.insert("timezone".to_owned(), zone.name());
    }
    if !options.build.parsers.is_empty() {
        let mut names = options.build.parsers.clone();
        names.sort();
        names.dedup();
        chosen.insert("parsers".to_owned(), names.join(" "));
    }
    chosen
}

/// One thread's way into the store.
struct StoreOutput<'a> {
    id: &'a str,
    exhibit: &'a str,
    host: Option<&'a str>,
    maker: Option<RowMaker>,
    sink: RowSink,
}

impl RowOutput for &mut StoreOutput<'_> {
    fn row(&mut self, locator: &str, parser: &'static dyn Parser, event: Event) -> Result<(), Error> {
        let (id, exhibit, host) = (self.id, self.exhibit, self.host);
        let maker = self
            .maker
            .get_or_insert_with(|| RowMaker::new(id, exhibit, locator, &build::parser_label(parser), host));
        let row = maker.row(event);
        self.sink.push(&row)
    }

    fn end_of_file(&mut self) -> Result<(), Error> {
        self.maker = None;
        Ok(())
    }
}

fn ledger_row(file: FileReport) -> LedgerRow {
    let account = file.account;
    let reason = match (&account.stopped, account.events) {
        (Some(why), _) => Some(why.clone()),
        (None, 0) if account.bytes == 0 => Some("the file is empty".to_owned()),
        (None, 0) if account.failed > 0 => Some("no record could be read".to_owned()),
        (None, 0) => Some("the file holds no record".to_owned()),
        _ => None,
    };
    let mut row = LedgerRow {
        locator: file.locator,
        parser: file.parser,
        bytes: account.bytes,
        bytes_used: account.bytes_used,
        records: account.records,
        events: account.events,
        undated: account.undated,
        failed: account.failed,
        first: account.first.map(|time| time.to_rfc3339()),
        last: account.last.map(|time| time.to_rfc3339()),
        reason,
        ..LedgerRow::default()
    };
    for (span, reason) in account.rejects {
        row.rejects.push(crate::store::ledger::Reject {
            offset: span.offset,
            length: span.length,
            reason: reason.into_owned(),
        });
    }
    row
}

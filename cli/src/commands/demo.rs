//! `exhibit demo`: the whole job on samples that are built into the program.

use std::path::{Path, PathBuf};

use custody::verify::{self, Options};
use custody::{Case, NewCase, Writer};
use timeline::query::Timeline;

use super::{acquire, query, report, timeline as build};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{identity, ui};

const DISK: &[u8] = include_bytes!("../../../samples/web01/web01-disk.raw.zst");
const LOGS: &[u8] = include_bytes!("../../../samples/web01/web01-logs.tar.zst");

/// The attack as ten questions to the timeline. Each gives one row: `ts`, `what` was found, and `n` where it counts.
const STORY: [(&str, &str); 10] = [
    (
        "password guessing",
        "SELECT MIN(ts) AS ts, COUNT(*) AS n, src_ip AS what FROM events WHERE exhibit = 'E001' \
         AND locator LIKE '%/var/log/auth.log%' AND action = 'ssh-login' AND outcome = 'failure' \
         GROUP BY src_ip ORDER BY n DESC LIMIT 1",
    ),
    (
        "way in",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND action = 'ssh-login' \
         AND outcome = 'success' AND src_ip IN (SELECT src_ip FROM events WHERE action = 'ssh-login' \
         AND outcome = 'failure' GROUP BY src_ip HAVING COUNT(*) > 50) ORDER BY ts LIMIT 1",
    ),
    (
        "root shell",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND action = 'sudo' \
         AND command = '/bin/bash' ORDER BY ts LIMIT 1",
    ),
    (
        "persistence",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND action = 'executed' \
         AND command LIKE '%/etc/cron.d/%' ORDER BY ts LIMIT 1",
    ),
    (
        "second root",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND source = 'linux:syslog' \
         AND action = 'user-added' AND message LIKE '%UID=0,%' ORDER BY ts LIMIT 1",
    ),
    (
        "web shell",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND source = 'fs:stat' \
         AND ts_desc = 'Creation Time' AND path LIKE '/var/www/html/uploads/%.php' ORDER BY ts LIMIT 1",
    ),
    (
        "web shell used",
        "SELECT MIN(ts) AS ts, COUNT(*) AS n, src_ip AS what FROM events WHERE exhibit = 'E001' \
         AND source = 'web:access' AND message LIKE '%POST /uploads/%' GROUP BY src_ip ORDER BY n DESC LIMIT 1",
    ),
    (
        "packing",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND action = 'executed' \
         AND command LIKE 'tar -c%' ORDER BY ts LIMIT 1",
    ),
    (
        "exfiltration",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND action = 'executed' \
         AND command LIKE 'curl -sT%' ORDER BY ts LIMIT 1",
    ),
    (
        "traces removed",
        "SELECT ts, message AS what FROM events WHERE exhibit = 'E001' AND source = 'fs:stat' \
         AND ts_desc = 'Content Deletion Time' ORDER BY ts, path LIMIT 1",
    ),
];

/// Run the whole job on the built-in samples: acquire, verify, timeline, query, report
///
/// The made-up server web01 was broken into. The demo unpacks its disk and its logs, acquires both into a case, checks
/// it, builds the timeline, asks it for the attack, and writes the report. It uses a key of its own.
///
/// Example: exhibit demo
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder to make
    #[arg(long, default_value = "exhibit-demo", value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let ui = session.ui;
    if args.dir.exists() {
        return Err(Failure::new(format!("refusing to overwrite {:?}", args.dir))
            .hint("remove it, or name another folder with --dir"));
    }
    let evidence = args.dir.join("evidence");
    ui.say(&format!("unpacking the samples into {}", evidence.display()));
    let (disk, logs) = unpack(&evidence)?;

    let session = session.with_key(&args.dir.join("demo-key.pem"));
    let (key, _) = session.new_key()?;
    let case_folder = args.dir.join("case");
    let new = NewCase {
        name: "web01 intrusion (made up)".to_owned(),
        examiner: "demo".to_owned(),
        organisation: String::new(),
        authority: "none: this is a demonstration".to_owned(),
    };
    let identity = identity::of_this_run("demo", None);
    let case = Case::create(&case_folder, &new, &Writer::new(&key, &session.clock, identity))?;

    ui.say("\n$ exhibit acquire disk web01-disk.raw");
    acquire::say(&acquire::disk::with_defaults(&disk, &case_folder, "web01-disk", &session)?, ui);
    ui.say("\n$ exhibit acquire logs web01/var/log");
    acquire::say(&acquire::logs::with_defaults(&logs, &case_folder, "web01-logs", &session)?, ui);
    ui.say("\n$ exhibit timeline case");
    build::build(&case, &build::Args::for_case(case_folder), &session)?;

    ui.say("\n$ exhibit verify case");
    let verification = verify::verify_case(case.folder(), &Options::default())?;
    ui.say(&format!(
        "{} and {} checked, {}",
        ui::count(verification.counts.chunks, "chunk", "chunks"),
        ui::count(verification.counts.entries, "log entry", "log entries"),
        ui::count(verification.fault_count, "fault", "faults"),
    ));
    let timeline = query::open(&case, &session)?;
    let report = report::html(&case, &verification, &args.dir.join("report"), &session)?;
    if ui.is_json() {
        let story: Vec<_> = story(&timeline)?
            .into_iter()
            .map(|line| serde_json::json!({"ts": line.ts, "step": line.step, "what": line.what}))
            .collect();
        ui.document(&serde_json::json!({
            "case": case.folder().display().to_string(), "verdict": verification.verdict, "story": story,
            "report": report.display().to_string(),
        }))?;
        return Ok(Outcome::Done);
    }
    ui.data("\nThe attack, from the timeline (times in UTC):")?;
    let rows =
        story(&timeline)?.into_iter().map(|line| vec![line.ts, line.step.to_owned(), line.what]).collect();
    ui.table(&["time", "step", "what the evidence says"], rows)?;
    ui.data(&format!("\nverdict: {}. {}", verification.verdict, verification.sentence))?;
    ui.data(&format!("report:  {}", report.display()))?;
    ui.say(&format!(
        "\ngo on:   exhibit query {0} --grep sysupd --key {1}\n         exhibit show {0} EVENT_ID --bytes --proof --key {1}",
        case.folder().display(),
        args.dir.join("demo-key.pem").display()
    ));
    Ok(Outcome::Done)
}

/// One line of the attack.
struct Line {
    ts: String,
    step: &'static str,
    what: String,
}

/// Asks the timeline for each step; a step without an answer says so.
fn story(timeline: &Timeline) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for (step, sql) in STORY {
        let row = timeline.sql(sql)?.next().transpose()?;
        let text =
            |name: &str| row.as_ref().map(|row| row.get(name).to_text().into_owned()).unwrap_or_default();
        let ts = text("ts").replace('T', " ").chars().take(19).collect();
        let what = match (row.is_some(), text("n")) {
            (false, _) => "nothing found".to_owned(),
            (true, n) if n.is_empty() => text("what"),
            (true, n) => format!("{n} from {}", text("what")),
        };
        lines.push(Line { ts, step, what });
    }
    Ok(lines)
}

/// Unpacks the samples; gives the disk image and the folder of logs.
fn unpack(folder: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("failed to unpack the samples into {folder:?}: {error}"))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let disk = folder.join("web01-disk.raw");
    let mut image = std::fs::File::create(&disk).map_err(failed)?;
    zstd::stream::copy_decode(DISK, &mut image).map_err(failed)?;
    let mut archive = tar::Archive::new(zstd::stream::read::Decoder::new(LOGS).map_err(failed)?);
    archive.set_preserve_mtime(true);
    archive.unpack(folder).map_err(failed)?;
    Ok((disk, folder.join("web01/var/log")))
}

//! `exhibit selftest`: tries on this host what a court may ask of the tool.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use acquire::selftest::{self, Assertion};
use custody::clock::Clock;
use custody::{EntryType, NewEntry, uuid_v7};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome};
use crate::identity;
use crate::progress_bar::Bars;
use crate::session::Session;
use crate::target;
use crate::ui;

/// Try on this host, in seconds, that imaging is exact and that tampering is found
///
/// The assertions are those of NIST's test plan for imaging tools that can be tried anywhere: sizes, bad sectors, fill,
/// tampering, and an untouched source. They run on a source in memory, in a temporary folder that is removed. Exit code
/// 3 if one does not hold.
///
/// Example: exhibit selftest --case ir-2026-017
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sign the result into this case's log, with this program's hash and this host's name
    #[arg(long)]
    case: Option<PathBuf>,
}

/// A folder of our own, removed with all that is in it.
struct Bench(PathBuf);

impl Bench {
    /// In memory where the system has such a folder: a bundle waits for the disk at every step, and a host that is to be
    /// examined is written to no more than it must be.
    fn make(clock: &dyn Clock) -> Result<Self, Failure> {
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = place.join(format!("exhibit-selftest-{}", uuid_v7(clock.now().wall_ns)?));
        fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| {
            Failure::new(error)
                .hint(format!("the folder {folder:?} could not be made; TMPDIR names another place"))
        })?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left in a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = args.case.as_deref().map(target::open_case).transpose()?;
    let key = case.as_ref().map(|_| session.key()).transpose()?;
    let bench = Bench::make(&session.clock)?;
    let bars = Bars::waiting(session.ui, "trying");
    let assertions = selftest::run(bench.path(), &session.clock, &identity::of_this_run("", None));
    drop(bars);
    drop(bench);
    let failed: Vec<&Assertion> = assertions.iter().filter(|assertion| !assertion.passed).collect();
    let logged = match (&case, &key) {
        (Some(case), Some(key)) => {
            Some(case.append(entry(&assertions), &session.writer(key, Some(case)))?.seq)
        }
        _ => None,
    };
    if session.ui.is_json() {
        let mut document = json!({"assertions": assertions, "failed": failed.len()});
        if let (Some(seq), Some(document)) = (logged, document.as_object_mut()) {
            document.insert("entry".to_owned(), seq.into());
        }
        session.ui.document(&document)?;
    } else {
        let row = |assertion: &Assertion| {
            let verdict = if assertion.passed { "holds" } else { "FAILS" };
            let seconds = format!("{:.2} s", assertion.seconds);
            vec![assertion.id.to_owned(), assertion.assertion.to_owned(), verdict.to_owned(), seconds]
        };
        session.ui.table(&["id", "assertion", "here", "time"], assertions.iter().map(row).collect())?;
    }
    for assertion in &assertions {
        session.ui.detail(&format!("{}: {}", assertion.id, assertion.detail));
    }
    for assertion in &failed {
        session.ui.warn(&format!("{} fails: {}", assertion.id, assertion.detail));
    }
    let seconds: f64 = assertions.iter().map(|assertion| assertion.seconds).sum();
    let all = ui::count(assertions.len() as u64, "assertion", "assertions");
    session.ui.say(&format!("{all} tried in {seconds:.1} s, {} failed", failed.len()));
    match logged {
        Some(seq) => session.ui.say(&format!("signed as entry {seq} of the case")),
        None => session.ui.detail("not logged: --case CASE signs the result into a case"),
    }
    Ok(if failed.is_empty() { Outcome::Done } else { Outcome::NotVerified })
}

/// The entry: each assertion with its verdict. Tool and host are in every entry.
fn entry(assertions: &[Assertion]) -> NewEntry {
    /// An entry holds 64 KiB.
    const LONGEST: usize = 300;
    let verdict = |assertion: &Assertion| {
        let detail: String = assertion.detail.chars().take(LONGEST).collect();
        let verdict = match assertion.passed {
            true => "holds".to_owned(),
            false => format!("fails: {}", custody::strict_json::escape_text(detail.as_bytes())),
        };
        (assertion.id.to_owned(), Value::from(verdict))
    };
    let failed = assertions.iter().filter(|assertion| !assertion.passed).count();
    NewEntry::new(EntryType::SELFTEST_RESULT)
        .how("command", "selftest")
        .result("assertions", Value::Object(assertions.iter().map(verdict).collect::<Map<_, _>>()))
        .result("failed", failed)
        .result("tried", assertions.len())
}

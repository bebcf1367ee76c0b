//! `exhibit sql`: asks the timeline in SQL.

use std::path::PathBuf;

use custody::{EntryType, NewEntry};

use super::query;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{target, ui};

/// Ask the timeline in SQL
///
/// The table is `events`. With --json the answer is one array of row objects.
///
/// Example: exhibit sql ir-2026-017 "SELECT src_ip, COUNT(*) AS n FROM events WHERE action = 'ssh-login' GROUP BY src_ip"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
    /// One SELECT
    #[arg(value_name = "SQL")]
    sql: String,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let timeline = query::open(&case, session)?;
    let answer = timeline.sql(&args.sql).map_err(query::refused)?;
    let rows = if session.ui.is_json() {
        array(answer, session)?
    } else {
        let rows = query::table(answer, session)?;
        session.ui.say(&ui::count(rows, "row", "rows"));
        rows
    };
    let sql = if args.sql.len() > 4096 { "(more than 4,096 bytes)" } else { args.sql.as_str() };
    let entry =
        NewEntry::new(EntryType::QUERY_RUN).how("command", "sql").how("sql", sql).result("rows", rows);
    session.record_reading(Some(&case), entry);
    Ok(Outcome::Done)
}

/// Writes the rows as one JSON array, as they come.
fn array(answer: timeline::query::Answer, session: &Session) -> Result<u64, Failure> {
    use std::io::Write;
    let mut out = session.ui.stream();
    let mut rows = 0;
    out.write_all(b"[")?;
    for row in answer {
        let comma = if rows == 0 { "" } else { ",\n" };
        write!(out, "{comma}{}", serde_json::Value::Object(row.map_err(query::refused)?.to_json()))?;
        rows += 1;
    }
    out.write_all(b"]\n")?;
    out.flush()?;
    Ok(rows)
}

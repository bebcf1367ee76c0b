//! `exhibit parsers`: every parser there is.

use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// List every parser: its name, what it reads, the times it gives
///
/// Example: exhibit parsers --json | jq -r .[].name
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let all = timeline::parsers::ALL;
    if session.ui.is_json() {
        let rows: Vec<_> = all
            .iter()
            .map(
                |p| json!({"name": p.name(), "version": p.version(), "reads": p.reads(), "times": p.times()}),
            )
            .collect();
        session.ui.document(&rows.into())?;
    } else {
        let rows = all
            .iter()
            .map(|p| vec![timeline::build::parser_label(*p), p.reads().to_owned(), p.times().to_owned()])
            .collect();
        session.ui.table(&["parser", "reads", "times"], rows)?;
    }
    Ok(Outcome::Done)
}

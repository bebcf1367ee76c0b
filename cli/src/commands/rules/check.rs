//! `exhibit rules check`

use std::path::PathBuf;

use respond::rules::{Mode, Remark, Rule};
use serde_json::json;

use super::now;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::{plan_words, ui};

/// Check rules: everything that cannot be meant, with file and line, and what hardly can
///
/// Ends with 2 where the service would refuse them, and with 1 where there is something that a person should look at.
///
/// Example: exhibit rules check /etc/exhibit/rules --inventory /etc/exhibit/assets.toml
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The rules: a file, or a folder of files
    rules: PathBuf,
    /// Also say which assets no rule is for: a file of assets, or a folder of files
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let set = super::rules(&args.rules)?;
    let at = now(session);
    let mut remarks = set.review(at);
    if let Some(path) = &args.inventory {
        for asset in super::assets(path)?.assets() {
            let mut in_force = set.rules().iter().filter(|rule| !rule.has_expired(at));
            if !in_force.any(|rule| rule.kinds.contains(&asset.kind)) {
                let what = format!("no rule is for {} {}", asset.kind.word(), asset.id);
                remarks.push(Remark { rule: String::new(), what });
            }
        }
    }
    if session.ui.is_json() {
        let rule = |rule: &Rule| {
            json!({
                "id": rule.id, "about": rule.about, "order": rule.order, "mode": rule.mode, "kinds": rule.kinds,
                "file": rule.file, "line": rule.line, "steps": rule.steps,
            })
        };
        let remark = |remark: &Remark| json!({"rule": remark.rule, "what": remark.what});
        session.ui.document(&json!({
            "sha256": set.sha256(),
            "rules": set.rules().iter().map(rule).collect::<Vec<_>>(),
            "remarks": remarks.iter().map(remark).collect::<Vec<_>>(),
        }))?;
    } else {
        let row = |rule: &Rule| {
            vec![rule.order.to_string(), rule.id.clone(), mode_word(rule.mode).to_owned(), kinds(rule)]
        };
        session.ui.table(&["order", "rule", "mode", "for"], set.rules().iter().map(row).collect())?;
        for remark in &remarks {
            let rule = if remark.rule.is_empty() { String::new() } else { format!("{}: ", remark.rule) };
            plan_words::print("look  ", &format!("{rule}{}", remark.what), session.ui)?;
        }
    }
    let count = |n: usize, one, many| ui::count(u64::try_from(n).unwrap_or(u64::MAX), one, many);
    session.ui.say(&format!(
        "{}, {} to look at",
        count(set.rules().len(), "rule", "rules"),
        count(remarks.len(), "thing", "things")
    ));
    Ok(if remarks.is_empty() { Outcome::Done } else { Outcome::WithIssues })
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Approve => "approve",
        Mode::Auto => "auto",
    }
}

fn kinds(rule: &Rule) -> String {
    let words: Vec<&str> = rule.kinds.iter().map(|kind| kind.word()).collect();
    if words.len() > 3 { format!("{} kinds", words.len()) } else { words.join(" ") }
}

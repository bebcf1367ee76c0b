//! `exhibit rules`: rules are checked, tried on recorded alerts, and explained before they are put in force. One file an act.

mod check;
mod explain;
mod test;

use std::path::PathBuf;

use respond::inventory::Inventory;
use respond::rules::RuleSet;

use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Check rules, try them on recorded alerts, or see what they make of one
///
/// Example: exhibit rules check rules.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

/// The table of acts.
#[derive(Debug, clap::Subcommand)]
enum Act {
    Check(check::Args),
    Test(test::Args),
    Explain(explain::Args),
}

/// By what is decided.
#[derive(Debug, Clone, clap::Args)]
struct By {
    /// The rules: a file, or a folder of files
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
    /// The assets that may be acted on: a file, or a folder of files
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// A cloud account whose assets need not be in the inventory; may be given again
    #[arg(long, value_name = "ACCOUNT")]
    account: Vec<String>,
    /// Decide as at this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = amounts::moment)]
    at: Option<i64>,
}

impl By {
    fn load(&self, session: &Session) -> Result<(RuleSet, Inventory, i64), Failure> {
        let rules = rules(&self.rules)?;
        let inventory = match &self.inventory {
            Some(path) => assets(path)?,
            None => Inventory::default(),
        };
        let at = self.at.unwrap_or_else(|| now(session));
        Ok((rules, inventory.with_accounts(self.account.clone()), at))
    }
}

/// This second.
pub(crate) fn now(session: &Session) -> i64 {
    use custody::Clock as _;
    session.clock.now().wall_ns.div_euclid(1_000_000_000)
}

/// What is wrong with a file of rules or assets is for its writer to mend.
fn rules(path: &std::path::Path) -> Result<RuleSet, Failure> {
    RuleSet::load(path).map_err(|error| Failure::usage(crate::failure::chain(&error)))
}

fn assets(path: &std::path::Path) -> Result<Inventory, Failure> {
    Inventory::load(path).map_err(|error| Failure::usage(crate::failure::chain(&error)))
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Check(args) => check::run(args, session),
        Act::Test(args) => test::run(args, session),
        Act::Explain(args) => explain::run(args, session),
    }
}

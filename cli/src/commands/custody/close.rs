//! `exhibit custody close`: closes a case.

use custody::closing;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;

/// Close a case: no evidence is added to it any more
///
/// Its log then takes only what follows evidence about: looking at it, handing it on, disclosing and disposing of it,
/// anchors, keys, corrections and notices. Anchor the case after it, so that the verdict can be COMPLETE.
///
/// Example: exhibit custody close ir-2026-017 "judgment of 2026-11-20 is final"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case's folder
    #[arg(value_name = "CASE")]
    case: std::path::PathBuf,
    /// Why it is closed
    #[arg(default_value = "")]
    text: String,
    /// Close it with exhibits that are not sealed or offers that were not answered, and say why
    #[arg(long, value_name = "REASON")]
    anyway: Option<String>,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let unfinished = closing::unfinished(&case).map_err(super::refused)?;
    if let Some(reason) = &args.anyway {
        super::said(reason, "the reason")?;
    } else if !unfinished.is_empty() {
        return Err(Failure::new(format!("the case is not finished: {}", unfinished.join("; ")))
            .hint("finish that, or close it as it is with --anyway REASON"));
    }
    let entry = closing::closing_entry(&case, &args.text, args.anyway.as_deref())?;
    let key = session.key()?;
    let appended = case.append(entry, &session.writer(&key, Some(&case))).map_err(super::refused)?;
    super::say_appended(&appended, session)?;
    Ok(Outcome::Done)
}

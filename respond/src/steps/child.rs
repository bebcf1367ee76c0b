//! Runs a command of this program as a child of a step: its arguments are a list, never a shell's line, and it ends with the
//! service.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Context, Failed};
use crate::settings::Settings;
use crate::targets::programs::{self, Input, Limit, of_ours};

/// A step's own time is told by `stop`; this is longer than any.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// How a command of this program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code: 0 done, 1 done with issues.
    pub(super) code: i32,
    /// Issues that its documents on stdout tell of.
    pub(super) issues: u64,
    /// The end of what it said on stderr.
    pub(super) words: String,
}

impl Ended {
    /// Whether it did what it should.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.code, 0 | 1)
    }

    /// As a failure of the step.
    pub(super) fn failure(&self, what: &str) -> Failed {
        let words = format!("{what} ended with exit code {}: {}", self.code, self.words);
        // Wrong usage stays wrong; all else may be the network, the disk or the asset.
        if self.code == 2 { Failed::for_good(words) } else { Failed::for_now(words) }
    }
}

/// The file that every child holds while it runs, so that a new service can wait until those of the old one are gone.
pub(crate) fn children_lock(settings: &Settings) -> PathBuf {
    settings.state.join("children.lock")
}

/// Runs `exhibit ARGUMENTS` to its end, or until the service wants to stop.
///
/// # Errors
///
/// [`Failed`] when it cannot be started, was killed, or was stopped.
pub(super) fn run(context: &Context<'_>, arguments: &[OsString]) -> Result<Ended, Failed> {
    let mut command = of_ours(context.program, context.settings);
    command.args(arguments);
    let shown: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    (context.intend)(&json!({"command": shown})).map_err(|error| Failed::for_now(error.to_string()))?;
    let limit = Limit { until: Instant::now() + LONGEST, stop: Some(context.stop) };
    let ended = programs::run(&mut command, Input::Nothing, limit)?;
    let (issues, words) = (ended.issues(), ended.words());
    match ended.code {
        Some(code) => Ok(Ended { code, issues, words }),
        None => Err(Failed::for_now(format!("it was killed: {words}"))),
    }
}

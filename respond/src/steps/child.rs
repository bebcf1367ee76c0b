//! Runs a command of this program as a child: its arguments are a list, never a shell's line, and it ends with the service.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Context, Failed};
use crate::settings::Settings;

/// How much is kept of what a child says.
const MOST_OUTPUT: usize = 1 << 20;
/// How much of its words a failure repeats.
const MOST_WORDS: usize = 1000;
/// Time to end once it was asked to.
const GRACE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// How a command of this program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit code: 0 done, 1 done with issues.
    pub(super) code: i32,
    /// Its JSON documents on stdout.
    pub(super) documents: Vec<Value>,
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
    let mut command = Command::new(context.program);
    command.args(arguments).args(["--json", "--no-progress"]);
    if let Some(key) = &context.settings.capture.key {
        command.arg("--key").arg(key);
    }
    // Not the service's standard input, nor its group: a Ctrl-C at the terminal is for the service, which tells its children.
    command.arg("--die-with-parent").arg(std::process::id().to_string());
    command.arg("--while-holding").arg(children_lock(context.settings));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let shown: Vec<String> =
        arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    (context.intend)(&json!({"command": shown})).map_err(|error| Failed::for_now(error.to_string()))?;
    let mut child = command.spawn().map_err(|error| {
        Failed::for_now(format!("{} could not be started: {error}", context.program.display()))
    })?;
    let output = child.stdout.take().map(|pipe| keep(pipe, false));
    let words = child.stderr.take().map(|pipe| keep(pipe, true));
    let status = wait(&mut child, context)?;
    let text = |kept: Option<JoinHandle<Vec<u8>>>| {
        let bytes = kept.and_then(|thread| thread.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (output, words) = (text(output), text(words));
    let words = last_words(&words);
    let Some(code) = status.code() else {
        return Err(Failed::for_now(format!("it was killed ({status}): {words}")));
    };
    let documents = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    Ok(Ended { code, documents, words })
}

fn wait(child: &mut Child, context: &Context<'_>) -> Result<ExitStatus, Failed> {
    let mut asked: Option<Instant> = None;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(error) => {
                let _ = child.kill();
                return Err(Failed::for_now(format!("it could not be waited for: {error}")));
            }
        }
        match asked {
            None if context.stop.load(Ordering::Relaxed) => {
                asked = Some(Instant::now());
                // Acquisitions pause at this, and keep what they have read.
                if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(id, Signal::TERM);
                }
            }
            Some(since) if since.elapsed() > GRACE => {
                let _ = child.kill();
            }
            _ => {}
        }
        thread::sleep(LOOK);
    }
}

/// Reads a pipe to its end, and keeps its beginning or its end.
fn keep(mut pipe: impl Read + Send + 'static, is_end_kept: bool) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(read) = pipe.read(&mut buffer) {
            if read == 0 {
                break;
            }
            kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if kept.len() > 2 * MOST_OUTPUT {
                let over = kept.len().saturating_sub(MOST_OUTPUT);
                if is_end_kept {
                    kept.drain(..over);
                } else {
                    kept.truncate(MOST_OUTPUT);
                }
            }
        }
        kept
    })
}

/// The end of what was said, on one line, with nothing that could act on a terminal.
fn last_words(words: &str) -> String {
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let joined = words.join("; ");
    let plain: String = joined.chars().filter(|c| !c.is_control()).collect();
    let over = plain.chars().count().saturating_sub(MOST_WORDS);
    plain.chars().skip(over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_short_line_without_control_characters() {
        assert_eq!(last_words("a\n\x1b[31mb\x07\n\n"), "a; [31mb");
        assert_eq!(last_words(&"x".repeat(5000)).len(), MOST_WORDS);
    }
}

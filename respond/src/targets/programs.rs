//! Runs programs as children of the service: an argument vector, never a shell's line; bounded output; ended when the service
//! stops or their time is over.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::settings::Settings;
use crate::steps::Failed;
use crate::steps::child::children_lock;

/// What is kept of what a child says on stdout, and on stderr.
const MOST_OUTPUT: usize = 16 << 20;
const MOST_WORDS: usize = 64 << 10;
/// Words of a child that a failure repeats.
const TOLD: usize = 600;
/// Time to end once it was asked to, and for its last words once it has ended.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 20 });
const LOOK: Duration = Duration::from_millis(20);

/// How a child ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) output: Vec<u8>,
    words: Vec<u8>,
}

impl Ended {
    /// Its JSON documents on stdout.
    pub(crate) fn documents(&self) -> Vec<Value> {
        let lines = self.output.split(|&byte| byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// How many issues its documents tell of; whoever wrote them.
    pub(crate) fn issues(&self) -> u64 {
        let counts =
            self.documents().into_iter().filter_map(|document| document.get("issue_count")?.as_u64());
        counts.fold(0, u64::saturating_add)
    }

    /// The end of what it said on stderr, on one line, with nothing that could act on a terminal.
    pub(crate) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.words);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let plain: String = lines.join("; ").chars().filter(|c| !c.is_control()).collect();
        let over = plain.chars().count().saturating_sub(TOLD);
        plain.chars().skip(over).collect()
    }

    pub(crate) fn told(&self) -> String {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
        format!("{code}: {}", self.words())
    }
}

/// What a child reads.
pub(crate) enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(std::fs::File),
}

/// Until when, and whether the service wants to stop before.
#[derive(Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) until: Instant,
    pub(crate) stop: Option<&'a AtomicBool>,
}

impl Limit<'_> {
    /// Why nothing more is to be done.
    fn over(&self) -> Option<&'static str> {
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            Some("the service is stopping")
        } else if Instant::now() >= self.until {
            Some("its time is over")
        } else {
            None
        }
    }
}

/// This program itself, with what every command of it takes here.
pub(crate) fn of_ours(program: &Path, settings: &Settings) -> Command {
    let mut command = Command::new(program);
    command.args(["--json", "--no-progress"]);
    if let Some(key) = &settings.capture.key {
        command.arg("--key").arg(key);
    }
    command.arg("--die-with-parent").arg(std::process::id().to_string());
    command.arg("--while-holding").arg(children_lock(settings));
    command
}

/// Runs a child to its end.
///
/// # Errors
///
/// [`Failed`] when it cannot be started, or had to be ended.
pub(crate) fn run(command: &mut Command, input: Input, limit: Limit<'_>) -> Result<Ended, Failed> {
    let name = command.get_program().to_string_lossy().into_owned();
    let stdin = match &input {
        Input::Nothing => Stdio::null(),
        Input::Bytes(_) => Stdio::piped(),
        Input::File(_) => Stdio::null(),
    };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let writes = match input {
        Input::File(file) => {
            command.stdin(Stdio::from(file));
            None
        }
        Input::Bytes(bytes) => Some(bytes),
        Input::Nothing => None,
    };
    let mut running = Running::start(command)?;
    if let (Some(bytes), Some(mut pipe)) = (writes, running.child.stdin.take()) {
        // On a thread of its own: a child that reads nothing must not hold us up.
        thread::spawn(move || pipe.write_all(&bytes));
    }
    let status = wait(&mut [&mut running], limit).map_err(|why| Failed::for_now(format!("{name}: {why}")))?;
    Ok(running.ended(status.first().copied()))
}

/// Runs two children, the output of the first being the input of the second. Gives how both ended.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_piped(
    from: &mut Command,
    into: &mut Command,
    limit: Limit<'_>,
) -> Result<(Ended, Ended), Failed> {
    from.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut first = Running::start_with(from, false)?;
    let Some(pipe) = first.child.stdout.take() else {
        return Err(Failed::for_now("no pipe to the first program"));
    };
    into.stdin(Stdio::from(pipe)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let second = Running::start(into);
    // The command keeps its end of the pipe, and whoever writes there would wait for us to read.
    into.stdin(Stdio::null());
    let mut second = match second {
        Ok(second) => second,
        Err(failed) => {
            first.end();
            return Err(failed);
        }
    };
    let statuses = wait(&mut [&mut first, &mut second], limit).map_err(Failed::for_now)?;
    Ok((first.ended(statuses.first().copied()), second.ended(statuses.get(1).copied())))
}

struct Running {
    child: Child,
    output: Option<Kept>,
    words: Option<Kept>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self, Failed> {
        Self::start_with(command, true)
    }

    fn start_with(command: &mut Command, reads_output: bool) -> Result<Self, Failed> {
        // A Ctrl-C at the terminal is for the service, which tells its children.
        std::os::unix::process::CommandExt::process_group(command, 0);
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .spawn()
            .map_err(|error| Failed::for_now(format!("{name} could not be started: {error}")))?;
        let output = match reads_output {
            true => child.stdout.take().map(|pipe| Kept::of(pipe, MOST_OUTPUT, false)),
            false => None,
        };
        let words = child.stderr.take().map(|pipe| Kept::of(pipe, MOST_WORDS, true));
        Ok(Self { child, output, words })
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Ends it and all that it has started: it is not waited for yet, so that the group is still its own.
    fn end(&mut self) {
        if let Some(id) = self.id() {
            let _ = kill_process_group(id, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn ended(self, status: Option<ExitStatus>) -> Ended {
        let until = Instant::now() + GRACE;
        let text = |kept: Option<Kept>| kept.map(|kept| kept.until(until)).unwrap_or_default();
        Ended {
            code: status.and_then(|status| status.code()),
            output: text(self.output),
            words: text(self.words),
        }
    }
}

/// Waits until all have ended; ends them when time is over or the service stops.
fn wait(running: &mut [&mut Running], limit: Limit<'_>) -> Result<Vec<ExitStatus>, String> {
    let mut asked: Option<(Instant, &'static str)> = None;
    loop {
        let mut statuses = Vec::new();
        let mut open = Vec::new();
        for one in running.iter_mut() {
            match one.child.try_wait() {
                Ok(Some(status)) => statuses.push(status),
                Ok(None) => open.push(one),
                Err(error) => {
                    one.end();
                    return Err(format!("it could not be waited for: {error}"));
                }
            }
        }
        if open.is_empty() {
            return match asked {
                // What has done all that it should is done, also when it was asked to end.
                Some((_, why)) if !statuses.iter().all(ExitStatus::success) => Err(why.to_owned()),
                _ => Ok(statuses),
            };
        }
        match asked {
            None => {
                if let Some(why) = limit.over() {
                    asked = Some((Instant::now(), why));
                    for id in open.iter().filter_map(|one| one.id()) {
                        let _ = kill_process(id, Signal::TERM);
                    }
                }
            }
            Some((since, _)) if since.elapsed() > GRACE => open.iter_mut().for_each(|one| one.end()),
            Some(_) => {}
        }
        thread::sleep(LOOK);
    }
}

/// What a child has written to a pipe, of which the beginning or the end is kept.
struct Kept {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Kept {
    /// Reads the pipe to its end.
    fn of(mut pipe: impl Read + Send + 'static, most: usize, is_end_kept: bool) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut block = [0; 8192];
            while let Ok(read) = pipe.read(&mut block) {
                if read == 0 {
                    break;
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if is_end_kept || kept.len() < most {
                    kept.extend_from_slice(block.get(..read).unwrap_or_default());
                }
                if is_end_kept && kept.len() > most.saturating_mul(2) {
                    let over = kept.len().saturating_sub(most);
                    kept.drain(..over);
                }
            }
        });
        Self { bytes, reader }
    }

    /// What came until the pipe's end, or until then: something that the child has left behind may hold it for ever.
    fn until(self, until: Instant) -> Vec<u8> {
        while !self.reader.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon<'a>(stop: Option<&'a AtomicBool>, millis: u64) -> Limit<'a> {
        Limit { until: Instant::now() + Duration::from_millis(millis), stop }
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_child_gets_its_input_and_what_it_says_is_one_plain_line() {
        let ended = run(
            &mut sh("cat; echo 'a\x1b[31m'>&2; exit 3"),
            Input::Bytes(b"{\"a\":1}\n".to_vec()),
            soon(None, 60_000),
        );
        let ended = ended.unwrap();
        assert_eq!((ended.code, ended.documents()), (Some(3), vec![serde_json::json!({"a": 1})]));
        assert_eq!(ended.words(), "a[31m");
    }

    #[test]
    fn a_child_that_does_not_end_is_ended_by_time_and_by_the_services_stop() {
        let failed = run(&mut sh("exec sleep 600"), Input::Nothing, soon(None, 50)).unwrap_err();
        assert!(failed.what.contains("time is over"), "{failed}");
        let stop = AtomicBool::new(true);
        let failed = run(&mut sh("exec sleep 600"), Input::Nothing, soon(Some(&stop), 60_000)).unwrap_err();
        assert!(failed.what.contains("stopping"), "{failed}");
    }

    #[test]
    fn endless_output_takes_bounded_memory() {
        let ended = run(
            &mut sh("head -c 50000000 /dev/zero; head -c 1000000 /dev/zero >&2"),
            Input::Nothing,
            soon(None, 60_000),
        );
        let ended = ended.unwrap();
        assert!(ended.output.len() <= MOST_OUTPUT + 8192 && ended.words.len() <= 2 * MOST_WORDS + 8192);
    }

    #[test]
    fn one_childs_output_is_the_others_input() {
        let (first, second) =
            run_piped(&mut sh("echo hello; exit 1"), &mut sh("cat; exit 2"), soon(None, 60_000)).unwrap();
        assert_eq!((first.code, second.code, second.output.as_slice()), (Some(1), Some(2), &b"hello\n"[..]));
    }

    /// Whether no such process runs any more. One that nobody waits for may stay a zombie.
    fn is_gone(id: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
    }

    #[test]
    fn a_reader_that_ends_early_ends_the_writer_too() {
        let (first, second) =
            run_piped(&mut sh("head -c 10000000 /dev/zero"), &mut sh("exit 3"), soon(None, 600_000)).unwrap();
        assert_eq!(second.code, Some(3));
        assert_ne!(first.code, Some(0));
    }

    #[test]
    fn a_program_that_cannot_be_started_ends_the_one_that_writes_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("echo $$ > {}; exec cat /dev/zero", file.display());
        let failed = run_piped(&mut sh(&script), &mut Command::new("/nowhere"), soon(None, 600_000));
        assert!(failed.is_err());
        // Killed before it wrote its id, or after.
        assert!(std::fs::read_to_string(&file).map_or(true, |id| is_gone(id.trim())));
    }

    #[test]
    fn what_a_child_has_started_ends_with_it_when_it_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("trap '' TERM; sleep 600 & echo $! > {}; wait; wait; sleep 600", file.display());
        let stop = AtomicBool::new(false);
        let failed = thread::scope(|scope| {
            scope.spawn(|| {
                let begun = Instant::now();
                let is_written = || std::fs::read_to_string(&file).is_ok_and(|id| id.ends_with('\n'));
                while !is_written() && begun.elapsed() < Duration::from_secs(120) {
                    thread::sleep(LOOK);
                }
                stop.store(true, Ordering::Relaxed);
            });
            run(&mut sh(&script), Input::Nothing, soon(Some(&stop), 600_000)).unwrap_err()
        });
        assert!(failed.what.contains("stopping"), "{failed}");
        let id = std::fs::read_to_string(&file).unwrap();
        let begun = Instant::now();
        while !is_gone(id.trim()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} goes on");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn what_a_child_leaves_behind_holds_nobody_up() {
        let ended = run(&mut sh("sleep 500 & echo $!"), Input::Nothing, soon(None, 600_000)).unwrap();
        let id = String::from_utf8(ended.output.clone()).unwrap();
        assert_eq!(ended.code, Some(0));
        assert!(!is_gone(id.trim()), "it is the sleeper that holds the pipe");
        let _ = Command::new("kill").arg(id.trim()).status();
    }

    #[test]
    fn counts_that_no_program_has_are_no_panic() {
        let most = u64::MAX;
        let ended = Ended {
            output: format!("{{\"issue_count\":{most}}}\n{{\"issue_count\":{most}}}\n").into_bytes(),
            ..Ended::default()
        };
        assert_eq!(ended.issues(), most);
    }
}

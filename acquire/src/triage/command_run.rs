//! One program of the host, run without a shell, within a limit of time and of output.
//!
//! - It gets a process group of its own, an empty standard input, a fixed environment and no descriptor of ours.
//! - When its time is up, or when it says more than is kept, the whole group is killed.
//! - A descendant that holds the output open after the program has ended is not waited for.
//! - Nothing is waited for without a limit: not the start, which reads the program, nor the end.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::time::Timespec;

use super::bounded_reads::Patience;
use super::spool::Spool;

/// Where programs are looked for, in this order; also what they are given as PATH.
pub(crate) const PATH: [&str; 7] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin"];

/// For how long output is still taken once the program has ended, and for how long a killed one is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// How often it is looked whether the program has ended while it says nothing.
const LOOK: Duration = Duration::from_millis(20);

/// Standard error is kept up to this.
const MOST_ERROR_OUTPUT: u64 = 4 << 20;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Signal(i32),
    /// It was killed when its time was up.
    TimedOut,
    /// It was killed because it said more than is kept.
    TooMuch,
    /// It was told to end by the kill, but did not: it hangs in the kernel.
    LeftBehind,
    /// It could not be started.
    NotStarted(String),
}

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ending: Ending,
    pub(crate) pid: Option<u32>,
    pub(crate) stdout: Spool,
    pub(crate) stderr: Spool,
    /// A descendant was still holding the output when the program had ended.
    pub(crate) was_held: bool,
}

/// What a command may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) output: u64,
}

/// Runs a program. `spool` is the folder for output that memory shall not hold.
pub(crate) fn run(program: &Path, argv: &[String], limits: Limits, spool: &Path) -> Ran {
    let mut ran = Ran {
        ending: Ending::NotStarted(String::new()),
        pid: None,
        stdout: Spool::new(spool, limits.output),
        stderr: Spool::new(spool, limits.output.min(MOST_ERROR_OUTPUT)),
        was_held: false,
    };
    let start = Instant::now();
    let mut command = Command::new(program);
    command.arg0(argv.first().map_or("", String::as_str)).args(argv.iter().skip(1));
    command.env_clear().env("PATH", PATH.join(":")).env("LC_ALL", "C").env("LANG", "C").env("TZ", "UTC");
    command.env("HOME", "/nonexistent").env("TERM", "dumb").env("COLUMNS", "4096").env("PAGER", "cat");
    command.env("SYSTEMD_PAGER", "").env("SYSTEMD_COLORS", "0");
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A program on a disk that does not answer would hold up the start itself.
    let mut child = match Patience::of(limits.time).wait(move || command.spawn()) {
        Ok(child) => child,
        Err(error) => {
            ran.ending = Ending::NotStarted(error.to_string());
            return ran;
        }
    };
    ran.pid = Some(child.id());
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return ran };
    let mut pipes =
        [Pipe::of(child.stdout.take().map(OwnedFd::from)), Pipe::of(child.stderr.take().map(OwnedFd::from))];
    let deadline = start.checked_add(limits.time);
    let is_over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| Instant::now() >= deadline);
    let mut killed = None;
    // Without reaping it, so that its process group cannot become another one's before it is killed.
    while !has_ended(pid) {
        if is_over(deadline) {
            killed = Some(Ending::TimedOut);
            break;
        }
        if !take(&mut pipes, [&mut ran.stdout, &mut ran.stderr], LOOK) {
            killed = Some(Ending::TooMuch);
            break;
        }
    }
    let grace = Instant::now().checked_add(GRACE);
    if killed.is_none() {
        while pipes.iter().any(Pipe::is_open) && !is_over(grace) {
            if !take(&mut pipes, [&mut ran.stdout, &mut ran.stderr], LOOK) {
                killed = Some(Ending::TooMuch);
                break;
            }
        }
        ran.was_held = pipes.iter().any(Pipe::is_open);
    }
    if killed.is_some() || ran.was_held {
        // ESRCH: nobody is left in the group.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    ran.ending = match (reap(&mut child, pid), killed) {
        (None, _) => Ending::LeftBehind,
        (Some(_), Some(killed)) => killed,
        (Some(status), None) => status,
    };
    if killed_needs_rest(&ran.ending) {
        take(&mut pipes, [&mut ran.stdout, &mut ran.stderr], Duration::ZERO);
    }
    ran
}

/// What was written before the kill still lies in the pipe.
fn killed_needs_rest(ending: &Ending) -> bool {
    matches!(ending, Ending::TimedOut)
}

fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
}

fn reap(child: &mut Child, pid: Pid) -> Option<Ending> {
    let deadline = Instant::now().checked_add(GRACE)?;
    while !has_ended(pid) {
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = child.try_wait().ok().flatten()?;
    Some(match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited(code),
        (None, signal) => Ending::Signal(signal.unwrap_or(0)),
    })
}

/// The reading end of a pipe that never makes us wait.
struct Pipe(Option<std::fs::File>);

impl Pipe {
    fn of(end: Option<OwnedFd>) -> Self {
        Self(end.filter(|end| rustix::io::ioctl_fionbio(end, true).is_ok()).map(std::fs::File::from))
    }

    fn is_open(&self) -> bool {
        self.0.is_some()
    }
}

/// Takes what lies in the pipes, waiting at most `wait` for it. Gives whether there is room for more.
fn take(pipes: &mut [Pipe; 2], spools: [&mut Spool; 2], wait: Duration) -> bool {
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    let mut ends: Vec<PollFd<'_>> = pipes
        .iter()
        .filter_map(|pipe| pipe.0.as_ref())
        .map(|end| PollFd::from_borrowed_fd(end.as_fd(), PollFlags::IN))
        .collect();
    if ends.is_empty() {
        std::thread::sleep(Duration::from_millis(1));
        return true;
    }
    if !matches!(poll(&mut ends, Some(&wait)), Ok(1..)) {
        return true;
    }
    drop(ends);
    let mut block = vec![0; 64 << 10];
    for (pipe, spool) in pipes.iter_mut().zip(spools) {
        let Some(end) = pipe.0.as_mut() else { continue };
        match end.read(&mut block) {
            Ok(0) => pipe.0 = None,
            Ok(read) => {
                if !spool.add(block.get(..read).unwrap_or_default()) {
                    return false;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => pipe.0 = None,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Limits = Limits { time: Duration::from_secs(2), output: 1 << 20 };
    const LONG: Limits = Limits { time: Duration::from_secs(20), output: 1 << 20 };

    fn shell(script: &str, limits: Limits) -> Ran {
        let argv: Vec<String> = ["sh", "-c", script].map(str::to_owned).to_vec();
        run(Path::new("/bin/sh"), &argv, limits, Path::new("/tmp"))
    }

    fn text(spool: &Spool) -> String {
        String::from_utf8(spool.bytes().to_vec()).unwrap()
    }

    /// Waits until a process that was killed has gone.
    fn is_gone(pid: &str) {
        let begun = Instant::now();
        while is_alive(pid) {
            assert!(begun.elapsed() < Duration::from_secs(60), "process {pid} lives");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process is there and not merely waiting to be reaped.
    fn is_alive(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    }

    #[test]
    fn output_errors_and_exit_code_are_kept_apart() {
        let ran = shell("echo out; echo err >&2; exit 3", LONG);
        assert_eq!(ran.ending, Ending::Exited(3));
        assert_eq!((text(&ran.stdout).as_str(), text(&ran.stderr).as_str()), ("out\n", "err\n"));
        assert!(!ran.was_held && ran.pid.is_some());
    }

    #[test]
    fn the_environment_is_ours_and_nothing_of_the_callers() {
        let ran = shell("echo $PATH $LC_ALL $TZ $CARGO_MANIFEST_DIR; cat; pwd", LONG);
        assert_eq!(text(&ran.stdout), format!("{} C UTC\n/\n", PATH.join(":")));
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children_and_what_it_said_is_kept() {
        let start = Instant::now();
        let ran = shell("trap '' TERM; sleep 1000 & echo $!; sleep 1000", SHORT);
        assert_eq!(ran.ending, Ending::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(300));
        let child = text(&ran.stdout).trim().to_owned();
        assert!(!child.is_empty());
        is_gone(&child);
    }

    #[test]
    fn a_child_that_holds_the_output_is_not_waited_for() {
        let start = Instant::now();
        let ran = shell("sleep 1000 & echo $!; exit 0", LONG);
        assert_eq!(ran.ending, Ending::Exited(0));
        assert!(ran.was_held);
        assert!(start.elapsed() < Duration::from_secs(300));
        let child = text(&ran.stdout).trim().to_owned();
        is_gone(&child);
    }

    #[test]
    fn a_command_that_never_stops_talking_is_stopped_at_the_limit() {
        let start = Instant::now();
        let ran = shell("exec head -c 1073741824 /dev/zero", LONG);
        assert_eq!(ran.ending, Ending::TooMuch);
        assert_eq!(ran.stdout.size(), 1 << 20);
        assert_eq!(ran.stdout.lost.as_deref(), Some("cut after 1048576 bytes"));
        assert!(start.elapsed() < Duration::from_secs(300));
    }

    #[test]
    fn a_command_that_dies_of_a_signal_and_one_that_cannot_start_are_told_apart() {
        assert_eq!(shell("kill -SEGV $$", LONG).ending, Ending::Signal(11));
        let ran = run(Path::new("/etc/passwd"), &["x".to_owned()], LONG, Path::new("/tmp"));
        assert!(matches!(ran.ending, Ending::NotStarted(why) if why.contains("denied")));
    }

    #[test]
    fn much_output_of_a_quick_command_is_kept_to_the_last_byte() {
        let ran = shell("head -c 900000 /dev/zero; echo end >&2", LONG);
        assert_eq!(ran.ending, Ending::Exited(0));
        assert_eq!((ran.stdout.size(), text(&ran.stderr).as_str()), (900_000, "end\n"));
    }
}

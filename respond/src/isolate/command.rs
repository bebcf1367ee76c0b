//! Programs of the system, run by argument vector with a limit of time and output: never through a shell.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::steps::Failed;

/// Where programs of the system are looked for: a service has seldom all of these in its `PATH`.
const FOLDERS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin"];

/// Bytes of output that are taken.
const MOST_OUTPUT: u64 = 64 << 20;

/// Time for one run.
const TIME: Duration = Duration::from_secs(60);

/// What a program gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) is_success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output, if it ended well.
    pub(crate) fn output(self, what: &str) -> Result<String, Failed> {
        if self.is_success {
            return Ok(self.stdout);
        }
        let said: String =
            self.stderr.chars().take(500).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(Failed::for_now(format!("{what} failed: {}", said.trim())))
    }
}

/// The file of a program, where the system has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| PathBuf::from(folder).join(program)).find(|path| path.is_file())
}

/// Runs a program to its end, with `input` as its standard input.
///
/// # Errors
///
/// [`Failed`] when it is not there, takes too long, or says more than can be held.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Result<Ran, Failed> {
    let path = find(program).ok_or_else(|| {
        Failed::for_good(format!("this host has no program {program:?} (looked in {})", FOLDERS.join(", ")))
    })?;
    let failed = |what: String| Failed::for_now(format!("{program}: {what}"));
    let mut child = Command::new(path)
        .args(arguments)
        // Of all that the service knows, nothing is passed on; and messages come in one language.
        .env_clear()
        .env("PATH", FOLDERS.join(":"))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A program that reads nothing must not stop us; what it did not read it will complain of.
        thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let stdout = child.stdout.take().map(reading);
    let stderr = child.stderr.take().map(reading);
    let status = wait(&mut child).map_err(failed)?;
    let taken = |from: Option<mpsc::Receiver<Vec<u8>>>| {
        let bytes = from.and_then(|from| from.recv_timeout(TIME).ok()).unwrap_or_default();
        if bytes.len() as u64 >= MOST_OUTPUT {
            Err(failed("it says more than can be held".to_owned()))
        } else {
            Ok(bytes)
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ran { is_success: status.success(), stdout: text(taken(stdout)?), stderr: text(taken(stderr)?) })
}

fn reading(from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.take(MOST_OUTPUT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begun.elapsed() > TIME => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it did not end within {} s", TIME.as_secs()));
            }
            Ok(None) => thread::sleep(pause),
            Err(error) => return Err(error.to_string()),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_input_and_words_are_never_read_by_a_shell() {
        assert_eq!(run("cat", &[], "a;b").unwrap().stdout, "a;b");
        let hostile = "$(reboot); `x` > /tmp/y";
        assert_eq!(run("printf", &["%s", hostile], "").unwrap().stdout, hostile);
    }

    #[test]
    fn a_failure_tells_what_the_program_said_on_one_line() {
        let failed = run("cat", &["/no/such\nfile"], "").unwrap().output("reading").unwrap_err();
        assert!(failed.what.starts_with("reading failed: ") && !failed.what.contains('\n'), "{failed}");
        assert!(run("no-such-program", &[], "").unwrap_err().what.contains("no-such-program"));
    }
}

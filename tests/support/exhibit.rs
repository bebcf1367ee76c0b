//! Runs the real binary in a folder of its own, with a key store of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder to work in.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exhibit"));
        command.current_dir(self.folder.path()).env("XDG_DATA_HOME", self.path("data"));
        command.env("XDG_CONFIG_HOME", self.path("config"));
        command.env_remove("EXHIBIT_KEY_PASSPHRASE");
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        ran(self.command().args(args).output().unwrap())
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "exhibit {args:?}\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Makes the case `case` and acquires `source` into it; gives the bundle.
    pub(crate) fn case_with_disk(&self, source: &Path) -> PathBuf {
        self.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
        let ran = self.ok(&["acquire", "disk", source.to_str().unwrap(), "--case", "case", "--name", "disk"]);
        self.path(ran.stdout.trim_end().lines().last().unwrap())
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// Asserts the exit code and that the words name the thing.
    pub(crate) fn fails(&self, code: i32, names: &[&str]) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for name in names {
            assert!(self.stderr.contains(name), "{name:?} is not in: {}", self.stderr);
        }
    }
}

/// Bytes that do not compress, the same at every run (xorshift64).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

//! What checks work with: the settings, and what they lead to, each opened once and only when it is needed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use acquire::aws::sts::{CallerIdentity, Sts};
use acquire::aws::{Answered, Connection, Settings as CloudSettings};
use acquire::memory::Host;
use custody::bundle::{RemotePlace, Retention};
use custody::keys::Signer;
use custody::{Clock, SystemClock};

use super::check::{Unable, chain};
use crate::settings::Settings;
use crate::state::State;

/// Bytes of a child's output that are kept.
const MOST_OUTPUT: u64 = 4 << 20;

/// What checks work with.
pub struct Probe {
    /// What was set.
    pub settings: Settings,
    /// The service's state, or why it cannot be had.
    pub state: Result<Arc<State>, String>,
    /// This program.
    pub program: PathBuf,
    /// The key that captures are signed with, or why it cannot be had.
    pub signer: Result<Box<dyn Signer>, String>,
    /// `/`, or a folder with the files of a host.
    pub root: PathBuf,
    /// The clock that is judged.
    pub clock: Arc<dyn Clock>,
    pub(super) connection: OnceLock<Result<Connection, String>>,
    pub(super) caller: OnceLock<Result<Answered<CallerIdentity>, String>>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What a child gave.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    /// The last line that it said, for people.
    pub(crate) fn last_words(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr);
        said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }
}

impl Probe {
    /// Of this host and these settings; nothing is opened yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        state: Result<Arc<State>, String>,
        program: PathBuf,
        signer: Result<Box<dyn Signer>, String>,
    ) -> Self {
        Self {
            settings,
            state,
            program,
            signer,
            root: PathBuf::from("/"),
            clock: Arc::new(SystemClock),
            connection: OnceLock::new(),
            caller: OnceLock::new(),
        }
    }

    /// The same for the files of a host below another folder than `/`.
    #[must_use]
    pub fn below(mut self, root: &Path) -> Self {
        root.clone_into(&mut self.root);
        self
    }

    /// In an account that is connected to already.
    #[must_use]
    pub fn in_account(self, connection: Connection) -> Self {
        // Said once: what was said first stays.
        let _ = self.connection.set(Ok(connection));
        self
    }

    pub(super) fn state(&self) -> Result<&State, Unable> {
        self.state.as_deref().map_err(|why| Unable::untested(why.clone()))
    }

    /// Seconds since 1970 by this host's clock.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().wall_ns / 1_000_000_000
    }

    /// The cloud account, where the settings name one.
    pub(super) fn aws(&self) -> Result<&Connection, Unable> {
        let aws = &self.settings.aws;
        let is_named = aws.region.is_some()
            || aws.profile.is_some()
            || aws.endpoint_url.is_some()
            || !aws.accounts.is_empty()
            || self.settings.capture.to.is_some();
        if !is_named {
            return Err(Unable::none("the settings name no cloud account"));
        }
        let opened = self.connection.get_or_init(|| {
            let settings = CloudSettings {
                region: aws.region.clone(),
                profile: aws.profile.clone(),
                credentials: None,
                endpoint: aws.endpoint_url.clone(),
            };
            Connection::open(&settings).map_err(|error| chain(&error))
        });
        opened.as_ref().map_err(|why| Unable::untested(why.clone()))
    }

    /// Who we are in that account.
    pub(super) fn caller(&self) -> Result<&Answered<CallerIdentity>, Unable> {
        let connection = self.aws()?;
        let asked = self.caller.get_or_init(|| {
            let sts = Sts::new(connection).map_err(|failure| failure.to_string())?;
            sts.caller_identity().map_err(|failure| failure.to_string())
        });
        asked.as_ref().map_err(|why| Unable::untested(why.clone()))
    }

    /// The account and region, as a scope.
    pub(super) fn region_scope(&self) -> Result<String, Unable> {
        Ok(format!("{}/{}", self.caller()?.value.account, self.aws()?.region()))
    }

    /// The evidence store, where the settings name one.
    pub(super) fn evidence_store(&self) -> Result<(&Connection, RemotePlace), Unable> {
        let Some(to) = &self.settings.capture.to else {
            return Err(Unable::none("the settings name no evidence store (capture.to)"));
        };
        let connection = self.aws()?;
        let place = RemotePlace::parse(to)?.on(connection.region(), connection.endpoint())?;
        Ok((connection, place.retained(None::<Retention>)?))
    }

    /// The kernel's files.
    pub(super) fn host(&self) -> Host {
        Host::below(&self.root)
    }

    /// One small file of the host.
    pub(super) fn host_file(&self, path: &str) -> std::io::Result<String> {
        let mut text = Vec::new();
        let file = File::open(self.root.join(path.trim_start_matches('/')))?;
        file.take(1 << 20).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs this program with an argument vector, at most so long; it is killed then.
    pub(crate) fn exhibit(&self, arguments: &[&str], patience: Duration) -> Result<Ran, Unable> {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        if let Some(key) = &self.settings.capture.key {
            command.arg("--key").arg(key);
        }
        for identity in &self.settings.ready.identities {
            command.arg("--identity").arg(identity);
        }
        child(command, patience)
    }
}

/// Runs a command, at most so long; it is killed then.
pub(super) fn child(mut command: Command, patience: Duration) -> Result<Ran, Unable> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Unable::untested(format!("{name} could not be run: {error}"));
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(failed)?;
    let reader = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                // What is beyond the limit is read and dropped, so that the child never waits for us.
                let _ = pipe.by_ref().take(MOST_OUTPUT).read_to_end(&mut bytes);
                let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            }
            bytes
        })
    };
    let stdout = reader(running.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = reader(running.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let begun = Instant::now();
    let status = loop {
        match running.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if begun.elapsed() > patience => {
                let _ = running.kill();
                let _ = running.wait();
                return Err(Unable::untested(format!("{name} did not end within {} s", patience.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let (stdout, stderr) = (stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default());
    Ok(Ran { code: status.code(), stdout, stderr })
}

//! A host over SSH: our collector is put there, checked, run, its exhibit fetched, and all of it removed.
//!
//! - The programs of OpenSSH are children with argument vectors. The host's key must be in the file of known hosts; nothing is
//!   asked of a person; no agent, no forwarding, no settings of the account that the service runs as.
//! - The collector is a file whose SHA-256 is pinned in the settings. It lies in a folder that `mktemp` makes for us alone, is
//!   hashed there, and acquires for a commission (see `exhibit commission`), or with a grant where the evidence goes to a store.
//! - What comes back is a tar from the collector, read and checked by `exhibit commission --take`, which trusts nothing in it.
//! - The folder is removed whatever happened; what could not be removed is said. A run that was killed is cleaned up after by
//!   the next, which finds the folder by the job in its name.
//! - Left on the host are its own logs of our sessions, and the pages and blocks that the collector's files took meanwhile.
//!   Whoever owns the host's kernel can lie to us about all of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use custody::{Hasher, sha256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::programs::{Ended, Input, Limit, of_ours, run, run_piped};
use crate::steps::{Context, Failed};

/// Seconds for everything on the host unless told.
const TIME: u64 = 4 * 3600;
/// Seconds to remove what we put there.
const REMOVING: Duration = Duration::from_secs(120);
/// Bytes of a collector.
const MOST_COLLECTOR: u64 = 512 << 20;

/// One host in the settings: `[targets.ssh.NAME]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshSettings {
    /// Name or address.
    pub host: String,
    /// 22 unless told.
    #[serde(default)]
    pub port: Option<u16>,
    /// Account there.
    pub user: String,
    /// Private key of that account; a file without passphrase, for the service alone.
    pub identity_file: PathBuf,
    /// Known hosts; the host's key must be in it.
    pub known_hosts_file: PathBuf,
    /// The collector: a static `exhibit` for the host's processor.
    pub collector: PathBuf,
    /// Its SHA-256, in hexadecimal.
    pub collector_sha256: String,
    /// Whether the collector is run by `sudo -n`, where the account is not root.
    #[serde(default)]
    pub sudo: bool,
    /// Where the collector and what it acquires lie meanwhile: `/tmp` unless told. Programs must be allowed there.
    #[serde(default)]
    pub folder: Option<String>,
    /// Seconds to connect; 15 unless told.
    #[serde(default)]
    pub connect_timeout: Option<u64>,
    /// Seconds for everything; four hours unless told.
    #[serde(default)]
    pub time: Option<u64>,
    /// Bytes that may come back; 4 TiB unless told. With a grant: bytes that may be acquired, 100 GiB unless told.
    #[serde(default)]
    pub most: Option<u64>,
    /// The program, `ssh` unless told.
    #[serde(default)]
    pub program: Option<PathBuf>,
}

impl SshSettings {
    /// Looks whether the settings can be used, without connecting.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let host = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-%[]".contains(&byte);
        let user = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = |text: &str, plain: fn(u8) -> bool| {
            !text.is_empty() && text.len() <= 253 && !text.starts_with('-') && text.bytes().all(plain)
        };
        if !is_name(&self.host, host) {
            return Err(format!("{:?} is no host", self.host));
        }
        if !is_name(&self.user, user) {
            return Err(format!("{:?} is no account", self.user));
        }
        if self.collector_sha256.len() != 64
            || !self.collector_sha256.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err("collector_sha256 is no SHA-256 in hexadecimal".to_owned());
        }
        if !is_folder(self.folder()) {
            return Err(format!("{:?} is no folder that could be named in a command", self.folder()));
        }
        for (what, path) in [
            ("identity_file", &self.identity_file),
            ("known_hosts_file", &self.known_hosts_file),
            ("collector", &self.collector),
        ] {
            // Options of ssh know `~`, `%h` and blanks between several files.
            let text = path.to_str().unwrap_or_default();
            if !text.starts_with('/')
                || text.contains(['%', '"', '$'])
                || text.chars().any(char::is_whitespace)
            {
                return Err(format!(
                    "{what} {path:?} must be an absolute path without blanks, %, $ and quotes"
                ));
            }
        }
        Ok(())
    }

    fn folder(&self) -> &str {
        self.folder.as_deref().unwrap_or("/tmp")
    }

    /// Opens the collector, once its hash is the pinned one.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, in words.
    pub fn open_collector(&self) -> Result<File, String> {
        let fault =
            |error: std::io::Error| format!("the collector {:?} cannot be read: {error}", self.collector);
        let mut hasher = Hasher::new();
        let mut file = File::open(&self.collector).map_err(fault)?.take(MOST_COLLECTOR);
        let mut block = vec![0; 256 << 10];
        loop {
            match file.read(&mut block).map_err(fault)? {
                0 => break,
                read => hasher.update(block.get(..read).unwrap_or_default()),
            }
        }
        let found = hasher.finish().to_string();
        if !found.eq_ignore_ascii_case(&self.collector_sha256) {
            return Err(format!(
                "the collector {:?} has the SHA-256 {found}, not the one in the settings",
                self.collector
            ));
        }
        // Read again by who sends it; what arrives is hashed there.
        File::open(&self.collector).map_err(fault)
    }
}

/// Acquires on a host what `words` say, which are those after `exhibit acquire`, into the exhibit `name` of the job's case.
///
/// # Errors
///
/// [`Failed`], with what is left on the host if something is.
pub fn capture(
    context: &Context<'_>,
    settings: &SshSettings,
    name: &str,
    words: &[OsString],
) -> Result<Value, Failed> {
    settings.check().map_err(Failed::for_good)?;
    let kind = words.first().and_then(|word| word.to_str()).unwrap_or_default().to_owned();
    let words: Vec<String> =
        words.iter().map(|word| quoted(word.to_str().unwrap_or("\0"))).collect::<Option<_>>().ok_or_else(
            || Failed::for_good("a parameter holds a character that is not sent to another host"),
        )?;
    let tag = tag(context.job, context.id);
    let seconds = settings.time.unwrap_or(TIME).clamp(60, 7 * 24 * 3600);
    let host = Host {
        settings,
        limit: Limit { until: Instant::now() + Duration::from_secs(seconds), stop: Some(context.stop) },
    };
    let collector = settings.open_collector().map_err(Failed::for_good)?;
    // Before anything is touched: whoever answers must be the host that is known.
    let swept = host.sweep(&tag);
    if let Some(mut sealed) = super::containers::sealed(context.case, name)? {
        if let (Err(failed), Some(sealed)) = (swept, sealed.as_object_mut()) {
            sealed
                .insert("left".to_owned(), format!("what may be left on {}: {failed}", settings.host).into());
        }
        return Ok(sealed);
    }
    swept?;
    let work = work_folder(context, &tag)?;
    // A grant is good for one acquisition, which an earlier run may have begun, or even ended.
    let used = work.join("grant");
    if used.is_file() {
        let closed = close(context, &used)?;
        if !matches!(closed.code, Some(0 | 1)) {
            return Err(Failed::for_now(format!("an earlier grant could not be closed, {}", closed.told())));
        }
        fs::remove_file(&used).map_err(|error| Failed::for_now(format!("{used:?}: {error}")))?;
        if let Some(sealed) = super::containers::sealed(context.case, name)? {
            return Ok(sealed);
        }
    }
    let order = Order::take_up(context, settings, &work, name, &kind)?;
    (context.intend)(
        &json!({"host": settings.host, "folder": format!("{}/exhibit-{tag}.*", settings.folder())}),
    )
    .map_err(|error| Failed::for_now(error.to_string()))?;
    let folder = host.make_folder(&tag)?;
    let collected = host.collect(context, &folder, collector, &order, &words);
    let removed = host.remove(&folder);
    let left = removed
        .as_ref()
        .err()
        .map(|failed| format!("{folder} on {} was not removed: {failed}", settings.host));
    match (collected, left) {
        (Ok(mut told), left) => {
            if let Some(told) = told.as_object_mut() {
                told.insert("host".to_owned(), settings.host.clone().into());
                told.insert("removed".to_owned(), left.is_none().into());
                if let Some(left) = left {
                    told.insert("left".to_owned(), left.into());
                }
            }
            // The order is fulfilled: what is done again gets a new one.
            let _ = fs::remove_file(order.file());
            Ok(told)
        }
        (Err(failed), None) => Err(failed),
        (Err(failed), Some(left)) => {
            Err(Failed { what: format!("{}; {left}", failed.what), may_help_again: failed.may_help_again })
        }
    }
}

/// The name of the job's step in the folder's name there.
pub(crate) fn tag(job: &str, step: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect()
    };
    // Two steps whose names differ in what is replaced are still two.
    let short: String = sha256(format!("{job}\n{step}").as_bytes()).to_string().chars().take(8).collect();
    format!("{}-{}-{short}", plain(job), plain(step))
}

pub(crate) fn work_folder(context: &Context<'_>, tag: &str) -> Result<PathBuf, Failed> {
    let work = context.settings.state.join("collections").join(tag);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
    made.map_err(|error| Failed::for_now(format!("{work:?} cannot be made: {error}")))?;
    Ok(work)
}

/// By what the collector acquires for the case.
enum Order {
    Commission(PathBuf),
    Grant(PathBuf),
}

impl Order {
    /// The order of an earlier run of this step, or a new one.
    fn take_up(
        context: &Context<'_>,
        settings: &SshSettings,
        work: &Path,
        name: &str,
        kind: &str,
    ) -> Result<Self, Failed> {
        let is_stored = context.settings.capture.to.is_some();
        let file = work.join(if is_stored { "grant" } else { "commission" });
        let order = if is_stored { Self::Grant(file.clone()) } else { Self::Commission(file.clone()) };
        if file.is_file() {
            return Ok(order);
        }
        let capture = &context.settings.capture;
        let mut command = of_ours(context.program, context.settings);
        match &capture.to {
            None => command.args(["commission", "--kind", kind]),
            Some(place) => {
                let hours = (settings.time.unwrap_or(TIME) / 3600 + 1).clamp(1, 168);
                let size = settings.most.unwrap_or(100 << 30).to_string();
                account(
                    context,
                    command.args([
                        "grant",
                        "--to",
                        place,
                        "--kind",
                        kind,
                        "--hours",
                        &hours.to_string(),
                        "--size",
                        &size,
                    ]),
                )
            }
        };
        command.arg("--case").arg(context.case).args(["--name", name, "-o"]).arg(&file);
        for recipient in &capture.encrypt_to {
            command.args(["--encrypt-to", recipient]);
        }
        let limit = Limit { until: Instant::now() + Duration::from_secs(600), stop: Some(context.stop) };
        let ended = run(&mut command, Input::Nothing, limit)?;
        match ended.code {
            Some(0) => Ok(order),
            Some(2) => Err(Failed::for_good(format!("no order could be written, {}", ended.told()))),
            _ => Err(Failed::for_now(format!("no order could be written, {}", ended.told()))),
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::Commission(file) | Self::Grant(file) => file,
        }
    }

    fn option(&self) -> &'static str {
        match self {
            Self::Commission(_) => "--commission",
            Self::Grant(_) => "--grant",
        }
    }
}

/// In which account, as every command takes it.
pub(crate) fn account<'c>(context: &Context<'_>, command: &'c mut Command) -> &'c mut Command {
    let aws = &context.settings.aws;
    for (option, value) in
        [("--region", &aws.region), ("--aws-profile", &aws.profile), ("--endpoint-url", &aws.endpoint_url)]
    {
        if let Some(value) = value {
            command.args([option, value]);
        }
    }
    command
}

/// Ends a grant: takes what came into the case.
fn close(context: &Context<'_>, grant: &Path) -> Result<Ended, Failed> {
    let mut command = of_ours(context.program, context.settings);
    command.args(["grant", "--give-up", "--close"]).arg(grant).arg("--case").arg(context.case);
    let limit = Limit { until: Instant::now() + Duration::from_secs(3600), stop: Some(context.stop) };
    run(account(context, &mut command), Input::Nothing, limit)
}

/// Logs in and runs a command with the rights that a capture has; gives what the host says of itself.
///
/// # Errors
///
/// Why a capture would not get there, in words.
pub fn answers(settings: &SshSettings, until: Instant) -> Result<String, String> {
    let said = output_of(settings, "uname -sm", until)?;
    Ok(String::from_utf8_lossy(&said).trim().chars().take(200).collect())
}

/// Logs in and runs a command that only reads, with the rights that a capture has; gives what it writes.
///
/// # Errors
///
/// Why it did not, in words.
pub(crate) fn output_of(settings: &SshSettings, command: &str, until: Instant) -> Result<Vec<u8>, String> {
    let host = Host { settings, limit: Limit { until, stop: None } };
    let script = host.script(command).map_err(|failed| failed.to_string())?;
    let ended =
        run(&mut host.ssh(&script), Input::Nothing, host.limit).map_err(|failed| failed.to_string())?;
    match ended.code {
        Some(0) => Ok(ended.output),
        _ => Err(ended.told()),
    }
}

/// A host that is being worked on.
struct Host<'a> {
    settings: &'a SshSettings,
    limit: Limit<'a>,
}

impl Host<'_> {
    /// `ssh … HOST SCRIPT`.
    fn ssh(&self, script: &str) -> Command {
        let settings = self.settings;
        let mut command = Command::new(settings.program.as_deref().unwrap_or(Path::new("ssh")));
        // Nothing of our surroundings: no agent, no display, and English words.
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.args(["-F", "none", "-T", "-x", "-a"]);
        let timeout = settings.connect_timeout.unwrap_or(15).clamp(1, 300);
        let known = settings.known_hosts_file.display();
        for option in [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={known}"),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "ForwardAgent=no".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "PermitLocalCommand=no".to_owned(),
            "ControlPath=none".to_owned(),
            format!("ConnectTimeout={timeout}"),
            "ConnectionAttempts=1".to_owned(),
            "ServerAliveInterval=15".to_owned(),
            "ServerAliveCountMax=4".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.arg("-i").arg(&settings.identity_file);
        command.args([
            "-p",
            &settings.port.unwrap_or(22).to_string(),
            "-l",
            &settings.user,
            "--",
            &settings.host,
        ]);
        command.arg(script);
        command
    }

    /// A script for `/bin/sh` there, as root where `sudo` is set.
    fn script(&self, script: &str) -> Result<String, Failed> {
        let script = quoted(script).ok_or_else(|| Failed::for_good("a script holds what no shell takes"))?;
        Ok(if self.settings.sudo {
            format!("sudo -n -- /bin/sh -c {script}")
        } else {
            format!("/bin/sh -c {script}")
        })
    }

    fn run(&self, script: &str, input: Input, limit: Limit<'_>) -> Result<Ended, Failed> {
        let ended = run(&mut self.ssh(script), input, limit)?;
        match ended.code {
            // ssh itself, not the script.
            Some(255) | None => Err(self.unreached(&ended)),
            _ => Ok(ended),
        }
    }

    /// What ssh says when there is no session.
    fn unreached(&self, ended: &Ended) -> Failed {
        let words = ended.words();
        let host = &self.settings.host;
        if words.contains("Host key verification failed") || words.contains("IDENTIFICATION HAS CHANGED") {
            return Failed::for_good(format!(
                "the key of {host} is not the one in the file of known hosts: it was installed anew, or someone stands between; nothing was sent ({words})"
            ));
        }
        if words.contains("Permission denied") {
            return Failed::for_good(format!("{host} does not let us in: {words}"));
        }
        Failed::for_now(format!("{host} cannot be reached: {words}"))
    }

    /// Makes a folder for us alone.
    fn make_folder(&self, tag: &str) -> Result<String, Failed> {
        let ended = self.run(
            &format!("umask 077 && mktemp -d {}/exhibit-{tag}.XXXXXXXXXX", self.settings.folder()),
            Input::Nothing,
            self.limit,
        )?;
        let said = String::from_utf8_lossy(&ended.output).trim().to_owned();
        match ended.code {
            Some(0) if self.is_ours(&said, tag) => Ok(said),
            Some(0) => Err(Failed::for_good("the host named a folder that was not asked for")),
            _ => Err(Failed::for_now(format!("no folder could be made, {}", ended.told()))),
        }
    }

    /// Whether a path from the host is one of the folders that we make.
    fn is_ours(&self, path: &str, tag: &str) -> bool {
        let rest = path.strip_prefix(self.settings.folder()).and_then(|rest| rest.strip_prefix("/exhibit-"));
        let end = rest.and_then(|rest| rest.strip_prefix(tag)).and_then(|rest| rest.strip_prefix('.'));
        end.is_some_and(|end| end.len() == 10 && end.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }

    /// Removes what an earlier run of this step has left.
    fn sweep(&self, tag: &str) -> Result<(), Failed> {
        let script = format!("ls -d {}/exhibit-{tag}.* 2>/dev/null || true", self.settings.folder());
        let ended = self.run(&self.plain_script(&script)?, Input::Nothing, self.limit)?;
        let said = String::from_utf8_lossy(&ended.output).into_owned();
        for path in said.lines().filter(|path| self.is_ours(path, tag)) {
            self.remove(path)?;
        }
        Ok(())
    }

    /// A script by the account itself.
    fn plain_script(&self, script: &str) -> Result<String, Failed> {
        let script = quoted(script).ok_or_else(|| Failed::for_good("a script holds what no shell takes"))?;
        Ok(format!("/bin/sh -c {script}"))
    }

    /// Puts the collector there, runs it, and fetches what it acquired.
    fn collect(
        &self,
        context: &Context<'_>,
        folder: &str,
        collector: File,
        order: &Order,
        words: &[String],
    ) -> Result<Value, Failed> {
        let put = |name: &str, mode: &str, input: Input| -> Result<(), Failed> {
            let script = format!("umask 077 && cat > {folder}/{name} && chmod {mode} {folder}/{name}");
            let ended = self.run(&self.plain_script(&script)?, input, self.limit)?;
            match ended.code {
                Some(0) => Ok(()),
                _ => Err(Failed::for_now(format!("{name} could not be put on the host, {}", ended.told()))),
            }
        };
        put("exhibit", "0500", Input::File(collector))?;
        self.check_collector(folder)?;
        let order_bytes = fs::read(order.file())
            .map_err(|error| Failed::for_now(format!("{:?}: {error}", order.file())))?;
        put("order", "0400", Input::Bytes(order_bytes))?;
        let script = format!(
            "cd {folder} && umask 077 && echo $$ > pid && XDG_DATA_HOME={folder}/data exec ./exhibit --json --no-progress acquire {} {} {folder}/order --log-in {folder}",
            words.join(" "),
            order.option(),
        );
        let ended = self.run(&self.script(&script)?, Input::Nothing, self.limit)?;
        let issues = ended
            .documents()
            .iter()
            .filter_map(|document| document.get("issue_count")?.as_u64())
            .sum::<u64>();
        match ended.code {
            Some(0 | 1) => {}
            Some(2 | 126 | 127) => {
                return Err(Failed::for_good(format!("the collector could not be run, {}", ended.told())));
            }
            _ => return Err(Failed::for_now(format!("the collector ended with {}", ended.told()))),
        }
        let mut told = match order {
            Order::Commission(file) => self.fetch(context, folder, file)?,
            Order::Grant(file) => {
                let closed = close(context, file)?;
                if !matches!(closed.code, Some(0 | 1)) {
                    return Err(Failed::for_now(format!("the grant could not be closed, {}", closed.told())));
                }
                closed.documents().into_iter().next().unwrap_or_default()
            }
        };
        if let Some(told) = told.as_object_mut() {
            told.insert("issues".to_owned(), issues.into());
        }
        Ok(told)
    }

    /// Whether what arrived is what was sent, as far as the host can be believed.
    fn check_collector(&self, folder: &str) -> Result<(), Failed> {
        let script = format!("sha256sum < {folder}/exhibit || shasum -a 256 < {folder}/exhibit");
        let ended = self.run(&self.plain_script(&script)?, Input::Nothing, self.limit)?;
        let said = String::from_utf8_lossy(&ended.output).into_owned();
        let found = said.split_whitespace().next().unwrap_or_default();
        if ended.code != Some(0) {
            return Err(Failed::for_good(format!(
                "the collector could not be hashed on the host, {}",
                ended.told()
            )));
        }
        if !found.eq_ignore_ascii_case(&self.settings.collector_sha256) {
            return Err(Failed::for_now("the collector was changed on its way to the host: it was not run"));
        }
        Ok(())
    }

    /// Streams the exhibit into the case.
    fn fetch(&self, context: &Context<'_>, folder: &str, commission: &Path) -> Result<Value, Failed> {
        let bytes =
            fs::read(commission).map_err(|error| Failed::for_now(format!("{commission:?}: {error}")))?;
        let exhibit =
            custody::Commission::from_bytes(&bytes).map_err(|error| Failed::for_good(error.to_string()))?;
        let name = exhibit.folder_name();
        let mut from = self.ssh(
            &self.script(&format!("cd {folder} && exec ./exhibit -q commission --give {folder}/{name}"))?,
        );
        let mut into = of_ours(context.program, context.settings);
        into.args(["commission", "--take", "-", "--commission"])
            .arg(commission)
            .arg("--case")
            .arg(context.case);
        if let Some(most) = self.settings.most {
            into.args(["--most", &most.to_string()]);
        }
        let (given, taken) = run_piped(&mut from, &mut into, self.limit)?;
        match (given.code, taken.code) {
            (_, Some(0 | 1)) => Ok(taken.documents().into_iter().next().unwrap_or_default()),
            (Some(255) | None, _) => Err(self.unreached(&given)),
            (Some(0), _) => Err(Failed::for_now(format!("what came was not taken in, {}", taken.told()))),
            (Some(_), _) => Err(Failed::for_now(format!("the exhibit was not sent, {}", given.told()))),
        }
    }

    /// Ends the collector if it still runs, and removes the folder. It has time of its own, also when all other time is over.
    fn remove(&self, folder: &str) -> Result<(), Failed> {
        let script = format!(
            "p=$(cat {folder}/pid 2>/dev/null); case $p in \"\"|*[!0-9]*) ;; *) \
             if [ \"$(readlink /proc/$p/exe)\" = {folder}/exhibit ]; then kill $p; n=0; \
             while kill -0 $p 2>/dev/null && [ $n -lt 20 ]; do sleep 1; n=$((n+1)); done; kill -9 $p 2>/dev/null; fi;; esac; \
             rm -rf -- {folder}; [ ! -e {folder} ]"
        );
        let limit = Limit { until: Instant::now() + REMOVING, stop: None };
        let ended = self.run(&self.script(&script)?, Input::Nothing, limit)?;
        match ended.code {
            Some(0) => Ok(()),
            _ => Err(Failed::for_now(ended.told())),
        }
    }
}

/// A folder as it may stand in a command.
pub(crate) fn is_folder(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    path.starts_with('/')
        && path.len() > 1
        && path.len() <= 200
        && !path.ends_with('/')
        && path.bytes().all(plain)
        && !path.split('/').any(|part| part == ".." || part.starts_with('-'))
}

/// A word as any shell takes it: in single quotes. `None` for what cannot be so in all of them.
pub(crate) fn quoted(word: &str) -> Option<String> {
    if word.chars().any(|c| c.is_control()) {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:,@+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SshSettings {
        serde_json::from_value(json!({
            "host": "web01.example", "user": "responder", "identity_file": "/k/id", "known_hosts_file": "/k/known",
            "collector": "/k/exhibit", "collector_sha256": "ab".repeat(32),
        }))
        .unwrap()
    }

    #[test]
    fn settings_that_a_command_could_misread_are_refused() {
        assert_eq!(settings().check(), Ok(()));
        let wrong: [fn(&mut SshSettings); 9] = [
            |s| s.host = "-oProxyCommand=x".to_owned(),
            |s| s.host = "a b".to_owned(),
            |s| s.user = "-lroot".to_owned(),
            |s| s.user = String::new(),
            |s| s.collector_sha256 = "ab".to_owned(),
            |s| s.folder = Some("/tmp/$(id)".to_owned()),
            |s| s.folder = Some("/tmp/../etc".to_owned()),
            |s| s.known_hosts_file = "/k/a b".into(),
            |s| s.identity_file = "relative".into(),
        ];
        for change in wrong {
            let mut changed = settings();
            change(&mut changed);
            assert!(changed.check().is_err(), "{changed:?}");
        }
    }

    #[test]
    fn words_reach_the_other_shell_as_they_are() {
        for word in ["plain", "two words", "a'b", "$(id)", "`id`", "; rm -rf /", "*", "!", "\\", "", "ü"] {
            let script = format!("printf %s {}", quoted(word).unwrap());
            // Once more, as it is quoted for the login shell and for /bin/sh there.
            let output = Command::new("/bin/sh")
                .args(["-c", &format!("/bin/sh -c {}", quoted(&script).unwrap())])
                .output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
        assert_eq!(quoted("a\nb"), None);
        assert_eq!(quoted("a\0b"), None);
    }

    #[test]
    fn only_folders_of_our_own_making_are_believed_and_removed() {
        let settings = settings();
        let host = Host { settings: &settings, limit: Limit { until: Instant::now(), stop: None } };
        let tag = tag("J000017", "triage");
        assert!(host.is_ours(&format!("/tmp/exhibit-{tag}.aB3dE6gH9j"), &tag));
        for path in [
            "/",
            "/tmp",
            "/tmp/exhibit-x.aB3dE6gH9j",
            &format!("/tmp/exhibit-{tag}./../../etc"),
            &format!("/etc/exhibit-{tag}.aB3dE6gH9j"),
            "",
        ] {
            assert!(!host.is_ours(path, &tag), "{path}");
        }
        assert_ne!(super::tag("J1", "a.b"), super::tag("J1", "a-b"));
    }

    #[test]
    fn no_agent_no_question_and_only_the_known_key() {
        let settings = settings();
        let host = Host { settings: &settings, limit: Limit { until: Instant::now(), stop: None } };
        let command = host.ssh("true");
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        for needed in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UserKnownHostsFile=/k/known",
            "ForwardAgent=no",
            "-a",
        ] {
            assert!(words.contains(&needed), "{needed}");
        }
        assert_eq!(&words[words.len() - 3..], ["--", "web01.example", "true"]);
    }
}

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
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::programs::{Ended, Input, Limit, of_ours, run, run_piped};
use super::shell_words::quoted;
use super::ssh_order::{Order, close, end_earlier, tag, work_folder};
pub use super::ssh_settings::SshSettings;
use crate::steps::exhibits::sealed;
use crate::steps::{Context, Failed};

/// Seconds to remove what we put there.
const REMOVING: Duration = Duration::from_secs(120);
/// Folders of earlier runs that are removed at once.
const MOST_LEFT: usize = 20;

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
    // By the exhibit: one step may have several, as of the containers of a pod.
    let tag = tag(context.job, name);
    let until = Instant::now() + Duration::from_secs(settings.seconds());
    let host = Host { settings, limit: Limit { until, stop: Some(context.stop) } };
    let collector = settings.open_collector().map_err(Failed::for_good)?;
    // Before anything is touched: whoever answers must be the host that is known.
    let swept = host.sweep(&tag);
    let work = work_folder(context, &tag)?;
    end_earlier(context, &work)?;
    if let Some(mut sealed) = sealed(context.case, name)? {
        let left =
            swept.unwrap_or_else(|failed| vec![format!("what may be left on {}: {failed}", settings.host)]);
        tell_left(&mut sealed, &left);
        return Ok(sealed);
    }
    let mut left = swept?;
    // A grant is good for one acquisition, which an earlier run may have begun, or even ended.
    let used = work.join("grant");
    if used.is_file() {
        let closed = close(context, &used)?;
        if !matches!(closed.code, Some(0 | 1)) {
            return Err(Failed::for_now(format!("an earlier grant could not be closed, {}", closed.told())));
        }
        fs::remove_file(&used).map_err(|error| Failed::for_now(format!("{used:?}: {error}")))?;
        if let Some(mut sealed) = sealed(context.case, name)? {
            tell_left(&mut sealed, &left);
            return Ok(sealed);
        }
    }
    let order = Order::take_up(context, settings, &work, name, &kind)?;
    (context.intend)(
        &json!({"host": settings.host, "folder": format!("{}/exhibit-{tag}.*", settings.folder())}),
    )
    .map_err(|error| Failed::for_now(error.to_string()))?;
    let folder = host.make_folder(&tag)?;
    let collected = host.collect(context, &folder.path, collector, &order, &words);
    let path = folder.path.clone();
    let removed = folder.remove();
    if let Err(failed) = &removed {
        left.push(format!("{path} on {} was not removed: {failed}", settings.host));
    }
    match collected {
        Ok(mut told) => {
            tell_left(&mut told, &left);
            if let Some(told) = told.as_object_mut() {
                told.insert("host".to_owned(), settings.host.clone().into());
                told.insert("removed".to_owned(), left.is_empty().into());
            }
            // The order is fulfilled: what is done again gets a new one.
            let _ = fs::remove_file(order.file());
            Ok(told)
        }
        Err(failed) if left.is_empty() => Err(failed),
        Err(failed) => Err(Failed {
            what: format!("{}; {}", failed.what, left.join("; ")),
            may_help_again: failed.may_help_again,
        }),
    }
}

/// Adds to a result what could not be removed.
fn tell_left(told: &mut Value, left: &[String]) {
    if let (Some(told), false) = (told.as_object_mut(), left.is_empty()) {
        told.insert("left".to_owned(), left.join("; ").into());
    }
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
    fn make_folder(&self, tag: &str) -> Result<Folder<'_>, Failed> {
        let ended = self.run(
            &format!("umask 077 && mktemp -d {}/exhibit-{tag}.XXXXXXXXXX", self.settings.folder()),
            Input::Nothing,
            self.limit,
        )?;
        let said = String::from_utf8_lossy(&ended.output).trim().to_owned();
        match ended.code {
            Some(0) if self.is_ours(&said, tag) => Ok(Folder { host: self, path: said, is_removed: false }),
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

    /// Removes what earlier runs of this step have left. Gives what could not be removed, which is no reason to take nothing.
    fn sweep(&self, tag: &str) -> Result<Vec<String>, Failed> {
        let script = format!("ls -d {}/exhibit-{tag}.* 2>/dev/null || true", self.settings.folder());
        let ended = self.run(&self.plain_script(&script)?, Input::Nothing, self.limit)?;
        let said = String::from_utf8_lossy(&ended.output).into_owned();
        let mut left = Vec::new();
        for path in said.lines().filter(|path| self.is_ours(path, tag)).take(MOST_LEFT) {
            if let Err(failed) = self.remove(path) {
                left.push(format!(
                    "{path} on {} is of an earlier run and was not removed: {failed}",
                    self.settings.host
                ));
            }
        }
        Ok(left)
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
        let issues = ended.issues();
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
        if told.get("sealed") != Some(&Value::Bool(true)) {
            // It has the order's exhibit; another try needs another.
            let _ = fs::remove_file(order.file());
            let exhibit = told.get("exhibit").and_then(Value::as_str).unwrap_or("what came");
            return Err(Failed::for_now(format!(
                "{exhibit} was not sealed by the collector: it is kept in the case as it came, and stays OPEN"
            )));
        }
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
        let words = format!("what came was not taken in, {}", taken.told());
        match (given.code, taken.code) {
            (_, Some(0 | 1)) => Ok(taken.documents().into_iter().next().unwrap_or_default()),
            // Ended by us, who read no further, or by the network.
            (Some(255) | None, _) => {
                let failed = self.unreached(&given);
                Err(Failed { what: format!("{words}; {}", failed.what), ..failed })
            }
            (Some(0), _) => Err(Failed::for_now(words)),
            (Some(_), _) => Err(Failed::for_now(format!("{words}; it was sent with {}", given.told()))),
        }
    }

    /// Ends the collector if it still runs, and removes the folder. It has time of its own, also when all other time is over.
    fn remove(&self, folder: &str) -> Result<(), Failed> {
        let script = format!(
            "p=$(cat {folder}/pid 2>/dev/null); case $p in \"\"|*[!0-9]*) ;; *) \
             if [ /proc/$p/exe -ef {folder}/exhibit ]; then kill $p; n=0; \
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

/// A folder there, which is removed whatever happens to the work in it.
struct Folder<'h> {
    host: &'h Host<'h>,
    path: String,
    is_removed: bool,
}

impl Folder<'_> {
    fn remove(mut self) -> Result<(), Failed> {
        self.is_removed = true;
        self.host.remove(&self.path)
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        if !self.is_removed {
            // Where even this fails, the next run finds it.
            let _ = self.host.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ssh_settings::tests::settings;
    use super::*;

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

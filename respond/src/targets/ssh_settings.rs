//! What is set of a host over SSH.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use custody::Hasher;
use serde::Deserialize;

use super::shell_words::is_folder;

/// Seconds for everything on the host unless told.
const TIME: u64 = 4 * 3600;
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

    /// Seconds for everything there.
    pub(super) fn seconds(&self) -> u64 {
        self.time.unwrap_or(TIME).clamp(60, 7 * 24 * 3600)
    }

    pub(super) fn folder(&self) -> &str {
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

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::targets) fn settings() -> SshSettings {
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
}

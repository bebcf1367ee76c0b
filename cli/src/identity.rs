//! Who is acting, with which program, on which machine: the same for every entry of a run.

use std::fs::File;
use std::sync::OnceLock;

use custody::digest::{Digest, sha256_of};
use custody::{Actor, Host, Identity, Tool};

/// The identity of this run. `name` and `org` are the examiner's, from the case.
pub(crate) fn of_this_run(name: &str, org: Option<&str>) -> Identity {
    Identity {
        actor: Actor {
            name: name.to_owned(),
            role: "examiner".to_owned(),
            org: org.unwrap_or_default().to_owned(),
            ..Actor::default()
        },
        tool: tool(),
        host: host(),
        ..Identity::default()
    }
}

/// This program: name, version, and the SHA-256 of the very file that runs, which is hashed once.
pub(crate) fn tool() -> Tool {
    static BUILD: OnceLock<Option<Digest>> = OnceLock::new();
    let hash = || sha256_of(File::open("/proc/self/exe").ok()?).ok();
    Tool {
        name: "exhibit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build_sha256: *BUILD.get_or_init(hash),
    }
}

/// This machine, as far as it says so itself.
pub(crate) fn host() -> Host {
    let system = rustix::system::uname();
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned());
    let kernel = format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy());
    Host {
        name: system.nodename().to_string_lossy().into_owned(),
        machine: std::fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned(),
        os: pretty.map_or_else(|| kernel.clone(), |pretty| format!("{pretty}, {kernel}")),
    }
}

/// What was typed to start this run, as a shell would take it again; without what may hold a secret.
pub(crate) fn command_line() -> String {
    let mut words = Vec::new();
    let mut hidden = false;
    for word in std::env::args_os() {
        let word = word.to_string_lossy().into_owned();
        let is_plain =
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
        words.push(match word.as_str() {
            _ if hidden => "[not told]".to_owned(),
            word if word.starts_with("--sign-cmd=") => "--sign-cmd=[not told]".to_owned(),
            word if is_plain => word.to_owned(),
            word => format!("'{}'", word.replace('\'', "'\\''")),
        });
        hidden = word == "--sign-cmd";
    }
    words.join(" ")
}

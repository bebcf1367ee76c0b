//! The symbols pack: what it takes to make sense of a memory image, taken from the same running kernel.
//!
//! Without the kernel's own symbols and type layouts an image is often of no use, and neither can be had later: a kernel
//! is loaded at a random address at each boot. Members keep the paths they have on the machine; `/proc/kcore.vmcoreinfo`
//! is the text of the VMCOREINFO note in `/proc/kcore`.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::host::Host;
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// Bytes of one member that are taken at most. `/proc/kallsyms` is the longest, with some ten MiB.
const LONGEST: u64 = 256 << 20;

/// What an analysis fails without: missing, it is an issue.
const NEEDED: [&str; 4] = ["/proc/kallsyms", "/sys/kernel/btf/vmlinux", "/proc/version", "/proc/iomem"];

/// What helps, and what many kernels do not have.
const HELPFUL: [&str; 7] = [
    "/sys/kernel/notes",
    "/proc/cmdline",
    "/proc/modules",
    "/proc/swaps",
    "/proc/meminfo",
    "/sys/kernel/security/lockdown",
    "/proc/sys/kernel/kptr_restrict",
];

/// Packs the symbols; gives those that are missing, with the reason.
///
/// # Errors
///
/// What stops the bundle from being written. A file that cannot be had is never one.
pub(crate) fn pack(host: &Host, vmcoreinfo: Option<&[u8]>, packer: &mut TarPacker<'_>) -> Result<Vec<Value>> {
    let mut missing = Vec::new();
    let mut miss = |path: &str, why: String| {
        let of = [("path".to_owned(), path.into()), ("why".to_owned(), why.into())];
        missing.push(Value::Object(Map::from_iter(of)));
    };
    for path in NEEDED.into_iter().chain(HELPFUL) {
        let problem = match host.read(path, LONGEST) {
            Ok(bytes) => {
                packer.made(path, &bytes)?;
                (path == "/proc/kallsyms" && are_hidden(&bytes)).then(|| hidden_words(host))
            }
            Err(error) => Some(missing_words(&error)),
        };
        let Some(why) = problem else { continue };
        if NEEDED.contains(&path) {
            packer.note(Path::new(path), &format!("symbols: {why}"));
        }
        miss(path, why);
    }
    match vmcoreinfo {
        Some(text) => packer.made("/proc/kcore.vmcoreinfo", text)?,
        None => {
            let why = "no VMCOREINFO note could be read from /proc/kcore".to_owned();
            packer.note(Path::new("/proc/kcore.vmcoreinfo"), &format!("symbols: {why}"));
            miss("/proc/kcore.vmcoreinfo", why);
        }
    }
    let release = host.release();
    for name in ["System.map", "config"] {
        let Some(release) = &release else {
            miss(&format!("/boot/{name}"), "the kernel does not say its release".to_owned());
            continue;
        };
        let path = format!("/boot/{name}-{release}");
        match host.open(&path) {
            Ok(file) => packer.file_at(Path::new(path.trim_start_matches('/')), &file, Some(LONGEST))?,
            Err(error) => miss(&path, missing_words(&error)),
        }
    }
    Ok(missing)
}

fn missing_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Whether no symbol has an address, as the kernel hides them all. Some are zero in any kernel.
fn are_hidden(kallsyms: &[u8]) -> bool {
    let address = |line: &[u8]| line.split(|&byte| byte == b' ').next().map(<[u8]>::to_vec);
    let mut addresses =
        kallsyms.split(|&byte| byte == b'\n').filter_map(address).filter(|digits| !digits.is_empty());
    addresses.all(|digits| digits.iter().all(|&digit| digit == b'0'))
}

fn hidden_words(host: &Host) -> String {
    match host.text("/proc/sys/kernel/kptr_restrict").as_deref() {
        Some("2") => {
            "every address is zero, as kernel.kptr_restrict is 2, which hides them from root too".to_owned()
        }
        Some(value) => format!(
            "every address is zero: this process lacks CAP_SYSLOG, or the kernel hides them (kernel.kptr_restrict is {value})"
        ),
        None => "every address is zero: the kernel hides them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_any_address_is_hidden_and_one_with_some_is_not() {
        assert!(are_hidden(b"0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n"));
        assert!(!are_hidden(b"0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n"));
        assert!(are_hidden(b""));
    }
}

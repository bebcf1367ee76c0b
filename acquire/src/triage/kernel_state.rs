//! What the kernel says of itself: modules, symbols, settings, log, tracing, security.
//!
//! - `/V4/proc/…` and `/V4/sys/…`: the files as they were read, each up to a limit.
//! - `/V4/modules.jsonl`: each module, with which of `/proc/modules`, `/sys/module` and `/proc/kallsyms` knows it. One that
//!   is missing from any of them is an issue.
//! - `/V4/sysctl.jsonl`: every setting below `/proc/sys`. `/V4/kmsg`: the log, as `/dev/kmsg` gives it.
//! - `/V4/bpf_pins.jsonl`: names in `/sys/fs/bpf`. What programs processes hold is in `V2/processes.jsonl`, from
//!   `fdinfo`; programs that only the kernel holds are not seen without a call of `bpf(2)`, which is not made.
//! - Nothing is mounted on the way: `debugfs/tracing` and `binfmt_misc` are read only where they are mounted already.
//! - Never read: `/proc/kmsg` (it would take the messages away), `kcore`, `trace_pipe`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::clock::Clock;
use rustix::fs::CWD;

use super::bounded_reads::{Patience, Taken, open_below, read_below};
use super::kernel_files::{PROC, SYS, TRACING};
use super::live_table::{LiveTable, Row};
use crate::error::Result;
use crate::tar_packer::TarPacker;

const LIMIT: Duration = Duration::from_secs(10);
/// Bytes kept of one file.
const MOST: usize = 64 << 20;
/// Bytes kept of one setting or parameter.
const SETTING: usize = 64 << 10;
/// Settings, modules, parameters, pins: each at most.
const MOST_NAMES: usize = 50_000;

/// The bits of `/proc/sys/kernel/tainted`, from bit 0. Reference: `Documentation/admin-guide/tainted-kernels.rst`.
const TAINTS: [&str; 19] = [
    "proprietary module",
    "module was forced to load",
    "kernel on an out of specification system",
    "module was forced to unload",
    "machine check exception",
    "bad page",
    "taint asked for by user space",
    "kernel died",
    "ACPI table overridden",
    "kernel warning",
    "staging driver",
    "workaround for a firmware bug",
    "module from outside the tree",
    "unsigned module",
    "soft lockup",
    "live patch",
    "taint of a distribution",
    "randomised structures",
    "in-kernel test",
];

/// Takes the state of the running kernel.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn kernel_state(out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    kernel_state_at(Path::new("/"), out, clock)
}

/// Takes the state of the kernel whose `/proc`, `/sys` and `/dev` lie below `root`.
pub(crate) fn kernel_state_at(root: &Path, out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    let mut state = KernelState { root, patience: Patience::of(LIMIT), observed: clock.now().rfc3339() };
    // The oldest messages go first as new ones come.
    state.log(out)?;
    state.modules(out)?;
    for name in PROC {
        state.keep(&format!("proc/{name}"), out)?;
    }
    for name in SYS {
        state.keep(&format!("sys/{name}"), out)?;
    }
    state.tracing(out)?;
    state.settings(out)?;
    state.formats(out)?;
    state.pins(out)?;
    state.taint(out)
}

struct KernelState<'a> {
    root: &'a Path,
    patience: Patience,
    observed: String,
}

impl KernelState<'_> {
    fn read(&mut self, path: PathBuf, most: usize) -> io::Result<Taken> {
        self.patience.wait(move || match path.to_str() {
            Some(path) => read_below(CWD, path, most),
            None => Err(io::ErrorKind::InvalidFilename.into()),
        })
    }

    /// Keeps a file if it is there; most kernels have some of them only.
    fn keep(&mut self, name: &str, out: &mut TarPacker<'_>) -> Result<()> {
        let path = self.root.join(name);
        match self.read(path.clone(), MOST) {
            Ok(taken) => {
                if taken.cut {
                    out.note(&path, &format!("only its first {} bytes", taken.bytes.len()));
                }
                out.made(&format!("V4/{name}"), &taken.bytes)?;
                if name == "proc/kallsyms" && addresses_are_hidden(&taken.bytes) {
                    out.note(&path, "all addresses are 0: kptr_restrict, or no CAP_SYSLOG");
                }
                Ok(())
            }
            Err(error) if is_absent(&error) => Ok(()),
            Err(error) => {
                out.note(&path, &format!("unreadable: {error}"));
                Ok(())
            }
        }
    }

    /// The kernel's log from its oldest message to now, one record a read.
    fn log(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let path = self.root.join("dev/kmsg");
        let to_read = path.clone();
        let read = self.patience.wait(move || {
            let name = to_read.to_str().ok_or(io::ErrorKind::InvalidFilename)?;
            read_records(&mut open_below(CWD, name)?)
        });
        match read {
            Ok((bytes, lost, cut)) => {
                if lost > 0 {
                    out.note(&path, &format!("records were overwritten {lost} times while they were read"));
                }
                if cut {
                    out.note(&path, &format!("only its first {} bytes", bytes.len()));
                }
                out.made("V4/kmsg", &bytes)
            }
            Err(error) => {
                out.note(&path, &format!("the kernel's log is not read: {error}"));
                Ok(())
            }
        }
    }

    fn modules(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let listed = self.read(self.root.join("proc/modules"), MOST);
        let Ok(listed) = listed else {
            out.note(
                &self.root.join("proc/modules"),
                "not there: the kernel takes no modules, or hides them",
            );
            return Ok(());
        };
        let symbols = self.read(self.root.join("proc/kallsyms"), MOST).unwrap_or_default();
        let in_symbols = modules_in_symbols(&symbols.bytes);
        let folder = self.root.join("sys/module");
        let to_read = folder.clone();
        let in_sys = self.patience.wait(move || sys_modules(&to_read)).unwrap_or_default();
        let in_proc: BTreeMap<String, Vec<String>> = String::from_utf8_lossy(&listed.bytes)
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ').map(str::to_owned);
                Some((fields.next()?, fields.collect()))
            })
            .collect();
        let names: BTreeSet<&String> = in_proc.keys().chain(in_sys.keys()).chain(&in_symbols).collect();
        let mut about = serde_json::Map::new();
        about.insert("observed".to_owned(), self.observed.clone().into());
        let mut table = LiveTable::new("V4/modules", "exhibit-live-modules/1", about);
        for name in names {
            let mut row = Row::default();
            row.text("name", name.as_bytes());
            if let Some(fields) = in_proc.get(name) {
                let keys = ["size", "references", "used_by", "state", "address", "taint"];
                for (key, value) in keys.iter().zip(fields) {
                    row.text(key, value.as_bytes());
                }
            }
            for (key, value) in in_sys.get(name).into_iter().flatten() {
                row.text(&format!("sys_{key}"), value);
            }
            let views = [
                ("/proc/modules", in_proc.contains_key(name)),
                ("/sys/module", in_sys.contains_key(name)),
                // A module without symbols of its own is not there.
                ("/proc/kallsyms", in_symbols.contains(name)),
            ];
            let there = |is: bool| -> Vec<&str> {
                views.iter().filter(|(_, known)| *known == is).map(|(view, _)| *view).collect()
            };
            row.put("known_to", there(true));
            let is_odd = !in_proc.contains_key(name) || !in_sys.contains_key(name);
            if is_odd {
                row.put("hidden", format!("not in {}", there(false).join(", ")));
                let what =
                    format!("module known to {}, not to {}", there(true).join(", "), there(false).join(", "));
                out.note(&folder.join(name), &what);
            }
            table.row(out, row.into_map())?;
        }
        table.end(out)
    }

    fn tracing(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let mounts = self.read(self.root.join("proc/self/mountinfo"), MOST).unwrap_or_default();
        let place = ["sys/kernel/tracing", "sys/kernel/debug/tracing"]
            .into_iter()
            .find(|place| is_mounted(&mounts.bytes, place, "tracefs"));
        let Some(place) = place else {
            out.note(
                &self.root.join("sys/kernel/tracing"),
                "tracefs is not mounted, so its state is not read",
            );
            return Ok(());
        };
        for name in TRACING {
            self.keep(&format!("{place}/{name}"), out)?;
        }
        let instances = self.root.join(place).join("instances");
        let names = self.patience.wait(move || names_in(&instances)).unwrap_or_default();
        for name in names.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
            for file in ["current_tracer", "tracing_on", "set_event", "set_ftrace_filter"] {
                self.keep(&format!("{place}/instances/{name}/{file}"), out)?;
            }
        }
        Ok(())
    }

    /// All of `/proc/sys`, name by name.
    fn settings(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let top = self.root.join("proc/sys");
        let mut about = serde_json::Map::new();
        about.insert("observed".to_owned(), self.observed.clone().into());
        let mut table = LiveTable::new("V4/sysctl", "exhibit-live-sysctl/1", about);
        let mut folders = vec![top.clone()];
        let mut taken = 0usize;
        while let Some(folder) = folders.pop() {
            // A mount of its own, and perhaps one that entering would make.
            if folder.ends_with("fs/binfmt_misc") {
                continue;
            }
            let to_list = folder.clone();
            let Ok((below, files)) = self.patience.wait(move || folders_and_files(&to_list)) else {
                continue;
            };
            folders.extend(below.into_iter().rev());
            for file in files {
                taken += 1;
                if taken > MOST_NAMES {
                    out.note(&top, &format!("only {MOST_NAMES} settings were read"));
                    return table.end(out);
                }
                let mut row = Row::default();
                let name = file.strip_prefix(&top).unwrap_or(&file);
                row.text("name", name.as_os_str().as_bytes());
                match self.read(file, SETTING) {
                    Ok(taken) => {
                        row.text("value", taken.bytes.trim_ascii_end());
                        row.flag("cut", taken.cut);
                    }
                    // Some can only be set, others have no value yet.
                    Err(error) => row.text("error", error.to_string().as_bytes()),
                }
                table.row(out, row.into_map())?;
            }
        }
        table.end(out)
    }

    /// Which interpreters the kernel starts for which files.
    fn formats(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let place = "proc/sys/fs/binfmt_misc";
        let mounts = self.read(self.root.join("proc/self/mountinfo"), MOST).unwrap_or_default();
        if !is_mounted(&mounts.bytes, place, "binfmt_misc") {
            return Ok(());
        }
        let folder = self.root.join(place);
        let names = self.patience.wait(move || names_in(&folder)).unwrap_or_default();
        for name in
            names.iter().filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| *name != "register")
        {
            self.keep(&format!("{place}/{name}"), out)?;
        }
        Ok(())
    }

    /// Names in the BPF file system: programs, maps and links that outlive their process.
    fn pins(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let top = self.root.join("sys/fs/bpf");
        let found = self.patience.wait(move || {
            let mut pins = Vec::new();
            let mut folders = vec![top];
            while let Some(folder) = folders.pop() {
                let Ok(entries) = std::fs::read_dir(&folder) else { continue };
                for entry in entries.flatten() {
                    let Ok(facts) = entry.metadata() else { continue };
                    if facts.is_dir() {
                        folders.push(entry.path());
                    }
                    pins.push((entry.path(), facts.uid(), facts.mode(), facts.mtime()));
                }
                if pins.len() > MOST_NAMES {
                    break;
                }
            }
            pins.sort();
            Ok(pins)
        });
        let mut about = serde_json::Map::new();
        about.insert("observed".to_owned(), self.observed.clone().into());
        let mut table = LiveTable::new("V4/bpf_pins", "exhibit-live-bpf-pins/1", about);
        for (path, uid, mode, mtime) in found.unwrap_or_default() {
            let mut row = Row::default();
            row.text("path", path.as_os_str().as_bytes());
            row.put("uid", uid);
            row.put("mode", format!("{mode:o}"));
            if let Some(mtime) = mtime.checked_mul(1_000_000_000) {
                row.put("mtime", custody::clock::rfc3339(mtime));
            }
            table.row(out, row.into_map())?;
        }
        table.end(out)
    }

    fn taint(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let Ok(text) = self.read(self.root.join("proc/sys/kernel/tainted"), 64) else { return Ok(()) };
        let bits: u64 = String::from_utf8_lossy(&text.bytes).trim().parse().unwrap_or(0);
        let words: Vec<&str> = taint_words(bits);
        let text = format!(
            "{bits}: {}\n",
            if words.is_empty() { "not tainted".to_owned() } else { words.join(", ") }
        );
        out.made("V4/taint", text.as_bytes())
    }
}

fn taint_words(bits: u64) -> Vec<&'static str> {
    TAINTS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, word)| *word).collect()
}

/// Files that this kernel does not have, or has without an answer.
fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO)
    )
}

/// Records of `/dev/kmsg`, how often some were lost, and whether there were more than are kept.
fn read_records(file: &mut std::fs::File) -> io::Result<(Vec<u8>, u32, bool)> {
    let mut all = Vec::new();
    let mut record = vec![0; 64 << 10];
    let mut lost = 0u32;
    loop {
        match file.read(&mut record) {
            Ok(0) => return Ok((all, lost, false)),
            Ok(read) if all.len().saturating_add(read) > MOST => return Ok((all, lost, true)),
            Ok(read) => all.extend_from_slice(record.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((all, lost, false)),
            // EPIPE: the record was overwritten, and the next read goes on behind the gap.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && lost < 1000 => lost += 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if all.is_empty() => return Err(error),
            Err(_) => return Ok((all, lost, true)),
        }
    }
}

/// Modules that a symbol names as its own.
fn modules_in_symbols(text: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.split(|&byte| byte == b'\n') {
        let name = line.strip_suffix(b"]").and_then(|line| line.rsplit(|&byte| byte == b'[').next());
        // Of the kernel's own making: BPF programs, and ftrace's trampolines.
        if let Some(name) = name.and_then(|name| std::str::from_utf8(name).ok())
            && !matches!(name, "bpf" | "__builtin__ftrace" | "__builtin__kprobes")
            && line.contains(&b'\t')
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    }
    names
}

fn addresses_are_hidden(text: &[u8]) -> bool {
    let mut lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).take(1000).peekable();
    lines.peek().is_some() && lines.all(|line| line.starts_with(b"00000000"))
}

/// Names and values of a module's files.
type ModuleFacts = Vec<(String, Vec<u8>)>;

/// Loaded modules as `/sys/module` shows them; those that are built in have no state.
fn sys_modules(folder: &Path) -> io::Result<BTreeMap<String, ModuleFacts>> {
    let mut all = BTreeMap::new();
    for name in names_in(folder)? {
        let Ok(name) = String::from_utf8(name) else { continue };
        let place = folder.join(&name);
        let read = |file: &str| read_below(CWD, place.join(file).to_str()?, SETTING).ok();
        if read("initstate").is_none() {
            continue;
        }
        let mut facts = Vec::new();
        for file in ["initstate", "coresize", "refcnt", "taint", "version", "srcversion", "sections/.text"] {
            if let Some(taken) = read(file) {
                let key = if file == "sections/.text" { "text_address" } else { file };
                facts.push((key.to_owned(), taken.bytes.trim_ascii_end().to_vec()));
            }
        }
        for parameter in names_in(&place.join("parameters")).unwrap_or_default() {
            let Ok(parameter) = String::from_utf8(parameter) else { continue };
            if let Some(taken) = read(&format!("parameters/{parameter}"))
                && parameter.is_ascii()
            {
                facts.push((format!("parameter_{parameter}"), taken.bytes.trim_ascii_end().to_vec()));
            }
        }
        all.insert(name, facts);
    }
    Ok(all)
}

fn names_in(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names: Vec<Vec<u8>> = std::fs::read_dir(folder)?
        .take(MOST_NAMES)
        .flatten()
        .map(|entry| entry.file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    Ok(names)
}

fn folders_and_files(folder: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)?.take(MOST_NAMES).flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => folders.push(entry.path()),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

/// Whether a file system of that kind is mounted at a place below the root.
fn is_mounted(mounts: &[u8], place: &str, kind: &str) -> bool {
    String::from_utf8_lossy(mounts).lines().any(|line| {
        let (before, after) = line.split_once(" - ").unwrap_or((line, ""));
        let at = before.split(' ').nth(4).is_some_and(|at| at.trim_start_matches('/') == place);
        at && after.split(' ').next() == Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::triage::packed::packed;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_module_that_one_view_hides_is_named() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "proc/modules", "good 16384 1 - Live 0xffffffffc0000000 (OE)\nonlyproc 1 0 - Live 0x0\n");
        write(
            root,
            "proc/kallsyms",
            "ffffffffc0 t init_module\t[rootkit]\nffffffffc1 T x\t[good]\nffff t b\t[bpf]\n",
        );
        write(root, "sys/module/good/initstate", "live\n");
        write(root, "sys/module/good/parameters/debug", "Y\n");
        write(root, "sys/module/builtin/parameters/x", "1\n");
        write(root, "sys/module/onlysys/initstate", "live\n");
        let out = packed(|out, clock| kernel_state_at(root, out, clock));
        let rows = out.rows("V4/modules.jsonl");
        let names: Vec<_> =
            rows.iter().map(|row| (row["name"].as_str().unwrap(), row.get("hidden").is_some())).collect();
        assert_eq!(names, [("good", false), ("onlyproc", true), ("onlysys", true), ("rootkit", true)]);
        assert_eq!(rows[0]["sys_parameter_debug"], "Y");
        assert_eq!(rows[0]["taint"], "(OE)");
        let whats: Vec<_> = out.issues.iter().map(|issue| issue.what.as_str()).collect();
        assert!(
            whats.contains(&"module known to /proc/kallsyms, not to /proc/modules, /sys/module"),
            "{whats:?}"
        );
    }

    #[test]
    fn settings_are_listed_and_file_systems_are_entered_only_where_they_are_mounted() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "proc/sys/kernel/tainted", "12289\n");
        write(root, "proc/sys/net/x", "1\t2\n");
        write(root, "proc/sys/fs/binfmt_misc/evil", "enabled\n");
        write(root, "sys/kernel/tracing/kprobe_events", "p:x do_sys_open\n");
        let unmounted = packed(|out, clock| kernel_state_at(root, out, clock));
        let rows = unmounted.rows("V4/sysctl.jsonl");
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            r#"[{"name":"kernel/tainted","value":"12289"},{"name":"net/x","value":"1\\x092"}]"#
        );
        assert_eq!(
            unmounted.files["V4/taint"],
            b"12289: proprietary module, module from outside the tree, unsigned module\n"
        );
        assert!(!unmounted.files.keys().any(|name| name.contains("binfmt") || name.contains("tracing")));
        write(
            root,
            "proc/self/mountinfo",
            "1 2 0:1 / /proc/sys/fs/binfmt_misc rw - binfmt_misc x rw\n3 2 0:2 / /sys/kernel/tracing rw - tracefs x rw\n",
        );
        let mounted = packed(|out, clock| kernel_state_at(root, out, clock));
        assert_eq!(mounted.files["V4/proc/sys/fs/binfmt_misc/evil"], b"enabled\n");
        assert_eq!(mounted.files["V4/sys/kernel/tracing/kprobe_events"], b"p:x do_sys_open\n");
    }

    #[test]
    fn the_state_of_this_kernel_is_read() {
        let out = packed(kernel_state);
        assert!(out.files["V4/proc/version"].starts_with(b"Linux version"));
        assert!(
            out.rows("V4/sysctl.jsonl")
                .iter()
                .any(|row| row["name"] == "kernel/ostype" && row["value"] == "Linux")
        );
    }
}

//! Which ways there are to read this machine's memory, and why others do not work: told before anything is read.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;

use super::host::{Host, Lockdown};
use super::iomem::{self, PhysicalRange, system_ram};
use super::kcore::Kcore;
use super::physical::{CrashMemory, FlatMemory, KcoreMemory, PAGE, PhysicalMemory};
use super::reading::reads_page;

/// Pages that are tried for each range of memory, in at most so many ranges.
const RANGES_TRIED: usize = 32;

/// Below it, `/dev/mem` gives zeros for memory where the kernel forbids the rest.
const FIRST_MIB: u64 = 1 << 20;

/// Columns of a terminal that a table must fit.
const WIDTH: usize = 80;

/// A way to read the memory of a running machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `/proc/kcore`: in nearly every kernel.
    Kcore,
    /// `/dev/crash`: a module of Red Hat's kernels.
    Crash,
    /// `/dev/mem`: mostly forbidden by `CONFIG_STRICT_DEVMEM`.
    Mem,
}

impl Way {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Kcore, Self::Crash, Self::Mem];

    /// The word for it on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kcore => "kcore",
            Self::Crash => "crash",
            Self::Mem => "mem",
        }
    }

    /// The file that is read.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Kcore => "/proc/kcore",
            Self::Crash => "/dev/crash",
            Self::Mem => "/dev/mem",
        }
    }
}

/// What is to be expected of one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// The way.
    pub way: Way,
    /// Whether it works: it was opened, and pages of memory were read by it.
    pub works: bool,
    /// Why not, or how well.
    pub why: String,
}

/// What is to be expected of every way: a table that fits a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// One row each, best way first.
    pub outlooks: Vec<Outlook>,
    /// What is known of the machine's memory: its size, or why its size is hidden.
    pub memory: String,
}

impl Forecast {
    /// Tries every way: opens it for reading, and reads some pages.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Ways::try_all(host, &Way::ALL).forecast
    }

    /// The best way that works.
    #[must_use]
    pub fn best(&self) -> Option<Way> {
        self.outlooks.iter().find(|outlook| outlook.works).map(|outlook| outlook.way)
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const INDENT: usize = 21;
        let words = |f: &mut fmt::Formatter<'_>, text: &str| {
            for (index, line) in wrapped(text, WIDTH - INDENT).iter().enumerate() {
                if index > 0 {
                    write!(f, "\n{:INDENT$}", "")?;
                }
                f.write_str(line)?;
            }
            Ok(())
        };
        write!(f, "{:<13}{:<8}", "source", "works")?;
        words(f, "why")?;
        for outlook in &self.outlooks {
            let works = if outlook.works { "yes" } else { "no" };
            write!(f, "\n{:<13}{works:<8}", outlook.way.path())?;
            words(f, &outlook.why)?;
        }
        write!(f, "\n{:<21}", "memory")?;
        words(f, &self.memory)
    }
}

/// Lines of whole words; a word that is longer than a line has one for itself.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// The ways that work, open, and what is to be said of all.
pub(crate) struct Ways {
    pub(crate) open: Vec<(Way, Box<dyn PhysicalMemory>)>,
    pub(crate) forecast: Forecast,
    /// The ranges of memory.
    pub(crate) ram: Vec<PhysicalRange>,
    /// Where they are known from.
    pub(crate) ram_from: &'static str,
    /// Headers of `/proc/kcore`, where it could be read.
    pub(crate) kcore: Option<Kcore>,
}

impl Ways {
    /// Tries the wanted ways in order.
    pub(crate) fn try_all(host: &Host, wanted: &[Way]) -> Self {
        let kcore = open_kcore(host);
        let table = host
            .read("/proc/iomem", iomem::LONGEST)
            .map_err(|error| format!("cannot be read: {}", plain(&error)))
            .and_then(|text| system_ram(&text).map_err(|error| error.to_string()));
        // The segments of kcore say where memory lies, too.
        let (ram, ram_from, memory) = match (table, &kcore) {
            (Ok(ram), _) => {
                let words = format!("{} in {} (/proc/iomem)", size_words(&ram), range_words(ram.len()));
                (ram, "/proc/iomem", words)
            }
            (Err(why), Ok((_, headers))) => {
                let ram = iomem::joined(headers.segments.iter().map(|segment| segment.range).collect());
                let words = format!(
                    "{} in {}, as the segments of /proc/kcore say; /proc/iomem: {why}",
                    size_words(&ram),
                    range_words(ram.len())
                );
                (ram, "/proc/kcore", words)
            }
            (Err(why), Err(_)) => (Vec::new(), "", format!("not known where it lies: /proc/iomem: {why}")),
        };
        let headers = kcore.as_ref().ok().map(|(_, headers)| headers.clone());
        let mut kcore = Some(kcore.map(|(file, headers)| -> Box<dyn PhysicalMemory> {
            let path = Way::Kcore.path().to_owned();
            Box::new(KcoreMemory { path, file, segments: headers.segments })
        }));
        let mut open = Vec::new();
        let mut outlooks = Vec::new();
        for &way in wanted {
            let opened = match way {
                Way::Kcore => kcore.take().unwrap_or_else(|| Err("it was tried already".to_owned())),
                Way::Crash | Way::Mem => open_device(host, way),
            };
            let tried = opened.and_then(|mut memory| match try_pages(&mut *memory, &ram) {
                Ok(how_well) => Ok((memory, how_well)),
                Err(why) => Err(after_opening(way, &why)),
            });
            let (works, why) = match tried {
                Ok((memory, how_well)) => {
                    open.push((way, memory));
                    (true, how_well)
                }
                Err(why) => (false, why),
            };
            outlooks.push(Outlook { way, works, why });
        }
        Self { open, forecast: Forecast { outlooks, memory }, ram, ram_from, kcore: headers }
    }
}

fn size_words(ram: &[PhysicalRange]) -> String {
    let bytes = ram.iter().fold(0u64, |sum, range| sum.saturating_add(range.length()));
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn range_words(count: usize) -> String {
    if count == 1 { "1 range".to_owned() } else { format!("{count} ranges") }
}

/// An error of the system without its number, as the number is no help to a person.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn open_kcore(host: &Host) -> Result<(File, Kcore), String> {
    let path = Way::Kcore.path();
    let kind = std::fs::symlink_metadata(host.path(path)).map(|metadata| metadata.file_type());
    match kind {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(
                "there is none: the kernel is built without CONFIG_PROC_KCORE, or hides it from this \
                 container or sandbox; if so, run on the host itself"
                    .to_owned(),
            );
        }
        // What container runtimes put over it: /dev/null, or an empty folder.
        Ok(kind) if kind.is_char_device() || kind.is_dir() => {
            return Err("a container runtime hides it: run on the host itself".to_owned());
        }
        _ => {}
    }
    let file = host.open(path).map_err(|error| refused(host, Way::Kcore, &error))?;
    let headers = Kcore::read(&file).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        format!("{error}{cause}")
    })?;
    Ok((file, headers))
}

fn open_device(host: &Host, way: Way) -> Result<Box<dyn PhysicalMemory>, String> {
    let file = host.open(way.path()).map_err(|error| match (way, error.kind()) {
        (Way::Crash, io::ErrorKind::NotFound) => {
            "there is none: only Red Hat's kernels have it as a module".to_owned()
        }
        (_, io::ErrorKind::NotFound) => {
            "there is none: CONFIG_DEVMEM is off, or this is a container".to_owned()
        }
        _ => refused(host, way, &error),
    })?;
    let path = way.path().to_owned();
    Ok(match way {
        Way::Crash => Box::new(CrashMemory { path, file }),
        Way::Kcore | Way::Mem => Box::new(FlatMemory { path, file, size: None }),
    })
}

/// Why the system did not open it.
fn refused(host: &Host, way: Way, error: &io::Error) -> String {
    let lockdown = host.lockdown();
    let locks = match (way, lockdown) {
        (_, Lockdown::Confidentiality) => Some("confidentiality"),
        // LOCKDOWN_KCORE stands behind LOCKDOWN_INTEGRITY_MAX, LOCKDOWN_DEV_MEM before it.
        (Way::Mem | Way::Crash, Lockdown::Integrity) => Some("integrity"),
        _ => None,
    };
    let may = host.may_read_raw();
    match (error.raw_os_error(), locks, may) {
        // EPERM
        (Some(1), _, Some(false)) => "this process lacks CAP_SYS_RAWIO (a container, or not root): run as root on the host"
            .to_owned(),
        (Some(1), Some(mode), _) => format!(
            "kernel lockdown is in {mode} mode, which forbids reading memory even to root; it can only be lifted by \
             booting without it, which loses the memory: take a snapshot from the hypervisor instead"
        ),
        (Some(1), None, Some(true)) if lockdown == Lockdown::Unknown => {
            "the kernel refuses it though this process has CAP_SYS_RAWIO: most likely lockdown in confidentiality mode \
             (mount securityfs, then /sys/kernel/security/lockdown tells)"
                .to_owned()
        }
        // EACCES
        (Some(13), _, _) => "permission denied: run as root".to_owned(),
        _ => format!("cannot be opened: {}", plain(error)),
    }
}

/// Why a way that could be opened gives nothing.
fn after_opening(way: Way, why: &str) -> String {
    match way {
        Way::Mem => format!("{why}: most likely CONFIG_STRICT_DEVMEM, which forbids memory above 1 MiB"),
        _ => why.to_owned(),
    }
}

/// Reads the first, the middle and the last whole page of ranges; how well that went.
fn try_pages(memory: &mut dyn PhysicalMemory, ram: &[PhysicalRange]) -> Result<String, String> {
    if ram.is_empty() {
        return Err("it could be opened, but it is not known where the memory lies".to_owned());
    }
    let above: Vec<PhysicalRange> = ram.iter().filter(|range| range.last() >= FIRST_MIB).copied().collect();
    let (tried, floor) = if above.is_empty() { (ram, 0) } else { (above.as_slice(), FIRST_MIB) };
    // Those that hold most first: a few pages may be held back by firmware.
    let mut tried = tried.to_vec();
    tried.sort_by_key(|range| std::cmp::Reverse(range.length()));
    let (mut reads, mut failures, mut errno) = (0u32, 0u32, 0);
    let mut page = [0u8; PAGE];
    for range in tried.iter().take(RANGES_TRIED) {
        let Some(first) = range.start().max(floor).checked_next_multiple_of(PAGE as u64) else { continue };
        let Some(last) = range.last().checked_sub(PAGE as u64 - 1).map(|last| last - last % PAGE as u64)
        else {
            continue;
        };
        if last < first {
            continue;
        }
        let middle = first + (last - first) / 2;
        for address in [first, middle - middle % PAGE as u64, last] {
            match reads_page(memory, address, &mut page) {
                Ok(()) => reads += 1,
                Err(error) => {
                    failures += 1;
                    errno = error;
                }
            }
        }
    }
    let total = reads.saturating_add(failures);
    match (reads, failures) {
        (0, 0) => Err("no range of memory has a whole page".to_owned()),
        (0, _) if errno == 0 => Err(format!("none of {total} pages that were tried is in it")),
        (0, _) => {
            let error = plain(&io::Error::from_raw_os_error(errno));
            Err(format!("all {total} pages that were tried failed ({error})"))
        }
        (_, 0) => Ok(format!("all {total} pages that were tried could be read")),
        _ => Ok(format!("{reads} of {total} pages that were tried could be read")),
    }
}

#[cfg(test)]
#[path = "methods_tests.rs"]
mod tests;

//! `acquire memory`: plans by what works, reads memory first, then packs the symbols.

use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use rustix::fs::{CWD, OFlags, statfs};
use serde_json::{Map, Value};

use super::host::{Host, read_whole};
use super::iomem::{self, PhysicalRange, system_ram};
use super::kcore::{ReadAt, read_exact_at};
use super::lime::{self, HEADER_BYTES, Header};
use super::methods::{Forecast, Way, Ways};
use super::page_flags::PageFlags;
use super::physical::{FlatMemory, PAGE, PhysicalMemory};
use super::ranges_table::{self, Placed, divide};
use super::reading::{PageCounts, Reading, reads_page};
use super::smear::{Samples, Smear};
use super::{held_back, symbols};
use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::source::{Issue, Source};
use crate::sources::disk::{DiskSource, open_read_only};

/// `f_type` of file systems that lie in memory: tmpfs and ramfs; `include/uapi/linux/magic.h`.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// LiME headers that a file may have.
const MOST_RANGES: usize = 1 << 20;

/// Gaps that are told as issues one by one.
const MOST_GAPS: usize = 100;

/// What memory is read from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum MemorySource {
    /// The best way that works on this machine; another takes over if it fails altogether.
    Auto,
    /// This way and no other.
    Only(Way),
    /// A file: a LiME image is taken as it is, anything else as a raw image whose offsets are physical addresses.
    File {
        /// The file.
        path: PathBuf,
        /// A copy of the machine's `/proc/iomem`, which says where a raw image holds memory; without one all of it is.
        iomem: Option<PathBuf>,
    },
}

/// How the memory comes.
enum From {
    /// Range by range, from a running machine or a raw image.
    Ranges {
        methods: Vec<Box<dyn PhysicalMemory>>,
        /// What is read, and what cannot be.
        within: Vec<PhysicalRange>,
        without: Vec<PhysicalRange>,
    },
    /// A LiME file as it is, with the place of each range in it.
    Lime { file: Box<DiskSource>, ranges: Vec<(PhysicalRange, u64)>, damage: Option<String> },
}

/// Memory of a machine that is ready to be acquired.
pub struct MemoryCapture {
    from: From,
    /// The running machine, unless an image is read.
    host: Option<Host>,
    vmcoreinfo: Option<Vec<u8>>,
    forecast: Option<Forecast>,
    facts: SourceFacts,
    options: Map<String, Value>,
    after: Map<String, Value>,
}

impl fmt::Debug for MemoryCapture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCapture").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl MemoryCapture {
    /// Opens what memory will be read from, and tries it.
    ///
    /// # Errors
    ///
    /// [`Error::NoMemory`] with the table of all ways if none works, or not the wanted one; [`Error::OpenSource`] and
    /// [`Error::NotMemory`] of a file.
    pub fn plan(host: &Host, source: &MemorySource) -> Result<Self> {
        match source {
            MemorySource::Auto => Self::live(host, None),
            MemorySource::Only(way) => Self::live(host, Some(*way)),
            MemorySource::File { path, iomem } => Self::file(path, iomem.as_deref()),
        }
    }

    /// What is to be expected of every way to read this machine's memory; of a file there is nothing to expect.
    #[must_use]
    pub fn forecast(&self) -> Option<&Forecast> {
        self.forecast.as_ref()
    }

    fn live(host: &Host, only: Option<Way>) -> Result<Self> {
        let Ways { open, forecast, ram, ram_from, kcore } = Ways::try_all(host, &Way::ALL);
        let methods: Vec<_> = open
            .into_iter()
            .filter(|(way, _)| only.is_none_or(|only| only == *way))
            .map(|(_, memory)| memory)
            .collect();
        let Some(first) = methods.first() else {
            let wanted = only.map_or_else(String::new, |way| format!(" by {}", way.path()));
            return Err(Error::NoMemory { wanted, forecast: forecast.to_string() });
        };
        let path = first.path().to_owned();
        let (within, without) = match first.reach() {
            Some(reach) => divide(&ram, &reach),
            None => (ram.clone(), Vec::new()),
        };
        let mut facts = SourceFacts {
            kind: "memory".to_owned(),
            path: Some(path),
            size: Some(bytes_of(&ram)),
            ..SourceFacts::default()
        };
        let more = &mut facts.more;
        more.insert("form".to_owned(), "running machine".into());
        more.insert("ranges".to_owned(), ram.len().into());
        more.insert("ranges_from".to_owned(), ram_from.into());
        if kcore.as_ref().is_some_and(|kcore| kcore.worked_out) {
            more.insert("addresses".to_owned(), "worked out from the direct map of x86-64".into());
        }
        for (name, text) in [
            ("kernel", host.text("/proc/version")),
            ("lockdown", host.text("/sys/kernel/security/lockdown")),
            ("boot_id", host.text("/proc/sys/kernel/random/boot_id")),
        ] {
            more.extend(text.map(|text| (name.to_owned(), Value::from(escape_text(text.as_bytes())))));
        }
        let told = forecast.outlooks.iter().map(|outlook| {
            let works = if outlook.works { "yes" } else { "no" };
            let row = [("source", outlook.way.path()), ("why", outlook.why.as_str()), ("works", works)];
            Value::Object(row.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect())
        });
        more.insert("ways".to_owned(), Value::Array(told.collect()));
        more.extend(held_back::facts(host));
        let options = Map::from_iter([("source".to_owned(), only.map_or("auto", Way::word).into())]);
        Ok(Self {
            from: From::Ranges { methods, within, without },
            host: Some(host.clone()),
            vmcoreinfo: kcore.and_then(|kcore| kcore.vmcoreinfo),
            forecast: Some(forecast),
            facts,
            options,
            after: Map::new(),
        })
    }

    fn file(path: &Path, iomem: Option<&Path>) -> Result<Self> {
        let failed = |source| Error::OpenSource { path: path.to_owned(), source };
        let file = open_read_only(CWD, path, OFlags::empty()).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        let refused = |reason: String| Err(Error::NotMemory { path: path.to_owned(), reason });
        if !kind.is_file() && !std::os::unix::fs::FileTypeExt::is_block_device(&kind) {
            return refused(
                "it is neither a file nor a block device; a running machine's memory has --source auto"
                    .to_owned(),
            );
        }
        let disk = DiskSource::open(path)?;
        let size = Source::size(&disk).unwrap_or(0);
        let mut head = [0u8; HEADER_BYTES];
        let name = escape_text(path.as_os_str().as_bytes());
        let mut facts = Source::facts(&disk);
        facts.kind = "memory".to_owned();
        let header = match read_exact_at(&file, 0, &mut head) {
            Ok(()) => lime::read_header(&head),
            Err(_) => Header::Other,
        };
        let (from, form) = match header {
            Header::Avml => {
                return refused("it is compressed by AVML; `acquire import` takes it as it is".to_owned());
            }
            Header::Lime(_) if iomem.is_some() => {
                return refused(
                    "it is a LiME image, which says itself where memory lies: leave --iomem out".to_owned(),
                );
            }
            Header::Lime(_) => {
                let (ranges, damage) = lime_ranges(&file, size);
                facts.more.insert("ranges".to_owned(), ranges.len().into());
                (From::Lime { file: Box::new(disk), ranges, damage }, "LiME image")
            }
            Header::Other => {
                let ram = match iomem {
                    Some(iomem) => {
                        let failed = |source| Error::OpenSource { path: iomem.to_owned(), source };
                        let table = open_read_only(CWD, iomem, OFlags::empty()).map_err(failed)?;
                        let text = read_whole(table, iomem::LONGEST).map_err(failed)?;
                        system_ram(&text).map_err(|error| Error::NotMemory {
                            path: iomem.to_owned(),
                            reason: error.to_string(),
                        })?
                    }
                    None => PhysicalRange::with_length(0, size).into_iter().collect(),
                };
                let memory = FlatMemory { path: name, file, size: Some(size) };
                let (within, without) = divide(&ram, &memory.reach().unwrap_or_default());
                facts.more.insert("ranges".to_owned(), ram.len().into());
                (From::Ranges { methods: vec![Box::new(memory)], within, without }, "raw image")
            }
        };
        facts.more.insert("form".to_owned(), form.into());
        let mut options = Map::from_iter([("source".to_owned(), Value::from("file"))]);
        if let Some(iomem) = iomem {
            options.insert("iomem".to_owned(), escape_text(iomem.as_os_str().as_bytes()).into());
        }
        Ok(Self { from, host: None, vmcoreinfo: None, forecast: None, facts, options, after: Map::new() })
    }

    /// Says what became of pages, smear and gaps: for the manifest, the log and the summary.
    fn tell(&mut self, counts: PageCounts, smear: Option<(Smear, u64)>, without: u64) {
        let pages = [
            ("absent", counts.absent),
            ("failed", counts.failed),
            ("no_page", counts.no_page),
            ("offline", counts.offline),
            ("poisoned", counts.poisoned),
            ("read", counts.read),
        ];
        let pages = pages.map(|(name, count)| (name.to_owned(), Value::from(count)));
        self.after.insert("pages".to_owned(), Value::Object(Map::from_iter(pages)));
        self.after.insert("bytes_not_reached".to_owned(), without.into());
        if let Some((smear, seconds)) = smear {
            let smear = [
                ("changed", smear.changed),
                ("every", smear.every),
                ("failed", smear.failed),
                ("sampled", smear.sampled),
                ("seconds", seconds),
            ];
            let smear = smear.map(|(name, count)| (name.to_owned(), Value::from(count)));
            self.after.insert("smear".to_owned(), Value::Object(Map::from_iter(smear)));
        }
    }

    fn ranges(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let From::Ranges { methods, within, without } = &mut self.from else { return Ok(()) };
        let started = streams.clock().now().mono_ns;
        let headers = (within.len() as u64).saturating_mul(HEADER_BYTES as u64);
        let size = bytes_of(within).saturating_add(headers);
        let flags = self.host.as_ref().map(|host| host.open("/proc/kpageflags"));
        let path = methods.first().map_or_else(String::new, |memory| memory.path().to_owned());
        if let Some(Err(error)) = &flags {
            streams.issues().add(Issue {
                path: "/proc/kpageflags".to_owned(),
                offset: None,
                length: None,
                what: format!(
                    "cannot be read ({error}): pages that the kernel withholds cannot be told from pages of zeros"
                ),
            });
        }
        let flags = PageFlags::new(flags.and_then(std::result::Result::ok));
        let is_live = self.host.is_some();
        let mut placed = Vec::new();
        let (counts, smear) = streams.bytes("memory", "memory", Some(size), |feed, issues| {
            let pages = bytes_of(within) / PAGE as u64;
            let mut reading = Reading::new(methods, flags, Samples::new(pages), issues);
            for &range in &*within {
                feed.append(&lime::header(range))?;
                placed.push(Placed { range, offset: Some(feed.size()), detail: "" });
                reading.range(range, feed)?;
            }
            let (counts, samples) = (reading.counts, reading.samples);
            let smear = methods.first_mut().filter(|_| is_live).map(|memory| {
                samples.compare(|address, page| reads_page(&mut **memory, address, page).is_ok())
            });
            Ok((counts, smear))
        })?;
        let seconds = streams.clock().now().mono_ns.saturating_sub(started) / 1_000_000_000;
        let mut told = 0usize;
        for &range in &*without {
            // The kernel hands out whole pages only, so it does not use these bytes, nor does kcore give them.
            let is_part = range.length() < PAGE as u64;
            let detail = if is_part { "part_of_a_page" } else { "not_in_source" };
            placed.push(Placed { range, offset: None, detail });
            if is_part {
                continue;
            }
            told += 1;
            if told <= MOST_GAPS {
                streams.issues().add(Issue {
                    path: path.clone(),
                    offset: Some(range.start()),
                    length: Some(range.length()),
                    what: format!(
                        "memory that the source does not reach was not acquired (physical addresses {range})"
                    ),
                });
            }
        }
        let withheld = [
            (counts.offline, "offline pages (lent by a balloon, or taken by a driver)"),
            (counts.no_page, "pages of memory that is offline or not there"),
        ];
        for (pages, what) in withheld.into_iter().filter(|(pages, _)| *pages > 0) {
            streams.issues().add(Issue {
                path: path.clone(),
                offset: None,
                length: Some(pages.saturating_mul(PAGE as u64)),
                what: format!(
                    "{pages} {what}, which the kernel gives as zeros: listed as absent in the extents"
                ),
            });
        }
        let without = bytes_of(without);
        streams.ranges("memory", |out| ranges_table::write(&placed, out))?;
        self.tell(counts, smear.map(|smear| (smear, seconds)), without);
        Ok(())
    }

    fn lime(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let From::Lime { file, ranges, damage } = &mut self.from else { return Ok(()) };
        let name = self.facts.path.clone().unwrap_or_default();
        streams.source("memory", "memory", &mut **file)?;
        if let Some(what) = damage.take() {
            streams.issues().add(Issue { path: name, offset: None, length: None, what });
        }
        let placed: Vec<Placed> =
            ranges.iter().map(|&(range, at)| Placed { range, offset: Some(at), detail: "" }).collect();
        streams.ranges("memory", |out| ranges_table::write(&placed, out))
    }
}

impl Capture for MemoryCapture {
    fn facts(&self) -> SourceFacts {
        self.facts.clone()
    }

    fn options(&self) -> Map<String, Value> {
        self.options.clone()
    }

    fn size(&self) -> Option<u64> {
        match &self.from {
            From::Ranges { within, .. } => Some(bytes_of(within)),
            From::Lime { file, .. } => Source::size(&**file),
        }
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        match self.from {
            From::Ranges { .. } => self.ranges(streams)?,
            From::Lime { .. } => self.lime(streams)?,
        }
        let Some(host) = &self.host else { return Ok(()) };
        let lies_in_memory = statfs(streams.folder).is_ok_and(|found| IN_MEMORY.contains(&found.f_type));
        if lies_in_memory {
            let path = escape_text(streams.folder.as_os_str().as_bytes());
            streams.issues().add(Issue {
                path,
                offset: None,
                length: None,
                what: "the bundle lies in this machine's memory (tmpfs), so writing it overwrote a part of what was to \
                       be read: keep the case on a disk"
                    .to_owned(),
            });
        }
        let note = self.vmcoreinfo.as_deref();
        let missing = streams.tar("symbols", "files", |packer| symbols::pack(host, note, packer))?;
        self.after.insert("symbols_missing".to_owned(), Value::Array(missing));
        Ok(())
    }

    fn reads_own_memory(&self) -> bool {
        self.host.is_some()
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.after.clone()
    }
}

fn bytes_of(ranges: &[PhysicalRange]) -> u64 {
    ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.length()))
}

/// The ranges of a LiME file with the place of their bytes, up to where it is damaged, and how it is.
fn lime_ranges(file: &File, size: u64) -> (Vec<(PhysicalRange, u64)>, Option<String>) {
    let mut ranges = Vec::new();
    let mut offset = 0u64;
    while offset < size {
        let mut header = [0u8; HEADER_BYTES];
        if ranges.len() >= MOST_RANGES {
            return (
                ranges,
                Some(format!("more than {MOST_RANGES} ranges: those behind are not in the table")),
            );
        }
        let header =
            read_exact_at(file as &dyn ReadAt, offset, &mut header).map(|()| lime::read_header(&header));
        let Ok(Header::Lime(range)) = header else {
            return (
                ranges,
                Some(format!("no LiME header at byte {offset}: what follows is taken, but not in the table")),
            );
        };
        let start = offset.saturating_add(HEADER_BYTES as u64);
        let left = size.saturating_sub(start);
        if range.length() > left {
            let missing = range.length() - left;
            let held = PhysicalRange::with_length(range.start(), left).map(|held| (held, start));
            ranges.extend(held);
            return (
                ranges,
                Some(format!("the file ends {missing} bytes before the end of its range {range}")),
            );
        }
        ranges.push((range, start));
        offset = start.saturating_add(range.length());
    }
    (ranges, None)
}

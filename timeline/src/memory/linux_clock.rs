//! The kernel's clock: when the machine started, and what time it was when its memory was read.
//!
//! - Times: UTC as the kernel had it. Boot is real time less the time since boot, suspended time counted, as `btime`
//!   in `/proc/stat`; setting the clock moves it. The clock itself stood where it did when its page was copied: memory
//!   that is read while the machine runs is minutes wide.
//! - Reference: Linux `include/linux/timekeeper_internal.h`, `kernel/time/timekeeping.c` (`getboottime64`).

use super::btf::Field;
use super::kernel::Kernel;
use super::record_parts::Part;
use super::structure::{Extract, needed};
use crate::event::{Event, Precision, Span, Timestamp, TzBasis};
use crate::text::{clean, until_nul};

/// Where the kernel keeps its time.
pub(crate) struct ClockReader {
    timekeeper: u64,
    extract: Extract,
    offs_real: Field,
    offs_boot: Field,
    xtime_sec: Field,
    uts: Option<(u64, Extract, [Field; 4])>,
}

/// The kernel's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// When the machine started, in nanoseconds since 1970.
    boot: i64,
    /// What the clock stood at, in seconds since 1970.
    pub(crate) now: i64,
}

impl Clock {
    /// The time that many nanoseconds after boot.
    pub(crate) fn after_boot(&self, nanos: u64) -> Option<Timestamp> {
        let time = self.boot.checked_add(i64::try_from(nanos).ok()?)?;
        Timestamp::from_unix(time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000) as u32)
    }

    /// Dates a row with the clock: what it says was so when memory was read.
    pub(crate) fn date(clock: Option<Clock>, event: Event) -> Event {
        match clock.and_then(|clock| Timestamp::from_unix(clock.now, 0)) {
            Some(now) => event.at(now, Precision::S, TzBasis::UtcByFormat),
            None => event,
        }
    }
}

impl ClockReader {
    /// Finds the clock.
    ///
    /// # Errors
    ///
    /// In words, which symbol or member is missing.
    pub(crate) fn new(kernel: &Kernel) -> Result<ClockReader, String> {
        let types = kernel.types();
        let symbol = kernel.symbol("tk_core").or_else(|| kernel.symbol("timekeeper_data"));
        let core = symbol.ok_or("the kernel's symbols have no tk_core: there is no boot time")?;
        let within = types
            .offset_in_any("timekeeper", "timekeeper")
            .ok_or("the kernel's types do not say where in tk_core the time is kept")?;
        let field = |way| needed(types, "timekeeper", way);
        let (offs_real, offs_boot, xtime_sec) =
            (field("offs_real")?, field("offs_boot")?, field("xtime_sec")?);
        let extract = Extract::over([&offs_real, &offs_boot, &xtime_sec])
            .ok_or("struct timekeeper is impossibly large")?;
        let name = |way| types.field("uts_namespace", way);
        let uts = || {
            let fields =
                [name("name.nodename")?, name("name.release")?, name("name.version")?, name("name.machine")?];
            Some((kernel.symbol("init_uts_ns")?, Extract::over(&fields)?, fields))
        };
        let timekeeper = core.checked_add(within).ok_or("tk_core lies at an impossible address")?;
        Ok(ClockReader { timekeeper, extract, offs_real, offs_boot, xtime_sec, uts: uts() })
    }

    /// The bytes that hold the time.
    pub(crate) fn part(&self, kernel: &Kernel) -> Option<Part> {
        kernel.part(self.timekeeper.checked_add(self.extract.start)?, self.extract.length)
    }

    /// The time that the bytes hold.
    pub(crate) fn clock(&self, part: &Part) -> Option<Clock> {
        let view = self.extract.of(&part.bytes);
        let boot = view.signed(&self.offs_real)?.checked_sub(view.signed(&self.offs_boot)?)?;
        Some(Clock { boot, now: view.signed(&self.xtime_sec)? })
    }

    /// What the host's row stands on: the time, and the names that `uname` gives.
    pub(crate) fn parts(&self, kernel: &Kernel) -> Option<Vec<Part>> {
        let names = self
            .uts
            .as_ref()
            .and_then(|(at, extract, _)| kernel.part(at.checked_add(extract.start)?, extract.length));
        Some(vec![self.part(kernel)?, names.unwrap_or_default()])
    }

    /// The host's name, out of the parts.
    pub(crate) fn host(&self, parts: &[Part]) -> Option<String> {
        let [name, ..] = self.names(parts)?;
        (!name.is_empty() && name != "(none)").then_some(name)
    }

    fn names(&self, parts: &[Part]) -> Option<[String; 4]> {
        let (_, extract, fields) = self.uts.as_ref()?;
        let view = extract.of(&parts.get(1)?.bytes);
        let text = |field: &Field| Some(clean(until_nul(view.bytes(field)?)));
        let [node, release, version, machine] = fields;
        Some([text(node)?, text(release)?, text(version)?, text(machine)?])
    }

    /// The rows of the host: its boot, and its clock.
    pub(crate) fn rows(&self, parts: &[Part]) -> Vec<Event> {
        let clock = parts.first().and_then(|part| self.clock(part));
        let names = self.names(parts);
        let system = match &names {
            Some([node, release, _, _]) => format!("{node} (Linux {release})"),
            None => "the machine".to_owned(),
        };
        let mut boot =
            Event::new("memory:kernel", "Start Time", Span::default(), format!("{system} started"));
        boot.action = Some("system-boot".into());
        if let Some(time) = clock.and_then(|clock| clock.after_boot(0)) {
            boot = boot.at(time, Precision::Ns, TzBasis::UtcByFormat);
        }
        let message = format!("{system}: what the kernel's clock stood at when memory was read");
        let now = Event::new("memory:kernel", "Recorded Time", Span::default(), message);
        let mut now = Clock::date(clock, now);
        now.action = Some("memory-read".into());
        let mut rows = vec![boot, now];
        for row in &mut rows {
            row.category = Some("host".into());
            row.host = self.host(parts).map(Into::into);
            if let Some([node, release, version, machine]) = &names {
                row.attrs.put("nodename", node.as_str());
                row.attrs.put("release", release.as_str());
                row.attrs.put("version", version.as_str());
                row.attrs.put("machine", machine.as_str());
            }
        }
        rows
    }
}

//! A machine's memory: processes, modules, sockets and its clock, and lines of logs that lie in it.

mod address_space;
mod avml;
mod btf;
mod carving;
mod kallsyms;
mod kernel;
mod landmarks;
mod linux_clock;
mod linux_modules;
mod linux_paths;
mod linux_shells;
mod linux_sockets;
mod linux_tasks;
#[cfg(test)]
mod made_kernel;
mod page_table;
mod record_parts;
mod structure;
#[cfg(test)]
mod tests;
mod vmcoreinfo;

use std::sync::{Arc, OnceLock};

use crate::bytes::ByteSource;
use crate::error::ReadError;
use crate::event::{Event, Span};
use crate::file_scan::{Account, Accounting};
use crate::parser::{Context, Input, Parser, Probe, Sink};

use address_space::{AddressSpace, PAGE};
use kernel::{Kernel, SymbolsPack};
use linux_clock::ClockReader;
use linux_modules::ModuleReader;
use linux_shells::ShellReader;
use linux_sockets::SocketReader;
use linux_tasks::TaskReader;
use record_parts::{Part, parts_of, place};

/// What is read out of memory. Each is a parser of its own name, though it reads no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Artefact {
    /// Boot time and clock.
    Host,
    /// Processes.
    Processes,
    /// Kernel modules.
    Modules,
    /// Open sockets.
    Sockets,
    /// Commands that running shells remember.
    Commands,
    /// Lines of logs and histories.
    Lines,
}

/// The parser of one [`Artefact`]; the engine calls [`MemoryImage::read`] for it.
pub struct MemoryParser {
    pub(crate) artefact: Artefact,
    pub(crate) name: &'static str,
    pub(crate) reads: &'static str,
    pub(crate) times: &'static str,
}

impl Parser for MemoryParser {
    fn name(&self) -> &'static str {
        self.name
    }

    fn reads(&self) -> &'static str {
        self.reads
    }

    fn times(&self) -> &'static str {
        self.times
    }

    fn claims(&self, _probe: &Probe<'_>) -> bool {
        false
    }

    /// Reads one carved line. Structures of a kernel say nothing without its types: they are rejects here.
    fn parse(&self, input: &mut Input<'_>, context: &Context, out: &mut dyn Sink) -> Result<(), ReadError> {
        let Some((bytes, span)) = input.next_block(PAGE as usize)? else { return Ok(()) };
        let rows = match self.artefact {
            Artefact::Lines => carving::rows_of_line(bytes, span, false, context),
            _ => Vec::new(),
        };
        if rows.is_empty() {
            out.reject(span, "memory is read by its image, with the kernel's types".into());
        }
        rows.into_iter().for_each(|row| out.event(row));
        Ok(())
    }
}

/// The memory of a machine in a bundle, with the symbols beside it.
pub struct MemoryImage {
    locator: String,
    space: Arc<AddressSpace>,
    pack: SymbolsPack,
    linux: OnceLock<(Option<Linux>, Vec<String>)>,
}

/// A kernel, and readers of what it holds; those that lack a symbol or member say why.
struct Linux {
    kernel: Kernel,
    clock: Result<ClockReader, String>,
    tasks: Result<TaskReader, String>,
    modules: Result<ModuleReader, String>,
    sockets: Result<SocketReader, String>,
    shells: Result<ShellReader, String>,
}

impl MemoryImage {
    /// Opens the stream `name` of a bundle. `missing` are its ranges that were not acquired.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the stream cannot be read. A damaged image is in [`MemoryImage::issues`].
    pub fn open(name: &str, stream: Arc<dyn ByteSource>, missing: &[Span]) -> Result<MemoryImage, ReadError> {
        let space = Arc::new(AddressSpace::open(stream, missing)?);
        let locator = format!("{name}/{}", space.form());
        Ok(MemoryImage { locator, space, pack: SymbolsPack::default(), linux: OnceLock::new() })
    }

    /// Takes the symbols pack's files out of a bundle's, given as locator, path and bytes: `/proc/kallsyms`,
    /// `/sys/kernel/btf/vmlinux` and `/proc/kcore.vmcoreinfo`, wherever they lie. Those of a stream `symbols` come first.
    pub fn take_symbols<'f>(
        &mut self,
        files: impl Iterator<Item = (&'f str, &'f str, Arc<dyn ByteSource>)> + Clone,
    ) {
        let find = |end: &str| {
            let mut found =
                files.clone().filter(|(_, path, _)| path.ends_with(end)).map(|(locator, path, source)| {
                    (!locator.starts_with("symbols/"), path.len(), locator, source)
                });
            let first = found.next()?;
            let best = found.fold(first, |best, next| {
                if (next.0, next.1, next.2) < (best.0, best.1, best.2) { next } else { best }
            });
            Some(best.3)
        };
        self.pack = SymbolsPack {
            kallsyms: find("/proc/kallsyms"),
            btf: find("/sys/kernel/btf/vmlinux"),
            vmcoreinfo: find("/proc/kcore.vmcoreinfo"),
        };
    }

    /// The locator of its rows: `memory/lime`.
    pub fn locator(&self) -> &str {
        &self.locator
    }

    /// The bytes that its rows' ranges are in.
    pub fn source(&self) -> &Arc<dyn ByteSource> {
        self.space.source()
    }

    /// What is damaged or missing, as far as it was read.
    pub fn issues(&self) -> Vec<String> {
        let mut issues = self.space.issues();
        if let Some((linux, found)) = self.linux.get() {
            issues.extend(found.iter().cloned());
            if let Some(linux) = linux {
                let missing = [
                    linux.clock.as_ref().err(),
                    linux.tasks.as_ref().err(),
                    linux.modules.as_ref().err(),
                    linux.sockets.as_ref().err(),
                    linux.shells.as_ref().err(),
                ];
                issues.extend(missing.into_iter().flatten().cloned());
            }
        }
        issues
    }

    /// The machine's name, as its kernel has it.
    pub fn host(&self) -> Option<String> {
        let linux = self.linux()?;
        let clock = linux.clock.as_ref().ok()?;
        clock.host(&clock.parts(&linux.kernel)?)
    }

    fn linux(&self) -> Option<&Linux> {
        let open = || {
            let mut issues = Vec::new();
            let kernel = Kernel::open(&self.space, &self.pack, &mut issues);
            (kernel.map(Linux::new), issues)
        };
        self.linux.get_or_init(open).0.as_ref()
    }

    /// Gives all rows of one artefact; the account comes back.
    pub fn read(&self, artefact: Artefact, context: &Context, rows: &mut dyn FnMut(Event)) -> Account {
        let mut out = Accounting::new(rows);
        if artefact == Artefact::Lines {
            let result = carving::scan(&self.space, context, &mut out);
            let mut account = out.into_account();
            account.bytes = self.source().len();
            account.stopped = result.err().map(|error| error.to_string());
            return account;
        }
        let linux = self.linux();
        let stopped = match linux {
            Some(linux) => linux.read(artefact, context, &mut out),
            None => Err("the kernel is not known: see the issues of this memory".to_owned()),
        };
        let mut account = out.into_account();
        // The rest of memory is not this parser's to account for: its records are the whole of it.
        account.bytes = if account.events > 0 { account.bytes_used } else { self.source().len() };
        account.stopped = stopped.err();
        account
    }

    /// Makes the rows of a record again, from its bytes and pieces and what the kernel's types say of them.
    pub fn rows_of_record(
        &self,
        artefact: Artefact,
        bytes: &[u8],
        span: Span,
        pieces: &[(u64, Vec<u8>)],
        context: &Context,
    ) -> Vec<Event> {
        if artefact == Artefact::Lines {
            let is_cut = self
                .space
                .physical_at(span.offset)
                .is_some_and(|at| at.wrapping_add(span.length) % PAGE == 0);
            return carving::rows_of_line(bytes, span, is_cut, context);
        }
        self.linux()
            .map(|linux| linux.rows(artefact, &parts_of(bytes, span, pieces), context))
            .unwrap_or_default()
    }
}

impl Linux {
    fn new(kernel: Kernel) -> Linux {
        Linux {
            clock: ClockReader::new(&kernel),
            tasks: TaskReader::new(&kernel),
            modules: ModuleReader::new(&kernel),
            sockets: SocketReader::new(&kernel),
            shells: ShellReader::new(&kernel),
            kernel,
        }
    }

    fn read(&self, artefact: Artefact, context: &Context, out: &mut Accounting<'_>) -> Result<(), String> {
        let kernel = &self.kernel;
        let time = self.clock.as_ref().ok().and_then(|clock| clock.part(kernel)).unwrap_or_default();
        let mut troubles = Vec::new();
        let mut broken = |span: Span, why: &'static str| troubles.push((span, why));
        let mut give = |parts: Vec<Part>| {
            self.rows(artefact, &parts, context).into_iter().for_each(|row| out.event(row));
        };
        let tasks = self.tasks.as_ref().map_err(String::clone);
        match artefact {
            Artefact::Host => {
                let parts = self.clock.as_ref().map_err(String::clone)?.parts(kernel);
                give(parts.ok_or("the kernel's clock is not in the image")?);
            }
            Artefact::Processes => {
                let tasks = tasks?;
                tasks.for_each(kernel, &mut |task| give(tasks.parts(kernel, task, &time)), &mut broken);
            }
            Artefact::Modules => {
                let modules = self.modules.as_ref().map_err(String::clone)?;
                modules.for_each(kernel, &time, &mut give, &mut broken);
            }
            Artefact::Sockets => {
                let sockets = self.sockets.as_ref().map_err(String::clone)?;
                sockets.for_each(kernel, tasks?, &time, &mut give, &mut broken);
            }
            Artefact::Commands => {
                let shells = self.shells.as_ref().map_err(String::clone)?;
                shells.for_each(kernel, tasks?, &mut give, &mut broken);
            }
            Artefact::Lines => {}
        }
        troubles.into_iter().for_each(|(span, why)| out.reject(span, why.into()));
        Ok(())
    }

    fn rows(&self, artefact: Artefact, parts: &[Part], context: &Context) -> Vec<Event> {
        // Without a clock the rows stay undated.
        let clock = self.clock.as_ref().ok();
        let mut rows = match (artefact, &self.tasks, &self.modules, &self.sockets) {
            (Artefact::Host, ..) => clock.map(|clock| clock.rows(parts)).unwrap_or_default(),
            (Artefact::Processes, Ok(tasks), ..) => tasks.rows(parts, clock, context),
            (Artefact::Modules, _, Ok(modules), _) => modules.rows(parts, clock),
            (Artefact::Sockets, Ok(tasks), _, Ok(sockets)) => sockets.rows(parts, tasks, clock, context),
            (Artefact::Commands, Ok(tasks), ..) => {
                let shells = self.shells.as_ref();
                shells.map(|shells| shells.rows(parts, tasks, context)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        rows.iter_mut().for_each(|row| place(row, parts));
        rows
    }
}

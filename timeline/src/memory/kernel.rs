//! A Linux kernel in an image: its types, its symbols, and the tables by which its addresses are found.
//!
//! - Reads: x86-64, from Linux 4.18 on (the first with BTF), wherever the kernel was moved to (KASLR).
//! - What the symbols pack lacks is looked for in memory: VMCOREINFO, then kallsyms (Linux 6.0 and later say where it
//!   lies), BTF, and the name of the first task.
//! - Checked: the first task must be named `swapper`, at the address that both the symbols and the page tables give.
//! - Reference: Linux `arch/x86/kernel/head64.c`, `arch/x86/include/asm/page_64_types.h`, `kernel/vmcore_info.c`.

use std::cell::OnceCell;
use std::sync::Arc;

use super::address_space::{AddressSpace, PAGE};
use super::btf::{self, Btf};
use super::kallsyms::{self, Symbols};
use super::landmarks::Landmarks;
use super::page_table::PageTables;
use super::record_parts::Part;
use super::vmcoreinfo::VmcoreInfo;
use crate::bytes::{ByteSource, read_vec};

/// `__START_KERNEL_map`: where x86-64 kernels are linked to.
const START_OF_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// No symbol table of text is larger.
const LARGEST_KALLSYMS: usize = 128 << 20;

/// What was captured beside the memory.
#[derive(Clone, Default)]
pub(crate) struct SymbolsPack {
    /// `/proc/kallsyms`.
    pub(crate) kallsyms: Option<Arc<dyn ByteSource>>,
    /// `/sys/kernel/btf/vmlinux`.
    pub(crate) btf: Option<Arc<dyn ByteSource>>,
    /// The text of the VMCOREINFO note.
    pub(crate) vmcoreinfo: Option<Arc<dyn ByteSource>>,
}

/// A kernel whose structures can be read.
pub(crate) struct Kernel {
    space: Arc<AddressSpace>,
    tables: PageTables,
    symbols: Symbols,
    types: Btf,
}

impl Kernel {
    /// Opens the kernel of an image. What is missing or does not fit is said in `issues`.
    pub(crate) fn open(
        space: &Arc<AddressSpace>,
        pack: &SymbolsPack,
        issues: &mut Vec<String>,
    ) -> Option<Kernel> {
        let landmarks = OnceCell::new();
        let landmarks = || landmarks.get_or_init(|| Landmarks::find(space));
        let types = pack_types(pack, issues).or_else(|| {
            let found = landmarks().types(space);
            issues.push(match &found {
                Some(types) => format!(
                    "the symbols pack has no usable /sys/kernel/btf/vmlinux: {} types were found in memory itself",
                    types.len()
                ),
                None => "there are no kernel types (BTF), neither in the symbols pack nor in memory: processes, \
                         modules and sockets are not read"
                    .to_owned(),
            });
            found
        })?;
        let text = pack_symbols(pack, issues);
        let given = pack.vmcoreinfo.as_ref().and_then(|file| read_vec(&**file, 0, 1 << 16).ok());
        let given = given.map(|text| VmcoreInfo::parse(&text)).filter(VmcoreInfo::is_useful);
        let opening = Opening { space, types: &types };
        let found = given
            .as_ref()
            .and_then(|info| opening.by_info(text.as_ref(), info))
            .or_else(|| {
                if given.is_some() {
                    issues
                        .push("the symbols pack does not fit this memory: is it of another boot?".to_owned());
                }
                landmarks().infos().iter().find_map(|info| {
                    // The pack's symbols first; where they do not fit, the kernel's own in memory.
                    let found =
                        opening.by_info(text.as_ref(), info).or_else(|| opening.by_info(None, info))?;
                    issues.push(format!(
                        "the addresses of the kernel were found in memory itself (VMCOREINFO of {})",
                        info.release().unwrap_or("an unnamed release")
                    ));
                    Some(found)
                })
            })
            .or_else(|| {
                let symbols = text.as_ref()?;
                let found =
                    landmarks().swappers().iter().find_map(|name| opening.by_first_task(symbols, *name))?;
                issues.push(
                    "the kernel was found by the name of its first task: there is no VMCOREINFO".to_owned(),
                );
                Some(found)
            });
        let Some((tables, symbols)) = found else {
            issues.push(
                "the kernel's symbols are not known or do not fit this memory: processes, modules and sockets are \
                 not read"
                    .to_owned(),
            );
            return None;
        };
        Some(Kernel { space: space.clone(), tables, symbols, types })
    }

    /// The kernel's types.
    pub(crate) fn types(&self) -> &Btf {
        &self.types
    }

    /// The address of a symbol.
    pub(crate) fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name)
    }

    /// The kernel's page tables.
    pub(crate) fn tables(&self) -> &PageTables {
        &self.tables
    }

    /// A pointer, or another number of 8 bytes.
    pub(crate) fn u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Fills `buf`; `false` where not all of it is in the image.
    pub(crate) fn read(&self, address: u64, buf: &mut [u8]) -> bool {
        read(&self.space, &self.tables, address, buf)
    }

    /// Bytes and where they lie; `None` where not all are in the image.
    pub(crate) fn part(&self, address: u64, length: u64) -> Option<Part> {
        self.part_of(&self.tables, address, length).filter(|part| part.bytes.len() as u64 == length)
    }

    /// As [`Kernel::part`] in another address space, up to the first byte that is not there.
    pub(crate) fn part_of(&self, tables: &PageTables, address: u64, length: u64) -> Option<Part> {
        let mut part = Part::default();
        let mut done = 0u64;
        while done < length {
            let at = address.checked_add(done)?;
            let within = (PAGE - at % PAGE).min(length - done);
            let Some(physical) = tables.translate(&self.space, at) else { break };
            let Some(span) = self.space.locate(physical, within) else { break };
            let mut bytes = vec![0; usize::try_from(span.length).ok()?];
            if !self.space.read(physical, &mut bytes) {
                break;
            }
            part.add(span, &bytes);
            done = done.saturating_add(span.length);
        }
        (!part.bytes.is_empty()).then_some(part)
    }

    /// The physical address of a kernel address.
    pub(crate) fn physical(&self, address: u64) -> Option<u64> {
        self.tables.translate(&self.space, address)
    }
}

fn read(space: &AddressSpace, tables: &PageTables, address: u64, buf: &mut [u8]) -> bool {
    let mut at = address;
    let mut rest = buf;
    while !rest.is_empty() {
        let take = rest.len().min((PAGE - at % PAGE) as usize);
        let (to, behind) = rest.split_at_mut(take);
        if !tables.translate(space, at).is_some_and(|physical| space.read(physical, to)) {
            return false;
        }
        rest = behind;
        let Some(next) = at.checked_add(take as u64) else { return rest.is_empty() };
        at = next;
    }
    true
}

fn pack_types(pack: &SymbolsPack, issues: &mut Vec<String>) -> Option<Btf> {
    let file = pack.btf.as_ref()?;
    let bytes =
        read_vec(&**file, 0, (btf::LARGEST + btf::HEADER) as usize).map_err(|error| error.to_string());
    match bytes.and_then(Btf::parse) {
        Ok(types) => Some(types),
        Err(why) => {
            issues.push(format!("the symbols pack's /sys/kernel/btf/vmlinux cannot be used: {why}"));
            None
        }
    }
}

fn pack_symbols(pack: &SymbolsPack, issues: &mut Vec<String>) -> Option<Symbols> {
    let Some(file) = pack.kallsyms.as_ref() else {
        issues.push("there is no symbols pack with /proc/kallsyms beside this memory".to_owned());
        return None;
    };
    let text = read_vec(&**file, 0, LARGEST_KALLSYMS).map_err(|error| error.to_string());
    match text.and_then(|text| Symbols::from_text(&text)) {
        Ok(symbols) => Some(symbols),
        Err(why) => {
            issues.push(format!("the symbols pack's /proc/kallsyms cannot be used: {why}"));
            None
        }
    }
}

struct Opening<'a> {
    space: &'a AddressSpace,
    types: &'a Btf,
}

impl Opening<'_> {
    /// With what VMCOREINFO says, and its way to the symbols where there are no others.
    fn by_info(&self, symbols: Option<&Symbols>, info: &VmcoreInfo) -> Option<(PageTables, Symbols)> {
        let base = info.number("phys_base")?;
        let encrypted = info.number("sme_mask").unwrap_or(0);
        let root = info.symbol("init_top_pgt").or_else(|| info.symbol("swapper_pg_dir"))?;
        let has_five = info.number("pgtable_l5_enabled") == Some(1);
        let symbols = match symbols {
            Some(symbols) => symbols.clone(),
            None => {
                let at = info.kallsyms()?;
                let tables = self.tables(root, base, encrypted, has_five, info.symbol("_stext")?)?;
                kallsyms::from_memory(at, &|address, length| {
                    let mut bytes = vec![0; length];
                    read(self.space, &tables, address, &mut bytes).then_some(bytes)
                })?
            }
        };
        self.checked(symbols, root, base, encrypted, has_five)
    }

    /// With the name of the first task, which lies at a known address and was found at a physical one.
    fn by_first_task(&self, symbols: &Symbols, name: u64) -> Option<(PageTables, Symbols)> {
        let task = name.checked_sub(self.types.field("task_struct", "comm")?.offset)?;
        let base = task.wrapping_sub(symbols.get("init_task")?.checked_sub(START_OF_KERNEL_MAP)?);
        let root = symbols.get("init_top_pgt").or_else(|| symbols.get("swapper_pg_dir"))?;
        self.checked(symbols.clone(), root, base, 0, false)
    }

    fn checked(
        &self,
        symbols: Symbols,
        root: u64,
        base: u64,
        encrypted: u64,
        has_five: bool,
    ) -> Option<(PageTables, Symbols)> {
        let task = symbols.get("init_task")?;
        let name = task.checked_add(self.types.field("task_struct", "comm")?.offset)?;
        let mut text = [0; 7];
        let is_first = self.space.read(linear(name, base)?, &mut text) && text == *b"swapper";
        let tables = self.tables(root, base, encrypted, has_five, task).filter(|_| is_first)?;
        Some((tables, symbols))
    }

    /// Page tables that agree with the kernel's own linear map at one address.
    fn tables(&self, root: u64, base: u64, encrypted: u64, has_five: bool, probe: u64) -> Option<PageTables> {
        let levels = if has_five { [5, 4] } else { [4, 5] };
        levels.iter().find_map(|levels| {
            let tables = PageTables::new(linear(root, base)?, *levels, encrypted);
            (tables.translate(self.space, probe) == Some(linear(probe, base)?)).then_some(tables)
        })
    }
}

/// The physical address of the kernel's code or data.
fn linear(address: u64, phys_base: u64) -> Option<u64> {
    Some(address.checked_sub(START_OF_KERNEL_MAP)?.wrapping_add(phys_base))
}

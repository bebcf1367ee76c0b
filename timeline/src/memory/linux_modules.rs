//! Kernel modules: the list that begins at the symbol `modules`.
//!
//! - Times: the kernel notes none. A row has the time at which memory was read, when the module was there.
//! - Limits: a module that took itself off the list is not found.
//! - Reference: Linux `include/linux/module.h`.

use std::collections::HashSet;

use super::btf::Field;
use super::kernel::Kernel;
use super::linux_clock::{Clock, ClockReader};
use super::record_parts::Part;
use super::structure::{Extract, either, needed};
use crate::event::{Event, Span};
use crate::text::clean;

/// No kernel has as many.
const MOST_MODULES: usize = 1 << 16;
/// Sorts of memory that a module has: text, data, read-only data and so on.
const MOST_SORTS: u64 = 16;
/// Letters of the bits of `taints`, as `/proc/modules` shows them.
const TAINTS: &[u8; 19] = b"PFSRMBUDAWCIOELKXTN";

/// Where the members of a module lie.
pub(crate) struct ModuleReader {
    head: u64,
    list: u64,
    extract: Extract,
    name: Field,
    state: Option<Field>,
    base: Option<Field>,
    /// One size, or since Linux 6.4 one for each sort of memory.
    sizes: Vec<Field>,
    taints: Option<Field>,
}

impl ModuleReader {
    /// Finds the members of a module.
    ///
    /// # Errors
    ///
    /// In words, which symbol or member is missing.
    pub(crate) fn new(kernel: &Kernel) -> Result<ModuleReader, String> {
        let types = kernel.types();
        let head = kernel.symbol("modules").ok_or("the kernel's symbols have no list of modules")?;
        let list = needed(types, "module", "list.next")?.offset;
        let name = needed(types, "module", "name")?;
        let state = types.field("module", "state");
        // Since Linux 6.4 an array, whose first element is the code.
        let inner = |way: &str, n: u64| {
            let (array, member) = (types.field("module", "mem")?, types.field("module_memory", way)?);
            let start = n.checked_mul(types.size_of("module_memory")?)?;
            let offset = array.offset.checked_add(start)?.checked_add(member.offset)?;
            (offset.checked_add(member.size)? <= array.end()).then_some(Field { offset, ..member })
        };
        let base = either(types, "module", &["core_layout.base", "module_core"]).or_else(|| inner("base", 0));
        let size = either(types, "module", &["core_layout.size", "core_size"]);
        let sizes = match size {
            Some(size) => vec![size],
            None => (0..MOST_SORTS).map_while(|n| inner("size", n)).collect(),
        };
        let taints = types.field("module", "taints");
        let fields: Vec<Field> =
            [Some(name), state, base, taints].into_iter().flatten().chain(sizes.iter().copied()).collect();
        let extract = Extract::over(&fields).ok_or("struct module is impossibly large")?;
        Ok(ModuleReader { head, list, extract, name, state, base, sizes, taints })
    }

    /// Gives what each row stands on.
    pub(crate) fn for_each(
        &self,
        kernel: &Kernel,
        clock: &Part,
        module: &mut dyn FnMut(Vec<Part>),
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut seen = HashSet::from([self.head]);
        let mut last = Span::default();
        for link in [0, 8] {
            let mut at = self.head;
            loop {
                let Some(next) = kernel.u64(at.wrapping_add(link)) else {
                    broken(last, "the list of modules is broken behind this one");
                    break;
                };
                if next == self.head {
                    return;
                }
                if !seen.insert(next) || seen.len() > MOST_MODULES {
                    if link == 0 {
                        broken(last, "the list of modules runs in a circle behind this one");
                    }
                    break;
                }
                let part = next.checked_sub(self.list).and_then(|start| {
                    kernel.part(start.checked_add(self.extract.start)?, self.extract.length)
                });
                let Some(part) = part else {
                    broken(last, "the module behind this one is not in the image");
                    break;
                };
                last = part.spans.first().copied().unwrap_or(last);
                module(vec![part, clock.clone()]);
                at = next;
            }
        }
    }

    /// The row of a module.
    pub(crate) fn rows(&self, parts: &[Part], clock: Option<&ClockReader>) -> Vec<Event> {
        let [module, time] = parts else { return Vec::new() };
        let view = self.extract.of(&module.bytes);
        let Some(name) = view.text(&self.name).map(clean) else { return Vec::new() };
        let number = |field: &Option<Field>| view.number(field.as_ref()?);
        let state = number(&self.state).map(|state| match state {
            0 => "live",
            1 => "loading",
            2 => "unloading",
            3 => "being set up",
            _ => "of an unknown state",
        });
        let sizes = self.sizes.iter().filter_map(|field| view.number(field));
        let size = sizes.reduce(u64::saturating_add);
        let base = number(&self.base);
        let mut message = format!("kernel module {name} is {}", state.unwrap_or("loaded"));
        if let Some(base) = base {
            message.push_str(&format!(" at {base:#x}"));
        }
        let event = Event::new("memory:module", "Recorded Time", Span::default(), message);
        let mut event = Clock::date(clock.and_then(|clock| clock.clock(time)), event);
        event.category = Some("driver".into());
        event.action = Some("module-present".into());
        event.size = size.and_then(|size| i64::try_from(size).ok());
        event.attrs.put("module", name);
        event.attrs.put_some("state", state);
        event.attrs.put_some("address", base.map(|base| format!("{base:#x}")));
        let taints: String = number(&self.taints).map(taint_letters).unwrap_or_default();
        event.attrs.put_some("taints", (!taints.is_empty()).then_some(taints));
        vec![event]
    }
}

fn taint_letters(bits: u64) -> String {
    TAINTS
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits & (1 << bit) != 0)
        .map(|(_, letter)| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_shown_as_the_kernel_shows_them() {
        assert_eq!(taint_letters(0), "");
        assert_eq!(taint_letters(1 << 0 | 1 << 12 | 1 << 13), "POE");
    }
}

//! Places in memory that can be found without knowing any address.

use super::address_space::{AddressSpace, Block};
use super::btf::{self, Btf};
use super::vmcoreinfo::{self, VmcoreInfo};
use crate::bytes::read_vec;

/// How much is searched at once, and how far one piece reaches into the next.
const STEP: u64 = 4 << 20;
const OVERLAP: u64 = 64;
/// How many places of one sort are kept.
const MOST: usize = 64;
/// The types of a kernel are larger than those of any module.
const SMALLEST_TYPES: u64 = 256 << 10;

/// What a search of all memory found, by physical address.
pub(crate) struct Landmarks {
    infos: Vec<VmcoreInfo>,
    /// Address and length of types, the longest first.
    types: Vec<(u64, u64)>,
    swappers: Vec<u64>,
}

impl Landmarks {
    /// Searches all memory once.
    pub(crate) fn find(space: &AddressSpace) -> Landmarks {
        let mut found = Landmarks { infos: Vec::new(), types: Vec::new(), swappers: Vec::new() };
        for block in space.blocks() {
            found.search(space, *block);
        }
        found.types.sort_by_key(|(at, length)| (std::cmp::Reverse(*length), *at));
        found.types.truncate(4);
        found
    }

    /// Every VMCOREINFO that says enough.
    pub(crate) fn infos(&self) -> &[VmcoreInfo] {
        &self.infos
    }

    /// Where a task may be named `swapper`.
    pub(crate) fn swappers(&self) -> &[u64] {
        &self.swappers
    }

    /// The largest types that can be read and know a task.
    pub(crate) fn types(&self, space: &AddressSpace) -> Option<Btf> {
        self.types.iter().find_map(|(at, length)| {
            let mut bytes = vec![0; usize::try_from(*length).ok()?];
            let types = space.read(*at, &mut bytes).then(|| Btf::parse(bytes))?.ok()?;
            types.field("task_struct", "comm").is_some().then_some(types)
        })
    }

    fn search(&mut self, space: &AddressSpace, block: Block) {
        let mut done = 0;
        while done < block.length {
            let length = STEP.saturating_add(OVERLAP).min(block.length - done);
            match read_vec(&**space.source(), block.offset.saturating_add(done), length as usize) {
                Ok(bytes) => self.search_piece(space, block.physical.saturating_add(done), &bytes),
                Err(error) => space.note(format!("not all of memory could be searched: {error}")),
            }
            done = done.saturating_add(STEP);
        }
    }

    fn search_piece(&mut self, space: &AddressSpace, physical: u64, bytes: &[u8]) {
        let places = |mark: &'static [u8]| {
            memchr::memmem::find_iter(bytes, mark)
                .filter(|at| (*at as u64) < STEP)
                .map(move |at| physical.saturating_add(at as u64))
        };
        for at in places(vmcoreinfo::MARK) {
            let mut text = vec![0; vmcoreinfo::LARGEST];
            // The note ends well before its page does.
            let there = (vmcoreinfo::LARGEST as u64 - at % vmcoreinfo::LARGEST as u64) as usize;
            text.truncate(there);
            if self.infos.len() < MOST && space.read(at, &mut text) {
                let info = VmcoreInfo::parse(&text);
                if info.is_useful() && !self.infos.contains(&info) {
                    self.infos.push(info);
                }
            }
        }
        for at in places(&btf::MARK) {
            let mut header = [0; btf::HEADER as usize];
            if self.types.len() < MOST
                && space.read(at, &mut header)
                && let Some(length) = btf::length_said(&header).filter(|length| *length >= SMALLEST_TYPES)
                && space.locate(at, length).is_some_and(|span| span.length == length)
            {
                self.types.push((at, length.saturating_add(btf::HEADER)));
            }
        }
        for at in places(b"swapper") {
            if self.swappers.len() < MOST * 16 && at % 8 == 0 {
                self.swappers.push(at);
            }
        }
    }
}

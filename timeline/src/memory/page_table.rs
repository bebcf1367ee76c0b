//! From virtual to physical addresses, as the processor does it.
//!
//! - Reads: x86-64 tables of four and five levels, pages of 4 KiB, 2 MiB and 1 GiB.
//! - Reference: Intel SDM volume 3, 5.5 (4-level and 5-level paging).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::address_space::{AddressSpace, PAGE};

/// Translations that are held; then all are forgotten.
const HELD: usize = 1 << 16;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const IS_LARGE: u64 = 1 << 7;

/// The tables of one address space.
pub(crate) struct PageTables {
    /// Physical address of the first table.
    root: u64,
    levels: u32,
    /// Bits of an entry that are address bits: all but those of memory encryption.
    address: u64,
    held: Mutex<HashMap<u64, Option<u64>>>,
}

impl PageTables {
    /// Tables from `root` on; `encrypted` is the bit that marks encrypted pages, or 0.
    pub(crate) fn new(root: u64, levels: u32, encrypted: u64) -> PageTables {
        PageTables { root: root & ADDRESS, levels, address: ADDRESS & !encrypted, held: Mutex::default() }
    }

    /// The same processor's tables of another address space.
    pub(crate) fn of_process(&self, root: u64) -> PageTables {
        PageTables {
            root: root & self.address,
            levels: self.levels,
            address: self.address,
            held: Mutex::default(),
        }
    }

    /// The physical address of a virtual one; `None` where it is not mapped or the tables are not in the image.
    pub(crate) fn translate(&self, space: &AddressSpace, address: u64) -> Option<u64> {
        let page = address / PAGE;
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held().get(&page).copied();
        let found = known.unwrap_or_else(|| {
            let found = self.walk(space, page * PAGE);
            let mut held = held();
            if held.len() >= HELD {
                held.clear();
            }
            held.insert(page, found);
            found
        });
        found?.checked_add(address % PAGE)
    }

    fn walk(&self, space: &AddressSpace, address: u64) -> Option<u64> {
        let top = 12 + 9 * self.levels;
        // The bits above are copies of the highest one.
        let sign = (address as i64) >> (top.checked_sub(1)?);
        if sign != 0 && sign != -1 {
            return None;
        }
        let mut table = self.root;
        for level in (0..self.levels).rev() {
            let shift = 12 + 9 * level;
            let entry = space.u64(table.checked_add(((address >> shift) & 0x1ff) * 8)?)?;
            if entry & PRESENT == 0 {
                return None;
            }
            let is_page = level == 0 || (level <= 2 && entry & IS_LARGE != 0);
            if is_page {
                let within = (1u64 << shift) - 1;
                return (entry & self.address & !within).checked_add(address & within);
            }
            table = entry & self.address;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::address_space::lime_header;
    use std::sync::Arc;

    /// Memory from 0 on with these numbers in it.
    fn memory(numbers: &[(u64, u64)]) -> AddressSpace {
        let mut bytes = vec![0; 0x10_000];
        for (at, number) in numbers {
            bytes[*at as usize..*at as usize + 8].copy_from_slice(&number.to_le_bytes());
        }
        AddressSpace::open(Arc::new([lime_header(0, 0x10_000), bytes].concat()), &[]).unwrap()
    }

    #[test]
    fn four_levels_lead_to_small_and_large_pages() {
        let space = memory(&[
            (0x1000 + 511 * 8, 0x2003),
            (0x2000 + 510 * 8, 0x3003),
            (0x2000 + 511 * 8, 0x4000_0083),
            (0x3000, 0x4003),
            (0x3000 + 8, 0x8000_0000_0060_00e3 & !0x1f_f000),
            (0x4000 + 3 * 8, 0x8000_0000_0000_9063),
        ]);
        let tables = PageTables::new(0x1000, 4, 0);
        let find = |address| tables.translate(&space, address);
        assert_eq!(find(0xffff_ffff_8000_3123), Some(0x9123), "4 KiB");
        assert_eq!(find(0xffff_ffff_8020_0fff), Some(0x60_0fff & !0x1f_f000 | 0xfff), "2 MiB");
        assert_eq!(find(0xffff_ffff_c123_4567), Some(0x4000_0000 + 0x123_4567), "1 GiB");
        assert_eq!(find(0xffff_ffff_8000_4000), None, "not present");
        assert_eq!(find(0x0fff_ffff_8000_3123), None, "not canonical");
        assert_eq!(find(0), None);
    }

    #[test]
    fn five_levels_and_tables_that_point_at_themselves_end() {
        let space = memory(&[(0x1000 + 511 * 8, 0x1003), (0x1000, 0x1003)]);
        assert_eq!(PageTables::new(0x1000, 5, 0).translate(&space, u64::MAX), Some(0x1fff));
        assert_eq!(PageTables::new(0x1000, 4, 0).translate(&space, 0), Some(0x1000));
        assert_eq!(
            PageTables::new(0xf000_0000, 4, 0).translate(&space, 0),
            None,
            "tables that are not there"
        );
    }

    #[test]
    fn the_bit_of_encrypted_memory_is_no_address() {
        let bit = 1 << 47;
        let space = memory(&[
            (0x1000, 0x2003 | bit),
            (0x2000, 0x3003 | bit),
            (0x3000, 0x4003),
            (0x4000, 0x5003 | bit),
        ]);
        assert_eq!(PageTables::new(0x1000, 4, bit).translate(&space, 7), Some(0x5007));
        assert_eq!(PageTables::new(0x1000, 4, 0).translate(&space, 7), None);
    }
}

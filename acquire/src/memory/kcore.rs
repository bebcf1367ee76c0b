//! `/proc/kcore`: the kernel's memory as an ELF core file that is made while it is read.
//!
//! - Each `PT_LOAD` maps a run of kernel addresses to an offset in the file. Those with a physical address are of use:
//!   the direct map of RAM, and the kernel's own text. `p_memsz` 0 and `p_paddr` of all ones (vmalloc …) are not.
//! - Kernels before 4.11 leave `p_paddr` at zero throughout. Then the direct map of x86-64 tells the address.
//! - The `VMCOREINFO` note says where the kernel lies and how its structures are laid out.
//! - Reference: `fs/proc/kcore.c` of the kernel, the ELF-64 object file format.

use std::io;

use super::iomem::PhysicalRange;

/// Bytes of notes that are read at most; a kernel has some KiB.
const LONGEST_NOTES: u64 = 1 << 20;

const ELF_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const EM_X86_64: u16 = 62;

/// Where the direct map of x86-64 begins in kernels that do not say physical addresses and do not move it.
const OLD_DIRECT_MAP: std::ops::Range<u64> = 0xffff_8800_0000_0000..0xffff_c800_0000_0000;

/// A run of physical memory, and where it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The addresses.
    pub range: PhysicalRange,
    /// Offset of the first of them in the file.
    pub offset: u64,
}

/// What the headers of `/proc/kcore` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kcore {
    /// Physical memory in the file: sorted, and apart from each other.
    pub segments: Vec<Segment>,
    /// Text of the `VMCOREINFO` note.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// Whether the physical addresses were worked out, as the kernel does not say them.
    pub worked_out: bool,
}

/// Why the headers are of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KcoreError {
    /// It could not be read.
    #[error("cannot be read at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is no 64-bit little-endian ELF core file.
    #[error("it is no 64-bit little-endian ELF core file")]
    NotElf,
    /// Its program headers lie where nothing can be.
    #[error("its program headers are damaged")]
    Damaged,
    /// No segment says where its physical memory lies.
    #[error("none of its segments has a physical address")]
    NoSegment,
}

/// Something that is read at offsets.
pub trait ReadAt {
    /// Reads at an offset; 0 bytes only at the end.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let take = from.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..take), from.get(..take)) {
            to.copy_from_slice(from);
        }
        Ok(take)
    }
}

/// Fills a buffer from an offset.
///
/// # Errors
///
/// What the source says, or that it ended.
pub(crate) fn read_exact_at<R: ReadAt + ?Sized>(source: &R, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    crate::source::read_exactly(offset, buf, |offset, buf| source.read_at(offset, buf))
}

/// One entry of the program header table.
struct Program {
    kind: u32,
    offset: u64,
    virtual_address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
}

impl Kcore {
    /// Reads the headers and notes. Segments that overlap are cut, the longer one of equal starts first: the kernel's
    /// text lies in the direct map too, which holds more of it.
    ///
    /// # Errors
    ///
    /// [`KcoreError`].
    pub fn read<R: ReadAt + ?Sized>(file: &R) -> Result<Self, KcoreError> {
        let (machine, programs) = programs(file)?;
        let loads = || programs.iter().filter(|program| program.kind == PT_LOAD && program.memory_size > 0);
        let told = |program: &&Program| !matches!(program.physical_address, u64::MAX | 0xffff_ffff);
        let mut segments: Vec<Segment> =
            loads().filter(told).filter_map(|program| segment(program.physical_address, program)).collect();
        let worked_out =
            machine == EM_X86_64 && segments.len() > 1 && segments.iter().all(|s| s.range.start() == 0);
        if worked_out {
            segments = loads()
                .filter(|program| OLD_DIRECT_MAP.contains(&program.virtual_address))
                .filter_map(|program| segment(program.virtual_address - OLD_DIRECT_MAP.start, program))
                .collect();
        }
        let segments = apart(segments);
        if segments.is_empty() {
            return Err(KcoreError::NoSegment);
        }
        // A note that cannot be had takes nothing from the memory itself.
        let vmcoreinfo = programs.iter().filter(|program| program.kind == PT_NOTE).find_map(|program| {
            let length = usize::try_from(program.file_size.min(LONGEST_NOTES)).ok()?;
            let mut notes = vec![0; length];
            read_exact_at(file, program.offset, &mut notes).ok()?;
            note(&notes, b"VMCOREINFO").map(<[u8]>::to_vec)
        });
        Ok(Self { segments, vmcoreinfo, worked_out })
    }
}

fn segment(address: u64, program: &Program) -> Option<Segment> {
    let range = PhysicalRange::with_length(address, program.memory_size)?;
    // An offset that wraps leads nowhere.
    program.offset.checked_add(program.memory_size)?;
    Some(Segment { range, offset: program.offset })
}

/// Sorts segments and cuts off what an earlier one holds already.
fn apart(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by_key(|s| (s.range.start(), std::cmp::Reverse(s.range.last()), s.offset));
    let mut out: Vec<Segment> = Vec::with_capacity(segments.len());
    for segment in segments {
        let next = match out.last() {
            Some(before) => match before.range.last().checked_add(1) {
                Some(next) => next.max(segment.range.start()),
                None => break,
            },
            None => segment.range.start(),
        };
        if let Some(range) = PhysicalRange::new(next, segment.range.last()) {
            out.push(Segment { range, offset: segment.offset.saturating_add(next - segment.range.start()) });
        }
    }
    out
}

fn programs<R: ReadAt + ?Sized>(file: &R) -> Result<(u16, Vec<Program>), KcoreError> {
    let mut header = [0u8; ELF_HEADER];
    read_exact_at(file, 0, &mut header).map_err(|source| KcoreError::Read { offset: 0, source })?;
    // 64-bit, little-endian, version 1.
    if header.get(..7) != Some(b"\x7fELF\x02\x01\x01") || two(&header, 16) != 4 {
        return Err(KcoreError::NotElf);
    }
    let (table, size, count) = (eight(&header, 32), two(&header, 54), two(&header, 56));
    if usize::from(size) != PROGRAM_HEADER {
        return Err(KcoreError::Damaged);
    }
    let length = u64::from(count) * PROGRAM_HEADER as u64;
    table.checked_add(length).ok_or(KcoreError::Damaged)?;
    let mut programs = Vec::new();
    let mut bytes = [0u8; PROGRAM_HEADER];
    for index in 0..u64::from(count) {
        let offset = table.saturating_add(index * PROGRAM_HEADER as u64);
        read_exact_at(file, offset, &mut bytes).map_err(|source| KcoreError::Read { offset, source })?;
        programs.push(Program {
            kind: four(&bytes, 0),
            offset: eight(&bytes, 8),
            virtual_address: eight(&bytes, 16),
            physical_address: eight(&bytes, 24),
            file_size: eight(&bytes, 32),
            memory_size: eight(&bytes, 40),
        });
    }
    Ok((two(&header, 18), programs))
}

/// The content of the first note of a name.
fn note<'a>(mut notes: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let padded = |length: u32| usize::try_from(length).ok()?.checked_next_multiple_of(4);
    while notes.len() >= 12 {
        let (name_length, length) = (four(notes, 0), four(notes, 4));
        let content_at = padded(name_length)?.checked_add(12)?;
        let next = content_at.checked_add(padded(length)?)?;
        let name = notes.get(12..content_at)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let content = notes.get(content_at..content_at.checked_add(usize::try_from(length).ok()?)?)?;
        if name == wanted {
            return Some(content);
        }
        notes = notes.get(next..).unwrap_or_default();
    }
    None
}

fn two(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn four(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn eight(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::made_machine::{MadeSegment, made_kcore};
    use super::*;
    use proptest::prelude::*;

    fn told(kcore: &Kcore) -> Vec<String> {
        kcore.segments.iter().map(|s| format!("{} at {:#x}", s.range, s.offset)).collect()
    }

    #[test]
    fn segments_without_a_physical_address_are_left_out_and_the_text_gives_way_to_the_direct_map() {
        let segments = [
            MadeSegment::at(u64::MAX, 0xffff_c900_0000_0000, &[1; 4096]),
            MadeSegment::at(0x10_1000, 0xffff_ffff_8100_0000, &[2; 8192]),
            MadeSegment::at(0x10_0000, 0xffff_8880_0010_0000, &[3; 16384]),
            MadeSegment::at(0x1000, 0xffff_8880_0000_1000, &[4; 4096]),
            MadeSegment::at(0x9000, 0xffff_8880_0000_9000, &[]),
        ];
        let file = made_kcore(&segments, b"OSRELEASE=6.1.0\nPAGESIZE=4096\n");
        let kcore = Kcore::read(file.as_slice()).unwrap();
        let data = |filler: u8| file.windows(4096).position(|w| w.iter().all(|&b| b == filler)).unwrap();
        assert_eq!(
            told(&kcore),
            [format!("0x1000-0x1fff at {:#x}", data(4)), format!("0x100000-0x103fff at {:#x}", data(3)),]
        );
        assert_eq!(kcore.vmcoreinfo.unwrap(), b"OSRELEASE=6.1.0\nPAGESIZE=4096\n");
        assert!(!kcore.worked_out);
    }

    #[test]
    fn the_direct_map_tells_the_addresses_that_old_kernels_leave_out() {
        let segments = [
            MadeSegment::at(0, 0xffff_c900_0000_0000, &[1; 4096]),
            MadeSegment::at(0, 0xffff_8800_0010_0000, &[2; 4096]),
            MadeSegment::at(0, 0xffff_8800_0000_1000, &[3; 4096]),
        ];
        let kcore = Kcore::read(made_kcore(&segments, b"").as_slice()).unwrap();
        assert!(kcore.worked_out);
        let starts: Vec<u64> = kcore.segments.iter().map(|s| s.range.start()).collect();
        assert_eq!(starts, [0x1000, 0x10_0000]);
    }

    #[test]
    fn what_is_no_core_file_is_refused_with_the_reason() {
        assert!(matches!(Kcore::read([0u8; 0].as_slice()), Err(KcoreError::Read { offset: 0, .. })));
        assert!(matches!(Kcore::read([0u8; 64].as_slice()), Err(KcoreError::NotElf)));
        let mut file = made_kcore(&[MadeSegment::at(0x1000, 1, &[1; 16])], b"");
        file[54] = 1;
        assert!(matches!(Kcore::read(file.as_slice()), Err(KcoreError::Damaged)));
        let only_vmalloc = made_kcore(&[MadeSegment::at(u64::MAX, 1, &[1; 16])], b"");
        assert!(matches!(Kcore::read(only_vmalloc.as_slice()), Err(KcoreError::NoSegment)));
    }

    proptest! {
        #[test]
        fn a_damaged_core_file_gives_segments_in_order_or_an_error(
            places in proptest::collection::vec((0usize..700, any::<u8>()), 0..40),
            cut in 0usize..20_000,
        ) {
            let segments = [
                MadeSegment::at(0x1000, 0xffff_8880_0000_1000, &[4; 4096]),
                MadeSegment::at(0x10_0000, 0xffff_8880_0010_0000, &[3; 8192]),
                MadeSegment::at(u64::MAX, 0xffff_c900_0000_0000, &[3; 64]),
            ];
            let mut file = made_kcore(&segments, b"OSRELEASE=6\n");
            for (place, byte) in places {
                if place > 6 {
                    file[place] = byte;
                }
            }
            file.truncate(cut);
            if let Ok(kcore) = Kcore::read(file.as_slice()) {
                prop_assert!(kcore.segments.windows(2).all(|pair| pair[0].range.last() < pair[1].range.start()));
                prop_assert!(kcore.segments.iter().all(|s| s.offset.checked_add(s.range.length()).is_some()));
            }
        }
    }
}

//! The layout of an ELF core: which runs of pages are its segments, and what comes before them. Reference: elf(5), core(5).

use super::memory_ranges::{Range, page};

/// `PT_LOAD`s of one core; `e_phnum` has 16 bits.
pub(super) const MOST_SEGMENTS: usize = 60_000;

/// A run of pages that are read, or that are zeros in the file because nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) range: usize,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) is_there: bool,
}

/// Runs of pages as pieces of a file with at most so many segments: where there are more, small holes are filled.
pub(super) fn pieces(runs: &[Vec<(u64, u64)>], most: usize) -> Vec<Piece> {
    let mut largest = 0u64;
    loop {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut segments = 0usize;
        for (range, runs) in runs.iter().enumerate() {
            let mut end = None;
            for &(start, length) in runs {
                let hole = end.map(|end: u64| start.saturating_sub(end));
                match (hole, end) {
                    (Some(hole), Some(end)) if hole <= largest => {
                        pieces.push(Piece { range, start: end, length: hole, is_there: false });
                    }
                    _ => segments = segments.saturating_add(1),
                }
                pieces.push(Piece { range, start, length, is_there: true });
                end = Some(start.saturating_add(length));
            }
        }
        if segments <= most || largest > 1 << 40 {
            return pieces;
        }
        largest = if largest == 0 { page() } else { largest.saturating_mul(4) };
    }
}

/// Elf header, program headers and notes, filled up to a whole page.
pub(super) fn head(ranges: &[Range], auxv: &[u8], pieces: &[Piece]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const PROGRAM: u64 = 56;
    // Segments: pieces that follow each other.
    let mut segments: Vec<(usize, u64, u64)> = Vec::new();
    for piece in pieces {
        match segments.last_mut() {
            Some((range, start, length))
                if *range == piece.range && start.saturating_add(*length) == piece.start =>
            {
                *length = length.saturating_add(piece.length);
            }
            _ => segments.push((piece.range, piece.start, piece.length)),
        }
    }
    let notes = [note(6, auxv), note(0x4649_4c45, &mapped_files(ranges))].concat();
    let count = segments.len().saturating_add(1).min(0xfffe);
    let notes_at = HEADER.saturating_add(PROGRAM.saturating_mul(count as u64));
    let body_at = notes_at.saturating_add(notes.len() as u64).next_multiple_of(page());
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut head = Vec::new();
    head.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for field in [4u16, machine] {
        head.extend(field.to_le_bytes());
    }
    head.extend(1u32.to_le_bytes());
    for field in [0u64, HEADER, 0] {
        head.extend(field.to_le_bytes());
    }
    head.extend(0u32.to_le_bytes());
    for field in [64u16, 56, u16::try_from(count).unwrap_or(u16::MAX), 0, 0, 0] {
        head.extend(field.to_le_bytes());
    }
    let mut program = |kind: u32, flags: u32, offset: u64, address: u64, size: u64, align: u64| {
        head.extend(kind.to_le_bytes());
        head.extend(flags.to_le_bytes());
        let in_memory = if kind == 1 { size } else { 0 };
        for field in [offset, address, 0, size, in_memory, align] {
            head.extend(field.to_le_bytes());
        }
    };
    program(4, 0, notes_at, 0, notes.len() as u64, 4);
    let mut offset = body_at;
    for (range, start, length) in segments {
        let permissions = ranges.get(range).map_or("", |range| range.permissions.as_str());
        let flag = |letter: char, bit: u32| if permissions.contains(letter) { bit } else { 0 };
        program(1, flag('r', 4) | flag('w', 2) | flag('x', 1), offset, start, length, page());
        offset = offset.saturating_add(length);
    }
    head.extend(notes);
    head.resize(usize::try_from(body_at).unwrap_or(head.len()), 0);
    head
}

/// One note of the name `CORE`.
fn note(kind: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or(0);
    let mut note = Vec::new();
    for field in [5u32, length, kind] {
        note.extend(field.to_le_bytes());
    }
    note.extend(b"CORE\0\0\0\0");
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// The content of `NT_FILE`: how many files, page size, ranges, then names.
fn mapped_files(ranges: &[Range]) -> Vec<u8> {
    let files: Vec<&Range> = ranges.iter().filter(|range| range.path.starts_with(b"/")).collect();
    let mut content = Vec::new();
    for field in [files.len() as u64, page()] {
        content.extend(field.to_le_bytes());
    }
    for file in &files {
        for field in [file.start, file.end, file.offset / page()] {
            content.extend(field.to_le_bytes());
        }
    }
    for file in files {
        content.extend(&file.path);
        content.push(0);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_holes_are_filled_only_where_there_would_be_too_many_segments() {
        let runs = vec![vec![(0x1000, 0x1000), (0x3000, 0x1000), (0x9000, 0x1000)], vec![(0x20000, 0x2000)]];
        assert!(pieces(&runs, 10).iter().all(|piece| piece.is_there));
        let filled = pieces(&runs, 3);
        let holes: Vec<_> = filled.iter().filter(|piece| !piece.is_there).collect();
        assert_eq!(holes.len(), 1);
        assert_eq!((holes[0].start, holes[0].length), (0x2000, 0x1000));
    }
}

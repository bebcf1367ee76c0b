//! A machine made for tests: a `/proc/kcore` and a `/proc/iomem` whose memory is known byte for byte.

/// A segment to be put into a made core file.
pub(crate) struct MadeSegment {
    physical: u64,
    virtual_address: u64,
    data: Vec<u8>,
}

impl MadeSegment {
    pub(crate) fn at(physical: u64, virtual_address: u64, data: &[u8]) -> Self {
        Self { physical, virtual_address, data: data.to_vec() }
    }
}

/// An ELF core file as the kernel makes it: a note segment, then the `PT_LOAD`s, their data on page boundaries.
pub(crate) fn made_kcore(segments: &[MadeSegment], vmcoreinfo: &[u8]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (name, kind, content) in [("CORE", 1u32, [7u8; 336].as_slice()), ("VMCOREINFO", 0, vmcoreinfo)] {
        notes.extend((name.len() as u32 + 1).to_le_bytes());
        notes.extend((content.len() as u32).to_le_bytes());
        notes.extend(kind.to_le_bytes());
        notes.extend(name.bytes());
        notes.push(0);
        notes.resize(notes.len().next_multiple_of(4), 0);
        notes.extend(content);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
    let count = segments.len() as u16 + 1;
    let notes_at = 64 + 56 * u64::from(count);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(4u16.to_le_bytes());
    file.extend(62u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend(0u64.to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for field in [64u16, 56, count, 0, 0, 0] {
        file.extend(field.to_le_bytes());
    }
    let mut program = |kind: u32, fields: [u64; 6]| {
        file.extend(kind.to_le_bytes());
        file.extend(4u32.to_le_bytes());
        for field in fields {
            file.extend(field.to_le_bytes());
        }
    };
    program(4, [notes_at, 0, 0, notes.len() as u64, 0, 0]);
    let mut at = (notes_at + notes.len() as u64).next_multiple_of(4096);
    for segment in segments {
        let length = segment.data.len() as u64;
        program(1, [at, segment.virtual_address, segment.physical, length, length, 4096]);
        at = (at + length).next_multiple_of(4096);
    }
    file.extend(notes);
    for segment in segments {
        file.resize(file.len().next_multiple_of(4096), 0);
        file.extend(&segment.data);
    }
    file.resize(file.len().next_multiple_of(4096), 0);
    file
}

/// Bytes that differ from page to page and are never a page of zeros.
pub(crate) fn filled(address: u64, length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|i| {
            let at = address + i;
            ((at >> 12) as u8).wrapping_mul(31).wrapping_add((at as u8) ^ 0x5a) | 1
        })
        .collect()
}

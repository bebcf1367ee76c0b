//! Expert Witness images made byte by byte, so that every layout and every fault can be had.

use std::io::Write;

/// How an image is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    pub(crate) sectors_in_chunk: u32,
    pub(crate) chunks_in_table: usize,
    pub(crate) tables_in_segment: usize,
    pub(crate) packing: Packing,
    /// As the first writers had it: one table with its chunks behind it, no second copy, a short volume section.
    pub(crate) is_smart: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Deflated,
    Stored,
    /// Every second chunk is deflated.
    Mixed,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            sectors_in_chunk: 8,
            chunks_in_table: 4,
            tables_in_segment: 2,
            packing: Packing::Mixed,
            is_smart: false,
        }
    }
}

pub(crate) fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

/// A section's descriptor; `length` is of its content.
pub(crate) fn descriptor(kind: &str, at: u64, length: u64) -> Vec<u8> {
    let mut out = vec![0; 76];
    out[..kind.len()].copy_from_slice(kind.as_bytes());
    let is_last = matches!(kind, "next" | "done");
    let next = if is_last { at } else { at + 76 + length };
    out[16..24].copy_from_slice(&next.to_le_bytes());
    out[24..32].copy_from_slice(&(76 + length).to_le_bytes());
    let sum = adler32(&out[..72]);
    out[72..].copy_from_slice(&sum.to_le_bytes());
    out
}

pub(crate) fn file_header(number: u16) -> Vec<u8> {
    let mut out = b"EVF\x09\x0d\x0a\xff\x00\x01".to_vec();
    out.extend(number.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn section(out: &mut Vec<u8>, kind: &str, content: &[u8]) {
    out.extend(descriptor(kind, out.len() as u64, content.len() as u64));
    out.extend(content);
}

pub(crate) fn volume(chunks: u32, sectors_in_chunk: u32, sectors: u32, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    out[0] = 1;
    out[4..8].copy_from_slice(&chunks.to_le_bytes());
    out[8..12].copy_from_slice(&sectors_in_chunk.to_le_bytes());
    out[12..16].copy_from_slice(&512u32.to_le_bytes());
    out[16..20].copy_from_slice(&sectors.to_le_bytes());
    let sum = adler32(&out[..length - 4]);
    out[length - 4..].copy_from_slice(&sum.to_le_bytes());
    out
}

/// A table's header and entries, and the checksum of them where `has_footer`.
pub(crate) fn table(base: u64, entries: &[u32], has_footer: bool) -> Vec<u8> {
    let mut out = vec![0; 24];
    out[..4].copy_from_slice(&(entries.len() as u32).to_le_bytes());
    out[8..16].copy_from_slice(&base.to_le_bytes());
    let sum = adler32(&out[..20]);
    out[20..].copy_from_slice(&sum.to_le_bytes());
    let list: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    out.extend(&list);
    if has_footer {
        out.extend(adler32(&list).to_le_bytes());
    }
    out
}

pub(crate) fn stored(chunk: &[u8]) -> Vec<u8> {
    [chunk, &adler32(chunk).to_le_bytes()].concat()
}

pub(crate) fn deflated(chunk: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(chunk).unwrap();
    encoder.finish().unwrap()
}

impl Recipe {
    fn pack(&self, index: usize, chunk: &[u8]) -> (Vec<u8>, bool) {
        let is_deflated = match self.packing {
            Packing::Deflated => true,
            Packing::Stored => false,
            Packing::Mixed => index % 2 == 1,
        };
        if is_deflated { (deflated(chunk), true) } else { (stored(chunk), false) }
    }

    /// The segments of an image of `disk`, whose length is a multiple of 512.
    pub(crate) fn make(&self, disk: &[u8]) -> Vec<Vec<u8>> {
        let size = self.sectors_in_chunk as usize * 512;
        let chunks: Vec<&[u8]> = disk.chunks(size).collect();
        let facts = volume(
            chunks.len() as u32,
            self.sectors_in_chunk,
            (disk.len() / 512) as u32,
            if self.is_smart { 94 } else { 1052 },
        );
        let tables: Vec<&[&[u8]]> = chunks.chunks(self.chunks_in_table).collect();
        let segments: Vec<_> = tables.chunks(self.tables_in_segment).collect();
        let mut index = 0;
        let mut made = Vec::new();
        for (number, tables) in segments.iter().enumerate() {
            let mut out = file_header(number as u16 + 1);
            match (number, self.is_smart) {
                (0, _) => {
                    section(&mut out, "header", &deflated(b"1\nmain\nc\tn\n1\t1\n"));
                    section(&mut out, "volume", &facts);
                }
                (_, false) => section(&mut out, "data", &facts),
                (_, true) => {}
            }
            for table_chunks in *tables {
                self.table(&mut out, table_chunks, &mut index);
            }
            if number + 1 < segments.len() {
                section(&mut out, "next", &[]);
            } else {
                if !self.is_smart {
                    section(&mut out, "data", &facts);
                }
                section(&mut out, "error2", &{
                    let mut errors = vec![0; 520];
                    errors[0] = 1;
                    errors.extend([3u32.to_le_bytes(), 2u32.to_le_bytes()].concat());
                    errors.extend([0; 4]);
                    errors
                });
                let mut hash = vec![0xAB; 16];
                hash.extend([0; 16]);
                hash.extend(adler32(&hash).to_le_bytes());
                section(&mut out, "hash", &hash);
                section(&mut out, "done", &[]);
            }
            made.push(out);
        }
        made
    }

    fn table(&self, out: &mut Vec<u8>, chunks: &[&[u8]], index: &mut usize) {
        let packed: Vec<_> = chunks
            .iter()
            .map(|chunk| {
                *index += 1;
                self.pack(*index - 1, chunk)
            })
            .collect();
        let data: Vec<u8> = packed.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let begin = match self.is_smart {
            true => out.len() + 76 + 24 + 4 * chunks.len(),
            false => out.len() + 76,
        };
        let mut at = begin as u32;
        let entries: Vec<u32> = packed
            .iter()
            .map(|(bytes, is_deflated)| {
                let entry = at | if *is_deflated { 0x8000_0000 } else { 0 };
                at += bytes.len() as u32;
                entry
            })
            .collect();
        if self.is_smart {
            section(out, "table", &[table(0, &entries, false), data].concat());
        } else {
            section(out, "sectors", &data);
            section(out, "table", &table(0, &entries, true));
            section(out, "table2", &table(0, &entries, true));
        }
    }
}

/// A disk whose every sector is another one, half of it compressible.
pub(crate) fn disk(sectors: usize) -> Vec<u8> {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut out = Vec::new();
    for sector in 0..sectors {
        for at in 0..512usize {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.push(if at < 256 { (random >> 56) as u8 } else { sector as u8 });
        }
    }
    out
}

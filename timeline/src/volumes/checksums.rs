//! The two checksums of ext structures: CRC-32C and CRC-16 (the kernel's `crc32c_le` and `crc16`).

/// CRC-32C of `bytes`, going on from `seed`; neither end is inverted, as in the kernel's `ext4_chksum`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = &CRC32C;
    let look = |table: &[u32; 256], index: u32| table.get((index & 0xFF) as usize).copied().unwrap_or(0);
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut crc = seed;
    for &[a, b, c, d, e, f, g, h] in eights {
        let low = crc ^ u32::from_le_bytes([a, b, c, d]);
        crc = look(t7, low)
            ^ look(t6, low >> 8)
            ^ look(t5, low >> 16)
            ^ look(t4, low >> 24)
            ^ look(t3, e.into())
            ^ look(t2, f.into())
            ^ look(t1, g.into())
            ^ look(t0, h.into());
    }
    for byte in rest {
        crc = (crc >> 8) ^ look(t0, crc ^ u32::from(*byte));
    }
    crc
}

/// CRC-16 (ANSI, reflected) of `bytes`, going on from `seed`.
pub(super) fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xA001 } else { c >> 1 })
    })
}

/// Table 0 is for one byte; table n for a byte that n more bytes follow.
static CRC32C: [[u32; 256]; 8] = crc32c_tables();

#[allow(clippy::indexing_slicing, reason = "runs in the compiler: an index out of range would not build")]
const fn crc32c_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][i] = crc;
        i += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut i = 0;
        while i < 256 {
            let before = tables[n - 1][i];
            tables[n][i] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            i += 1;
        }
        n += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_give_their_published_check_values() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(crc32c(!0, b"12345"), b"6789"), !0xE306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
    }
}

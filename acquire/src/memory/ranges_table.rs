//! `data/memory.ranges.tsv`: which physical addresses lie where in the stream, and which are not in it.

use std::io;

use super::iomem::PhysicalRange;

/// A range of the machine's memory: where its bytes are in the stream, or why they are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) range: PhysicalRange,
    /// Offset of its first byte in the stream, behind its LiME header.
    pub(crate) offset: Option<u64>,
    pub(crate) detail: &'static str,
}

/// Writes the table, by address: `start`, `end` (inclusive, hexadecimal, as in `/proc/iomem`), `stream_offset` (decimal, or
/// `-` for a range that is not in the stream), `length`, `detail`.
pub(crate) fn write(placed: &[Placed], out: &mut dyn io::Write) -> io::Result<()> {
    out.write_all(b"start\tend\tstream_offset\tlength\tdetail\n")?;
    let mut sorted: Vec<&Placed> = placed.iter().collect();
    sorted.sort_by_key(|placed| placed.range);
    for Placed { range, offset, detail } in sorted {
        let offset = offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let (start, last) = (range.start(), range.last());
        writeln!(out, "{start:#018x}\t{last:#018x}\t{offset}\t{}\t{detail}", range.length())?;
    }
    Ok(())
}

/// What of `ram` lies in `reach`, and what does not; both sorted and apart.
pub(crate) fn divide(
    ram: &[PhysicalRange],
    reach: &[PhysicalRange],
) -> (Vec<PhysicalRange>, Vec<PhysicalRange>) {
    let (mut within, mut without) = (Vec::new(), Vec::new());
    for range in ram {
        let mut next = Some(range.start());
        let first = reach.partition_point(|part| part.last() < range.start());
        for part in reach.get(first..).unwrap_or_default() {
            let (Some(from), Some(common)) = (next, range.common(*part)) else { break };
            if let Some(gap) = common.start().checked_sub(1).and_then(|last| PhysicalRange::new(from, last)) {
                without.push(gap);
            }
            within.push(common);
            next = common.last().checked_add(1);
        }
        without.extend(next.and_then(|from| PhysicalRange::new(from, range.last())));
    }
    (within, without)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Vec<PhysicalRange> {
        pairs.iter().map(|&(start, last)| PhysicalRange::new(start, last).unwrap()).collect()
    }

    #[test]
    fn memory_is_divided_into_what_a_source_reaches_and_the_gaps_between() {
        let ram = ranges(&[
            (0x1000, 0x9fbff),
            (0x10_0000, 0x1f_ffff),
            (0x40_0000, 0x4f_ffff),
            (u64::MAX - 9, u64::MAX),
        ]);
        let reach =
            ranges(&[(0, 0x9efff), (0x10_0000, 0x13_ffff), (0x18_0000, 0x30_0000), (u64::MAX - 4, u64::MAX)]);
        let (within, without) = divide(&ram, &reach);
        let expected =
            [(0x1000, 0x9efff), (0x10_0000, 0x13_ffff), (0x18_0000, 0x1f_ffff), (u64::MAX - 4, u64::MAX)];
        assert_eq!(within, ranges(&expected));
        let expected = [
            (0x9f000, 0x9fbff),
            (0x14_0000, 0x17_ffff),
            (0x40_0000, 0x4f_ffff),
            (u64::MAX - 9, u64::MAX - 5),
        ];
        assert_eq!(without, ranges(&expected));
        assert_eq!(divide(&ram, &[]).1, ram);
    }

    #[test]
    fn the_table_names_gaps_beside_what_was_read_by_address() {
        let placed = |start, last, offset, detail| Placed {
            range: PhysicalRange::new(start, last).unwrap(),
            offset,
            detail,
        };
        let table =
            [placed(0x10_0000, 0x10_0fff, Some(688), ""), placed(0x1000, 0x1fff, None, "not_in_source")];
        let mut out = Vec::new();
        write(&table, &mut out).unwrap();
        let expected = "start\tend\tstream_offset\tlength\tdetail\n\
            0x0000000000001000\t0x0000000000001fff\t-\t4096\tnot_in_source\n\
            0x0000000000100000\t0x0000000000100fff\t688\t4096\t\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

//! Expert Witness images of every layout, whole and damaged: what is read is the disk, or an error for that part.

use std::process::Command;
use std::sync::Arc;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use timeline::ReadError;
use timeline::bytes::{ByteSource, StreamRange, read_vec};
use timeline::images::ewf::Ewf;

use crate::made_e01::{Packing, Recipe, deflated, descriptor, disk, file_header, stored, table, volume};

const PACKINGS: [Packing; 3] = [Packing::Deflated, Packing::Stored, Packing::Mixed];

fn recipes() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for packing in PACKINGS {
        for is_smart in [false, true] {
            for tables_in_segment in [1, 2, 100] {
                let recipe = Recipe { packing, is_smart, tables_in_segment, ..Recipe::default() };
                recipes.extend([recipe, Recipe { chunks_in_table: 1000, sectors_in_chunk: 3, ..recipe }]);
            }
        }
    }
    recipes
}

fn open(segments: &[Vec<u8>], with_parts: bool) -> Result<Ewf, String> {
    let parts: Vec<u64> = segments.iter().map(|segment| segment.len() as u64).collect();
    let stream: Arc<dyn ByteSource> = Arc::new(segments.concat());
    Ewf::open(stream, if with_parts { &parts } else { &[] }).unwrap()
}

fn issues(ewf: &Ewf) -> Vec<String> {
    ewf.issues().iter().map(|issue| issue.what.clone()).collect()
}

/// Issues besides the one that every made image has: two sectors that could not be read.
fn faults(ewf: &Ewf) -> Vec<String> {
    issues(ewf).into_iter().filter(|what| !what.contains("when the image was made")).collect()
}

/// Reads each sector alone; gives those that are lost. All others must be the disk's.
fn lost_sectors(ewf: &Ewf, disk: &[u8]) -> Vec<usize> {
    assert_eq!(ewf.len(), disk.len() as u64);
    let mut lost = Vec::new();
    for (number, sector) in disk.chunks(512).enumerate() {
        match read_vec(ewf, number as u64 * 512, 512) {
            Ok(read) => assert!(read == sector, "sector {number} is another one: {:#?}", issues(ewf)),
            Err(ReadError::Lost { .. }) => lost.push(number),
            Err(error) => panic!("{error}"),
        }
    }
    lost
}

#[test]
fn images_of_every_layout_give_the_disk_back() {
    let disk = disk(77);
    for recipe in recipes() {
        let segments = recipe.make(&disk);
        for with_parts in [true, false] {
            let ewf = open(&segments, with_parts).unwrap();
            assert!(read_vec(&ewf, 0, disk.len() + 1).unwrap() == disk, "{recipe:?}");
            assert_eq!(faults(&ewf), [""; 0], "{recipe:?}");
            assert!(lost_sectors(&ewf, &disk).is_empty());
            assert_eq!(read_vec(&ewf, 76 * 512 + 500, 100).unwrap(), disk[76 * 512 + 500..]);
            assert_eq!(read_vec(&ewf, u64::MAX, 1).unwrap(), [0; 0]);
            let facts = ewf.facts();
            assert_eq!((facts.media_size, facts.segments), (77 * 512, segments.len()));
            assert_eq!((facts.md5, facts.sha1), (Some([0xAB; 16]), None));
            assert_eq!(facts.unreadable_sectors, [(3, 2)]);
        }
    }
}

#[test]
fn ranges_hold_stored_chunks_themselves_and_deflated_chunks_whole() {
    let disk = disk(64);
    for packing in PACKINGS {
        let segments = Recipe { packing, ..Recipe::default() }.make(&disk);
        let stream = segments.concat();
        let ewf = open(&segments, true).unwrap();
        // Two bytes of chunk 1 and three of chunk 2, which are of 4096 bytes.
        let (from, length) = (8190, 5);
        let ranges = ewf.stream_ranges(from, length);
        let bytes: Vec<&[u8]> =
            ranges.iter().map(|range| &stream[range.start as usize..range.end as usize]).collect();
        let (one, two) = (&disk[4096..8192], &disk[8192..12288]);
        let is_stored_as = ewf.stored_as(from, length).is_some();
        match packing {
            Packing::Stored => assert_eq!((bytes, is_stored_as), (vec![&one[4094..], &two[..3]], false)),
            Packing::Deflated => {
                assert_eq!((bytes.len(), bytes[1], is_stored_as), (2, &*deflated(two), true));
            }
            Packing::Mixed => assert_eq!((bytes, is_stored_as), (vec![&*deflated(one), &two[..3]], true)),
        }
        let entries = ewf.container_ranges(from, length);
        assert!(entries.len() == 2 && entries.iter().all(|range| range.end - range.start == 4));
        assert_eq!(ewf.map_ranges().len(), 1);
    }
}

#[test]
fn a_damaged_chunk_is_lost_alone_and_named() {
    let disk = disk(77);
    for recipe in recipes() {
        let mut segments = recipe.make(&disk);
        let in_chunk = recipe.sectors_in_chunk as usize;
        let chunk = &disk[2 * in_chunk * 512..3 * in_chunk * 512];
        let packed = if recipe.packing == Packing::Deflated { deflated(chunk) } else { stored(chunk) };
        let at = segments[0].windows(packed.len()).position(|bytes| bytes == packed).unwrap();
        segments[0][at + packed.len() / 2] ^= 0x40;
        let ewf = open(&segments, true).unwrap();
        let lost: Vec<usize> = (2 * in_chunk..3 * in_chunk).collect();
        assert_eq!(lost_sectors(&ewf, &disk), lost, "{recipe:?}");
        let faults = faults(&ewf);
        let named = format!("bytes {} to {} of the disk (chunk 2)", 1024 * in_chunk, 1536 * in_chunk);
        assert!(faults.len() == 1 && faults[0].starts_with(&named), "{faults:?}");
    }
}

#[test]
fn a_damaged_table_is_replaced_by_its_copy_and_chunks_are_never_taken_for_others() {
    let disk = disk(160);
    let segments = Recipe::default().make(&disk);
    let stream = segments.concat();
    let tables: Vec<usize> = stream
        .windows(76)
        .enumerate()
        .filter(|(_, bytes)| bytes.starts_with(b"table\0") || bytes.starts_with(b"table2\0"))
        .map(|(at, _)| at)
        .collect();
    let damaged = |places: &[usize]| {
        let mut stream = stream.clone();
        places.iter().for_each(|at| stream[*at] ^= 3);
        let parts: Vec<u64> = segments.iter().map(|segment| segment.len() as u64).collect();
        Ewf::open(Arc::new(stream), &parts).unwrap().unwrap()
    };
    // The number of entries, the base offset, an entry.
    for field in [76, 76 + 10, 76 + 24 + 5] {
        let ewf = damaged(&[tables[2] + field]);
        assert!(!faults(&ewf).is_empty());
        assert_eq!(lost_sectors(&ewf, &disk), [0; 0]);
    }
    // The number of entries in both copies of the second table: only its four chunks have no number any more.
    let ewf = damaged(&[tables[2] + 76, tables[3] + 76]);
    assert_eq!(lost_sectors(&ewf, &disk), (32..64).collect::<Vec<_>>());
    // In two tables: then none behind the first of them has one.
    let ewf = damaged(&[tables[2] + 76, tables[3] + 76, tables[6] + 76, tables[7] + 76]);
    assert_eq!(lost_sectors(&ewf, &disk), (32..160).collect::<Vec<_>>());
}

#[test]
fn segments_that_are_missing_or_in_another_order_do_not_shift_the_others() {
    let disk = disk(300);
    let segments = Recipe::default().make(&disk);
    assert_eq!(segments.len(), 5);
    let without = |missing: usize| {
        let mut left = segments.clone();
        left.remove(missing);
        open(&left, true).unwrap()
    };
    let ewf = without(2);
    assert_eq!(lost_sectors(&ewf, &disk), (128..192).collect::<Vec<_>>());
    assert!(faults(&ewf).iter().any(|what| what == "segment 3 is missing"));
    let ewf = without(4);
    assert_eq!(lost_sectors(&ewf, &disk), (256..300).collect::<Vec<_>>());
    assert!(faults(&ewf).iter().any(|what| what.contains("not the last one")));
    // The volume section is in the first, and its copy in every other one.
    assert_eq!(lost_sectors(&without(0), &disk), (0..64).collect::<Vec<_>>());
    let mut mixed = segments.clone();
    mixed.swap(1, 3);
    let ewf = open(&mixed, true).unwrap();
    assert!(lost_sectors(&ewf, &disk).is_empty() && faults(&ewf).is_empty());
}

#[test]
fn other_formats_are_named_as_what_they_are() {
    for (bytes, name) in [
        (&b"EVF2\r\n\x81\x00and more bytes"[..], "Ex01"),
        (b"LVF\x09\x0d\x0a\xff\x00and more bytes", "L01"),
        (b"ADCRYPT\x00and more bytes", "encrypted"),
        (b"PK\x03\x04", "no segment"),
        (b"", "empty"),
    ] {
        let reason = open(&[bytes.to_vec()], false).err().unwrap();
        assert!(reason.contains(name), "{reason}");
    }
}

/// Bytes at a few places of a stream that is otherwise zeros.
struct Sparse(Vec<(u64, Vec<u8>)>, u64);

impl ByteSource for Sparse {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let n = buf.len().min(self.1.saturating_sub(offset) as usize);
        for (at, byte) in (offset..).zip(&mut buf[..n]) {
            let part =
                self.0.iter().find(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&at));
            *byte = part.map_or(0, |(start, bytes)| bytes[(at - start) as usize]);
        }
        Ok(n)
    }

    fn stream_ranges(&self, offset: u64, length: u64) -> Vec<StreamRange> {
        std::iter::once(offset..offset + length).collect()
    }
}

#[test]
fn segments_beyond_two_gibibytes_are_read_in_both_forms_of_their_offsets() {
    const GIB: u64 = 1 << 30;
    let disk = disk(4 * 64);
    let chunks: Vec<Vec<u8>> = disk.chunks(32768).map(stored).collect();
    // The chunks straddle 2 GiB; with a base offset they lie behind 3 GiB.
    for (base, first) in [(0, 2 * GIB - 50_000), (3 * GIB, 3 * GIB + 1000)] {
        let mut parts = vec![(0, file_header(1))];
        parts.push((13, [descriptor("volume", 13, 1052), volume(4, 64, 4 * 64, 1052)].concat()));
        let sectors_at = 13 + 76 + 1052;
        let mut at = first;
        let mut entries = Vec::new();
        for chunk in &chunks {
            entries.push((at - base) as u32);
            parts.push((at, chunk.clone()));
            at += chunk.len() as u64;
        }
        parts.push((sectors_at, descriptor("sectors", sectors_at, at - sectors_at - 76)));
        let list = table(base, &entries, true);
        parts.push((at, [descriptor("table", at, list.len() as u64), list.clone()].concat()));
        let done = at + 76 + list.len() as u64;
        parts.push((done, descriptor("done", done, 0)));
        let ewf = Ewf::open(Arc::new(Sparse(parts, done + 76)), &[]).unwrap().unwrap();
        assert!(read_vec(&ewf, 0, disk.len()).unwrap() == disk, "{base} {:?}", issues(&ewf));
        assert_eq!(issues(&ewf), [""; 0]);
        assert_eq!(ewf.stream_ranges(32768, 1), vec![first + 32772..first + 32773]);
    }
}

#[test]
fn an_image_cut_at_any_length_gives_what_is_left() {
    let disk = disk(40);
    for recipe in [Recipe::default(), Recipe { is_smart: true, tables_in_segment: 9, ..Recipe::default() }] {
        let stream = recipe.make(&disk).concat();
        let mut best = 0;
        for length in 0..stream.len() {
            let Ok(ewf) = Ewf::open(Arc::new(stream[..length].to_vec()), &[]).unwrap() else { continue };
            let left = 40 - lost_sectors(&ewf, &disk).len();
            assert!(!faults(&ewf).is_empty(), "{length}");
            best = best.max(left);
        }
        assert!(best == 40, "with all but the end all sectors are there: {best}");
    }
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Chunks hold the numbers of their sectors, so that one taken for another would be seen.
    #[test]
    fn changed_bytes_lose_chunks_but_never_give_others(
        damage in damage(),
        is_smart in any::<bool>(),
        packing in prop_oneof![Just(Packing::Deflated), Just(Packing::Stored), Just(Packing::Mixed)],
    ) {
        let disk = disk(77);
        let mut stream = Recipe { is_smart, packing, ..Recipe::default() }.make(&disk).concat();
        for (at, change) in &damage {
            let at = at.index(stream.len());
            stream[at] ^= change;
        }
        let Ok(ewf) = Ewf::open(Arc::new(stream), &[]).unwrap() else { return Ok(()) };
        let is_size_damaged = issues(&ewf).iter().any(|what| what.starts_with("the checksum of the content"));
        if ewf.len() == disk.len() as u64 && !is_size_damaged {
            lost_sectors(&ewf, &disk);
        } else {
            for at in (0..ewf.len().min(100_000)).step_by(512) {
                let _ = read_vec(&ewf, at, 512);
            }
        }
    }
}

/// With the writer that most people use, where it is there.
#[test]
fn images_of_libewf_are_read_in_all_its_formats() {
    if Command::new("ewfacquire").arg("-V").output().is_err() {
        println!("skipped: there is no ewfacquire");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    let disk = [disk(3000), vec![0; 1 << 20]].concat();
    std::fs::write(&raw, &disk).unwrap();
    for format in ["ewf", "smart", "ftk", "encase2", "encase5", "encase7", "linen6", "ewfx"] {
        for level in ["none", "fast", "best"] {
            let name = format!("{format}-{level}");
            let target = folder.path().join(&name);
            let mut command = Command::new("ewfacquire");
            command
                .args(["-u", "-q", "-f", format, "-c", level, "-S", "1MiB", "-d", "sha1", "-t"])
                .arg(&target);
            let output = command.arg(&raw).output().unwrap();
            assert!(output.status.success(), "{name}: {output:?}");
            let mut files: Vec<_> = std::fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.file_stem().is_some_and(|stem| stem == name.as_str()))
                .collect();
            files.sort();
            let segments: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
            for with_parts in [true, false] {
                let ewf = open(&segments, with_parts).unwrap();
                assert!(read_vec(&ewf, 0, disk.len()).unwrap() == disk, "{name}: {:?}", issues(&ewf));
                assert_eq!(issues(&ewf), [""; 0], "{name}");
                assert!(ewf.facts().md5.is_some(), "{name}");
            }
            files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        }
    }
}

//! Imported files of every kind, from a sealed bundle to rows and back to their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::LazyLock;

use custody::bundle::Bundle;
use serde_json::{Value, json};
use timeline::bytes::StreamRange;
use timeline::event::Event;
use timeline::prove::{Hints, Prover};
use timeline::record::Place;

use crate::made_bundle::{Built, Row, built, import};
use crate::made_e01::{Packing, Recipe};
use crate::sample_files::samples_folder;

/// The disk of the sample host.
static DISK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let stored = std::fs::read(samples_folder().join("web01/web01-disk.raw.zst")).unwrap();
    let mut disk = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(&*stored).unwrap();
    decoder.window_log_max(27).unwrap();
    decoder.read_to_end(&mut disk).unwrap();
    disk
});

fn imported(folder: &Path, content: &[u8], options: &Value) -> (Bundle, Built) {
    let bundle = import(folder, &mut Cursor::new(content), options);
    let built = built(&bundle);
    (bundle, built)
}

fn sample(folder: &Path, name: &str, format: &str) -> (Bundle, Built) {
    let content = std::fs::read(samples_folder().join("collections").join(name)).unwrap();
    imported(&folder.join("bundle"), &content, &json!({ "format": format }))
}

/// Rows without their locators, sorted.
fn rows(built: &Built) -> Vec<String> {
    let mut rows: Vec<String> =
        built.rows.iter().map(|row| format!("{} {:?}", row.parser, row.event)).collect();
    rows.sort();
    rows
}

fn parts(segments: &[Vec<u8>]) -> Vec<Value> {
    segments.iter().map(|segment| json!({"name": "x.E01", "size": segment.len()})).collect()
}

#[test]
fn a_disk_gives_the_same_rows_out_of_every_kind_of_image() {
    let folder = tempfile::tempdir().unwrap();
    let (_, raw) = imported(&folder.path().join("raw"), &DISK, &json!({"format": "raw"}));
    assert!(raw.rows.len() > 1000 && raw.counts().len() > 8, "{:?}", raw.counts());
    let halves = DISK.split_at(DISK.len() / 2);
    let split = json!({"format": "split-raw", "parts": parts(&[halves.0.to_vec(), halves.1.to_vec()])});
    let (_, split) = imported(&folder.path().join("split"), &DISK, &split);
    assert!(rows(&split) == rows(&raw));
    for (name, packing) in [("mixed", Packing::Mixed), ("deflated", Packing::Deflated)] {
        let recipe = Recipe {
            packing,
            sectors_in_chunk: 64,
            chunks_in_table: 600,
            tables_in_segment: 2,
            is_smart: false,
        };
        let segments = recipe.make(&DISK);
        let options = json!({"format": "e01", "parts": parts(&segments)});
        let (_, e01) = imported(&folder.path().join(name), &segments.concat(), &options);
        assert!(rows(&e01) == rows(&raw), "{name}");
        assert!(e01.rows.iter().all(|row| row.locator.starts_with("original/e01/p1/ext4")));
        let issues: Vec<String> = e01.issues();
        assert!(
            issues.iter().any(|issue| issue.contains("2 sectors from 3 on could not be read when the image"))
        );
    }
}

#[test]
fn an_image_with_lost_chunks_still_gives_everything_else() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        packing: Packing::Mixed,
        sectors_in_chunk: 64,
        chunks_in_table: 300,
        tables_in_segment: 1,
        is_smart: false,
    };
    let whole = recipe.make(&DISK);
    let options = json!({"format": "e01", "parts": parts(&whole)});
    let all = imported(&folder.path().join("all"), &whole.concat(), &options).1;
    // The superblock's chunk, the next with the group descriptors, inodes and directories, each alone.
    let partition = u64::from_le_bytes(DISK[1024 + 32..1024 + 40].try_into().unwrap()) * 512;
    let first = partition as usize / 32768;
    for chunk in [first, first + 1, first + 2, first + 4, first + 20, 5] {
        let mut segments = whole.clone();
        let bytes = &DISK[chunk * 32768..(chunk + 1) * 32768];
        let packed =
            if chunk % 2 == 1 { crate::made_e01::deflated(bytes) } else { crate::made_e01::stored(bytes) };
        let segment = segments.iter_mut().find(|s| find(s, &packed).is_some()).unwrap();
        let at = find(segment, &packed).unwrap();
        segment[at + packed.len() / 2] ^= 0x10;
        let name = format!("chunk{chunk}");
        let (_, built) = imported(&folder.path().join(&name), &segments.concat(), &options);
        let issues = built.issues();
        let is_read = built.rows.len() < all.rows.len() || rows(&built) != rows(&all);
        let is_named = issues.iter().any(|issue| issue.contains(&format!("(chunk {chunk})")));
        assert!(is_named || !is_read, "{chunk}: {issues:#?}");
        if chunk != first {
            assert!(
                built.rows.len() * 10 > all.rows.len(),
                "{chunk}: {} rows, {issues:#?}",
                built.rows.len()
            );
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.get(..64.min(part.len()))?;
    (0..bytes.len().checked_sub(part.len())? + 1)
        .find(|at| bytes[*at..].starts_with(start) && bytes[*at..].starts_with(part))
}

fn of<'a>(built: &'a Built, parser: &str, path: &str) -> Vec<&'a Row> {
    built.rows.iter().filter(|row| row.parser == parser && row.locator.contains(path)).collect()
}

fn time(event: &Event) -> String {
    event.time.unwrap().to_rfc3339()
}

#[test]
fn a_uac_archive_is_read_as_the_host_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let (_, built) = sample(folder.path(), "uac-web02-linux-20261104120000.tar.gz", "uac-tar");
    let expected = [("bash_history", 6), ("bodyfile", 73), ("file_times", 13), ("syslog", 52)];
    assert_eq!(built.counts(), BTreeMap::from(expected));
    assert_eq!(built.issues(), [""; 0]);
    let logins = of(&built, "syslog", "original/gzip/tar:/[root]/var/log/auth.log");
    // Local time of Tokyo, in the year of the file's modification time.
    assert_eq!((logins.len(), time(&logins[24].event)), (25, "2026-11-04T02:02:07Z".into()));
    let older = of(&built, "syslog", "/[root]/var/log/syslog.2.gz>gzip");
    assert_eq!((older.len(), time(&older[0].event)), (27, "2025-11-30T19:05:06Z".into()));
    let history = of(&built, "bash_history", "/[root]/home/jane/");
    assert_eq!((history.len(), history[0].event.user_name.as_deref()), (3, Some("jane")));
    let times = of(&built, "file_times", "original/gzip/tar");
    let paths: BTreeSet<&str> = times.iter().filter_map(|row| row.event.path.as_deref()).collect();
    assert!(paths.contains("/etc/hostname") && paths.contains("/live_response/system/hostname.txt"));
}

#[test]
fn a_velociraptor_archive_is_read_as_the_host_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let (_, built) = sample(folder.path(), "Collection-db01-2026-11-04T12_00_00Z.zip", "velociraptor-zip");
    assert_eq!(built.counts(), BTreeMap::from([("bash_history", 3), ("file_times", 11), ("syslog", 52)]));
    assert_eq!(built.issues(), [""; 0]);
    let logins = of(&built, "syslog", "original/zip:/uploads/auto/var/log/auth.log");
    assert_eq!((logins.len(), time(&logins[24].event)), (25, "2026-11-04T10:02:07Z".into()));
    let odd = of(&built, "file_times", "original/zip");
    let odd = odd.iter().find(|row| row.event.message.contains("notes")).unwrap();
    assert_eq!(odd.event.path.as_deref(), Some("/home/jane/50% off: notes.txt"));
    assert_eq!(time(&odd.event), "2026-11-04T11:05:00Z");
}

#[test]
fn a_kape_archive_keeps_its_local_times_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let (_, built) = sample(folder.path(), "kape-ws07.zip", "kape");
    assert_eq!(built.counts(), BTreeMap::from([("file_times", 3), ("web_access", 20)]));
    let times = of(&built, "file_times", "original/zip");
    assert!(times.iter().all(|row| row.event.time.is_none()));
    assert_eq!(times[0].event.ts_text.as_deref(), Some("2026-11-04 12:00:00"));
}

/// One range of memory as LiME writes it; AVML up to 0.20 left out the last byte of each.
fn lime(last: u64) -> Vec<u8> {
    let mut out = [0x4C69_4D45u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    out.extend(0x1000u64.to_le_bytes());
    out.extend(last.to_le_bytes());
    out.extend([0; 8]);
    let mut page = vec![0; (last - 0x1000 + 1) as usize];
    let line =
        b"Nov  4 11:02:07 web01 sshd[811]: Accepted password for jane from 203.0.113.9 port 40100 ssh2\n";
    page[100..100 + line.len()].copy_from_slice(line);
    out.extend(page);
    out
}

#[test]
fn imported_memory_is_read_as_memory_and_the_lost_bytes_of_an_old_avml_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (last, is_lost) in [(0x3FFF, false), (0x3FFE, true)] {
        let bundle = folder.path().join(last.to_string());
        let (_, built) = imported(&bundle, &lime(last), &json!({"format": "lime"}));
        let issues = built.issues();
        assert!(built.report.files.iter().any(|file| file.locator == "original/lime"), "{:?}", built.report);
        assert_eq!(issues.iter().any(|issue| issue.contains("lack their last byte")), is_lost, "{issues:?}");
    }
}

#[test]
fn what_is_no_archive_or_of_an_unknown_format_is_an_issue_and_nothing_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("uac-tar", &b"hello, this is text"[..], "neither tar nor zip: it is text"),
        ("kape", b"", "neither tar nor zip: it is empty"),
        ("velociraptor-zip", b"PK\x03\x04 and no end", "no end record"),
        ("e01", b"PK\x03\x04", "no segment of an Expert Witness image"),
        ("vmdk", b"x", "format \"vmdk\" are not read"),
        ("", b"x", "format \"\" are not read"),
    ];
    for (n, (format, content, reason)) in cases.into_iter().enumerate() {
        let (_, built) = imported(&folder.path().join(n.to_string()), content, &json!({ "format": format }));
        let issues = built.issues();
        assert!(built.rows.is_empty() && issues.len() == 1 && issues[0].contains(reason), "{issues:?}");
    }
}

#[test]
fn archives_that_are_cut_or_changed_never_stop_a_build() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = 88172645463325252u64;
    let mut next = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % limit
    };
    for (name, format) in [
        ("uac-web02-linux-20261104120000.tar.gz", "uac-tar"),
        ("Collection-db01-2026-11-04T12_00_00Z.zip", "velociraptor-zip"),
        ("kape-ws07.zip", "kape"),
    ] {
        let whole = std::fs::read(samples_folder().join("collections").join(name)).unwrap();
        let mut cases: Vec<Vec<u8>> =
            (0..whole.len()).step_by(311).map(|length| whole[..length].to_vec()).collect();
        for _ in 0..15 {
            let mut changed = whole.clone();
            for _ in 0..=next(3) {
                changed[next(whole.len())] ^= 1 << next(8);
            }
            cases.push(changed);
        }
        // The same damage below gzip, where its checksum does not tell.
        if let Some(plain) = gunzip(&whole) {
            cases.extend((0..plain.len()).step_by(3331).map(|length| plain[..length].to_vec()));
            for _ in 0..15 {
                let mut changed = plain.clone();
                changed[next(plain.len())] = next(256) as u8;
                cases.push(changed);
            }
        }
        for (n, content) in cases.into_iter().enumerate() {
            let bundle = folder.path().join(format!("{format}{n}"));
            let (_, built) = imported(&bundle, &content, &json!({ "format": format }));
            if content.len() < whole.len() {
                assert!(!built.issues().is_empty(), "{name} cut to {} bytes", content.len());
            }
            std::fs::remove_dir_all(bundle).unwrap();
        }
    }
}

fn gunzip(stored: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(stored).read_to_end(&mut plain).ok().map(|_| plain)
}

/// What the ranges decode to, by libraries that are not ours.
fn decoded(stream: &[u8], ranges: &[StreamRange], stored_as: Option<&str>) -> Vec<u8> {
    let parts = ranges.iter().map(|range| &stream[range.start as usize..range.end as usize]);
    let mut out = Vec::new();
    match stored_as {
        None => parts.for_each(|part| out.extend(part)),
        Some(what) if what.starts_with("deflated chunks") => {
            for part in parts {
                let mut chunk = Vec::new();
                // Of an image with both kinds, what is no zlib stream is the bytes themselves.
                match flate2::read::ZlibDecoder::new(part).read_to_end(&mut chunk) {
                    Ok(_) => out.extend(chunk),
                    Err(_) => out.extend(part),
                }
            }
        }
        Some(what) => {
            let joined: Vec<u8> = parts.flatten().copied().collect();
            // The ranges may end within the deflated bytes: what comes before is there.
            let _ = match what.starts_with("a gzip file") {
                true => flate2::read::MultiGzDecoder::new(&*joined).read_to_end(&mut out),
                false => flate2::read::DeflateDecoder::new(&*joined).read_to_end(&mut out),
            };
        }
    }
    out
}

#[test]
fn every_row_of_an_import_leads_back_to_its_bytes_and_is_proved_by_its_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(samples_folder().join("collections").join(name)).unwrap();
    let recipe =
        Recipe { sectors_in_chunk: 64, chunks_in_table: 600, tables_in_segment: 2, ..Recipe::default() };
    let segments = recipe.make(&DISK);
    let cases = [
        (read("uac-web02-linux-20261104120000.tar.gz"), json!({"format": "uac-tar"}), 1),
        (read("Collection-db01-2026-11-04T12_00_00Z.zip"), json!({"format": "velociraptor-zip"}), 1),
        (read("kape-ws07.zip"), json!({"format": "kape"}), 1),
        (segments.concat(), json!({"format": "e01", "parts": parts(&segments)}), 23),
        (DISK.clone(), json!({"format": "raw"}), 97),
    ];
    for (n, (content, options, step)) in cases.into_iter().enumerate() {
        let (bundle, built) = imported(&folder.path().join(n.to_string()), &content, &options);
        let prover = Prover::open(bundle, None).unwrap();
        let mut kinds = BTreeSet::new();
        for row in built.rows.iter().step_by(step) {
            let place = Place {
                locator: row.locator.clone(),
                span: row.event.span,
                pieces: row.event.pieces.clone(),
            };
            let record = prover.record(&place).unwrap();
            let year =
                row.event.time.and_then(|time| Hints::year_of(time, row.event.year_basis, prover.zone()));
            let hints = Hints { parser: row.parser.into(), year };
            let again = prover.parse(&place, &record, &hints).unwrap();
            assert!(again.contains(&row.event), "{row:#?}\n{again:#?}");
            let chunks = prover.chunks("original", &record.ranges).unwrap();
            assert!(!chunks.is_empty(), "{row:#?}");
            // Rows of an archive's own headers have no others that would tell where they lie.
            let is_mapped = !record.map_ranges.is_empty();
            assert!(is_mapped || (row.parser == "file_times" && n != 3), "{row:#?}");
            kinds.insert(record.stored_as);
            let plain = decoded(&content, &record.ranges, record.stored_as);
            if !row.locator.contains('>') {
                let bytes = &record.bytes;
                assert!(plain.windows(bytes.len()).any(|part| part == bytes), "{row:#?}");
            }
        }
        let kinds: Vec<Option<&str>> = kinds.into_iter().collect();
        let expected: &[Option<&str>] = match n {
            0 => &[Some("a gzip file, from its start")],
            1 | 2 => &[None, Some("a deflated member of a zip, from its start")],
            3 => &[None, Some("deflated chunks of an E01 image, whole")],
            _ => &[None],
        };
        assert_eq!(kinds, expected, "{options}");
    }
}

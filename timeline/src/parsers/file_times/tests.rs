//! Rows of made file systems and tars, and each of them again from its own bytes alone.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::bytes::{ByteSource, read_vec};
use crate::event::Event;
use crate::parser::Collected;
use crate::volumes::made_images::{LONG_TARGET, MadeImage};

fn rows(volume: &std::sync::Arc<dyn ByteSource>) -> Vec<Event> {
    let mut out = Collected::default();
    scan(&Ext::open(volume.clone()).unwrap(), &mut out).unwrap();
    out.events
}

fn of_path<'a>(rows: &'a [Event], path: &str) -> Vec<&'a Event> {
    rows.iter().filter(|row| row.path.as_deref() == Some(path)).collect()
}

fn fill(root: &Path) {
    std::fs::create_dir_all(root.join("var/log")).unwrap();
    std::fs::write(root.join("var/log/syslog"), "x").unwrap();
    std::fs::hard_link(root.join("var/log/syslog"), root.join("second name")).unwrap();
    std::fs::write(root.join("gone"), "x").unwrap();
    std::fs::write(root.join("gone too"), "x").unwrap();
    symlink("target", root.join("link")).unwrap();
    symlink(LONG_TARGET, root.join("long link")).unwrap();
    std::fs::write(root.join("with\nline end"), "x").unwrap();
}

const LAYOUTS: &[&[&str]] = &[
    &["-t", "ext4", "-b", "4096"],
    &["-t", "ext2", "-b", "1024", "-I", "128"],
    &["-t", "ext4", "-b", "1024", "-I", "512", "-O", "inline_data"],
    &["-t", "ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode"],
];

fn made(options: &[&str]) -> Option<MadeImage> {
    let image = MadeImage::of("16M", options, fill)?;
    image.debugfs(&[
        "rm /gone".into(),
        "rm \"/gone too\"".into(),
        "sif \"/second name\" mtime 0x6553f100".into(),
        "ea_set \"/second name\" user.note seen".into(),
        "unlink /var".into(),
    ]);
    Some(image)
}

#[test]
fn every_row_comes_back_from_its_own_bytes_alone() {
    for options in LAYOUTS {
        let Some(image) = made(options) else { return };
        let volume = image.volume();
        let rows = rows(&volume);
        assert!(rows.len() > 40);
        for record in rows.chunk_by(|a, b| (a.span, &a.pieces) == (b.span, &b.pieces)) {
            let first = &record[0];
            let pieces = first.pieces.as_deref().unwrap().split(' ').map(|piece| {
                let (offset, length) = piece.split_once('+').unwrap();
                let (offset, length) = (offset.parse().unwrap(), length.parse().unwrap());
                (offset, read_vec(&*volume, offset, length).unwrap())
            });
            let pieces: Vec<_> = pieces.collect();
            let bytes = read_vec(&*volume, first.span.offset, first.span.length as usize).unwrap();
            let mut alone = Collected::default();
            rows_of_record(&bytes, first.span, &pieces, &mut alone);
            assert_eq!(alone.events, record, "{options:?}");
        }
    }
}

#[test]
fn rows_say_what_an_inode_is() {
    let Some(image) = made(LAYOUTS[0]) else { return };
    let rows = rows(&image.volume());
    let file = of_path(&rows, "/second name");
    let words: Vec<_> = file.iter().map(|row| row.ts_desc.as_ref()).collect();
    let all =
        ["Content Modification Time", "Last Access Time", "Metadata Modification Time", "Creation Time"];
    assert_eq!(words, all);
    assert_eq!(file[0].time.unwrap().to_rfc3339(), "2023-11-14T22:13:20Z");
    assert_eq!((file[0].ts_precision, file[0].tz_basis), (Precision::Ns, crate::event::TzBasis::UtcByFormat));
    assert_eq!(file[0].message, "/second name Type: file");
    assert_eq!((file[0].size, file[0].flags), (Some(1), 0));
    assert_eq!(file[0].attrs.get("mode").unwrap(), "0100644");
    assert_eq!(file[0].attrs.get("links").unwrap(), 2);
    assert_eq!(file[0].attrs.get("xattrs").unwrap()["user.note"], "seen");
    assert_eq!(of_path(&rows, "/long link")[0].message, format!("/long link Type: link -> {LONG_TARGET}"));
    assert_eq!(of_path(&rows, "/link")[0].attrs.get("target").unwrap(), "target");
    assert_eq!(of_path(&rows, "/with\nline end")[0].message, "/with\\x0aline end Type: file");
    assert_eq!(of_path(&rows, "/")[0].message, "/ Type: directory");
    // The other name is in a folder that the root no longer names.
    let other =
        rows.iter().find(|row| row.path.as_deref().is_some_and(|p| p.ends_with("/log/syslog"))).unwrap();
    assert!(other.path.as_deref().unwrap().starts_with("$inode/"));
    assert_eq!(other.inode, file[0].inode);
}

#[test]
fn deleted_inodes_say_so_with_and_without_a_name() {
    let Some(image) = made(LAYOUTS[0]) else { return };
    let rows = rows(&image.volume());
    let deleted: Vec<_> = rows.iter().filter(|row| row.ts_desc == "Content Deletion Time").collect();
    assert_eq!(deleted.len(), 2);
    for row in deleted {
        assert!(row.flags & flags::DELETED != 0);
        assert_eq!(row.ts_precision, Precision::S);
        match &row.path {
            Some(path) => {
                assert!(row.message == format!("{path} Type: file (deleted)"));
                assert!(row.flags & flags::RECOVERED != 0);
            }
            None => assert_eq!(row.message, format!("deleted inode {} (regular file)", row.inode.unwrap())),
        }
    }
}

fn octal(block: &mut [u8], at: usize, length: usize, number: u64) {
    block[at..at + length - 1].copy_from_slice(format!("{number:0width$o}", width = length - 1).as_bytes());
}

fn header(name: &[u8], kind: u8, size: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name);
    for (at, length, number) in
        [(100, 8, 0o640), (108, 8, 1000), (116, 8, 33), (124, 12, size), (136, 12, 1_700_000_000)]
    {
        octal(&mut block, at, length, number);
    }
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[265..270].copy_from_slice(b"alice");
    block[148..156].fill(b' ');
    let sum = block.iter().map(|b| u64::from(*b)).sum();
    octal(&mut block, 148, 7, sum);
    block[154] = 0;
    block
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|n| *n == rest + n.to_string().len()).unwrap();
        content.extend([format!("{length} {key}=").as_bytes(), value, b"\n"].concat());
    }
    let mut blocks = header(b"PaxHeaders/x", b'x', content.len() as u64);
    content.resize(content.len().next_multiple_of(512), 0);
    blocks.extend(content);
    blocks
}

#[test]
fn a_tar_member_gives_the_times_of_its_pax_records() {
    let mut bytes = pax(&[
        ("path", b"var/log/na\xffme"),
        ("mtime", b"1700000000.123456789"),
        ("atime", b"1700000001.5"),
        ("ctime", b"-1.25"),
        ("EXHIBIT.btime", b"1600000000.000000001"),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:var_log_t\0"),
        ("comment", b"hello"),
    ]);
    bytes.extend(header(b"short", b'0', 77));
    let span = Span::new(4096, bytes.len() as u64);
    let mut out = Collected::default();
    rows_of_tar_header(&bytes, span, &mut out);
    let times: Vec<_> =
        out.events.iter().map(|row| (row.ts_desc.as_ref(), row.time.unwrap().to_rfc3339())).collect();
    assert_eq!(
        times,
        [
            ("Content Modification Time", "2023-11-14T22:13:20.123456789Z".to_owned()),
            ("Last Access Time", "2023-11-14T22:13:21.500Z".to_owned()),
            ("Metadata Modification Time", "1969-12-31T23:59:58.750Z".to_owned()),
            ("Creation Time", "2020-09-13T12:26:40.000000001Z".to_owned()),
        ]
    );
    let row = &out.events[0];
    assert_eq!(row.path.as_deref(), Some("/var/log/na\\xffme"));
    assert_eq!((row.size, row.span), (Some(77), span));
    assert_eq!(
        row.attrs.to_json(),
        r#"{"mode":"0100640","uid":1000,"gid":33,"type":"file","user":"alice","xattrs":{"security.selinux":"system_u:object_r:var_log_t"},"comment":"hello"}"#
    );
    let mut alone = Collected::default();
    let mut input = Input::of_record("/", 4096, bytes, std::sync::Arc::new(Vec::new()));
    PARSER.parse(&mut input, &Context::default(), &mut alone).unwrap();
    assert_eq!(alone.events, out.events);
}

#[test]
fn damaged_tar_headers_are_rejects() {
    let whole = [pax(&[("path", b"a")]), header(b"a", b'0', 0)].concat();
    for length in 0..whole.len() {
        let mut out = Collected::default();
        rows_of_tar_header(&whole[..length], Span::new(0, length as u64), &mut out);
        assert_eq!((out.events.len(), out.rejects.len()), (0, 1), "{length}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] = 0xFF;
        let mut out = Collected::default();
        rows_of_tar_header(&bytes, Span::new(0, whole.len() as u64), &mut out);
        assert_eq!(out.events.is_empty(), !out.rejects.is_empty());
    }
}

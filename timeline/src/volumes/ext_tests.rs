//! ext2, ext3 and ext4 images made by `mke2fs`, compared with the files that went in and with `debugfs`.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use super::made_images::{LONG_TARGET, MadeImage};
use super::{Ext, ExtError, FileType, Inode, InodeTime};
use crate::bytes::{ByteSource, read_vec};
use crate::parser::Collected;
use crate::parsers::file_times;

/// The layouts that all tests below run on.
const LAYOUTS: &[(&str, &[&str])] = &[
    ("ext2", &["-t", "ext2", "-b", "1024", "-I", "128"]),
    ("ext2", &["-t", "ext2", "-b", "4096", "-I", "256", "-O", "^sparse_super,^filetype,^resize_inode"]),
    ("ext3", &["-t", "ext3", "-b", "1024", "-I", "256"]),
    ("ext4", &["-t", "ext4", "-b", "1024", "-I", "256", "-O", "^64bit,^metadata_csum,uninit_bg"]),
    ("ext4", &["-t", "ext4", "-b", "4096", "-I", "256", "-O", "64bit,metadata_csum"]),
    ("ext4", &["-t", "ext4", "-b", "4096", "-I", "128", "-O", "^64bit,^metadata_csum,^flex_bg"]),
    (
        "ext4",
        &["-t", "ext4", "-b", "1024", "-I", "512", "-O", "inline_data,metadata_csum_seed,metadata_csum"],
    ),
    ("ext4", &["-t", "ext4", "-b", "2048", "-I", "1024", "-O", "meta_bg,^resize_inode,sparse_super2"]),
    ("ext4", &["-t", "ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode,^64bit"]),
    ("ext4", &["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"]),
    ("ext4", &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"]),
    ("ext4", &["-t", "ext4", "-b", "65536", "-O", "metadata_csum"]),
];

fn each_layout(mut check: impl FnMut(&MadeImage, &str, &[&str])) {
    for (kind, options) in LAYOUTS {
        let size = if options.contains(&"65536") { "128M" } else { "48M" };
        let Some(image) = MadeImage::new(size, options) else { return };
        check(&image, kind, options);
    }
}

fn inodes(ext: &Ext) -> Vec<Inode> {
    let mut all = Vec::new();
    ext.for_each_inode(&mut |inode| all.push(inode)).unwrap();
    all
}

/// All paths, with their inodes.
fn paths(ext: &Ext) -> BTreeMap<Vec<u8>, Inode> {
    let names = ext.names().unwrap();
    let with_paths = |inode: Inode| {
        let paths = names.paths_of(&inode);
        paths.into_iter().map(move |found| (found.path, inode.clone()))
    };
    inodes(ext).into_iter().flat_map(with_paths).collect()
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        found.push([b"/", path.strip_prefix(root).unwrap().as_os_str().as_bytes()].concat());
        if path.is_dir() && !path.is_symlink() {
            walk(root, &path, found);
        }
    }
}

#[test]
fn every_path_and_every_byte_comes_back_from_every_layout() {
    each_layout(|image, kind, options| {
        let ext = Ext::open(image.volume()).unwrap();
        assert_eq!(ext.kind(), kind, "{options:?}");
        let paths = paths(&ext);
        let mut expected = Vec::new();
        walk(&image.files(), &image.files(), &mut expected);
        expected.extend([b"/".to_vec(), b"/lost+found".to_vec()]);
        expected.sort();
        assert_eq!(paths.keys().cloned().collect::<Vec<_>>(), expected, "{options:?}");
        let files: HashMap<_, _> = ext.files().unwrap().into_iter().map(|f| (f.path.clone(), f)).collect();
        for path in &expected {
            let inode = &paths[path];
            let outside = image.files().join(std::str::from_utf8(&path[1..]).unwrap());
            let shown = String::from_utf8_lossy(path);
            if inode.file_type() == FileType::File {
                let want = std::fs::read(outside).unwrap();
                let file = ext.file(inode);
                let got = read_vec(&file, 0, 100 << 20).unwrap();
                assert!(got == want, "{options:?} {shown}: {} and {} bytes", got.len(), want.len());
                assert_eq!(file.issues().unwrap(), [], "{options:?} {shown}");
                // Read in odd steps, the bytes are the same.
                let at = want.len() / 3;
                assert_eq!(read_vec(&file, at as u64, 5000).unwrap(), want[at..want.len().min(at + 5000)]);
                if let Some(found) = files.get(path) {
                    assert!(found.source.inode() == inode, "{shown}");
                }
            } else if inode.file_type() == FileType::Link {
                let target = std::fs::read_link(outside).unwrap();
                assert_eq!(ext.link_target(inode).unwrap().unwrap().target, target.as_os_str().as_bytes());
            }
        }
        assert_eq!(ext.issues(), [], "{options:?}");
    });
}

#[test]
fn the_stream_ranges_of_a_file_hold_its_bytes() {
    each_layout(|image, _, options| {
        let bytes = image.bytes();
        let ext = Ext::open(image.volume()).unwrap();
        for name in ["/pieces", "/middle", "/etc/hostname"] {
            let file = ext.file(&ext.lookup(name.as_bytes()).unwrap().unwrap());
            let want: Vec<u8> =
                read_vec(&file, 0, 100 << 20).unwrap().into_iter().filter(|byte| *byte != 0).collect();
            let mut got: Vec<u8> = Vec::new();
            for range in file.stream_ranges(0, file.len()) {
                got.extend(bytes[range.start as usize..range.end as usize].iter().filter(|byte| **byte != 0));
            }
            assert!(got == want, "{options:?} {name}");
            assert!(file.map_ranges().contains(&(file.inode().offset..file.inode().span().end())));
        }
        let pieces = ext.file(&ext.lookup(b"/pieces").unwrap().unwrap());
        // Blocks of 64 KiB leave no holes between these pieces.
        if options.contains(&"65536") {
            return;
        }
        assert!(pieces.map_ranges().len() > 1, "{options:?}: 500 pieces do not fit into an inode");
        assert!(pieces.stored_bytes().unwrap() < pieces.len(), "{options:?}: most of it is holes");
    });
}

#[test]
fn small_files_and_links_are_read_by_their_path() {
    let Some(image) = MadeImage::new("48M", LAYOUTS[4].1) else { return };
    let ext = Ext::open(image.volume()).unwrap();
    assert_eq!(ext.read_path(b"/etc/hostname", 100).unwrap(), b"web01\n");
    assert_eq!(ext.read_path(b"/etc/hostname", 3).unwrap(), b"web");
    assert_eq!(ext.read_link(b"/etc/localtime").unwrap(), b"/usr/share/zoneinfo/Europe/Berlin");
    assert_eq!(ext.read_link(b"/long link").unwrap(), LONG_TARGET.as_bytes());
    assert_eq!(ext.read_path(b"/etc/localtime", 100), None);
    assert_eq!(ext.read_path(b"/etc/nothing", 100), None);
    assert_eq!(ext.read_path(b"/etc/hostname/x", 100), None);
    // Beyond its last block a file is zeros, up to its size.
    image.debugfs(&["sif /etc/hostname size 5000".into()]);
    let ext = Ext::open(image.volume()).unwrap();
    let longer = ext.read_path(b"/etc/hostname", 10_000).unwrap();
    assert!(longer.len() == 5000 && longer.starts_with(b"web01\n\0") && longer.ends_with(&[0; 100]));
    let inode = ext.lookup(b"/etc").unwrap().unwrap().number;
    assert_eq!(ext.read_path(format!("$inode/{inode}/hostname").as_bytes(), 6).unwrap(), b"web01\n");
}

/// What `debugfs stat` shows of a time: the 32 stored bits, and the extra field where there is one.
fn as_shown(time: InodeTime, has_extra: bool) -> String {
    let low = time.0 as u32;
    let epoch = (time.0 - i64::from(low as i32)) >> 32;
    if has_extra {
        format!("0x{low:08x}:{:08x}", u64::from(time.1) << 2 | epoch as u64)
    } else {
        format!("0x{low:08x}")
    }
}

#[test]
fn all_five_times_are_those_that_debugfs_shows() {
    each_layout(|image, _, options| {
        let set = |field: &str, value: u64| format!("sif /etc/hostname {field} 0x{value:x}");
        // 2040, 2100, 1965, and the last nanosecond of a second.
        let mut commands = vec![
            set("mtime", 0x83AA_7E80),
            set("mtime_extra", 999_999_999 << 2 | 1),
            set("atime", 0xF486_5700),
            set("atime_extra", 1 << 2 | 1),
            set("ctime", 0xF697_C380),
            set("ctime_extra", 123_456_789 << 2),
            set("crtime", 0x5000_0000),
            set("crtime_extra", 7 << 2),
            "rm /deleted.txt".into(),
        ];
        if options.windows(2).any(|pair| pair == ["-I", "128"]) {
            commands.retain(|command| !command.contains("extra") && !command.contains("crtime"));
        }
        let deleted = Ext::open(image.volume()).unwrap().lookup(b"/deleted.txt").unwrap().unwrap().number;
        image.debugfs(&commands);
        let ext = Ext::open(image.volume()).unwrap();
        let all = inodes(&ext);
        let shown =
            image.debugfs(&all.iter().map(|inode| format!("stat <{}>", inode.number)).collect::<Vec<_>>());
        let mut blocks = shown.split("Inode: ").skip(1);
        for inode in &all {
            let block = blocks.next().unwrap();
            assert!(block.starts_with(&inode.number.to_string()));
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.trim_start().strip_prefix(name));
                line.map(|line| line.split_whitespace().next().unwrap().to_owned())
            };
            let times = [("ctime:", inode.ctime), ("atime:", inode.atime), ("mtime:", inode.mtime)];
            for (name, time) in times {
                let want = as_shown(time, field(name).unwrap().contains(':'));
                assert_eq!(field(name).unwrap(), want, "{options:?} inode {} {name}", inode.number);
            }
            let crtime = field("crtime:").filter(|shown| shown != "0x00000000:00000000");
            assert_eq!(
                crtime,
                inode.crtime.map(|time| as_shown(time, true)),
                "{options:?} inode {}",
                inode.number
            );
            let dtime = field("dtime:").map(|shown| shown.split(':').next().unwrap().to_owned());
            assert_eq!(dtime, inode.dtime.map(|time| as_shown((time, 0), false)), "{options:?}");
            let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok());
            assert_eq!(number("Generation:"), Some(inode.generation.into()));
            assert_eq!(number("User:"), Some(inode.uid.into()));
            assert_eq!(number("Links:"), Some(inode.links.into()));
        }
        let hostname = ext.lookup(b"/etc/hostname").unwrap().unwrap();
        if hostname.has_nanos {
            assert_eq!(hostname.mtime, (2_208_988_800, 999_999_999));
            assert_eq!(hostname.atime, (4_102_444_800, 1));
            assert_eq!(hostname.crtime, Some((0x5000_0000, 7)));
        }
        assert_eq!(hostname.ctime.0, -157_826_176);
        let gone = all.iter().find(|inode| inode.number == deleted).unwrap();
        assert!(gone.deleted && !gone.allocated && gone.dtime.is_some(), "{options:?}");
    });
}

#[test]
fn deleted_names_are_found_in_the_slack_of_their_folder() {
    each_layout(|image, _, options| {
        image.debugfs(&["rm /deleted.txt".into(), "rm \"/etc/also deleted\"".into()]);
        let ext = Ext::open(image.volume()).unwrap();
        let paths = paths(&ext);
        for name in ["/deleted.txt", "/etc/also deleted"] {
            // Whatever stood first in its block has lost its number with its name.
            let Some(inode) = paths.get(name.as_bytes()) else {
                assert!(options.contains(&"inline_data"), "{options:?} {name}");
                continue;
            };
            assert!(inode.deleted && !inode.allocated);
        }
        assert_eq!(ext.lookup(b"/deleted.txt").unwrap(), None);
    });
}

#[test]
fn a_damaged_superblock_is_replaced_by_a_backup_and_said_so() {
    let Some(image) = MadeImage::new("48M", LAYOUTS[4].1) else { return };
    let mut bytes = MadeImage::of("300M", &["-t", "ext4", "-b", "4096"], |_| {}).unwrap().bytes();
    bytes[1024..2048].fill(0x5A);
    let ext = Ext::open(Arc::new(bytes)).unwrap();
    assert!(ext.issues().iter().any(|issue| issue.what.contains("backup of the superblock is used")));
    assert!(paths(&ext).contains_key(&b"/lost+found"[..]));

    // One group only: there is no backup.
    let mut bytes = image.bytes();
    bytes[1024 + 0x18] = 99;
    assert!(matches!(Ext::open(Arc::new(bytes.clone())), Err(ExtError::Superblock { .. })));
    bytes[1024..2048].fill(0);
    assert!(matches!(Ext::open(Arc::new(bytes)), Err(ExtError::NotExt { .. })));
}

#[test]
fn damaged_metadata_is_listed_and_what_is_left_is_read() {
    let Some(image) = MadeImage::new("48M", LAYOUTS[4].1) else { return };
    let sound = Ext::open(image.volume()).unwrap();
    let hostname = sound.lookup(b"/etc/hostname").unwrap().unwrap();
    let folder = sound.lookup(b"/many").unwrap().unwrap();
    let block = sound.file(&folder).stream_ranges(8192, 4096).first().unwrap().start;
    let mut bytes = image.bytes();
    bytes[hostname.offset as usize + 0x64] ^= 1;
    bytes[block as usize + 12] ^= 1;
    let ext = Ext::open(Arc::new(bytes)).unwrap();
    assert!(paths(&ext).contains_key(&b"/etc/hostname"[..]));
    let words: Vec<_> = ext.issues().into_iter().map(|issue| issue.what).collect();
    assert!(words.iter().any(|w| w.contains(&format!("checksum of inode {}", hostname.number))), "{words:?}");
    assert!(words.iter().any(|w| w.contains("block of directory")), "{words:?}");
}

#[test]
fn folders_in_a_cycle_and_lost_folders_start_at_their_inode() {
    let Some(image) = MadeImage::new("48M", LAYOUTS[4].1) else { return };
    image.debugfs(&[
        "unlink /etc".into(),
        "ln /deep /deep/er/and/deeper/again".into(),
        "unlink /deep".into(),
    ]);
    let ext = Ext::open(image.volume()).unwrap();
    let paths = paths(&ext);
    let lost = paths.keys().filter(|path| path.starts_with(b"$inode/")).collect::<Vec<_>>();
    assert!(lost.iter().any(|path| path.ends_with(b"/hostname")), "{lost:?}");
    let deep = lost.iter().find(|path| path.ends_with(b"/deeper/file")).unwrap();
    assert_eq!(ext.read_path(deep, 10).unwrap(), b"deep");
}

/// Reads all that can be read of a volume, as the engine does, with a bound on the bytes of each file.
fn read_everything(bytes: Vec<u8>) {
    let volume: Arc<dyn ByteSource> = Arc::new(bytes);
    let Ok(ext) = Ext::open(volume) else { return };
    let mut out = Collected::default();
    file_times::scan(&ext, &mut out).unwrap();
    for file in ext.files().unwrap() {
        let length = file.source.len();
        read_vec(&*file.source, 0, 65536).unwrap();
        read_vec(&*file.source, length.saturating_sub(100), 1000).unwrap();
        file.source.stream_ranges(0, length);
        file.source.map_ranges();
    }
    ext.read_path(b"/etc/hostname", 100);
    ext.issues();
}

fn small_image() -> Option<&'static Vec<u8>> {
    static MADE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let fill = |root: &Path| {
        std::fs::create_dir_all(root.join("etc/a/b")).unwrap();
        std::fs::write(root.join("etc/hostname"), "web01\n").unwrap();
        std::os::unix::fs::symlink(LONG_TARGET, root.join("link")).unwrap();
        for n in 0..40 {
            std::fs::write(root.join(format!("etc/a/{n}")), vec![n; 3000]).unwrap();
        }
    };
    let make = || {
        let options = ["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^has_journal,metadata_csum"];
        Some(MadeImage::of("512K", &options, fill)?.bytes())
    };
    MADE.get_or_init(make).as_ref()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_flipped_bytes_make_us_fail(flips in proptest::collection::vec((0.0f64..1.0, any::<u8>()), 1..60)) {
        let Some(image) = small_image() else { return Ok(()) };
        let mut bytes = image.clone();
        for (place, value) in flips {
            // Half of them in the superblock, descriptors and inodes, which come first.
            let reach = if value % 2 == 0 { 60 << 10 } else { bytes.len() };
            let at = 1024 + (place * (reach - 1024) as f64) as usize;
            bytes[at] = value;
        }
        read_everything(bytes);
    }

    #[test]
    fn no_truncation_makes_us_fail(length in 0usize..(512 << 10)) {
        let Some(image) = small_image() else { return Ok(()) };
        read_everything(image[..length].to_vec());
    }

    #[test]
    fn no_field_of_the_superblock_makes_us_fail(at in 0usize..1020, value in any::<u32>()) {
        let Some(image) = small_image() else { return Ok(()) };
        let mut bytes = image.clone();
        bytes[1024 + at..1024 + at + 4].copy_from_slice(&value.to_le_bytes());
        read_everything(bytes);
    }
}

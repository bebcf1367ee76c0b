//! What the system tells of a block device: identity, partitions, who uses it, what is written to it.
//!
//! All of it comes from sysfs and procfs. The partition table itself is not parsed here, for evidence is not parsed while
//! it is acquired: the kernel's list of partitions and the hashes of the sectors that hold tables say enough.
//!
//! - `Documentation/ABI/stable/sysfs-block`, `Documentation/block/stat.rst`, proc(5) for `mountinfo` and `swaps`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use serde_json::{Map, Value, json};

use crate::source::{Issue, Issues};

/// sysfs counts in these, whatever the device's sectors are.
const SYSFS_SECTOR: u64 = 512;

/// Rows of a list in the manifest; an entry of the log, which repeats it, holds 64 KiB.
const MOST_LISTED: usize = 128;

/// A device upon a device upon a device …
const DEEPEST: usize = 8;

/// Where the system's own files are.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) sys: PathBuf,
    pub(crate) proc: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into() }
    }
}

/// A block device as sysfs knows it.
#[derive(Debug)]
pub(crate) struct BlockDevice {
    system: System,
    /// Its folder below `/sys/devices`.
    folder: PathBuf,
    name: String,
    before: Counters,
    was_read_only: Option<String>,
}

/// What has been written to a device since it came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    writes: u64,
    sectors_written: u64,
    discards: u64,
}

/// A device that lies on the one that is acquired.
struct Upon {
    name: String,
    number: String,
}

impl BlockDevice {
    /// Finds a device by its number.
    pub(crate) fn find(system: System, major: u32, minor: u32) -> Option<Self> {
        let folder = fs::canonicalize(system.sys.join(format!("dev/block/{major}:{minor}"))).ok()?;
        let name = folder.file_name()?.to_string_lossy().into_owned();
        let mut device = Self { system, folder, name, before: Counters::default(), was_read_only: None };
        device.begin();
        Some(device)
    }

    /// Takes note of what must not change.
    pub(crate) fn begin(&mut self) {
        self.before = self.counters();
        self.was_read_only = self.text("ro");
    }

    fn text(&self, path: &str) -> Option<String> {
        let text = fs::read(self.folder.join(path)).ok()?;
        let text = escape_text(text.trim_ascii());
        (!text.is_empty()).then_some(text)
    }

    /// Of the device, or of the disk that it is a partition of.
    fn either(&self, path: &str) -> Option<String> {
        self.text(path).or_else(|| self.text(&format!("../{path}")))
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    pub(crate) fn is_partition(&self) -> bool {
        self.text("partition").is_some()
    }

    /// How the device is reached, by the buses on its way.
    pub(crate) fn transport(&self) -> &'static str {
        let parts: Vec<&[u8]> = self.folder.iter().map(OsStrExt::as_bytes).collect();
        let has = |start: &[u8]| {
            parts.iter().any(|part| {
                part.strip_prefix(start).is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
            })
        };
        let virtual_device = parts.contains(&&b"virtual"[..]);
        match () {
            () if has(b"loop") => "loop",
            () if has(b"dm-") => "device mapper",
            () if virtual_device && has(b"md") => "md",
            () if has(b"nbd") => "nbd",
            () if has(b"zram") => "zram",
            () if has(b"usb") => "usb",
            () if has(b"nvme") => "nvme",
            () if has(b"mmc") => "mmc",
            () if has(b"virtio") => "virtio",
            () if has(b"vbd-") => "xen",
            () if has(b"ata") => "sata",
            () if has(b"session") => "iscsi",
            () if has(b"host") => "scsi",
            () => "unknown",
        }
    }

    /// Whether ATA commands reach it: behind libata and SAS adapters the vendor is `ATA`.
    pub(crate) fn is_ata(&self) -> bool {
        !self.is_partition()
            && self.transport() != "usb"
            && self.text("device/vendor").is_some_and(|vendor| vendor.trim() == "ATA")
    }

    /// Fills in all facts.
    pub(crate) fn facts(&self, facts: &mut SourceFacts) {
        facts.model = self.either("device/model");
        facts.serial = self.either("device/serial").or_else(|| self.either("serial"));
        facts.serial = facts.serial.take().or_else(|| self.serial_page());
        let mut more = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                facts.more.insert(name.to_owned(), value);
            }
        };
        let text = |value: Option<String>| value.map(Value::from);
        let flag = |value: Option<String>| value.map(|value| Value::from(value != "0"));
        more("kernel_name", Some(escape_text(self.name.as_bytes()).into()));
        more("transport", Some(self.transport().into()));
        more("vendor", text(self.either("device/vendor")));
        more("wwid", text(self.either("wwid").or_else(|| self.either("device/wwid"))));
        more("firmware", text(self.either("device/firmware_rev").or_else(|| self.either("device/rev"))));
        more("partition", text(self.text("partition")));
        more("start_sector", text(self.text("start")));
        more("physical_sector_size", text(self.either("queue/physical_block_size")));
        more(
            "kernel_size",
            self.number("size").and_then(|size| size.checked_mul(SYSFS_SECTOR)).map(Value::from),
        );
        more("rotational", flag(self.either("queue/rotational")));
        more("removable", flag(self.either("removable")));
        more("read_only", flag(self.was_read_only.clone()));
        more("backing_file", text(self.text("loop/backing_file")));
        more("dm_name", text(self.text("dm/name")));
        more("dm_uuid", text(self.text("dm/uuid")));
        more("md_level", text(self.text("md/level")));
        let list = |rows: Vec<Value>| (!rows.is_empty()).then_some(Value::Array(rows));
        more("partitions", list(self.partitions()));
        let names = |folder: &str| list(self.names(folder).into_iter().map(Value::from).collect());
        more("holders", names("holders"));
        more("slaves", names("slaves"));
        more("in_use", list(self.uses().into_iter().map(|of| of.told()).collect()));
    }

    /// The serial number from SCSI's vital product data, page 0x80.
    fn serial_page(&self) -> Option<String> {
        let path = if self.is_partition() { "../device/vpd_pg80" } else { "device/vpd_pg80" };
        let page = fs::read(self.folder.join(path)).ok()?;
        let serial = escape_text(page.get(4..)?.trim_ascii());
        (!serial.is_empty()).then_some(serial)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.join(folder)) else { return Vec::new() };
        let names: BTreeSet<String> =
            entries.filter_map(|entry| Some(escape_text(entry.ok()?.file_name().as_bytes()))).collect();
        names.into_iter().take(MOST_LISTED).collect()
    }

    /// The kernel's list of partitions, by where they begin.
    fn partitions(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut rows: Vec<(u64, Value)> = entries
            .filter_map(|entry| {
                let folder = entry.ok()?.path();
                let number = |file: &str| -> Option<u64> {
                    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
                };
                number("partition")?;
                let start = number("start")?.checked_mul(SYSFS_SECTOR)?;
                let size = number("size")?.checked_mul(SYSFS_SECTOR)?;
                let name = escape_text(folder.file_name()?.as_bytes());
                Some((start, json!({"name": name, "start": start, "size": size})))
            })
            .collect();
        rows.sort_by_key(|(start, _)| *start);
        rows.into_iter().map(|(_, row)| row).take(MOST_LISTED).collect()
    }

    /// This device, its partitions, and what is built on them (LVM, RAID, encryption).
    fn with_all_upon(&self) -> Vec<Upon> {
        let mut found: Vec<Upon> = Vec::new();
        let mut waiting = vec![(self.folder.clone(), 0usize)];
        while let Some((folder, depth)) = waiting.pop() {
            let Some(name) = folder.file_name().map(|name| name.to_string_lossy().into_owned()) else {
                continue;
            };
            if depth > DEEPEST || found.len() > MOST_LISTED || found.iter().any(|upon| upon.name == name) {
                continue;
            }
            let number = fs::read_to_string(folder.join("dev")).unwrap_or_default().trim().to_owned();
            found.push(Upon { name, number });
            let below = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let partitions = below.filter(|path| path.join("partition").exists());
            let holders = fs::read_dir(folder.join("holders")).into_iter().flatten().flatten();
            let holders = holders.filter_map(|entry| fs::canonicalize(entry.path()).ok());
            waiting.extend(partitions.chain(holders).map(|path| (path, depth + 1)));
        }
        found
    }

    /// Where the device, or what is built on it, is mounted or used as swap.
    fn uses(&self) -> Vec<Use> {
        let all = self.with_all_upon();
        let mounts = fs::read(self.system.proc.join("self/mountinfo")).unwrap_or_default();
        let swaps = fs::read(self.system.proc.join("swaps")).unwrap_or_default();
        let mounts = mounts.split(|&byte| byte == b'\n').filter_map(|line| Use::of_mount(line, &all));
        let swaps = swaps.split(|&byte| byte == b'\n').filter_map(|line| Use::of_swap(line, &all));
        mounts.chain(swaps).take(MOST_LISTED).collect()
    }

    fn counters(&self) -> Counters {
        let text = self.text("stat").unwrap_or_default();
        let field = |at: usize| text.split_whitespace().nth(at).and_then(|n| n.parse().ok()).unwrap_or(0);
        Counters { writes: field(4), sectors_written: field(6), discards: field(11) }
    }

    /// Says what makes an image of this device less than one moment's state.
    pub(crate) fn warn(&self, path: &str, issues: &mut Issues) {
        for of in self.uses().into_iter().filter(|of| of.writable) {
            let (device, place, kind) = (&of.device, &of.place, &of.kind);
            issues.add(Issue {
                path: path.to_owned(),
                offset: None,
                length: None,
                what: format!(
                    "live, inconsistent: {device} is in use ({kind} on {place}, writable) and may change while it is read"
                ),
            });
        }
    }

    /// What is left to say once all is read; what has changed meanwhile becomes an issue.
    pub(crate) fn after(&self, path: &str, issues: &mut Issues) -> Map<String, Value> {
        let mut told = Map::new();
        if !self.folder.exists() {
            told.insert("device_after".to_owned(), "gone".into());
            return told;
        }
        let mut changed = |what: String| {
            issues.add(Issue { path: path.to_owned(), offset: None, length: None, what });
        };
        let after = self.counters();
        let json = |of: Counters| json!({"writes": of.writes, "sectors_written": of.sectors_written, "discards": of.discards});
        told.insert("write_counters".to_owned(), json!({"before": json(self.before), "after": json(after)}));
        if after != self.before {
            changed(format!(
                "something on this machine wrote {} sectors to the device while it was read (we opened it for reading)",
                after.sectors_written.saturating_sub(self.before.sectors_written)
            ));
        }
        if let Some(read_only) = self.text("ro") {
            told.insert("read_only_after".to_owned(), (read_only != "0").into());
            if self.was_read_only.as_ref().is_some_and(|before| *before != read_only) {
                changed("the device's read-only state changed while it was read".to_owned());
            }
        }
        told
    }
}

/// One use of a device.
struct Use {
    device: String,
    place: String,
    kind: String,
    options: String,
    writable: bool,
}

impl Use {
    fn told(&self) -> Value {
        json!({"device": self.device, "on": self.place, "type": self.kind, "options": self.options})
    }

    /// One line of `mountinfo`: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
    fn of_mount(line: &[u8], devices: &[Upon]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = fields.nth(2)?;
        let (place, options) = (fields.nth(1)?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, source, of_system) = (rest.next()?, rest.next()?, rest.next().unwrap_or_default());
        let by_name = source.strip_prefix(b"/dev/");
        let is_one = |upon: &&Upon| {
            // btrfs shows a number of its own, but the name of one of its devices.
            upon.number.as_bytes() == number || by_name == Some(upon.name.as_bytes())
        };
        let device = devices.iter().find(is_one)?;
        let has_rw = |options: &[u8]| options.split(|&byte| byte == b',').any(|option| option == b"rw");
        Some(Self {
            device: escape_text(device.name.as_bytes()),
            place: escape_text(&unescaped(place)),
            kind: escape_text(kind),
            options: escape_text(options),
            writable: has_rw(options) || has_rw(of_system),
        })
    }

    /// One line of `swaps`: the device's path, then its kind.
    fn of_swap(line: &[u8], devices: &[Upon]) -> Option<Self> {
        let path = line.split(|byte| byte.is_ascii_whitespace()).next()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(unescaped(path)));
        // `/dev/mapper/vg-swap` is a link to `/dev/dm-1`.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let name = path.strip_prefix("/dev").ok()?;
        let device = devices.iter().find(|upon| Path::new(&upon.name) == name)?;
        Some(Self {
            device: escape_text(device.name.as_bytes()),
            place: "swap".to_owned(),
            kind: "swap".to_owned(),
            options: "rw".to_owned(),
            writable: true,
        })
    }
}

/// Undoes the kernel's `\040` for a blank.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, behind)) = rest.split_first() {
        let octal = behind
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                out.push(
                    digits.iter().fold(0u8, |byte, digit| byte.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = behind;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A system with a SATA disk of two partitions, on the second of which lies a volume.
    fn system() -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let system = System { sys: root.path().join("sys"), proc: root.path().join("proc") };
        let disk = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
        let put = |path: String, text: &[u8]| {
            let path = system.sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (file, text) in [
            ("dev", "8:0\n"),
            ("size", "2097152\n"),
            ("ro", "1\n"),
            ("removable", "0\n"),
            ("queue/rotational", "1\n"),
            ("queue/physical_block_size", "4096\n"),
            ("device/model", "WDC WD5000AAKX  \n"),
            ("device/vendor", "ATA     \n"),
            ("device/rev", "1H15\n"),
            ("stat", " 10 0 20 0 5 0 400 0 0 0 0 7 0 0 0 0 0\n"),
            ("sda2/dev", "8:2\n"),
            ("sda2/partition", "2\n"),
            ("sda2/start", "1050624\n"),
            ("sda2/size", "1046495\n"),
            ("sda1/dev", "8:1\n"),
            ("sda1/partition", "1\n"),
            ("sda1/start", "2048\n"),
            ("sda1/size", "1048576\n"),
        ] {
            put(format!("{disk}/{file}"), text.as_bytes());
        }
        put(format!("{disk}/device/vpd_pg80"), b"\0\x80\0\x14     WD-WCC2E1234567");
        put("devices/virtual/block/dm-0/dev".into(), b"253:0\n");
        put("devices/virtual/block/dm-0/dm/name".into(), b"vg-root\n");
        let folder = system.sys.join(disk);
        fs::create_dir_all(folder.join("sda2/holders")).unwrap();
        symlink(system.sys.join("devices/virtual/block/dm-0"), folder.join("sda2/holders/dm-0")).unwrap();
        fs::create_dir_all(system.sys.join("dev/block")).unwrap();
        symlink(&folder, system.sys.join("dev/block/8:0")).unwrap();
        symlink(folder.join("sda2"), system.sys.join("dev/block/8:2")).unwrap();
        fs::create_dir_all(system.proc.join("self")).unwrap();
        let mounts = "21 1 253:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw\n\
                      22 21 8:1 / /boot\\040old ro,relatime - ext2 /dev/sda1 ro\n\
                      23 21 0:5 / /dev rw - devtmpfs udev rw\n\
                      not a line\n";
        fs::write(system.proc.join("self/mountinfo"), mounts).unwrap();
        fs::write(
            system.proc.join("swaps"),
            "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
        )
        .unwrap();
        (root, system)
    }

    #[test]
    fn a_disk_tells_what_it_is_and_who_uses_it() {
        let (_root, system) = system();
        let device = BlockDevice::find(system, 8, 0).unwrap();
        let mut facts = SourceFacts::default();
        device.facts(&mut facts);
        assert_eq!(facts.model.as_deref(), Some("WDC WD5000AAKX"));
        assert_eq!(facts.serial.as_deref(), Some("WD-WCC2E1234567"));
        let more = &facts.more;
        assert_eq!((&more["transport"], &more["firmware"]), (&json!("sata"), &json!("1H15")));
        assert_eq!((&more["rotational"], &more["read_only"]), (&json!(true), &json!(true)));
        assert_eq!(
            (&more["kernel_size"], &more["physical_sector_size"]),
            (&json!(1u64 << 30), &json!("4096"))
        );
        assert_eq!(
            more["partitions"],
            json!([
                {"name": "sda1", "start": 1_048_576, "size": 536_870_912},
                {"name": "sda2", "start": 537_919_488, "size": 535_805_440},
            ])
        );
        assert_eq!(
            more["in_use"],
            json!([
                {"device": "dm-0", "on": "/", "type": "ext4", "options": "rw,relatime"},
                {"device": "sda1", "on": "/boot old", "type": "ext2", "options": "ro,relatime"},
                {"device": "sda2", "on": "swap", "type": "swap", "options": "rw"},
            ])
        );
        assert!(device.is_ata());
        let mut issues = Issues::default();
        device.warn("/dev/sda", &mut issues);
        let words: Vec<_> = issues.kept().iter().map(|issue| issue.what.as_str()).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("live, inconsistent: dm-0 is in use (ext4 on /"), "{words:?}");
    }

    #[test]
    fn a_partition_has_the_facts_of_its_disk() {
        let (_root, system) = system();
        let device = BlockDevice::find(system, 8, 2).unwrap();
        let mut facts = SourceFacts::default();
        device.facts(&mut facts);
        assert_eq!(facts.model.as_deref(), Some("WDC WD5000AAKX"));
        assert_eq!(facts.more["partition"], "2");
        assert_eq!(facts.more["holders"], json!(["dm-0"]));
        assert!(!device.is_ata());
    }

    #[test]
    fn writes_while_it_is_read_are_counted_and_said() {
        let (_root, system) = system();
        let device = BlockDevice::find(system, 8, 0).unwrap();
        let mut issues = Issues::default();
        let told = device.after("/dev/sda", &mut issues);
        assert_eq!(
            told["write_counters"]["before"],
            json!({"writes": 5, "sectors_written": 400, "discards": 7})
        );
        assert_eq!((issues.count(), &told["read_only_after"]), (0, &json!(true)));

        fs::write(device.folder.join("stat"), "10 0 20 0 6 0 408 0 0 0 0 7 0 0 0 0 0").unwrap();
        fs::write(device.folder.join("ro"), "0").unwrap();
        let told = device.after("/dev/sda", &mut issues);
        assert_eq!(told["write_counters"]["after"]["sectors_written"], 408);
        assert_eq!(issues.count(), 2);
        assert!(issues.kept()[0].what.contains("wrote 8 sectors"), "{issues:?}");
        fs::remove_dir_all(&device.folder).unwrap();
        assert_eq!(device.after("/dev/sda", &mut issues)["device_after"], "gone");
    }
}

//! What a disk keeps behind its last sector: HPA, DCO and AMA of ATA disks, unallocated capacity of NVMe disks.
//!
//! Such areas are reported, never opened: changing the size of a disk is a write. What cannot be asked is said to be
//! `not asked`, what is not answered `not said`, each with the reason.
//!
//! - ACS-3 (INCITS 522): IDENTIFY DEVICE (words 60, 82, 83, 85, 100, 119), GET NATIVE MAX ADDRESS EXT.
//! - ATA8-ACS (INCITS 452): READ NATIVE MAX ADDRESS (EXT), DEVICE CONFIGURATION IDENTIFY (words 3 to 6).
//! - NVM Express 1.4, figures 245 (NSZE, NCAP, NUSE, FLBAS, LBAF) and 247 (TNVMCAP, UNVMCAP).

use std::io;

use serde_json::{Map, Value, json};

/// One question to an ATA disk; each only returns something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtaCommand {
    Identify,
    ReadNativeMax,
    ReadNativeMaxExt,
    ConfigurationIdentify,
    AccessibleNativeMax,
}

impl AtaCommand {
    /// Whether 512 bytes come back, or only registers.
    pub(crate) fn returns_data(self) -> bool {
        matches!(self, Self::Identify | Self::ConfigurationIdentify)
    }

    /// ATA PASS-THROUGH (16).
    pub(crate) fn cdb(self) -> [u8; 16] {
        const PIO_DATA_IN: u8 = 4 << 1;
        const NON_DATA: u8 = 3 << 1;
        const EXTEND: u8 = 1;
        // From the device, in blocks, their number in the count; and: give the registers back as sense data.
        const ONE_BLOCK_IN: u8 = 0b1110;
        const REGISTERS: u8 = 1 << 5;
        let (protocol, flags, features, count, device, command) = match self {
            Self::Identify => (PIO_DATA_IN, ONE_BLOCK_IN, 0, 1, 0, 0xEC),
            Self::ConfigurationIdentify => (PIO_DATA_IN, ONE_BLOCK_IN, 0xC2, 1, 0, 0xB1),
            Self::ReadNativeMax => (NON_DATA, REGISTERS, 0, 0, 0x40, 0xF8),
            Self::ReadNativeMaxExt => (NON_DATA | EXTEND, REGISTERS, 0, 0, 0x40, 0x27),
            Self::AccessibleNativeMax => (NON_DATA | EXTEND, REGISTERS, 0, 0, 0x40, 0x78),
        };
        [0x85, protocol, flags, 0, features, 0, count, 0, 0, 0, 0, 0, 0, device, command, 0]
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct AtaAnswer {
    pub(crate) data: [u8; 512],
    pub(crate) sense: [u8; 64],
}

impl AtaAnswer {
    fn word(&self, number: usize) -> u16 {
        let at = number * 2;
        u16::from_le_bytes([byte(&self.data, at), byte(&self.data, at + 1)])
    }

    /// Whether a bit is set in a word that says by its two highest bits that it means something.
    fn has(&self, word: usize, bit: u32) -> bool {
        let word = self.word(word);
        word >> 14 == 1 && word >> bit & 1 == 1
    }

    fn number(&self, first: usize, words: usize) -> u64 {
        (first..first + words).rev().fold(0, |number, word| number << 16 | u64::from(self.word(word)))
    }

    /// The registers, from the ATA Status Return descriptor.
    fn registers(&self) -> Result<Registers, String> {
        let sense = &self.sense;
        if byte(sense, 0) & 0x7F != 0x72 {
            return Err("not said: no registers came back".to_owned());
        }
        let end = (8 + usize::from(byte(sense, 7))).min(sense.len());
        let mut at = 8;
        while at + 1 < end {
            let length = usize::from(byte(sense, at + 1));
            if byte(sense, at) == 0x09 && length >= 12 && at + 14 <= end {
                // Of each pair the higher half comes first, and only where the command was an extended one.
                let extended = byte(sense, at + 2) & 1 == 1;
                let pair = |high: usize, low: usize| {
                    let high = if extended { byte(sense, at + high) } else { 0 };
                    (u64::from(high), u64::from(byte(sense, at + low)))
                };
                let ((h0, l0), (h1, l1), (h2, l2)) = (pair(6, 7), pair(8, 9), pair(10, 11));
                let device = byte(sense, at + 12);
                // Without extension the four highest bits of the address are in the device register.
                let top =
                    if extended { h2 << 40 | h1 << 32 | h0 << 24 } else { u64::from(device & 0x0F) << 24 };
                let lba = top | l2 << 16 | l1 << 8 | l0;
                return Ok(Registers { error: byte(sense, at + 3), status: byte(sense, at + 13), lba });
            }
            at += 2 + length;
        }
        Err("not said: no registers came back".to_owned())
    }
}

struct Registers {
    error: u8,
    status: u8,
    lba: u64,
}

/// A disk that takes ATA commands.
pub(crate) trait AtaDevice {
    fn ask(&mut self, command: AtaCommand) -> io::Result<AtaAnswer>;
}

/// A disk that takes NVMe commands.
pub(crate) trait NvmeDevice {
    /// Identify: `what` 0 is the namespace, 1 the controller.
    fn identify(&mut self, namespace: u32, what: u32) -> io::Result<[u8; 4096]>;
    /// The id of the namespace that this device is.
    fn namespace(&self) -> io::Result<u32>;
}

/// What was found out, for the manifest, and how many bytes are known to be hidden.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct HiddenAreas {
    pub(crate) told: Map<String, Value>,
    pub(crate) bytes: u64,
}

impl HiddenAreas {
    /// Nothing was asked, for this reason.
    pub(crate) fn not_asked(why: &str) -> Self {
        let mut areas = Self::default();
        areas.tell("hpa_dco_ama", format!("not asked: {why}"));
        areas
    }

    fn tell(&mut self, what: &str, value: impl Into<Value>) {
        self.told.insert(what.to_owned(), value.into());
    }

    /// An area between the sectors that can be read and those that there are.
    fn area(&mut self, what: &str, readable: u64, native: Result<u64, String>, sector: u64) {
        match native {
            Err(why) => self.tell(what, why),
            Ok(native) if native <= readable => self.tell(what, "none"),
            Ok(native) => {
                let bytes = (native - readable).saturating_mul(sector);
                self.bytes = self.bytes.max(bytes);
                self.tell(
                    what,
                    json!({"readable_sectors": readable, "native_sectors": native, "hidden_bytes": bytes}),
                );
            }
        }
    }
}

/// Asks an ATA disk of `readable` logical sectors.
pub(crate) fn of_ata(device: &mut dyn AtaDevice, readable: u64, sector: u32) -> HiddenAreas {
    let mut areas = HiddenAreas::default();
    let sector = u64::from(sector);
    let identity = match device.ask(AtaCommand::Identify) {
        Ok(identity) if identity.data.iter().any(|&byte| byte != 0) => identity,
        Ok(_) => return HiddenAreas::not_asked("the device does not identify itself as an ATA disk"),
        Err(error) => return HiddenAreas::not_asked(&format!("the device could not be identified: {error}")),
    };
    let is_48_bit = identity.has(83, 10);
    let claimed = if is_48_bit { identity.number(100, 4) } else { identity.number(60, 2) };
    areas.tell("ata_sectors", claimed);
    let native = |device: &mut dyn AtaDevice, command| match device.ask(command) {
        Ok(answer) => answer.registers().and_then(|registers| registers.native_sectors()),
        Err(error) => Err(format!("not said: {error}")),
    };
    if identity.word(82) >> 10 & 1 == 1 && identity.word(83) >> 14 == 1 {
        let command = if is_48_bit { AtaCommand::ReadNativeMaxExt } else { AtaCommand::ReadNativeMax };
        let native = native(device, command);
        areas.area("hpa", readable, native, sector);
    } else {
        areas.tell("hpa", "not asked: the device has no such feature");
    }
    if identity.has(83, 11) {
        let native = match device.ask(AtaCommand::ConfigurationIdentify) {
            Ok(answer) => match answer.registers() {
                Ok(registers) if registers.status & 1 == 1 => Err(registers.refusal()),
                _ if answer.data.iter().all(|&byte| byte == 0) => Err("not said: an empty answer".to_owned()),
                _ => Ok(answer.number(3, 4).saturating_add(1)),
            },
            Err(error) => Err(format!("not said: {error}")),
        };
        areas.area("dco", readable, native, sector);
    } else {
        areas.tell("dco", "not asked: the device has no such feature");
    }
    // Word 119 means something if word 86 says so.
    if identity.word(86) >> 15 & 1 == 1 && identity.has(119, 8) {
        let native = native(device, AtaCommand::AccessibleNativeMax);
        areas.area("ama", readable, native, sector);
    } else {
        areas.tell("ama", "not asked: the device has no such feature");
    }
    areas
}

impl Registers {
    fn refusal(&self) -> String {
        format!("not said: the device refused (status {:#04x}, error {:#04x})", self.status, self.error)
    }

    fn native_sectors(&self) -> Result<u64, String> {
        if self.status & 1 == 1 { Err(self.refusal()) } else { Ok(self.lba.saturating_add(1)) }
    }
}

/// Asks an NVMe disk whose namespace has `readable` bytes.
pub(crate) fn of_nvme(device: &mut dyn NvmeDevice, readable: u64) -> HiddenAreas {
    let mut areas = HiddenAreas::default();
    areas.tell("hpa_dco_ama", "not asked: NVMe disks have none");
    let namespace = device.namespace().and_then(|id| device.identify(id, 0));
    match namespace {
        Err(error) => areas.tell("nvme_namespace", format!("not said: {error}")),
        Ok(data) => {
            let lba_format = usize::from(byte(&data, 26) & 0x0F);
            let shift = u32::from(byte(&data, 128 + 4 * lba_format + 2));
            let bytes = |at: usize| number(&data, at, 8).checked_shl(shift).unwrap_or(u64::MAX);
            let (size, capacity, used) = (bytes(0), bytes(8), bytes(16));
            areas.tell("nvme_namespace", json!({"size": size, "capacity": capacity, "utilisation": used}));
            areas.bytes = size.saturating_sub(readable);
        }
    }
    match device.identify(0, 1) {
        Err(error) => areas.tell("nvme_controller", format!("not said: {error}")),
        Ok(data) => {
            let (total, free) = (number(&data, 280, 8), number(&data, 296, 8));
            if total == 0 {
                areas.tell("nvme_controller", "not said: the controller tells no capacity");
            } else {
                areas.tell("nvme_controller", json!({"total_bytes": total, "in_no_namespace": free}));
                areas.bytes = areas.bytes.max(free);
            }
        }
    }
    // Strict JSON has no larger number.
    for value in areas.told.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
        if value.as_u64().is_some_and(|number| number > MOST) {
            *value = value.to_string().into();
        }
    }
    areas
}

/// The largest number of strict JSON.
const MOST: u64 = (1 << 53) - 1;

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    (at..at + length).rev().fold(0, |number, at| number << 8 | u64::from(byte(bytes, at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that gives recorded replies.
    #[derive(Default)]
    struct Recorded {
        identity: Vec<(usize, u16)>,
        configuration: Vec<(usize, u16)>,
        /// Descriptors of sense data by command.
        registers: Vec<(AtaCommand, &'static str)>,
        asked: Vec<AtaCommand>,
    }

    impl AtaDevice for Recorded {
        fn ask(&mut self, command: AtaCommand) -> io::Result<AtaAnswer> {
            self.asked.push(command);
            let mut answer = AtaAnswer { data: [0; 512], sense: [0; 64] };
            let words = match command {
                AtaCommand::Identify => &self.identity,
                AtaCommand::ConfigurationIdentify => &self.configuration,
                _ => &Vec::new(),
            };
            for (word, value) in words {
                answer.data[word * 2..word * 2 + 2].copy_from_slice(&value.to_le_bytes());
            }
            if let Some((_, text)) = self.registers.iter().find(|(of, _)| *of == command) {
                for (at, byte) in text.split_whitespace().enumerate() {
                    answer.sense[at] = u8::from_str_radix(byte, 16).unwrap();
                }
            }
            Ok(answer)
        }
    }

    /// IDENTIFY words of a 500107862016-byte disk (976,773,168 sectors) with HPA, DCO and 48-bit addresses, cut to less.
    fn identity(sectors: u64) -> Vec<(usize, u16)> {
        vec![
            (0, 0x0C5A),
            (60, 0xFFFF),
            (61, 0x0FFF),
            (82, 0x746B),
            (83, 0x7D01),
            (84, 0x4123),
            (85, 0x7469),
            (86, 0xBC01),
            (87, 0x4123),
            (100, sectors as u16),
            (101, (sectors >> 16) as u16),
            (102, (sectors >> 32) as u16),
            (119, 0x401C),
        ]
    }

    /// The reply to READ NATIVE MAX ADDRESS EXT of such a disk: LBA 0x3A38602F, as `hdparm --verbose -N` prints it.
    const NATIVE: &str = "72 01 00 1d 00 00 00 0e 09 0c 01 00 00 00 3a 2f 00 60 00 38 40 50";

    #[test]
    fn a_host_protected_area_is_told_with_its_size() {
        let mut disk = Recorded {
            identity: identity(900_000_000),
            configuration: vec![(0, 1), (3, 0x602F), (4, 0x3A38)],
            registers: vec![(AtaCommand::ReadNativeMaxExt, NATIVE)],
            asked: vec![],
        };
        let areas = of_ata(&mut disk, 900_000_000, 512);
        let hidden = (976_773_168 - 900_000_000) * 512;
        let area =
            json!({"readable_sectors": 900_000_000, "native_sectors": 976_773_168, "hidden_bytes": hidden});
        assert_eq!(areas.told["hpa"], area);
        assert_eq!(areas.told["dco"], area);
        assert_eq!(areas.told["ama"], "not asked: the device has no such feature");
        assert_eq!(areas.told["ata_sectors"], 900_000_000);
        assert_eq!(areas.bytes, hidden);
        assert_eq!(
            disk.asked,
            [AtaCommand::Identify, AtaCommand::ReadNativeMaxExt, AtaCommand::ConfigurationIdentify]
        );
    }

    #[test]
    fn a_disk_that_hides_nothing_says_none() {
        let mut disk = Recorded {
            identity: identity(976_773_168),
            configuration: vec![(0, 1), (3, 0x602F), (4, 0x3A38)],
            registers: vec![(AtaCommand::ReadNativeMaxExt, NATIVE)],
            asked: vec![],
        };
        let areas = of_ata(&mut disk, 976_773_168, 512);
        assert_eq!((&areas.told["hpa"], &areas.told["dco"]), (&json!("none"), &json!("none")));
        assert_eq!(areas.bytes, 0);
    }

    #[test]
    fn a_small_disk_is_asked_without_extension_and_a_new_one_for_its_accessible_address() {
        // 28 bits: the four highest bits of the address come in the device register.
        let small = "72 01 00 1d 00 00 00 0e 09 0c 00 00 00 00 00 ff 00 ff 00 ff 4f 50";
        let mut words = identity(0);
        words.retain(|(word, _)| *word != 83);
        words.push((83, 0x4001));
        let mut disk = Recorded {
            identity: words,
            registers: vec![(AtaCommand::ReadNativeMax, small)],
            ..Recorded::default()
        };
        let areas = of_ata(&mut disk, 0x0FFF_FFFF, 512);
        assert_eq!(areas.told["hpa"]["native_sectors"], 0x1000_0000);
        assert_eq!(areas.bytes, 512);

        let mut words = identity(1000);
        words.retain(|(word, _)| ![82, 83, 119].contains(word));
        words.extend([(82, 0x706B), (83, 0x7501), (119, 0x4118)]);
        let mut disk = Recorded {
            identity: words,
            registers: vec![(AtaCommand::AccessibleNativeMax, NATIVE)],
            ..Recorded::default()
        };
        let areas = of_ata(&mut disk, 1000, 4096);
        assert_eq!(areas.told["hpa"], "not asked: the device has no such feature");
        assert_eq!(areas.told["ama"]["hidden_bytes"], 976_772_168u64 * 4096);
    }

    #[test]
    fn what_is_refused_or_not_answered_is_said_so() {
        let refused = "72 0b 00 00 00 00 00 0e 09 0c 00 04 00 00 00 00 00 00 00 00 40 51";
        let mut disk = Recorded {
            identity: identity(1000),
            registers: vec![
                (AtaCommand::ReadNativeMaxExt, refused),
                (AtaCommand::ConfigurationIdentify, refused),
            ],
            ..Recorded::default()
        };
        let areas = of_ata(&mut disk, 1000, 512);
        for what in ["hpa", "dco"] {
            assert_eq!(areas.told[what], "not said: the device refused (status 0x51, error 0x04)");
        }
        let mut disk = Recorded { identity: identity(1000), ..Recorded::default() };
        let areas = of_ata(&mut disk, 1000, 512);
        assert_eq!(areas.told["hpa"], "not said: no registers came back");
        assert_eq!(areas.told["dco"], "not said: an empty answer");
        let areas = of_ata(&mut Recorded::default(), 1000, 512);
        assert!(areas.told["hpa_dco_ama"].as_str().unwrap().starts_with("not asked"), "{areas:?}");
    }

    #[test]
    fn hostile_sense_data_is_no_answer() {
        for first in 0..=255u8 {
            for length in [0, 1, 13, 14, 200, 255] {
                let mut sense = [first; 64];
                (sense[0], sense[7]) = (0x72, length);
                let answer = AtaAnswer { data: [0; 512], sense };
                let _ = answer.registers();
            }
        }
        let mut sense = [0xFF; 64];
        (sense[0], sense[7], sense[8], sense[9]) = (0x72, 14, 0x09, 0xFF);
        assert!(AtaAnswer { data: [0; 512], sense }.registers().is_ok());
    }

    struct RecordedNvme {
        namespace: [u8; 4096],
        controller: [u8; 4096],
    }

    impl NvmeDevice for RecordedNvme {
        fn identify(&mut self, _: u32, what: u32) -> io::Result<[u8; 4096]> {
            Ok(if what == 0 { self.namespace } else { self.controller })
        }

        fn namespace(&self) -> io::Result<u32> {
            Ok(1)
        }
    }

    #[test]
    fn capacity_of_an_nvme_disk_in_no_namespace_is_told() {
        let mut disk = RecordedNvme { namespace: [0; 4096], controller: [0; 4096] };
        for at in [0, 8, 16] {
            disk.namespace[at..at + 8].copy_from_slice(&1_000_000u64.to_le_bytes());
        }
        // The second of the formats: 4 KiB blocks.
        disk.namespace[26] = 1;
        disk.namespace[128 + 4 + 2] = 12;
        disk.controller[280..288].copy_from_slice(&5_000_000_000u64.to_le_bytes());
        disk.controller[296..304].copy_from_slice(&904_000_000u64.to_le_bytes());
        let areas = of_nvme(&mut disk, 4_096_000_000);
        assert_eq!(areas.told["nvme_namespace"]["size"], 4_096_000_000u64);
        assert_eq!(areas.told["nvme_controller"]["in_no_namespace"], 904_000_000);
        assert_eq!(areas.bytes, 904_000_000);
        disk.namespace = [0xFF; 4096];
        disk.controller = [0xFF; 4096];
        assert_eq!(of_nvme(&mut disk, 0).told["nvme_namespace"]["size"], u64::MAX.to_string());
    }

    #[test]
    fn commands_are_those_of_the_standard_and_none_sends_data() {
        for command in [
            AtaCommand::Identify,
            AtaCommand::ReadNativeMax,
            AtaCommand::ReadNativeMaxExt,
            AtaCommand::ConfigurationIdentify,
            AtaCommand::AccessibleNativeMax,
        ] {
            let cdb = command.cdb();
            let (protocol, from_device) = (cdb[1] >> 1, cdb[2] >> 3 & 1 == 1);
            assert!(cdb[0] == 0x85 && (protocol == 3 || protocol == 4 && from_device), "{command:?}");
        }
    }
}

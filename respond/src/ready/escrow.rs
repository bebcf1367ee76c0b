//! Whether disks that are encrypted could be opened: what is escrowed of them is tried, not only counted.
//!
//! Tried is LUKS, by `cryptsetup open --test-passphrase`, which changes nothing and maps nothing. A backup of a header proves
//! that the key opened the disk when the backup was made; only the device itself proves it for today.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::{Probe, child};
use super::settings::EscrowSettings;
use crate::targets::ssh::{SshSettings, output_of};

pub(super) static CHECKS: &[Check] = &[Check {
    id: "RD24",
    version: 1,
    severity: Severity::High,
    title: "keys of encrypted disks are escrowed, and open them",
    scope: "host, disk",
    tested: "`lsblk` on each host of `[targets.ssh]` names its encrypted disks (LUKS, BitLocker), and each must have a \
             [[ready.escrow]] of its UUID; each key there is tried by `cryptsetup open --test-passphrase` on the header or device \
             that it is for. One that was never tried is a warning",
    remediation: "put the recovery key and a backup of the header (cryptsetup luksHeaderBackup) into escrow, and name both in a \
                  [[ready.escrow]]; install cryptsetup here",
    prowler: &[],
    seconds: 300,
    drill: None,
    test: escrow,
}];

/// How long one key may take: a key is made slow to guess on purpose.
const PATIENCE: Duration = Duration::from_secs(60);

/// Encrypted disks of one host that are looked at.
const MOST_DISKS: usize = 500;

/// What is encrypted, as `lsblk` calls it.
const ENCRYPTED: [&str; 2] = ["crypto_LUKS", "BitLocker"];

const EXPECTED: &str = "its key is escrowed, and opens it";

fn escrow(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let escrowed = &probe.settings.ready.escrow;
    let hosts = &probe.settings.targets.ssh;
    if escrowed.is_empty() && hosts.is_empty() {
        return Err(Unable::none(
            "the settings name neither hosts ([targets.ssh]) nor escrowed keys ([[ready.escrow]])",
        ));
    }
    let mut found = Vec::new();
    for (name, settings) in hosts {
        match disks(settings) {
            Err(why) => found.push(Finding::new(name, Status::Error, why, EXPECTED)),
            Ok(disks) if disks.is_empty() => {
                let seen = "lsblk knows of no encrypted disk there";
                found.push(Finding::of(name, true, seen, EXPECTED));
            }
            Ok(disks) => found.extend(disks.into_iter().map(|disk| {
                let scope = format!("{name}{}", disk.path);
                let is_its = |one: &&EscrowSettings| {
                    !disk.uuid.is_empty() && one.uuid.eq_ignore_ascii_case(&disk.uuid)
                };
                let seen = format!("{} {}", disk.kind, disk.uuid);
                match escrowed.iter().find(is_its) {
                    None => Finding::of(scope, false, format!("{seen}: no key of it is escrowed"), EXPECTED),
                    Some(key) => {
                        let seen =
                            format!("{seen}: escrowed for {}, tried below {}", key.asset, scope_of(key));
                        Finding::of(scope, true, seen, EXPECTED)
                    }
                }
            })),
        }
    }
    found.extend(escrowed.iter().map(tried));
    Ok(found)
}

/// An encrypted disk of a host.
#[derive(Debug, PartialEq)]
struct Disk {
    path: String,
    kind: String,
    uuid: String,
}

fn disks(settings: &SshSettings) -> Result<Vec<Disk>, String> {
    settings.check()?;
    let until = Instant::now() + Duration::from_secs(60);
    let said = output_of(settings, "lsblk -J -o PATH,FSTYPE,UUID", until)?;
    listed(&said)
}

/// The encrypted disks in what `lsblk -J` says.
fn listed(said: &[u8]) -> Result<Vec<Disk>, String> {
    let said: Value =
        serde_json::from_slice(said).map_err(|error| format!("lsblk does not answer in JSON: {error}"))?;
    let top = said.get("blockdevices").and_then(Value::as_array);
    let mut open: Vec<&Value> = top.ok_or("lsblk names no block devices")?.iter().collect();
    let mut disks: Vec<Disk> = Vec::new();
    while let Some(one) = open.pop() {
        open.extend(one.get("children").and_then(Value::as_array).into_iter().flatten());
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let disk = Disk { path: text("path"), kind: text("fstype"), uuid: text("uuid") };
        // A device of several paths is listed below each of them.
        if ENCRYPTED.contains(&disk.kind.as_str()) && !disks.contains(&disk) {
            disks.push(disk);
        }
        if disks.len() > MOST_DISKS {
            return Err(format!("lsblk names more than {MOST_DISKS} encrypted disks"));
        }
    }
    disks.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(disks)
}

fn scope_of(key: &EscrowSettings) -> String {
    format!("{}/escrow/{}", key.asset, key.uuid)
}

/// Tries an escrowed key.
fn tried(key: &EscrowSettings) -> Finding {
    let scope = scope_of(key);
    let Some(on) = key.header.as_deref().or(key.device.as_deref()) else {
        let seen = "it is escrowed and was never tried: neither header nor device is named";
        return Finding::new(scope, Status::Warn, seen, EXPECTED);
    };
    let (status, seen) = match open(key, on) {
        Ok(judged) => judged,
        Err(Unable::NotApplicable(why) | Unable::CouldNotTest(why)) => (Status::Error, why),
    };
    Finding::new(scope, status, &seen, EXPECTED).with_evidence(seen)
}

fn open(key: &EscrowSettings, on: &Path) -> Result<(Status, String), Unable> {
    let shown = on.display();
    let mut command = Command::new("cryptsetup");
    command.args(["luksUUID", "--"]).arg(on).env("LC_ALL", "C");
    let ran = child(command, PATIENCE)?;
    if ran.code != Some(0) {
        return Err(Unable::untested(format!("{shown} holds no header of LUKS: {}", ran.last_words())));
    }
    let uuid = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    if !uuid.eq_ignore_ascii_case(&key.uuid) {
        let seen = format!("{shown} is the header of {uuid}, another disk");
        return Ok((Status::Fail, seen));
    }
    let mut command = Command::new("cryptsetup");
    command.args(["open", "--test-passphrase", "--batch-mode", "--key-file"]).arg(&key.key_file);
    command.arg("--").arg(on).env("LC_ALL", "C");
    let ran = child(command, PATIENCE)?;
    match ran.code {
        Some(0) => Ok((Status::Pass, format!("the key opens {shown}"))),
        // cryptsetup(8), return codes: no permission, which is a bad passphrase.
        Some(2) => Ok((Status::Fail, format!("the key does not open {shown}: {}", ran.last_words()))),
        _ => Err(Unable::untested(format!("the key could not be tried on {shown}: {}", ran.last_words()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encrypted_disks_are_found_wherever_they_lie_and_each_once() {
        let said = br#"{"blockdevices": [
            {"path": "/dev/sda", "fstype": null, "uuid": null, "children": [
                {"path": "/dev/sda1", "fstype": "ext4", "uuid": "a"},
                {"path": "/dev/sda2", "fstype": "crypto_LUKS", "uuid": "b", "children": [
                    {"path": "/dev/mapper/root", "fstype": "LVM2_member", "uuid": "c", "children": [
                        {"path": "/dev/mapper/data", "fstype": "crypto_LUKS", "uuid": "d"}]}]}]},
            {"path": "/dev/sdb", "children": [{"path": "/dev/mapper/data", "fstype": "crypto_LUKS", "uuid": "d"}]},
            {"path": "/dev/sdc", "fstype": "BitLocker", "uuid": null}]}"#;
        let found = listed(said).unwrap();
        let told: Vec<_> = found.iter().map(|disk| (disk.path.as_str(), disk.uuid.as_str())).collect();
        assert_eq!(told, [("/dev/mapper/data", "d"), ("/dev/sda2", "b"), ("/dev/sdc", "")]);
    }

    #[test]
    fn what_is_no_list_of_disks_says_nothing_of_them() {
        for wrong in [&b""[..], b"{}", b"[]", b"lsblk: not found", br#"{"blockdevices": 7}"#] {
            assert!(listed(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
        let many = (0..=MOST_DISKS).map(|n| format!(r#"{{"path": "/dev/{n}", "fstype": "crypto_LUKS"}}"#));
        let many = format!(r#"{{"blockdevices": [{}]}}"#, many.collect::<Vec<_>>().join(","));
        assert!(listed(many.as_bytes()).unwrap_err().contains("more than"));
    }
}

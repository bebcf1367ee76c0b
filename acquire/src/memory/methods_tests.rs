use std::fs;
use std::path::Path;

use super::super::made_machine::{MadeSegment, filled, made_kcore};
use super::*;

const IOMEM: &str = "00001000-00004fff : System RAM\n00100000-0010ffff : System RAM\n";

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn machine(root: &Path) {
    let segments = [(0x1000u64, 0x4000usize), (0x10_0000, 0x1_0000)];
    let segments =
        segments.map(|(at, length)| MadeSegment::at(at, 0xffff_8880_0000_0000 + at, &filled(at, length)));
    write(root, "proc/kcore", made_kcore(&segments, b"OSRELEASE=6\n"));
    write(root, "proc/iomem", IOMEM);
}

fn why(forecast: &Forecast, way: Way) -> (bool, String) {
    let outlook = forecast.outlooks.iter().find(|outlook| outlook.way == way).unwrap();
    (outlook.works, outlook.why.clone())
}

#[test]
fn a_way_works_only_if_pages_were_read_by_it() {
    let root = tempfile::tempdir().unwrap();
    machine(root.path());
    write(root.path(), "dev/mem", vec![0; 0x10_0000]);
    let forecast = Forecast::of(&Host::below(root.path()));
    assert_eq!(why(&forecast, Way::Kcore), (true, "all 3 pages that were tried could be read".to_owned()));
    assert!(why(&forecast, Way::Crash).1.contains("there is none"));
    // It holds the first MiB, as under CONFIG_STRICT_DEVMEM, and nothing above.
    let (works, reason) = why(&forecast, Way::Mem);
    assert!(!works && reason.contains("CONFIG_STRICT_DEVMEM"), "{reason}");
    assert_eq!(forecast.best(), Some(Way::Kcore));
    assert!(forecast.memory.contains("2 ranges (/proc/iomem)"), "{}", forecast.memory);
}

#[test]
fn hidden_addresses_are_named_and_the_segments_of_kcore_stand_in() {
    let root = tempfile::tempdir().unwrap();
    machine(root.path());
    write(root.path(), "proc/iomem", "00000000-00000000 : System RAM\n");
    let ways = Ways::try_all(&Host::below(root.path()), &Way::ALL);
    assert_eq!(ways.ram_from, "/proc/kcore");
    assert_eq!(ways.ram, system_ram(IOMEM.as_bytes()).unwrap());
    assert!(ways.forecast.memory.contains("CAP_SYS_ADMIN"), "{}", ways.forecast.memory);
    fs::remove_file(root.path().join("proc/kcore")).unwrap();
    let forecast = Forecast::of(&Host::below(root.path()));
    assert_eq!(forecast.best(), None);
    assert!(forecast.memory.contains("not known where it lies"), "{}", forecast.memory);
}

#[test]
fn each_refusal_of_the_system_has_its_own_reason_and_remedy() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::below(root.path());
    let told = |way: Way, errno: i32| refused(&host, way, &io::Error::from_raw_os_error(errno));
    assert!(told(Way::Kcore, 13).contains("run as root"));
    write(root.path(), "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
    assert!(told(Way::Kcore, 1).contains("most likely lockdown"));
    write(root.path(), "sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    assert!(told(Way::Mem, 1).contains("kernel lockdown is in integrity mode"));
    assert!(!told(Way::Kcore, 1).contains("lockdown"));
    write(root.path(), "sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert!(told(Way::Kcore, 1).contains("kernel lockdown is in confidentiality mode"));
    write(root.path(), "proc/self/status", "CapEff:\t00000000a80425fb\n");
    assert!(told(Way::Kcore, 1).contains("lacks CAP_SYS_RAWIO"));
    fs::create_dir_all(root.path().join("proc/kcore")).unwrap();
    assert!(open_kcore(&host).unwrap_err().contains("container runtime"));
}

#[test]
fn the_table_fits_a_terminal_of_80_columns() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/self/status", "CapEff:\t00000000a80425fb\n");
    let table = Forecast::of(&Host::below(root.path())).to_string();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(table.starts_with("source       works   why\n/proc/kcore  no      there is none"), "{table}");
    assert_eq!(wrapped("aa bb  cc", 5), ["aa bb", "cc"]);
    assert_eq!(wrapped("incomprehensible a", 5), ["incomprehensible", "a"]);
}

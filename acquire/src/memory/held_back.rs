//! What the machine itself says it holds back from whoever reads its memory, and what was never in it.

use serde_json::{Map, Value};

use super::host::Host;

/// Facts for the manifest: faulty memory, balloons, memory blocks that are offline, memory not yet accepted, and swap.
///
/// Pages of all these read as zeros, but for swap, which is not memory and is not acquired with it. A fact that the
/// system does not tell is left out.
pub(crate) fn facts(host: &Host) -> Map<String, Value> {
    let mut facts = Map::new();
    let mut add = |name: &str, bytes: Option<u64>| {
        if let Some(bytes) = bytes {
            facts.insert(name.to_owned(), bytes.into());
        }
    };
    let meminfo = host.text("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    add("poisoned_bytes", kib("HardwareCorrupted"));
    add("unaccepted_bytes", kib("Unaccepted"));
    let vmstat = host.text("/proc/vmstat").unwrap_or_default();
    let pages = |name: &str| {
        let value = vmstat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse::<u64>().ok()
    };
    let balloon = pages("balloon_inflate").zip(pages("balloon_deflate"));
    let balloon = balloon.map(|(inflated, deflated)| inflated.saturating_sub(deflated).saturating_mul(4096));
    add("balloon_bytes", kib("Balloon").or(balloon));
    let xen = |name: &str| {
        host.text(&format!("/sys/devices/system/xen_memory/xen_memory0/{name}"))?.parse::<u64>().ok()
    };
    add("xen_current_bytes", xen("info/current_kb").and_then(|kib| kib.checked_mul(1024)));
    add("xen_target_bytes", xen("target_kb").and_then(|kib| kib.checked_mul(1024)));
    let blocks = "/sys/devices/system/memory";
    let block = host.text(&format!("{blocks}/block_size_bytes"));
    if let Some(size) = block.and_then(|size| u64::from_str_radix(size.trim_start_matches("0x"), 16).ok()) {
        let names = host.names(blocks);
        let is_offline = |name: &&String| {
            let number = name.strip_prefix("memory").is_some_and(|number| number.parse::<u64>().is_ok());
            number && host.text(&format!("{blocks}/{name}/online")).as_deref() == Some("0")
        };
        let offline: Vec<&String> = names.iter().filter(is_offline).collect();
        add("memory_block_bytes", Some(size));
        add("offline_block_bytes", Some(size.saturating_mul(offline.len() as u64)));
        if !offline.is_empty() {
            // Long lists are in the extents table.
            let named: Vec<Value> = offline.iter().take(100).map(|name| name.as_str().into()).collect();
            facts.insert("offline_blocks".to_owned(), named.into());
        }
    }
    let swaps = host.text("/proc/swaps").unwrap_or_default();
    let used = |column: usize| {
        let rows = swaps.lines().skip(1);
        rows.filter_map(|row| row.split_whitespace().rev().nth(column)?.parse::<u64>().ok())
            .fold(0u64, |sum, kib| sum.saturating_add(kib.saturating_mul(1024)))
    };
    if !swaps.is_empty() {
        // From the right: priority, used, size. A name may have spaces.
        facts.insert("swap_bytes".to_owned(), used(2).into());
        facts.insert("swap_used_bytes_not_acquired".to_owned(), used(1).into());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_reads_as_zeros_and_what_is_in_swap_becomes_facts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:  8 kB\nHardwareCorrupted:     8 kB\nUnaccepted:  1024 kB\n");
        write("proc/vmstat", "balloon_inflate 700\nballoon_deflate 200\nballoon_migrate 3\n");
        write(
            "proc/swaps",
            "Filename\t\tType\tSize\tUsed\tPriority\n/dev/zram 0 partition 2048 100 -2\n/s file 8 4 -3\n",
        );
        write("sys/devices/system/memory/block_size_bytes", "8000000\n");
        write("sys/devices/system/memory/memory0/online", "1\n");
        write("sys/devices/system/memory/memory9/online", "0\n");
        write("sys/devices/system/memory/memoryx/online", "0\n");
        let facts = facts(&Host::below(root.path()));
        let expected = serde_json::json!({
            "poisoned_bytes": 8192, "unaccepted_bytes": 1 << 20, "balloon_bytes": 500 * 4096, "memory_block_bytes": 0x800_0000,
            "offline_block_bytes": 0x800_0000, "offline_blocks": ["memory9"], "swap_bytes": 2056 * 1024,
            "swap_used_bytes_not_acquired": 104 * 1024,
        });
        assert_eq!(Value::Object(facts), expected);
        let nothing = super::facts(&Host::below(&root.path().join("none")));
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}

//! What is known of this run itself before it touches anything: clocks, who we are, what state the kernel is in.

use std::path::Path;

use custody::Identity;
use custody::clock::Clock;
use custody::strict_json::to_line;

use super::host_files::HostFiles;
use super::live_table::Row;
use crate::error::Result;
use crate::tar_packer::TarPacker;

const FORMAT: &str = "exhibit-self/1";

/// Small files of the kernel that say how far the other answers can be trusted.
const STATE: [(&str, &str); 10] = [
    ("boot_id", "/proc/sys/kernel/random/boot_id"),
    ("uptime", "/proc/uptime"),
    ("version", "/proc/version"),
    ("command_line", "/proc/cmdline"),
    ("tainted", "/proc/sys/kernel/tainted"),
    ("lsm", "/sys/kernel/security/lsm"),
    ("lockdown", "/sys/kernel/security/lockdown"),
    ("clock_source", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("rtc_since_epoch", "/sys/class/rtc/rtc0/since_epoch"),
    ("load", "/proc/loadavg"),
];

/// Stores `/V0/self.json`.
pub(crate) fn own_facts(
    host: &mut HostFiles,
    identity: &Identity,
    bundle: &Path,
    clock: &dyn Clock,
    out: &mut TarPacker<'_>,
) -> Result<()> {
    let mut row = Row::default();
    row.put("format", FORMAT);
    // The pair says what the wall clock was at a moment of the other clock, which nobody can set.
    let now = clock.now();
    row.put("wall", now.rfc3339());
    row.put("mono_ns", now.mono_ns.to_string());
    row.put("timezone_minutes", now.tz_min);
    if let Some(sync) = &now.sync {
        row.text("clock_kept_by", sync.source.as_bytes());
        row.text("clock_state", sync.state.as_bytes());
    }
    row.put("pid", std::process::id());
    row.put("tool", format!("{} {}", identity.tool.name, identity.tool.version));
    if let Some(sha256) = identity.tool.build_sha256 {
        row.put("tool_sha256", sha256.to_string());
    }
    for (key, path) in STATE {
        if let Ok(text) = host.read_small(Path::new(path), 64 << 10) {
            row.text(key, text.trim_ascii());
        }
    }
    if let Ok(space) = rustix::fs::statvfs(bundle) {
        row.number("bundle_free_bytes", Some(space.f_bavail.saturating_mul(space.f_frsize)));
    }
    match to_line(&serde_json::Value::Object(row.into_map())) {
        Ok(line) => out.made("/V0/self.json", format!("{line}\n").as_bytes()),
        Err(error) => {
            out.note(Path::new("/V0/self.json"), &error.to_string());
            Ok(())
        }
    }
}

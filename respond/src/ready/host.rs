//! What this host allows and keeps: its logs, its clock, its memory, its containers.

use std::fs;
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use acquire::memory::Forecast;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::check::{Check, Finding, Severity, Status, Unable};
use super::probe::{Probe, child};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD19",
        version: 1,
        severity: Severity::High,
        title: "this host's logs survive a restart and are being written",
        scope: "host",
        tested: "/var/log/journal or a syslog file is there and was written within the hour; /var/log/audit/audit.log, where it is \
                 missing, is a warning",
        remediation: "mkdir /var/log/journal and restart systemd-journald (Storage=persistent); install auditd",
        prowler: &[],
        seconds: 20,
        drill: None,
        test: host_logs,
    },
    Check {
        id: "RD32",
        version: 2,
        severity: Severity::High,
        title: "this host's clock is right",
        scope: "server",
        tested: "SNTP (RFC 4330) with each server of `ready.ntp`: the offset must be below one second even with the way's \
                 uncertainty added; where the uncertainty leaves it open, it could not be tested; without servers, what `timedatectl` says of synchronisation",
        remediation: "install chrony or enable systemd-timesyncd, and open UDP 123 to the servers",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: clock,
    },
    Check {
        id: "RD35",
        version: 1,
        severity: Severity::High,
        title: "this host's memory can be captured",
        scope: "host",
        tested: "/proc/kcore, /dev/crash and /dev/mem are opened and pages are read by them; the words name kernel lockdown where \
                 it forbids them",
        remediation: "run as root on the host itself; where lockdown is in confidentiality mode only a snapshot by the hypervisor \
                      gives memory",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: memory,
    },
    Check {
        id: "RD36",
        version: 1,
        severity: Severity::Medium,
        title: "this kernel's symbols are there for the analysis of memory",
        scope: "kernel",
        tested: "/sys/kernel/btf/vmlinux is read, and /proc/kallsyms has addresses other than zero",
        remediation: "run as root; sysctl kernel.kptr_restrict=1; a kernel with CONFIG_DEBUG_INFO_BTF, or keep its debug package",
        prowler: &[],
        seconds: 20,
        drill: None,
        test: symbols,
    },
    Check {
        id: "RD38",
        version: 1,
        severity: Severity::Medium,
        title: "container runtimes can be asked",
        scope: "socket",
        tested: "each socket of `ready.container_sockets` is connected to; one of Docker or Podman is asked for its version, of \
                 any other it is not known who answers there, which is a warning",
        remediation: "give the service's user the right to the socket, or run it as root",
        prowler: &[],
        seconds: 20,
        drill: None,
        test: sockets,
    },
];

/// Seconds after which a log that should be written to all the time is stale.
const STALE: i64 = 3600;

/// The name that the kernel gives this host.
fn host_name(probe: &Probe) -> String {
    probe
        .host_file("/proc/sys/kernel/hostname")
        .map_or_else(|_| "this host".to_owned(), |name| name.trim().to_owned())
}

/// Seconds since 1970 at which the newest file of a folder, or a file, was last written.
fn last_written(path: &Path) -> Option<i64> {
    let meta = fs::metadata(path).ok()?;
    if meta.is_dir() {
        let files = fs::read_dir(path).ok()?.flatten().take(10_000);
        return files.filter_map(|file| last_written(&file.path())).max();
    }
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn host_logs(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let scope = host_name(probe);
    let expected = "a log on disk that was written within the hour, and auditd's too";
    if !probe.root.join("var/log").is_dir() {
        return Err(Unable::untested("/var/log cannot be read"));
    }
    let now = probe.now();
    let age = |path: &'static str| {
        last_written(&probe.root.join(path)).map(|at| (path, now.saturating_sub(at).max(0)))
    };
    let logs = ["var/log/journal", "var/log/syslog", "var/log/messages"].into_iter().filter_map(age);
    let freshest = logs.min_by_key(|(_, age)| *age);
    let audit = age("var/log/audit/audit.log");
    let told = |(path, age): (&str, i64)| format!("/{path} was written {age} s ago");
    let (status, seen) = match (freshest, audit) {
        (None, _) => (
            Status::Fail,
            "neither /var/log/journal nor a syslog file is there: logs go with a restart".to_owned(),
        ),
        (Some(log), _) if log.1 > STALE => (Status::Fail, told(log)),
        (Some(log), None) => (Status::Warn, format!("{}; auditd keeps no log", told(log))),
        (Some(log), Some(audit)) if audit.1 > STALE => {
            (Status::Warn, format!("{}; {}", told(log), told(audit)))
        }
        (Some(log), Some(audit)) => (Status::Pass, format!("{}; {}", told(log), told(audit))),
    };
    Ok(vec![Finding::new(scope, status, &seen, expected).with_evidence(seen)])
}

fn memory(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let forecast = Forecast::of(&probe.host());
    let words: Vec<String> =
        forecast.outlooks.iter().map(|one| format!("{}: {}", one.way.path(), one.why)).collect();
    let best = forecast.best();
    let lockdown = probe.host_file("/sys/kernel/security/lockdown").unwrap_or_default();
    let lockdown = match lockdown.trim() {
        "" => "lockdown not known".to_owned(),
        modes => format!("lockdown {modes}"),
    };
    let seen = match best {
        Some(way) => format!("{} works; {}; {lockdown}", way.path(), forecast.memory),
        None => format!("no way works: {}; {lockdown}", words.join("; ")),
    };
    let finding =
        Finding::of(host_name(probe), best.is_some(), seen, "one way to read this host's memory works");
    Ok(vec![finding.with_evidence(forecast.to_string())])
}

fn symbols(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let release = probe
        .host_file("/proc/sys/kernel/osrelease")
        .map_err(|error| Unable::untested(format!("the kernel's release cannot be read: {error}")))?;
    let btf = fs::File::open(probe.root.join("sys/kernel/btf/vmlinux")).is_ok();
    let names = probe.host_file("/proc/kallsyms").unwrap_or_default();
    let has_addresses = names.lines().take(2_000).any(|line| {
        line.split(' ')
            .next()
            .is_some_and(|address| address.len() >= 8 && address.bytes().any(|digit| digit != b'0'))
    });
    let (status, seen) = match (btf, has_addresses) {
        (true, true) => (Status::Pass, "types (BTF) and addresses are there"),
        (true, false) => (Status::Fail, "types are there; /proc/kallsyms hides the addresses"),
        (false, true) => {
            (Status::Warn, "addresses are there; no types: /sys/kernel/btf/vmlinux cannot be read")
        }
        (false, false) => (Status::Fail, "neither types nor addresses can be read"),
    };
    Ok(vec![Finding::new(release.trim(), status, seen, "types and addresses of the running kernel")])
}

fn sockets(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    use std::io::{Read as _, Write as _};
    let sockets = &probe.settings.ready.container_sockets;
    if sockets.is_empty() {
        return Err(Unable::none(
            "the settings name no sockets of container runtimes (ready.container_sockets)",
        ));
    }
    let each = sockets.iter().map(|path| {
        let scope = path.display().to_string();
        let expected = "the runtime answers";
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                return Finding::of(scope, false, format!("cannot be connected to: {error}"), expected);
            }
        };
        let speaks_http = ["docker", "podman"].iter().any(|name| scope.contains(name));
        if !speaks_http {
            let seen = "it takes connections; which runtime answers there, if any, was not tested";
            return Finding::new(scope, Status::Warn, seen, expected);
        }
        let wait = Some(Duration::from_secs(5));
        let asked = stream
            .set_read_timeout(wait)
            .and_then(|()| stream.set_write_timeout(wait))
            .and_then(|()| stream.write_all(b"GET /version HTTP/1.0\r\nHost: runtime\r\n\r\n"))
            .and_then(|()| {
                let mut head = [0; 1024];
                let read = stream.read(&mut head)?;
                Ok(head.get(..read).unwrap_or_default().to_vec())
            });
        match asked {
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer).into_owned();
                let holds = said.starts_with("HTTP/1.") && said.get(9..12) == Some("200");
                let line = said.lines().next().unwrap_or("nothing").to_owned();
                Finding::of(scope, holds, format!("it answers {line}"), expected).with_evidence(answer)
            }
            Err(error) => Finding::new(scope, Status::Error, format!("no answer: {error}"), expected),
        }
    });
    Ok(each.collect())
}

fn clock(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let servers = &probe.settings.ready.ntp;
    let expected = "an offset below 1 s";
    if servers.is_empty() {
        let mut command = Command::new("timedatectl");
        command.args(["show", "--property=NTPSynchronized", "--value"]);
        let ran = child(command, Duration::from_secs(5))?;
        let said = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        return match said.as_str() {
            "yes" | "no" => {
                let seen = format!("timedatectl says synchronised: {said}; no server was asked (ready.ntp)");
                Ok(vec![
                    Finding::of(host_name(probe), said == "yes", seen, "synchronised").with_evidence(said),
                ])
            }
            _ => Err(Unable::untested(format!(
                "timedatectl says nothing, and the settings name no server (ready.ntp): {}",
                ran.last_words()
            ))),
        };
    }
    let each = servers.iter().map(|server| match offset_to(probe, server) {
        Ok((offset, uncertain)) => {
            let seen = format!("{offset:+.3} s, ± {uncertain:.3} s");
            Finding::new(server, judged(offset, uncertain), &seen, expected).with_evidence(seen)
        }
        Err(why) => Finding::new(server, Status::Error, why, expected),
    });
    Ok(each.collect())
}

/// Whether an offset that is known so far is below a second: an answer that took long says little.
fn judged(offset: f64, uncertain: f64) -> Status {
    let offset = offset.abs();
    if offset + uncertain < 1.0 {
        Status::Pass
    } else if offset - uncertain >= 1.0 {
        Status::Fail
    } else {
        Status::Error
    }
}

/// Seconds between the NTP era and 1970.
const ERA: f64 = 2_208_988_800.0;

/// How far this clock is behind a server's, and half of the time that the exchange took (RFC 4330, section 5).
fn offset_to(probe: &Probe, server: &str) -> Result<(f64, f64), String> {
    let place = if server.contains(':') { server.to_owned() } else { format!("{server}:123") };
    let address = place.to_socket_addrs().map_err(|error| error.to_string())?.next();
    let address = address.ok_or_else(|| format!("{server} has no address"))?;
    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let said = |error: std::io::Error| format!("no answer from {server}: {error}");
    let socket = UdpSocket::bind(local).map_err(said)?;
    socket.set_read_timeout(Some(Duration::from_secs(3))).map_err(said)?;
    socket.connect(address).map_err(said)?;
    let mut request = [0u8; 48];
    // Version 4, client.
    if let Some(first) = request.first_mut() {
        *first = 0x23;
    }
    // The server gives our time stamp back: a random one proves that it answers to us, and tells nobody our time.
    let mut nonce = [0; 8];
    SystemRandom::new().fill(&mut nonce).map_err(|_| "there are no random numbers".to_owned())?;
    if let Some(field) = request.get_mut(40..48) {
        field.copy_from_slice(&nonce);
    }
    let before = probe.clock.now().wall_ns as f64 / 1e9;
    let begun = Instant::now();
    socket.send(&request).map_err(said)?;
    let mut answer = [0; 512];
    let read = socket.recv(&mut answer).map_err(said)?;
    let took = begun.elapsed().as_secs_f64();
    let answer = answer.get(..read).unwrap_or_default();
    let stratum = answer.get(1).copied().unwrap_or(0);
    let mode = answer.first().copied().unwrap_or(0);
    if read < 48 || mode & 7 != 4 || answer.get(24..32) != Some(&nonce) {
        return Err(format!("{server} does not answer as a server of NTP does"));
    }
    if stratum == 0 || stratum > 15 || mode >> 6 == 3 {
        return Err(format!("{server} says that it is not synchronised itself"));
    }
    let time = |at: usize| {
        let field = |at: usize| {
            let bytes = answer.get(at..at.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
            f64::from(bytes.map_or(0, u32::from_be_bytes))
        };
        field(at) - ERA + field(at.saturating_add(4)) / 4_294_967_296.0
    };
    let (received, sent) = (time(32), time(40));
    let offset = ((received - before) + (sent - (before + took))) / 2.0;
    Ok((offset, ((took - (sent - received)) / 2.0).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_the_way_leaves_open_is_neither_right_nor_wrong() {
        assert_eq!(judged(-0.2, 0.1), Status::Pass);
        assert_eq!(judged(2.4, 0.1), Status::Fail);
        // The answer took three seconds: the clock may be off by four, or by one.
        assert_eq!(judged(2.4, 1.5), Status::Error);
        assert_eq!(judged(0.0, 1.5), Status::Error);
        assert_eq!(judged(f64::NAN, 0.0), Status::Error);
    }
}

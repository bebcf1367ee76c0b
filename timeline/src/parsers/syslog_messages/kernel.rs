//! The kernel: crashes, firewall lines, devices and boots.

use super::{MOST_FIELDS, address, failed, is, leading_digits, port, put_text};
use crate::event::Event;

pub(super) fn understand(message: &str, event: &mut Event) {
    let message = match uptime(message) {
        Some((seconds, rest)) => {
            put_text(event, "uptime", seconds);
            rest
        }
        None => message,
    };
    if let Some(at) = message.find("SRC=")
        && message.contains("DST=")
        && let Some((prefix, fields)) = message.split_at_checked(at)
    {
        firewall(prefix, fields, event);
    } else if let Some((who, what)) = message.split_once("]: segfault at ") {
        crash(who, "segfault", what, event);
    } else if let Some((who, what)) = message
        .strip_prefix("traps: ")
        .and_then(|m| m.split_once("] general protection").or_else(|| m.split_once("] trap ")))
    {
        crash(who, "protection-fault", what, event);
    } else if let Some((_, rest)) = message.split_once("Killed process ") {
        let (pid, rest) = leading_digits(rest);
        let name = rest.split_once('(').and_then(|(_, r)| r.split_once(')')).map_or("", |(n, _)| n);
        if !pid.is_empty() {
            is(event, "process", "out-of-memory-kill");
            about(name, pid, event);
        }
    } else if message.starts_with("Linux version ") {
        is(event, "host", "boot");
    } else if let Some(line) = message.strip_prefix("Command line: ") {
        is(event, "host", "boot");
        event.command = Some(line.to_owned());
    } else if let Some(device) =
        message.strip_prefix("device ").and_then(|m| m.split_once(" promiscuous mode"))
    {
        is(event, "network", "promiscuous-mode");
        put_text(event, "device", device.0.split(' ').next().unwrap_or(""));
    } else if message.ends_with(": entered promiscuous mode") {
        is(event, "network", "promiscuous-mode");
        put_text(event, "device", message.split(':').next().unwrap_or(""));
    } else if let Some((module, _)) = message.split_once(": loading out-of-tree module taints kernel") {
        is(event, "driver", "module-loaded");
        put_text(event, "module", module);
    } else if let Some((module, _)) = message.split_once(": module verification failed") {
        is(event, "driver", "module-loaded");
        put_text(event, "module", module);
    } else if message.starts_with("usb ") {
        usb(message, event);
    }
}

/// `997.390602` and the rest of `[  997.390602] sda2: …`.
fn uptime(message: &str) -> Option<(&str, &str)> {
    let (seconds, rest) = message.strip_prefix('[')?.split_once(']')?;
    let seconds = seconds.trim();
    let is_number = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_number.then_some((seconds, rest.trim_start()))
}

/// `pe[4711` of `pe[4711]: segfault at …`.
fn crash(who: &str, action: &'static str, what: &str, event: &mut Event) {
    let Some((name, pid)) = who.rsplit_once('[') else { return };
    is(event, "process", action);
    failed(event);
    about(name, pid, event);
    put_text(event, "fault", what);
}

/// The event is about that process; who told it is kept in `logged_by`.
fn about(name: &str, pid: &str, event: &mut Event) {
    if !name.is_empty() {
        let writer = event.process.replace(name.to_owned());
        event.attrs.put_some("logged_by", writer);
    }
    event.pid = pid.parse().ok();
}

/// `LOG` lines of iptables and nftables: a prefix of the administrator's choice, then `IN=eth0 OUT= … SRC=…`.
fn firewall(prefix: &str, fields: &str, event: &mut Event) {
    let upper = prefix.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|w| upper.contains(w));
    let action = if has(&["BLOCK", "DROP", "DENY", "DENIED", "REJECT"]) {
        "firewall-blocked"
    } else if has(&["ALLOW", "ACCEPT"]) {
        "firewall-allowed"
    } else {
        "firewall-logged"
    };
    is(event, "network", action);
    // `IN=`, `OUT=` and `MAC=` stand before `SRC=`.
    let label = prefix.split_once("IN=").map_or(prefix, |(label, _)| label);
    put_text(event, "rule", label.trim().trim_end_matches(':'));
    let link = prefix.strip_prefix(label).unwrap_or("");
    for field in link.split_ascii_whitespace().chain(fields.split_ascii_whitespace()).take(MOST_FIELDS) {
        // An ICMP error quotes the packet it is about in brackets; its fields are not this packet's.
        if field.starts_with('[') {
            break;
        }
        match field.split_once('=') {
            Some(("SRC", value)) => event.src_ip = address(value),
            Some(("DST", value)) => event.dst_ip = address(value),
            Some(("SPT", value)) => event.src_port = port(value),
            Some(("DPT", value)) => event.dst_port = port(value),
            Some(("IN", value)) => put_text(event, "in", value),
            Some(("OUT", value)) => put_text(event, "out", value),
            Some(("MAC", value)) => put_text(event, "mac", value),
            Some(("PROTO", value)) => put_text(event, "protocol", value),
            Some(("LEN", value)) if event.attrs.get("length").is_none() => put_text(event, "length", value),
            _ => {}
        }
    }
}

/// `usb 1-1: New USB device found, idVendor=0781, idProduct=5567, …`
fn usb(message: &str, event: &mut Event) {
    let Some((port, what)) = message.split_once(": ") else { return };
    let device = port.trim_start_matches("usb ");
    if let Some(fields) = what.strip_prefix("New USB device found") {
        is(event, "host", "usb-connected");
        for field in fields.split(", ").take(MOST_FIELDS) {
            match field.split_once('=') {
                Some(("idVendor", value)) => put_text(event, "usb_vendor", value),
                Some(("idProduct", value)) => put_text(event, "usb_product", value),
                _ => {}
            }
        }
    } else if what.starts_with("USB disconnect") {
        is(event, "host", "usb-disconnected");
    } else if let Some(serial) = what.strip_prefix("SerialNumber: ") {
        is(event, "host", "usb-connected");
        put_text(event, "usb_serial", serial);
    } else {
        return;
    }
    put_text(event, "usb_port", device);
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    fn kernel(message: &str) -> String {
        said("kernel", message)
    }

    #[test]
    fn a_crash_is_about_the_process_that_crashed() {
        assert_eq!(
            kernel("[  12.500000] pe[4711]: segfault at 0 ip 55d0 sp 7ffd error 4 in pe[55d0+2000]"),
            r#"process segfault failure pid=4711 process=pe {"uptime":"12.500000","logged_by":"kernel","fault":"0 ip 55d0 sp 7ffd error 4 in pe[55d0+2000]"}"#
        );
        assert_eq!(
            kernel("traps: nginx[77] general protection fault ip:55 sp:7f error:0"),
            r#"process protection-fault failure pid=77 process=nginx {"logged_by":"kernel","fault":"fault ip:55 sp:7f error:0"}"#
        );
        assert_eq!(
            kernel("Out of memory: Killed process 812 (mysqld) total-vm:1kB"),
            r#"process out-of-memory-kill pid=812 process=mysqld {"logged_by":"kernel"}"#
        );
    }

    #[test]
    fn firewall_lines_give_both_ends() {
        assert_eq!(
            kernel(
                "[99.1] [UFW BLOCK] IN=eth0 OUT= MAC=02:00 SRC=203.0.113.9 DST=192.0.2.10 LEN=40 TTL=244 PROTO=TCP SPT=54321 DPT=23 SYN"
            ),
            r#"network firewall-blocked src=203.0.113.9 sport=54321 dst=192.0.2.10 dport=23 {"uptime":"99.1","rule":"[UFW BLOCK]","in":"eth0","mac":"02:00","length":"40","protocol":"TCP"}"#
        );
        assert_eq!(
            kernel(
                "icmp: IN=eth0 OUT= SRC=192.0.2.1 DST=192.0.2.2 LEN=56 PROTO=ICMP TYPE=3 [SRC=192.0.2.2 DST=192.0.2.9 PROTO=UDP SPT=1 DPT=2 ]"
            ),
            r#"network firewall-logged src=192.0.2.1 dst=192.0.2.2 {"rule":"icmp","in":"eth0","length":"56","protocol":"ICMP"}"#
        );
    }

    #[test]
    fn boots_devices_and_modules_are_told() {
        assert_eq!(kernel("Linux version 6.1.0 (x)"), "host boot");
        assert_eq!(
            kernel("Command line: BOOT_IMAGE=/vmlinuz ro"),
            "host boot command=BOOT_IMAGE=/vmlinuz ro"
        );
        assert_eq!(
            kernel("device eth0 entered promiscuous mode"),
            r#"network promiscuous-mode {"device":"eth0"}"#
        );
        assert_eq!(
            kernel("rk: loading out-of-tree module taints kernel."),
            r#"driver module-loaded {"module":"rk"}"#
        );
        assert_eq!(
            kernel("usb 1-1: New USB device found, idVendor=0781, idProduct=5567, bcdDevice=1.00"),
            r#"host usb-connected {"usb_vendor":"0781","usb_product":"5567","usb_port":"1-1"}"#
        );
    }
}

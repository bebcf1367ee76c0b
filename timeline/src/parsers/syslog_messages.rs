//! What the messages of well-known Linux programs say: logins, privilege, accounts, jobs, sessions, the kernel.
//!
//! Shared by every parser that meets such messages (syslog files, the systemd journal). It reads the text of the
//! programs' own `log` calls; names and addresses in them are whatever an attacker typed, so fixed words are
//! looked for from the end that the attacker does not control.

mod accounts;
mod jobs;
mod kernel;
mod pam;
mod privilege;
mod services;
mod sshd;

use std::net::IpAddr;

use crate::event::Event;

/// Fills in what `message`, written by `program`, says: category, action, outcome, user, address, command …
///
/// `event.message`, its time and host stay as they are; `event.process` and `event.pid` change only where the
/// message is about another process than its writer (a segfault told by the kernel). A message that is not known
/// changes nothing. `message` is the text behind `program[pid]: `.
pub(crate) fn understand(program: &str, message: &str, event: &mut Event) {
    let message = message.trim();
    if let Some((inner, times)) = repeated(message) {
        event.attrs.put("repeated", times);
        if let Some(inner) = inner {
            understand_one(program, inner, event);
        }
    } else {
        understand_one(program, message, event);
    }
}

fn understand_one(program: &str, message: &str, event: &mut Event) {
    let name = program.rsplit('/').next().unwrap_or(program);
    // Old PAM: `su(pam_unix)[123]: session opened …`.
    if let Some(service) = name.strip_suffix("(pam_unix)") {
        pam::understand(service, message, event);
        return;
    }
    if pam::understand_prefixed(message, event) {
        return;
    }
    match name {
        "sshd" | "sshd-session" | "sshd-auth" => sshd::understand(message, event),
        "kernel" => kernel::understand(message, event),
        "systemd" => services::systemd(message, event),
        "systemd-logind" => services::logind(message, event),
        "CRON" | "CROND" | "cron" | "crond" | "crontab" | "anacron" => jobs::understand(name, message, event),
        "sudo" => privilege::sudo(message, event),
        "su" => privilege::su(message, event),
        "pkexec" => privilege::pkexec(message, event),
        "doas" => privilege::doas(message, event),
        "login" => privilege::login(message, event),
        "useradd" | "userdel" | "usermod" | "groupadd" | "groupdel" | "groupmod" | "passwd" | "chpasswd"
        | "gpasswd" | "chage" | "chsh" | "chfn" => accounts::understand(name, message, event),
        "rsyslogd" | "syslogd" | "syslog-ng" => services::logger(message, event),
        _ if name.eq_ignore_ascii_case("cron") => jobs::understand("cron", message, event),
        _ => {}
    }
}

/// The facility of a syslog priority: `auth`, `cron`, `local0` …
pub(crate) fn facility_name(facility: u16) -> Option<&'static str> {
    const NAMES: [&str; 24] = [
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
        "ntp",
        "security",
        "console",
        "solaris-cron",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ];
    NAMES.get(usize::from(facility)).copied()
}

/// The OCSF `severity_id` of a syslog level, 0 (emergency) to 7 (debug).
pub(crate) fn severity_of_level(level: u16) -> Option<i16> {
    const IDS: [i16; 8] = [6, 5, 5, 4, 3, 2, 1, 1];
    IDS.get(usize::from(level)).copied()
}

/// The OCSF `severity_id` of a level's name as loggers write it: `ERR`, `Warning`, `<Notice>` without its brackets.
pub(crate) fn severity_of_word(word: &str) -> Option<i16> {
    const WORDS: [(&str, u16); 14] = [
        ("emerg", 0),
        ("emergency", 0),
        ("panic", 0),
        ("alert", 1),
        ("crit", 2),
        ("critical", 2),
        ("err", 3),
        ("error", 3),
        ("warning", 4),
        ("warn", 4),
        ("notice", 5),
        ("info", 6),
        ("information", 6),
        ("debug", 7),
    ];
    let (_, level) = WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word))?;
    severity_of_level(*level)
}

/// How often a message is said to repeat, and which message, where the line holds it.
fn repeated(message: &str) -> Option<(Option<&str>, i64)> {
    if let Some(rest) = message.strip_prefix("message repeated ") {
        let (times, inner) = rest.split_once(" times: [")?;
        return Some((inner.strip_suffix(']').map(str::trim), times.parse().ok()?));
    }
    let text = message.strip_prefix("--- ").and_then(|m| m.strip_suffix(" ---")).unwrap_or(message);
    let rest = text.strip_prefix("last message ")?;
    let rest = rest.strip_prefix("buffered ").or_else(|| rest.strip_prefix("repeated "))?;
    let times = rest.strip_suffix(" times").or_else(|| rest.strip_suffix(" time"))?;
    Some((None, times.parse().ok()?))
}

/// Category and action, in ECS words where ECS has one.
fn is(event: &mut Event, category: &'static str, action: &'static str) {
    event.category = Some(category.into());
    event.action = Some(action.into());
}

fn succeeded(event: &mut Event) {
    event.outcome = Some("success".into());
}

fn failed(event: &mut Event) {
    event.outcome = Some("failure".into());
}

/// No true message has more fields; a hostile one could have hundreds of thousands.
const MOST_FIELDS: usize = 64;

/// Sets the user, unless there is none.
fn user(event: &mut Event, name: &str) {
    let name = name.trim();
    if !name.is_empty() {
        event.user_name = Some(name.to_owned());
    }
}

fn put_text(event: &mut Event, key: &'static str, value: &str) {
    let value = value.trim();
    if !value.is_empty() {
        event.attrs.put(key, value);
    }
}

/// An address in its usual form, or `None` where the text is no address.
pub(crate) fn address(text: &str) -> Option<String> {
    let bare = text.split('%').next().unwrap_or(text);
    match bare.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(v4) => Some(v4.to_string()),
        IpAddr::V6(v6) if bare.len() == text.len() => Some(v6.to_string()),
        IpAddr::V6(_) => Some(text.to_owned()),
    }
}

/// Sets where a connection came from: an address, or the name that stands in its place.
fn source_host(event: &mut Event, text: &str) {
    let text = text.trim();
    match address(text) {
        Some(ip) => event.src_ip = Some(ip),
        None if !text.is_empty() => event.attrs.put("src_host", text),
        None => {}
    }
}

fn port(text: &str) -> Option<i32> {
    text.parse::<u16>().ok().map(i32::from)
}

/// The digits that `text` starts with, and what follows.
fn leading_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(end).unwrap_or(("", text))
}

/// The text between quotes or ready: `'alice'` and `alice` both give `alice`.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;

    /// What is understood of a message, as one line.
    pub(super) fn said(program: &str, message: &str) -> String {
        let mut event = Event::new("linux:syslog", "Recorded Time", Span::default(), message);
        event.process = Some(program.to_owned());
        event.pid = Some(7);
        understand(program, message, &mut event);
        assert_eq!(event.message, message, "the message itself must stay");
        let mut out = Vec::new();
        out.extend(
            [&event.category, &event.action, &event.outcome].into_iter().flatten().map(|t| t.to_string()),
        );
        let mut add = |key: &str, value: Option<String>| out.extend(value.map(|v| format!("{key}={v}")));
        add("user", event.user_name.clone());
        let process = event.process.clone().filter(|p| p != program);
        add("pid", event.pid.filter(|_| process.is_some()).map(|p| p.to_string()));
        add("process", process);
        add("command", event.command.clone());
        add("src", event.src_ip.clone());
        add("sport", event.src_port.map(|p| p.to_string()));
        add("dst", event.dst_ip.clone());
        add("dport", event.dst_port.map(|p| p.to_string()));
        add("path", event.path.clone());
        add("severity", event.severity.map(|s| s.to_string()));
        if !event.attrs.is_empty() {
            out.push(event.attrs.to_json());
        }
        out.join(" ")
    }

    #[test]
    fn a_repeated_message_is_understood_and_says_how_often() {
        assert_eq!(
            said("sshd", "message repeated 5 times: [ Failed password for root from 192.0.2.9 port 22 ssh2]"),
            r#"authentication ssh-login failure user=root src=192.0.2.9 sport=22 {"repeated":5,"method":"password"}"#
        );
        assert_eq!(said("x", "last message repeated 3 times"), r#"{"repeated":3}"#);
        assert_eq!(said("", "--- last message repeated 5 times ---"), r#"{"repeated":5}"#);
        assert_eq!(said("x", "message repeated many times: [y]"), "");
    }

    #[test]
    fn addresses_get_one_form_and_names_are_kept_apart() {
        assert_eq!(address("2001:0db8:0a0b:12f0:0000:0000:0000:0001").unwrap(), "2001:db8:a0b:12f0::1");
        assert_eq!(address("::ffff:192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(address("fe80::1%eth0").unwrap(), "fe80::1%eth0");
        assert_eq!(address("bastion.example.org"), None);
    }

    #[test]
    fn facilities_and_levels_have_names_and_severities() {
        assert_eq!((facility_name(10), facility_name(24)), (Some("authpriv"), None));
        assert_eq!(
            (severity_of_level(0), severity_of_level(7), severity_of_level(8)),
            (Some(6), Some(1), None)
        );
        assert_eq!((severity_of_word("WARNING"), severity_of_word("Job")), (Some(3), None));
    }

    #[test]
    fn a_message_of_an_unknown_program_or_kind_changes_nothing() {
        for (program, message) in
            [("nginx", "hello"), ("sshd", "hello"), ("sudo", "hello"), ("", ""), ("cron", "(")]
        {
            assert_eq!(said(program, message), "");
        }
    }
}

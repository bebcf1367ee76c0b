//! What an audit record says: its type's category and action, and its fields in the event's columns.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::fields::{Field, Fields, Quote, hex_bytes, text_of};
use super::syscalls;
use crate::event::Event;
use crate::parser::Context;
use crate::parsers::syslog_messages::address;
use crate::text::clean;

/// More fields than any record has; what is behind them is kept as one text.
const MOST_FIELDS: usize = 256;

/// Fills in `event` from the body of a record of type `kind`.
pub(super) fn understand(kind: &str, body: &str, context: &Context, event: &mut Event) {
    if let Some((category, action)) = category_and_action(kind) {
        event.category = Some(Cow::Borrowed(category));
        event.action = Some(Cow::Borrowed(action));
    }
    let mut record = Record { kind, ..Record::default() };
    record.read(Fields::new(body), event, true);
    record.finish(context, event);
    let said = match &event.command {
        Some(command) if matches!(kind, "EXECVE" | "PROCTITLE" | "TTY" | "USER_TTY") => one_line(command),
        _ => one_line(body),
    };
    event.message = match &event.action {
        Some(call) if kind == "SYSCALL" && call != "syscall" => format!("{kind} {call}: {said}"),
        _ => format!("{kind}: {said}"),
    };
    event.message.truncate(event.message.trim_end().len());
}

/// What must be known of a whole record before it is told.
#[derive(Default)]
struct Record<'t> {
    kind: &'t str,
    fields: usize,
    /// Words between the fields.
    words: String,
    acct: Option<String>,
    uid: Option<&'t str>,
    auid: Option<&'t str>,
    id: Option<&'t str>,
    uid_name: Option<&'t str>,
    id_name: Option<&'t str>,
    auid_name: Option<&'t str>,
    arch: Option<&'t str>,
    syscall: Option<&'t str>,
    syscall_name: Option<&'t str>,
    exe: Option<String>,
    arguments: Vec<String>,
    last_argument: Option<&'t str>,
}

impl<'t> Record<'t> {
    fn read(&mut self, mut fields: Fields<'t>, event: &mut Event, outermost: bool) {
        // `old` and `new` of `old auid=0 new auid=1000` belong to the next key.
        let mut before = "";
        while let Some(field) = fields.next() {
            match field {
                Field::Word(word @ ("old" | "new")) => {
                    before = word;
                    continue;
                }
                Field::Word(word) => {
                    self.words.push_str(if self.words.is_empty() { "" } else { " " });
                    self.words.push_str(word);
                }
                Field::Pair("msg", inner, Quote::Single) if outermost => {
                    self.read(Fields::new(inner), event, false);
                }
                Field::Pair(key, value, quote)
                    if self.kind == "EXECVE" && self.argument(key, value, quote) => {}
                Field::Pair(key, value, quote) => {
                    self.fields = self.fields.saturating_add(1);
                    if self.fields > MOST_FIELDS {
                        event.attrs.put("rest", format!("{key}={value} {}", fields.rest()));
                        return;
                    }
                    if before.is_empty() {
                        self.pair(key, value, quote, event);
                    } else {
                        if before == "new" && key == "auid" {
                            self.auid = Some(value);
                        }
                        event.attrs.put(format!("{before}-{key}"), value);
                    }
                }
            }
            before = "";
        }
    }

    /// `a1="-c"`, `a2=6C73`, and long ones in parts: `a3[0]=…`. Says whether the field is one.
    fn argument(&mut self, key: &'t str, value: &str, quote: Quote) -> bool {
        let (name, part) = key.split_once('[').unwrap_or((key, ""));
        let Some(digits) = name.strip_prefix('a') else { return false };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        let text = match quote {
            Quote::None => hex_bytes(value).map_or_else(|| value.to_owned(), |bytes| clean(&bytes)),
            _ => value.to_owned(),
        };
        match self.arguments.last_mut() {
            Some(last) if !part.is_empty() && self.last_argument == Some(name) => last.push_str(&text),
            _ => self.arguments.push(text),
        }
        self.last_argument = Some(name);
        true
    }

    fn pair(&mut self, key: &'t str, value: &'t str, quote: Quote, event: &mut Event) {
        if key == "proctitle" || (key == "data" && self.kind.ends_with("TTY")) {
            let text = match hex_bytes(value).filter(|_| quote == Quote::None) {
                // Arguments are divided by NUL.
                Some(bytes) => clean(&bytes).trim_end_matches('\0').replace('\0', " "),
                None => value.to_owned(),
            };
            event.command = Some(text);
            return;
        }
        let text = text_of(key, value, quote);
        let known = !matches!(&*text, "" | "?" | "(null)" | "(none)" | "unset");
        match key {
            "pid" if event.pid.is_none() && text.parse::<i64>().is_ok() => {
                event.pid = text.parse().ok();
                return;
            }
            "comm" if known && event.process.is_none() => {
                event.process = Some(text.into_owned());
                return;
            }
            "acct" if known && self.acct.is_none() => {
                self.acct = Some(text.into_owned());
                return;
            }
            "cmd" if known && event.command.is_none() => {
                event.command = Some(text.into_owned());
                return;
            }
            "addr" if known => match address(&text) {
                Some(ip) => {
                    event.src_ip = Some(ip);
                    return;
                }
                None => event.attrs.put("addr", &*text),
            },
            "saddr" if self.kind == "SOCKADDR" => {
                socket_address(value, event);
                event.attrs.put("saddr", value);
            }
            "saddr" => event.src_ip = address(&text),
            "daddr" | "laddr" => event.dst_ip = address(&text),
            "rport" | "sport" => event.src_port = text.parse::<u16>().ok().map(i32::from),
            "lport" | "dest" | "dport" => event.dst_port = text.parse::<u16>().ok().map(i32::from),
            "res" | "success" => self.outcome(&text, event),
            "name" if self.kind == "PATH" || self.kind == "KERN_MODULE" => {
                event.path = known.then(|| text.to_string());
            }
            "path" if known => event.path = Some(text.to_string()),
            "cwd" if self.kind == "CWD" => event.path = Some(text.to_string()),
            "inode" | "ino" => event.inode = text.parse().ok(),
            "unit" => event.provider = known.then(|| Cow::Owned(text.to_string())),
            "exe" if known => self.exe = Some(text.to_string()),
            "uid" => self.uid = Some(value),
            "auid" => self.auid = Some(value),
            "id" => self.id = Some(value),
            "UID" if known => self.uid_name = Some(value),
            "AUID" if known => self.auid_name = Some(value),
            "ID" if known => self.id_name = Some(value),
            "arch" => self.arch = Some(value),
            "syscall" => self.syscall = Some(value),
            "SYSCALL" => self.syscall_name = Some(value),
            _ => {}
        }
        let in_column = match key {
            "name" => event.path.is_some() && matches!(self.kind, "PATH" | "KERN_MODULE"),
            "path" | "cwd" => event.path.as_deref() == Some(&*text),
            "inode" | "ino" => event.inode.is_some(),
            "unit" => event.provider.is_some(),
            "addr" => true,
            "saddr" => self.kind == "SOCKADDR" || event.src_ip.is_some(),
            "daddr" | "laddr" => event.dst_ip.is_some(),
            "rport" | "sport" => event.src_port.is_some(),
            "lport" | "dest" | "dport" => event.dst_port.is_some(),
            "res" | "success" => event.outcome.is_some(),
            _ => false,
        };
        // `?` is how user space says that it does not know.
        if !in_column && text != "?" {
            // Several keys of one rule are divided by 0x01.
            let text = match key {
                "key" => text.replace('\x01', " "),
                _ if quote == Quote::Braces => text.trim().to_owned(),
                _ => text.into_owned(),
            };
            event.attrs.put(key.to_owned(), text);
        }
    }

    fn outcome(&self, text: &str, event: &mut Event) {
        // The result of an anomaly is that it was seen, not that it went well.
        if self.kind.starts_with("ANOM_") {
            return;
        }
        event.outcome = match text {
            "success" | "yes" | "1" => Some(Cow::Borrowed("success")),
            "failed" | "no" | "0" => Some(Cow::Borrowed("failure")),
            _ => None,
        };
    }

    fn finish(mut self, context: &Context, event: &mut Event) {
        if let Some(rest) = self.words.strip_prefix("avc: ") {
            avc(rest.trim_start(), event);
        } else if !self.words.is_empty() {
            event.attrs.put("text", std::mem::take(&mut self.words));
        }
        if !self.arguments.is_empty() {
            event.command = Some(self.arguments.join(" "));
            event.attrs.put("argv", Value::from(std::mem::take(&mut self.arguments)));
        }
        let named = |id: Option<&str>| id.and_then(|id| id.parse().ok()).and_then(|id| context.user(id));
        // A LOGIN record sets the login id: it is about that user, not about the daemon that set it.
        let login = match self.kind {
            "LOGIN" => self.auid_name.map(str::to_owned).or_else(|| named(self.auid).map(str::to_owned)),
            _ => None,
        };
        event.user_name = self
            .acct
            .or(login)
            .or_else(|| self.id_name.map(str::to_owned))
            .or_else(|| named(self.id).map(str::to_owned))
            .or_else(|| self.uid_name.map(str::to_owned))
            .or_else(|| named(self.uid).map(str::to_owned));
        if event.attrs.get("AUID").is_none() {
            event.attrs.put_some("auid_name", named(self.auid));
        }
        let number = self.syscall.and_then(|number| number.parse().ok());
        let call = self
            .syscall_name
            .map(|name| Cow::Owned(name.to_owned()))
            .or_else(|| syscalls::name(self.arch?, number?).map(Cow::Borrowed));
        if let Some(call) = call {
            if self.kind == "SYSCALL" {
                if call.starts_with("execve") {
                    event.path.clone_from(&self.exe);
                }
                event.action = Some(call);
            } else {
                event.attrs.put("syscall_name", &*call);
            }
        }
        if let Some(exe) = self.exe.filter(|_| event.process.is_none()) {
            event.process = Some(exe.rsplit('/').next().unwrap_or(&exe).to_owned());
        }
    }
}

/// `denied { getattr } for`
fn avc(words: &str, event: &mut Event) {
    let (verdict, rest) = words.split_once(' ').unwrap_or((words, ""));
    match verdict {
        "denied" => {
            event.outcome = Some(Cow::Borrowed("failure"));
            event.action = Some(Cow::Borrowed("mac-denied"));
        }
        "granted" => {
            event.outcome = Some(Cow::Borrowed("success"));
            event.action = Some(Cow::Borrowed("mac-granted"));
        }
        _ => {}
    }
    event.attrs.put("avc", verdict);
    if let Some((permissions, _)) = rest.split_once('{').and_then(|(_, r)| r.split_once('}')) {
        event.attrs.put("permissions", permissions.trim());
    } else if !rest.is_empty() {
        event.attrs.put("text", rest);
    }
}

/// A `struct sockaddr` in hexadecimal: IPv4, IPv6, or a path. Its family is in the order of the host's bytes.
fn socket_address(value: &str, event: &mut Event) {
    let Some(bytes) = hex_bytes(value) else { return };
    match bytes.as_slice() {
        [2, 0, p1, p0, a, b, c, d, ..] | [0, 2, p1, p0, a, b, c, d, ..] => {
            event.dst_ip = Some(Ipv4Addr::new(*a, *b, *c, *d).to_string());
            event.dst_port = Some(i32::from(u16::from_be_bytes([*p1, *p0])));
        }
        [10, 0, p1, p0, _, _, _, _, rest @ ..] | [0, 10, p1, p0, _, _, _, _, rest @ ..] => {
            let Some(ip) = rest.first_chunk::<16>() else { return };
            event.dst_ip = Some(Ipv6Addr::from(*ip).to_canonical().to_string());
            event.dst_port = Some(i32::from(u16::from_be_bytes([*p1, *p0])));
        }
        [1, 0, path @ ..] | [0, 1, path @ ..] => {
            // An abstract name starts with NUL; `@` is how ss and lsof show it.
            let (at, path) = match path {
                [0, name @ ..] => ("@", name),
                path => ("", path),
            };
            let path = clean(crate::text::until_nul(path));
            if !path.is_empty() {
                event.path = Some(format!("{at}{path}"));
            }
        }
        _ => {}
    }
}

/// Control characters written out: the separator of enriched records as a space, others as `\xNN`.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\x1d' => out.push(' '),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn category_and_action(kind: &str) -> Option<(&'static str, &'static str)> {
    Some(match kind {
        "USER_LOGIN" => ("authentication", "user-login"),
        "USER_LOGOUT" => ("authentication", "user-logout"),
        "USER_AUTH" => ("authentication", "user-authentication"),
        "USER_ACCT" => ("authentication", "account-checked"),
        "USER_ERR" => ("authentication", "user-error"),
        "CRED_ACQ" => ("authentication", "credentials-acquired"),
        "CRED_REFR" => ("authentication", "credentials-refreshed"),
        "CRED_DISP" => ("authentication", "credentials-disposed"),
        "LOGIN" => ("authentication", "login-id-set"),
        "USER_START" => ("session", "session-opened"),
        "USER_END" => ("session", "session-closed"),
        "USER_CMD" => ("process", "user-command"),
        "USER_TTY" | "TTY" => ("process", "terminal-input"),
        "ADD_USER" => ("iam", "user-added"),
        "DEL_USER" => ("iam", "user-removed"),
        "ADD_GROUP" => ("iam", "group-added"),
        "DEL_GROUP" => ("iam", "group-removed"),
        "USER_MGMT" | "CHUSER_ID" => ("iam", "user-changed"),
        "GRP_MGMT" | "CHGRP_ID" => ("iam", "group-changed"),
        "USER_CHAUTHTOK" | "GRP_CHAUTHTOK" => ("iam", "password-changed"),
        "ACCT_LOCK" => ("iam", "password-locked"),
        "ACCT_UNLOCK" => ("iam", "password-unlocked"),
        "USER_ROLE_CHANGE" | "ROLE_ASSIGN" | "ROLE_REMOVE" => ("iam", "role-changed"),
        "SYSCALL" => ("process", "syscall"),
        "EXECVE" => ("process", "executed"),
        "PROCTITLE" => ("process", "process-title"),
        "BPRM_FCAPS" | "CAPSET" => ("process", "capabilities-changed"),
        "ANOM_ABEND" => ("process", "crashed"),
        "SECCOMP" => ("process", "seccomp"),
        "BPF" => ("process", "bpf"),
        "OBJ_PID" => ("process", "signalled"),
        "CWD" => ("file", "working-directory"),
        "PATH" => ("file", "path"),
        "SOCKADDR" => ("network", "socket-address"),
        "NETFILTER_PKT" => ("network", "packet"),
        "ANOM_PROMISCUOUS" => ("network", "promiscuous-mode"),
        "CRYPTO_SESSION" | "CRYPTO_KEY_USER" => ("network", "crypto-session"),
        "NETFILTER_CFG" => ("configuration", "firewall-changed"),
        "CONFIG_CHANGE" | "FEATURE_CHANGE" => ("configuration", "audit-rules-changed"),
        "MAC_POLICY_LOAD" | "MAC_STATUS" | "MAC_CONFIG_CHANGE" => ("configuration", "mac-policy-changed"),
        "USYS_CONFIG" => ("configuration", "system-changed"),
        "TIME_INJOFFSET" | "TIME_ADJNTPVAL" => ("configuration", "clock-changed"),
        "AVC" | "USER_AVC" | "SELINUX_ERR" | "USER_SELINUX_ERR" => ("process", "mac-decision"),
        "DAEMON_START" => ("process", "auditing-started"),
        "DAEMON_END" | "DAEMON_ABORT" => ("process", "auditing-stopped"),
        "DAEMON_CONFIG" | "DAEMON_RECONFIG" => ("configuration", "auditing-reconfigured"),
        "DAEMON_ROTATE" => ("process", "audit-log-rotated"),
        "SERVICE_START" => ("process", "service-started"),
        "SERVICE_STOP" => ("process", "service-stopped"),
        "SYSTEM_BOOT" => ("host", "boot"),
        "SYSTEM_SHUTDOWN" => ("host", "shutdown"),
        "SYSTEM_RUNLEVEL" => ("host", "runlevel-changed"),
        "KERN_MODULE" => ("driver", "module-loaded"),
        kind if kind.starts_with("ANOM_") => ("intrusion_detection", "anomaly"),
        _ => return None,
    })
}

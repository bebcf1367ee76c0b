use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::PARSER;
use crate::event::{Event, Precision, TzBasis};
use crate::parser::Context;
use crate::parsers::sample_checks::{
    claims, every_byte_is_accounted_for, every_record_reads_alone, outside, read, samples,
};

fn context() -> Context {
    let users =
        BTreeMap::from([(0, "root".to_owned()), (33, "www-data".to_owned()), (1001, "deploy".to_owned())]);
    Context { users: Arc::new(users), ..Context::default() }
}

fn one(line: &str) -> Event {
    let mut all = read(&PARSER, line.as_bytes(), &context()).events;
    assert_eq!(all.len(), 1, "{line}");
    all.remove(0)
}

fn record(kind: &str, body: &str) -> Event {
    one(&format!("type={kind} msg=audit(1364481363.243:24287): {body}"))
}

#[test]
fn each_sample_is_claimed_and_counted() {
    let expected = [("damaged.log", 21, 16), ("enriched.log", 26, 0), ("raw.log", 36, 0)];
    let all = samples("auditd");
    assert_eq!(all.len(), expected.len());
    for ((name, bytes), (expected_name, records, rejects)) in all.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert_eq!(claims(&PARSER, "/x", bytes), name != "damaged.log", "{name}");
        let found = read(&PARSER, bytes, &context());
        assert_eq!(
            (found.records(), found.rejects.len()),
            (records, rejects),
            "{name}: {:#?}",
            found.rejects
        );
        every_byte_is_accounted_for(&found, bytes);
        every_record_reads_alone(&PARSER, bytes, &context());
        assert!(found.events.iter().all(|e| !e.message.contains(char::is_control)), "{name}");
    }
}

#[test]
fn a_record_has_its_time_serial_type_and_node() {
    let event = one(
        "node=db01 type=USER_LOGIN msg=audit(1364481363.243:24287): pid=1 uid=0 msg='op=login acct=\"root\" exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.1 terminal=ssh res=failed'",
    );
    assert_eq!(event.time.unwrap().to_rfc3339(), "2013-03-28T14:36:03.243Z");
    assert_eq!((event.ts_precision, event.tz_basis), (Precision::Ms, TzBasis::UtcByFormat));
    assert_eq!((event.record_no, event.event_code.as_deref()), (Some(24287), Some("USER_LOGIN")));
    assert_eq!(event.host.as_deref(), Some("db01"));
    assert_eq!(
        (event.category.as_deref(), event.action.as_deref()),
        (Some("authentication"), Some("user-login"))
    );
    assert_eq!((event.outcome.as_deref(), event.user_name.as_deref()), (Some("failure"), Some("root")));
    assert_eq!((event.src_ip.as_deref(), event.process.as_deref()), (Some("192.0.2.1"), Some("sshd")));
    assert_eq!(event.attrs.to_json(), r#"{"uid":"0","op":"login","exe":"/usr/sbin/sshd","terminal":"ssh"}"#);
}

#[test]
fn a_system_call_names_call_process_and_users() {
    let event = record(
        "SYSCALL",
        "arch=c000003e syscall=59 success=yes exit=0 pid=7819 auid=1001 uid=33 tty=pts2 comm=\"touch\" exe=\"/usr/bin/touch\" key=6B31016B32",
    );
    assert_eq!((event.action.as_deref(), event.outcome.as_deref()), (Some("execve"), Some("success")));
    assert_eq!((event.process.as_deref(), event.pid), (Some("touch"), Some(7819)));
    assert_eq!(
        (event.user_name.as_deref(), event.path.as_deref()),
        (Some("www-data"), Some("/usr/bin/touch"))
    );
    assert_eq!(event.attrs.get("auid_name").unwrap(), "deploy");
    assert_eq!(event.attrs.get("key").unwrap(), "k1 k2");
    assert!(event.message.starts_with("SYSCALL execve: arch="));
    let enriched = record(
        "SYSCALL",
        "arch=c000003e syscall=59 uid=5 auid=6\x1dSYSCALL=execve AUID=\"alice\" UID=\"bob\"",
    );
    assert_eq!((enriched.user_name.as_deref(), enriched.attrs.get("auid_name")), (Some("bob"), None));
}

#[test]
fn commands_are_put_together_and_decoded() {
    let event =
        record("EXECVE", "argc=4 a0=\"touch\" a1=\"-d\" a2=323032342D30332D30312031323A30303A3030 a3=\"/x\"");
    assert_eq!(event.command.as_deref(), Some("touch -d 2024-03-01 12:00:00 /x"));
    assert_eq!(event.message, "EXECVE: touch -d 2024-03-01 12:00:00 /x");
    assert_eq!(event.attrs.to_json(), r#"{"argc":"4","argv":["touch","-d","2024-03-01 12:00:00","/x"]}"#);
    let long = record("EXECVE", "argc=2 a0=\"sh\" a1_len=4 a1[0]=6563 a1[1]=686F");
    assert_eq!(long.command.as_deref(), Some("sh echo"));
    assert_eq!(record("PROCTITLE", "proctitle=6C73002D6C00").command.as_deref(), Some("ls -l"));
    assert_eq!(record("TTY", "tty pid=1 data=69640D").command.as_deref(), Some("id\r"));
    assert_eq!(record("TTY", "tty pid=1 data=69640D").message, "TTY: id\\x0d");
    let sudo = record(
        "USER_CMD",
        "pid=1 uid=1001 msg='cwd=\"/\" cmd=636174202F78 exe=\"/usr/bin/sudo\" res=failed'",
    );
    assert_eq!((sudo.command.as_deref(), sudo.user_name.as_deref()), (Some("cat /x"), Some("deploy")));
}

#[test]
fn paths_and_sockets_have_their_columns() {
    let path = record("PATH", "item=0 name=2F746D702F6120C3A9 inode=77 nametype=CREATE");
    assert_eq!((path.path.as_deref(), path.inode), (Some("/tmp/a é"), Some(77)));
    let v4 = record("SOCKADDR", "saddr=0200115CCB00714D0000000000000000");
    assert_eq!((v4.dst_ip.as_deref(), v4.dst_port), (Some("203.0.113.77"), Some(4444)));
    let big_endian = record("SOCKADDR", "saddr=0002115CCB00714D0000000000000000");
    assert_eq!(big_endian.dst_ip.as_deref(), Some("203.0.113.77"));
    let v6 = record("SOCKADDR", "saddr=0A0000500000000020010DB800000000000000000000007700000000");
    assert_eq!((v6.dst_ip.as_deref(), v6.dst_port), (Some("2001:db8::77"), Some(80)));
    assert_eq!(record("SOCKADDR", "saddr=01002F72756E2F7800").path.as_deref(), Some("/run/x"));
}

#[test]
fn selinux_decisions_are_failures_or_successes() {
    let avc = record(
        "AVC",
        "avc:  denied  { read write } for  pid=2714 comm=\"ls\" path=\"/etc/shadow\" ino=35 tclass=file",
    );
    assert_eq!((avc.action.as_deref(), avc.outcome.as_deref()), (Some("mac-denied"), Some("failure")));
    assert_eq!((avc.path.as_deref(), avc.inode, avc.pid), (Some("/etc/shadow"), Some(35), Some(2714)));
    assert_eq!(avc.attrs.to_json(), r#"{"tclass":"file","avc":"denied","permissions":"read write"}"#);
}

#[test]
fn old_forms_of_login_records_are_read() {
    let login =
        record("LOGIN", "pid=25443 uid=0 old auid=4294967295 new auid=0 old ses=4294967295 new ses=1165");
    assert_eq!(login.attrs.get("new-ses").unwrap(), "1165");
    assert_eq!(login.attrs.get("old-auid").unwrap(), "4294967295");
    let set = record("LOGIN", "pid=1 uid=0 old-auid=4294967295 auid=1001 ses=3 res=1");
    assert_eq!((set.user_name.as_deref(), set.outcome.as_deref()), (Some("deploy"), Some("success")));
    let rhel5 = record(
        "USER_AUTH",
        "user pid=2 uid=0 msg='PAM: authentication acct=\"root\" : exe=\"/usr/sbin/sshd\" (hostname=192.0.2.8, addr=192.0.2.8, terminal=ssh res=failed)'",
    );
    assert_eq!((rhel5.src_ip.as_deref(), rhel5.outcome.as_deref()), (Some("192.0.2.8"), Some("failure")));
}

#[test]
fn a_record_with_countless_fields_is_read_in_time_and_keeps_them_all() {
    let many: String = (0..100_000).map(|n| format!("k{n}=v ")).collect();
    let event = record("X", &many);
    assert!(event.attrs.get("rest").unwrap().as_str().unwrap().ends_with("k99999=v "));
    let same = record("X", &"k=v ".repeat(100_000));
    assert!(same.attrs.get("k#9").is_some());
    assert_eq!(record("EXECVE", &"a0=61 ".repeat(100_000)).command.unwrap().len(), 199_999);
}

#[test]
fn real_audit_logs_give_the_counts_that_are_known() {
    for (name, records, rejects) in [("selinux.log", 7, 4), ("audit_enriched.log", 29, 0)] {
        let Some(bytes) = outside(&format!("linux/{name}")) else { return };
        assert!(claims(&PARSER, &format!("/{name}"), &bytes), "{name}");
        let found = read(&PARSER, &bytes, &context());
        assert_eq!(
            (found.records(), found.rejects.len()),
            (records, rejects),
            "{name}: {:#?}",
            found.rejects
        );
        every_byte_is_accounted_for(&found, &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context());
    }
}

#[test]
fn other_logs_are_left_to_their_own_parsers() {
    for other in [
        &b"Nov  9 00:00:38 web01 kernel: audit: type=2000 audit(1731000000.000:1): state=initialized\n"[..],
        b"type=error msg=\"not an audit log\"\n",
        b"",
    ] {
        assert!(!claims(&PARSER, "/var/log/audit/audit.log", other));
    }
}

#[test]
fn a_sample_cut_anywhere_gives_events_and_rejects_and_never_a_panic() {
    for (_, bytes) in samples("auditd") {
        for end in 0..bytes.len() {
            let cut = &bytes[..end];
            let from = cut.len().saturating_sub(300);
            if end <= 4096 {
                claims(&PARSER, "/x", cut);
            }
            every_byte_is_accounted_for(&read(&PARSER, &cut[from..], &context()), &cut[from..]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic_and_records_still_read_alone(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let (_, mut bytes) = samples("auditd").remove(which);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        every_byte_is_accounted_for(&read(&PARSER, &bytes, &context()), &bytes);
        every_record_reads_alone(&PARSER, &bytes, &context());
    }
}

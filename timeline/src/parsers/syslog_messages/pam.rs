//! Linux-PAM modules, whatever program they run in: `pam_unix(sshd:auth): authentication failure; …`.

use super::{MOST_FIELDS, failed, is, put_text, source_host, succeeded, unquoted, user};
use crate::event::Event;

/// A message that starts with `pam_MODULE(SERVICE:STEP): `; says whether it was one.
pub(super) fn understand_prefixed(message: &str, event: &mut Event) -> bool {
    if !message.starts_with("pam_") {
        return false;
    }
    let Some((module, text)) = message.split_once("): ") else { return false };
    let Some((module, service)) = module.split_once('(') else { return false };
    let (service, _step) = service.split_once(':').unwrap_or((service, ""));
    if module == "pam_faillock" || module == "pam_tally2" || module == "pam_tally" {
        is(event, "authentication", "account-locked");
        failed(event);
        let name = text.split_once(" for user ").map_or("", |(_, n)| n.split(' ').next().unwrap_or(n));
        user(event, name);
        put_text(event, "service", service);
        return true;
    }
    understand(service, text, event);
    true
}

/// What `pam_unix` and its kin say for `service`.
pub(super) fn understand(service: &str, text: &str, event: &mut Event) {
    if let Some(rest) = text.strip_prefix("session opened for user ") {
        is(event, "session", "session-opened");
        succeeded(event);
        let (name, by) = rest.split_once(" by ").unwrap_or((rest, ""));
        user_with_uid(name, "uid", event);
        if let Some((by, by_uid)) = by.split_once("(uid=") {
            put_text(event, "by_user", by);
            put_text(event, "by_uid", by_uid.trim_end_matches(')'));
        }
        put_text(event, "service", service);
    } else if let Some(name) = text.strip_prefix("session closed for user ") {
        is(event, "session", "session-closed");
        user_with_uid(name, "uid", event);
        put_text(event, "service", service);
    } else if text.starts_with("authentication failure") {
        failure(service, text, event);
    } else if let Some(name) = text.strip_prefix("password changed for ") {
        is(event, "iam", "password-changed");
        succeeded(event);
        user(event, name);
        put_text(event, "service", service);
    } else if let Some(rest) = text.strip_prefix("account ") {
        let name = rest.strip_suffix(" has expired (account expired)");
        let name = name.or_else(|| rest.split_once(" has expired").map(|(n, _)| n));
        if let Some(name) = name {
            is(event, "authentication", "account-expired");
            failed(event);
            user(event, unquoted(name));
        }
    } else if text.starts_with("check pass; user unknown") {
        is(event, "authentication", "pam-unknown-user");
        failed(event);
        put_text(event, "service", service);
    } else if let Some(name) = text.strip_prefix("auth could not identify password for [") {
        is(event, "authentication", "pam-authentication");
        failed(event);
        user(event, name.trim_end_matches(']'));
        put_text(event, "service", service);
    }
}

/// `…; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.1  user=root`
pub(super) fn failure(service: &str, text: &str, event: &mut Event) {
    is(event, "authentication", "pam-authentication");
    failed(event);
    put_text(event, "service", service);
    let Some((_, fields)) = text.split_once(';') else { return };
    for field in fields.split_ascii_whitespace().take(MOST_FIELDS) {
        match field.split_once('=') {
            Some(("user", name)) => user(event, name),
            Some(("rhost", host)) => source_host(event, host),
            Some(("logname", value)) => put_text(event, "logname", value),
            Some(("uid", value)) => put_text(event, "uid", value),
            Some(("euid", value)) => put_text(event, "euid", value),
            Some(("tty", value)) => put_text(event, "tty", value),
            Some(("ruser", value)) => put_text(event, "ruser", value),
            _ => {}
        }
    }
}

/// `alice(uid=1000)` or `alice`.
fn user_with_uid(text: &str, key: &'static str, event: &mut Event) {
    match text.trim().split_once("(uid=") {
        Some((name, uid)) => {
            user(event, name);
            put_text(event, key, uid.trim_end_matches(')'));
        }
        None => user(event, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    #[test]
    fn sessions_name_who_opened_them_for_whom() {
        assert_eq!(
            said("sudo", "pam_unix(sudo:session): session opened for user root(uid=0) by alice(uid=1000)"),
            r#"session session-opened success user=root {"uid":"0","by_user":"alice","by_uid":"1000","service":"sudo"}"#
        );
        assert_eq!(
            said("CRON", "pam_unix(cron:session): session opened for user root by (uid=0)"),
            r#"session session-opened success user=root {"by_uid":"0","service":"cron"}"#
        );
        assert_eq!(
            said("sshd(pam_unix)", "session closed for user alice"),
            r#"session session-closed user=alice {"service":"sshd"}"#
        );
    }

    #[test]
    fn failures_name_user_and_remote_host() {
        assert_eq!(
            said(
                "sshd",
                "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.6  user=root"
            ),
            r#"authentication pam-authentication failure user=root src=192.0.2.6 {"service":"sshd","uid":"0","euid":"0","tty":"ssh"}"#
        );
        assert_eq!(
            said("login", "pam_unix(login:auth): check pass; user unknown"),
            r#"authentication pam-unknown-user failure {"service":"login"}"#
        );
        assert_eq!(
            said(
                "sshd",
                "pam_faillock(sshd:auth): Consecutive login failures for user alice account temporarily locked"
            ),
            r#"authentication account-locked failure user=alice {"service":"sshd"}"#
        );
    }

    #[test]
    fn a_changed_password_is_an_account_event() {
        assert_eq!(
            said("passwd", "pam_unix(passwd:chauthtok): password changed for sysupd"),
            r#"iam password-changed success user=sysupd {"service":"passwd"}"#
        );
    }
}

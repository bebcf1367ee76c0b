//! Becoming someone else: sudo, su, pkexec, doas and logins at the console.

use super::{MOST_FIELDS, failed, is, put_text, source_host, succeeded, unquoted, user};
use crate::event::Event;

/// `alice : [REASON ; ]TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id`
pub(super) fn sudo(message: &str, event: &mut Event) {
    let Some((name, rest)) = message.split_once(" : ") else { return };
    let Some((fields, command)) =
        rest.split_once("COMMAND=").or_else(|| rest.contains("TTY=").then_some((rest, "")))
    else {
        return;
    };
    is(event, "process", "sudo");
    succeeded(event);
    user(event, name);
    for field in fields.split(" ; ").take(MOST_FIELDS) {
        match field.trim().trim_end_matches(" ;").split_once('=') {
            Some(("TTY", value)) => put_text(event, "tty", value),
            Some(("PWD", value)) => put_text(event, "cwd", value),
            Some(("USER", value)) => put_text(event, "target_user", value),
            Some(("GROUP", value)) => put_text(event, "target_group", value),
            Some(("HOST", value)) => put_text(event, "target_host", value),
            Some(("CHROOT", value)) => put_text(event, "chroot", value),
            Some(("TSID", value)) => put_text(event, "tsid", value),
            Some(("ENV", value)) => put_text(event, "env", value),
            // Without `=` it is why sudo said no.
            None if !field.trim().is_empty() && field.trim() != ";" => {
                failed(event);
                put_text(event, "reason", field);
            }
            _ => {}
        }
    }
    if !command.is_empty() {
        event.command = Some(command.to_owned());
    }
}

pub(super) fn su(message: &str, event: &mut Event) {
    let (who, target, tty, worked) = if let Some(rest) = message.strip_prefix("(to ") {
        let Some((target, rest)) = rest.split_once(") ") else { return };
        let (who, tty) = rest.rsplit_once(" on ").unwrap_or((rest, ""));
        (who, target, tty, true)
    } else if let Some(rest) = message.strip_prefix("FAILED SU (to ") {
        let Some((target, rest)) = rest.split_once(") ") else { return };
        let (who, tty) = rest.rsplit_once(" on ").unwrap_or((rest, ""));
        (who, target, tty, false)
    } else if let Some((target, who)) =
        message.strip_prefix("Successful su for ").and_then(|m| m.split_once(" by "))
    {
        (who, target, "", true)
    } else if let Some((target, who)) =
        message.strip_prefix("FAILED su for ").and_then(|m| m.split_once(" by "))
    {
        (who, target, "", false)
    } else if let Some(rest) = message.strip_prefix("BAD SU ") {
        let Some((who, rest)) = rest.split_once(" to ") else { return };
        let (target, tty) = rest.split_once(" on ").unwrap_or((rest, ""));
        (who, target, tty, false)
    } else if let Some(rest) = message.strip_prefix("+ ").or_else(|| message.strip_prefix("- ")) {
        let Some((tty, names)) = rest.split_once(' ') else { return };
        let Some((who, target)) = names.split_once(':') else { return };
        (who, target, tty, message.starts_with('+'))
    } else {
        return;
    };
    is(event, "authentication", "su");
    if worked {
        succeeded(event);
    } else {
        failed(event);
    }
    user(event, who);
    put_text(event, "target_user", target);
    put_text(event, "tty", tty);
}

/// `alice: Executing command [USER=root] [TTY=unknown] [CWD=/home/alice] [COMMAND=/usr/bin/id]`
pub(super) fn pkexec(message: &str, event: &mut Event) {
    let Some((name, rest)) = message.split_once(": ") else { return };
    let worked = rest.starts_with("Executing command");
    if !worked && !rest.contains("[COMMAND=") {
        return;
    }
    is(event, "process", "pkexec");
    if worked {
        succeeded(event);
    } else {
        failed(event);
        put_text(event, "reason", rest.split(" [").next().unwrap_or(rest));
    }
    user(event, name);
    let (fields, command) = rest.split_once("[COMMAND=").unwrap_or((rest, ""));
    for field in fields.split('[').skip(1).take(MOST_FIELDS) {
        match field.trim().trim_end_matches(']').split_once('=') {
            Some(("USER", value)) => put_text(event, "target_user", value),
            Some(("TTY", value)) => put_text(event, "tty", value),
            Some(("CWD", value)) => put_text(event, "cwd", value),
            _ => {}
        }
    }
    let command = command.strip_suffix(']').unwrap_or(command);
    if !command.is_empty() {
        event.command = Some(command.to_owned());
    }
}

/// `alice ran command id as root from /home/alice`, `failed command for alice: id`
pub(super) fn doas(message: &str, event: &mut Event) {
    if let Some((name, rest)) = message.split_once(" ran command ") {
        is(event, "process", "doas");
        succeeded(event);
        user(event, name);
        let (rest, cwd) = rest.rsplit_once(" from ").unwrap_or((rest, ""));
        let (command, target) = rest.rsplit_once(" as ").unwrap_or((rest, ""));
        put_text(event, "target_user", target);
        put_text(event, "cwd", cwd);
        event.command = Some(command.to_owned());
    } else if let Some((name, command)) =
        message.strip_prefix("command not permitted for ").and_then(|m| m.split_once(": "))
    {
        is(event, "process", "doas");
        failed(event);
        user(event, name);
        event.command = Some(command.to_owned());
    } else if let Some(name) = message.strip_prefix("failed auth for ") {
        is(event, "authentication", "doas");
        failed(event);
        user(event, name);
    }
}

/// Console logins, as util-linux and shadow write them.
pub(super) fn login(message: &str, event: &mut Event) {
    if let Some(rest) = message.strip_prefix("FAILED LOGIN ") {
        // `(1) on '/dev/tty1' FOR 'root', Authentication failure` · `1 FROM tty1 FOR root, Authentication failure`
        let Some((place, who)) = rest.split_once(" FOR ") else { return };
        is(event, "authentication", "console-login");
        failed(event);
        let (name, why) = who.rsplit_once(", ").unwrap_or((who, ""));
        user(event, unquoted(name));
        put_text(event, "reason", why);
        if let Some((_, place)) = place.split_once(" on ").or_else(|| place.split_once(" FROM ")) {
            tty_or_host(unquoted(place), event);
        }
    } else if let Some(rest) = message.strip_prefix("ROOT LOGIN ") {
        is(event, "authentication", "console-login");
        succeeded(event);
        user(event, "root");
        let rest = rest.trim_start();
        let rest = rest.strip_prefix("ON ").or_else(|| rest.strip_prefix("on ")).unwrap_or(rest);
        let (tty, host) =
            rest.split_once(" FROM ").or_else(|| rest.split_once(" from ")).unwrap_or((rest, ""));
        put_text(event, "tty", unquoted(tty));
        source_host(event, unquoted(host));
    } else if let Some(rest) = message.strip_prefix("LOGIN ON ") {
        let Some((tty, who)) = rest.split_once(" BY ") else { return };
        is(event, "authentication", "console-login");
        succeeded(event);
        let (name, host) = who.split_once(" FROM ").unwrap_or((who, ""));
        user(event, name);
        put_text(event, "tty", tty);
        source_host(event, host);
    }
}

fn tty_or_host(place: &str, event: &mut Event) {
    if place.starts_with("/dev/") || place.starts_with("tty") || place.starts_with("pts/") {
        put_text(event, "tty", place);
    } else {
        source_host(event, place);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    #[test]
    fn sudo_names_who_ran_what_as_whom() {
        assert_eq!(
            said(
                "sudo",
                "   alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/apt-get update"
            ),
            r#"process sudo success user=alice command=/usr/bin/apt-get update {"tty":"pts/0","cwd":"/home/alice","target_user":"root"}"#
        );
        assert_eq!(
            said(
                "sudo",
                "bob : TTY=pts/1 ; PWD=/ ; USER=root ; ENV=A=b ; COMMAND=/bin/sh -c 'a ; COMMAND=b'"
            ),
            r#"process sudo success user=bob command=/bin/sh -c 'a ; COMMAND=b' {"tty":"pts/1","cwd":"/","target_user":"root","env":"A=b"}"#
        );
    }

    #[test]
    fn a_refused_sudo_is_a_failure_with_its_reason() {
        assert_eq!(
            said(
                "sudo",
                "  deploy : user NOT in sudoers ; TTY=pts/2 ; PWD=/home/deploy ; USER=root ; COMMAND=/usr/bin/bash"
            ),
            r#"process sudo failure user=deploy command=/usr/bin/bash {"reason":"user NOT in sudoers","tty":"pts/2","cwd":"/home/deploy","target_user":"root"}"#
        );
        assert_eq!(
            said(
                "sudo",
                "bob : 3 incorrect password attempts ; TTY=pts/2 ; PWD=/ ; USER=root ; COMMAND=/bin/su -"
            ),
            r#"process sudo failure user=bob command=/bin/su - {"reason":"3 incorrect password attempts","tty":"pts/2","cwd":"/","target_user":"root"}"#
        );
    }

    #[test]
    fn every_form_of_su_says_who_became_whom() {
        assert_eq!(
            said("su", "(to root) alice on pts/0"),
            r#"authentication su success user=alice {"target_user":"root","tty":"pts/0"}"#
        );
        assert_eq!(
            said("su", "FAILED SU (to root) bob on pts/3"),
            r#"authentication su failure user=bob {"target_user":"root","tty":"pts/3"}"#
        );
        assert_eq!(
            said("su", "Successful su for root by alice"),
            r#"authentication su success user=alice {"target_user":"root"}"#
        );
        assert_eq!(
            said("su", "- /dev/pts/1 bob:root"),
            r#"authentication su failure user=bob {"target_user":"root","tty":"/dev/pts/1"}"#
        );
        assert_eq!(
            said("su", "BAD SU bob to root on /dev/ttys000"),
            r#"authentication su failure user=bob {"target_user":"root","tty":"/dev/ttys000"}"#
        );
    }

    #[test]
    fn pkexec_and_doas_give_their_command() {
        assert_eq!(
            said(
                "pkexec",
                "alice: Executing command [USER=root] [TTY=unknown] [CWD=/tmp] [COMMAND=/usr/bin/id -u]"
            ),
            r#"process pkexec success user=alice command=/usr/bin/id -u {"target_user":"root","tty":"unknown","cwd":"/tmp"}"#
        );
        assert_eq!(
            said("doas", "alice ran command cat /etc/shadow as root from /home/alice"),
            r#"process doas success user=alice command=cat /etc/shadow {"target_user":"root","cwd":"/home/alice"}"#
        );
        assert_eq!(said("doas", "failed auth for bob"), "authentication doas failure user=bob");
    }

    #[test]
    fn console_logins_name_terminal_and_user() {
        assert_eq!(
            said("login", "LOGIN ON tty1 BY alice"),
            r#"authentication console-login success user=alice {"tty":"tty1"}"#
        );
        assert_eq!(
            said("login", "ROOT LOGIN  on '/dev/tty1'"),
            r#"authentication console-login success user=root {"tty":"/dev/tty1"}"#
        );
        assert_eq!(
            said("login", "FAILED LOGIN (1) on '/dev/tty1' FOR 'root', Authentication failure"),
            r#"authentication console-login failure user=root {"reason":"Authentication failure","tty":"/dev/tty1"}"#
        );
        assert_eq!(
            said("login", "FAILED LOGIN 2 FROM 192.0.2.5 FOR bob, User not known"),
            r#"authentication console-login failure user=bob src=192.0.2.5 {"reason":"User not known"}"#
        );
    }
}

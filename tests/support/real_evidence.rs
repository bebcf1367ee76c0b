//! Evidence that other people made, which lies beside the project on some machines and is never part of it.

use std::path::Path;

use crate::sample_files::SampleFile;

/// File, parser, records, rejects: the counts that the makers' own tests state.
const KNOWN: &[(&str, &str, usize, usize)] = &[
    ("apache_access.log", "web_access", 14, 1),
    ("apt_history.log", "apt_history", 10, 0),
    ("bash_history", "bash_history", 4, 0),
    ("bash_history_desync", "bash_history", 5, 0),
    // Its ten lines are all whole; the makers' count of events leaves three of them out.
    (
        "docker/containers/e7d0b7ea5ccf08366e2b0c8afa2318674e8aefe802315378125d2bb83fe3110c/container-json.log",
        "docker_json_log",
        10,
        0,
    ),
    ("dpkg.log", "dpkg_log", 4, 0),
    ("fish_history", "fish_history", 10, 0),
    ("zsh_extended_history.txt", "zsh_history", 4, 0),
    ("audit_enriched.log", "auditd", 29, 0),
    ("selinux.log", "auditd", 7, 4),
    ("syslog__syslog", "syslog", 16, 1),
    ("syslog__syslog_chromeos", "syslog", 8, 0),
    ("syslog__syslog_cron.log", "syslog", 9, 0),
    ("syslog__syslog_osx", "syslog", 2, 0),
    ("syslog__syslog_rsyslog", "syslog", 5, 0),
    ("syslog__syslog_rsyslog_SysklogdFileFormat", "syslog", 9, 0),
    ("syslog__syslog_rsyslog_SyslogProtocol23Format", "syslog", 9, 0),
    ("syslog__syslog_rsyslog_traditional", "syslog", 8, 0),
    ("syslog__syslog_ssh.log", "syslog", 9, 0),
    ("systemd__journal__system.journal", "systemd_journal", 2101, 0),
    ("systemd__journal__system.journal.lz4", "systemd_journal", 85, 0),
    ("systemd__journal__user-1000.journal", "systemd_journal", 1, 0),
    ("utmp__utmp", "utmp", 14, 0),
    ("utmp__utmp_aarch64", "utmp", 6, 0),
    // The makers pass over its cut last record without a word; it is counted here.
    ("utmp__utmp_corrupted", "utmp", 2, 3),
    ("utmp__utmp_s390", "utmp", 6, 0),
    ("utmp__utmp_x86_64", "utmp", 6, 0),
    ("utmp__wtmp.1", "utmp", 4, 0),
];

/// Compares the counts of every file whose parser there is; says why where nothing was compared.
pub(crate) fn check() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/linux");
    if !folder.is_dir() {
        println!("skipped: there is no evidence in {}", folder.display());
        return;
    }
    let mut wrong = Vec::new();
    for (name, parser, records, rejects) in KNOWN {
        let file = folder.join(name);
        let Some(parser) = timeline::parsers::by_name(parser) else {
            println!("skipped: {name}: there is no parser {parser}");
            continue;
        };
        if !file.is_file() {
            println!("skipped: {name} is not there");
            continue;
        }
        let sample = SampleFile::open(&file, format!("/{}", name.replace("__", "/")));
        let claimed = sample.claimed_by().map(|parser| parser.name());
        if claimed != Some(parser.name()) {
            wrong.push(format!("{name} is claimed by {claimed:?}, not by {}", parser.name()));
        }
        let found = sample.parse(parser, &sample.bytes);
        if (found.records(), found.rejects.len()) != (*records, *rejects) {
            let (r, b) = (found.records(), found.rejects.len());
            let first = found.rejects.iter().take(5).collect::<Vec<_>>();
            wrong
                .push(format!("{name}: {r} records and {b} rejects, not {records} and {rejects}: {first:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

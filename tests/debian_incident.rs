//! A real Debian 12 server with a known number of records in each log: evidence that lies beside the project on some
//! machines and is never part of it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::exhibit::{Desk, ran};

/// Acquiring, building and nothing else, in a build for tests on two cores.
const LONGEST: Duration = Duration::from_secs(180);

/// End of the locator, and the records of it.
const KNOWN: [(&str, u64); 28] = [
    ("/var/log/syslog.2.gz>gzip", 72),
    ("/var/log/syslog.1", 164),
    ("/var/log/syslog", 553),
    ("/var/log/auth.log.2.gz>gzip", 240),
    ("/var/log/auth.log.1", 1454),
    ("/var/log/auth.log", 342),
    ("/var/log/kern.log.2.gz>gzip", 4),
    ("/var/log/kern.log.1", 5),
    ("/var/log/kern.log", 0),
    ("/var/log/cron.log.2.gz>gzip", 58),
    ("/var/log/cron.log.1", 143),
    ("/var/log/cron.log", 545),
    ("/var/log/nginx/access.log.2.gz>gzip", 2758),
    ("/var/log/nginx/access.log.1", 5009),
    ("/var/log/nginx/access.log", 3944),
    ("/var/log/nginx/error.log.1", 1),
    ("/var/log/nginx/error.log", 0),
    ("/var/log/secure-legacy", 342),
    ("/var/log/wtmp", 55),
    ("/var/log/btmp", 602),
    ("/var/log/lastlog", 3),
    ("/var/log/audit/audit.log", 63),
    ("/var/log/dpkg.log", 1442),
    ("/var/log/apt/history.log", 3),
    ("-json.log", 401),
    (".journal", 2828),
    ("/.bash_history", 25),
    ("/.zsh_history", 2),
];

fn number(file: &Value, of: &str) -> u64 {
    file[of].as_u64().unwrap()
}

#[test]
fn every_log_of_a_real_server_gives_its_known_number_of_records() {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/debian-incident.raw.zst");
    let Ok(image) = fs::File::open(&image) else {
        println!("skipped: there is no {}", image.display());
        return;
    };
    let began = Instant::now();
    let desk = Desk::new();
    desk.ok(&["init", "case", "--name", "debian", "--examiner", "J. Doe"]);
    let mut acquiring = desk.command();
    acquiring.args(["acquire", "disk", "-", "--case", "case", "--name", "web01"]);
    acquiring.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut acquiring = acquiring.spawn().unwrap();
    let mut image = zstd::stream::read::Decoder::new(image).unwrap();
    image.window_log_max(27).unwrap();
    std::io::copy(&mut image, &mut acquiring.stdin.take().unwrap()).unwrap();
    let acquired = ran(acquiring.wait_with_output().unwrap());
    assert_eq!(acquired.code, 0, "{}", acquired.stderr);

    let reports = desk.run(&["timeline", "case", "--json"]);
    let reports: Value =
        serde_json::from_str(&reports.stdout).unwrap_or_else(|_| panic!("{}", reports.stderr));
    let took = began.elapsed();
    assert!(took < LONGEST, "it took {took:?}");
    let files = reports[0]["files"].as_array().unwrap();
    let of = |end: &str, column: &str| -> u64 {
        let files = files.iter().filter(|file| file["locator"].as_str().unwrap().ends_with(end));
        files.map(|file| number(file, column)).sum()
    };
    let mut wrong = Vec::new();
    for (end, records) in KNOWN {
        let found = (of(end, "records"), of(end, "failed"));
        if found != (records, 0) {
            wrong.push(format!("{end}: (records, failed) are {found:?}, not {records}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{files:#?}");
    // Ten of the commands were given with a time.
    assert_eq!(of("/.bash_history", "undated"), 15);
    let web: u64 =
        ["access.log.2.gz>gzip", "access.log.1", "access.log"].map(|end| of(end, "events")).iter().sum();
    assert_eq!(web, 11_711);
    let left: Vec<&Value> = files.iter().filter(|f| number(f, "bytes") != number(f, "bytes_used")).collect();
    assert!(left.is_empty(), "bytes that are in no record: {left:#?}");
}

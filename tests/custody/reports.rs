//! The report of a case that went through several hands and days, of one that is hostile, and of one that is long.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use custody::anchors::{Parties, anchor};
use custody::bundle::{
    BundleStore, Cut, Encoder, Examiner, FORMAT, LocalFolder, LogOrigin, Manifest, Source, StreamWriter, seal,
};
use custody::handover::{Answer, ReceiverSigns, Terms, answer, items_in, offer};
use custody::report::Report;
use custody::ssh::PartyKey;
use custody::verify::{Options, verify_case};
use custody::{
    Actor, Case, CustodyLog, EntryType, FixedClock, Hasher, Host, Identity, NewCase, NewEntry, SigningKey,
    Tool, Writer, sha256,
};
use serde_json::{Value, json};

use crate::support::{CHUNK, KEY, OTHER_KEY, WITNESS, sample_bytes, unreadable};
use crate::time_stamps::{Near, RSA};

/// 2026-11-09, 09:00 UTC.
const MONDAY: i64 = 1_794_214_800_000_000_000;
const DAY: i64 = 86_400_000_000_000;
const MINUTE: i64 = 60_000_000_000;

fn at(day: i64, minute: i64) -> FixedClock {
    FixedClock::stepping(MONDAY + day * DAY + minute * MINUTE, 7_000_000_000)
}

fn identity(name: &str, role: &str) -> Identity {
    Identity {
        actor: Actor { name: name.into(), role: role.into(), org: "Example Lab".into(), ..Actor::default() },
        tool: Tool { name: "exhibit".into(), version: "0.1.0".into(), build_sha256: Some(sha256(b"build")) },
        host: Host { name: "lab-07".into(), machine: "4d1c".into(), os: "Debian GNU/Linux 12".into() },
        case: None,
        exhibit: None,
    }
}

/// Names that a case may hold, because somebody gave them.
struct Names<'a> {
    case: &'a str,
    examiner: &'a str,
    source: &'a str,
    model: &'a str,
    note: &'a str,
}

const PLAIN: Names<'_> = Names {
    case: "Break-in at Example Ltd",
    examiner: "Jane Doe",
    source: "/dev/nvme1n1",
    model: "Example SSD 990",
    note: "Sealed bag 4471 opened in the presence of J. Roe",
};

/// A case with one disk, of which one area could not be read.
fn begin(folder: &Path, names: &Names<'_>) -> Case {
    let clock = at(0, 0);
    let writer = Writer::new(&*KEY, &clock, identity(names.examiner, "examiner"));
    let new = NewCase {
        name: names.case.into(),
        examiner: names.examiner.into(),
        organisation: "Example Lab".into(),
        authority: "Search warrant 12/2026, Example District Court".into(),
    };
    let case = Case::create(folder, &new, &writer).unwrap();
    let tested = NewEntry::new(EntryType::SELFTEST_RESULT)
        .how("command", "selftest")
        .result("assertions", json!({"AM-06": "holds", "AM-09": "holds", "AO-24": "holds"}))
        .result("failed", 0)
        .result("tried", 3);
    case.append(tested, &writer).unwrap();
    let exhibit = case.add_exhibit("web01-disk", &writer).unwrap();
    let log = acquire(&exhibit.folder, names, &writer);
    let manifest = std::fs::read(exhibit.folder.join("manifest.json")).unwrap();
    let sealed = NewEntry::new(EntryType::BUNDLE_SEALED).exhibit("E001");
    let sealed = sealed.subject("manifest.json", manifest.len() as u64, sha256(&manifest));
    case.append(sealed, &writer).unwrap();
    log.append(&NewEntry::new(EntryType::NOTE).how("text", names.note), &writer).unwrap();
    case
}

fn acquire(folder: &Path, names: &Names<'_>, writer: &Writer<'_>) -> CustodyLog {
    let writer = writer.clone().for_exhibit("E001");
    let genesis = NewEntry::new(EntryType::LOG_GENESIS).how("name", "web01-disk");
    let log = CustodyLog::create(folder, genesis, &writer).unwrap();
    let data = sample_bytes(300_000);
    let counters = json!({"discards": 0, "sectors_written": 0, "writes": 0});
    let more = json!({
        "form": "block device", "transport": "nvme", "firmware": "4B2QJXD7", "physical_sector_size": "4096",
        "read_only": true, "read_only_after": true, "hidden_areas": {"hpa_dco_ama": "none"},
        "write_counters": {"before": counters, "after": counters},
    });
    let Value::Object(more) = more else { unreachable!() };
    let source = Source {
        kind: "disk".into(),
        path: Some(custody::strict_json::escape_text(names.source.as_bytes())),
        model: Some(custody::strict_json::escape_text(names.model.as_bytes())),
        serial: Some("S6Z1NJ0W".into()),
        size: Some(data.len() as u64),
        sector_size: Some(512),
        more,
    };
    let start = NewEntry::new(EntryType::ACQUIRE_START)
        .how("command", "acquire disk")
        .how("command_line", format!("exhibit acquire disk {} --case ir-2026-017", names.source))
        .how("source", json!({"path": names.source, "size": data.len()}))
        .why("", "the web server of the break-in");
    let start = log.append(&start, &writer).unwrap().seq;
    let store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
    let cut = Cut { chunk_size: CHUNK, segment_size: u64::from(CHUNK) * 2 };
    let mut stream = StreamWriter::begin_with(Arc::clone(&store), "disk", "disk", cut, None).unwrap();
    let mut encoder = Encoder::new(1).unwrap();
    let (mut whole, mut read) = (Hasher::new(), Hasher::new());
    for (number, chunk) in data.chunks(CHUNK as usize).enumerate() {
        let mut chunk = chunk.to_vec();
        let gap = unreadable(1024, 4096);
        if number == 2 {
            read.update(&chunk[..1024]);
            read.update(&chunk[5120..]);
            chunk[1024..5120].fill(0);
        } else {
            read.update(&chunk);
        }
        whole.update(&chunk);
        let gaps = if number == 2 { std::slice::from_ref(&gap) } else { &[] };
        stream.push(&encoder.encode(&chunk).unwrap(), gaps).unwrap();
    }
    let stream = stream.finish(whole.finish(), read.finish(), None).unwrap();
    let first =
        json!([{"path": names.source, "what": "could not be read", "offset": 132_096, "length": 4096}]);
    let lost = NewEntry::new(EntryType::ACQUIRE_ERROR).error("issues", 1).error("unreadable_bytes", 4096);
    log.append(&lost.error("first", first).refers_to(start), &writer).unwrap();
    let end = NewEntry::new(EntryType::ACQUIRE_END)
        .result("bytes", data.len())
        .result("issues", 1)
        .result("sha256", stream.sha256.to_string())
        .refers_to(start);
    log.append(&end, &writer).unwrap();
    let key = KEY.verifying_key();
    let manifest = Manifest {
        base: None,
        case: None,
        created: writer.clock().now().rfc3339(),
        exhibit: "E001".into(),
        examiner: Examiner {
            key: key.fingerprint(),
            name: custody::strict_json::escape_text(names.examiner.as_bytes()),
        },
        format: FORMAT.into(),
        host: writer.identity().host.clone(),
        id: "019aa0d5-0000-7000-8000-000000000000".into(),
        log: LogOrigin { origin: log.origin().into(), vkey: key.to_vkey(log.origin()) },
        name: "web01-disk".into(),
        options: serde_json::Map::new(),
        source,
        streams: vec![stream],
        tool: writer.identity().tool.clone(),
    };
    let files = seal(&store, &manifest, &*KEY).unwrap();
    log.append(&files.entry(), &writer).unwrap();
    log
}

/// The same case some days later: verified, searched, noted, corrected, copied.
fn go_on(case: &Case) {
    let entries = [
        (1, NewEntry::new(EntryType::VERIFY_RESULT).result("verdict", "CONSISTENT").result("faults", 0)),
        (1, NewEntry::new(EntryType::QUERY_RUN).how("command", "query").how("where", "user = 'root'")),
        (
            2,
            NewEntry::new(EntryType::DEVIATION)
                .how("text", "no write blocker for NVMe was at hand")
                .exhibit("E001"),
        ),
        (4, NewEntry::new(EntryType::NOTE).how("text", "the bag number is 4417")),
        (
            4,
            NewEntry::new(EntryType::CORRECTION).how("text", "the bag number is 4471, not 4417").refers_to(6),
        ),
    ];
    for (day, entry) in entries {
        let clock = at(day, 30);
        let writer = Writer::new(&*KEY, &clock, identity("Jane Doe", "examiner"));
        case.append(entry, &writer).unwrap();
    }
}

/// The exhibit goes to the store, signed by both; from there to a courier who signs nothing, and to the court's clerk.
fn hand_over(case: &Case) {
    let folder = case.folder().join("exhibits/E001-web01-disk");
    let log = CustodyLog::open(&folder).unwrap();
    let terms = |to: &str, key: Option<&SigningKey>| Terms {
        to: to.into(),
        to_key: key.map(|key| key.verifying_key().fingerprint()),
        place: "Example Lab, room 12".into(),
        means: "by hand".into(),
        purpose: "safe keeping".into(),
        seal: "bag 4471, unbroken".into(),
        ..Terms::default()
    };
    let items = || items_in(&folder).unwrap();
    let accepted = Answer::Accepted { condition: "bag 4471, unbroken".into() };
    let clock = at(1, 60);
    let writer = Writer::new(&*KEY, &clock, identity("Jane Doe", "examiner")).for_exhibit("E001");
    let store = terms("Property store", Some(&OTHER_KEY));
    offer(&log, &store, items(), &[], Some(&PartyKey::of(&*KEY)), &writer).unwrap();
    let clock = at(1, 75);
    let writer = Writer::new(&*KEY, &clock, identity("Property store", "custodian")).for_exhibit("E001");
    let party = PartyKey::of(&*OTHER_KEY);
    answer(&log, None, &accepted, &[], &ReceiverSigns::With(&party), &writer).unwrap();
    let clock = at(3, 0);
    let writer = Writer::new(&*KEY, &clock, identity("Property store", "custodian")).for_exhibit("E001");
    offer(&log, &terms("City Courier", None), items(), &[], Some(&PartyKey::of(&*OTHER_KEY)), &writer)
        .unwrap();
    answer(&log, None, &accepted, &[], &ReceiverSigns::Not, &writer).unwrap();
    let clock = at(4, 0);
    let writer = Writer::new(&*KEY, &clock, identity("City Courier", "courier")).for_exhibit("E001");
    offer(&log, &terms("Court clerk", Some(&WITNESS)), items(), &[], None, &writer).unwrap();
    answer(&log, None, &accepted, &[], &ReceiverSigns::With(&PartyKey::of(&*WITNESS)), &writer).unwrap();
}

fn report(case: &Case) -> Report {
    let verification = verify_case(case.folder(), &Options::default()).unwrap();
    Report::of_case(case, &verification).unwrap()
}

fn json_of(report: &Report) -> Value {
    serde_json::from_str(report.to_json()).unwrap()
}

#[test]
fn the_same_heads_give_the_same_bytes_wherever_the_case_lies() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    go_on(&case);
    hand_over(&case);
    let first = report(&case);
    let elsewhere = folder.path().join("elsewhere");
    std::fs::rename(case.folder(), &elsewhere).unwrap();
    let again = report(&Case::open(&elsewhere).unwrap());
    assert_eq!(first.to_json(), again.to_json());
    assert_eq!(first.to_html(), again.to_html());
    assert_eq!(first.to_case_jsonld().unwrap(), again.to_case_jsonld().unwrap());
    assert_eq!(first.document(), again.document());
    let clock = at(9, 0);
    let writer = Writer::new(&*KEY, &clock, identity("Jane Doe", "examiner"));
    let case = Case::open(&elsewhere).unwrap();
    case.append(NewEntry::new(EntryType::NOTE).how("text", "one more"), &writer).unwrap();
    assert_ne!(report(&case).id(), first.id());
}

#[test]
fn the_parts_come_in_their_order_and_the_limits_before_the_proofs() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    go_on(&case);
    hand_over(&case);
    let document = report(&case).document();
    let anchors: Vec<&str> = document.parts.iter().map(|part| part.anchor).collect();
    let expected = [
        "verdict",
        "summary",
        "limits",
        "authority",
        "people",
        "exhibits",
        "acquisition",
        "completeness",
        "hashes",
        "tool",
        "timeline",
        "transfers",
        "time",
        "integrity",
        "checks",
        "corrections",
        "certificates",
        "glossary",
        "questions",
    ];
    assert_eq!(anchors, expected);
    assert!(document.parts.iter().zip(1..).all(|(part, number)| part.number == number));
    let html = report(&case).to_html();
    for words in [
        "4,096 bytes (4.0 KiB) could not be read from the source",
        "input/output error (errno 5), tried 3 times",
        "Example SSD 990",
        "3 assertions, none failed",
        "no write blocker for NVMe was at hand",
        "the bag number is 4471, not 4417",
        "NO RECORD",
        "T18",
        "Property store",
        "City Courier",
        "GAP from 2026-11-12",
        "bag 4471, unbroken",
        "902(14)",
    ] {
        assert!(html.contains(words), "{words}");
    }
}

#[test]
fn every_printed_command_prints_what_stands_beside_it_and_not_after_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("a case"), &PLAIN);
    go_on(&case);
    hand_over(&case);
    if has("openssl") {
        let parties = Parties { authorities: vec!["http://rsa.example/tsa".into()], ..Parties::default() };
        let clock = at(8, 0);
        let writer = Writer::new(&*KEY, &clock, identity("Jane Doe", "examiner"));
        anchor(case.log(), &parties, &Near(&RSA), &writer).unwrap();
    }
    let report = json_of(&report(&case));
    // Entries that are added later do not disturb the commands.
    let clock = at(9, 0);
    let writer = Writer::new(&*KEY, &clock, identity("Jane Doe", "examiner"));
    case.append(NewEntry::new(EntryType::NOTE).how("text", "later"), &writer).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() >= 18, "{}", checks.len());
    let stamped =
        checks.iter().filter(|check| check["command"].as_str().unwrap().contains("openssl ts -verify"));
    assert_eq!(stamped.count(), usize::from(has("openssl")));
    if !["jq", "openssl", "ssh-keygen", "zstd", "python3"].iter().all(|tool| has(tool)) {
        eprintln!("skipped: jq, openssl, ssh-keygen, zstd and python3 are needed");
        return;
    }
    let differing = || checks.iter().filter(|check| run(check, case.folder()) != check["expect"]).count();
    for check in checks {
        assert_eq!(run(check, case.folder()), check["expect"], "{}", check["command"]);
    }
    let log = case.folder().join("exhibits/E001-web01-disk/custody.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace("\"issues\":1", "\"issues\":0")).unwrap();
    assert!(differing() >= 2, "{}", differing());
}

fn has(tool: &str) -> bool {
    Command::new("sh")
        .args(["-c", &format!("command -v {tool}")])
        .stdout(Stdio::null())
        .status()
        .unwrap()
        .success()
}

fn run(check: &Value, folder: &Path) -> String {
    let command = check["command"].as_str().unwrap();
    let done = Command::new("sh").args(["-c", command]).current_dir(folder).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim_end_matches('\n').to_owned()
}

#[test]
fn hostile_names_stay_text_everywhere_and_long_ones_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let long = "z".repeat(60_000);
    let names = Names {
        case: "</style><script>alert(1)</script>\" }",
        examiner: "<img src=x onerror=alert(2)>\u{202e}eoD .J",
        source: "/tmp/a'; rm -rf \u{2066}~\u{200b}/`id`<blink>",
        model: &"<svg onload=alert(3)>".repeat(2000),
        note: &long,
    };
    let case = begin(&folder.path().join("case"), &names);
    let made = report(&case);
    let html = made.to_html();
    for live in ["<script", "<img", "<svg onload", "<blink", "\u{202e}", "\u{2066}", "\u{200b}", "</style><"]
    {
        assert!(!html.contains(live), "{live}");
    }
    assert_eq!(html.matches("</style>").count(), 1);
    assert!(html.contains("&lt;img src=x onerror=alert(2)&gt;&lt;U+202E&gt;eoD .J"));
    assert!(html.contains("more characters)"));
    assert!(!html.contains(&"z".repeat(1300)));
    assert!(html.len() < 2_000_000, "{}", html.len());
    for text in [made.to_json().to_owned(), made.to_case_jsonld().unwrap()] {
        serde_json::from_str::<Value>(&text).unwrap();
    }
    // Shell commands name folders that the program itself chose, never what somebody gave.
    for check in json_of(&made)["checks"].as_array().unwrap() {
        assert!(!check["command"].as_str().unwrap().contains("rm -rf"));
    }
}

#[test]
fn a_log_of_a_hundred_thousand_entries_gives_a_report_of_bounded_size() {
    const ENTRIES: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    lengthen(&case, ENTRIES);
    let verification = verify_case(case.folder(), &Options::default()).unwrap();
    assert!(verification.is_intact(), "{:?}", verification.faults.first());
    let begun = Instant::now();
    let made = Report::of_case(&case, &verification).unwrap();
    let (html, graph) = (made.to_html(), made.to_case_jsonld().unwrap());
    let passed = begun.elapsed();
    eprintln!(
        "report of {ENTRIES} entries: {passed:?}, {} bytes of HTML, {} of JSON-LD",
        html.len(),
        graph.len()
    );
    assert!(html.contains("more rows in custody.jsonl"));
    assert!(html.len() < 3_000_000, "{}", html.len());
    assert!(made.to_json().len() < 4_000_000, "{}", made.to_json().len());
    assert!(graph.len() < 40_000_000, "{}", graph.len());
    assert!(passed.as_secs() < 120, "{passed:?}");
}

/// Appends queries as the log itself would, signing once at the end, for an append takes milliseconds.
fn lengthen(case: &Case, entries: usize) {
    let path = case.folder().join("custody.jsonl");
    let text = std::fs::read(&path).unwrap();
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let mut last: Value = serde_json::from_slice(lines[lines.len() - 1]).unwrap();
    let mut frontier = custody::merkle::Frontier::new();
    for line in &lines {
        frontier.push(line);
    }
    let mut prev = sha256(lines[lines.len() - 1]);
    let mut file = std::io::BufWriter::new(std::fs::OpenOptions::new().append(true).open(&path).unwrap());
    for seq in lines.len()..entries {
        last["seq"] = seq.into();
        last["prev"] = prev.to_string().into();
        last["type"] = "query.run".into();
        last["how"] = json!({"command": "query", "where": format!("pid = {seq}")});
        last["subject"] = json!([]);
        last.as_object_mut().unwrap().remove("subject");
        last["id"] = format!("019aa0d5-0000-7000-8000-{seq:012x}").into();
        let line = custody::strict_json::to_line(&last).unwrap();
        frontier.push(line.as_bytes());
        prev = sha256(line.as_bytes());
        writeln!(file, "{line}").unwrap();
    }
    file.flush().unwrap();
    let root = frontier.root();
    let head = custody::Checkpoint { origin: case.log().origin().to_owned(), size: frontier.size(), root };
    let signed = custody::SignedCheckpoint::sign(head, &*KEY).unwrap();
    std::fs::write(case.folder().join("checkpoint"), signed.note.to_text()).unwrap();
    std::fs::write(case.folder().join("custody.frontier"), frontier.to_text()).unwrap();
}

#[test]
fn a_broken_case_still_gets_its_report_which_says_so_first() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    let segment = case.folder().join("exhibits/E001-web01-disk/data/disk/000000.zst");
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let html = report(&case).to_html();
    let (verdict, limits) =
        (html.find("BROKEN").unwrap(), html.find("what is stored is not what was sealed").unwrap());
    assert!(verdict < limits);
    assert!(html.contains("exhibits/E001-web01-disk/data/disk/000000.zst"));
}

#[test]
fn the_case_graph_passes_case_validate() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    go_on(&case);
    let made = report(&case);
    let graph: Value = serde_json::from_str(&made.to_case_jsonld().unwrap()).unwrap();
    let actions = graph["@graph"].as_array().unwrap().iter();
    let actions = actions.filter(|node| node["@type"] == "case-investigation:InvestigativeAction").count();
    let entries = case.log().read().unwrap().entries.len();
    let of_exhibit = CustodyLog::open(&case.folder().join("exhibits/E001-web01-disk")).unwrap();
    assert_eq!(actions, entries + of_exhibit.read().unwrap().entries.len());
    if !has("case_validate") {
        eprintln!("skipped: case_validate is not installed (pip install case-utils)");
        return;
    }
    let file = folder.path().join("report.case.jsonld");
    std::fs::write(&file, made.to_case_jsonld().unwrap()).unwrap();
    let done =
        Command::new("case_validate").args(["--built-version", "case-1.4.0"]).arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_key_that_is_not_trusted_does_not_make_it_signed() {
    let folder = tempfile::tempdir().unwrap();
    let case = begin(&folder.path().join("case"), &PLAIN);
    let trusting = |key: &SigningKey| {
        let verification = verify_case(case.folder(), &crate::support::trusting(key)).unwrap();
        Report::of_case(&case, &verification).unwrap().to_html()
    };
    assert!(trusting(&KEY).contains("<b>SIGNED</b>"));
    assert!(trusting(&OTHER_KEY).contains("<b>CONSISTENT</b>"));
}

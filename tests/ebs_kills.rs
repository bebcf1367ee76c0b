//! An acquisition of an EBS snapshot by the real binary, killed at any moment and taken up again.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use custody::sha256;

use crate::exhibit::Desk;
use crate::fault_server::{FaultServer, Piece, Plan, Settings, Snapshot};

const ID: &str = "snap-0123456789abcdef0";

fn acquire(desk: &Desk, server: &FaultServer, more: &[&str]) -> Command {
    let mut command = desk.command();
    command.args(["acquire", "ebs", ID, "--case", "case", "--region", "eu-central-1"]);
    command.args(["--endpoint-url", &server.endpoint()]).args(more);
    command.env("AWS_ACCESS_KEY_ID", "AKIASAMPLE").env("AWS_SECRET_ACCESS_KEY", "kept-to-itself");
    command.env_remove("AWS_PROFILE").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A disk in use, in small: written and not, zeros, text, and what does not compress.
fn snapshot() -> Snapshot {
    Snapshot::made(ID, 1, |index| match index / 8 % 8 {
        0 | 1 => Piece::Text(index),
        2 => Piece::Noise(index),
        3 | 4 => Piece::Zero,
        _ => Piece::Absent,
    })
}

/// What lies in the case: the folders of its exhibits, and of the only sealed one its stream's hash.
fn sealed(desk: &Desk) -> Vec<String> {
    let listed: serde_json::Value =
        serde_json::from_str(&desk.ok(&["list", "case", "--json"]).stdout).unwrap();
    let listed = listed.as_array().cloned().unwrap_or_default();
    let names: BTreeSet<String> =
        listed.iter().map(|exhibit| exhibit["id"].as_str().unwrap().to_owned()).collect();
    for folder in fs::read_dir(desk.path("case/exhibits")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(names.iter().any(|id| name.starts_with(id.as_str())), "{name} is in no list: {names:?}");
    }
    let sealed = names.iter().filter_map(|id| {
        let folder = fs::read_dir(desk.path("case/exhibits")).unwrap().flatten();
        let folder = folder.into_iter().find(|f| f.file_name().to_string_lossy().starts_with(id.as_str()))?;
        let manifest = fs::read(folder.path().join("manifest.json")).ok()?;
        fs::metadata(folder.path().join("manifest.json.sig")).ok()?;
        // Killed between the files of the seal and its entry, it is not sealed yet.
        let log = fs::read_to_string(folder.path().join("custody.jsonl")).ok()?;
        if !log.contains(r#""type":"bundle.sealed""#) {
            return None;
        }
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        Some(manifest["streams"][0]["sha256"].as_str().unwrap().to_owned())
    });
    sealed.collect()
}

/// After a run that came to its end by itself, no exhibit has what only an interrupted one needs.
fn nothing_is_left_over(desk: &Desk) {
    for folder in fs::read_dir(desk.path("case/exhibits")).unwrap().flatten() {
        for left in ["journal", "data/disk.chunks.tsv.part"] {
            let sealed = folder.path().join("manifest.json").exists();
            assert!(!sealed || !folder.path().join(left).exists(), "{left} is left in {folder:?}");
        }
    }
}

/// 6 rounds, or as many as `EXHIBIT_KILLS` says; the release check runs 100.
#[test]
#[expect(clippy::disallowed_methods, reason = "how a person asks for the long run; moments to kill at")]
fn killed_at_any_moment_an_acquisition_of_a_snapshot_goes_on_to_the_same_hash() {
    let rounds: u64 = std::env::var("EXHIBIT_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let snapshot = snapshot();
    let hash = sha256(&snapshot.disk()).to_string();
    let settings = Settings { latency: Duration::from_millis(5), page: 700, ..Settings::default() };
    let server = FaultServer::start(vec![snapshot], Plan { settings, rules: vec![] });
    let whole = Desk::new();
    whole.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
    let begun = Instant::now();
    assert!(start(acquire(&whole, &server, &[])).wait().unwrap().success());
    let time = begun.elapsed();
    assert_eq!(sealed(&whole), [hash.as_str()]);
    nothing_is_left_over(&whole);
    let (mut kills, mut finished) = (0, 0);
    for round in 0..rounds {
        let desk = Desk::new();
        desk.ok(&["init", "case", "--name", "n", "--examiner", "J. Doe"]);
        // Moments spread evenly over the run; each third round is killed a second time while it goes on.
        let moment = |number: u64| time.mul_f64((number as f64 + 0.5) / rounds as f64);
        let again = (round % 3 == 2).then(|| moment(round * 7 % rounds).mul_f64(0.5));
        for (number, wait) in [Some(moment(round)), again].into_iter().flatten().enumerate() {
            let more: &[&str] = if number > 0 { &["--resume"] } else { &[] };
            let mut running = start(acquire(&desk, &server, more));
            std::thread::sleep(wait);
            let ended = running.try_wait().unwrap().is_some();
            running.kill().unwrap();
            running.wait().unwrap();
            if ended {
                finished += 1;
                break;
            }
            kills += 1;
        }
        if sealed(&desk).is_empty() {
            let resumed = acquire(&desk, &server, &["--resume"]).output().unwrap();
            assert!(resumed.status.success(), "round {round}: {}", String::from_utf8_lossy(&resumed.stderr));
            nothing_is_left_over(&desk);
        }
        assert_eq!(sealed(&desk), [hash.as_str()], "round {round}");
        let verified = desk.run(&["verify", "case"]);
        assert!(matches!(verified.code, 0 | 1), "round {round}: {}{}", verified.stdout, verified.stderr);
        assert!(verified.stdout.contains("CONSISTENT"), "round {round}: {}", verified.stdout);
        let log = fs::read_to_string(desk.path("case/custody.jsonl")).unwrap();
        assert!(!log.contains("kept-to-itself"));
    }
    println!("killed {kills} times in {rounds} rounds; {finished} had ended before");
    assert!(kills > 0, "every run had ended before it was killed");
}

//! RD41: old evidence, chosen at random, is verified from its bytes up.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use custody::{Case, EntryType, case_layout};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;

use super::super::check::{Finding, Status, Unable, chain};
use super::super::probe::Probe;

/// How long the verification may take.
const PATIENCE: Duration = Duration::from_secs(3_500);

/// Cases that are looked at to choose from.
const MOST_CASES: usize = 100_000;

pub(super) fn drill(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let folder = &probe.settings.cases;
    let entries =
        fs::read_dir(folder).map_err(|error| Unable::untested(format!("{}: {error}", folder.display())))?;
    let expected = "every byte is as it was acquired, can be opened, and its time stamps hold";
    let mut cases: Vec<PathBuf> = Vec::new();
    let mut found = Vec::new();
    for entry in entries.take(MOST_CASES) {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(error) => {
                let seen = format!("the folder of cases cannot be read to its end: {error}");
                found.push(Finding::new(folder.to_string_lossy(), Status::Error, seen, expected));
                break;
            }
        };
        match looked_at(&path) {
            Looked::Evidence => cases.push(path),
            Looked::NoCase => {}
            Looked::Closed(status, why) => {
                let scope = path.file_name().unwrap_or_default().to_string_lossy();
                found.push(Finding::new(scope, status, format!("it cannot be opened: {why}"), expected));
            }
        }
    }
    if cases.is_empty() {
        return if found.is_empty() { Err(Unable::none("there is no old evidence yet")) } else { Ok(found) };
    }
    cases.sort();
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| Unable::untested("there are no random numbers"))?;
    let count = u64::try_from(cases.len()).unwrap_or(1).max(1);
    let at = usize::try_from(u64::from_le_bytes(random) % count).unwrap_or(0);
    let Some(case) = cases.get(at) else { return Err(Unable::untested("no case was chosen")) };
    let (scope, path) = (
        case.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        case.to_string_lossy().into_owned(),
    );
    let mut arguments = vec!["verify", &path, "--json"];
    let roots: Vec<String> =
        probe.settings.ready.time_stamps.iter().map(|one| one.root.to_string_lossy().into_owned()).collect();
    for root in &roots {
        arguments.extend(["--trust", root]);
    }
    let ran = probe.exhibit(&arguments, PATIENCE)?;
    let Ok(said) = serde_json::from_slice::<Value>(&ran.stdout) else {
        let seen = format!("`exhibit verify` gave no verdict: {}", ran.last_words());
        found.push(Finding::new(scope, Status::Error, seen, expected));
        return Ok(found);
    };
    let (status, seen) = judged(&said, ran.code, !roots.is_empty());
    let seen = format!("{seen} (1 of {} cases)", cases.len());
    found.push(Finding::new(scope, status, seen, expected).with_evidence(ran.stdout));
    Ok(found)
}

/// What a name in the folder of cases is.
#[derive(Debug, PartialEq)]
enum Looked {
    /// A case that has evidence, or whose log says that it had.
    Evidence,
    /// Nothing of ours, or a case without any evidence yet.
    NoCase,
    /// What was a case once: it is damaged, or we may not read it.
    Closed(Status, String),
}

/// What only a case has.
const MARKS: [&str; 4] =
    [case_layout::CASE, case_layout::EXHIBITS, case_layout::LOG, case_layout::CHECKPOINT];

fn looked_at(path: &Path) -> Looked {
    let is_there = |name: &&str| match fs::symlink_metadata(path.join(name)) {
        Ok(_) => true,
        // A file has nothing below it; what we may not look at may be anything.
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    if !MARKS.iter().any(is_there) {
        return Looked::NoCase;
    }
    let opened = Case::open(path).and_then(|case| {
        if !case.exhibits()?.is_empty() {
            return Ok(true);
        }
        // Their folder is empty or gone; the log knows whether there was anything.
        let entries = case.log().read()?.entries;
        Ok(entries.iter().any(|entry| entry.kind == EntryType::EXHIBIT_ADDED))
    });
    match opened {
        Ok(true) => Looked::Evidence,
        Ok(false) => Looked::NoCase,
        Err(error) => {
            let is_denied = matches!(&error, custody::Error::Read { source, .. }
                if source.kind() == ErrorKind::PermissionDenied);
            Looked::Closed(if is_denied { Status::Error } else { Status::Fail }, chain(&error))
        }
    }
}

/// What a verification says.
fn judged(said: &Value, code: Option<i32>, has_roots: bool) -> (Status, String) {
    let text = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
    let flag = |name: &str| said.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
    let verdict = text("verdict");
    let first = said.pointer("/faults/0").map(ToString::to_string).unwrap_or_default();
    // Tokens that hold are anchors only by a root that was brought.
    let tokens = said.pointer("/log/anchored").and_then(Value::as_array).into_iter().flatten();
    let tokens: Vec<&Value> =
        tokens.filter(|one| one.get("kind").and_then(Value::as_str) == Some("time_stamp")).collect();
    let is_independent = |one: &&Value| one.get("independent").and_then(Value::as_bool) == Some(true);
    if verdict == "BROKEN" || number("fault_count") > 0 || code == Some(3) {
        return (Status::Fail, format!("{verdict}: {first}"));
    }
    if flag("ciphertext_only") {
        return (
            Status::Fail,
            format!("{verdict}, but it could not be opened: no key in ready.identities fits"),
        );
    }
    if !tokens.is_empty() && has_roots && !tokens.iter().any(is_independent) {
        let count = tokens.len();
        return (
            Status::Fail,
            format!("{verdict}, but none of its {count} time stamps leads to a known root"),
        );
    }
    if flag("data_not_read") {
        return (
            Status::Error,
            format!("{verdict}, but its data lies in an evidence store and was not read"),
        );
    }
    if verdict.is_empty() || !matches!(code, Some(0 | 1)) {
        return (Status::Error, "the verification ended without a verdict".to_owned());
    }
    let anchors = number("anchors");
    let status = if verdict == "OPEN" { Status::Warn } else { Status::Pass };
    (status, format!("{verdict}; {} anchors hold; {}", anchors, text("sentence")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_a_case_and_cannot_be_opened_is_no_case_that_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/case_v1");
        let copied = |name: &str, but: &[&str]| {
            let to = folder.path().join(name);
            copy(&sample, &to, but);
            looked_at(&to)
        };
        assert_eq!(copied("whole", &[]), Looked::Evidence);
        // There is, or its log says that there was, evidence: it is verified, and fails there.
        assert_eq!(copied("emptied", &["exhibits"]), Looked::Evidence);
        assert_eq!(copied("forgotten", &["custody.jsonl"]), Looked::Evidence);
        for but in
            [&["case.json"][..], &["keys"], &["case.json", "custody.jsonl"], &["exhibits", "custody.jsonl"]]
        {
            let found = copied(&but.join("-"), but);
            assert!(matches!(found, Looked::Closed(Status::Fail, _)), "{but:?}: {found:?}");
        }
        let torn = folder.path().join("torn");
        copy(&sample, &torn, &[]);
        fs::write(torn.join("case.json"), "{").unwrap();
        assert!(matches!(looked_at(&torn), Looked::Closed(Status::Fail, _)));
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        fs::write(folder.path().join("notes.txt"), "x").unwrap();
        assert_eq!(looked_at(&folder.path().join("lost+found")), Looked::NoCase);
        assert_eq!(looked_at(&folder.path().join("notes.txt")), Looked::NoCase);
    }

    /// Copies a folder, all but what has one of these names.
    fn copy(from: &Path, to: &Path, but: &[&str]) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if but.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to.join(name), &[]);
            } else {
                fs::copy(entry.path(), to.join(name)).unwrap();
            }
        }
    }

    #[test]
    fn only_a_verdict_over_bytes_that_were_read_and_opened_passes() {
        let said = |verdict: &str| json!({"verdict": verdict, "fault_count": 0, "anchors": 0});
        assert_eq!(judged(&said("CONSISTENT"), Some(0), false).0, Status::Pass);
        assert_eq!(judged(&said("BROKEN"), Some(3), false).0, Status::Fail);
        assert_eq!(judged(&said("OPEN"), Some(1), false).0, Status::Warn);
        assert_eq!(judged(&json!({}), None, false).0, Status::Error);
        let mut closed = said("CONSISTENT");
        closed["ciphertext_only"] = true.into();
        assert_eq!(judged(&closed, Some(0), false).0, Status::Fail);
        let mut away = said("CONSISTENT");
        away["data_not_read"] = true.into();
        assert_eq!(judged(&away, Some(0), false).0, Status::Error);
        let mut stamped = said("CONSISTENT");
        stamped["log"] = json!({"anchored": [{"kind": "time_stamp", "independent": false}]});
        assert_eq!(judged(&stamped, Some(0), true).0, Status::Fail);
        assert_eq!(judged(&stamped, Some(0), false).0, Status::Pass);
    }
}

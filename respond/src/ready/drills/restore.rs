//! RD41: old evidence, chosen at random, is verified from its bytes up.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use custody::Case;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;

use super::super::check::{Finding, Status, Unable};
use super::super::probe::Probe;

/// How long the verification may take.
const PATIENCE: Duration = Duration::from_secs(3_500);

/// Cases that are looked at to choose from.
const MOST_CASES: usize = 100_000;

pub(super) fn drill(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let folder = &probe.settings.cases;
    let entries =
        fs::read_dir(folder).map_err(|error| Unable::untested(format!("{}: {error}", folder.display())))?;
    let cases = entries.flatten().take(MOST_CASES).map(|entry| entry.path());
    let mut cases: Vec<PathBuf> = cases.filter(|path| has_evidence(path)).collect();
    if cases.is_empty() {
        return Err(Unable::none("there is no old evidence yet"));
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
    let expected = "every byte is as it was acquired, can be opened, and its time stamps hold";
    let Ok(said) = serde_json::from_slice::<Value>(&ran.stdout) else {
        return Err(Unable::untested(format!("`exhibit verify` gave no verdict: {}", ran.last_words())));
    };
    let (status, seen) = judged(&said, ran.code, !roots.is_empty());
    let seen = format!("{seen} (1 of {} cases)", cases.len());
    Ok(vec![Finding::new(scope, status, seen, expected).with_evidence(ran.stdout)])
}

fn has_evidence(path: &std::path::Path) -> bool {
    let case = Case::open(path).and_then(|case| case.exhibits());
    case.is_ok_and(|exhibits| !exhibits.is_empty())
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

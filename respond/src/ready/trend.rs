//! Readiness over time: what failed since when, how long repairs took, and what changed between two runs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::check::{Severity, Status};
use crate::error::Result;
use crate::state::State;
use crate::state::readiness::{KeptResult, SAMPLED};

/// Results that count for a score: everything that applied.
fn counts(status: Status) -> bool {
    status != Status::NotApplicable
}

/// The weighted share of passes, in percent: critical counts 5, high 3, medium 1, and only `pass` is a pass. `None` where
/// nothing applied.
#[must_use]
pub fn score<'a>(results: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<f64> {
    let (mut passed, mut all) = (0_u64, 0_u64);
    for (severity, status) in results {
        let weight = u64::from(Severity::of(severity).unwrap_or(Severity::Critical).weight());
        // A word that is not known is no pass.
        match Status::of(status).unwrap_or(Status::Error) {
            Status::NotApplicable => {}
            Status::Pass => {
                passed += weight;
                all += weight;
            }
            _ => all += weight,
        }
    }
    (all > 0).then(|| passed as f64 * 100.0 / all as f64)
}

/// The score of every scope, and of all together under the empty name.
#[must_use]
pub fn scores(results: &[KeptResult]) -> BTreeMap<String, f64> {
    let mut of: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for one in results {
        let pair = (one.severity.as_str(), one.status.as_str());
        of.entry("").or_default().push(pair);
        of.entry(part(&one.scope)).or_default().push(pair);
    }
    of.into_iter().filter_map(|(scope, pairs)| Some((scope.to_owned(), score(pairs)?))).collect()
}

/// What findings are put together by: the account, the bucket, the instance; a path is one scope.
fn part(scope: &str) -> &str {
    match scope.split_once('/') {
        Some((first, _)) if !first.is_empty() && !first.contains(':') => first,
        _ => scope,
    }
}

/// One run in the series.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// Its number.
    pub run: i64,
    /// When it began, RFC 3339.
    pub at: String,
    /// The score of all scopes together, in percent.
    pub score: Option<f64>,
    /// How many results of each status.
    pub counts: BTreeMap<String, u64>,
    /// The score of each scope.
    pub scopes: BTreeMap<String, f64>,
}

/// One check in one scope, over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History {
    /// `RD01` and so on.
    pub check: String,
    /// What it is about.
    pub scope: String,
    /// What came of it last.
    pub status: String,
    /// Whether the last run of the check named it; else nothing is known of it any more.
    pub is_current: bool,
    /// When it was first seen to fail, without a pass since, RFC 3339.
    pub failing_since: Option<String>,
    /// When it failed for the first time at all.
    pub first_failed: Option<String>,
    /// When it passed last.
    pub last_passed: Option<String>,
    /// How often it turned from a pass to a failure or back.
    pub flaps: u64,
    /// Seconds from the first failure to the next pass, on average.
    pub mean_seconds_to_fix: Option<u64>,
}

/// Everything over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// Every run, oldest first.
    pub series: Vec<Point>,
    /// Every check and scope.
    pub history: Vec<History>,
    /// Seconds from a failure to its repair, over all checks.
    pub mean_seconds_to_fix: Option<u64>,
}

/// In which run, when, and what.
type Seen = (i64, i64, Status);

/// Readiness since a moment, in nanoseconds since 1970.
///
/// # Errors
///
/// [`crate::Error::State`].
pub fn trend(state: &State, since_ns: i64) -> Result<Trend> {
    let all = state.readiness_since(since_ns)?;
    let begun: BTreeMap<i64, i64> = state.readiness_runs()?.into_iter().collect();
    let mut runs: BTreeMap<i64, Vec<KeptResult>> = BTreeMap::new();
    let mut each: BTreeMap<(String, String), Vec<Seen>> = BTreeMap::new();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for one in all {
        let status = Status::of(&one.status).unwrap_or(Status::Error);
        last.insert(one.check.clone(), one.run);
        if counts(status) {
            let of_it = each.entry((one.check.clone(), one.scope.clone())).or_default();
            // Of several results of one run the first counts, which is a failure if there is any.
            if of_it.last().is_none_or(|(run, _, _)| *run != one.run) {
                of_it.push((one.run, one.at_ns, status));
            }
        }
        runs.entry(one.run).or_default().push(one);
    }
    let series = runs.iter().map(|(run, results)| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for one in results {
            *counts.entry(one.status.clone()).or_default() += 1;
        }
        let mut scopes = scores(results);
        let score = scopes.remove("");
        let at = custody::clock::rfc3339(begun.get(run).copied().unwrap_or_default());
        Point { run: *run, at, score, counts, scopes }
    });
    let series = series.collect();
    let (mut history, mut repairs) = (Vec::new(), Vec::new());
    for ((check, scope), results) in each {
        let is_broken =
            check == SAMPLED && results.last().is_some_and(|(_, _, status)| *status == Status::Fail);
        let is_current = is_broken || results.last().map(|(run, _, _)| run) == last.get(&check);
        let results: Vec<_> = results.into_iter().map(|(_, at, status)| (at, status)).collect();
        let (one, took) = of_one(check, scope, &results, is_current);
        repairs.extend(took);
        history.push(one);
    }
    Ok(Trend { series, history, mean_seconds_to_fix: mean(&repairs) })
}

fn mean(nanoseconds: &[i64]) -> Option<u64> {
    let count = i64::try_from(nanoseconds.len()).ok().filter(|count| *count > 0)?;
    let sum = nanoseconds.iter().fold(0_i64, |sum, one| sum.saturating_add(*one));
    u64::try_from(sum / count / 1_000_000_000).ok()
}

/// The history of one check and scope, and how long each repair took. What is not named any more fails no longer, and was
/// not repaired either.
fn of_one(check: String, scope: String, results: &[(i64, Status)], is_current: bool) -> (History, Vec<i64>) {
    let (mut failing, mut first_failed, mut last_passed) = (None, None, None);
    let (mut flaps, mut repairs) = (0, Vec::new());
    let mut before: Option<bool> = None;
    for (at, status) in results {
        let has_failed = status.has_failed();
        if before.is_some_and(|before| before != has_failed) {
            flaps += 1;
        }
        before = Some(has_failed);
        match (has_failed, failing) {
            (true, None) => {
                failing = Some(*at);
                first_failed = first_failed.or(Some(*at));
            }
            (false, Some(since)) => {
                repairs.push(at.saturating_sub(since));
                failing = None;
            }
            _ => {}
        }
        if *status == Status::Pass {
            last_passed = Some(*at);
        }
    }
    let time = |at: Option<i64>| at.map(custody::clock::rfc3339);
    let status = results.last().map_or(Status::Error, |(_, status)| *status);
    let history = History {
        check,
        scope,
        status: status.word().to_owned(),
        is_current,
        failing_since: time(failing.filter(|_| is_current)),
        first_failed: time(first_failed),
        last_passed: time(last_passed),
        flaps,
        mean_seconds_to_fix: mean(&repairs),
    };
    (history, repairs)
}

/// What is other in a second run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `RD01` and so on.
    pub check: String,
    /// What it is about.
    pub scope: String,
    /// `critical`, `high`, `medium`.
    pub severity: String,
    /// The status in the first run; none if it was not in there.
    pub before: Option<String>,
    /// The status in the second.
    pub after: Option<String>,
    /// What was seen in the second.
    pub observed: String,
    /// Whether it is now worse: it did not fail, and does.
    pub is_worse: bool,
}

/// What is other in the second of two runs than in the first.
///
/// # Errors
///
/// [`crate::Error::State`].
pub fn diff(state: &State, first: i64, second: i64) -> Result<Vec<Change>> {
    let of = |run: i64| -> Result<BTreeMap<(String, String), KeptResult>> {
        let mut all = BTreeMap::new();
        for one in state.readiness_of(run)? {
            // Of several results of one scope the first counts, which is a failure if there is any.
            all.entry((one.check.clone(), one.scope.clone())).or_insert(one);
        }
        Ok(all)
    };
    let (before, after) = (of(first)?, of(second)?);
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changes = keys.into_iter().filter_map(|key| {
        let (old, new) = (before.get(key), after.get(key));
        let word = |one: Option<&KeptResult>| one.map(|one| one.status.clone());
        if word(old) == word(new) {
            return None;
        }
        let failed = |one: Option<&KeptResult>| {
            one.is_some_and(|one| Status::of(&one.status).unwrap_or(Status::Error).has_failed())
        };
        let shown = new.or(old)?;
        Some(Change {
            check: key.0.clone(),
            scope: key.1.clone(),
            severity: shown.severity.clone(),
            before: word(old),
            after: word(new),
            observed: new.map(|one| one.observed.clone()).unwrap_or_default(),
            is_worse: failed(new) && !failed(old),
        })
    });
    Ok(changes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pass_counts_and_critical_counts_most() {
        assert_eq!(
            score([("critical", "pass"), ("high", "error"), ("medium", "warn")]),
            Some(5.0 * 100.0 / 9.0)
        );
        assert_eq!(score([("critical", "error")]), Some(0.0));
        assert_eq!(score([("medium", "not_applicable")]), None);
        assert_eq!(score([("high", "a word of a later version")]), Some(0.0));
    }

    #[test]
    fn a_failure_that_comes_and_goes_is_told_with_its_times() {
        const SECOND: i64 = 1_000_000_000;
        let results = [
            (0, Status::Pass),
            (10 * SECOND, Status::Fail),
            (30 * SECOND, Status::Error),
            (50 * SECOND, Status::Pass),
            (60 * SECOND, Status::Fail),
        ];
        let (history, repairs) = of_one("RD10".to_owned(), "a".to_owned(), &results, true);
        assert_eq!((history.flaps, history.mean_seconds_to_fix, repairs.len()), (3, Some(40), 1));
        assert_eq!(history.failing_since.as_deref(), Some("1970-01-01T00:01:00.000000000Z"));
        assert_eq!(history.first_failed.as_deref(), Some("1970-01-01T00:00:10.000000000Z"));
        assert_eq!(history.last_passed.as_deref(), Some("1970-01-01T00:00:50.000000000Z"));
        assert_eq!(history.status, "fail");
        let (gone, repairs) = of_one("RD10".to_owned(), "a".to_owned(), &results, false);
        assert_eq!((gone.failing_since, repairs.len()), (None, 1), "no run speaks of it any more");
    }

    #[test]
    fn an_error_of_one_bad_day_is_no_failure_once_the_check_names_other_scopes_again() {
        use crate::state::readiness::NewResult;
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        for (at_ns, scope, status) in [(1, "region", "error"), (2, "1/eu", "fail"), (3, "1/eu", "fail")] {
            let run = state.begin_readiness(at_ns).unwrap();
            let new = NewResult {
                run,
                at_ns,
                check: "RD10",
                version: 1,
                severity: "critical",
                scope,
                status,
                observed: "o",
                expected: "e",
                evidence_sha256: None,
                evidence: b"",
                duration_ms: 1,
            };
            state.keep_readiness(&new).unwrap();
            state.end_readiness(run, at_ns).unwrap();
        }
        let found = trend(&state, 0).unwrap().history;
        let told: Vec<_> = found
            .iter()
            .map(|one| (one.scope.as_str(), one.failing_since.is_some(), one.is_current))
            .collect();
        assert_eq!(told, [("1/eu", true, true), ("region", false, false)]);
    }

    #[test]
    fn a_path_is_one_scope_and_an_account_is_what_its_regions_are_put_together_by() {
        assert_eq!(part("123456789012/eu-central-1"), "123456789012");
        assert_eq!(part("/srv/cases"), "/srv/cases");
        assert_eq!(part("arn:aws:kms:eu:1:key/2"), "arn:aws:kms:eu:1:key/2");
    }
}

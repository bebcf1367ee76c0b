//! Readiness as Prometheus reads it.

use std::fmt::Write as _;

use super::check::Status;
use super::trend::scores;
use crate::error::Result;
use crate::state::State;

/// The text format 0.0.4 of Prometheus: what the last run of each check said of each scope, scores, and when the last run began.
///
/// # Errors
///
/// [`crate::Error::State`].
pub fn text(state: &State, now_ns: i64) -> Result<String> {
    let results = state.readiness_now()?;
    let waivers = state.waivers_at(now_ns)?;
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(
        "# HELP exhibit_ready_check Whether a check of readiness passes: 1 for a pass, else 0."
    ));
    line(format_args!("# TYPE exhibit_ready_check gauge"));
    for one in results.iter().filter(|one| one.status != Status::NotApplicable.word()) {
        let waived = waivers.iter().any(|waiver| waiver.holds_for(&one.check, &one.scope));
        line(format_args!(
            "exhibit_ready_check{{check=\"{}\",scope=\"{}\",severity=\"{}\",status=\"{}\",waived=\"{waived}\"}} {}",
            escaped(&one.check),
            escaped(&one.scope),
            escaped(&one.severity),
            escaped(&one.status),
            u8::from(one.status == Status::Pass.word())
        ));
    }
    line(format_args!(
        "# HELP exhibit_ready_score Weighted share of passes in percent; errors count as failures."
    ));
    line(format_args!("# TYPE exhibit_ready_score gauge"));
    for (scope, score) in scores(&results) {
        let scope = if scope.is_empty() { "all".to_owned() } else { escaped(&scope) };
        line(format_args!("exhibit_ready_score{{scope=\"{scope}\"}} {score:.2}"));
    }
    if let Some((_, started_ns)) = state.readiness_runs()?.last() {
        line(format_args!("# HELP exhibit_ready_last_run_timestamp_seconds When the last whole run began."));
        line(format_args!("# TYPE exhibit_ready_last_run_timestamp_seconds gauge"));
        line(format_args!("exhibit_ready_last_run_timestamp_seconds {}", started_ns / 1_000_000_000));
    }
    Ok(out)
}

/// The value of a label, as the format asks: what scopes say may come from a service.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_end_its_line() {
        assert_eq!(escaped("a\"} 1\n\\"), "a\\\"} 1\\n\\\\");
    }
}

//! Decisions and plans as a person reads them, in 80 columns.

use respond::alert::Alert;
use respond::inventory::Asset;
use respond::rules::amounts::spoken;
use respond::rules::{Approval, Decision, Mode, OnError, Plan, PlannedStep, Reason, Until, need};
use respond::steps;

use crate::failure::Failure;
use crate::ui::{Ui, printable};

const WIDTH: usize = 80;

/// The alert in one line.
pub(crate) fn alert_line(alert: &Alert) -> String {
    format!("{} from {}, severity {}: {}", alert.kind, alert.source, alert.severity, alert.title)
}

/// Why each rule acts or does not, rule by rule.
pub(crate) fn print_reasons(decision: &Decision, ui: Ui) -> Result<(), Failure> {
    let mut last: Option<&str> = None;
    for Reason { rule, holds, what } in &decision.reasons {
        if last != Some(rule) {
            let heading =
                if rule.is_empty() { "what the alert names".to_owned() } else { format!("rule {rule}") };
            ui.data("")?;
            ui.data(&printable(&heading, false))?;
            last = Some(rule);
        }
        print(if *holds { "  yes  " } else { "  no   " }, what, ui)?;
    }
    Ok(())
}

/// What one plan would have done.
pub(crate) fn print_plan(number: usize, of: usize, plan: &Plan, ui: Ui) -> Result<(), Failure> {
    let mode = match plan.mode {
        Mode::Observe => "only noted, nothing is done",
        Mode::Approve => "when a person says yes",
        Mode::Auto => "by itself",
    };
    ui.data("")?;
    print("", &format!("plan {number} of {of}, by rule {}: {mode}", plan.rule), ui)?;
    print("  of     ", &asset_words(&plan.asset), ui)?;
    if let Some(approval) = &plan.approval {
        print("  asks   ", &asks(approval), ui)?;
    }
    let again = format!("an alert about it within {} is the same", spoken(plan.dedup_window));
    print("  again  ", &again, ui)?;
    for (at, step) in plan.steps.iter().enumerate() {
        let margin = format!("  {:>3}  ", at + 1);
        let about = steps::named(&step.word).map_or("", |step| step.about());
        print(&margin, &format!("{} ({}): {about}", step.id, step.word), ui)?;
        print("         ", &conditions(step), ui)?;
    }
    Ok(())
}

/// An asset with what is known of it.
pub(crate) fn asset_words(asset: &Asset) -> String {
    let mut words = format!("{} {}", asset.kind.word(), asset.id);
    for (what, value) in [
        ("account", &asset.account),
        ("region", &asset.region),
        ("owner", &asset.owner),
        ("criticality", &asset.criticality),
        ("group", &asset.group),
    ] {
        if !value.is_empty() {
            words.push_str(&format!(", {what} {value}"));
        }
    }
    words
}

/// When a step begins and ends, and what then.
fn conditions(step: &PlannedStep) -> String {
    let mut words = Vec::new();
    let needs: Vec<String> = step
        .needs
        .iter()
        .filter_map(|text| need(text).ok())
        .map(|(id, until)| match until {
            Until::Done => format!("{id} is done"),
            Until::Started => format!("{id} has begun"),
            Until::Finished => format!("{id} has ended"),
        })
        .collect();
    words.push(if needs.is_empty() { "at once".to_owned() } else { format!("when {}", needs.join(" and ")) });
    if step.always {
        words.push("whatever came of the others".to_owned());
    }
    if step.max_wait > 0 {
        words.push(format!("after {} in any case", spoken(step.max_wait)));
    }
    if let Some(approval) = &step.approval {
        words.push(asks(approval));
    }
    words.push(format!("at most {}", spoken(step.timeout)));
    if step.on_error == OnError::Continue {
        words.push("its failure stops nothing".to_owned());
    }
    if step.lease > 0 {
        words.push(format!("taken back after {}", spoken(step.lease)));
    }
    for (name, value) in &step.parameters {
        words.push(format!("{name} = {value}"));
    }
    words.join("; ")
}

fn asks(approval: &Approval) -> String {
    let who = if approval.from.is_empty() { "anybody".to_owned() } else { approval.from.join(" or ") };
    let then = if approval.run_on_timeout { "then it is done" } else { "then it is left" };
    format!("asks {who} for {} yes, for {}, {then}", approval.count, spoken(approval.timeout))
}

/// Words beside a margin, in lines that fit.
pub(crate) fn print(margin: &str, words: &str, ui: Ui) -> Result<(), Failure> {
    let indent = " ".repeat(margin.chars().count());
    for (at, line) in wrapped(&printable(words, false), WIDTH - indent.len()).iter().enumerate() {
        let margin = if at == 0 { margin } else { &indent };
        ui.data(format!("{margin}{line}").trim_end())?;
    }
    Ok(())
}

/// Words in lines of a width; a longer word is cut over lines.
fn wrapped(words: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split(' ') {
        let chars: Vec<char> = word.chars().collect();
        let mut parts = chars.chunks(width.max(1)).map(|part| part.iter().collect::<String>());
        let first = parts.next().unwrap_or_default();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + first.chars().count() <= width => {
                line.push(' ');
                line.push_str(&first);
            }
            _ => lines.push(first),
        }
        lines.extend(parts);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_asked() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped(&"x".repeat(10), 4), ["xxxx", "xxxx", "xx"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}

//! What reads rules over: what can be meant but hardly is. Remarks, not errors.

use super::rule::RuleSet;
use super::{Mode, OnError, graph};
use crate::alert::SOURCES;
use crate::steps::Phase;

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The rule, or empty.
    pub rule: String,
    /// In words.
    pub what: String,
}

impl RuleSet {
    /// Reads the rules over, at a second since 1970.
    #[must_use]
    pub fn review(&self, now: i64) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let isolates_by_itself =
            self.rules.iter().any(|rule| rule.mode == Mode::Auto && !rule.isolating.is_empty());
        if isolates_by_itself && !self.protects() {
            let what = "rules isolate by themselves, and [protect] names no asset that they must not";
            remarks.push(Remark { rule: String::new(), what: what.to_owned() });
        }
        if self.rules.is_empty() {
            remarks.push(Remark { rule: String::new(), what: "there is no rule".to_owned() });
        }
        for rule in &self.rules {
            let mut say = |what: String| remarks.push(Remark { rule: rule.id.clone(), what });
            if rule.has_expired(now) {
                say("it has expired".to_owned());
            }
            let looks_at = |field: &str| rule.matchers.matchers().any(|matcher| matcher.field() == field);
            if rule.mode != Mode::Observe {
                for (field, kind) in [("status", "a resolved alert"), ("is_sample", "a sample")] {
                    if !looks_at(field) {
                        say(format!(
                            "it does not look at `{field}`, so {kind} has the same done as a true one"
                        ));
                    }
                }
            }
            let known = |word: &str| SOURCES.iter().any(|source| source.word == word);
            for matcher in rule.matchers.matchers().filter(|matcher| matcher.field() == "source") {
                for word in matcher.wanted().filter(|word| !known(word)) {
                    say(format!("no source is called {word:?}"));
                }
            }
            for step in &rule.steps {
                if !rule.isolating.contains(&step.id) {
                    continue;
                }
                if step.lease == 0 {
                    say(format!("what {:?} does is never taken back by itself: it has no lease", step.id));
                }
                for (id, until) in step.needs.iter().filter_map(|need| graph::need(need).ok()) {
                    let needed = rule.steps.iter().find(|other| other.id == id);
                    let captures =
                        matches!(rule.phases.get(id), Some(Phase::Volatile | Phase::Disk | Phase::Slow));
                    let stops = needed.is_some_and(|needed| needed.on_error == OnError::Stop);
                    if captures && stops && until == graph::Until::Done {
                        say(format!(
                            "a capture that fails, {id:?}, would keep {:?} from isolating; `{id}:finished` would not",
                            step.id
                        ));
                    }
                    if captures && step.max_wait == 0 && until != graph::Until::Started {
                        say(format!(
                            "{:?} waits for {id:?} however long it takes; `max_wait` bounds it",
                            step.id
                        ));
                    }
                }
            }
        }
        remarks
    }
}

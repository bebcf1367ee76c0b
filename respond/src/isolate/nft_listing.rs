//! What `nft` says is loaded, kept so that it can be compared later, and the difference between then and now in words.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::run;
use super::nft_ruleset::{MARK, TABLE};
use crate::steps::Failed;

/// A ruleset up to this size is kept as text, so that a difference can be told line by line; of a larger one, hashes. It is
/// the size within an entry of a log, where some letters take seven.
const MOST_TEXT: usize = 24_000;

/// Tables that are kept by name, at most.
const MOST_TABLES: usize = 200;

/// Lines of a difference that are told of each table.
const MOST_LINES: usize = 12;

/// The ruleset of a host without our table and without counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// SHA-256 of each table's text, by family and name.
    pub(crate) tables: BTreeMap<String, String>,
    /// The whole text, where it is not too long.
    pub(crate) text: Option<String>,
}

impl Listing {
    /// Asks the kernel.
    pub(crate) fn now() -> Result<Self, Failed> {
        // Without counters and times to live, which change by themselves.
        let text = run("nft", &["-s", "list", "ruleset"], "")?.output("reading the ruleset")?;
        Self::of(&text)
    }

    fn of(text: &str) -> Result<Self, Failed> {
        let ours = format!("inet {TABLE}");
        let mut tables: BTreeMap<String, String> = split(text);
        tables.remove(&ours);
        if tables.len() > MOST_TABLES {
            return Err(Failed::for_good(format!(
                "this host has more than {MOST_TABLES} tables of nftables"
            )));
        }
        let whole: String = tables.values().map(String::as_str).collect();
        let hash = |text: &String| custody::sha256(text.as_bytes()).to_string();
        Ok(Self {
            tables: tables.iter().map(|(name, text)| (name.clone(), hash(text))).collect(),
            text: (size_in_log(&whole) <= MOST_TEXT).then_some(whole),
        })
    }

    /// What is now other than it was, in sentences.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let (before_text, now_text) =
            (split(self.text.as_deref().unwrap_or_default()), split(now.text.as_deref().unwrap_or_default()));
        let names: BTreeSet<&String> = self.tables.keys().chain(now.tables.keys()).collect();
        for name in names {
            match (self.tables.get(name), now.tables.get(name)) {
                (Some(_), None) => found.push(format!("table {name} was there before and is not now")),
                (None, Some(_)) => found.push(format!("table {name} is there now and was not before")),
                (Some(before), Some(now)) if before != now => {
                    let lines = match (before_text.get(name), now_text.get(name)) {
                        (Some(before), Some(now)) => lines(before, now),
                        _ => "too long to tell line by line".to_owned(),
                    };
                    found.push(format!("table {name} was changed by others: {lines}"));
                }
                _ => {}
            }
        }
        found
    }
}

/// Bytes that a text takes in an entry, as JSON within JSON.
fn size_in_log(text: &str) -> usize {
    let special = text.bytes().filter(|byte| byte.is_ascii_control() || b"\"\\".contains(byte)).count();
    text.len().saturating_add(special.saturating_mul(6))
}

/// The text of each table by family and name.
fn split(text: &str) -> BTreeMap<String, String> {
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    let mut name = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("table ") {
            name = Some(rest.trim_end_matches([' ', '{']).to_owned());
        }
        if let Some(name) = &name {
            let table = tables.entry(name.clone()).or_default();
            table.push_str(line);
            table.push('\n');
        }
        if line == "}" {
            name = None;
        }
    }
    tables
}

/// Lines that came and went, with how often where it is not once.
fn lines(before: &str, now: &str) -> String {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for line in before.lines() {
        *counts.entry(line.trim()).or_default() -= 1;
    }
    for line in now.lines() {
        *counts.entry(line.trim()).or_default() += 1;
    }
    let changed: Vec<(&str, i64)> = counts.into_iter().filter(|(_, count)| *count != 0).collect();
    if changed.is_empty() {
        return "the same lines in another order".to_owned();
    }
    let said = changed
        .iter()
        .take(MOST_LINES)
        .map(|(line, count)| format!("{} {line:?}", if *count > 0 { "now has" } else { "lacks" }));
    let more = changed.len().saturating_sub(MOST_LINES);
    let mut said: Vec<String> = said.collect();
    if more > 0 {
        said.push(format!("and {more} more lines"));
    }
    said.join(", ")
}

/// Our table, as it is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The kernel's number of it, which no later table gets.
    pub(crate) handle: u64,
    /// Whose isolation it is.
    pub(crate) mark: String,
    /// Rules of each chain.
    pub(crate) rules: BTreeMap<String, usize>,
    /// Seconds of lease that are left; `Some(0)` when it is over, `None` when there is none.
    pub(crate) lease: Option<u64>,
}

impl Ours {
    /// Asks the kernel; `None` where there is no such table.
    pub(crate) fn now() -> Result<Option<Self>, Failed> {
        let tables = json(&["-j", "list", "tables"])?;
        let is_ours = |item: &&Value| {
            text(item, "/table/name") == Some(TABLE) && text(item, "/table/family") == Some("inet")
        };
        let handle = |item: &Value| item.pointer("/table/handle").and_then(Value::as_u64);
        let Some(handle) = items(&tables).find(is_ours).and_then(handle) else {
            return Ok(None);
        };
        let table = match run("nft", &["-j", "list", "table", "inet", TABLE], "")? {
            // It may have gone in between.
            ran if !ran.is_success => return Ok(None),
            ran => parse(&ran.stdout)?,
        };
        Ok(Some(Self::of(handle, &table)))
    }

    fn of(handle: u64, table: &Value) -> Self {
        let mut ours = Self { handle, mark: String::new(), rules: BTreeMap::new(), lease: None };
        for item in items(table) {
            if let Some(name) = text(item, "/chain/name") {
                match name.strip_prefix(MARK) {
                    Some(mark) => ours.mark = mark.to_owned(),
                    None => {
                        ours.rules.entry(name.to_owned()).or_default();
                    }
                }
            }
            if let Some(chain) = text(item, "/rule/chain") {
                *ours.rules.entry(chain.to_owned()).or_default() += 1;
            }
            if text(item, "/set/name") == Some("lease") {
                let elements = item.pointer("/set/elem").and_then(Value::as_array).into_iter().flatten();
                // An element that is there holds, if only for a part of a second.
                let left = |element: &Value| {
                    element.pointer("/elem/expires").and_then(Value::as_u64).unwrap_or(0).max(1)
                };
                // Both were set together; the sooner one counts.
                let left = elements.map(left).min();
                ours.lease = Some(left.unwrap_or(0));
            }
        }
        ours
    }
}

fn items(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("nftables").and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(item: &'a Value, pointer: &str) -> Option<&'a str> {
    item.pointer(pointer).and_then(Value::as_str)
}

fn json(arguments: &[&str]) -> Result<Value, Failed> {
    parse(&run("nft", arguments, "")?.output("reading the ruleset")?)
}

fn parse(text: &str) -> Result<Value, Failed> {
    serde_json::from_str(text).map_err(|error| Failed::for_now(format!("nft gave no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\ttcp dport 22 accept\n\t}\n}\ntable ip nat {\n}\n";

    #[test]
    fn our_own_table_is_no_part_of_what_was() {
        let with = format!("{BEFORE}table inet {TABLE} {{\n\tchain q_in {{\n\t}}\n}}\n");
        assert_eq!(Listing::of(&with).unwrap(), Listing::of(BEFORE).unwrap());
        assert_eq!(Listing::of(BEFORE).unwrap().tables.len(), 2);
    }

    #[test]
    fn a_difference_names_the_table_and_the_lines() {
        let before = Listing::of(BEFORE).unwrap();
        assert!(before.differences(&before.clone()).is_empty());
        let changed =
            BEFORE.replace("tcp dport 22 accept", "tcp dport 23 accept").replace("table ip nat {\n}\n", "");
        let said = before.differences(&Listing::of(&changed).unwrap());
        assert_eq!(
            said,
            [
                "table inet filter was changed by others: lacks \"tcp dport 22 accept\", now has \"tcp dport 23 accept\"",
                "table ip nat was there before and is not now"
            ]
        );
    }

    #[test]
    fn a_ruleset_too_long_to_keep_is_still_compared() {
        let long = |port: u16| {
            let lines: String = (0..2000).map(|n| format!("\t\ttcp dport {n} accept\n")).collect();
            format!("table inet filter {{\n\tchain input {{\n{lines}\t\ttcp dport {port} drop\n\t}}\n}}\n")
        };
        let (before, now) = (Listing::of(&long(1)).unwrap(), Listing::of(&long(2)).unwrap());
        assert_eq!(before.text, None);
        assert!(before.differences(&now)[0].contains("too long"));
    }

    #[test]
    fn the_lease_of_our_table_is_read_also_when_it_is_over() {
        let with = r#"{"nftables":[{"metainfo":{}},{"chain":{"name":"mark_j1-isolate"}},{"chain":{"name":"q_in"}},
            {"set":{"name":"lease","elem":[{"elem":{"val":"ipv4","timeout":6,"expires":5}},{"elem":{"val":"ipv6","timeout":6,"expires":4}}]}},
            {"rule":{"chain":"q_in"}},{"rule":{"chain":"q_in"}}]}"#;
        let ours = Ours::of(7, &serde_json::from_str(with).unwrap());
        assert_eq!((ours.mark.as_str(), ours.lease, ours.rules["q_in"]), ("j1-isolate", Some(4), 2));
        let nearly = r#"{"nftables":[{"set":{"name":"lease","elem":[{"elem":{"val":"ipv4","timeout":6,"expires":0}}]}}]}"#;
        assert_eq!(Ours::of(7, &serde_json::from_str(nearly).unwrap()).lease, Some(1));
        let over = serde_json::from_str(r#"{"nftables":[{"set":{"name":"lease"}}]}"#).unwrap();
        assert_eq!(Ours::of(7, &over).lease, Some(0));
        assert_eq!(Ours::of(7, &Value::Null).lease, None);
    }
}

//! The draft of a letter that tells the parties of one case what a faulty tool touched.
//!
//! Plain text in lines of at most 78 characters, facts filled in, blanks for what a person must say and sign. It has
//! no date of its own, so the same case gives the same letter.

use std::fmt::Write as _;

use super::impact::{Act, Fault, Impact, TouchedBundle};

const WIDTH: usize = 78;
const BLANK: &str = "____________________________";
/// More exhibits are counted, and named in the notice of the case's log.
const MOST_EXHIBITS: usize = 200;

/// Drafts the letter. `notice` is the entry that recorded it, where one did; `text` what is wrong, or empty.
pub fn letter(impact: &Impact, fault: &Fault, text: &str, reference: &str, notice: Option<u64>) -> String {
    let mut out = Letter(String::new());
    out.line("DRAFT - to be completed, checked and signed by a person");
    out.line("");
    for label in ["Date:", "To:", "From:", "Our reference:"] {
        out.line(&format!("{label:<16}{BLANK}"));
    }
    out.line("");
    out.para(&format!("{}: {}", if impact.case.is_some() { "Case" } else { "Bundle" }, impact.name));
    if let Some(id) = &impact.case {
        out.para(&format!("Case id: {id}"));
    }
    out.para("Subject: notice of a fault in a forensic tool that was used in this case");
    out.head("1. What is wrong");
    out.para(&format!("Program: {}", fault.tool));
    out.para(&format!("Affected: {}", fault.which));
    out.para(&format!("Reference of the fault: {}", or_blank(reference)));
    out.para(&or_blank(text));
    out.head("2. What it touched in this case");
    exhibits(&mut out, impact);
    acts(&mut out, impact);
    out.head("3. What the fault could have changed");
    could_change(&mut out, impact, fault);
    out.head("4. How to check again");
    checks(&mut out, impact);
    out.head("5. What has been done");
    match notice {
        Some(seq) => out.para(&format!(
            "The fault is recorded in its custody log as entry {seq} (tool.notice), with every entry it \
             touched. Nothing in the log was changed or removed."
        )),
        None => out.para("The fault is not yet recorded in its custody log."),
    }
    out.para("What was checked again, by whom, when, and with what result:");
    out.blanks(3);
    out.para("Whether any finding, statement or report in this case changes:");
    out.blanks(3);
    out.para("Name, position, signature, date:");
    out.blanks(2);
    out.0
}

fn or_blank(text: &str) -> String {
    if text.is_empty() { BLANK.to_owned() } else { text.to_owned() }
}

fn exhibits(out: &mut Letter, impact: &Impact) {
    if impact.bundles.is_empty() {
        out.para("No exhibit was acquired with an affected build.");
    }
    for bundle in impact.bundles.iter().take(MOST_EXHIBITS) {
        out.para(&format!("Exhibit {}, {}", bundle.exhibit, bundle.name));
        out.fact("acquired from", &bundle.source);
        out.fact("begun (UTC)", &plain_time(&bundle.created));
        out.fact("version", &bundle.version);
        if let Some(hash) = bundle.build_sha256 {
            out.fact("build SHA-256", "");
            out.command(&hash.to_string());
        }
        out.fact("manifest.json SHA-256", "");
        out.command(&bundle.manifest_sha256.to_string());
        if bundle.disposed {
            out.fact(
                "note",
                "it was disposed of; only its record is left, so its content cannot be checked again",
            );
        }
        out.line("");
    }
    if let Some(more) = impact.bundles.len().checked_sub(MOST_EXHIBITS).filter(|more| *more > 0) {
        out.para(&format!("and {more} exhibits more, which the list of the command names"));
    }
}

fn acts(out: &mut Letter, impact: &Impact) {
    if !impact.acts.is_empty() {
        out.para("Entries of custody logs that an affected build wrote (times are UTC, of the acting host's clock):");
    }
    for acts in &impact.acts {
        let log = match acts.log.as_str() {
            "case" => "the case's log".to_owned(),
            "bundle" => "the bundle's log".to_owned(),
            exhibit => format!("the log of {exhibit}"),
        };
        let versions: Vec<&str> = acts.versions.iter().map(String::as_str).collect();
        out.item(&format!(
            "{}: {} of {log}, written {} to {}, version {}",
            acts.act.word(),
            if acts.count == 1 {
                format!("entry {}", acts.entries)
            } else {
                format!("entries {}", acts.entries.words(100))
            },
            plain_time(&acts.first),
            plain_time(&acts.last),
            versions.join(", ")
        ));
    }
    if !impact.unknown.is_empty() {
        out.line("");
        out.para("Of the following it cannot be told whether an affected build made it:");
        for unknown in impact.unknown.iter().take(MOST_EXHIBITS) {
            out.item(&format!("{}, {}: {}", unknown.log, unknown.what, unknown.why));
        }
        if let Some(more) = impact.unknown.len().checked_sub(MOST_EXHIBITS).filter(|more| *more > 0) {
            out.item(&format!("and {more} more"));
        }
    }
    out.line("");
    out.para("What was done with the tool outside a case left no entry and is not listed here.");
}

/// By kind of work; a person must say which of it the fault really concerns.
fn could_change(out: &mut Letter, impact: &Impact, fault: &Fault) {
    let touched = |act: Act| {
        impact.acts.iter().any(|acts| acts.act == act)
            || (act == Act::Acquisition && !impact.bundles.is_empty())
    };
    for act in Act::ALL.into_iter().filter(|act| touched(*act)) {
        out.item(match act {
            Act::Acquisition => {
                "acquisition: that the bundle holds all of the source, and holds it exactly; what is said of unread \
                 places, sizes, times and device names. Hashes in the bundle were computed by the same program, so \
                 they cannot show a fault in reading"
            }
            Act::Verification => {
                "verification: a verdict that says evidence was intact, or was not. The evidence itself is not changed \
                 by it"
            }
            Act::Timeline => {
                "timeline: events that are missing, doubled, misread or dated wrongly, and answers drawn from them. \
                 The evidence itself is not changed by it"
            }
            Act::Export => "exports and copies: files given out that differ from the evidence they were made from",
            Act::Report => "reports and disclosures: statements in them, and which files and hashes they name",
            Act::Custody => {
                "custody entries: what a handover, note, anchor or key entry says. Changing an entry after it was \
                 signed is not possible without breaking the log"
            }
        });
    }
    if !fault.acts.is_empty() {
        out.line("");
        out.para("The search was limited to the work that the fault concerns; other work of the same build is not listed.");
    }
    out.line("");
    out.para("Which of this the fault really concerns, and why:");
    out.blanks(3);
}

fn checks(out: &mut Letter, impact: &Impact) {
    out.para(
        "With a corrected version, or with no program of ours, in the folder of each exhibit. The first two show that \
         nothing changed since the acquisition; only the third can show a fault of the acquisition itself.",
    );
    let held: Vec<&TouchedBundle> = impact.bundles.iter().filter(|bundle| !bundle.disposed).collect();
    out.command("sha256sum -c SHA256SUMS");
    for bundle in held.iter().take(MOST_EXHIBITS) {
        for (name, hash) in &bundle.streams {
            out.item(&format!("{}, stream {name}:", bundle.exhibit));
            if bundle.encrypted {
                out.command(&format!("for f in data/{name}/*.age; do age -d -i KEYFILE \"$f\"; done | \\"));
                out.command("zstd -dc | sha256sum");
            } else {
                out.command(&format!("zstd -dc data/{name}/*.zst | sha256sum"));
            }
            out.command(&format!("expected: {hash}"));
        }
    }
    out.item("where the source is still there: read it again with another tool, and compare the hash with the one above");
    out.item("timelines, exports and reports: make them anew with a corrected version, and compare");
    out.command("exhibit verify CASE");
}

/// `2026-11-21 01:30:00` out of RFC 3339.
fn plain_time(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

struct Letter(String);

impl Letter {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn head(&mut self, words: &str) {
        self.line("");
        self.line(words);
        self.line(&"-".repeat(words.chars().count()));
    }

    fn para(&mut self, words: &str) {
        self.wrapped("", "", words);
    }

    fn item(&mut self, words: &str) {
        self.wrapped("  - ", "    ", words);
    }

    fn fact(&mut self, label: &str, words: &str) {
        self.wrapped(&format!("    {label:<15}"), "                   ", words);
    }

    /// A command is never broken: it must work when it is pasted.
    fn command(&mut self, words: &str) {
        self.line(&format!("      {words}"));
    }

    fn blanks(&mut self, count: usize) {
        for _ in 0..count {
            self.line(&format!("  {}", "_".repeat(WIDTH - 4)));
        }
    }

    fn wrapped(&mut self, first: &str, rest: &str, words: &str) {
        let mut line = first.to_owned();
        let mut empty = true;
        for word in words.split_whitespace().flat_map(|word| pieces(word, WIDTH - rest.len() - 4)) {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line = rest.to_owned();
                empty = true;
            }
            let space = if empty { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(line, "{space}{word}");
            empty = false;
        }
        self.line(&line);
    }
}

/// A word in pieces that fit a line.
fn pieces(word: &str, most: usize) -> Vec<String> {
    let chars: Vec<char> = word.chars().collect();
    chars.chunks(most).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aftercare::{Ranges, TouchedActs, UnknownTool, VersionSet, Which};
    use crate::digest::sha256;

    fn impact() -> Impact {
        let mut entries = Ranges::default();
        (3..8).for_each(|seq| entries.push(seq));
        Impact {
            path: "ir".into(),
            name: "ir-2026-017".into(),
            case: Some("id".into()),
            bundles: vec![TouchedBundle {
                exhibit: "E001".into(),
                name: "web01-disk".into(),
                folder: "ir/exhibits/E001-web01-disk".into(),
                disposed: false,
                created: "2026-11-21T01:30:00.123456789Z".into(),
                source: format!("disk {}", "x".repeat(300)),
                version: "0.1.0".into(),
                build_sha256: Some(sha256(b"build")),
                manifest_sha256: sha256(b"manifest"),
                streams: vec![("disk".into(), sha256(b"disk"))],
                encrypted: false,
            }],
            acts: vec![TouchedActs {
                log: "case".into(),
                act: Act::Timeline,
                entries,
                count: 5,
                first: "2026-11-21T01:30:00.123456789Z".into(),
                last: "2026-11-22T01:30:00.123456789Z".into(),
                versions: ["0.1.0".to_owned()].into(),
            }],
            unknown: vec![UnknownTool {
                log: "E002".into(),
                what: "manifest.json".into(),
                why: "odd".into(),
            }],
            notices: Vec::new(),
        }
    }

    #[test]
    fn the_letter_names_exhibits_times_effects_checks_and_leaves_blanks() {
        let fault = Fault {
            tool: "exhibit".into(),
            which: Which::Versions(VersionSet::before("0.2.0").unwrap()),
            acts: vec![],
        };
        let text = letter(&impact(), &fault, "Rotated logs were read twice.", "BUG-17", Some(12));
        for wanted in [
            "Case: ir-2026-017",
            "Affected: version <0.2.0",
            "BUG-17",
            "Rotated logs were read twice.",
            "Exhibit E001, web01-disk",
            "2026-11-21 01:30:00",
            "entries 3-7 of the case's log",
            "E002, manifest.json: odd",
            "timeline: events that are missing",
            "acquisition: that the bundle holds all",
            "zstd -dc data/disk/*.zst | sha256sum\n",
            &sha256(b"disk").to_string(),
            "as entry 12",
            "____",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        assert!(!text.contains("custody entries:"), "what was not touched is not spoken of");
        let long: Vec<_> = text.lines().filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, Vec::<&str>::new());
    }

    #[test]
    fn what_nobody_said_is_a_blank() {
        let fault =
            Fault { tool: "exhibit".into(), which: Which::Build(sha256(b"b")), acts: vec![Act::Report] };
        let text = letter(&impact(), &fault, "", "", None);
        assert!(text.contains(&format!("Reference of the fault: {BLANK}")), "{text}");
        assert!(text.contains("not yet recorded"), "{text}");
    }
}

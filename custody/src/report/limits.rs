//! Part 3: what this report does not prove. It stands before everything that it does.

use super::answers;
use super::blocks::{Line, list, part};
use super::document::{Block, Cite, Part};
use super::holders;
use super::material::{Log, Material};
use super::{text, time_evidence, units};
use crate::entry::EntryType;
use crate::verify::Level;

pub(super) fn limits(m: &Material) -> Part {
    let blocks = vec![
        Block::Heading("What was not acquired".to_owned()),
        or_none(m.exhibits.iter().flat_map(not_acquired).collect(), "Nothing that was asked for is missing."),
        Block::Heading("What went wrong, or was done otherwise than planned".to_owned()),
        or_none(irregular(m), "No fault, no deviation and no interruption is recorded."),
        Block::Heading("What rests on somebody's word".to_owned()),
        list(word_of_somebody(m), "custody.jsonl"),
    ];
    part(3, "limits", "What this report does not prove", "What went wrong, and what is not known?", blocks)
}

fn or_none(lines: Vec<Line>, none: &str) -> Block {
    if lines.is_empty() { Line::of(none).block() } else { list(lines, "custody.jsonl") }
}

fn not_acquired(x: &super::material::ExhibitMaterial) -> Vec<Line> {
    let mut lines = answers::missing(x);
    if let Some(words) = answers::hidden_areas(x) {
        let line =
            Line::of(format!("{}: areas that a disk can hide from its computer (HPA, DCO, AMA): ", x.id));
        let line = if words.is_empty() { line.no_record() } else { line.say(text::long(&words)) };
        lines.push(line.say(".").cite(x.sealed()));
    }
    lines
}

fn irregular(m: &Material) -> Vec<Line> {
    let mut lines = Vec::new();
    for fault in m.verification.faults.iter().take(20) {
        let line = Line::default().bad("Fault: ").mono(text::cell(&fault.place.to_string()));
        lines.push(line.say(format!(": {}", text::cell(&fault.words))));
    }
    if m.verification.fault_count > 20 {
        let more = units::count(m.verification.fault_count - 20, "more fault", "more faults");
        lines.push(Line::default().bad(format!("{more}, in part 14")));
    }
    for (log, entry) in m.of(&[EntryType::DEVIATION]).take(20) {
        let line = Line::of("Deviation from procedure: ").say(text::long(&super::words::told(entry)));
        lines.push(line.cite([log.cite(entry.seq)]));
    }
    for (log, entry) in m.of(&[EntryType::LOG_RECOVERED]).take(20) {
        let line = Line::of(
            "A log ended in something unsigned when it was next written to, which was kept and recorded: ",
        );
        lines.push(line.say(text::long(&super::words::told(entry))).cite([log.cite(entry.seq)]));
    }
    for (log, entry) in m.of(&[EntryType::ACQUIRE_PAUSED]).take(20) {
        let line = Line::of(format!(
            "{}: the acquisition was interrupted at {}.",
            log.name,
            units::time_utc(&entry.time.wall)
        ));
        lines.push(line.cite([log.cite(entry.seq)]));
    }
    for x in &m.exhibits {
        lines.extend(answers::irregular(x));
        lines.extend(unfinished(&x.log));
    }
    for log in m.logs() {
        if let Some(why) = &log.unread {
            lines.push(Line::default().bad(format!(
                "The log of {} could not be read: {}",
                log.title(),
                text::cell(why)
            )));
        }
        lines.extend(time_evidence::backward_steps(log));
    }
    if m.verification.unsigned_tail {
        let line = Line::default().bad("A log ends in entries or bytes that nobody signed.");
        lines.push(line.say(" This report leaves them out."));
    }
    lines
}

/// An acquisition that was begun and has no end.
fn unfinished(log: &Log) -> Option<Line> {
    let start = log.first(&EntryType::ACQUIRE_START)?;
    if log.first(&EntryType::ACQUIRE_END).is_some() {
        return None;
    }
    let words = format!(
        "UNFINISHED act: {} was begun at {}, and no end is recorded.",
        log.name,
        units::time_utc(&start.time.wall)
    );
    Some(Line::default().bad(words).cite([log.cite(start.seq)]))
}

fn word_of_somebody(m: &Material) -> Vec<Line> {
    let verdict = m.verification.verdict;
    let mut lines = Vec::new();
    if verdict.anchors == 0 {
        lines.push(
            Line::default().strong("0 anchors independent of the presenter. ").say(
                "That nothing was cut from the end of the logs, and that the whole was not made anew, rests on the presenter's \
                 word.",
            ),
        );
    }
    if verdict.level < Level::Signed {
        lines.push(Line::of(
            "No key was named as trusted when this report was made, so it does not say whose signatures these are.",
        ));
    }
    lines.push(Line::of(
        "Names, roles, organisations and authorities are what the person at the keyboard gave, unless part 5 names a \
         certificate for them.",
    ));
    let unsynchronised = time_evidence::unsynchronised(m);
    let times = "Times are those of the acting machine's clock.";
    lines.push(match unsynchronised {
        0 => Line::of(format!(
            "{times} Every entry says that the clock was kept right by a time service; part 13 has the rest."
        )),
        n => Line::of(format!(
            "{times} {} not say that this clock was kept right by a time service; part 13 has the rest.",
            units::count(n, "entry does", "entries do")
        )),
    });
    lines.extend(holders::limits(m));
    for x in m.exhibits.iter().filter(|x| x.manifest.as_ref().is_some_and(|it| it.source.kind == "disk")) {
        lines.push(answers::write_block(x));
    }
    for x in m.exhibits.iter().filter(|x| x.found.as_ref().is_some_and(|found| found.ciphertext_only)) {
        lines.push(Line::of(format!(
            "{} was checked as encrypted files only; what is inside was not checked, because no key was given.",
            x.id
        )));
    }
    for x in m.exhibits.iter().filter(|x| x.found.as_ref().is_some_and(|found| found.data_not_read)) {
        lines.push(Line::of(format!(
            "The data of {} lies in an evidence store and was not read for this report; nothing is said of what is stored there.",
            x.id
        )));
    }
    for (log, entry) in m.entries().filter(|(_, entry)| !entry.kind.is_known()).take(10) {
        let words = format!(
            "An entry of a type that this version does not know: {}.",
            text::cell(entry.kind.as_str())
        );
        lines.push(Line::of(words).cite([log.cite(entry.seq)]));
    }
    lines.push(
        Line::of(
            "An act that was never put into a log leaves no trace in it. And that a record is in the evidence does not say that \
             what it claims is true: whoever controlled the machine could write its files.",
        )
        .cite(Vec::<Cite>::new()),
    );
    lines
}

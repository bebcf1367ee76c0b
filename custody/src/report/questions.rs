//! Part 19: the questions that are asked in cross-examination, answered from entries or with NO RECORD; the same for
//! both sides.

use serde::Serialize;

use super::answers;
use super::blocks::{Line, part};
use super::document::{Block, Cite, Part, Span};
use super::holders;
use super::material::{ExhibitMaterial, Log, Material};
use super::{questions_of_record, text, units};
use crate::entry::{Entry, EntryType};

/// Exhibits that an answer goes through; the parts have them all.
pub(super) const MOST: usize = 8;

/// A question with its answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Question {
    question: &'static str,
    answers: Vec<Vec<Span>>,
}

/// All of them.
pub(super) fn questions(m: &Material) -> Vec<Question> {
    let mut asked = Vec::new();
    let mut ask = |question, answers: Vec<Line>| {
        let answers = if answers.is_empty() { vec![Line::default().no_record()] } else { answers };
        asked.push(Question { question, answers: answers.into_iter().map(Line::spans).collect() });
    };
    the_copy(m, &mut ask);
    the_hands(m, &mut ask);
    questions_of_record::the_tool(m, &mut ask);
    questions_of_record::the_record(m, &mut ask);
    asked
}

/// One answer an exhibit.
pub(super) fn each(m: &Material, answer: impl Fn(&ExhibitMaterial) -> Line) -> Vec<Line> {
    let mut lines: Vec<Line> = m.exhibits.iter().take(MOST).map(answer).collect();
    if m.exhibits.len() > MOST {
        let more = units::number_of(m.exhibits.len() - MOST, "more exhibit", "more exhibits");
        lines.push(Line::of(format!("And {more}; the parts have them all.")));
    }
    lines
}

pub(super) fn none() -> Vec<Line> {
    Vec::new()
}

/// What entries of a type say, or that there is none.
pub(super) fn entries(m: &Material, kinds: &[EntryType], none: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = m.of(kinds).take(MOST).map(|(log, entry)| told(log, entry)).collect();
    let all = m.of(kinds).count();
    if all > MOST {
        lines.push(Line::of(format!("And {} more; parts 12 and 16 have them.", all - MOST)));
    }
    if lines.is_empty() && !none.is_empty() {
        lines.push(Line::of(none));
    }
    lines
}

fn told(log: &Log, entry: &Entry) -> Line {
    let words = text::cell(&super::words::told(entry));
    let line = Line::of(format!(
        "{}, {}, {}",
        units::time_utc(&entry.time.wall),
        answers::actor(entry),
        super::words::act(&entry.kind)
    ));
    let line = if words.is_empty() { line } else { line.say(format!(": {words}")) };
    line.cite([log.cite(entry.seq)])
}

pub(super) fn fact(x: &ExhibitMaterial, label: &str, value: Option<String>, cites: Vec<Cite>) -> Line {
    let line = Line::of(format!("{}: {label}", x.id));
    match value.filter(|text| !text.is_empty()) {
        Some(text) => line.say(text::cell(&text)).say(".").cite(cites),
        None => line.no_record().say("."),
    }
}

pub(super) type Ask<'a> = dyn FnMut(&'static str, Vec<Line>) + 'a;

fn the_copy(m: &Material, ask: &mut Ask<'_>) {
    let genesis = [Cite::new("case", 0)];
    let authority = Some(&m.case.authority).filter(|text| !text.is_empty());
    ask(
        "By what authority did you take it?",
        authority.map(|text| Line::of(text::long(text)).say(".").cite(genesis.clone())).into_iter().collect(),
    );
    ask(
        "Did you stay within that authority?",
        vec![Line::default().no_record().say(". Part 4 sets the authority beside what was taken.")],
    );
    ask("What exactly did you copy?", each(m, answers::copied));
    ask(
        "How do you know that it is this very device?",
        each(m, |x| {
            let source = x.manifest.as_ref().map(|manifest| &manifest.source);
            let marks = source.map(|source| {
                [source.model.clone(), source.serial.clone()]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(", serial number ")
            });
            fact(x, "make, model and serial number: ", marks, x.log.cite_first(&EntryType::ACQUIRE_START))
        }),
    );
    ask("Are there photographs?", none());
    ask(
        "In what state was it found: on, off, locked?",
        each(m, |x| {
            fact(
                x,
                "",
                x.source_fact("state").map(super::words::plain),
                x.log.cite_first(&EntryType::ACQUIRE_START),
            )
        }),
    );
    ask("Was it write-blocked?", each(m, answers::write_block));
    ask("Was the original changed by what you did?", each(m, answers::source_changed));
    ask("Is the copy the same as the original?", each(m, answers::same));
    let missing: Vec<Line> = m.exhibits.iter().flat_map(answers::missing).take(20).collect();
    ask(
        "What was not acquired?",
        if missing.is_empty() {
            vec![Line::of("Nothing that was asked for; part 8 has the sums.")]
        } else {
            missing
        },
    );
    ask(
        "Could the device hide areas that you did not see?",
        each(m, |x| fact(x, "hidden areas (HPA, DCO, AMA): ", answers::hidden_areas(x), x.sealed())),
    );
    ask(
        "What did you fill in where you could not read?",
        each(m, |x| {
            let lost = x.bytes(crate::bundle::State::Unreadable);
            let words = if lost == 0 {
                "nothing, for nothing was unreadable".to_owned()
            } else {
                format!("zeros, {}; part 8 lists each place", units::size(lost))
            };
            fact(x, "", x.manifest.as_ref().map(|_| words), x.log.cite_first(&EntryType::ACQUIRE_END))
        }),
    );
    ask(
        "Was the acquisition interrupted?",
        each(m, |x| {
            let pauses: Vec<Cite> =
                x.log.of(&EntryType::ACQUIRE_PAUSED).map(|entry| x.log.cite(entry.seq)).collect();
            let words = if pauses.is_empty() {
                "no interruption is recorded".to_owned()
            } else {
                units::number_of(pauses.len(), "interruption", "interruptions")
            };
            fact(x, "", Some(words), pauses)
        }),
    );
    ask("Why did you leave other things at the scene?", none());
    ask("Did you follow your procedure?", entries(m, &[EntryType::DEVIATION], "No deviation is recorded."));
}

fn the_hands(m: &Material, ask: &mut Ask<'_>) {
    ask("Who had it, from the first minute until today?", each(m, |x| holders::in_words(m, x)));
    ask("Who had it on which day?", each(m, holders::by_day));
    let gaps = holders::limits(m);
    ask(
        "Is there a time for which nobody vouches?",
        if gaps.is_empty() { vec![Line::of("None is recorded in any log.")] } else { gaps },
    );
    ask(
        "Was it handed over, and did both sign?",
        entries(
            m,
            &[EntryType::TRANSFER_OFFERED, EntryType::TRANSFER_ACCEPTED, EntryType::TRANSFER_REFUSED],
            "No handover is recorded.",
        ),
    );
    ask("Where was it stored, and who had the key to the place?", none());
    ask(
        "Who has opened it since?",
        entries(
            m,
            &[
                EntryType::ACCESS_OPEN,
                EntryType::TIMELINE_BUILT,
                EntryType::EXPORT_MADE,
                EntryType::COPY_MADE,
            ],
            "No opening, copy or export is recorded.",
        ),
    );
    ask("What searches did you run?", entries(m, &[EntryType::QUERY_RUN], "No search is recorded."));
    ask(
        "How many copies are there?",
        entries(m, &[EntryType::COPY_MADE, EntryType::EXPORT_MADE], "None beside the exhibits is recorded."),
    );
    ask("What did you give to the other side, and when?", entries(m, &[EntryType::DISCLOSURE_MADE], ""));
    ask(
        "Was anything disposed of or returned?",
        entries(m, &[EntryType::ITEM_DISPOSED], "No disposal is recorded."),
    );
    ask("How long will it be kept?", entries(m, &[EntryType::RETENTION_SET], ""));
}

pub(super) fn pack(questions: &[Question]) -> Part {
    let mut blocks = vec![
        Line::of(
            "The same questions for both sides. Each answer is what the entries say, with the entry; where none says it, the answer is ",
        )
        .no_record()
        .say(", and the witness must say it.")
        .block(),
    ];
    for (number, asked) in questions.iter().enumerate() {
        blocks.push(Block::Heading(format!("{}. {}", number + 1, asked.question)));
        match asked.answers.as_slice() {
            [one] => blocks.push(Block::Text(one.clone())),
            many => blocks.push(Block::List(many.to_vec())),
        }
    }
    part(19, "questions", "Cross-examination pack", "What will they ask?", blocks)
}

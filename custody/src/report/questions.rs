//! Part 19: the questions that are asked in cross-examination, answered from entries or with NO RECORD; the same for
//! both sides.

use serde::Serialize;
use serde_json::Value;

use super::answers;
use super::blocks::{Line, part};
use super::document::{Block, Cite, Part, Span};
use super::holders;
use super::material::{ExhibitMaterial, Log, Material};
use super::{text, time_evidence, units};
use crate::entry::{Entry, EntryType};
use crate::verify::Level;

/// Exhibits that an answer goes through; the parts have them all.
const MOST: usize = 8;

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
    the_tool(m, &mut ask);
    the_record(m, &mut ask);
    asked
}

/// One answer an exhibit.
fn each(m: &Material, answer: impl Fn(&ExhibitMaterial) -> Line) -> Vec<Line> {
    let mut lines: Vec<Line> = m.exhibits.iter().take(MOST).map(answer).collect();
    if m.exhibits.len() > MOST {
        let more = units::number_of(m.exhibits.len() - MOST, "more exhibit", "more exhibits");
        lines.push(Line::of(format!("And {more}; the parts have them all.")));
    }
    lines
}

fn none() -> Vec<Line> {
    Vec::new()
}

/// What entries of a type say, or that there is none.
fn entries(m: &Material, kinds: &[EntryType], none: &str) -> Vec<Line> {
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

fn fact(x: &ExhibitMaterial, label: &str, value: Option<String>, cites: Vec<Cite>) -> Line {
    let line = Line::of(format!("{}: {label}", x.id));
    match value.filter(|text| !text.is_empty()) {
        Some(text) => line.say(text::cell(&text)).say(".").cite(cites),
        None => line.no_record().say("."),
    }
}

type Ask<'a> = dyn FnMut(&'static str, Vec<Line>) + 'a;

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
    ask("Who had it on the 14th?", each(m, holders::by_day));
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

fn the_tool(m: &Material, ask: &mut Ask<'_>) {
    ask("Which program did you use, and which version of it?", each(m, answers::tool));
    ask("Was that version tested, on that machine, before you used it?", each(m, |x| answers::tested(m, x)));
    ask("Does that version have known faults?", entries(m, &[EntryType::TOOL_NOTICE], ""));
    ask("What is its error rate?", none());
    ask(
        "What did you type?",
        each(m, |x| {
            let start = x.log.first(&EntryType::ACQUIRE_START);
            let typed =
                start.and_then(|entry| entry.how_text("command_line").or_else(|| entry.how_text("command")));
            fact(x, "", typed.map(ToOwned::to_owned), x.log.cite_first(&EntryType::ACQUIRE_START))
        }),
    );
    ask("What are your qualifications?", none());
    ask(
        "Can somebody else repeat what you did and get the same?",
        vec![Line::of(
            "The checks of part 15 can be repeated by anybody, without our program, and print the same. A source that still exists and \
         has not changed gives the same SHA-256 when it is read again.",
        )],
    );
    ask(
        "Did the program run what it should have, or stop early?",
        each(m, |x| match x.log.first(&EntryType::ACQUIRE_END) {
            Some(entry) => fact(
                x,
                "the acquisition ended at ",
                Some(units::time_utc(&entry.time.wall)),
                vec![x.log.cite(entry.seq)],
            ),
            None => Line::default().bad(format!("{}: no end of the acquisition is recorded.", x.id)),
        }),
    );
}

fn the_record(m: &Material, ask: &mut Ask<'_>) {
    let verdict = m.verification.verdict;
    let could = match (verdict.level, verdict.anchors) {
        (Level::Broken, _) => {
            Line::default().bad("Something was changed, or does not fit: part 14 lists it.")
        }
        (_, 0) => Line::of(
            "Who holds the signing key could have made the whole anew, for nothing outside the presenter's hands was shown. Who does \
             not hold it could not have changed an entry or a byte without its showing.",
        ),
        (_, n) => Line::of(format!(
            "Not what {} outside the presenter's hands {} for (part 14): a change would give another root than the one they hold. What \
             came after it, the holder of the signing key could have made anew.",
            units::count(n.into(), "party", "parties"),
            if n == 1 { "vouches" } else { "vouch" }
        )),
    };
    ask("Could you have changed it?", vec![could]);
    ask("Can the log have been cut?", vec![answers::cut(m)]);
    ask(
        "Who vouches for it beside yourself?",
        vec![match verdict.anchors {
            0 => Line::default()
                .strong("Nobody that was shown.")
                .say(" 0 anchors independent of the presenter."),
            n => Line::of(format!(
                "{} outside the presenter's hands; part 14 names them.",
                units::count(n.into(), "party", "parties")
            )),
        }],
    );
    ask("Whose key signed it, and how do you know?", vec![
        m.log.signer.as_ref().map_or_else(
            || Line::default().no_record(),
            |key| Line::of("The key ").mono(key.fingerprint()).say(match verdict.level {
                Level::Broken | Level::Open | Level::Consistent => ". No key was named as trusted, so whose it is was not shown.",
                _ => ". It, or the party that vouches, was named as trusted by the person who made this report.",
            }),
        ),
    ]);
    let unsure = time_evidence::unsynchronised(m);
    ask(
        "How do you know that the times are right?",
        vec![Line::of(format!(
            "They are the acting machine's. {} that a time service kept its clock right; part 13 has each boot, and what others vouch for.",
            match unsure {
                0 => "Every entry says".to_owned(),
                n => format!("{} not say", units::count(n, "entry does", "entries do")),
            }
        ))],
    );
    let back: Vec<Line> = m.logs().flat_map(time_evidence::backward_steps).take(MOST).collect();
    ask(
        "Did the clock ever jump?",
        if back.is_empty() {
            vec![Line::of(
                "It never went back between two entries of a log; part 13 gives its largest move in each boot.",
            )]
        } else {
            back
        },
    );
    ask(
        "Was anything corrected afterwards?",
        entries(m, &[EntryType::CORRECTION], "No correction is recorded."),
    );
    ask(
        "Was the log ever damaged and repaired?",
        entries(m, &[EntryType::LOG_RECOVERED], "No recovery is recorded. Entries are never edited."),
    );
    ask("When was it last verified, and with what result?", last_verified(m));
    ask(
        "Did you do anything that is not in the log?",
        vec![Line::default().no_record().say(". No log can show what was never put into it.")],
    );
}

fn last_verified(m: &Material) -> Vec<Line> {
    let mut lines = vec![Line::of(format!("For this report: {}.", m.verification.verdict))];
    let last = m
        .entries()
        .filter(|(_, entry)| entry.kind == EntryType::VERIFY_RESULT)
        .max_by(|a, b| a.1.time.wall.cmp(&b.1.time.wall));
    if let Some((log, entry)) = last {
        let verdict = entry.about.result.get("verdict").and_then(Value::as_str).unwrap_or("no verdict");
        lines.push(
            Line::of(format!(
                "Before that, at {}: {}.",
                units::time_utc(&entry.time.wall),
                text::cell(verdict)
            ))
            .cite([log.cite(entry.seq)]),
        );
    }
    lines
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

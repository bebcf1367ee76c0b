//! Questions about the program, the record and the time.

use serde_json::Value;

use super::blocks::Line;
use super::material::Material;
use super::questions::{Ask, MOST, each, entries, fact, none};
use super::{answers, text, time_evidence, units};
use crate::entry::EntryType;
use crate::verify::Level;

pub(super) fn the_tool(m: &Material, ask: &mut Ask<'_>) {
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

pub(super) fn the_record(m: &Material, ask: &mut Ask<'_>) {
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

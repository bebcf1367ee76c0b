//! Part 1: the verdict, and by whose word it stands. Part 2: the whole in plain words.

use super::answers;
use super::blocks::{Line, fact, part};
use super::document::{Block, Cite, Part, Tone};
use super::holders;
use super::material::Material;
use super::{text, units};
use crate::anchors::Receipt;
use crate::bundle::State;
use crate::entry::EntryType;
use crate::verify::Level;

/// How a verdict is to be taken.
pub(super) fn tone(level: Level) -> Tone {
    match level {
        Level::Broken => Tone::Bad,
        Level::Open => Tone::Warn,
        // It only fits together: nobody but its maker stands for it.
        Level::Consistent => Tone::Plain,
        Level::Signed | Level::Anchored | Level::Complete => Tone::Good,
    }
}

pub(super) fn verdict(m: &Material) -> Part {
    let verification = &m.verification;
    let word = verification.verdict.to_string();
    let sentences = verification.sentence.split_inclusive(". ").map(|sentence| sentence.trim().to_owned());
    let genesis = [Cite::new("case", 0)];
    let names: Vec<String> = m.exhibits.iter().map(|x| x.id.clone()).collect();
    let exceptions: u64 = m.exhibits.iter().map(|x| x.bytes(State::Unreadable)).sum();
    let deviations = m.of(&[EntryType::DEVIATION]).count();
    let mut facts = vec![
        fact("Case", &m.case.name, &genesis),
        fact("Case id", &m.case.id, &genesis),
        fact("Exhibits", &text::long(&names.join(", ")), &m.log.cite_first(&EntryType::EXHIBIT_ADDED)),
        fact("Examiner", &m.case.examiner, &genesis),
        fact("Organisation", &m.case.organisation, &genesis),
        fact("Authority", &m.case.authority, &genesis),
        fact("Case opened", &units::time_utc(&m.case.created), &genesis),
    ];
    if let Some(last) = m.entries().map(|(_, entry)| &entry.time.wall).max() {
        facts.push(fact("State of the logs at", &units::time_utc(last), &[]));
    }
    let faults = units::count(verification.fault_count, "fault", "faults");
    facts.push(fact(
        "Found by verification",
        &format!("{faults} in {}", units::count(verification.counts.files, "file", "files")),
        &[],
    ));
    facts.push(fact("Could not be read", &units::size(exceptions), &[]));
    facts.push(fact("Deviations recorded", &deviations.to_string(), &[]));
    facts.push(fact(
        "Anchors independent of the presenter",
        &format!("{} (part 14 lists them)", verification.verdict.anchors),
        &[],
    ));
    let mut blocks = vec![
        Block::Verdict { word, tone: tone(verification.verdict.level), sentences: sentences.collect() },
        Line::of(SCALE).block(),
        Block::Facts(facts),
    ];
    if let Some(head) = &m.log.head {
        let receipt = Receipt::new(head.clone(), Vec::new());
        blocks.push(Block::Qr {
            text: receipt.qr_text(),
            caption: format!(
                "The signed head of the case's log: its name, {} and the root over them. In words: {}. Whoever keeps this page can \
                 later show whether the log was shortened or replaced: read the code with a telephone, or compare the words.",
                units::count(head.checkpoint.size, "entry", "entries"),
                receipt.words().join(" ")
            ),
        });
    }
    part(1, "verdict", "Verdict", "Can I rely on it?", blocks)
}

const SCALE: &str = "The scale, from least to most: BROKEN (something does not fit), OPEN (not finished), CONSISTENT (all that is \
    there fits together), SIGNED (by a key that the reader trusts), ANCHORED (someone outside the presenter's hands vouches for \
    it), COMPLETE (closed, and the close is anchored). A verdict never says more than was proved.";

pub(super) fn summary(m: &Material) -> Part {
    let mut blocks = Vec::new();
    let heading = |words: &str| Block::Heading(words.to_owned());
    const MOST: usize = 12;
    let shown = || m.exhibits.iter().take(MOST);
    if m.exhibits.is_empty() {
        blocks.push(Line::of("The case holds no exhibit: nothing was copied.").block());
        return part(
            2,
            "summary",
            "Summary in plain words",
            "What was copied, by whom, and is it whole?",
            blocks,
        );
    }
    blocks.push(heading("What was copied, and by whom"));
    blocks.extend(shown().map(|x| answers::copied(x).block()));
    if m.exhibits.len() > MOST {
        let more = units::number_of(m.exhibits.len() - MOST, "more exhibit", "more exhibits");
        blocks.push(Line::of(format!("The case holds {more}; part 6 lists them all.")).block());
    }
    blocks.push(heading("Is the copy the same as the source?"));
    blocks.extend(shown().map(|x| answers::same(x).block()));
    blocks.push(heading("What is missing?"));
    let missing: Vec<Line> = m
        .exhibits
        .iter()
        .flat_map(|x| answers::missing(x).into_iter().chain(answers::irregular(x)))
        .collect();
    if missing.is_empty() {
        blocks.push(
            Line::of(
                "Nothing is recorded as missing: every byte of what was read is accounted for (part 8).",
            )
            .block(),
        );
    }
    blocks.extend(missing.into_iter().take(MOST).map(Line::block));
    blocks.push(heading("Was the original changed?"));
    blocks.extend(shown().map(|x| answers::source_changed(x).block()));
    blocks.push(heading("Who has had it since?"));
    blocks.extend(shown().map(|x| holders::in_words(m, x).block()));
    blocks.push(heading("Can the records have been changed afterwards?"));
    blocks.push(answers::cut(m).block());
    part(2, "summary", "Summary in plain words", "What was copied, by whom, and is it whole?", blocks)
}

//! Part 11: who held what when, and the minutes that nobody vouches for.

use super::blocks::{Line, list, part, row, table, times, toned, words};
use super::device_picture::{Bar, Key};
use super::document::{Block, Cite, Part, Row, Span, Style, Tone};
use super::holder_picture::{HolderPicture, HolderRow, Tick};
use super::material::{ExhibitMaterial, Log, Material};
use super::{text, units};
use crate::clock::{parse_rfc3339, rfc3339};
use crate::continuity::{Continuity, HeldSpan};

/// Width of the picture.
const WIDTH: i128 = 1000;
/// The colour of what nobody vouches for.
const GAP: &str = "#a3201b";
/// Colours of holders, told apart in print and by those who see few colours.
const COLOURS: [&str; 8] =
    ["#2f5d8a", "#d9b45b", "#4f8a6b", "#8a6fa8", "#7fb2d9", "#8c6d46", "#b7c68b", "#5b6675"];
/// Exhibits with a bar.
const MOST_BARS: usize = 40;

/// The entries that tell of a span.
fn cites(log: &Log, span: &HeldSpan) -> Vec<Cite> {
    let own = span.entries.iter().map(|seq| log.cite(*seq));
    own.chain(span.case_entries.iter().map(|seq| Cite::new("case", *seq))).collect()
}

/// Who has had an exhibit since it was acquired, in one sentence.
pub(super) fn in_words(_m: &Material, x: &ExhibitMaterial) -> Line {
    const MOST: usize = 8;
    let spans = &x.continuity.spans;
    if spans.is_empty() {
        return Line::of(format!("{}: ", x.id)).no_record().say(".");
    }
    // While both parties stand for it under way, neither the giver's time nor the receiver's is in doubt.
    let under_way = |at: usize| {
        let holder = |at: usize| spans.get(at).map(|span| span.holder.as_str()).unwrap_or_default();
        at > 0 && holder(at) == format!("{} to {}", holder(at - 1), holder(at + 1))
    };
    let told: Vec<&HeldSpan> = spans
        .iter()
        .enumerate()
        .filter(|(at, span)| span.gap.is_some() || !under_way(*at))
        .map(|(_, span)| span)
        .collect();
    let mut line = Line::of(format!("{}: ", x.id));
    for (at, span) in told.iter().take(MOST).enumerate() {
        line = if at == 0 { line } else { line.say(", then ") };
        line = match &span.gap {
            None => line.strong(text::cell(&span.holder)),
            Some(_) => line.bad(format!("nobody's signature ({})", text::cell(&span.holder))),
        };
        line = line.say(format!(" from {}", units::date_words(&span.from)));
    }
    if told.len() > MOST {
        line = line.say(format!(", and {} more (part 11)", told.len() - MOST));
    }
    line = line.say(" to the last entry. ");
    let gaps = x.continuity.gaps().count();
    line = if gaps == 0 {
        line.say("No gap between holders is recorded.")
    } else {
        line.bad(format!("In {} nobody vouches for it", units::number_of(gaps, "gap", "gaps")))
            .say(" (part 11).")
    };
    line.cite(spans.iter().flat_map(|span| cites(&x.log, span).into_iter().next()))
}

/// Who had an exhibit on which days.
pub(super) fn by_day(x: &ExhibitMaterial) -> Line {
    const MOST: usize = 12;
    let spans = &x.continuity.spans;
    if spans.is_empty() {
        return Line::of(format!("{}: ", x.id)).no_record().say(".");
    }
    let last = x.log.entries.iter().map(|entry| entry.time.wall.as_str()).max().unwrap_or_default();
    let day = |time: &str| text::cell(time.get(..10).unwrap_or(time));
    let mut line = Line::of(format!("{}: ", x.id));
    for (at, span) in spans.iter().take(MOST).enumerate() {
        let (from, to) = (day(&span.from), day(span.to.as_deref().unwrap_or(last)));
        let days = if from == to { format!("on {from} ") } else { format!("{from} to {to} ") };
        line = line.say(if at == 0 { days } else { format!("; {days}") });
        line = match &span.gap {
            None => line.strong(text::cell(&span.holder)),
            Some(gap) => line.bad(format!("nobody vouches ({})", text::cell(gap))),
        };
    }
    if spans.len() > MOST {
        line = line.say(format!("; {} more spans are in part 11", spans.len() - MOST));
    }
    line.say(". Days are in UTC.").cite(spans.iter().flat_map(|span| cites(&x.log, span).into_iter().next()))
}

/// What nobody vouches for, and what cannot all be true.
pub(super) fn limits(m: &Material) -> Vec<Line> {
    let mut lines = Vec::new();
    for (log, continuity) in held(m) {
        for span in continuity.gaps().take(50) {
            let to = span.to.as_deref().map_or_else(|| "the end".to_owned(), units::time_utc);
            let line = Line::of(format!("Custody of {}: ", log.title()));
            let line = line.bad(format!("GAP from {} to {to}", units::time_utc(&span.from)));
            let why = span.gap.as_deref().unwrap_or_default();
            lines.push(line.say(format!(": {}.", text::cell(why))).cite(cites(log, span)));
        }
        for words in continuity.contradictions.iter().take(50) {
            let line = Line::of(format!("Custody of {}: ", log.title()));
            lines.push(line.bad("contradiction").say(format!(": {}.", text::cell(words))));
        }
    }
    lines
}

/// Every log with who held what it tells of: the exhibits, or the case itself where it holds none.
fn held(m: &Material) -> Vec<(&Log, &Continuity)> {
    let exhibits = m.exhibits.iter().map(|x| (&x.log, &x.continuity));
    let own = m.exhibits.is_empty().then_some((&m.log, &m.continuity));
    exhibits.chain(own).filter(|(log, _)| !log.entries.is_empty()).collect()
}

pub(super) fn timeline(m: &Material) -> Part {
    let mut blocks = vec![
        Line::of(
            "One bar an exhibit, from the first entry of its log to the last entry of all; a colour for each holder. Red is a time \
             for which nobody vouches: between a giver's word and a receiver's, or where one of them did not sign.",
        )
        .block(),
    ];
    let held = held(m);
    blocks.extend(picture(m, &held));
    let shares = held.iter().map(|(log, continuity)| {
        let line = Line::of(format!("{}: {}", log.title(), text::cell(&continuity.share_words())));
        let contradictions = continuity.contradictions.iter().take(20);
        contradictions.fold(line.say("."), |line, words| line.bad(format!(" {}.", text::cell(words))))
    });
    blocks.push(list(shares.collect(), "custody.jsonl"));
    for (log, continuity) in &held {
        let rows = continuity.spans.iter().map(|span| span_row(log, span));
        let columns = vec![
            times("From (UTC)"),
            times("To (UTC)"),
            words("Held by", 5),
            words("Giver signed", 2),
            words("Receiver signed", 2),
            words("Entries", 4),
            words("Not vouched for", 5),
        ];
        blocks.extend(table(format!("Who held {}", log.title()), columns, rows, "custody.jsonl"));
    }
    blocks.extend(silences(m));
    part(11, "timeline", "Custody timeline", "Where was it, and with whom, on the 14th?", blocks)
}

fn span_row(log: &Log, span: &HeldSpan) -> Row {
    let signed = |yes: bool| if yes { "yes" } else { "no" };
    let all = cites(log, span);
    let cites: Vec<String> = all.iter().take(4).map(ToString::to_string).collect();
    let more = all.len().saturating_sub(4);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let row = row([
        units::time(&span.from),
        span.to.as_deref().map_or_else(|| "last entry".to_owned(), units::time),
        span.holder.clone(),
        signed(span.signed_by_giver).to_owned(),
        signed(span.signed_by_receiver).to_owned(),
        format!("{}{more}", cites.join(" ")),
        span.gap.clone().unwrap_or_default(),
    ]);
    toned(row, if span.gap.is_some() { Tone::Bad } else { Tone::Plain })
}

fn picture(m: &Material, held: &[(&Log, &Continuity)]) -> Option<Block> {
    let time = |text: &str| parse_rfc3339(text).ok().map(i128::from);
    let all = || m.entries().filter_map(|(_, entry)| time(&entry.time.wall));
    let (start, end) = (all().min()?, all().max()?);
    let length = (end - start).max(1);
    let place = |at: i128| u64::try_from(((at - start) * WIDTH / length).clamp(0, WIDTH)).unwrap_or(0);
    let mut names: Vec<String> = Vec::new();
    let mut rows = Vec::new();
    let mut said = Vec::new();
    for (log, continuity) in held.iter().take(MOST_BARS) {
        let mut bars = Vec::new();
        let mut left = 0;
        for span in &continuity.spans {
            let Some(from) = time(&span.from) else { continue };
            let to = span.to.as_deref().and_then(time).unwrap_or(end);
            // A gap of a minute in a year is still seen.
            let x = place(from).max(left).min(999);
            let w = place(to).saturating_sub(x).max(if span.gap.is_some() { 4 } else { 2 }).min(1000 - x);
            left = x + w;
            let fill = if span.gap.is_some() {
                GAP
            } else {
                let at = names.iter().position(|name| *name == span.holder).unwrap_or_else(|| {
                    names.push(span.holder.clone());
                    names.len() - 1
                });
                COLOURS.get(at % COLOURS.len()).copied().unwrap_or("#5b6675")
            };
            bars.push(Bar { x, w, fill });
        }
        said.push(format!("{}: {}", log.name, text::cell(&continuity.share_words())));
        rows.push(HolderRow { label: log.name.clone(), bars });
    }
    let mut key: Vec<Key> = names
        .iter()
        .zip(COLOURS.iter().cycle())
        .take(24)
        .map(|(name, fill)| Key { words: text::bounded(name, 60), fill })
        .collect();
    key.push(Key { words: "nobody vouches".to_owned(), fill: GAP });
    let ticks = (0..=4).map(|nth| {
        let at = start + length * nth / 4;
        Tick {
            x: u64::try_from(nth * 250).unwrap_or(0),
            label: units::time(&rfc3339(i64::try_from(at).unwrap_or_default())).chars().take(16).collect(),
        }
    });
    (!rows.is_empty()).then(|| {
        Block::Holders(HolderPicture {
            title: "Who held each exhibit, from the first entry to the last (UTC)".to_owned(),
            words: text::bounded(&said.join("; "), 1000),
            rows,
            ticks: ticks.collect(),
            key,
        })
    })
}

/// Pauses of more than a day between two entries of one log.
fn silences(m: &Material) -> Vec<Block> {
    const DAY: i64 = 24 * 3600 * 1_000_000_000;
    let rows = m.logs().flat_map(|log| {
        let pairs = log.entries.iter().zip(log.entries.iter().skip(1));
        pairs.filter_map(move |(before, after)| {
            let passed =
                units::between(&before.time.wall, &after.time.wall).filter(|passed| *passed > DAY)?;
            Some(row([
                log.title(),
                units::time(&before.time.wall),
                units::time(&after.time.wall),
                units::duration(passed),
                format!("{} {}", log.cite(before.seq), log.cite(after.seq)),
            ]))
        })
    });
    let rows: Vec<Row> = rows.collect();
    if rows.is_empty() {
        return vec![
            Line::of("No log was silent for more than 24 hours between two of its entries.").block(),
        ];
    }
    let columns = vec![
        words("Log", 2),
        times("From (UTC)"),
        times("To (UTC)"),
        words("Length", 3),
        words("Entries", 4),
    ];
    let caption =
        "Silences of more than 24 hours: nothing was recorded, which is no gap in custody by itself";
    let mut blocks = table(caption, columns, rows, "custody.jsonl");
    blocks.push(Block::Text(vec![Span::new(
        "Nothing is known of these times beyond that the logs hold no entry.",
        Style::Soft,
    )]));
    blocks
}

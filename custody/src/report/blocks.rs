//! Short ways to write blocks: sentences that cite, facts, tables that stay bounded.

use super::document::{Block, Cite, Column, ColumnKind, Fact, Part, Row, Span, Style, Table, Tone};
use super::text;
use super::units::number_of;

/// More rows than this are counted, not printed.
pub(super) const MOST_ROWS: usize = 200;
/// More citations than this are counted, not printed.
const MOST_CITES: usize = 4;

/// A sentence in the making.
#[derive(Debug, Default, Clone)]
pub(super) struct Line(Vec<Span>);

impl Line {
    /// Begins with words of ours.
    pub(super) fn of(words: impl Into<String>) -> Self {
        Self(vec![Span::plain(words)])
    }

    /// Goes on with words of ours.
    pub(super) fn say(mut self, words: impl Into<String>) -> Self {
        self.0.push(Span::plain(words));
        self
    }

    /// Goes on with words of weight.
    pub(super) fn strong(mut self, words: impl Into<String>) -> Self {
        self.0.push(Span::new(words, Style::Strong));
        self
    }

    /// Goes on with what speaks against the evidence.
    pub(super) fn bad(mut self, words: impl Into<String>) -> Self {
        self.0.push(Span::new(words, Style::Bad));
        self
    }

    /// Goes on with a hash, path or command.
    pub(super) fn mono(mut self, words: impl Into<String>) -> Self {
        self.0.push(Span::mono(words));
        self
    }

    /// Goes on with `NO RECORD`.
    pub(super) fn no_record(mut self) -> Self {
        self.0.push(Span::no_record());
        self
    }

    /// Ends with the entries that say it.
    pub(super) fn cite(mut self, cites: impl IntoIterator<Item = Cite>) -> Self {
        self.0.extend(cited(cites.into_iter().collect()));
        self
    }

    /// The spans.
    pub(super) fn spans(self) -> Vec<Span> {
        self.0
    }

    /// A paragraph.
    pub(super) fn block(self) -> Block {
        Block::Text(self.0)
    }
}

/// Citations as they stand behind a sentence: a few of them, and how many more.
pub(super) fn cited(cites: Vec<Cite>) -> Vec<Span> {
    let more = cites.len().saturating_sub(MOST_CITES);
    let mut words: Vec<String> = cites.iter().take(MOST_CITES).map(ToString::to_string).collect();
    if more > 0 {
        words.push(format!("[and {more} more]"));
    }
    if words.is_empty() { Vec::new() } else { vec![Span::new(format!(" {}", words.join(" ")), Style::Soft)] }
}

/// Text from outside, or `NO RECORD`.
pub(super) fn known(text: Option<&str>) -> Vec<Span> {
    match text {
        Some(text) if !text.is_empty() => vec![Span::plain(text::long(text))],
        _ => vec![Span::no_record()],
    }
}

/// A fact with what says it; an empty text is `NO RECORD`.
pub(super) fn fact(label: impl Into<String>, value: &str, cites: &[Cite]) -> Fact {
    let none = value.is_empty();
    Fact {
        label: label.into(),
        value: known(Some(value)),
        cites: if none { Vec::new() } else { cites.to_vec() },
    }
}

/// A fact that is a hash, a path or a command.
pub(super) fn mono_fact(label: impl Into<String>, value: &str, cites: &[Cite]) -> Fact {
    let mut fact = fact(label, value, cites);
    for span in fact.value.iter_mut().filter(|span| span.style == Style::Plain) {
        span.style = Style::Mono;
    }
    fact
}

/// A column of words.
pub(super) fn words(title: &str, weight: u8) -> Column {
    Column { title: title.to_owned(), kind: ColumnKind::Words, weight }
}

/// A column of numbers.
pub(super) fn numbers(title: &str, weight: u8) -> Column {
    Column { title: title.to_owned(), kind: ColumnKind::Number, weight }
}

/// A column of times.
pub(super) fn times(title: &str) -> Column {
    Column { title: title.to_owned(), kind: ColumnKind::Time, weight: 4 }
}

/// A column of hashes.
pub(super) fn hashes(title: &str, weight: u8) -> Column {
    Column { title: title.to_owned(), kind: ColumnKind::Hash, weight }
}

/// A row of plain texts, made safe; an empty one is left empty.
pub(super) fn row<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> Row {
    let cell = |text: T| {
        let text = text.as_ref();
        let span = if text == super::document::NO_RECORD {
            Span::no_record()
        } else {
            Span::plain(text::cell(text))
        };
        vec![span]
    };
    Row { cells: cells.into_iter().map(cell).collect(), tone: Tone::Plain }
}

/// The same row in another tone.
pub(super) fn toned(mut row: Row, tone: Tone) -> Row {
    row.tone = tone;
    row
}

/// A table of at most [`MOST_ROWS`] rows, with a sentence for what is left out: where the rest can be read.
pub(super) fn table(
    caption: impl Into<String>,
    columns: Vec<Column>,
    rows: impl IntoIterator<Item = Row>,
    rest: &str,
) -> Vec<Block> {
    let mut rows = rows.into_iter();
    let shown: Vec<Row> = rows.by_ref().take(MOST_ROWS).collect();
    let more = rows.count();
    let mut blocks = vec![Block::Table(Table { caption: caption.into(), columns, rows: shown })];
    if more > 0 {
        let words = format!("and {} in {rest}", number_of(more, "more row", "more rows"));
        blocks.push(Line::of(words).block());
    }
    blocks
}

/// A list of at most [`MOST_ROWS`] lines.
pub(super) fn list(lines: Vec<Line>, rest: &str) -> Block {
    let more = lines.len().saturating_sub(MOST_ROWS);
    let mut shown: Vec<Vec<Span>> = lines.into_iter().take(MOST_ROWS).map(Line::spans).collect();
    if more > 0 {
        shown.push(vec![Span::plain(format!("and {} in {rest}", number_of(more, "more", "more")))]);
    }
    Block::List(shown)
}

/// A part.
pub(super) fn part(
    number: u8,
    anchor: &'static str,
    title: &'static str,
    question: &'static str,
    blocks: Vec<Block>,
) -> Part {
    Part { number, anchor, title, question, blocks }
}

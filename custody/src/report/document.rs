//! The one document that every printed form of the report renders: parts of blocks, and no layout.
//!
//! Texts are ready to print: what comes from evidence or people was made safe and short by `text.rs`, but a
//! renderer still escapes what its own format needs escaped. The same report gives the same document.

use serde::Serialize;

use super::device_picture::DevicePicture;
use super::holder_picture::HolderPicture;

/// A whole report, ready to be laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// What it is.
    pub title: String,
    /// Of what.
    pub subtitle: String,
    /// What stands at the foot of every page.
    pub foot: Foot,
    /// The parts, in the order they are read.
    pub parts: Vec<Part>,
}

/// What stands at the foot of every page, beside its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foot {
    /// The case's id.
    pub case: String,
    /// The exhibits.
    pub exhibits: String,
    /// The first 16 hexadecimal digits of the SHA-256 of `report.json`.
    pub report_id: String,
    /// How many entries the case's log had, and the root over them.
    pub checkpoint: String,
}

/// One part of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its number, from 1.
    pub number: u8,
    /// Its name for links.
    pub anchor: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// The question that it answers.
    pub question: &'static str,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// One block of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A heading within the part.
    Heading(String),
    /// A paragraph.
    Text(Vec<Span>),
    /// A list of paragraphs.
    List(Vec<Vec<Span>>),
    /// A verdict with what it means.
    Verdict {
        /// The word.
        word: String,
        /// How it is to be taken.
        tone: Tone,
        /// What it means.
        sentences: Vec<String>,
    },
    /// Facts, each with the entries that say it.
    Facts(Vec<Fact>),
    /// A table.
    Table(Table),
    /// The picture of a stream.
    Device(DevicePicture),
    /// The picture of who held what when.
    Holders(HolderPicture),
    /// A command that checks something, and what it must print.
    Check {
        /// What it checks.
        title: String,
        /// The command, for a POSIX shell; it may have several lines.
        command: String,
        /// What it must print, byte for byte; empty for nothing.
        expect: String,
    },
    /// A place where a person writes.
    Blank {
        /// What is to be written.
        label: String,
    },
    /// A text to be read with a camera.
    Qr {
        /// The text.
        text: String,
        /// What it is.
        caption: String,
    },
}

/// A fact with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it tells.
    pub label: String,
    /// The fact; `NO RECORD` where nothing is recorded.
    pub value: Vec<Span>,
    /// The entries that say it.
    pub cites: Vec<Cite>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it lists.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, each with as many cells as there are columns.
    pub rows: Vec<Row>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Its heading.
    pub title: String,
    /// What its cells hold.
    pub kind: ColumnKind,
    /// Its share of the width, against the other columns.
    pub weight: u8,
}

/// What the cells of a column hold, and so how they are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Words.
    Words,
    /// Numbers, set to the right.
    Number,
    /// Times, never broken.
    Time,
    /// Hashes, in a face of equal widths, broken anywhere.
    Hash,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its cells.
    pub cells: Vec<Vec<Span>>,
    /// How it is to be taken.
    pub tone: Tone,
}

/// A run of text in one style.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Its style.
    pub style: Style,
}

/// The style of a run of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// As the text around it.
    Plain,
    /// Of weight.
    Strong,
    /// Hashes, paths, commands: in a face of equal widths, broken anywhere.
    Mono,
    /// Beside the point: citations such as `[case 7]`.
    Soft,
    /// What speaks against the evidence.
    Bad,
    /// `NO RECORD`.
    NoRecord,
}

/// The entry that says something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cite {
    /// The log: `case`, or an exhibit's id.
    pub log: String,
    /// The number of the entry.
    pub seq: u64,
}

/// How something is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// As it is.
    Plain,
    /// It speaks for the evidence.
    Good,
    /// It is a limit.
    Warn,
    /// It speaks against the evidence.
    Bad,
}

/// What is printed where no entry tells a fact.
pub const NO_RECORD: &str = "NO RECORD";

impl Span {
    /// A run of text in this style.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    /// Plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Style::Plain)
    }

    /// A hash, path or command.
    pub fn mono(text: impl Into<String>) -> Self {
        Self::new(text, Style::Mono)
    }

    /// `NO RECORD`.
    pub fn no_record() -> Self {
        Self::new(NO_RECORD, Style::NoRecord)
    }
}

impl Cite {
    /// The entry of that number in that log.
    pub fn new(log: impl Into<String>, seq: u64) -> Self {
        Self { log: log.into(), seq }
    }

    /// The citation as it stands in running text.
    pub fn span(&self) -> Span {
        Span::new(self.to_string(), Style::Soft)
    }
}

impl std::fmt::Display for Cite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} {}]", self.log, self.seq)
    }
}

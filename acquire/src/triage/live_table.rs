//! A table of what was seen on the live system: strict JSON lines, the first of which says what the others are.

use std::path::Path;

use custody::strict_json::{MAX_INTEGER, escape_text, to_line};
use serde_json::{Map, Value};

use crate::error::Result;
use crate::tar_packer::TarPacker;

/// A table is stored in parts of about this size, so that it is never held whole.
const PART: usize = 16 << 20;

/// Rows on their way into the tar.
pub(crate) struct LiveTable {
    /// `V2/processes`: the parts are `V2/processes.jsonl`, `V2/processes.2.jsonl` …
    name: &'static str,
    header: String,
    lines: String,
    part: u32,
}

impl LiveTable {
    /// A table of that name. `about` is repeated at the head of each part.
    pub(crate) fn new(name: &'static str, format: &str, mut about: Map<String, Value>) -> Self {
        about.insert("format".to_owned(), format.into());
        let header = to_line(&Value::Object(about)).map_or_else(|_| String::new(), |line| line + "\n");
        Self { name, lines: header.clone(), header, part: 1 }
    }

    /// Adds a row. One that strict JSON cannot hold is noted, for all that comes from outside must be escaped before.
    pub(crate) fn row(&mut self, out: &mut TarPacker<'_>, row: Map<String, Value>) -> Result<()> {
        match to_line(&Value::Object(row)) {
            Ok(line) => {
                self.lines.push_str(&line);
                self.lines.push('\n');
            }
            Err(error) => out.note(Path::new(self.name), &format!("a row could not be written: {error}")),
        }
        if self.lines.len() >= PART { self.store(out) } else { Ok(()) }
    }

    /// Stores what is left; a table without rows is stored as well, for it says that there were none.
    pub(crate) fn end(mut self, out: &mut TarPacker<'_>) -> Result<()> {
        if self.part == 1 || self.lines.len() > self.header.len() { self.store(out) } else { Ok(()) }
    }

    fn store(&mut self, out: &mut TarPacker<'_>) -> Result<()> {
        let name = match self.part {
            1 => format!("{}.jsonl", self.name),
            part => format!("{}.{part}.jsonl", self.name),
        };
        out.made(&name, self.lines.as_bytes())?;
        self.part += 1;
        self.lines.clone_from(&self.header);
        Ok(())
    }
}

/// Lines without a header, for a small table of one process.
#[derive(Debug, Default)]
pub(crate) struct Lines(String);

impl Lines {
    /// Adds a row.
    pub(crate) fn line(&mut self, row: Row) {
        // Rows escape all that comes from outside, so strict JSON can hold them.
        if let Ok(line) = to_line(&Value::Object(row.0)) {
            self.0.push_str(&line);
            self.0.push('\n');
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// A row that is being filled in.
#[derive(Debug, Default, Clone)]
pub(crate) struct Row(Map<String, Value>);

impl Row {
    /// Adds a text from outside.
    pub(crate) fn text(&mut self, key: &str, bytes: &[u8]) {
        self.0.insert(key.to_owned(), escape_text(bytes).into());
    }

    /// Adds a text from outside where there is one.
    pub(crate) fn some_text(&mut self, key: &str, bytes: Option<&[u8]>) {
        if let Some(bytes) = bytes {
            self.text(key, bytes);
        }
    }

    /// Adds a value of ours.
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    /// Adds a number where there is one; as text if strict JSON cannot hold it.
    pub(crate) fn number(&mut self, key: &str, number: Option<u64>) {
        match number {
            Some(number) if number <= MAX_INTEGER => self.put(key, number),
            Some(number) => self.put(key, number.to_string()),
            None => {}
        }
    }

    /// Adds `true` where it is so.
    pub(crate) fn flag(&mut self, key: &str, is: bool) {
        if is {
            self.put(key, true);
        }
    }

    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

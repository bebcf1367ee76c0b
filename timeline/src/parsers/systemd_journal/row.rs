//! The rows of one journal entry.

use std::fmt::Write;
use std::rc::Rc;

use crate::event::{Event, Precision, Timestamp, TzBasis, flags};
use crate::parser::{Context, Sink};
use crate::parsers::journal_file::{Entry, Field, HEADER_OF_REACHED, HEADER_OF_RECOVERED, Header};
use crate::parsers::syslog_messages::{severity_of_level, understand};

/// All fields of an entry together give no more text than this.
const LONGEST_ENTRY: usize = 1 << 20;
/// A message is cut here for its column; `attrs` then has all of it.
const LONGEST_MESSAGE: usize = 4096;
/// A time beyond this (the year 3111) is none.
const LATEST_TIME: i64 = 1 << 55;

/// An entry with its fields.
pub(super) struct Row<'a> {
    pub(super) header: &'a Header,
    pub(super) entry: &'a Entry,
    pub(super) fields: &'a [Rc<Field>],
    /// Places where it has a field that cannot be read.
    pub(super) lost: &'a [u64],
}

impl Row<'_> {
    /// One row for the sender's time, and one for journald's where that is another.
    pub(super) fn give(&self, is_recovered: bool, context: &Context, out: &mut dyn Sink) {
        let (mut event, recorded) = self.event(context);
        if is_recovered {
            event.flags |= flags::RECOVERED;
        }
        event.pieces = Some(self.pieces(is_recovered));
        let written = Timestamp::from_micros(self.entry.realtime as i64);
        let recorded = recorded.unwrap_or(written);
        let first = event.at(recorded, Precision::Us, TzBasis::UtcByFormat);
        if recorded == written {
            out.event(first);
            return;
        }
        let mut second = first.clone();
        second.time = Some(written);
        second.ts_desc = "Written Time".into();
        out.event(first);
        out.event(second);
    }

    fn event(&self, context: &Context) -> (Event, Option<Timestamp>) {
        let mut event = Event::new("linux:journal", "Recorded Time", self.entry.span, "");
        event.record_no = i64::try_from(self.entry.seqnum).ok();
        let (mut message, mut identifier, mut comm, mut command) = (None, None, None, None);
        let (mut recorded, mut uid, mut container_id) = (None, None, None);
        let mut left = LONGEST_ENTRY;
        let mut cut: Vec<&str> = Vec::new();
        for field in self.fields {
            let (name, value) = (field.name.clone(), field.value.as_str());
            let text = up_to(value, left);
            left -= text.len();
            if field.is_cut || text.len() < value.len() {
                cut.push(&field.name);
            }
            match &*name {
                "MESSAGE" if message.is_none() => message = Some(text),
                "SYSLOG_IDENTIFIER" if identifier.is_none() => identifier = Some(text),
                "_COMM" if comm.is_none() => comm = Some(text),
                "_CMDLINE" if command.is_none() => command = Some(text),
                "_HOSTNAME" if event.host.is_none() => event.host = Some(text.to_owned().into()),
                "_SYSTEMD_UNIT" if event.provider.is_none() => event.provider = Some(text.to_owned().into()),
                "CONTAINER_NAME" if event.container.is_none() => event.container = Some(text.to_owned()),
                "CONTAINER_ID" if container_id.is_none() => container_id = Some(text),
                "_PID" if event.pid.is_none() && number(text).is_some() => event.pid = number(text),
                "_SOURCE_REALTIME_TIMESTAMP" if recorded.is_none() && time(text).is_some() => {
                    recorded = time(text);
                }
                _ => {
                    match &*name {
                        "_UID" if uid.is_none() => uid = text.parse().ok(),
                        "PRIORITY" if event.severity.is_none() => {
                            event.severity = text.parse().ok().and_then(severity_of_level);
                        }
                        _ => {}
                    }
                    event.attrs.put(name, text);
                }
            }
        }
        let pid = event.pid;
        event.process = identifier.or(comm).map(str::to_owned);
        match message {
            Some(message) => {
                event.message = one_line(message);
                if event.message != message {
                    event.attrs.put("MESSAGE", message);
                }
                if let Some(process) = identifier.or(comm) {
                    understand(process, message, &mut event);
                }
            }
            None => {
                event.message =
                    format!("entry of {} without a message", identifier.or(comm).unwrap_or("a sender"));
            }
        }
        // What a column now says otherwise than the field stays in `attrs`.
        if identifier.is_some() && event.process.as_deref() != identifier {
            event.attrs.put_some("SYSLOG_IDENTIFIER", identifier);
        }
        if comm.is_some() && event.process.as_deref() != comm {
            event.attrs.put_some("_COMM", comm);
        }
        if event.pid != pid {
            event.attrs.put_some("_PID", pid.map(|pid| pid.to_string()));
        }
        match (&event.command, command) {
            (None, Some(command)) => event.command = Some(command.to_owned()),
            (_, command) => event.attrs.put_some("_CMDLINE", command),
        }
        match (&event.container, container_id) {
            (None, Some(id)) => event.container = Some(id.to_owned()),
            (_, id) => event.attrs.put_some("CONTAINER_ID", id),
        }
        if event.user_name.is_none() {
            event.user_name = uid.and_then(|uid| context.user(uid)).map(str::to_owned);
        }
        event.attrs.put("__CURSOR", self.cursor());
        event.attrs.put("__MONOTONIC_TIMESTAMP", self.entry.monotonic);
        if !cut.is_empty() {
            event.flags |= flags::TRUNCATED;
            event.attrs.put("cut_fields", cut);
        }
        self.note_damage(&mut event);
        (event, recorded)
    }

    /// Says which fields are lost, and whether what is there still gives the hashes that journald stored.
    fn note_damage(&self, event: &mut Event) {
        if !self.lost.is_empty() {
            event.attrs.put("unreadable_fields", self.lost.to_vec());
        }
        let untrue: Vec<&str> =
            self.fields.iter().filter(|field| !field.is_true).map(|field| &*field.name).collect();
        let is_changed = untrue.is_empty() && self.lost.is_empty() && !self.gives_its_hash();
        if is_changed {
            event.attrs.put("hash_mismatch", vec!["xor_hash"]);
        } else if !untrue.is_empty() {
            event.attrs.put("hash_mismatch", untrue);
        } else if self.lost.is_empty() {
            return;
        }
        event.flags |= flags::CORRUPT;
    }

    fn gives_its_hash(&self) -> bool {
        let mut hash = self.entry.xor_hash;
        for field in self.fields {
            match field.entry_hash {
                Some(one) => hash ^= one,
                None => return true,
            }
        }
        // A field that was sent twice is in the hash twice, but in the entry once.
        hash == 0 || self.fields.iter().any(|field| field.entry_hash == Some(hash))
    }

    /// As `journalctl --show-cursor` writes it.
    fn cursor(&self) -> String {
        let mut out = String::with_capacity(160);
        let entry = self.entry;
        out.push_str("s=");
        push_id(&mut out, &self.header.seqnum_id);
        let _ = write!(out, ";i={:x};b=", entry.seqnum);
        push_id(&mut out, &entry.boot_id);
        let _ = write!(out, ";m={:x};t={:x};x={:x}", entry.monotonic, entry.realtime, entry.xor_hash);
        out
    }

    /// The header as far as it says what the entry needs, then the data objects.
    fn pieces(&self, is_recovered: bool) -> String {
        let mut out = String::with_capacity(16 + self.fields.len() * 14);
        let header = if is_recovered { HEADER_OF_RECOVERED } else { HEADER_OF_REACHED };
        let _ = write!(out, "0+{header}");
        for field in self.fields {
            out.push(' ');
            out.push_str(&field.piece);
        }
        out
    }
}

fn number(text: &str) -> Option<i64> {
    // Only what comes back as it was: `+7` and `007` stay text.
    let canonical = text.len() == 1 || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

fn time(text: &str) -> Option<Timestamp> {
    number(text).filter(|micros| (1..LATEST_TIME).contains(micros)).map(Timestamp::from_micros)
}

/// The first `most` bytes, less where a character would be cut.
fn up_to(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    text.get(..text.floor_char_boundary(most)).unwrap_or("")
}

/// The first line that says something.
fn one_line(message: &str) -> String {
    let line = message.lines().map(str::trim_end).find(|line| !line.trim().is_empty()).unwrap_or("");
    up_to(line, LONGEST_MESSAGE).to_owned()
}

fn push_id(out: &mut String, id: &[u8; 16]) {
    for byte in id {
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
}

//! Reads one file of the evidence: finds its parser, runs it, and accounts for every byte.

use std::borrow::Cow;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::bytes::{ByteSource, read_vec};
use crate::error::ReadError;
use crate::event::{Event, Span, Timestamp, TzBasis, flags};
use crate::file_kinds::kind_of;
use crate::parser::{Context, Input, Parser, Probe, Sink};
use crate::unpack::Codec;
use crate::year::YearScan;

/// How much of a file a parser sees before it claims it.
pub const HEAD: usize = 4096;
/// Files longer than this must hold at least one byte in 256 to be read.
const LONGEST_SPARSE: u64 = 16 << 30;
/// How many rejects of a file are listed one by one; all are counted.
const LISTED_REJECTS: usize = 5;

/// A file of the evidence that may be parsed.
#[derive(Clone)]
pub struct EvidenceFile {
    /// Way from the stream to the file, without a codec: `disk/p1/ext4:/var/log/syslog.1.gz`.
    pub locator: String,
    /// Its path, escaped as in the locator.
    pub path: String,
    /// Its bytes.
    pub source: Arc<dyn ByteSource>,
    /// Its modification time, in seconds since 1970.
    pub modified: Option<i64>,
    /// Where its first byte lies, so that files are read in the order of the disk.
    pub order: u64,
    /// Whether it was deleted: its rows are flagged, and its blocks may hold other files' bytes by now.
    pub is_deleted: bool,
}

/// A file after its first look.
pub struct Claimed {
    /// Who reads it.
    pub parser: &'static dyn Parser,
    /// How it is compressed.
    pub codec: Option<Codec>,
    /// Whether it must wait for its neighbours' years.
    pub is_yearless: bool,
}

/// What the first look says.
pub enum Look {
    /// A parser reads it.
    Claimed(Claimed),
    /// Nobody does; the kind is counted.
    Unclaimed(&'static str),
    /// It claims so many bytes of which the disk holds next to none, that reading it through would not end.
    Endless {
        /// Bytes that are stored.
        stored: u64,
    },
}

impl EvidenceFile {
    /// The locator of the decoded bytes: with `>gzip` and the like.
    pub fn decoded_locator(&self, codec: Option<Codec>) -> String {
        match codec {
            Some(codec) => format!("{}>{}", self.locator, codec.name()),
            None => self.locator.clone(),
        }
    }

    /// Looks at the first bytes and asks the parsers, in their order.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the evidence cannot be read.
    pub fn look(&self, parsers: &[&'static dyn Parser]) -> Result<Look, ReadError> {
        let length = self.source.len();
        if length > LONGEST_SPARSE {
            let stored =
                self.source.stream_ranges(0, length).iter().map(|r| r.end.saturating_sub(r.start)).sum();
            // lastlog is as long as the highest uid is great, and its parser leaps over holes.
            if stored < length / 256 && !self.path.ends_with("/lastlog") {
                return Ok(Look::Endless { stored });
            }
        }
        let stored = read_vec(&*self.source, 0, HEAD)?;
        let codec = Codec::detect(&stored);
        let (head, size) = match codec {
            None => (stored, Some(self.source.len())),
            Some(codec) => {
                let mut head = Vec::new();
                // A member that does not decode at all has an empty head, which nobody claims.
                let _ = codec.open(self.source.clone()).0.take(HEAD as u64).read_to_end(&mut head);
                (head, None)
            }
        };
        let probe = Probe { path: &self.path, head: &head, size };
        // A parser that fails on a hostile head must not stop the others.
        let claims = |parser: &&&'static dyn Parser| {
            catch_unwind(AssertUnwindSafe(|| parser.claims(&probe))).unwrap_or(false)
        };
        Ok(match parsers.iter().find(claims) {
            Some(parser) => {
                Look::Claimed(Claimed { parser: *parser, codec, is_yearless: parser.is_yearless(&probe) })
            }
            None => Look::Unclaimed(codec.map_or_else(|| kind_of(&head), Codec::name)),
        })
    }

    /// Says what a parser need not: that the file is deleted, and that a local time could be either of two.
    pub fn complete(&self, event: &mut Event, context: &Context) {
        if matches!(event.tz_basis, TzBasis::HostConfig | TzBasis::Flag)
            && let Some(other) = event.time.and_then(|time| context.zone.zone.other_reading(time))
        {
            event.attrs.put("ts_or", other.to_rfc3339());
        }
        if self.is_deleted {
            event.flags |= flags::DELETED;
        }
    }

    fn input(&self, codec: Option<Codec>) -> Input<'_> {
        match codec {
            None => Input::of_source(&self.path, self.source.clone()),
            Some(codec) => Input::of_member(&self.path, codec.name(), codec.open(self.source.clone()).0),
        }
    }

    /// The first pass over a file without years.
    pub fn scan_years(&self, claimed: &Claimed) -> YearScan {
        let mut input = self.input(claimed.codec);
        // A fault shows again in the second pass, which lists it.
        catch_unwind(AssertUnwindSafe(|| claimed.parser.scan_years(&mut input).unwrap_or_default()))
            .unwrap_or_default()
    }

    /// Reads all records; rows go to `rows`, the account comes back.
    pub fn read(&self, claimed: &Claimed, context: &Context, rows: &mut dyn FnMut(Event)) -> Account {
        let mut input = self.input(claimed.codec);
        let mut flagged = |mut event: Event| {
            self.complete(&mut event, context);
            rows(event);
        };
        let mut out = Accounting::new(&mut flagged);
        let result = catch_unwind(AssertUnwindSafe(|| claimed.parser.parse(&mut input, context, &mut out)));
        let mut account = out.into_account();
        account.bytes_used = account.bytes_used.saturating_add(input.line_ends());
        account.bytes = input.size().unwrap_or_else(|| input.position());
        account.bytes_used = account.bytes_used.min(account.bytes);
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => account.stopped = Some(error.to_string()),
            Err(_) => account.stopped = Some("the parser failed on these bytes: please report it".into()),
        }
        if let Some((from, unread)) = input.unread() {
            let reason =
                format!("{unread} bytes in all, from here on, are beyond the longest line that is read");
            account.reject(Span::new(from, 0), reason.into());
        }
        account
    }
}

/// What became of a file's bytes.
#[derive(Debug, Default)]
pub struct Account {
    /// Decoded bytes.
    pub bytes: u64,
    /// Of them, in records, line ends and filler.
    pub bytes_used: u64,
    /// Records that gave at least one row.
    pub records: u64,
    /// Rows.
    pub events: u64,
    /// Rows without a time.
    pub undated: u64,
    /// Records that could not be read.
    pub failed: u64,
    /// The earliest time.
    pub first: Option<Timestamp>,
    /// The latest time.
    pub last: Option<Timestamp>,
    /// The first rejects: offset, length, reason.
    pub rejects: Vec<(Span, Cow<'static, str>)>,
    /// Why reading stopped before the end.
    pub stopped: Option<String>,
}

impl Account {
    fn reject(&mut self, span: Span, reason: Cow<'static, str>) {
        self.failed += 1;
        if self.rejects.len() < LISTED_REJECTS {
            self.rejects.push((span, reason));
        }
    }
}

/// Hands rows on, and keeps the account.
pub(crate) struct Accounting<'a> {
    account: Account,
    last: Option<Span>,
    rows: &'a mut dyn FnMut(Event),
}

impl<'a> Accounting<'a> {
    pub(crate) fn new(rows: &'a mut dyn FnMut(Event)) -> Accounting<'a> {
        Accounting { account: Account::default(), last: None, rows }
    }

    pub(crate) fn into_account(self) -> Account {
        self.account
    }
}

impl Sink for Accounting<'_> {
    fn event(&mut self, event: Event) {
        let account = &mut self.account;
        account.events += 1;
        match event.time {
            Some(time) => {
                account.first = Some(account.first.map_or(time, |first| first.min(time)));
                account.last = Some(account.last.map_or(time, |last| last.max(time)));
            }
            None => account.undated += 1,
        }
        if self.last != Some(event.span) {
            self.last = Some(event.span);
            account.records += 1;
            account.bytes_used = account.bytes_used.saturating_add(event.span.length);
        }
        (self.rows)(event);
    }

    fn reject(&mut self, span: Span, reason: Cow<'static, str>) {
        self.account.reject(span, reason);
    }

    fn filler(&mut self, span: Span) {
        self.account.bytes_used = self.account.bytes_used.saturating_add(span.length);
    }
}

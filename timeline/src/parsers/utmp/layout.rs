//! The four layouts of a login record.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Linux gives no process a higher id.
const HIGHEST_PID: i32 = 1 << 22;
/// 1980: no utmp is older. As long as seconds have 32 bits, none is younger than 2106.
const POSSIBLE_TIMES: std::ops::Range<i64> = 315_532_800..1 << 32;

/// How many records of a file's start look like login records, and how many do not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Score {
    pub(super) good: usize,
    pub(super) bad: usize,
}

/// Size and byte order of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Session and time have 64 bits: 400 bytes instead of 384.
    is_long: bool,
    is_big_endian: bool,
}

/// A login record's fields.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: i16,
    pub(super) pid: i32,
    pub(super) line: &'a [u8],
    pub(super) id: &'a [u8],
    pub(super) user: &'a [u8],
    pub(super) host: &'a [u8],
    /// Signal and status.
    pub(super) exit: (i16, i16),
    pub(super) session: i64,
    pub(super) seconds: i64,
    pub(super) micros: i64,
    pub(super) address: Option<IpAddr>,
    pub(super) unused: &'a [u8],
}

impl Record<'_> {
    /// The type as `utmp.h` names it.
    pub(super) fn kind_name(&self) -> &'static str {
        const NAMES: [&str; 10] = [
            "EMPTY",
            "RUN_LVL",
            "BOOT_TIME",
            "NEW_TIME",
            "OLD_TIME",
            "INIT_PROCESS",
            "LOGIN_PROCESS",
            "USER_PROCESS",
            "DEAD_PROCESS",
            "ACCOUNTING",
        ];
        usize::try_from(self.kind).ok().and_then(|kind| NAMES.get(kind)).copied().unwrap_or("?")
    }

    fn is_plausible(&self) -> bool {
        let printable = |field: &[u8]| !field.iter().take_while(|b| **b != 0).any(|b| *b < 32 || *b == 127);
        let time =
            POSSIBLE_TIMES.contains(&self.seconds) || (self.seconds == 0 && matches!(self.kind, 0 | 8));
        time && (0..1_000_000).contains(&self.micros)
            && (0..=HIGHEST_PID).contains(&self.pid)
            && printable(self.line)
            && printable(self.host)
            && (self.kind != 0
                || self.line.first() != Some(&0)
                || self.user.first() != Some(&0)
                || self.seconds != 0)
    }
}

impl Layout {
    const ALL: [Layout; 4] = [
        Layout { is_long: false, is_big_endian: false },
        Layout { is_long: true, is_big_endian: false },
        Layout { is_long: false, is_big_endian: true },
        Layout { is_long: true, is_big_endian: true },
    ];

    /// Bytes of a record.
    pub(super) fn size(self) -> usize {
        if self.is_long { 400 } else { 384 }
    }

    /// The layout of one record, of which the size says more than the content.
    pub(super) fn of_one(bytes: &[u8]) -> Option<Layout> {
        let possible = |layout: &&Layout| layout.size() == bytes.len() && layout.record(bytes).is_ok();
        let plausible = |layout: &&Layout| layout.record(bytes).is_ok_and(|record| record.is_plausible());
        let mut all = Layout::ALL.iter().filter(possible);
        all.clone().find(plausible).or_else(|| all.next()).copied()
    }

    /// The layout that most records of `head` have; `None` where no layout fits a single one.
    ///
    /// `left` is the length of everything from the start of `head` on, where known.
    pub(super) fn detect(head: &[u8], left: Option<u64>) -> Option<(Layout, Score)> {
        let score = |layout: Layout| {
            let mut score = Score::default();
            for bytes in head.chunks_exact(layout.size()).filter(|bytes| bytes.iter().any(|b| *b != 0)) {
                match layout.record(bytes) {
                    Ok(record) if record.is_plausible() => score.good += 1,
                    _ => score.bad += 1,
                }
            }
            (layout, score)
        };
        let even = |layout: Layout| left.is_some_and(|left| left % layout.size() as u64 == 0);
        Layout::ALL
            .into_iter()
            .map(score)
            .filter(|(_, score)| score.good > 0)
            .rev()
            .max_by_key(|(layout, score)| (score.good, Reverse(score.bad), even(*layout)))
    }

    /// The record in `bytes`, or why it is none.
    pub(super) fn record(self, bytes: &[u8]) -> Result<Record<'_>, String> {
        let field = |at: usize, length: usize| bytes.get(at..).and_then(|b| b.get(..length)).unwrap_or(&[]);
        let number = |at: usize, length: usize| -> u64 {
            let push = |n: u64, b: &u8| n << 8 | u64::from(*b);
            let field = field(at, length);
            if self.is_big_endian { field.iter().fold(0, push) } else { field.iter().rev().fold(0, push) }
        };
        let kind = number(0, 2) as i16;
        let (session, time) =
            if self.is_long { (number(336, 8) as i64, 344) } else { (number(336, 4) as i32 as i64, 340) };
        // glibc reads the 32 bits without a sign since 2.40, so that they last until 2106.
        let (seconds, micros, address) = if self.is_long {
            (number(time, 8) as i64, number(time + 8, 8) as i64, time + 16)
        } else {
            (number(time, 4) as i64, i64::from(number(time + 4, 4) as i32), time + 8)
        };
        if !(0..=9).contains(&kind) {
            return Err(format!("no login record is of type {kind}"));
        }
        if seconds != 0 && !(0..POSSIBLE_TIMES.end).contains(&seconds) {
            return Err(format!("no login record is from {seconds} seconds after 1970"));
        }
        let record = Record {
            kind,
            pid: number(4, 4) as i32,
            line: field(8, 32),
            id: field(40, 4),
            user: field(44, 32),
            host: field(76, 256),
            exit: (number(332, 2) as i16, number(334, 2) as i16),
            session,
            seconds,
            micros,
            address: ip(field(address, 16)),
            unused: field(address + 16, 20),
        };
        // Only the other types tell the byte order of a record that is not all right.
        if kind == 0 && bytes.iter().any(|b| *b != 0) && !record.is_plausible() {
            return Err("what is left in an empty record is no login record".into());
        }
        Ok(record)
    }
}

/// An IPv4 address has the first four bytes only.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let all: &[u8; 16] = bytes.first_chunk()?;
    let (four, rest) = all.split_first_chunk::<4>()?;
    if rest.iter().any(|b| *b != 0) {
        return Some(Ipv6Addr::from(*all).into());
    }
    four.iter().any(|b| *b != 0).then(|| Ipv4Addr::from(*four).into())
}

//! The head of a syslog line: priority, time, host, program, process id.

use crate::year::YearlessTime;

/// A clock time as it was written; its numbers may be out of range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Clock {
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
    pub(super) nanos: u32,
    /// Digits behind the second.
    pub(super) digits: usize,
}

/// Year, month and day as they were written.
type Date = (i32, u32, u32);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When<'l> {
    /// RFC 5424 says that the time is not known.
    Nil,
    /// With a year, and with `offset` seconds east of UTC where it names one.
    Full { text: &'l str, date: Date, clock: Clock, offset: Option<i32> },
    /// Without a year; `time` where the numbers can be a time at all.
    Yearless { text: &'l str, month: u32, day: u32, clock: Clock, time: Option<YearlessTime> },
}

/// What a record of any form starts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Opening<'l> {
    /// `<pri>`: facility × 8 + level.
    pub(super) priority: Option<u16>,
    /// Whether it is RFC 5424, whose fields stand in a fixed order.
    pub(super) version: bool,
    pub(super) when: When<'l>,
    /// Everything behind the time.
    pub(super) rest: &'l [u8],
}

/// The opening of a record, or `None` where the line has no date.
pub(super) fn opening(line: &[u8]) -> Option<Opening<'_>> {
    let mut at = Cursor { rest: line };
    let priority = at.priority();
    if let Some(month) = at.month() {
        return traditional(line, at, priority, month);
    }
    let version = at.version();
    if version && at.eat(b"- ") {
        return Some(Opening { priority, version, when: When::Nil, rest: at.rest });
    }
    let start = at.rest;
    match at.iso() {
        Some((date, clock, offset)) if at.at_break() => {
            let text = at.since(start);
            Some(Opening { priority, version, when: When::Full { text, date, clock, offset }, rest: at.rest })
        }
        _ => None,
    }
}

/// `Nov  9 10:00:00 …`, from behind the month; also with a year behind the day.
fn traditional<'l>(
    line: &'l [u8],
    mut at: Cursor<'l>,
    priority: Option<u16>,
    month: u32,
) -> Option<Opening<'l>> {
    // The text of the time begins at the month, three bytes back.
    let start = line.get(line.len().checked_sub(at.rest.len())?.checked_sub(3)?..)?;
    if !at.eat(b" ") {
        return None;
    }
    let _padding = at.eat(b" ");
    let day = at.number(1, 2)?;
    if !at.eat(b" ") {
        return None;
    }
    let mut with_year = at;
    let year = with_year.number(4, 4).filter(|_| with_year.eat(b" "));
    if year.is_some() {
        at = with_year;
    }
    let clock = at.clock()?;
    if !at.at_break() {
        return None;
    }
    let text = at.since(start);
    let when = match year.and_then(|y| i32::try_from(y).ok()) {
        Some(year) => When::Full { text, date: (year, month, day), clock, offset: None },
        None => {
            let Clock { hour, minute, second, .. } = clock;
            // A day that no year has must not turn the year of the lines behind it.
            let possible = (1..=last_day(month)).contains(&day) && hour < 24 && minute < 60 && second <= 60;
            let second_of_day = hour.saturating_mul(3600).saturating_add(minute * 60).saturating_add(second);
            let time = possible.then_some(YearlessTime { month, day, second_of_day });
            When::Yearless { text, month, day, clock, time }
        }
    };
    Some(Opening { priority, version: false, when, rest: at.rest })
}

fn last_day(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[derive(Clone, Copy)]
struct Cursor<'l> {
    rest: &'l [u8],
}

impl<'l> Cursor<'l> {
    fn eat(&mut self, word: &[u8]) -> bool {
        match self.rest.strip_prefix(word) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A number of `least` to `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let digits = self.rest.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let (number, rest) = self.rest.split_at_checked(digits)?;
        self.rest = rest;
        Some(
            number.iter().fold(0u32, |n, b| n.wrapping_mul(10).wrapping_add(u32::from(b.wrapping_sub(b'0')))),
        )
    }

    /// `<13>`; takes nothing where there is none.
    fn priority(&mut self) -> Option<u16> {
        let mut ahead = *self;
        if !ahead.eat(b"<") {
            return None;
        }
        let number = ahead.number(1, 3)?;
        if !ahead.eat(b">") {
            return None;
        }
        *self = ahead;
        u16::try_from(number).ok().filter(|n| *n < 192)
    }

    /// `1 ` of RFC 5424.
    fn version(&mut self) -> bool {
        let mut ahead = *self;
        let found = ahead.number(1, 2).is_some() && ahead.eat(b" ");
        if found {
            *self = ahead;
        }
        found
    }

    fn month(&mut self) -> Option<u32> {
        let month = match self.rest.first_chunk::<3>()? {
            b"Jan" => 1,
            b"Feb" => 2,
            b"Mar" => 3,
            b"Apr" => 4,
            b"May" => 5,
            b"Jun" => 6,
            b"Jul" => 7,
            b"Aug" => 8,
            b"Sep" => 9,
            b"Oct" => 10,
            b"Nov" => 11,
            b"Dec" => 12,
            _ => return None,
        };
        self.rest = self.rest.get(3..)?;
        Some(month)
    }

    /// `10:00:00`, with any number of digits behind a point or comma.
    fn clock(&mut self) -> Option<Clock> {
        let hour = self.number(2, 2)?;
        let minute = self.eat(b":").then(|| self.number(2, 2))??;
        let second = self.eat(b":").then(|| self.number(2, 2))??;
        let (mut nanos, mut digits) = (0u32, 0usize);
        if let Some([b'.' | b',', first, ..]) = self.rest.first_chunk::<2>()
            && first.is_ascii_digit()
        {
            let fraction = self.rest.get(1..)?;
            digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            for n in 0..9 {
                let digit =
                    fraction.get(n).filter(|_| n < digits).map_or(0, |b| u32::from(b.wrapping_sub(b'0')));
                nanos = nanos * 10 + digit;
            }
            self.rest = fraction.get(digits..)?;
        }
        Some(Clock { hour, minute, second, nanos, digits })
    }

    /// `2026-11-09T10:00:00.123456+00:00`, also without its zone.
    fn iso(&mut self) -> Option<(Date, Clock, Option<i32>)> {
        let year = i32::try_from(self.number(4, 4)?).ok()?;
        let month = self.eat(b"-").then(|| self.number(2, 2))??;
        let day = self.eat(b"-").then(|| self.number(2, 2))??;
        let clock = self.eat(b"T").then(|| self.clock())??;
        let sign = match self.rest.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(b'Z') => 0,
            _ => return Some(((year, month, day), clock, None)),
        };
        self.rest = self.rest.get(1..)?;
        if sign == 0 {
            return Some(((year, month, day), clock, Some(0)));
        }
        let hours = i32::try_from(self.number(2, 2)?).ok()?;
        let _colon = self.eat(b":");
        let minutes = i32::try_from(self.number(2, 2).unwrap_or(0)).ok()?;
        if hours > 18 || minutes > 59 {
            return None;
        }
        Some(((year, month, day), clock, Some(sign * (hours * 3600 + minutes * 60))))
    }

    /// Whether the time ends here.
    fn at_break(&self) -> bool {
        matches!(self.rest.first(), None | Some(b' ' | b':'))
    }

    /// The text from `start` to here. A time is ASCII.
    fn since(&self, start: &'l [u8]) -> &'l str {
        let length = start.len().saturating_sub(self.rest.len());
        start.get(..length).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
    }
}

/// What stands between the time and the message.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Header<'t> {
    pub(super) host: Option<&'t str>,
    pub(super) program: Option<&'t str>,
    pub(super) pid: Option<&'t str>,
    /// A level written as a word (ChromeOS, macOS).
    pub(super) level: Option<&'t str>,
    /// macOS: the job that `launchd` speaks of.
    pub(super) sender: Option<&'t str>,
    pub(super) message_id: Option<&'t str>,
    pub(super) structured: Option<&'t str>,
    /// The message behind `program[pid]: `.
    pub(super) text: &'t str,
    /// The same with `program[pid]: ` as it was written, where it was.
    whole: Option<&'t str>,
}

impl<'t> Header<'t> {
    /// Reads `rest`, the text behind the time of `open`.
    pub(super) fn new(open: &Opening<'_>, rest: &'t str) -> Header<'t> {
        if open.version {
            return Header::rfc5424(rest.strip_prefix(' ').unwrap_or(rest));
        }
        // `Feb 29 01:15:43: --- …` has neither host nor program.
        if let Some(text) = rest.strip_prefix(':') {
            return Header { text: text.trim(), ..Header::default() };
        }
        let rest = rest.trim_start_matches(' ');
        if let Some(header) = Header::tagged(rest, 1) {
            return header;
        }
        if rest.starts_with("last message ") || rest.starts_with("--- ") {
            return Header { text: rest, ..Header::default() };
        }
        let Some((first, behind)) = rest.split_once(' ') else {
            return Header { text: rest, ..Header::default() };
        };
        let behind = behind.trim_start_matches(' ');
        let tagged = Header::tagged(behind, 4);
        if let (Some(header), When::Full { .. }) = (tagged, open.when)
            && is_level(first)
        {
            return Header { level: Some(first), ..header };
        }
        Header { host: Some(first), ..tagged.unwrap_or(Header { text: behind, ..Header::default() }) }
    }

    /// The message as one line with its program, and where in it the text begins.
    pub(super) fn shown(&self) -> (String, usize) {
        if let Some(whole) = self.whole {
            return (whole.trim_end().to_owned(), whole.len().saturating_sub(self.text.len()));
        }
        let mut out = String::with_capacity(self.text.len().saturating_add(32));
        if let Some(program) = self.program {
            out.push_str(program);
            if let Some(pid) = self.pid {
                out.push('[');
                out.push_str(pid);
                out.push(']');
            }
            out.push_str(": ");
        }
        let at = out.len();
        out.push_str(self.text.trim());
        out.truncate(out.trim_end().len());
        (out, at)
    }

    /// `program[pid]: text` and its kin; the program's name may have up to `words` words.
    fn tagged(text: &'t str, words: usize) -> Option<Header<'t>> {
        let (first, behind) = text.split_once(' ').unwrap_or((text, ""));
        let mut header = Header { whole: Some(text), ..Header::default() };
        if let Some(name) = first.strip_suffix(':') {
            let (program, pid) = name_and_pid(name);
            if program.is_empty() || program.contains(['[', ']']) {
                return None;
            }
            return Some(Header { program: Some(program), pid, text: behind, ..header });
        }
        if let (name, Some(pid)) = name_and_pid(first)
            && is_number(pid)
            && !name.is_empty()
        {
            // macOS: `launchd[1] (com.apple.x) <Notice>: text`
            header.program = Some(name);
            header.pid = Some(pid);
            let mut text = behind;
            if let Some((sender, rest)) = text.strip_prefix('(').and_then(|t| t.split_once(')'))
                && rest.starts_with([':', ' '])
            {
                header.sender = Some(sender);
                text = rest.trim_start_matches([':', ' ']);
            }
            if let Some((level, rest)) = text.strip_prefix('<').and_then(|t| t.split_once(">: "))
                && is_level(level)
            {
                header.level = Some(level);
                text = rest;
            }
            return Some(Header { text, ..header });
        }
        // No space behind the colon, or a name of several words: `Google Chrome Helper[123]: text`.
        let (head, behind) = text.split_once("]:")?;
        let (program, pid) = head.rsplit_once('[')?;
        let named = !program.is_empty() && program.len() <= 64 && program.split(' ').count() <= words;
        let odd = program.ends_with(' ') || program.contains([':', '(', '[', ']', '`', '"', '=']);
        (named && !odd && is_number(pid)).then_some(Header {
            program: Some(program),
            pid: Some(pid),
            text: behind.trim_start_matches(' '),
            ..header
        })
    }

    /// `HOST APP PROCID MSGID STRUCTURED-DATA MSG`
    fn rfc5424(rest: &'t str) -> Header<'t> {
        let mut rest = rest;
        let mut field = || {
            let (field, behind) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = behind;
            Some(field).filter(|f| *f != "-" && !f.is_empty())
        };
        let (host, program, pid, message_id) = (field(), field(), field(), field());
        let (structured, text) = match rest.strip_prefix('-') {
            Some(text) => (None, text),
            None => match super::structured::split(rest) {
                Some((data, text)) => (Some(data), text),
                None => (None, rest),
            },
        };
        let text = text.trim_start_matches(' ').trim_start_matches('\u{feff}');
        Header { host, program, pid, message_id, structured, text, ..Header::default() }
    }
}

/// `sshd` and `77` of `sshd[77]`.
fn name_and_pid(tag: &str) -> (&str, Option<&str>) {
    match tag.strip_suffix(']').and_then(|t| t.rsplit_once('[')) {
        Some((name, pid)) => (name, Some(pid)),
        None => (tag, None),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 10 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_level(word: &str) -> bool {
    crate::parsers::syslog_messages::severity_of_word(word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(line: &str) -> String {
        let Some(open) = opening(line.as_bytes()) else { return "no date".into() };
        let header = Header::new(&open, std::str::from_utf8(open.rest).unwrap());
        let when = match open.when {
            When::Nil => "nil".to_owned(),
            When::Full { date: (y, m, d), clock, offset, .. } => {
                format!("{y}/{m}/{d} {} {offset:?}", clock.nanos)
            }
            When::Yearless { month, day, clock, time, .. } => {
                format!("{month}/{day} {} {}", clock.nanos, time.is_some())
            }
        };
        let (shown, at) = header.shown();
        assert_eq!(shown.get(at..).unwrap_or(""), header.text.trim_end(), "{line}");
        let f = |o: Option<&str>| o.unwrap_or("-").to_owned();
        format!(
            "{when} | {} {} {} {} | {shown}",
            f(header.host),
            f(header.program),
            f(header.pid),
            f(header.level)
        )
    }

    #[test]
    fn traditional_lines_come_with_and_without_host_program_and_pid() {
        assert_eq!(
            head("Nov  9 10:00:00 web01 sshd[77]: hello"),
            "11/9 0 true | web01 sshd 77 - | sshd[77]: hello"
        );
        assert_eq!(
            head("Nov  9 10:00:00 web01 sudo:    bob : x"),
            "11/9 0 true | web01 sudo - - | sudo:    bob : x"
        );
        assert_eq!(
            head("<13>Nov 19 10:00:00.25 web01 kernel: x"),
            "11/19 250000000 true | web01 kernel - - | kernel: x"
        );
        assert_eq!(head("Nov 19 2026 10:00:00 web01 a: x"), "2026/11/19 0 None | web01 a - - | a: x");
        assert_eq!(
            head("Nov 18 08:30:20 kernel: [997.3] sda2"),
            "11/18 0 true | - kernel - - | kernel: [997.3] sda2"
        );
        assert_eq!(head("Feb 29 01:15:43: --- text ---"), "2/29 0 true | - - - - | --- text ---");
        assert_eq!(
            head("Jan 22 07:54:32 web01 Job `cron.daily' ended"),
            "1/22 0 true | web01 - - - | Job `cron.daily' ended"
        );
        assert_eq!(
            head("Jan 22 07:54:32 web01 last message repeated 2 times"),
            "1/22 0 true | web01 - - - | last message repeated 2 times"
        );
        assert_eq!(
            head("Jan 22 07:54:32 last message repeated 2 times"),
            "1/22 0 true | - - - - | last message repeated 2 times"
        );
        assert_eq!(head("Dec 31 25:61:61 web01 a: x"), "12/31 0 false | web01 a - - | a: x");
        assert_eq!(head("Nov  9 10:00:00"), "11/9 0 true | - - - - | ");
    }

    #[test]
    fn lines_that_only_resemble_a_date_have_none() {
        for line in [
            "",
            "MMM 22 07:54:32 web01 x: y",
            "Nov 9",
            "Nov 09 10:00",
            "Nov 09 10:00:00x",
            "2026-11-09 10:00:00 x",
            "2026-11-09T10:00:00+99:00 web01 x: y",
            "<>Nov  9 10:00:00 web01 x: y",
            "1 web01",
            "Novel 09 10:00:00",
        ] {
            assert_eq!(head(line), "no date", "{line}");
        }
    }

    #[test]
    fn iso_lines_name_their_zone_and_chromeos_its_level() {
        assert_eq!(
            head("2026-11-09T10:00:00.123456+00:00 web01 sshd[7]: hi"),
            "2026/11/9 123456000 Some(0) | web01 sshd 7 - | sshd[7]: hi"
        );
        assert_eq!(
            head("2016-10-25T12:37:23.297265-07:00 ERR kernel: [ 3.1] x"),
            "2016/10/25 297265000 Some(-25200) | - kernel - ERR | kernel: [ 3.1] x"
        );
        assert_eq!(head("2026-11-09T10:00:00 web01 a: b"), "2026/11/9 0 None | web01 a - - | a: b");
        assert_eq!(head("<30>2026-11-09T10:00:00Z web01 a: b"), "2026/11/9 0 Some(0) | web01 a - - | a: b");
    }

    #[test]
    fn macos_lines_give_level_and_sender() {
        assert_eq!(
            head("Mar 11 19:26:45 mac fw[1985] <Info>: Allow"),
            "3/11 0 true | mac fw 1985 Info | fw[1985] <Info>: Allow"
        );
        assert_eq!(
            head("Mar 11 19:26:45 mac com.apple.xpc.launchd[1] (com.apple.x[9]) <Notice>: go"),
            "3/11 0 true | mac com.apple.xpc.launchd 1 Notice | com.apple.xpc.launchd[1] (com.apple.x[9]) <Notice>: go"
        );
        assert_eq!(
            head("Mar 11 19:26:45 mac Google Chrome Helper[12]: go"),
            "3/11 0 true | mac Google Chrome Helper 12 - | Google Chrome Helper[12]: go"
        );
    }

    #[test]
    fn rfc_5424_fields_stand_in_their_order() {
        assert_eq!(
            head("<165>1 2026-11-09T10:00:00.003Z web01 evntslog 77 ID47 [a@1 k=\"x ] y\"] \u{feff}text"),
            "2026/11/9 3000000 Some(0) | web01 evntslog 77 - | evntslog[77]: text"
        );
        assert_eq!(head("<14>1 - - - - - -"), "nil | - - - - | ");
        assert_eq!(
            head("<14>1 2021-03-06T04:07:38+00:00 h tag - 123 -  text"),
            "2021/3/6 0 Some(0) | h tag - - | tag: text"
        );
    }
}

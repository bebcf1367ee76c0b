//! Dates and clock times as logs write them.

use crate::event::{Event, Precision, Timestamp, TzBasis};
use crate::parser::Context;
use crate::text::clean;
use crate::zone::{civil, offset_timestamp};

/// A date and clock time as it was written; its numbers may be out of range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Written<'l> {
    /// What was read.
    text: &'l [u8],
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    /// Digits behind the second.
    digits: usize,
    /// Seconds east of UTC, where it says.
    offset: Option<i32>,
}

impl<'l> Written<'l> {
    /// Reads a time of the form of `pattern` at the start of `line`, and gives what stands behind it.
    ///
    /// In a pattern `YMDhms` stand for digits, `b` for the three letters of a month, `w` for those of a weekday, `.`
    /// for any number of digits behind the second or none, `Z` for an offset or none; anything else for itself.
    pub(super) fn read(line: &'l [u8], pattern: &[u8]) -> Option<(Written<'l>, &'l [u8])> {
        let mut time = Written::default();
        let mut rest = line;
        let mut pattern = pattern.iter();
        while let Some(form) = pattern.next() {
            match form {
                b'.' => rest = time.fraction(rest),
                b'Z' => rest = time.zone(rest)?,
                b'b' => {
                    time.month = month(rest.first_chunk()?)?;
                    rest = rest.get(3..)?;
                    pattern.nth(1);
                }
                _ => {
                    let (byte, behind) = rest.split_first()?;
                    rest = behind;
                    let field = match form {
                        b'Y' => &mut time.year,
                        b'M' => &mut time.month,
                        b'D' => &mut time.day,
                        b'h' => &mut time.hour,
                        b'm' => &mut time.minute,
                        b's' => &mut time.second,
                        b'w' if byte.is_ascii_alphabetic() => continue,
                        literal if literal == byte => continue,
                        _ => return None,
                    };
                    if !byte.is_ascii_digit() {
                        return None;
                    }
                    *field = field.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')));
                }
            }
        }
        time.text = line.get(..line.len().saturating_sub(rest.len()))?;
        Some((time, rest))
    }

    fn fraction<'r>(&mut self, rest: &'r [u8]) -> &'r [u8] {
        let Some(fraction) = rest.strip_prefix(b".") else { return rest };
        self.digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        for n in 0..9 {
            let digit = fraction.get(n).filter(|_| n < self.digits).map_or(0, |b| b.wrapping_sub(b'0'));
            self.nanos = self.nanos * 10 + u32::from(digit);
        }
        if self.digits == 0 { rest } else { fraction.get(self.digits..).unwrap_or(&[]) }
    }

    /// `Z`, `+0200` or `+02:00`.
    fn zone<'r>(&mut self, rest: &'r [u8]) -> Option<&'r [u8]> {
        let two = |at: usize| match rest.get(at..at.checked_add(2)?)? {
            [t, u] if t.is_ascii_digit() && u.is_ascii_digit() => {
                Some(i32::from(t.wrapping_sub(b'0')) * 10 + i32::from(u.wrapping_sub(b'0')))
            }
            _ => None,
        };
        let sign = match rest.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(b'Z') => {
                self.offset = Some(0);
                return rest.get(1..);
            }
            _ => return Some(rest),
        };
        let colon = usize::from(rest.get(3) == Some(&b':'));
        let (hours, minutes) = (two(1)?, two(3 + colon)?);
        if hours > 18 || minutes > 59 {
            return None;
        }
        self.offset = Some(sign * (hours * 3600 + minutes * 60));
        rest.get(5 + colon..)
    }

    /// Gives `event` this time. Where there is no such date it stays undated; then, and where the time says more
    /// than a timestamp holds (a leap second, a tenth digit), the text is kept.
    ///
    /// A time that names no offset is local, or UTC where `utc` says that the format means that.
    pub(super) fn date(&self, event: Event, context: &Context, utc: bool) -> Event {
        let time = self.timestamp(context, utc);
        let precision = Precision::of_fraction(self.digits);
        let mut event = match time {
            Some((time, basis)) => event.at(time, precision, basis),
            None => event,
        };
        if time.is_none() || self.second == 60 || self.digits > 9 {
            // The brackets and spaces of the pattern are not the time's.
            event.ts_text = Some(clean(self.text).trim_matches([' ', '[', ']', '"']).to_owned());
        }
        event
    }

    fn timestamp(&self, context: &Context, utc: bool) -> Option<(Timestamp, TzBasis)> {
        let year = i32::try_from(self.year).ok()?;
        let local = civil(year, self.month, self.day, self.hour, self.minute, self.second)?;
        match self.offset {
            Some(offset) => Some((offset_timestamp(local, offset, self.nanos)?, TzBasis::InRecord)),
            None if utc => Some((offset_timestamp(local, 0, self.nanos)?, TzBasis::UtcByFormat)),
            None => context.local(local, self.nanos),
        }
    }
}

fn month(name: &[u8; 3]) -> Option<u32> {
    const NAMES: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = NAMES.chunks_exact(3).position(|month| month == name)?;
    u32::try_from(at).ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;
    use crate::zone::{KnownZone, Zone};

    fn read(text: &str, pattern: &str) -> String {
        let zone = KnownZone { zone: Zone::from_name("Europe/Berlin").unwrap(), basis: TzBasis::HostConfig };
        let context = Context { zone, ..Context::default() };
        let Some((time, rest)) = Written::read(text.as_bytes(), pattern.as_bytes()) else {
            return "none".into();
        };
        let event = time.date(Event::new("x", "x", Span::default(), ""), &context, false);
        let when = event.time.map_or("undated".into(), |t| t.to_rfc3339());
        let kept = event.ts_text.unwrap_or_default();
        format!("{when} {} {} [{kept}] {}", event.ts_precision.as_str(), event.tz_basis.as_str(), clean(rest))
    }

    #[test]
    fn local_times_and_times_with_an_offset_become_utc() {
        assert_eq!(
            read("2026-11-18 10:00:00 x", "YYYY-MM-DD hh:mm:ss"),
            "2026-11-18T09:00:00Z s host_config []  x"
        );
        assert_eq!(
            read("18/Nov/2026:10:00:00 -0330]", "DD/bbb/YYYY:hh:mm:ss Z"),
            "2026-11-18T13:30:00Z s in_record [] ]"
        );
        assert_eq!(
            read("2026-11-18T10:00:00.123456789+02:00", "YYYY-MM-DDThh:mm:ss.Z"),
            "2026-11-18T08:00:00.123456789Z ns in_record [] "
        );
        assert_eq!(
            read("Wed Nov 18 10:00:00.5 2026]", "www bbb DD hh:mm:ss. YYYY"),
            "2026-11-18T09:00:00.500Z ms host_config [] ]"
        );
    }

    #[test]
    fn an_impossible_time_is_kept_as_text_and_another_form_is_no_time() {
        assert_eq!(
            read("2026-02-29 10:00:00", "YYYY-MM-DD hh:mm:ss"),
            "undated s in_record [2026-02-29 10:00:00] "
        );
        assert_eq!(
            read("2016-12-31T23:59:60Z", "YYYY-MM-DDThh:mm:ss.Z"),
            "2016-12-31T23:59:59Z s in_record [2016-12-31T23:59:60Z] "
        );
        for text in ["", "2026-11-18", "2026-11-18T10:00:00", "2o26-11-18 10:00:00", "2026-11-18 10:00:0"] {
            assert_eq!(read(text, "YYYY-MM-DD hh:mm:ss"), "none", "{text}");
        }
        assert_eq!(read("18/Nox/2026", "DD/bbb/YYYY"), "none");
        assert_eq!(read("10 +99:00", "hh Z"), "none");
    }
}

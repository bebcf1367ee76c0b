//! DER (X.690) as certificates and time-stamp tokens need it: elements with the exact bytes they stand in.
//!
//! What was signed are bytes as stored, so nothing here is decoded and written anew. Only what DER allows is read:
//! definite lengths in their shortest form, tags below 31. No length is believed beyond the bytes that are there.

use chrono::NaiveDate;

use crate::error::{Error, Result};

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a constructed element `[number]`.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// The tag of a primitive element `[number]`.
pub(super) const fn context_plain(number: u8) -> u8 {
    0x80 | number
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements within it.
    pub(super) fn inner(&self) -> Reader<'a> {
        Reader { rest: self.content }
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The one element that `bytes` are.
    pub(super) fn only(bytes: &'a [u8], tag: u8) -> Result<Element<'a>> {
        let mut reader = Self::new(bytes);
        let element = reader.take(tag)?;
        reader.end()?;
        Ok(element)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    pub(super) fn any(&mut self) -> Result<Element<'a>> {
        let whole = self.rest;
        let (&tag, rest) = whole.split_first().ok_or_else(|| bad("it ends where an element is due"))?;
        if tag & 0x1f == 0x1f {
            return Err(bad("a tag of more than one byte"));
        }
        let (&first, rest) = rest.split_first().ok_or_else(|| bad("it ends where a length is due"))?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            // 0x80 is the indefinite length of BER; nothing here comes near 4 GiB.
            if count == 0 || count > 4 {
                return Err(bad("a length that DER does not allow"));
            }
            let (bytes, rest) = rest.split_at_checked(count).ok_or_else(|| bad("it ends within a length"))?;
            let length = bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            if length < 0x80 || bytes.first() == Some(&0) {
                return Err(bad("a length that is not in its shortest form"));
            }
            (length, rest)
        };
        let (content, rest) =
            rest.split_at_checked(length).ok_or_else(|| bad("an element is longer than what is there"))?;
        let used = whole.len().saturating_sub(rest.len());
        self.rest = rest;
        Ok(Element { tag, content, whole: whole.get(..used).unwrap_or_default() })
    }

    /// The next element, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<Element<'a>> {
        let found = self.any()?;
        if found.tag != tag {
            return Err(bad(format!("tag {:#04x} where {tag:#04x} is due", found.tag)));
        }
        Ok(found)
    }

    /// The next element when it has this tag.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<Element<'a>>> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }

    /// That nothing follows.
    pub(super) fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(bad(format!("{} bytes too many", self.rest.len()))) }
    }

    /// The bytes of an INTEGER of DER, sign byte included.
    pub(super) fn integer(&mut self) -> Result<&'a [u8]> {
        let bytes = self.take(INTEGER)?.content;
        let padded = matches!(bytes, [0, next, ..] if *next < 0x80)
            || matches!(bytes, [0xff, next, ..] if *next >= 0x80);
        if bytes.is_empty() || padded {
            return Err(bad("an integer that is not in its shortest form"));
        }
        Ok(bytes)
    }

    /// A small INTEGER that is not negative.
    pub(super) fn small(&mut self) -> Result<u64> {
        let bytes = self.integer()?;
        small_of(bytes)
    }

    /// The bytes of a BIT STRING that has no unused bits.
    pub(super) fn bits(&mut self) -> Result<&'a [u8]> {
        match self.take(BIT_STRING)?.content.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(bad("a bit string that is not of whole bytes")),
        }
    }

    /// An AlgorithmIdentifier: its OID, and the whole of its parameters.
    pub(super) fn algorithm(&mut self) -> Result<Algorithm<'a>> {
        let mut inner = self.take(SEQUENCE)?.inner();
        let oid = inner.take(OID)?.content;
        let parameters = if inner.is_empty() { None } else { Some(inner.any()?) };
        inner.end()?;
        Ok(Algorithm { oid, parameters })
    }

    /// A UTCTime or GeneralizedTime in UTC.
    pub(super) fn time(&mut self) -> Result<Time> {
        let element = self.any()?;
        match element.tag {
            UTC_TIME => {
                let text = ascii(element.content)?;
                let year = text.get(..2).and_then(|year| year.parse::<u32>().ok());
                // RFC 5280, section 4.1.2.5.1.
                let century = if year.ok_or_else(|| bad("a time that is none"))? < 50 { "20" } else { "19" };
                Time::parse(&format!("{century}{text}"))
            }
            GENERALIZED_TIME => Time::parse(ascii(element.content)?),
            _ => Err(bad("no time where one is due")),
        }
    }
}

/// The value of a small INTEGER that is not negative.
pub(super) fn small_of(bytes: &[u8]) -> Result<u64> {
    if bytes.len() > 8 || bytes.first().is_none_or(|first| *first >= 0x80) {
        return Err(bad("an integer that is negative or too large"));
    }
    Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// An AlgorithmIdentifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm<'a> {
    pub(super) oid: &'a [u8],
    pub(super) parameters: Option<Element<'a>>,
}

/// A point in time, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    /// Seconds since 1970.
    pub(super) seconds: i64,
    pub(super) nanos: u32,
}

impl Time {
    /// `YYYYMMDDHHMMSS[.f…]Z`.
    fn parse(text: &str) -> Result<Self> {
        let none = || bad(format!("{text:?} is no time in UTC"));
        let digits = text.strip_suffix('Z').ok_or_else(none)?;
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, f)| (whole, Some(f)));
        if whole.len() != 14 || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(none());
        }
        let part = |from: usize, to: usize| {
            whole.get(from..to).and_then(|digits| digits.parse::<u32>().ok()).ok_or_else(none)
        };
        let date = NaiveDate::from_ymd_opt(
            i32::try_from(part(0, 4)?).map_err(|_| none())?,
            part(4, 6)?,
            part(6, 8)?,
        );
        let time =
            date.and_then(|date| date.and_hms_opt(part(8, 10).ok()?, part(10, 12).ok()?, part(12, 14).ok()?));
        let mut nanos = 0;
        if let Some(fraction) = fraction {
            // RFC 3161, section 2.4.2: no trailing zeros, so no empty fraction either.
            let plain = fraction.bytes().all(|byte| byte.is_ascii_digit());
            if fraction.is_empty() || fraction.ends_with('0') || !plain {
                return Err(none());
            }
            let padded: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
            nanos = padded.parse().map_err(|_| none())?;
        }
        Ok(Self { seconds: time.ok_or_else(none)?.and_utc().timestamp(), nanos })
    }

    /// RFC 3339, with a fraction only where there is one.
    pub(super) fn rfc3339(self) -> String {
        let format = if self.nanos == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%.fZ" };
        chrono::DateTime::from_timestamp(self.seconds, self.nanos)
            .map(|time| time.format(format).to_string())
            .unwrap_or_default()
    }

    /// The date alone.
    pub(super) fn date(self) -> String {
        chrono::DateTime::from_timestamp(self.seconds, 0)
            .map(|time| time.format("%Y-%m-%d").to_string())
            .unwrap_or_default()
    }
}

/// Writes one element.
pub(super) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let long: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            bytes.push(0x80 | u8::try_from(long.len()).unwrap_or(0x7f));
            bytes.extend(long);
        }
    }
    bytes.extend(content);
    bytes
}

fn ascii(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| bad("a text that is not ASCII"))
}

pub(super) fn bad(why: impl Into<String>) -> Error {
    Error::malformed("DER", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_at_every_length_form() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let whole = write(OCTET_STRING, &vec![7; length]);
            let element = Reader::only(&whole, OCTET_STRING).unwrap();
            assert_eq!((element.content.len(), element.whole), (length, whole.as_slice()));
        }
    }

    #[test]
    fn lengths_that_lie_or_are_not_der_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x01],
            &[0x30, 0x80, 0x00, 0x00],
            &[0x30, 0x81, 0x01, 0x00],
            &[0x30, 0x82, 0x00, 0x80],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0x3f, 0x81, 0x01, 0x00],
        ] {
            assert!(Reader::new(bytes).any().is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn times_are_read_in_both_forms_and_in_utc_only() {
        let time = |tag, text: &str| Reader::new(&write(tag, text.as_bytes())).time().map(Time::rfc3339);
        assert_eq!(time(UTC_TIME, "261121013000Z").unwrap(), "2026-11-21T01:30:00Z");
        assert_eq!(time(UTC_TIME, "991121013000Z").unwrap(), "1999-11-21T01:30:00Z");
        assert_eq!(time(GENERALIZED_TIME, "20261121013000.25Z").unwrap(), "2026-11-21T01:30:00.250Z");
        for text in ["20261121013000", "20261121013000+0100", "20261321013000Z", "20261121013000.50Z", "é"] {
            assert!(time(GENERALIZED_TIME, text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_have_one_form() {
        let small = |bytes: &[u8]| Reader::new(&write(INTEGER, bytes)).small();
        assert_eq!(
            (small(&[0]).unwrap(), small(&[1, 0]).unwrap(), small(&[0, 0x80]).unwrap()),
            (0, 256, 128)
        );
        for bytes in [&[][..], &[0, 1], &[0x80], &[0xff, 0x80], &[1; 9]] {
            assert!(small(bytes).is_err(), "{bytes:02x?}");
        }
    }
}

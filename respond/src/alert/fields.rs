//! Fields of a body whose shape nobody promised: what is not there, or is something else, is empty.

use std::net::IpAddr;

use custody::clock;
use serde_json::Value;

/// How many characters of one text an alert keeps.
const LONGEST: usize = 500;

/// From here on, 2 to the power of 53, floating point leaves out whole numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

static NOTHING: Value = Value::Null;

/// A place in a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        Self(value)
    }

    pub(super) fn value(self) -> &'a Value {
        self.0
    }

    /// The place at the end of a path whose parts are parted by `/`. A part is a key, in the letter case given or else in
    /// the only other one there is, or the index of an array. The empty path leads nowhere else.
    pub(super) fn at(self, path: &str) -> Self {
        Self(path.split('/').filter(|part| !part.is_empty()).fold(self.0, |value, part| step(value, part)))
    }

    /// As [`Fields::at`], with a path of keys parted by `.`, any of which may be joined: `{"a.b":{"c":1}}` has an `a.b.c`.
    pub(super) fn dotted(self, path: &str) -> Self {
        Self(dotted(self.0, path).unwrap_or(&NOTHING))
    }

    pub(super) fn is_there(self) -> bool {
        !self.0.is_null()
    }

    /// One clean line, see [`line()`]: of a text, a number, a truth value, or the first of a list of these.
    pub(super) fn text(self, path: &str) -> String {
        self.at(path).as_text()
    }

    /// A text or number as it is, however long: for ids, which must not become alike. A number that was not read to its last
    /// digit (see [`Fields::is_rounded`]) is none.
    pub(super) fn raw(self, path: &str) -> String {
        match self.at(path).0 {
            Value::String(text) => text.clone(),
            Value::Number(number) if !self.is_rounded(path) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Whether it is a number of which digits were lost: beyond 64 bits only its nearest neighbour is kept, and two ids would be one.
    pub(super) fn is_rounded(self, path: &str) -> bool {
        match self.at(path).0 {
            Value::Number(number) => {
                number.is_f64() && number.as_f64().is_none_or(|figure| figure.abs() >= EXACT)
            }
            _ => false,
        }
    }

    pub(super) fn as_text(self) -> String {
        match self.0 {
            Value::String(text) => line(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Array(items) => match items.first() {
                Some(first) if !first.is_array() => Self(first).as_text(),
                _ => String::new(),
            },
            Value::Null | Value::Object(_) => String::new(),
        }
    }

    /// The first of several places that holds a text.
    pub(super) fn first_text(self, paths: &[&str]) -> String {
        paths.iter().map(|path| self.text(path)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// A number, also when it is written as a text.
    pub(super) fn number(self, path: &str) -> Option<f64> {
        self.at(path).as_number()
    }

    pub(super) fn as_number(self) -> Option<f64> {
        let number = match self.0 {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Array(items) => {
                items.first().filter(|first| !first.is_array()).and_then(|first| Self(first).as_number())
            }
            _ => None,
        };
        number.filter(|number| number.is_finite())
    }

    /// Whether it is `true`, also when that is written as a text.
    pub(super) fn truth(self, path: &str) -> bool {
        match self.at(path).0 {
            Value::Bool(truth) => *truth,
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    /// The items of an array; of anything else, itself alone; of nothing, none.
    pub(super) fn list(self, path: &str) -> impl Iterator<Item = Fields<'a>> {
        let (items, alone) = match self.at(path).0 {
            Value::Array(items) => (items.as_slice(), None),
            Value::Null => ([].as_slice(), None),
            other => ([].as_slice(), Some(Self(other))),
        };
        items.iter().map(Self).chain(alone)
    }

    /// Keys and places of an object.
    pub(super) fn entries(self, path: &str) -> impl Iterator<Item = (&'a str, Fields<'a>)> {
        let map = self.at(path).0.as_object();
        map.into_iter().flatten().map(|(key, value)| (key.as_str(), Self(value)))
    }

    /// A time with a zone, see [`time()`].
    pub(super) fn time(self, path: &str) -> Option<String> {
        time(&self.text(path))
    }

    /// A time in milliseconds since 1970.
    pub(super) fn time_ms(self, path: &str) -> Option<String> {
        epoch(&self.text(path), 1_000_000)
    }
}

fn step<'a>(value: &'a Value, part: &str) -> &'a Value {
    match value {
        Value::Object(map) => {
            if let Some(exact) = map.get(part) {
                return exact;
            }
            // Go and PowerShell read keys in any letter case, so there are senders that write them so.
            let mut other = map.iter().filter(|(key, _)| key.eq_ignore_ascii_case(part));
            match (other.next(), other.next()) {
                (Some((_, value)), None) => value,
                _ => &NOTHING,
            }
        }
        Value::Array(items) => part.parse().ok().and_then(|at: usize| items.get(at)).unwrap_or(&NOTHING),
        _ => &NOTHING,
    }
}

fn dotted<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    if let Some(whole) = map.get(path) {
        return Some(whole);
    }
    // Longest key first. Paths are our own and short, so the number of ways is small.
    let cuts: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
    cuts.into_iter().rev().find_map(|at| {
        let (key, rest) = path.split_at_checked(at)?;
        dotted(map.get(key)?, rest.strip_prefix('.')?)
    })
}

/// One line that is safe to show: at most [`LONGEST`] characters; line ends and tabs become spaces; control characters and
/// those that turn the direction of writing become U+FFFD. The body as it came is kept elsewhere.
pub(crate) fn line(text: &str) -> String {
    let mut line: String = text.trim().chars().take(LONGEST).map(visible).collect();
    if text.trim().chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

fn visible(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// RFC 3339 in UTC with 9 digits of a second, of a time with a zone: any number of digits, `+0000` without its colon.
///
/// `None` when it is no time or says no zone: a guessed zone would put it hours away from where it was.
pub(super) fn time(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let parsed = clock::parse_rfc3339(text).or_else(|error| {
        let (most, zone) = text.len().checked_sub(5).and_then(|at| text.split_at_checked(at)).ok_or(error)?;
        let (hours, minutes) = zone.split_at_checked(3).unwrap_or((zone, ""));
        clock::parse_rfc3339(&format!("{most}{hours}:{minutes}"))
    });
    parsed.ok().map(clock::rfc3339)
}

/// The same of a decimal number of units of so many nanoseconds since 1970.
pub(super) fn epoch(text: &str, unit_ns: i64) -> Option<String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().take_while(char::is_ascii_digit).take(9).collect();
    let part: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let scale = 10_i64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let rest = i64::try_from(i128::from(part) * i128::from(unit_ns) / i128::from(scale)).ok()?;
    let ns = whole.parse::<i64>().ok()?.checked_mul(unit_ns)?.checked_add(rest)?;
    (ns > 0).then(|| clock::rfc3339(ns))
}

/// An address in its one spelling, without a mask, brackets or a port after them; `None` when it is none.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let bare = text.split('/').next()?.trim();
    let bare = match bare.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => bare,
    };
    bare.parse().ok()
}

/// What stands after the last of these characters; all of it where there is none.
pub(super) fn after_last(text: &str, of: [char; 2]) -> &str {
    text.rsplit(of).next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_there_is_empty_and_letter_case_is_forgiven_only_where_it_is_clear() {
        let body = json!({"Rule": "x", "a": {"B": [1, "2", "true"]}, "k": 1, "K": 2, "kK": 3});
        let fields = Fields::of(&body);
        assert_eq!(fields.text("rule"), "x");
        assert_eq!(fields.number("a/b/1"), Some(2.0));
        assert!(fields.truth("a/b/2"));
        assert_eq!(
            (fields.text("k"), fields.text("K"), fields.text("KK")),
            ("1".into(), "2".into(), "3".into())
        );
        assert_eq!(Fields::of(&json!({"kA": 1, "Ka": 2})).text("ka"), "");
        assert_eq!(fields.text("a/b/9/x"), "");
        assert_eq!(fields.list("none").count(), 0);
    }

    #[test]
    fn dotted_keys_are_found_flat_nested_and_mixed() {
        for body in [
            json!({"a.b.c": 1}),
            json!({"a": {"b": {"c": 1}}}),
            json!({"a.b": {"c": 1}}),
            json!({"a": {"b.c": 1}}),
            json!({"a.b": {"x": 0}, "a": {"b.c": 1}}),
        ] {
            assert_eq!(Fields::of(&body).dotted("a.b.c").as_number(), Some(1.0), "{body}");
        }
        assert!(!Fields::of(&json!({"a": {"b": 1}})).dotted("a.b.c").is_there());
    }

    #[test]
    fn times_become_utc_with_nine_digits_and_unzoned_ones_are_not_guessed() {
        let utc = |text| time(text).unwrap();
        assert_eq!(utc("2026-11-21T10:00:00.1234567Z"), "2026-11-21T10:00:00.123456700Z");
        assert_eq!(utc("2026-11-21T10:00:00.123+0100"), "2026-11-21T09:00:00.123000000Z");
        assert_eq!(utc("2026-11-21T10:00:00-08:00"), "2026-11-21T18:00:00.000000000Z");
        for none in
            ["2026-11-21T10:00:00", "2026-11-21", "", "yesterday", "2025-07-03T12:16:01+053088Z", "é+0000"]
        {
            assert_eq!(time(none), None, "{none}");
        }
        assert_eq!(epoch("1795262400123", 1_000_000).unwrap(), "2026-11-21T12:00:00.123000000Z");
        assert_eq!(epoch("1795262400.25", 1_000_000_000).unwrap(), "2026-11-21T12:00:00.250000000Z");
        assert_eq!(epoch("99999999999999999999", 1_000_000), None);
        assert_eq!(epoch("-5", 1_000_000), None);
    }

    #[test]
    fn two_numbers_that_are_read_as_one_are_no_ids() {
        let body = super::super::strict_json::read(
            br#"{"a":18446744073709551617,"b":18446744073709551615,"c":-9223372036854775809,"d":7,"e":1.5,"f":9007199254740993.0}"#,
        )
        .unwrap();
        let fields = Fields::of(&body);
        let raw = ["a", "b", "c", "d", "e", "f"].map(|path| fields.raw(path));
        assert_eq!(raw, ["", "18446744073709551615", "", "7", "1.5", ""]);
        assert!(fields.number("a").is_some(), "a figure is still one");
    }

    #[test]
    fn lines_hold_nothing_that_a_terminal_or_a_reader_could_be_misled_by() {
        assert_eq!(line(" a\r\nb\tc "), "a  b c");
        assert_eq!(line("\u{1b}[31m\u{202e}txt\u{0}"), "\u{fffd}[31m\u{fffd}txt\u{fffd}");
        assert_eq!(line(&"é".repeat(1000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn addresses_lose_masks_brackets_and_ports() {
        assert_eq!(address("192.0.2.7/24").unwrap().to_string(), "192.0.2.7");
        assert_eq!(address("[2001:DB8::1]:443").unwrap().to_string(), "2001:db8::1");
        assert_eq!(address("<NA>"), None);
    }
}

//! Checks that bytes are strict JSON in its one spelling, without building the value.
//!
//! A log of a million entries is checked in a few seconds, so each line is looked at once and nothing is allocated. What
//! passes here is exactly what [`crate::strict_json::to_line`] writes; the tests hold the two against each other.

use crate::error::Result;
use crate::strict_json::{MAX_INTEGER, fault};

/// Deeper values are refused; so does the reader behind this.
const DEEPEST: u32 = 127;

/// Checks one value that must fill `bytes` to the last one.
///
/// # Errors
///
/// [`crate::Error::StrictJson`] with the place of the first byte that is wrong.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(fault(error.valid_up_to(), "not UTF-8"));
    }
    let mut text = Text { bytes, at: 0 };
    text.value(0)?;
    match text.peek() {
        None => Ok(()),
        Some(_) => Err(fault(text.at, "more follows the value")),
    }
}

struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Takes this byte if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: u32) -> Result<()> {
        if depth > DEEPEST {
            return Err(fault(self.at, "nested too deep"));
        }
        match self.peek() {
            Some(b'"') => self.text().map(|_| ()),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => Err(fault(self.at, "null; leave unknown facts out")),
            Some(_) => Err(fault(self.at, "not the canonical spelling (a space, or no value)")),
            None => Err(fault(self.at, "unreadable: it ends within a value")),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<()> {
        if !self.rest().starts_with(word) {
            return Err(fault(self.at, "unreadable: no value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn array(&mut self, depth: u32) -> Result<()> {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(fault(self.at, "not the canonical spelling of a list"));
            }
        }
    }

    fn object(&mut self, depth: u32) -> Result<()> {
        self.at += 1;
        if self.take(b'}') {
            return Ok(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(fault(start, "not the canonical spelling of an object"));
            }
            let key = self.text()?;
            if !key.is_ascii() {
                return Err(fault(start, "a key that is not ASCII"));
            }
            if before.is_some_and(|before| !sorts_before(before, key)) {
                return Err(fault(start, "not the canonical spelling (key order or repeated key)"));
            }
            before = Some(key);
            if !self.take(b':') {
                return Err(fault(self.at, "not the canonical spelling of an object"));
            }
            self.value(depth + 1)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(fault(self.at, "not the canonical spelling of an object"));
            }
        }
    }

    /// A text; gives what stands between its quotes, as it is written.
    fn text(&mut self) -> Result<&'a [u8]> {
        self.at += 1;
        let inner = self.rest();
        let mut length = 0;
        loop {
            // Most bytes are plain ones.
            let plain = inner.get(length..).unwrap_or_default();
            let run = plain.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f));
            let Some(run) = run else {
                return Err(fault(self.at + inner.len(), "unreadable: it ends within a text"));
            };
            length += run;
            match inner.get(length) {
                Some(b'"') => {
                    self.at += length + 1;
                    return Ok(inner.get(..length).unwrap_or_default());
                }
                Some(b'\\') if matches!(inner.get(length + 1), Some(b'"' | b'\\')) => length += 2,
                Some(b'\\') => {
                    return Err(fault(
                        self.at + length,
                        "not the canonical spelling (an escape that need not be)",
                    ));
                }
                byte => {
                    let words =
                        format!("control character U+{:04X} in a text", byte.copied().unwrap_or_default());
                    return Err(fault(self.at + length, words));
                }
            }
        }
    }

    fn integer(&mut self) -> Result<()> {
        let start = self.at;
        let negative = self.take(b'-');
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut magnitude = 0u64;
        // 2^53 has 16 digits.
        for digit in self.rest().iter().take(digits.min(17)) {
            magnitude = magnitude * 10 + u64::from(digit - b'0');
        }
        let leading_zero = self.peek() == Some(b'0') && (digits > 1 || negative);
        self.at += digits;
        if digits == 0 || leading_zero || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(fault(start, "a number that is not an integer in its one spelling"));
        }
        if digits > 16 || magnitude > MAX_INTEGER {
            return Err(fault(start, "a number that is not an integer within ±2^53−1"));
        }
        Ok(())
    }
}

/// Whether one key sorts before another by what they mean: `\\"` and `\\\\` stand for one character each.
fn sorts_before(one: &[u8], other: &[u8]) -> bool {
    if !one.contains(&b'\\') && !other.contains(&b'\\') {
        return one < other;
    }
    let meant = |key: &[u8]| {
        let mut bytes: Vec<u8> = Vec::with_capacity(key.len());
        let mut rest = key.iter();
        while let Some(byte) = rest.next() {
            bytes.extend(if *byte == b'\\' { rest.next().copied() } else { Some(*byte) });
        }
        bytes
    };
    meant(one) < meant(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::strict_json::to_line;

    /// What the words of `strict_json` say: a value read and written again gives the same bytes.
    fn is_strict(bytes: &[u8]) -> bool {
        serde_json::from_slice::<Value>(bytes)
            .ok()
            .and_then(|value| to_line(&value).ok())
            .is_some_and(|line| line.as_bytes() == bytes)
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-9_007_199_254_740_993i64..9_007_199_254_740_993).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ -~é\\\\\"\u{7f}\n]{0,9}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z\"\\\\é_]{0,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn exactly_what_is_written_the_same_again_is_strict(value in any_value(), cut in 0usize..200, byte: u8) {
            let plain = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(check(&plain).is_ok(), is_strict(&plain), "{}", value);
            let mut changed = to_line(&value).map_or(plain, String::into_bytes);
            let at = cut % changed.len().max(1);
            if let Some(there) = changed.get_mut(at) {
                *there = byte;
            }
            prop_assert_eq!(check(&changed).is_ok(), is_strict(&changed), "{:?}", String::from_utf8_lossy(&changed));
            changed.truncate(at);
            prop_assert_eq!(check(&changed).is_ok(), is_strict(&changed));
        }
    }

    #[test]
    fn other_spellings_of_one_value_are_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"b":1,"a":1}"#,
            r#"{"a": 1}"#,
            " 1",
            "1 ",
            "01",
            "-0",
            "1.0",
            "1e3",
            "+1",
            r#""\u0041""#,
            r#""\/""#,
            r#""\n""#,
            "null",
            r#"{"é":1}"#,
            "[1,]",
            "[,1]",
            r#"{"a":1,}"#,
            "",
            "9007199254740992",
            "-9007199254740992",
            "99999999999999999999",
            "tru",
            "[1",
            "\"a",
            "{\"a\"}",
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
            assert!(!is_strict(text.as_bytes()), "{text}");
        }
        assert!(check(b"\xef\xbb\xbf1").is_err());
        assert!(check(b"\"\xff\"").is_err());
        assert!(check("[".repeat(1000).as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        assert_eq!(check(deep.as_bytes()).is_ok(), is_strict(deep.as_bytes()));
        assert!(
            check(to_line(&json!({"!": "\\\"", "\"": 1, "a": [true, false, -1]})).unwrap().as_bytes())
                .is_ok()
        );
    }
}

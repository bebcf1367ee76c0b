//! Strict JSON: the subset of JSON in which one value has one spelling.
//!
//! UTF-8, ASCII keys in byte order, no spaces, no floats, no null, no duplicate keys, integers of at most
//! 2^53−1 either way, no control characters. RFC 8785, `jq -cS` and Python's `json.dumps(sort_keys=True,
//! separators=(',', ':'), ensure_ascii=False)` all print the same bytes for it. Signed and hashed texts are in
//! this form, so that nobody needs our code to write them again.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::error::{Error, Result};

/// The largest integer that every JSON reader holds exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Writes a value as one line of strict JSON, without a line feed.
///
/// # Errors
///
/// [`Error::StrictJson`] when the value holds a float, a null, an integer beyond ±2^53−1, a key that is not
/// ASCII, or a text with a control character (see [`escape_text`]).
pub fn to_line(value: &Value) -> Result<String> {
    let mut line = String::new();
    write_value(&mut line, value)?;
    Ok(line)
}

/// Reads one strict JSON value that fills `bytes` to the last one.
///
/// # Errors
///
/// [`Error::StrictJson`] when the bytes are anything else than what [`to_line`] writes for that value.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    read(bytes)
}

/// Reads one strict JSON value of a known shape.
///
/// # Errors
///
/// [`Error::StrictJson`] when the bytes are not in the one spelling, or the value has another shape.
pub(crate) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    crate::strict_spelling::check(bytes)?;
    serde_json::from_slice(bytes)
        .map_err(|error| fault(error.column().saturating_sub(1), format!("unreadable: {error}")))
}

/// Makes any bytes into text that strict JSON can hold, reversibly.
///
/// Bytes that are not UTF-8, U+0000–001F, U+007F and `\` become `\xNN`, two lower-case digits a byte.
pub fn escape_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_ascii_control() || c == '\\' {
                push_escape(&mut text, c as u8);
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            push_escape(&mut text, *byte);
        }
    }
    text
}

/// Gives the bytes back that [`escape_text`] was given.
///
/// # Errors
///
/// [`Error::Malformed`] when a `\` is followed by anything else than `x` and two lower-case digits.
pub fn unescape_text(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let Some(([b'x', high, low], after)) = rest.split_first_chunk::<3>() else {
            return Err(Error::malformed("escaped text", format!("{text:?} ends within an escape")));
        };
        match (hex_digit(*high), hex_digit(*low)) {
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return Err(Error::malformed("escaped text", format!("{text:?} holds an unknown escape"))),
        }
        rest = after;
    }
    Ok(bytes)
}

/// The nearest that strict JSON can hold of any object: other numbers as texts, texts escaped, nulls left out; bytes of keys
/// that are not ASCII as `\xNN`.
pub(crate) fn of_any(fields: Map<String, Value>) -> Map<String, Value> {
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| {
            let mut ascii = String::with_capacity(key.len());
            for c in escape_text(key.as_bytes()).chars() {
                if c.is_ascii() {
                    ascii.push(c);
                } else {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_escape(&mut ascii, byte));
                }
            }
            (ascii, strict_of(value))
        })
        .collect()
}

/// Whether it is an integer within ±2^53−1.
fn is_exact(number: &Number) -> bool {
    let magnitude = number.as_i64().map(i64::unsigned_abs).or(number.as_u64());
    magnitude.is_some_and(|magnitude| magnitude <= MAX_INTEGER)
}

fn strict_of(value: Value) -> Value {
    match value {
        Value::Number(number) if is_exact(&number) => Value::Number(number),
        Value::Number(number) => Value::String(number.to_string()),
        Value::String(text) => Value::String(escape_text(text.as_bytes())),
        Value::Array(items) => items.into_iter().filter(|item| !item.is_null()).map(strict_of).collect(),
        Value::Object(fields) => Value::Object(of_any(fields)),
        plain => plain,
    }
}

fn write_value(line: &mut String, value: &Value) -> Result<()> {
    match value {
        Value::Null => return Err(fault(line.len(), "null; leave unknown facts out")),
        Value::Bool(true) => line.push_str("true"),
        Value::Bool(false) => line.push_str("false"),
        Value::Number(number) if is_exact(number) => line.push_str(&number.to_string()),
        Value::Number(number) => {
            return Err(fault(line.len(), format!("{number} is not an integer within ±2^53−1")));
        }
        Value::String(text) => write_text(line, text)?,
        Value::Array(items) => {
            line.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    line.push(',');
                }
                write_value(line, item)?;
            }
            line.push(']');
        }
        Value::Object(fields) => {
            // Sorted here, because a feature of another crate may turn serde_json's own order off.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            line.push('{');
            for (i, (key, value)) in fields.into_iter().enumerate() {
                if i > 0 {
                    line.push(',');
                }
                if !key.is_ascii() {
                    return Err(fault(line.len(), format!("key {key:?} is not ASCII")));
                }
                write_text(line, key)?;
                line.push(':');
                write_value(line, value)?;
            }
            line.push('}');
        }
    }
    Ok(())
}

fn write_text(line: &mut String, text: &str) -> Result<()> {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            c if c.is_ascii_control() => {
                return Err(fault(line.len(), format!("control character U+{:04X} in a text", c as u32)));
            }
            c => line.push(c),
        }
    }
    line.push('"');
    Ok(())
}

fn push_escape(text: &mut String, byte: u8) {
    let _ = write!(text, "\\x{byte:02x}"); // writing to a String cannot fail
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

pub(crate) fn fault(offset: usize, why: impl Into<String>) -> Error {
    Error::StrictJson { offset, why: why.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_nothing_is_spaced() {
        let value =
            json!({"b": [1, -2, true], "a": {"z": "é\"\\", "y": false}, "B": 9_007_199_254_740_991u64});
        let line = to_line(&value).unwrap();
        assert_eq!(line, r#"{"B":9007199254740991,"a":{"y":false,"z":"é\"\\"},"b":[1,-2,true]}"#);
        assert_eq!(parse(line.as_bytes()).unwrap(), value);
    }

    #[test]
    fn any_object_becomes_one_that_can_be_written() {
        let any = json!({"a": 1.5, "b": null, "c": [u64::MAX, null, "x\n"], "é": -7});
        let Value::Object(any) = any else { panic!("an object") };
        let line = to_line(&Value::Object(of_any(any))).unwrap();
        assert_eq!(line, r#"{"\\xc3\\xa9":-7,"a":"1.5","c":["18446744073709551615","x\\x0a"]}"#);
    }

    #[test]
    fn floats_null_large_integers_control_characters_and_foreign_keys_are_refused() {
        for value in [
            json!(1.5),
            json!(null),
            json!(9_007_199_254_740_992u64),
            json!(-9_007_199_254_740_992i64),
            json!(u64::MAX),
            json!("\n"),
            json!("\u{7f}"),
            json!({"é": 1}),
        ] {
            assert!(to_line(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn anything_but_the_canonical_spelling_is_refused() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a": 1}"#,
            r#"{"a":1} "#,
            r#"{"a":1}x"#,
            "{\"a\":1}\n",
            r#"{"a":-0}"#,
            r#"{"a":01}"#,
            r#"{"a":1e2}"#,
            r#"{"a":1.0}"#,
            concat!("{\"a\":\"\\", "u0041\"}"),
            r#"{"a":"\/"}"#,
            r#"{"a":"\n"}"#,
            r#"{"a":null}"#,
            "{\"a\":\"\u{1}\"}",
            "",
            "\u{feff}{}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(b"{\"a\":\"\xff\"}").is_err());
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn outside_text_is_escaped_as_the_format_says() {
        assert_eq!(escape_text(b"a\\b\n\x7f\xff\xc3\xa9"), "a\\x5cb\\x0a\\x7f\\xffé");
        assert!(unescape_text("\\").is_err());
        assert!(unescape_text("\\x5C").is_err());
        assert!(unescape_text("\\n12").is_err());
    }

    fn strict_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
            "[^\\p{Cc}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_their_escaped_text(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = escape_text(&bytes);
            prop_assert!(to_line(&Value::from(text.clone())).is_ok());
            prop_assert_eq!(unescape_text(&text).unwrap(), bytes);
        }

        #[test]
        fn a_strict_value_reads_back_the_same(value in strict_values()) {
            let line = to_line(&value).unwrap();
            prop_assert_eq!(parse(line.as_bytes()).unwrap(), value);
        }
    }
}

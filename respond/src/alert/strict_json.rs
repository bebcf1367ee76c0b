//! JSON of strangers, read strictly: bounded in depth and count, no key twice.
//!
//! Two readers that disagree about a doubled key would see two different alerts in one signed body, so there is none.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Unparsed;
use super::fields::line;

/// How deep arrays and objects may lie in each other.
pub const MAX_DEPTH: usize = 64;

/// How many values a body may hold: each costs memory that its bytes do not show.
pub const MAX_VALUES: usize = 200_000;

/// Reads one JSON value that fills the body; a byte order mark before it is passed over.
///
/// # Errors
///
/// [`Unparsed`] with line and column: not JSON, not UTF-8, deeper than [`MAX_DEPTH`], more than [`MAX_VALUES`] values, or
/// the same key twice in an object.
pub fn read(bytes: &[u8]) -> Result<Value, Unparsed> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let left = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0, left: &left }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| Unparsed(format!("no acceptable JSON: {}", line(&error.to_string()))))?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!("deeper than {MAX_DEPTH}")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| D::Error::custom(format_args!("more than {MAX_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let within = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(within)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let within = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {:?} stands twice", line(&key))));
            }
            let value = entries.next_value_seed(within)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_texts_and_nests_come_back_as_they_are() {
        let text = r#"{"a":[1,-2,2.5,18446744073709551615,null,true],"b":{"c":"\u0007é"}}"#;
        let value = json!({"a": [1, -2, 2.5, u64::MAX, null, true], "b": {"c": "\u{7}é"}});
        assert_eq!(read(text.as_bytes()).unwrap(), value);
        assert_eq!(read(format!("\u{feff}{text}").as_bytes()).unwrap(), value);
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_its_place() {
        let error = read(b"{\"id\":1,\n \"x\":{\"i\\u0064\":1,\"id\":2}}").unwrap_err();
        assert!(error.0.contains("the key \"id\" stands twice at line 2"), "{error}");
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nest(MAX_DEPTH).as_bytes()).is_ok());
        assert!(read(nest(MAX_DEPTH + 1).as_bytes()).unwrap_err().0.contains("deeper than 64"));
        assert!(read("[".repeat(1_000_000).as_bytes()).is_err());
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(read(many.as_bytes()).unwrap_err().0.contains("more than 200000 values"));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", " ", "{", "{} {}", "nul", "1e999", "\"\\ud800\"", "{\"a\":1,}", "NaN"] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(read(b"\"\xff\"").is_err());
    }
}

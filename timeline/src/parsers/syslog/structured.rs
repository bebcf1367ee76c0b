//! STRUCTURED-DATA of RFC 5424, section 6.3: `[id name="value" …][id …]`.

use serde_json::{Map, Value};

/// The structured data that `text` starts with, and the message behind it; `None` where it is not well formed.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (mut in_element, mut in_value, mut escaped) = (false, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_value => escaped = true,
            b'"' if in_element => in_value = !in_value,
            b'[' if !in_element => in_element = true,
            b']' if in_element && !in_value => in_element = false,
            _ if in_element => {}
            b' ' if at > 0 => return text.split_at_checked(at),
            _ => return None,
        }
    }
    (!in_element && !text.is_empty()).then_some((text, ""))
}

/// `{"id": {"name": "value"}}`; a name that repeats (RFC 5424 allows it) becomes an array.
pub(super) fn to_json(data: &str) -> Value {
    let mut all = Map::new();
    let mut rest = data;
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']']).unwrap_or(element.len());
        let Some((id, mut fields)) = element.split_at_checked(end) else { break };
        let mut object = Map::new();
        // The end is looked for first: a search for the next value must never run on from element to element.
        while !fields.starts_with(']')
            && let Some((name, behind)) = fields.trim_start().split_once("=\"")
            && !name.contains(']')
        {
            let (value, behind) = quoted(behind);
            add(&mut object, name, Value::String(value));
            fields = behind;
        }
        add(&mut all, id, Value::Object(object));
        rest = fields.trim_start().strip_prefix(']').unwrap_or("");
    }
    Value::Object(all)
}

/// A value up to its closing quote, and what follows. `\"`, `\\` and `\]` are escapes.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at.saturating_add(1)..).unwrap_or("")),
            '\\' => match chars.next() {
                Some((_, next @ ('"' | '\\' | ']'))) => value.push(next),
                Some((_, next)) => value.extend(['\\', next]),
                None => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    (value, "")
}

fn add(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.get_mut(key) {
        None => {
            map.insert(key.to_owned(), value);
        }
        Some(Value::Array(all)) => all.push(value),
        Some(first) => {
            let all = vec![first.take(), value];
            *first = Value::Array(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_values_survive_brackets_quotes_and_repeats() {
        let text = r#"[a@1 k="x ] \"y\" \]" ip="1" ip="2"][b] message [c]"#;
        let (data, message) = split(text).unwrap();
        assert_eq!(message, " message [c]");
        assert_eq!(
            to_json(data),
            serde_json::json!({"a@1": {"k": "x ] \"y\" ]", "ip": ["1", "2"]}, "b": {}})
        );
    }

    #[test]
    fn data_that_is_not_closed_is_left_in_the_message() {
        assert_eq!(split("[a k=\"x"), None);
        assert_eq!(split("message"), None);
        assert_eq!(split("[a]"), Some(("[a]", "")));
        assert_eq!(split(""), None);
    }
}

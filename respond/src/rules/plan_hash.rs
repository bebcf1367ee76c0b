//! What an approval is bound to: one plan, to the last parameter.

use std::fmt::Write as _;

use serde_json::Value;

use super::Plan;

impl Plan {
    /// SHA-256 of the whole plan in one spelling, in hexadecimal. Whatever is changed in a plan, its hash changes.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut text = String::new();
        // A plan is of texts, numbers and lists: it has a JSON.
        spell(&mut text, &serde_json::to_value(self).unwrap_or_default());
        custody::sha256(text.as_bytes()).to_string()
    }
}

/// JSON with keys in order and nothing between; not left to `serde_json`, of which a feature elsewhere may turn the order off.
fn spell(text: &mut String, value: &Value) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                spell(text, item);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (at, (key, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::from(key.as_str()));
                spell(text, value);
            }
            text.push('}');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

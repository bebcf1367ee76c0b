//! `key=value` fields of an audit record, and the values that are written in hexadecimal.

use std::borrow::Cow;

use crate::text::clean;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Double,
    /// `msg='…'`: what user space said, itself in fields.
    Single,
    /// `SADDR={ … }` of enriched records.
    Braces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field<'t> {
    Pair(&'t str, &'t str, Quote),
    /// Text between fields: `old` of `old auid=…`, `denied` of `avc: denied { read }`.
    Word(&'t str),
}

/// Splits the body of a record. The separator 0x1D of enriched records counts as a space.
pub(super) struct Fields<'t> {
    rest: &'t str,
}

impl<'t> Fields<'t> {
    pub(super) fn new(body: &'t str) -> Fields<'t> {
        Fields { rest: body }
    }

    /// What has not been split yet.
    pub(super) fn rest(&self) -> &'t str {
        self.rest
    }

    /// Gives the text before `end` and goes on behind it; all there is where it never ends.
    fn until(&mut self, text: &'t str, end: Option<usize>) -> &'t str {
        let (value, rest) = end.and_then(|end| text.split_at_checked(end)).unwrap_or((text, ""));
        let mut behind = rest.chars();
        behind.next();
        self.rest = behind.as_str();
        value
    }
}

impl<'t> Iterator for Fields<'t> {
    type Item = Field<'t>;

    fn next(&mut self) -> Option<Field<'t>> {
        let text = self.rest.trim_start_matches(is_space);
        if text.is_empty() {
            self.rest = "";
            return None;
        }
        let end = text.find(|c| c == '=' || is_space(c));
        let is_pair = end.is_some_and(|end| end > 0 && text.as_bytes().get(end) == Some(&b'='));
        if !is_pair {
            let end = text.find(is_space);
            return Some(Field::Word(self.until(text, end)));
        }
        let key = self.until(text, end).trim_start_matches('(');
        let value = self.rest;
        let (value, quote) = match value.as_bytes().first() {
            Some(b'"') => (self.inside(value, |v| v.find('"')), Quote::Double),
            // What user space says may itself hold quotes: the last one ends it.
            Some(b'\'') => (self.inside(value, |v| v.rfind('\'')), Quote::Single),
            Some(b'{') => (self.inside(value, |v| v.find('}')), Quote::Braces),
            _ => (self.until(value, value.find(is_space)), Quote::None),
        };
        Some(Field::Pair(key, value, quote))
    }
}

impl<'t> Fields<'t> {
    fn inside(&mut self, value: &'t str, end: impl Fn(&str) -> Option<usize>) -> &'t str {
        let mut chars = value.chars();
        chars.next();
        let inner = chars.as_str();
        self.until(inner, end(inner))
    }
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\x1d'
}

/// The value as text. Strings that the kernel does not trust are in quotes where they are harmless, and in
/// hexadecimal where they are not.
pub(super) fn text_of<'t>(key: &str, value: &'t str, quote: Quote) -> Cow<'t, str> {
    if quote != Quote::None {
        return Cow::Borrowed(value);
    }
    if may_be_hex(key)
        && let Some(bytes) = hex_bytes(value)
    {
        return Cow::Owned(clean(&bytes));
    }
    // Old records put fields in brackets and commas between them: `(hostname=?, addr=?, terminal=ssh res=success)`.
    let value = value.trim_end_matches(',');
    Cow::Borrowed(if value.contains('(') { value } else { value.trim_end_matches(')') })
}

fn may_be_hex(key: &str) -> bool {
    const KEYS: [&str; 13] = [
        "acct", "cmd", "comm", "cwd", "dir", "exe", "file", "key", "name", "ocomm", "path", "root_dir",
        "watch",
    ];
    KEYS.contains(&key)
}

/// The bytes of an even number of upper-case hexadecimal digits.
pub(super) fn hex_bytes(value: &str) -> Option<Vec<u8>> {
    if value.is_empty() || value.bytes().any(|b| b.is_ascii_lowercase()) {
        return None;
    }
    hex::decode(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_split_at_spaces_quotes_braces_and_the_enriched_separator() {
        let all: Vec<_> =
            Fields::new("pid=1 msg='op=x acct=\"a b\" it's' key=(null)\x1dUID=\"root\" S={ a=b c } old")
                .collect();
        assert_eq!(
            all,
            [
                Field::Pair("pid", "1", Quote::None),
                Field::Pair("msg", "op=x acct=\"a b\" it's", Quote::Single),
                Field::Pair("key", "(null)", Quote::None),
                Field::Pair("UID", "root", Quote::Double),
                Field::Pair("S", " a=b c ", Quote::Braces),
                Field::Word("old"),
            ]
        );
        assert_eq!(
            Fields::new("a=\"never ends").collect::<Vec<_>>(),
            [Field::Pair("a", "never ends", Quote::Double)]
        );
        assert_eq!(Fields::new("=x  =").collect::<Vec<_>>(), [Field::Word("=x"), Field::Word("=")]);
    }

    #[test]
    fn untrusted_strings_are_decoded_and_all_others_kept() {
        assert_eq!(text_of("name", "2F746D702F6120C3A9", Quote::None), "/tmp/a é");
        assert_eq!(text_of("name", "2F746D70FF", Quote::None), "/tmp\\xff");
        assert_eq!(text_of("name", "6162", Quote::Double), "6162");
        assert_eq!(text_of("a0", "6162", Quote::None), "6162");
        assert_eq!(text_of("dev", "fc:00", Quote::None), "fc:00");
        assert_eq!(text_of("key", "(null)", Quote::None), "(null)");
        assert_eq!(text_of("addr", "192.0.2.1,", Quote::None), "192.0.2.1");
        assert_eq!(text_of("res", "success)", Quote::None), "success");
    }
}

//! Text from evidence and people, made safe to print: nothing invisible, nothing that turns the line around, and
//! never longer than a reader can use.

use std::borrow::Cow;

/// The longest text in a cell of a table, in characters.
pub(super) const CELL: usize = 300;
/// The longest text in a fact or paragraph, in characters.
pub(super) const LONG: usize = 1200;
/// More marks than this on one letter are shown by number.
const MOST_MARKS: u32 = 3;

/// Text for a cell of a table.
pub(super) fn cell(text: &str) -> String {
    bounded(text, CELL)
}

/// Text for a fact or paragraph.
pub(super) fn long(text: &str) -> String {
    bounded(text, LONG)
}

/// A text of at most `most` characters, with everything that cannot be seen made visible: control characters,
/// directions (U+202A–202E, U+2066–2069), characters of no width and piled-up marks become `<U+202E>`.
pub(super) fn bounded(text: &str, most: usize) -> String {
    let mut safe = String::new();
    let mut marks = 0;
    let mut room = most;
    let mut rest = text.chars();
    for c in rest.by_ref() {
        if room == 0 {
            let more = rest.count().saturating_add(1);
            let more = super::units::thousands(u64::try_from(more).unwrap_or(u64::MAX));
            safe.push_str(&format!("… (and {more} more characters)"));
            break;
        }
        room -= 1;
        marks = if is_mark(c) { marks + 1 } else { 0 };
        if is_hidden(c) || marks > MOST_MARKS {
            safe.push_str(&format!("<U+{:04X}>", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Whether a character is invisible, or changes how others are shown.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x2028..=0x202E | 0x2060..=0x206F | 0x2800 | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
            | 0xFFF0..=0xFFFB | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
        // Spaces of other widths look like plain ones.
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c), 0xE000..=0xF8FF | 0xF0000..=0x10FFFF)
}

fn is_mark(c: char) -> bool {
    matches!(u32::from(c), 0x300..=0x36F | 0x483..=0x489 | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF
        | 0xFE20..=0xFE2F)
}

/// A text as it stands between HTML tags or in an attribute.
pub(super) fn html(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// A text as a CSS string, with its quotes: all but letters, digits and a few signs by number.
pub(super) fn css(text: &str) -> String {
    let mut escaped = String::from("\"");
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | ',' | '.' | '-' | '_' | ':' | '…' | '·' => {
                escaped.push(c);
            }
            c => escaped.push_str(&format!("\\{:06X}", u32::from(c))),
        }
    }
    escaped.push('"');
    escaped
}

/// A word as one argument of a POSIX shell.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+' | ':');
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown_by_number() {
        assert_eq!(cell("a\u{202e}gpj.exe"), "a<U+202E>gpj.exe");
        assert_eq!(
            cell("pay\u{200b}pal\u{2066}\u{feff}\0\u{85}"),
            "pay<U+200B>pal<U+2066><U+FEFF><U+0000><U+0085>"
        );
        assert_eq!(cell("two\u{2003}spaces\u{a0}\n"), "two<U+2003>spaces<U+00A0><U+000A>");
        assert_eq!(cell("Jürgen Ł. שלום"), "Jürgen Ł. שלום");
        assert_eq!(cell("e\u{301}\u{301}\u{301}\u{301}"), "e\u{301}\u{301}\u{301}<U+0301>");
    }

    #[test]
    fn a_long_text_is_cut_and_says_by_how_much() {
        let long = "é".repeat(60_000);
        let shown = cell(&long);
        assert!(shown.ends_with("… (and 59,700 more characters)"), "{shown}");
        assert_eq!(shown.chars().filter(|c| *c == 'é').count(), CELL);
        assert_eq!(cell(&"x".repeat(CELL)), "x".repeat(CELL));
    }

    #[test]
    fn a_text_cannot_leave_its_place() {
        assert_eq!(html("<script>'&\""), "&lt;script&gt;&#39;&amp;&quot;");
        assert_eq!(css("a\"}</style>"), r#""a\000022\00007D\00003C\00002Fstyle\00003E""#);
        assert_eq!(shell("exhibits/E001-web01"), "exhibits/E001-web01");
        assert_eq!(shell("-x; rm 'y'"), r"'-x; rm '\''y'\'''");
    }
}

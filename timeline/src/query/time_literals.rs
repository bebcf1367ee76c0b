//! Times in SQL as we print them: `ts >= '2026-11-04T08:00:00Z'`.
//!
//! The engine compares `ts` only with text that has no zone. A literal that is a whole RFC 3339 time and is compared
//! with the column `ts` is put into that form, in UTC; all others stay as they are.

use chrono::{DateTime, Utc};

/// The query with such literals rewritten.
pub(super) fn without_zones(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    // Whether the text so far ends in a comparison with `ts`, or in the AND of `ts BETWEEN … AND`.
    let mut between = false;
    while let Some((before, after)) = rest.split_once('\'') {
        out.push_str(before);
        let Some((literal, behind)) = after.split_once('\'') else {
            rest = after;
            out.push('\'');
            continue;
        };
        let compared = is_compared_with_ts(&out);
        let second = between && before.trim().eq_ignore_ascii_case("and");
        between = compared && ends_in_word(out.trim_end(), "between");
        match DateTime::parse_from_rfc3339(literal) {
            Ok(time) if compared || second => {
                out.push_str(&format!("'{}'", time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S%.6f")));
            }
            _ => {
                out.push('\'');
                out.push_str(literal);
                out.push('\'');
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn is_compared_with_ts(sql: &str) -> bool {
    let sql = sql.trim_end();
    let left = sql.trim_end_matches(['<', '>', '=', '!']);
    let left = match left.len() == sql.len() {
        true if ends_in_word(sql, "between") => sql.get(..sql.len() - "between".len()).unwrap_or(""),
        true => return false,
        false => left,
    };
    ends_in_word(left.trim_end().trim_end_matches('"'), "ts")
}

/// Whether the text ends in this word, whatever its case.
fn ends_in_word(sql: &str, word: &str) -> bool {
    let Some(at) = sql.len().checked_sub(word.len()) else { return false };
    sql.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(word))
        && sql.get(..at).is_some_and(|before| !before.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_that_are_compared_with_ts_lose_their_zone() {
        let cases = [
            ("ts >= '2026-11-04T08:00:00Z'", "ts >= '2026-11-04 08:00:00.000000'"),
            ("ts<'2026-11-04T08:00:00.5+01:00'", "ts<'2026-11-04 07:00:00.500000'"),
            (
                "x = 'it''s' AND TS BETWEEN '2026-11-04T08:00:00Z' AND '2026-11-05T08:00:00Z'",
                "x = 'it''s' AND TS BETWEEN '2026-11-04 08:00:00.000000' AND '2026-11-05 08:00:00.000000'",
            ),
            ("ts_text = '2026-11-04T08:00:00Z'", "ts_text = '2026-11-04T08:00:00Z'"),
            ("message = '2026-11-04T08:00:00Z'", "message = '2026-11-04T08:00:00Z'"),
            ("ts > '2026-11-04'", "ts > '2026-11-04'"),
            ("an open 'quote", "an open 'quote"),
        ];
        for (sql, wanted) in cases {
            assert_eq!(without_zones(sql), wanted);
        }
    }
}

//! Numbers, sizes, times and durations as people read them.

use crate::clock::parse_rfc3339;

/// A number with its thousands parted by commas.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut parted = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            parted.push(',');
        }
        parted.push(digit);
    }
    parted
}

/// `1 entry`, `2 entries`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(n), if n == 1 { one } else { many })
}

/// `count` of a length.
pub(super) fn number_of(n: usize, one: &str, many: &str) -> String {
    count(u64::try_from(n).unwrap_or(u64::MAX), one, many)
}

/// A size in bytes, and in larger units where that helps.
pub(super) fn size(bytes: u64) -> String {
    match in_units(bytes) {
        Some(words) => format!("{} bytes ({words})", thousands(bytes)),
        None => count(bytes, "byte", "bytes"),
    }
}

/// A size in units of 1024.
pub(super) fn in_units(bytes: u64) -> Option<String> {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return Some(format!("{}.{} {unit}", tenths / 10, tenths % 10));
        }
    }
    None
}

/// A share in percent with one digit; what is there is never `0 %`, and what is missing never `100 %`.
pub(super) fn share(part: u64, of: u64) -> String {
    if of == 0 || part == 0 {
        return "0 %".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(of) / 2) / u128::from(of);
    match tenths {
        0 => "< 0.1 %".to_owned(),
        1000.. if part < of => "> 99.9 %".to_owned(),
        tenths => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

/// A time of RFC 3339 to the second: `2026-11-21 10:37:09`. Its zone stands in the heading, and is UTC.
pub(super) fn time(rfc3339: &str) -> String {
    super::text::bounded(rfc3339.get(..19).unwrap_or(rfc3339), 40).replacen('T', " ", 1)
}

/// A time in running text: `2026-11-21 10:37:09 UTC`.
pub(super) fn time_utc(rfc3339: &str) -> String {
    format!("{} UTC", time(rfc3339))
}

/// A time as a sentence has it: `21 November 2026 at 10:37 UTC`.
pub(super) fn date_words(rfc3339: &str) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let number = |range: std::ops::Range<usize>| rfc3339.get(range)?.parse::<usize>().ok();
    let month = number(5..7).and_then(|month| MONTHS.get(month.checked_sub(1)?));
    match (number(0..4), month, number(8..10), rfc3339.get(11..16)) {
        (Some(year), Some(month), Some(day), Some(clock)) => format!("{day} {month} {year} at {clock} UTC"),
        _ => time_utc(rfc3339),
    }
}

/// Nanoseconds from one time to another; nothing where one of them is no time.
pub(super) fn between(from: &str, to: &str) -> Option<i64> {
    parse_rfc3339(to).ok()?.checked_sub(parse_rfc3339(from).ok()?)
}

/// A length of time: `0.071 s`, `12 min 3 s`, `3 days 4 h`.
pub(super) fn duration(ns: i64) -> String {
    let ns = ns.unsigned_abs();
    let seconds = ns / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=9 => format!("{seconds}.{:03} s", ns / 1_000_000 % 1000),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{minutes} min {} s", seconds % 60),
        3600..=86_399 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} {} h", count(days, "day", "days"), hours % 24),
    }
}

/// Bytes a second.
pub(super) fn speed(bytes: u64, ns: i64) -> Option<String> {
    let ns = u128::try_from(ns).ok().filter(|ns| *ns > 0)?;
    let rate = u64::try_from(u128::from(bytes) * 1_000_000_000 / ns).ok()?;
    Some(format!("{} a second", in_units(rate).unwrap_or_else(|| count(rate, "byte", "bytes"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2].map(|n| count(n, "entry", "entries")), ["1 entry", "2 entries"]);
        assert_eq!(size(8_145_728), "8,145,728 bytes (7.7 MiB)");
        assert_eq!(size(512), "512 bytes");
        assert_eq!(speed(10 << 20, 2_000_000_000).as_deref(), Some("5.0 MiB a second"));
        assert_eq!(speed(1, 0), None);
    }

    #[test]
    fn a_share_never_rounds_a_loss_away() {
        assert_eq!(share(1, 1_000_000), "< 0.1 %");
        assert_eq!(share(999_999, 1_000_000), "> 99.9 %");
        assert_eq!([share(0, 0), share(0, 5), share(5, 5)], ["0 %", "0 %", "100.0 %"]);
    }

    #[test]
    fn times_and_durations_carry_their_units() {
        assert_eq!(time_utc("2026-11-21T10:37:09.384393639Z"), "2026-11-21 10:37:09 UTC");
        assert_eq!(duration(71_000_000), "0.071 s");
        assert_eq!(duration(75_000_000_000), "1 min 15 s");
        assert_eq!(duration(90_000_000_000_000), "1 day 1 h");
        assert_eq!(between("2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"), Some(3_600_000_000_000));
        assert_eq!(between("x", "y"), None);
    }
}

//! Amounts as people write them on the command line: `200MB/s`, `512KiB`, `2048s`, `90min`.

use std::time::Duration;

/// A number of bytes a second: `200MB/s`, `64MiB/s`, `1.5GB/s`.
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let how = || "write it like 200MB/s or 64MiB/s".to_owned();
    let amount = text.strip_suffix("/s").or_else(|| text.strip_suffix("ps")).ok_or_else(how)?;
    match bytes_of(amount) {
        Some(0) => Err("nothing would ever be read at this rate".to_owned()),
        Some(rate) => Ok(rate),
        None => Err(how()),
    }
}

/// A place or length on a disk: bytes (`1048576`, `512KiB`, `20GB`), or sectors of 512 bytes (`2048s`).
pub(crate) fn place(text: &str) -> Result<u64, String> {
    let sectors = text.strip_suffix('s').and_then(|number| number.parse::<u64>().ok());
    let bytes = sectors.map_or_else(|| bytes_of(text), |sectors| sectors.checked_mul(512));
    bytes.ok_or_else(|| {
        "write it in bytes, like 1048576 or 20GiB, or in sectors of 512 bytes, like 2048s".to_owned()
    })
}

/// The size of a part: `2GiB`, `650MB`.
pub(crate) fn part(text: &str) -> Result<u64, String> {
    bytes_of(text).filter(|bytes| *bytes > 0).ok_or_else(|| "write it like 2GiB or 650MB".to_owned())
}

/// A span of time: `90s`, `20min`, `2h`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(at);
    let factor = match unit {
        "s" => Some(1),
        "min" | "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = factor.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor));
    seconds.map(Duration::from_secs).ok_or_else(|| "write it like 90s, 20min or 2h".to_owned())
}

/// A moment in seconds since 1970: RFC 3339, or a date with or without a time, in UTC.
#[cfg(feature = "cloud")]
pub(crate) fn moment(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let utc = text.trim_end_matches('Z').replacen(' ', "T", 1);
    let forms = [text.to_owned(), format!("{utc}Z"), format!("{utc}:00Z"), format!("{utc}T00:00:00Z")];
    let second = forms.iter().find_map(|form| custody::clock::parse_rfc3339(form).ok());
    second.map(|nanoseconds| nanoseconds.div_euclid(1_000_000_000)).ok_or_else(|| {
        "write it like 2026-11-21, \"2026-11-21 01:30\" (UTC) or 2026-11-21T01:30:00+01:00".to_owned()
    })
}

/// A number with a unit of bytes; without one, bytes.
fn bytes_of(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "k" | "kB" | "KB" => 1000,
        "K" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    if part.is_empty() || part.len() > 9 || part.contains('.') {
        return None;
    }
    let tenths = 10u128.pow(u32::try_from(part.len()).ok()?);
    let part = u128::from(part.parse::<u64>().ok()?) * u128::from(factor) / tenths;
    whole.checked_mul(factor)?.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_size_above_zero() {
        assert_eq!((part("2GiB"), part("650MB"), part("7")), (Ok(2 << 30), Ok(650_000_000), Ok(7)));
        for bad in ["", "0", "GiB", "-1", "2 parsecs", "99999999999T"] {
            assert!(part(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_have_decimal_and_binary_units() {
        assert_eq!(rate("200MB/s"), Ok(200_000_000));
        assert_eq!(rate("64MiB/s"), Ok(64 << 20));
        assert_eq!(rate("1.5GB/s"), Ok(1_500_000_000));
        assert_eq!(rate("512KiB/s"), Ok(512 << 10));
        for bad in
            ["200", "200MB", "0MB/s", "MB/s", "-1MB/s", "1.MB/s", "1.2.3MB/s", "99999999999TB/s", "5mb/s", ""]
        {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_are_bytes_or_sectors() {
        assert_eq!(
            (place("2048s"), place("1048576"), place("1MiB")),
            (Ok(1 << 20), Ok(1 << 20), Ok(1 << 20))
        );
        for bad in ["s", "1x", "18446744073709551615s", "1h"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn moments_are_dates_or_times_and_utc_unless_they_say_otherwise() {
        for (text, second) in [
            ("2026-11-21", 1_795_219_200),
            ("2026-11-21 01:30", 1_795_224_600),
            ("2026-11-21T01:30:00", 1_795_224_600),
            ("2026-11-21T01:30:00Z", 1_795_224_600),
            ("2026-11-21T02:30:00.9+01:00", 1_795_224_600),
        ] {
            assert_eq!(moment(text), Ok(second), "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "01:30", "2026-11-21 25:00", "20261121"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_have_a_unit() {
        assert_eq!((span("90s"), span("2h")), (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(7200))));
        assert_eq!(span("20min"), Ok(Duration::from_secs(1200)));
        for bad in ["90", "h", "1d", "99999999999999999999h"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}

//! Spans, rates and sizes as rules write them: `6h`, `20/1h`, `10s..5m`, `2TiB`.

/// No span of a rule is longer: a year.
const LONGEST: u64 = 366 * 86_400;

/// Seconds of `90s`, `20m` (or `20min`), `6h`, `7d`.
///
/// # Errors
///
/// How to write it, where it is anything else, nothing at all, or longer than a year.
pub(crate) fn span(text: &str) -> Result<u64, String> {
    let how = || format!("{text:?} is no span of time; write it like 90s, 20m, 6h or 7d");
    let (number, unit) = split(text);
    let factor = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(how()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(how)?;
    match seconds {
        0 => Err(format!("{text:?} is no time at all")),
        seconds if seconds > LONGEST => Err(format!("{text:?} is longer than a year")),
        seconds => Ok(seconds),
    }
}

/// Seconds of the two ends of `10s..5m`, or twice those of `10s`.
///
/// # Errors
///
/// As [`span`], and where the second is the shorter one.
pub(crate) fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to) = (span(from)?, span(to)?);
    if from > to {
        return Err(format!("{text:?} begins above its end"));
    }
    Ok((from, to))
}

/// So many within so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// Seconds.
    pub within: u64,
}

impl Rate {
    /// Reads `20/1h`; `20/h` says the same.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let how = || format!("{text:?} is no rate; write it like 20/1h");
        let (count, within) = text.split_once('/').ok_or_else(how)?;
        let count: u64 = count.parse().map_err(|_| how())?;
        let within = if within.starts_with(|c: char| c.is_ascii_digit()) {
            span(within)?
        } else {
            span(&format!("1{within}"))?
        };
        Ok(Self { count, within })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.count, spoken(self.within))
    }
}

/// Bytes of `500GB`, `2TiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let how = || format!("{text:?} is no size; write it like 500GB or 2TiB");
    let (number, unit) = split(text);
    let factor: u64 = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        _ => return Err(how()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(how)?;
    if bytes == 0 { Err(format!("{text:?} is nothing at all")) } else { Ok(bytes) }
}

/// Seconds as people say them: `90 s`, `20 min`, `6 h`, `7 d`.
#[must_use]
pub fn spoken(seconds: u64) -> String {
    match seconds {
        s if s != 0 && s.is_multiple_of(86_400) => format!("{} d", s / 86_400),
        s if s != 0 && s.is_multiple_of(3_600) => format!("{} h", s / 3_600),
        s if s != 0 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_number_and_a_unit() {
        assert_eq!((span("90s"), span("20m"), span("20min")), (Ok(90), Ok(1_200), Ok(1_200)));
        assert_eq!((span("6h"), span("7d")), (Ok(21_600), Ok(604_800)));
        for bad in ["", "h", "6", "0s", "6w", "-1h", "1.5h", "99999999999999999999s", "400d", "6 hours"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_backoff_goes_upward() {
        assert_eq!((range("10s..5m"), range("30s")), (Ok((10, 300)), Ok((30, 30))));
        assert!(range("5m..10s").is_err());
        assert!(range("..").is_err());
    }

    #[test]
    fn rates_and_sizes_are_as_people_write_them() {
        assert_eq!(Rate::parse("20/1h"), Ok(Rate { count: 20, within: 3_600 }));
        assert_eq!(Rate::parse("1/h"), Rate::parse("1/1h"));
        assert_eq!(Rate::parse("50/5m").unwrap().to_string(), "50 in 5 min");
        assert_eq!((size("2TiB"), size("500GB")), (Ok(2 << 40), Ok(500_000_000_000)));
        for bad in ["", "20", "/1h", "x/1h", "1/", "-1/1h"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "2", "0GiB", "2 TiB", "99999999999TiB", "2tib"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}

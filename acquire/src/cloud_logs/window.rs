//! Times in keys, and the span of time that is asked for. All in seconds since 1970, UTC.

use custody::clock::{parse_rfc3339, rfc3339};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// The span of time that is asked for: from the first second on, up to the second, which is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// From this second on, since 1970.
    pub since: Option<i64>,
    /// Up to this second.
    pub until: Option<i64>,
}

impl Window {
    /// Whether something of the span may lie from `from` to `to`, both included.
    pub(super) fn touches(&self, from: i64, to: i64) -> bool {
        self.since.is_none_or(|since| to >= since) && self.until.is_none_or(|until| from < until)
    }

    /// Whether everything is asked for.
    pub(super) fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }
}

/// `2026-11-21T01:30:00Z`.
pub(super) fn text(seconds: i64) -> String {
    let text = rfc3339(seconds.saturating_mul(1_000_000_000));
    text.get(..19).map_or_else(|| text.clone(), |text| format!("{text}Z"))
}

/// The second that year, month, day, hour, minute and second name, if there is such a one.
pub(super) fn second_of([year, month, day, hour, minute, second]: [u32; 6]) -> Option<i64> {
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    Some(parse_rfc3339(&text).ok()?.div_euclid(1_000_000_000))
}

/// The first second of a year, month or day and the last one.
pub(super) fn span_of(year: u32, month: Option<u32>, day: Option<u32>) -> Option<(i64, i64)> {
    let start = second_of([year, month.unwrap_or(1), day.unwrap_or(1), 0, 0, 0])?;
    let next = match (month, day) {
        (_, Some(_)) => start.checked_add(DAY)?,
        (Some(12), None) | (None, None) => second_of([year.checked_add(1)?, 1, 1, 0, 0, 0])?,
        (Some(month), None) => second_of([year, month.checked_add(1)?, 1, 0, 0, 0])?,
    };
    Some((start, next - 1))
}

/// A number of exactly so many digits.
pub(super) fn digits(text: &str, count: usize) -> Option<u32> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// `20261121T0130Z`, or with seconds.
pub(super) fn stamp(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let part = |text: &str, from: usize, to: usize| digits(text.get(from..to)?, to - from);
    if date.len() != 8 || !matches!(time.len(), 4 | 6) {
        return None;
    }
    let second = if time.len() == 6 { part(time, 4, 6)? } else { 0 };
    second_of([
        part(date, 0, 4)?,
        part(date, 4, 6)?,
        part(date, 6, 8)?,
        part(time, 0, 2)?,
        part(time, 2, 4)?,
        second,
    ])
}

/// `2026-11-21-01-30-00`.
pub(super) fn dashed(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut numbers = [0; 6];
    for (number, count) in numbers.iter_mut().zip([4, 2, 2, 2, 2, 2]) {
        *number = digits(parts.next()?, count)?;
    }
    if parts.next().is_some() { None } else { second_of(numbers) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_with_and_without_seconds_and_nothing_else_is() {
        assert_eq!(stamp("20261121T0130Z"), stamp("20261121T013000Z"));
        assert_eq!(text(stamp("20240229T235959Z").unwrap()), "2024-02-29T23:59:59Z");
        assert_eq!(dashed("2026-11-21-01-30-05"), stamp("20261121T013005Z"));
        for bad in
            ["", "20261121T0130", "20261321T0130Z", "20230229T0130Z", "2026112ÄT0130Z", "20261121T01300Z"]
        {
            assert_eq!(stamp(bad), None, "{bad}");
        }
        for bad in ["2026-11-21-01-30", "2026-11-21-01-30-05-7", "2026-11-21-25-30-05", "x026-11-21-01-30-05"]
        {
            assert_eq!(dashed(bad), None, "{bad}");
        }
    }

    #[test]
    fn years_months_and_days_end_with_their_last_second() {
        let span = |year, month, day| span_of(year, month, day).map(|(from, to)| (text(from), text(to)));
        let words = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(span(2026, None, None), words("2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z"));
        assert_eq!(span(2026, Some(12), None), words("2026-12-01T00:00:00Z", "2026-12-31T23:59:59Z"));
        assert_eq!(span(2024, Some(2), None), words("2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z"));
        assert_eq!(span(2026, Some(2), Some(28)), words("2026-02-28T00:00:00Z", "2026-02-28T23:59:59Z"));
        assert_eq!(span(2026, Some(13), None), None);
    }

    #[test]
    fn a_window_holds_its_first_second_and_not_its_last() {
        let window = Window { since: Some(100), until: Some(200) };
        assert!(window.touches(100, 100) && window.touches(0, 100) && window.touches(199, 300));
        assert!(!window.touches(0, 99) && !window.touches(200, 300));
        assert!(Window::default().touches(0, 0));
    }
}

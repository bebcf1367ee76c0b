//! Time zones: how a local time in evidence becomes UTC.

use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use serde::{Deserialize, Serialize};

use crate::event::{Timestamp, TzBasis};

/// A time zone that local times of a host are read in.
#[derive(Debug, Clone, PartialEq)]
pub enum Zone {
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
    /// A fixed offset, in seconds east of UTC.
    Fixed(i32),
    /// The rules of the host's own `/etc/localtime`, kept as its bytes.
    Rules(Box<tz::TimeZone>, Vec<u8>),
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// The zone that a person or `/etc/timezone` names: `Europe/Berlin`, `UTC`, `+02:00`.
    pub fn from_name(name: &str) -> Option<Zone> {
        let name = name.trim().trim_start_matches(':');
        if name.eq_ignore_ascii_case("utc") || name == "Z" || name == "Etc/UTC" {
            return Some(Zone::UTC);
        }
        if let Ok(zone) = name.parse::<chrono_tz::Tz>() {
            return Some(Zone::Named(zone));
        }
        let (sign, digits) = match name.as_bytes() {
            [b'+', rest @ ..] => (1, rest),
            [b'-', rest @ ..] => (-1, rest),
            _ => return None,
        };
        let digits: Vec<i32> = digits
            .iter()
            .filter(|b| **b != b':')
            .map(|b| (*b as char).to_digit(10).map(|d| d as i32))
            .collect::<Option<_>>()?;
        match digits.as_slice() {
            [h1, h0, m1, m0] => {
                let (hours, minutes) = (h1 * 10 + h0, m1 * 10 + m0);
                (hours <= 18 && minutes < 60).then_some(Zone::Fixed(sign * (hours * 3600 + minutes * 60)))
            }
            _ => None,
        }
    }

    /// The zone that a copied `/etc/localtime` (TZif, RFC 8536) describes.
    pub fn from_tzif(bytes: &[u8]) -> Option<Zone> {
        let rules = tz::TimeZone::from_tz_data(bytes).ok()?;
        Some(Zone::Rules(Box::new(rules), bytes.to_vec()))
    }

    /// A name for people and for the timeline's manifest.
    pub fn name(&self) -> String {
        match self {
            Zone::Named(zone) => zone.name().to_owned(),
            Zone::Fixed(0) => "UTC".into(),
            Zone::Fixed(s) => {
                format!("{}{:02}:{:02}", if *s < 0 { '-' } else { '+' }, s.abs() / 3600, s.abs() % 3600 / 60)
            }
            Zone::Rules(..) => "/etc/localtime".into(),
        }
    }

    /// UTC of a local time: the earlier of two where clocks go back; where clocks go forward over it, read with
    /// the offset before the change.
    pub fn to_utc(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        match self {
            Zone::Fixed(seconds) => local.checked_sub_signed(chrono::TimeDelta::seconds((*seconds).into())),
            Zone::Named(zone) => match zone.from_local_datetime(&local) {
                LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => Some(t.naive_utc()),
                LocalResult::None => {
                    let before = local.checked_sub_signed(chrono::TimeDelta::hours(3))?;
                    let offset = before - zone.from_local_datetime(&before).earliest()?.naive_utc();
                    local.checked_sub_signed(offset)
                }
            },
            Zone::Rules(rules, _) => {
                let guess = local.and_utc().timestamp();
                // The offset in force just before, then corrected once by the offset at the result.
                let first = rules.find_local_time_type(guess).ok()?.ut_offset();
                let second = rules.find_local_time_type(guess.checked_sub(first.into())?).ok()?.ut_offset();
                local.checked_sub_signed(chrono::TimeDelta::seconds(second.into()))
            }
        }
    }

    /// The other UTC time that has the same local time, where clocks went back over it.
    pub fn other_reading(&self, utc: Timestamp) -> Option<Timestamp> {
        if matches!(self, Zone::Fixed(_)) {
            return None;
        }
        let local = self.to_local(utc)?;
        // Clocks go back by an hour, on Lord Howe Island by half of one.
        [3600, -3600, 1800, -1800].into_iter().find_map(|seconds| {
            let micros = utc.micros.checked_add(seconds * 1_000_000)?;
            let other = Timestamp { micros, nanos: utc.nanos };
            (self.to_local(other)? == local).then_some(other)
        })
    }

    /// The local time of a UTC time.
    pub fn to_local(&self, utc: Timestamp) -> Option<NaiveDateTime> {
        let utc = chrono::DateTime::from_timestamp(utc.seconds(), utc.subsec_nanos())?;
        match self {
            Zone::Fixed(seconds) => {
                utc.naive_utc().checked_add_signed(chrono::TimeDelta::seconds((*seconds).into()))
            }
            Zone::Named(zone) => Some(utc.with_timezone(zone).naive_local()),
            Zone::Rules(rules, _) => {
                let offset = rules.find_local_time_type(utc.timestamp()).ok()?.ut_offset();
                utc.naive_utc().checked_add_signed(chrono::TimeDelta::seconds(offset.into()))
            }
        }
    }
}

/// A zone, and how we know it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownZone {
    /// The zone.
    pub zone: Zone,
    /// `host_config`, `flag` or `assumed_utc`.
    pub basis: TzBasis,
}

impl Default for KnownZone {
    fn default() -> Self {
        KnownZone { zone: Zone::UTC, basis: TzBasis::AssumedUtc }
    }
}

/// A zone as the timeline's manifest stores it: a name, or the bytes of `/etc/localtime` in hex.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct StoredZone {
    name: String,
    basis: TzBasis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tzif: Option<String>,
}

impl From<&KnownZone> for StoredZone {
    fn from(known: &KnownZone) -> Self {
        let tzif = match &known.zone {
            Zone::Rules(_, bytes) => Some(hex::encode(bytes)),
            _ => None,
        };
        StoredZone { name: known.zone.name(), basis: known.basis, tzif }
    }
}

impl StoredZone {
    /// The zone again; `None` if this program does not know it.
    pub fn load(&self) -> Option<KnownZone> {
        let zone = match &self.tzif {
            Some(tzif) => Zone::from_tzif(&hex::decode(tzif).ok()?)?,
            None => Zone::from_name(&self.name)?,
        };
        Some(KnownZone { zone, basis: self.basis })
    }
}

/// A calendar time from numbers in evidence; `None` where there is no such date or time. A leap second
/// (`second` 60) is read as the second before with its fraction.
pub fn civil(year: i32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Option<NaiveDateTime> {
    let time = NaiveTime::from_hms_opt(hour, minute, if second == 60 { 59 } else { second })?;
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_time(time))
}

/// The timestamp of a UTC calendar time and nanoseconds.
pub fn utc_timestamp(utc: NaiveDateTime, nanos: u32) -> Option<Timestamp> {
    Timestamp::from_unix(utc.and_utc().timestamp(), nanos)
}

/// The timestamp of a local calendar time that names its own offset, in seconds east of UTC.
pub fn offset_timestamp(local: NaiveDateTime, offset: i32, nanos: u32) -> Option<Timestamp> {
    utc_timestamp(Zone::Fixed(offset).to_utc(local)?, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(zone: &Zone, y: i32, mo: u32, d: u32, h: u32, mi: u32) -> String {
        zone.to_utc(civil(y, mo, d, h, mi, 0).unwrap()).unwrap().to_string()
    }

    #[test]
    fn local_times_around_a_clock_change_become_utc() {
        let berlin = Zone::from_name("Europe/Berlin").unwrap();
        assert_eq!(utc(&berlin, 2026, 7, 1, 12, 0), "2026-07-01 10:00:00");
        assert_eq!(utc(&berlin, 2026, 10, 25, 2, 30), "2026-10-25 00:30:00");
        assert_eq!(utc(&berlin, 2026, 3, 29, 2, 30), "2026-03-29 01:30:00");
        let twice = utc_timestamp(civil(2026, 10, 25, 0, 30, 0).unwrap(), 5).unwrap();
        let other = utc_timestamp(civil(2026, 10, 25, 1, 30, 0).unwrap(), 5).unwrap();
        assert_eq!((berlin.other_reading(twice), berlin.other_reading(other)), (Some(other), Some(twice)));
        assert_eq!(
            berlin.other_reading(utc_timestamp(civil(2026, 10, 25, 2, 30, 0).unwrap(), 0).unwrap()),
            None
        );
        assert_eq!(utc(&Zone::from_name("-03:30").unwrap(), 2026, 1, 1, 0, 0), "2026-01-01 03:30:00");
        assert_eq!(Zone::from_name("Mars/Olympus"), None);
        assert_eq!(Zone::from_name("+99:00"), None);
    }

    #[test]
    fn a_stored_zone_comes_back() {
        for name in ["Europe/Berlin", "UTC", "+05:45"] {
            let known = KnownZone { zone: Zone::from_name(name).unwrap(), basis: TzBasis::Flag };
            assert_eq!(StoredZone::from(&known).load(), Some(known));
        }
    }
}

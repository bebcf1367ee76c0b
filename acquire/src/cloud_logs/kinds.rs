//! Which logs are delivered under which keys: one row a layout.
//!
//! A key tells when its object was made, which is not when its events happened. Each row says how far before and after that
//! moment events may lie, so that an object that may hold an event of the window is taken.

use super::window::{Window, dashed, digits, span_of, stamp};

const HOUR: i64 = 3600;

/// Where the time stands in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stamp {
    /// In the name, as `20261121T0130Z` between other parts.
    InName,
    /// Nowhere but in the folders of the day.
    Day,
    /// At the end of the name, as `2026-11-21-01-30-00-1A2B3C4D5E6F7A8B`.
    AtEnd,
    /// Nowhere: what counts is when the object was written.
    Written,
}

/// One layout of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its name in facts and tables.
    pub(super) name: &'static str,
    /// What it holds, in words.
    pub(super) words: &'static str,
    /// The folder behind the account that names the service.
    service: &'static str,
    /// Folders between that one and the year.
    between: usize,
    stamp: Stamp,
    /// How often an object is delivered where there is something to deliver; `None` where that says nothing.
    pub(super) period: Option<i64>,
    /// Events may be so much older than the key's time …
    pub(super) before: i64,
    /// … or so much younger.
    pub(super) after: i64,
}

/// AWS CloudTrail User Guide, "CloudTrail log file name format" and "Finding your CloudTrail log files".
pub(super) static CLOUDTRAIL: Layout = Layout {
    name: "cloudtrail",
    words: "CloudTrail log files",
    service: "CloudTrail",
    between: 1,
    stamp: Stamp::InName,
    period: Some(300),
    before: HOUR,
    after: 60,
};

/// AWS CloudTrail User Guide, "CloudTrail digest file structure". Those of the files that the window needs end up to two
/// hours later than these.
pub(super) static DIGEST: Layout = Layout {
    name: "cloudtrail-digest",
    words: "CloudTrail digest files",
    service: "CloudTrail-Digest",
    between: 1,
    stamp: Stamp::InName,
    period: Some(HOUR),
    before: 3 * HOUR,
    after: 60,
};

/// Keys that begin with nothing we know.
pub(super) static OTHER: Layout = Layout {
    name: "other",
    words: "objects of no known layout",
    service: "",
    between: 0,
    stamp: Stamp::Written,
    period: None,
    before: 24 * HOUR,
    after: 0,
};

/// Amazon S3 User Guide, "Logging requests with server access logging", "Log object key format": delivered within a few
/// hours, as well as it goes.
static S3_ACCESS: Layout = Layout {
    name: "s3-access",
    words: "S3 server access logs",
    service: "",
    between: 0,
    stamp: Stamp::AtEnd,
    period: Some(HOUR),
    before: 24 * HOUR,
    after: 60,
};

/// The layouts below `AWSLogs/ACCOUNT/SERVICE/`.
static SERVICES: [&Layout; 8] = [
    &CLOUDTRAIL,
    &DIGEST,
    // AWS CloudTrail User Guide, "Understanding CloudTrail Insights events".
    &Layout {
        name: "cloudtrail-insight",
        words: "CloudTrail Insights files",
        service: "CloudTrail-Insight",
        between: 1,
        stamp: Stamp::InName,
        period: None,
        before: HOUR,
        after: 60,
    },
    // Amazon VPC User Guide, "Flow log files": published every 5 minutes, of intervals of up to 10.
    &Layout {
        name: "vpc-flow",
        words: "VPC flow logs",
        service: "vpcflowlogs",
        between: 1,
        stamp: Stamp::InName,
        period: Some(600),
        before: 1200,
        after: 900,
    },
    // Elastic Load Balancing user guides, "Access log files" of application, network and classic load balancers: the time
    // is the end of an interval of 5 minutes, or of 60 (classic).
    &Layout {
        name: "load-balancer",
        words: "load balancer access logs",
        service: "elasticloadbalancing",
        between: 1,
        stamp: Stamp::InName,
        period: Some(300),
        before: HOUR,
        after: 60,
    },
    // Amazon Route 53 Developer Guide, "AWS resources that you can send Resolver query logs to".
    &Layout {
        name: "route53-resolver",
        words: "Route 53 resolver query logs",
        service: "vpcdnsquerylogs",
        between: 1,
        stamp: Stamp::InName,
        period: Some(300),
        before: 900,
        after: 900,
    },
    // Amazon GuardDuty User Guide, "Exporting generated findings to Amazon S3": updates follow up to six hours later.
    &Layout {
        name: "guardduty",
        words: "GuardDuty findings",
        service: "GuardDuty",
        between: 1,
        stamp: Stamp::Day,
        period: None,
        before: 6 * HOUR,
        after: 0,
    },
    // AWS WAF Developer Guide, "Sending protection pack (web ACL) traffic logs to an Amazon S3 bucket".
    &Layout {
        name: "waf",
        words: "WAF logs",
        service: "WAFLogs",
        between: 2,
        stamp: Stamp::InName,
        period: Some(300),
        before: 900,
        after: 900,
    },
];

/// Every layout, in the order of the table.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static Layout> {
    SERVICES.into_iter().chain([&S3_ACCESS, &OTHER])
}

/// What a key tells of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known<'k> {
    pub(super) layout: &'static Layout,
    /// First and last second that the key names; `None` where it names none.
    pub(super) time: Option<(i64, i64)>,
    /// What objects of one sender have in common: the folder before the date, and the name before the time.
    pub(super) series: (&'k str, &'k str),
    /// The region that it is about, where a folder names one.
    pub(super) region: &'k str,
    /// All before the folder of the service: `logs/AWSLogs/123456789012/`.
    pub(super) account: &'k str,
}

impl Layout {
    /// Whether an object may hold events of the window.
    pub(super) fn may_hold(&self, time: (i64, i64), window: &Window) -> bool {
        window.touches(time.0.saturating_sub(self.before), time.1.saturating_add(self.after))
    }
}

/// Where a folder stands in a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is known of it.
    Unknown,
    /// It is on the way to the folders of years.
    Above,
    /// It is a year, a month, or a day with all below it: the seconds it spans.
    Date { layout: &'static Layout, span: (i64, i64), is_day: bool },
    /// No layout of ours goes on like this, so that all below may be anything.
    Astray,
}

/// A value in a folder that Hive could have named: `year=2026`.
fn bare<'k>(segment: &'k str, name: &str) -> &'k str {
    segment.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap_or(segment)
}

fn is_account(segment: &str) -> bool {
    let bare = bare(segment, "aws-account-id");
    bare.len() == 12 && bare.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_organization(segment: &str) -> bool {
    segment.strip_prefix("o-").is_some_and(|id| {
        (10..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

fn is_region(segment: &str) -> bool {
    let mut parts = segment.rsplit('-');
    parts.next().is_some_and(|number| digits(number, number.len()).is_some())
        && segment.matches('-').count() >= 2
        && parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// How folders go on behind the account.
struct Road<'k> {
    layout: &'static Layout,
    /// Where the service's folder begins.
    service: usize,
    /// Where the year's folder begins.
    date: usize,
    region: &'k str,
}

/// Follows whole folders (`segments`, each with the place where it begins) from the account on.
///
/// `Ok(None)`: they end before the year; `Err`: they lead to no layout.
fn follow<'k>(segments: &[(usize, &'k str)]) -> Result<Option<Road<'k>>, ()> {
    let Some(at) = segments.iter().position(|(_, segment)| *segment == "AWSLogs") else {
        // S3 server access logs with date partitions: ACCOUNT/REGION/BUCKET/YYYY/MM/DD/.
        let found = segments.windows(2).position(
            |pair| matches!(pair, [(_, account), (_, region)] if is_account(account) && is_region(region)),
        );
        let Some(rest) = found.and_then(|at| segments.get(at..)) else { return Err(()) };
        return Ok(match rest {
            [(start, _), (_, region), _, (date, _), ..] => {
                Some(Road { layout: &S3_ACCESS, service: *start, date: *date, region })
            }
            _ => None,
        });
    };
    let mut rest = segments.get(at.saturating_add(1)..).unwrap_or_default();
    if let Some(((_, first), more)) = rest.split_first()
        && is_organization(first)
    {
        rest = more;
    }
    let Some(((_, account), rest)) = rest.split_first() else { return Ok(None) };
    if !is_account(account) {
        return Err(());
    }
    let Some(((service_at, service), rest)) = rest.split_first() else { return Ok(None) };
    let service = bare(service, "aws-service");
    let layout = SERVICES.into_iter().find(|layout| layout.service == service).ok_or(())?;
    let region = rest.first().map_or("", |(_, region)| bare(region, "aws-region"));
    Ok(rest.get(layout.between).map(|(date, _)| Road { layout, service: *service_at, date: *date, region }))
}

/// Year, month and day as far as the folders name them. `None` if they name something else.
fn date<'k>(mut folders: impl Iterator<Item = &'k str>) -> Option<(u32, Option<u32>, Option<u32>)> {
    let year = digits(bare(folders.next()?, "year"), 4)?;
    let month = match folders.next() {
        Some(month) => Some(digits(bare(month, "month"), 2)?),
        None => None,
    };
    let day = match folders.next() {
        Some(day) => Some(digits(bare(day, "day"), 2)?),
        None => None,
    };
    Some((year, month, day))
}

/// The folders of a key with the places where they begin, and its name.
fn split(key: &str) -> (Vec<(usize, &str)>, &str) {
    let mut at = 0usize;
    let mut segments: Vec<(usize, &str)> = key
        .split('/')
        .map(|segment| {
            let here = at;
            at = at.saturating_add(segment.len()).saturating_add(1);
            (here, segment)
        })
        .collect();
    let name = segments.pop().map_or("", |(_, name)| name);
    (segments, name)
}

/// Where a folder (which ends in `/`, or is empty) stands.
pub(super) fn stage(folder: &str) -> Stage {
    let (segments, _) = split(folder);
    if segments.is_empty() {
        return Stage::Unknown;
    }
    match follow(&segments) {
        Ok(None) => Stage::Above,
        Ok(Some(road)) => {
            let folders = segments.iter().filter(|(at, _)| *at >= road.date).map(|(_, folder)| *folder);
            match date(folders) {
                Some((year, month, day)) => match span_of(year, month, day) {
                    Some(span) => Stage::Date { layout: road.layout, span, is_day: day.is_some() },
                    None => Stage::Astray,
                },
                None => Stage::Astray,
            }
        }
        Err(()) if segments.iter().any(|(_, segment)| *segment == "AWSLogs") => Stage::Astray,
        Err(()) => Stage::Unknown,
    }
}

/// Where the digest files lie that tell of the CloudTrail files of a prefix, and the seconds of the dates that the prefix
/// names. `None` if it is no prefix of CloudTrail files alone.
pub(super) fn digests_of(prefix: &str) -> Option<(String, Option<(i64, i64)>)> {
    let name_at = prefix.rfind('/').map_or(0, |at| at.saturating_add(1));
    let (segments, _) = split(prefix.get(..name_at)?);
    let (at, _) = segments.iter().find(|(_, segment)| *segment == CLOUDTRAIL.service)?;
    let road = follow(&segments).ok()?;
    if road.as_ref().is_some_and(|road| road.layout != &CLOUDTRAIL || road.service != *at) {
        return None;
    }
    let before = segments.iter().rev().find(|(before, _)| before < at);
    if road.is_none() && !before.is_some_and(|(_, account)| is_account(account)) {
        return None;
    }
    let service_end = at.checked_add(CLOUDTRAIL.service.len())?;
    // The digest of a day's last hour lies in the next day's folder.
    let end = road.as_ref().map_or(prefix.len(), |road| road.date);
    let span = match stage(prefix.get(..name_at)?) {
        Stage::Date { span, .. } => Some(span),
        _ => None,
    };
    Some((format!("{}{}{}", prefix.get(..*at)?, DIGEST.service, prefix.get(service_end..end)?), span))
}

/// What a key tells.
pub(super) fn know(key: &str) -> Known<'_> {
    let (segments, name) = split(key);
    let name_at = key.len().saturating_sub(name.len());
    let unknown = Known { layout: &OTHER, time: None, series: ("", ""), region: "", account: "" };
    let before = |at: usize| key.get(..at).unwrap_or_default();
    let road = follow(&segments).ok().flatten();
    if let Some(road) = &road
        && road.layout.stamp != Stamp::AtEnd
    {
        let folders = segments.iter().filter(|(at, _)| *at >= road.date).map(|(_, folder)| *folder);
        let Some(span) = date(folders).and_then(|(year, month, day)| span_of(year, month, day)) else {
            return unknown;
        };
        let (time, end) = match road.layout.stamp {
            Stamp::Day => (span, 0),
            _ => match stamp_in(name) {
                Some((time, at)) => ((time, time), at),
                None => return unknown,
            },
        };
        return Known {
            layout: road.layout,
            time: Some(time),
            series: (before(road.date), name.get(..end).unwrap_or_default()),
            region: road.region,
            account: before(road.service),
        };
    }
    if let Some((time, at)) = stamp_at_end(name) {
        // With date partitions, all folders before the date; else all before the time.
        let partition = road.as_ref().map_or(name_at, |road| road.date);
        return Known {
            layout: &S3_ACCESS,
            time: Some((time, time)),
            series: (before(partition), name.get(..at).unwrap_or_default()),
            region: road.as_ref().map_or("", |road| road.region),
            account: "",
        };
    }
    unknown
}

/// The last `20261121T0130Z` that stands alone between `_` and `.`, and where it begins.
fn stamp_in(name: &str) -> Option<(i64, usize)> {
    let mut at = 0usize;
    let mut found = None;
    for part in name.split(['_', '.']) {
        if let Some(time) = stamp(part) {
            found = Some((time, at));
        }
        at = at.saturating_add(part.len()).saturating_add(1);
    }
    found
}

/// `2026-11-21-01-30-00-1A2B3C4D5E6F7A8B` at the end, and where it begins.
fn stamp_at_end(name: &str) -> Option<(i64, usize)> {
    const LENGTH: usize = 19 + 1 + 16;
    let at = name.len().checked_sub(LENGTH)?;
    let (time, unique) = (name.get(at..at.checked_add(19)?)?, name.get(at.checked_add(19)?..)?);
    let unique = unique.strip_prefix('-')?;
    let is_unique = unique.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
    if is_unique { Some((dashed(time)?, at)) } else { None }
}

/// The times that a list of keys that all begin with `prefix` and a time can be cut to: the first and the last key to list.
pub(super) fn dashed_range(prefix: &str, window: &Window) -> (Option<String>, Option<String>) {
    let at = |seconds: i64| {
        let text = super::window::text(seconds).replace(['T', ':'], "-");
        format!("{prefix}{}", text.trim_end_matches('Z'))
    };
    let from = window.since.map(|since| at(since.saturating_sub(S3_ACCESS.after)));
    let to = window.until.map(|until| at(until.saturating_add(S3_ACCESS.before)));
    (from, to)
}

/// Whether a key is `prefix` followed by a time, as S3 server access logs without date partitions are named.
pub(super) fn is_dashed_after(prefix: &str, key: &str) -> bool {
    key.strip_prefix(prefix).is_some_and(|rest| stamp_at_end(rest).is_some_and(|(_, at)| at == 0))
}

#[cfg(test)]
mod tests {
    use super::super::window::text;
    use super::*;

    /// Keys as AWS's guides print them, with the time that they tell and the account's folder.
    const KEYS: [(&str, &str, &str); 13] = [
        (
            "cloudtrail",
            "p/AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/21/111122223333_CloudTrail_us-east-2_20261121T2120Z_Mu0KsOhtH1ar15ZZ.json.gz",
            "2026-11-21T21:20:00Z",
        ),
        (
            "cloudtrail",
            "AWSLogs/o-exampleorgid/111122223333/CloudTrail/us-east-2/2026/11/21/111122223333_CloudTrail_us-east-2_20261121T2120Z_Mu0KsOhtH1ar15ZZ.json.gz",
            "2026-11-21T21:20:00Z",
        ),
        (
            "cloudtrail-digest",
            "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2026/11/21/111122223333_CloudTrail-Digest_us-east-2_your_trail_us-east-2_20261121T150131Z.json.gz",
            "2026-11-21T15:01:31Z",
        ),
        (
            "cloudtrail-digest",
            "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2026/11/21/111122223333_CloudTrail-Digest_us-east-2_t_us-east-2_20261121T150131Z_backfill.json.gz",
            "2026-11-21T15:01:31Z",
        ),
        (
            "cloudtrail-insight",
            "AWSLogs/111122223333/CloudTrail-Insight/us-east-1/2026/11/21/111122223333_CloudTrail-Insight_us-east-1_20261121T2130Z_lB5ICTyUF9QEsQpO.json.gz",
            "2026-11-21T21:30:00Z",
        ),
        (
            "vpc-flow",
            "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/06/20/123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20260620T1620Z_fe123456.log.gz",
            "2026-06-20T16:20:00Z",
        ),
        (
            "vpc-flow",
            "p/AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=us-east-1/year=2026/month=06/day=20/hour=16/123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20260620T1620Z_fe123456.log.gz",
            "2026-06-20T16:20:00Z",
        ),
        (
            "load-balancer",
            "p/AWSLogs/123456789012/elasticloadbalancing/us-east-2/2026/05/01/123456789012_elasticloadbalancing_us-east-2_app.my-loadbalancer.1234567890abcdef_20260501T0000Z_172.160.001.192_20sg8hgm.log.gz",
            "2026-05-01T00:00:00Z",
        ),
        (
            "route53-resolver",
            "AWSLogs/123456789012/vpcdnsquerylogs/vpc-1a2b/2026/11/21/vpc-1a2b_vpcdnsquerylogs_123456789012_20261121T0345Z_0b1c2d3e.log.gz",
            "2026-11-21T03:45:00Z",
        ),
        (
            "guardduty",
            "AWSLogs/123456789012/GuardDuty/eu-central-1/2026/11/21/8c0d2d1e-1111-2222-3333-444455556666.jsonl.gz",
            "2026-11-21T00:00:00Z",
        ),
        (
            "waf",
            "AWSLogs/123456789012/WAFLogs/us-east-1/TEST-WEBACL/2026/10/28/19/50/123456789012_waflogs_us-east-1_TEST-WEBACL_20261028T1950Z_e0ca43b5.log.gz",
            "2026-10-28T19:50:00Z",
        ),
        ("s3-access", "logs/web-2026-11-21-21-32-16-E568B2907131C0C0", "2026-11-21T21:32:16Z"),
        (
            "s3-access",
            "p/123456789012/us-west-2/amzn-s3-demo-bucket/2026/03/01/2026-03-01-21-32-16-E568B2907131C0C0",
            "2026-03-01T21:32:16Z",
        ),
    ];

    #[test]
    fn every_layout_is_known_by_its_keys_and_tells_its_time() {
        for (layout, key, time) in KEYS {
            let known = know(key);
            assert_eq!((known.layout.name, text(known.time.unwrap().0)), (layout, time.to_owned()), "{key}");
        }
        for layout in all().filter(|layout| layout.name != "other") {
            assert!(KEYS.iter().any(|(name, ..)| *name == layout.name), "no key of {}", layout.name);
        }
    }

    #[test]
    fn what_is_not_quite_a_layout_is_told_by_when_it_was_written() {
        for key in [
            "",
            "/",
            "AWSLogs",
            "AWSLogs/",
            "AWSLogs/12345678901/CloudTrail/us-east-2/2026/11/21/1_CloudTrail_us-east-2_20261121T2120Z_x.json.gz",
            "AWSLogs/111122223333/CloudTrail/us-east-2/2026/13/21/1_CloudTrail_us-east-2_20261121T2120Z_x.json.gz",
            "AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/21/notes.txt",
            "AWSLogs/111122223333/Config/us-east-2/2026/11/21/x_20261121T2120Z_x.json.gz",
            "web-2026-11-21-21-32-16-e568b2907131c0c0",
            "web-2026-11-21-21-32-16-E568B2907131C0C",
            "ÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜÄÖÜ",
        ] {
            assert_eq!((know(key).layout.name, know(key).time), ("other", None), "{key}");
        }
    }

    #[test]
    fn a_series_is_what_one_sender_delivers() {
        let of = |key: &'static str| know(key).series;
        let (first, second) = (
            of(KEYS[7].1),
            of(
                "p/AWSLogs/123456789012/elasticloadbalancing/us-east-2/2026/05/02/123456789012_elasticloadbalancing_us-east-2_app.my-loadbalancer.1234567890abcdef_20260502T0000Z_10.0.0.1_abc.log.gz",
            ),
        );
        assert_eq!(first, second);
        assert_eq!(of(KEYS[11].1), ("logs/", "web-"));
        assert_eq!(of(KEYS[12].1), ("p/123456789012/us-west-2/amzn-s3-demo-bucket/", ""));
        assert_eq!(know(KEYS[1].1).account, "AWSLogs/o-exampleorgid/111122223333/");
        assert_eq!(know(KEYS[6].1).region, "us-east-1");
    }

    #[test]
    fn folders_above_the_date_are_told_from_dates_and_from_anything_else() {
        let date = |folder| match stage(folder) {
            Stage::Date { layout, span, is_day } => (layout.name, text(span.0), is_day),
            other => panic!("{folder}: {other:?}"),
        };
        assert_eq!(
            date("AWSLogs/111122223333/CloudTrail/us-east-2/2026/"),
            ("cloudtrail", "2026-01-01T00:00:00Z".into(), false)
        );
        assert_eq!(
            date("AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/"),
            ("cloudtrail", "2026-11-01T00:00:00Z".into(), false)
        );
        assert_eq!(
            date("x/AWSLogs/111122223333/WAFLogs/cloudfront/acl/2026/11/21/"),
            ("waf", "2026-11-21T00:00:00Z".into(), true)
        );
        assert_eq!(
            date(
                "x/AWSLogs/aws-account-id=111122223333/aws-service=vpcflowlogs/aws-region=eu/year=2026/month=02/day=03/hour=04/"
            ),
            ("vpc-flow", "2026-02-03T00:00:00Z".into(), true)
        );
        assert_eq!(
            date("123456789012/us-west-2/bucket/2026/03/"),
            ("s3-access", "2026-03-01T00:00:00Z".into(), false)
        );
        for above in [
            "AWSLogs/",
            "a/b/AWSLogs/111122223333/",
            "AWSLogs/o-exampleorgid/",
            "AWSLogs/111122223333/CloudTrail/",
            "AWSLogs/111122223333/CloudTrail/us-east-2/",
            "123456789012/us-west-2/bucket/",
        ] {
            assert_eq!(stage(above), Stage::Above, "{above}");
        }
        for unknown in ["", "a/", "2026/11/21/", "111122223333/", "a/2026/"] {
            assert_eq!(stage(unknown), Stage::Unknown, "{unknown}");
        }
        for astray in [
            "AWSLogs/111122223333/Config/",
            "AWSLogs/x/",
            "AWSLogs/111122223333/CloudTrail/us-east-2/2026/13/",
            "AWSLogs/111122223333/CloudTrail/us-east-2/archive/",
        ] {
            assert_eq!(stage(astray), Stage::Astray, "{astray}");
        }
    }

    #[test]
    fn the_digests_of_log_files_lie_beside_them() {
        let of = |prefix| digests_of(prefix).map(|(prefix, span)| (prefix, span.map(|(from, _)| text(from))));
        let found = |prefix: &str, from: Option<&str>| Some((prefix.to_owned(), from.map(str::to_owned)));
        assert_eq!(
            of("p/AWSLogs/111122223333/CloudTrail/"),
            found("p/AWSLogs/111122223333/CloudTrail-Digest/", None)
        );
        assert_eq!(
            of("AWSLogs/111122223333/CloudTrail/us-"),
            found("AWSLogs/111122223333/CloudTrail-Digest/us-", None)
        );
        assert_eq!(
            of("AWSLogs/111122223333/CloudTrail/us-east-2/2026/11/2"),
            found("AWSLogs/111122223333/CloudTrail-Digest/us-east-2/", Some("2026-11-01T00:00:00Z"))
        );
        for none in [
            "",
            "AWSLogs/",
            "AWSLogs/111122223333/CloudTrail",
            "CloudTrail/",
            "AWSLogs/111122223333/CloudTrail-Digest/",
            "AWSLogs/111122223333/vpcflowlogs/CloudTrail/",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn access_logs_without_folders_are_listed_by_their_times() {
        assert!(is_dashed_after("logs/web-", KEYS[11].1));
        assert!(!is_dashed_after("logs/", KEYS[11].1));
        let window = Window { since: Some(1_700_000_060), until: None };
        assert_eq!(dashed_range("p", &window), (Some("p2023-11-14-22-13-20".into()), None));
    }
}

//! CloudTrail: the trails of an account, and the events of its last 90 days.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::{Answered, Pages, Raw, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static CLOUDTRAIL: Service = Service {
    name: "CloudTrail",
    id: "CloudTrail",
    host: "cloudtrail",
    prefix: "cloudtrail",
    protocol: Protocol::Json("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"),
};

/// LookupEvents may be asked twice a second in an account and region, by everybody together.
const PAUSE: Duration = Duration::from_millis(600);

/// Where an account's events are written to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The bucket.
    pub bucket: String,
    /// What stands before `AWSLogs/` in the bucket; may be empty.
    pub prefix: String,
    /// The key that its files are encrypted with, if it is one of KMS.
    pub kms_key: Option<String>,
    /// The region that it was made in.
    pub home_region: String,
    /// Whether it holds all regions.
    pub is_multi_region: bool,
    /// Whether it holds all accounts of the organisation.
    pub is_organization: bool,
    /// Whether digest files are written, so that its log files can be verified.
    pub has_digests: bool,
}

/// How a trail does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrailStatus {
    /// Whether it writes now.
    pub is_logging: bool,
    /// When it last wrote events, in seconds since 1970.
    pub delivered: Option<f64>,
    /// When it last wrote a digest, likewise.
    pub digest_delivered: Option<f64>,
    /// Why the last writing of events failed; empty if it did not.
    pub delivery_error: String,
    /// Why that of a digest did.
    pub digest_error: String,
}

/// Which events are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// From this second on, since 1970.
    pub since: Option<i64>,
    /// Up to this second.
    pub until: Option<i64>,
    /// Only events with this: one of EventId, EventName, ReadOnly, Username, ResourceType, ResourceName, EventSource,
    /// AccessKeyId, and its value.
    pub attribute: Option<(String, String)>,
}

/// One event, as LookupEvents gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// What was done: `CreateSnapshot`.
    pub name: String,
    /// At which service: `ec2.amazonaws.com`.
    pub source: String,
    /// When, in seconds since 1970, as the service says it beside the record.
    pub time: Option<f64>,
    /// The record itself: JSON, as it would stand in a trail's file.
    pub record: String,
}

/// A client of CloudTrail.
#[derive(Debug, Clone)]
pub struct CloudTrail {
    caller: Caller,
    connection: Connection,
}

impl CloudTrail {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self { caller: Caller::new(connection, &CLOUDTRAIL)?, connection: connection.clone() })
    }

    /// The trails of this region, with those of other regions that hold this one too.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:DescribeTrails`.
    pub fn describe_trails(&self) -> Result<Answered<Vec<Trail>>, Failure> {
        let call = Call::reads("DescribeTrails", "");
        let (answer, raw) = self.caller.json(&call, &json!({"includeShadowTrails": true}))?;
        let trails = answer.get("trailList").and_then(Value::as_array);
        Ok(Answered { value: trails.into_iter().flatten().map(trail).collect(), raw: vec![raw] })
    }

    /// Whether a trail writes now.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:GetTrailStatus`.
    pub fn is_logging(&self, trail: &Trail) -> Result<Answered<bool>, Failure> {
        let call = Call::reads("GetTrailStatus", &trail.arn);
        let (answer, raw) = self.caller.json(&call, &json!({"Name": trail.arn}))?;
        let value = answer.get("IsLogging").and_then(Value::as_bool).unwrap_or(false);
        Ok(Answered { value, raw: vec![raw] })
    }

    /// How a trail does.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:GetTrailStatus`.
    pub fn status(&self, trail: &Trail) -> Result<Answered<TrailStatus>, Failure> {
        let call = Call::reads("GetTrailStatus", &trail.arn);
        let (answer, raw) = self.caller.json(&call, &json!({"Name": trail.arn}))?;
        let time = |name: &str| answer.get(name).and_then(Value::as_f64);
        let value = TrailStatus {
            is_logging: answer.get("IsLogging").and_then(Value::as_bool).unwrap_or(false),
            delivered: time("LatestDeliveryTime"),
            digest_delivered: time("LatestDigestDeliveryTime"),
            delivery_error: text(&answer, "LatestDeliveryError"),
            digest_error: text(&answer, "LatestDigestDeliveryError"),
        };
        Ok(Answered { value, raw: vec![raw] })
    }

    /// Which events a trail holds, as CloudTrail says it: `EventSelectors` and `AdvancedEventSelectors`.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:GetEventSelectors`.
    pub fn event_selectors(&self, trail: &Trail) -> Result<Answered<Value>, Failure> {
        let call = Call::reads("GetEventSelectors", &trail.arn);
        let (value, raw) = self.caller.json(&call, &json!({"TrailName": trail.arn}))?;
        Ok(Answered { value, raw: vec![raw] })
    }

    /// The answers that hold the public keys of the digest files that were signed in this region between two seconds; without
    /// an end, until now. The keys themselves are in `PublicKeyList`, as `aws cloudtrail list-public-keys` prints it.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:ListPublicKeys`.
    pub fn list_public_keys(&self, since: i64, until: Option<i64>) -> Result<Vec<Raw>, Failure> {
        let call = Call::reads("ListPublicKeys", "");
        let answered = all_pages("CloudTrail ListPublicKeys", |token| {
            let mut body = Map::from_iter([("StartTime".to_owned(), since.into())]);
            body.extend(until.map(|until| ("EndTime".to_owned(), until.into())));
            body.extend(token.map(|token| ("NextToken".to_owned(), token.into())));
            let (answer, raw) = self.caller.json(&call, &Value::Object(body))?;
            Ok((Vec::<()>::new(), answer.get("NextToken").and_then(Value::as_str).map(str::to_owned), raw))
        })?;
        Ok(answered.raw)
    }

    /// The events of the last 90 days, newest first, page by page: each page is given to `take` as it comes, with the answer.
    ///
    /// Only management events can be had so, and only of this region (events of global services: of us-east-1). Two pages
    /// of 50 a second at most, for the account's sake. `take` may end it with an error of its own.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `cloudtrail:LookupEvents`; what `take` gives.
    pub fn lookup_events<E: From<Failure>>(
        &self,
        query: &EventQuery,
        mut take: impl FnMut(Vec<Event>, Raw) -> Result<(), E>,
    ) -> Result<(), E> {
        let call = Call::reads("LookupEvents", "");
        let mut body = Map::new();
        if let Some(since) = query.since {
            body.insert("StartTime".to_owned(), since.into());
        }
        if let Some(until) = query.until {
            body.insert("EndTime".to_owned(), until.into());
        }
        if let Some((key, value)) = &query.attribute {
            let attribute = json!([{"AttributeKey": key, "AttributeValue": value}]);
            body.insert("LookupAttributes".to_owned(), attribute);
        }
        body.insert("MaxResults".to_owned(), 50.into());
        let mut pages = Pages::new("CloudTrail LookupEvents");
        loop {
            let (answer, raw) = self.caller.json(&call, &Value::Object(body.clone()))?;
            let Some(events) = answer.get("Events").and_then(Value::as_array) else {
                let failure =
                    self.caller.found(&call, FailureKind::Corrupt, "the answer has no list of events");
                return Err(failure.into());
            };
            take(events.iter().map(event).collect(), raw)?;
            let next = answer.get("NextToken").and_then(Value::as_str).map(str::to_owned);
            let Some(next) = pages.next(next)? else { return Ok(()) };
            body.insert("NextToken".to_owned(), next.into());
            // A sleep is made within the runtime, which it needs.
            self.connection.wait(async { tokio::time::sleep(PAUSE).await });
        }
    }

    /// All events of a query at once, at most `most` of them; for what is known to be little.
    ///
    /// # Errors
    ///
    /// As [`CloudTrail::lookup_events`], and [`FailureKind::Quota`] if there are more.
    pub fn few_events(&self, query: &EventQuery, most: usize) -> Result<Answered<Vec<Event>>, Failure> {
        let (mut value, mut raw) = (Vec::new(), Vec::new());
        self.lookup_events(query, |events, answer| {
            value.extend(events);
            raw.push(answer);
            if value.len() > most {
                let what = format!("there are more than {most} events");
                return Err(Failure::found("CloudTrail LookupEvents", FailureKind::Quota, what));
            }
            Ok(())
        })?;
        Ok(Answered { value, raw })
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn trail(value: &Value) -> Trail {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    Trail {
        name: text(value, "Name"),
        arn: text(value, "TrailARN"),
        bucket: text(value, "S3BucketName"),
        prefix: text(value, "S3KeyPrefix"),
        kms_key: Some(text(value, "KmsKeyId")).filter(|key| !key.is_empty()),
        home_region: text(value, "HomeRegion"),
        is_multi_region: flag("IsMultiRegionTrail"),
        is_organization: flag("IsOrganizationTrail"),
        has_digests: flag("LogFileValidationEnabled"),
    }
}

fn event(value: &Value) -> Event {
    Event {
        id: text(value, "EventId"),
        name: text(value, "EventName"),
        source: text(value, "EventSource"),
        time: value.get("EventTime").and_then(Value::as_f64),
        record: text(value, "CloudTrailEvent"),
    }
}

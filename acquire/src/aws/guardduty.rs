//! GuardDuty: whether it watches the region.

use serde_json::Value;

use super::answer::{Answered, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static GUARDDUTY: Service = Service {
    name: "GuardDuty",
    id: "GuardDuty",
    host: "guardduty",
    prefix: "guardduty",
    protocol: Protocol::Rest,
};

/// A client of GuardDuty.
#[derive(Debug, Clone)]
pub struct GuardDuty(Caller);

/// A detector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detector {
    /// Its id.
    pub id: String,
    /// `ENABLED` or `DISABLED`.
    pub status: String,
    /// `FIFTEEN_MINUTES`, `ONE_HOUR` or `SIX_HOURS`.
    pub publishes_every: String,
    /// Its features that are on, such as `S3_DATA_EVENTS`.
    pub features: Vec<String>,
}

impl GuardDuty {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &GUARDDUTY)?))
    }

    /// The ids of the region's detectors; there is one at most.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `guardduty:ListDetectors`.
    pub fn detectors(&self) -> Result<Answered<Vec<String>>, Failure> {
        let call = Call::reads("ListDetectors", "");
        // One page: the service has one detector in a region.
        all_pages("GuardDuty ListDetectors", |_| {
            let (answer, raw) = self.0.get(&call, "/detector")?;
            let ids = answer.get("detectorIds").and_then(Value::as_array);
            let ids = ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            Ok((ids, None, raw))
        })
    }

    /// One detector.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `guardduty:GetDetector`; [`FailureKind::Invalid`] for what is no id.
    pub fn detector(&self, id: &str) -> Result<Answered<Detector>, Failure> {
        let call = Call::reads("GetDetector", id);
        if id.is_empty() || id.len() > 300 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.0.found(&call, FailureKind::Invalid, "that is no id of a detector"));
        }
        let (answer, raw) = self.0.get(&call, &format!("/detector/{id}"))?;
        let field = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let features = answer.get("features").and_then(Value::as_array).into_iter().flatten();
        let is_on = |feature: &&Value| feature.get("status").and_then(Value::as_str) == Some("ENABLED");
        let name = |feature: &Value| feature.get("name").and_then(Value::as_str).map(str::to_owned);
        let value = Detector {
            id: id.to_owned(),
            status: field("status"),
            publishes_every: field("findingPublishingFrequency"),
            features: features.filter(is_on).filter_map(name).collect(),
        };
        Ok(Answered { value, raw: vec![raw] })
    }
}

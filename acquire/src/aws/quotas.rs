//! Service Quotas: how many requests a second the account may make.

use serde_json::{Value, json};

use super::answer::Answered;
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static QUOTAS: Service = Service {
    name: "Service Quotas",
    id: "Service Quotas",
    host: "servicequotas",
    prefix: "servicequotas",
    protocol: Protocol::Json("ServiceQuotasV20190624"),
};

/// A quota of the EBS direct APIs, in requests a second (AWS: "Quotas for EBS direct APIs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EbsQuota {
    /// GetSnapshotBlock in one account and region; 1,000 by default, can be raised.
    GetPerAccount,
    /// GetSnapshotBlock on one snapshot; 1,000, fixed.
    GetPerSnapshot,
    /// ListSnapshotBlocks in one account and region; 50, fixed.
    ListPerAccount,
    /// ListChangedBlocks in one account and region; 50, fixed.
    ListChangedPerAccount,
}

impl EbsQuota {
    /// AWS's code of it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::GetPerAccount => "L-C125AE42",
            Self::GetPerSnapshot => "L-028ACFB9",
            Self::ListPerAccount => "L-18E976AB",
            Self::ListChangedPerAccount => "L-DB2FBAA1",
        }
    }

    /// What holds where the account was never asked.
    #[must_use]
    pub fn default_value(self) -> u32 {
        match self {
            Self::GetPerAccount | Self::GetPerSnapshot => 1000,
            Self::ListPerAccount | Self::ListChangedPerAccount => 50,
        }
    }
}

/// A client of Service Quotas.
#[derive(Debug, Clone)]
pub struct Quotas(Caller);

impl Quotas {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &QUOTAS)?))
    }

    /// What the account has of a quota of the EBS direct APIs: its own value, or AWS's default where it has none.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `servicequotas:GetServiceQuota`; [`EbsQuota::default_value`] is a safe guess then.
    pub fn ebs(&self, quota: EbsQuota) -> Result<Answered<u32>, Failure> {
        match self.quota("GetServiceQuota", "ebs", quota.code()) {
            Err(failure) if failure.kind == FailureKind::NotFound => {
                self.quota("GetAWSDefaultServiceQuota", "ebs", quota.code())
            }
            answer => answer,
        }
        .map(|answer| answer.map(|value| value.min(f64::from(u32::MAX)) as u32))
    }

    /// What the account has of any quota, such as `ebs` and `L-309BACF6`: its own value, or AWS's default.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `servicequotas:GetServiceQuota`.
    pub fn value(&self, service: &str, code: &str) -> Result<Answered<f64>, Failure> {
        match self.quota("GetServiceQuota", service, code) {
            Err(failure) if failure.kind == FailureKind::NotFound => {
                self.quota("GetAWSDefaultServiceQuota", service, code)
            }
            answer => answer,
        }
    }

    fn quota(&self, operation: &str, service: &str, code: &str) -> Result<Answered<f64>, Failure> {
        let call = Call::reads(operation, code);
        let (answer, raw) = self.0.json(&call, &json!({"QuotaCode": code, "ServiceCode": service}))?;
        let value = answer.get("Quota").and_then(|quota| quota.get("Value")).and_then(Value::as_f64);
        match value.filter(|value| *value >= 0.0) {
            Some(value) => Ok(Answered { value, raw: vec![raw] }),
            None => Err(self.0.found(&call, FailureKind::Corrupt, "the answer has no value")),
        }
    }
}

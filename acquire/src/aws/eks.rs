//! EKS: which logs of its control plane a cluster keeps.

use serde_json::Value;

use super::answer::{Answered, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static EKS: Service =
    Service { name: "EKS", id: "EKS", host: "eks", prefix: "eks", protocol: Protocol::Rest };

/// A client of EKS.
#[derive(Debug, Clone)]
pub struct Eks(Caller);

impl Eks {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &EKS)?))
    }

    /// The names of the region's clusters.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `eks:ListClusters`; [`FailureKind::Corrupt`] for more than one page of 100.
    pub fn clusters(&self) -> Result<Answered<Vec<String>>, Failure> {
        let call = Call::reads("ListClusters", "");
        all_pages("EKS ListClusters", |_| {
            let (answer, raw) = self.0.get(&call, "/clusters")?;
            if answer.get("nextToken").and_then(Value::as_str).is_some_and(|token| !token.is_empty()) {
                let what = "there are more clusters than one answer holds: name those to check";
                return Err(self.0.found(&call, FailureKind::Corrupt, what));
            }
            let names = answer.get("clusters").and_then(Value::as_array);
            let names = names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            Ok((names, None, raw))
        })
    }

    /// The kinds of logs of the control plane that a cluster keeps.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `eks:DescribeCluster`; [`FailureKind::Invalid`] for what is no name.
    pub fn kept_logs(&self, cluster: &str) -> Result<Answered<Vec<String>>, Failure> {
        let call = Call::reads("DescribeCluster", cluster);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if cluster.is_empty() || cluster.len() > 100 || !cluster.bytes().all(is_name) {
            return Err(self.0.found(&call, FailureKind::Invalid, "that is no name of a cluster"));
        }
        let (answer, raw) = self.0.get(&call, &format!("/clusters/{cluster}"))?;
        let sets = answer.pointer("/cluster/logging/clusterLogging").and_then(Value::as_array);
        let is_on = |set: &&Value| set.get("enabled").and_then(Value::as_bool) == Some(true);
        let kinds = sets.into_iter().flatten().filter(is_on);
        let kinds = kinds.filter_map(|set| set.get("types").and_then(Value::as_array)).flatten();
        let value = kinds.filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Answered { value, raw: vec![raw] })
    }
}

//! CloudWatch Logs: how long its groups keep what is in them.

use serde_json::{Map, Value};

use super::answer::{Answered, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::Failure;
use super::request::{Call, Caller};

static LOGS: Service = Service {
    name: "CloudWatch Logs",
    id: "CloudWatch Logs",
    host: "logs",
    prefix: "logs",
    protocol: Protocol::Json("Logs_20140328"),
};

/// A client of CloudWatch Logs.
#[derive(Debug, Clone)]
pub struct LogGroups(Caller);

/// A group of logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogGroup {
    /// Its name.
    pub name: String,
    /// Days after which what is in it is gone; `None` for never.
    pub days: Option<u64>,
}

impl LogGroups {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &LOGS)?))
    }

    /// Every group of the region.
    ///
    /// # Errors
    ///
    /// [`super::FailureKind::Denied`] without `logs:DescribeLogGroups`.
    pub fn all(&self) -> Result<Answered<Vec<LogGroup>>, Failure> {
        let call = Call::reads("DescribeLogGroups", "");
        all_pages("CloudWatch Logs DescribeLogGroups", |token| {
            let body = token.map(|token| ("nextToken".to_owned(), Value::from(token)));
            let (answer, raw) =
                self.0.json(&call, &Value::Object(body.into_iter().collect::<Map<_, _>>()))?;
            let groups = answer.get("logGroups").and_then(Value::as_array).into_iter().flatten();
            let groups = groups.map(|group| LogGroup {
                name: group.get("logGroupName").and_then(Value::as_str).unwrap_or_default().to_owned(),
                days: group.get("retentionInDays").and_then(Value::as_u64),
            });
            let next = answer.get("nextToken").and_then(Value::as_str).map(str::to_owned);
            Ok((groups.collect(), next, raw))
        })
    }
}

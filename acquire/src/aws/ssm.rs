//! SSM: whether an instance has its agent, and running a command through it.

use serde_json::{Map, Value, json};

use super::answer::{Answered, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static SSM: Service =
    Service { name: "SSM", id: "SSM", host: "ssm", prefix: "ssm", protocol: Protocol::Json("AmazonSSM") };

/// A client of SSM.
#[derive(Debug, Clone)]
pub struct Ssm(Caller);

/// What the agent of an instance last said of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// `i-…`
    pub instance: String,
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub ping: String,
    /// Its version.
    pub version: String,
    /// `Linux`, `Windows` or `MacOS`.
    pub platform: String,
}

/// How a command on an instance went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// `Pending`, `InProgress`, `Success`, `Failed`, `TimedOut`, …
    pub status: String,
    /// What it gave back; -1 while it runs.
    pub exit_code: i64,
    /// The first 24,000 letters of its output.
    pub output: String,
    /// The first 8,000 letters of its errors.
    pub errors: String,
}

impl Invocation {
    /// Whether nothing more comes of it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !matches!(self.status.as_str(), "Pending" | "InProgress" | "Delayed" | "Cancelling")
    }
}

/// A command that is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The document, such as `AWS-RunShellScript`.
    pub document: String,
    /// Its parameters. They can be read by whoever may read the account's commands: no secret belongs here.
    pub parameters: Vec<(String, Vec<String>)>,
    /// Why, in at most 100 letters.
    pub comment: String,
    /// Seconds until it must have begun: 30 at least.
    pub seconds: u32,
}

impl Ssm {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &SSM)?))
    }

    /// The agents of these instances; one without an agent is not in the answer.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ssm:DescribeInstanceInformation`.
    pub fn agents(&self, instances: &[&str]) -> Result<Answered<Vec<Agent>>, Failure> {
        let on = instances.join(" ");
        all_pages("SSM DescribeInstanceInformation", |token| {
            let call = Call::reads("DescribeInstanceInformation", &on);
            let mut body =
                json!({"Filters": [{"Key": "InstanceIds", "Values": instances}], "MaxResults": 50});
            if let (Some(token), Some(body)) = (token, body.as_object_mut()) {
                body.insert("NextToken".to_owned(), token.into());
            }
            let (answer, raw) = self.0.json(&call, &body)?;
            let list = answer.get("InstanceInformationList").and_then(Value::as_array);
            let agents = list.into_iter().flatten().map(|found| Agent {
                instance: text(found, "InstanceId"),
                ping: text(found, "PingStatus"),
                version: text(found, "AgentVersion"),
                platform: text(found, "PlatformType"),
            });
            Ok((agents.collect(), Some(text(&answer, "NextToken")), raw))
        })
    }

    /// Runs a command on an instance, and gives its id.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `ssm:SendCommand` on the instance and the document. After
    /// [`FailureKind::Connection`] it is not known whether it runs.
    pub fn send_command(&self, instance: &str, command: &Command) -> Result<Answered<String>, Failure> {
        let call = Call::makes("SendCommand", instance);
        let parameters: Map<String, Value> =
            command.parameters.iter().map(|(name, values)| (name.clone(), json!(values))).collect();
        let body = json!({
            "Comment": command.comment, "DocumentName": command.document, "InstanceIds": [instance],
            "Parameters": parameters, "TimeoutSeconds": command.seconds.max(30),
        });
        let (answer, raw) = self.0.json(&call, &body)?;
        let id = answer.get("Command").map(|command| text(command, "CommandId")).unwrap_or_default();
        if id.is_empty() {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no command"));
        }
        Ok(Answered { value: id, raw: vec![raw] })
    }

    /// How a command went on an instance.
    ///
    /// # Errors
    ///
    /// `InvocationDoesNotExist` for some seconds after it was sent.
    pub fn invocation(&self, command: &str, instance: &str) -> Result<Answered<Invocation>, Failure> {
        let call = Call::reads("GetCommandInvocation", instance);
        let body = json!({"CommandId": command, "InstanceId": instance});
        let (answer, raw) = self.0.json(&call, &body)?;
        let value = Invocation {
            status: text(&answer, "Status"),
            exit_code: answer.get("ResponseCode").and_then(Value::as_i64).unwrap_or(-1),
            output: text(&answer, "StandardOutputContent"),
            errors: text(&answer, "StandardErrorContent"),
        };
        Ok(Answered { value, raw: vec![raw] })
    }
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

//! EC2: what keeps an instance and its volumes from being ended while they are evidence.

use super::ec2::Ec2;
use super::failure::Failure;
use super::request::{Call, Form};

const DESCRIBE: &str = "DescribeInstanceAttribute";
const MODIFY: &str = "ModifyInstanceAttribute";

/// How an instance is protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protection {
    /// Whether the API refuses to terminate it.
    pub termination: bool,
    /// What a shutdown from within does: `stop` or `terminate`.
    pub shutdown: String,
    /// Device names, and whether their volumes are deleted with the instance.
    pub deletes: Vec<(String, bool)>,
}

impl Ec2 {
    /// How an instance is protected now.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn protection(&self, id: &str) -> Result<Protection, Failure> {
        let value = |attribute: &str| {
            let form = Form::default().with("InstanceId", id).with("Attribute", attribute);
            let (answer, _) = self.0.form(&Call::reads(DESCRIBE, id), form)?;
            Ok(answer.string(&[attribute, "value"]))
        };
        let termination = value("disableApiTermination")? == "true";
        let shutdown = value("instanceInitiatedShutdownBehavior")?;
        let devices = self.describe_instance(id)?.value.devices;
        let deletes = devices.into_iter().map(|device| (device.name, device.delete_on_termination)).collect();
        Ok(Protection { termination, shutdown, deletes })
    }

    /// Allows or forbids the API to terminate an instance.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn set_termination_protection(&self, id: &str, is_protected: bool) -> Result<(), Failure> {
        self.modify(id, Form::default().with("DisableApiTermination.Value", is_protected.to_string()))
    }

    /// Says what a shutdown from within does: `stop` or `terminate`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn set_shutdown_behaviour(&self, id: &str, what: &str) -> Result<(), Failure> {
        self.modify(id, Form::default().with("InstanceInitiatedShutdownBehavior.Value", what))
    }

    /// Says which volumes are deleted with an instance, by device name.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn set_delete_on_termination(&self, id: &str, deletes: &[(String, bool)]) -> Result<(), Failure> {
        let form = (1..).zip(deletes).fold(Form::default(), |form, (number, (device, is_deleted))| {
            let of = |name: &str| format!("BlockDeviceMapping.{number}.{name}");
            form.with(of("DeviceName"), device.as_str())
                .with(of("Ebs.DeleteOnTermination"), is_deleted.to_string())
        });
        self.modify(id, form)
    }

    /// Sets an attribute, which may be done again: the second time changes nothing more.
    fn modify(&self, id: &str, form: Form) -> Result<(), Failure> {
        let call = Call::reads(MODIFY, id);
        self.0.form(&call, form.with("InstanceId", id))?;
        Ok(())
    }
}

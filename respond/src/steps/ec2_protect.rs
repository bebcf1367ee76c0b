//! `aws.ec2.protect`: nobody terminates the instance, and its volumes outlive it. What was set before is recorded and can be put
//! back.

use acquire::aws::ec2::{Ec2, Protection, is_id};
use serde_json::{Value, json};

use super::capture::connection;
use super::{Context, Failed, Step};
use crate::alert::AssetKind;

struct Ec2Protect;

pub(super) static EC2_PROTECT: &dyn Step = &Ec2Protect;

const BEFORE: &str = "before";

impl Step for Ec2Protect {
    fn word(&self) -> &'static str {
        "aws.ec2.protect"
    }

    fn about(&self) -> &'static str {
        "Forbids to terminate the instance, makes a shutdown from within stop it, and keeps its volumes when it ends"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        kind == AssetKind::Ec2Instance
    }

    fn undoes(&self) -> bool {
        true
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let (ec2, id) = client(context)?;
        // What an earlier run found is what was there before us.
        let recorded = context.intents.iter().find_map(|intent| intent.get(BEFORE));
        let before = match recorded {
            Some(recorded) => read(recorded)?,
            None => {
                let before = ec2.protection(id).map_err(failed)?;
                (context.intend)(&json!({BEFORE: written(&before)}))
                    .map_err(|error| Failed::for_now(error.to_string()))?;
                before
            }
        };
        let deletes = before.deletes.iter().map(|(device, _)| (device.clone(), false)).collect();
        let wanted = Protection { termination: true, shutdown: "stop".to_owned(), deletes };
        set(&ec2, id, &wanted)?;
        let after = ec2.protection(id).map_err(failed)?;
        if !after.termination || after.shutdown != "stop" || after.deletes.iter().any(|(_, deletes)| *deletes)
        {
            return Err(Failed::for_now(format!("{id} says that it is not protected: {}", written(&after))));
        }
        Ok(json!({BEFORE: written(&before), "after": written(&after)}))
    }

    fn undo(&self, context: &Context<'_>, recorded: &Value) -> Result<Value, Failed> {
        let (ec2, id) = client(context)?;
        let before = read(recorded.get(BEFORE).unwrap_or(&Value::Null))?;
        set(&ec2, id, &before)?;
        let after = ec2.protection(id).map_err(failed)?;
        Ok(json!({"after": written(&after), "as_before": after == before}))
    }
}

fn client<'a>(context: &Context<'a>) -> Result<(Ec2, &'a str), Failed> {
    let id = context.asset.id.as_str();
    if !is_id(id, "i-") {
        return Err(Failed::for_good(format!("{id:?} is no id of an instance")));
    }
    let connection = connection(context)?;
    Ok((Ec2::new(&connection).map_err(failed)?, id))
}

fn set(ec2: &Ec2, id: &str, wanted: &Protection) -> Result<(), Failed> {
    ec2.set_termination_protection(id, wanted.termination).map_err(failed)?;
    ec2.set_shutdown_behaviour(id, &wanted.shutdown).map_err(failed)?;
    if wanted.deletes.is_empty() {
        return Ok(());
    }
    ec2.set_delete_on_termination(id, &wanted.deletes).map_err(failed)
}

fn failed(failure: acquire::aws::Failure) -> Failed {
    Failed { may_help_again: failure.kind.is_worth_another_try(), what: failure.to_string() }
}

fn written(protection: &Protection) -> Value {
    let deletes: Vec<Value> =
        protection.deletes.iter().map(|(device, deletes)| json!([device, deletes])).collect();
    json!({"termination": protection.termination, "shutdown": protection.shutdown, "deletes": deletes})
}

fn read(recorded: &Value) -> Result<Protection, Failed> {
    let wrong = || Failed::for_good("what was recorded before is not there");
    let deletes = recorded.get("deletes").and_then(Value::as_array).ok_or_else(wrong)?;
    let deletes = deletes.iter().map(|device| {
        let (name, deletes) = (device.get(0)?.as_str()?, device.get(1)?.as_bool()?);
        Some((name.to_owned(), deletes))
    });
    Ok(Protection {
        termination: recorded.get("termination").and_then(Value::as_bool).ok_or_else(wrong)?,
        shutdown: recorded.get("shutdown").and_then(Value::as_str).ok_or_else(wrong)?.to_owned(),
        deletes: deletes.collect::<Option<_>>().ok_or_else(wrong)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_reads_back() {
        let before = Protection {
            termination: false,
            shutdown: "terminate".to_owned(),
            deletes: vec![("/dev/xvda".to_owned(), true), ("/dev/sdf".to_owned(), false)],
        };
        assert_eq!(read(&written(&before)).unwrap(), before);
        assert!(read(&json!({"shutdown": "stop"})).is_err());
    }
}

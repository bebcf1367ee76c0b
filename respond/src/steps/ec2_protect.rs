//! `aws.ec2.protect`: nobody terminates the instance, and its volumes outlive it. What was set before is recorded and can be put
//! back.

use acquire::aws::FailureKind;
use acquire::aws::ec2::{Ec2, Protection, is_id};
use serde_json::{Value, json};

use super::capture::connection;
use super::{Context, Failed, Step};
use crate::alert::AssetKind;
use crate::state::steps::standing;

struct Ec2Protect;

pub(super) static EC2_PROTECT: &dyn Step = &Ec2Protect;

const BEFORE: &str = "before";
/// What a shutdown from within does to a protected instance.
const STOP: &str = "stop";

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

    fn is_undone_from(&self, intent: &Value) -> bool {
        intent.get(BEFORE).is_some()
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        let (ec2, id) = client(context)?;
        // What an earlier run found is what was there before us.
        let recorded = standing(context.intents).iter().find_map(|intent| intent.get(BEFORE));
        let now = ec2.protection(id).map_err(failed)?;
        let before = match recorded {
            Some(recorded) => read(recorded)?,
            None => {
                (context.intend)(&json!({BEFORE: written(&now)}))
                    .map_err(|error| Failed::for_now(error.to_string()))?;
                now.clone()
            }
        };
        // Of what was there before, so that it can be put back, what is still there.
        let is_there = |device: &str| now.deletes.iter().any(|(other, _)| other == device);
        let deletes = before.deletes.iter().filter(|(device, _)| is_there(device));
        let deletes: Vec<_> = deletes.map(|(device, _)| (device.clone(), false)).collect();
        ec2.set_termination_protection(id, true).map_err(failed)?;
        ec2.set_shutdown_behaviour(id, STOP).map_err(failed)?;
        set_deletes(&ec2, id, &deletes)?;
        let after = ec2.protection(id).map_err(failed)?;
        let may_go = after
            .deletes
            .iter()
            .any(|(device, goes)| *goes && deletes.iter().any(|(ours, _)| ours == device));
        if !after.termination || after.shutdown != STOP || may_go {
            return Err(Failed::for_now(format!("{id} says that it is not protected: {}", written(&after))));
        }
        Ok(json!({BEFORE: written(&before), "after": written(&after)}))
    }

    fn undo(&self, context: &Context<'_>, recorded: &Value) -> Result<Value, Failed> {
        let (ec2, id) = client(context)?;
        let before = read(recorded.get(BEFORE).unwrap_or(&Value::Null))?;
        let now = match ec2.protection(id) {
            Ok(now) => now,
            Err(failure) if failure.kind == FailureKind::NotFound => {
                return Ok(json!({"as_before": false, "differences": [format!("{id} is gone")]}));
            }
            Err(failure) => return Err(failed(failure)),
        };
        let PutBack { termination, shutdown, deletes, differences } = put_back(&before, &now);
        if let Some(termination) = termination {
            ec2.set_termination_protection(id, termination).map_err(failed)?;
        }
        if let Some(shutdown) = shutdown {
            ec2.set_shutdown_behaviour(id, &shutdown).map_err(failed)?;
        }
        set_deletes(&ec2, id, &deletes)?;
        let after = ec2.protection(id).map_err(failed)?;
        Ok(json!({"after": written(&after), "as_before": after == before, "differences": differences}))
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

fn set_deletes(ec2: &Ec2, id: &str, deletes: &[(String, bool)]) -> Result<(), Failed> {
    if deletes.is_empty() {
        return Ok(());
    }
    ec2.set_delete_on_termination(id, deletes).map_err(failed)
}

/// What is to be set so that it is as before.
#[derive(Debug, Default, PartialEq, Eq)]
struct PutBack {
    termination: Option<bool>,
    shutdown: Option<String>,
    deletes: Vec<(String, bool)>,
    /// What others changed meanwhile, which is left.
    differences: Vec<String>,
}

/// Only what is still as we set it is put back.
fn put_back(before: &Protection, now: &Protection) -> PutBack {
    let mut back = PutBack::default();
    if now.termination != before.termination {
        if now.termination {
            back.termination = Some(before.termination);
        } else {
            back.differences.push("others have allowed to terminate it".to_owned());
        }
    }
    if now.shutdown != before.shutdown {
        if now.shutdown == STOP {
            back.shutdown = Some(before.shutdown.clone());
        } else {
            back.differences.push(format!("others have set that a shutdown is to {}", now.shutdown));
        }
    }
    for (device, deleted) in &before.deletes {
        match now.deletes.iter().find(|(other, _)| other == device) {
            None => back.differences.push(format!("{device} is attached no more")),
            Some((_, now)) if now == deleted => {}
            // It was to be deleted with the instance, and is kept, as we set it.
            Some((_, false)) => back.deletes.push((device.clone(), *deleted)),
            Some((_, true)) => {
                back.differences.push(format!("others have set that {device} is deleted with the instance"));
            }
        }
    }
    for (device, _) in
        now.deletes.iter().filter(|(device, _)| !before.deletes.iter().any(|(old, _)| old == device))
    {
        back.differences.push(format!("{device} was attached since"));
    }
    back
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
    fn only_what_is_still_as_we_set_it_is_put_back_and_the_rest_is_told() {
        let protection = |termination, shutdown: &str, deletes: &[(&str, bool)]| Protection {
            termination,
            shutdown: shutdown.to_owned(),
            deletes: deletes.iter().map(|(device, deletes)| ((*device).to_owned(), *deletes)).collect(),
        };
        let before = protection(false, "terminate", &[("/dev/xvda", true), ("/dev/sdf", true)]);
        let ours = protection(true, "stop", &[("/dev/xvda", false), ("/dev/sdf", false)]);
        let back = put_back(&before, &ours);
        assert_eq!((back.termination, back.shutdown.as_deref()), (Some(false), Some("terminate")));
        assert_eq!((back.deletes, back.differences), (before.deletes.clone(), Vec::new()));
        // An administrator took the protection away, a volume is gone, another one came.
        let others = protection(true, "stop", &[("/dev/xvda", false), ("/dev/sdg", true)]);
        let back = put_back(&before, &others);
        assert_eq!(back.deletes, [("/dev/xvda".to_owned(), true)]);
        assert_eq!(back.differences, ["/dev/sdf is attached no more", "/dev/sdg was attached since"]);
        let kept = protection(true, "stop", &[("/dev/xvda", false)]);
        let others = protection(false, "terminate", &[("/dev/xvda", true)]);
        let back = put_back(&kept, &others);
        assert_eq!((back.termination, back.shutdown, back.deletes), (None, None, Vec::new()));
        assert_eq!(back.differences.len(), 3, "{:?}", back.differences);
        // What was protected before stays so.
        assert_eq!(put_back(&kept, &kept), PutBack::default());
    }

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

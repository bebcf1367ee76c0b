//! Isolation: recorded, applied, verified, taken back. One file a platform.
//!
//! Whatever is changed is recorded first, and whatever was recorded is enough to take it back: a kill at any instruction
//! leaves either nothing, or an intent from which the next run goes on. What others changed meanwhile is told and never
//! overwritten.

pub mod allowed;
pub mod case_log;
mod command;
pub mod docker_networks;
pub mod ec2_groups;
mod ec2_restore;
pub(crate) mod ec2_rules;
mod host_bypass;
pub mod host_lease;
pub mod host_nft;
mod host_probe;
pub mod iam_key;
pub mod iam_sessions;
pub mod k8s_pod;
mod nft_listing;
pub mod nft_ruleset;

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::steps::{Context, Failed};

/// How often it is applied until it verifies, and the time between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Letters of a mark, at most: it becomes a label, a name of a policy, a comment.
const LONGEST_MARK: usize = 40;

/// One thing that can be cut off and let back, on one platform.
///
/// Every act may be done again: the second time finds what the first has done.
pub trait Isolation {
    /// What is isolated, for people and logs: `this host`, `instance i-0…`.
    fn subject(&self) -> String;

    /// The state as it is now and all that the other acts need, so that they ask nobody else; changes nothing. At most
    /// 40,000 bytes of JSON without floats, since it stands in an entry of the custody log. What a person should know
    /// before it is done stands in `warnings`, a list of sentences.
    ///
    /// # Errors
    ///
    /// [`Failed`]: it cannot be isolated so, and why.
    fn record(&self) -> Result<Value, Failed>;

    /// Isolates; gives what was made.
    ///
    /// # Errors
    ///
    /// [`Failed`]. What was done before it failed is taken back by [`Isolation::rollback`].
    fn apply(&self, recorded: &Value) -> Result<Value, Failed>;

    /// Whether the allowed channel works and what is forbidden does not, tried and not believed.
    ///
    /// # Errors
    ///
    /// [`Failed`] when nothing could be tried.
    fn verify(&self, recorded: &Value) -> Result<Verified, Failed>;

    /// Takes back what [`Isolation::apply`] did, then compares the state with the recorded one.
    ///
    /// # Errors
    ///
    /// [`Failed`] when something of ours may still be there.
    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed>;

    /// Sets when it ends by itself (nanoseconds since 1970; `None` for never), where the platform can keep that. Gives whether
    /// it can; else the service must end it.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    fn lease_until(&self, recorded: &Value, until: Option<i64>) -> Result<bool, Failed> {
        let _ = (recorded, until);
        Ok(false)
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What was tried, such as `TCP to 192.0.2.10:443`.
    pub what: String,
    /// Whether it got through.
    pub got_through: bool,
    /// What was seen.
    pub seen: String,
}

/// What trying it showed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// What must get through, and did before.
    pub allowed: Vec<Probe>,
    /// What must not get through.
    pub forbidden: Vec<Probe>,
    /// What the platform says of itself, as it should be: good to know, but no trial.
    #[serde(default)]
    pub read_back: Vec<String>,
    /// What could not be tried, and why; never counted as good.
    pub not_tried: Vec<String>,
}

impl Verified {
    /// The allowed channel that no longer works.
    #[must_use]
    pub fn lost(&self) -> Option<&Probe> {
        self.allowed.iter().find(|probe| !probe.got_through)
    }

    /// What still gets through though it must not.
    #[must_use]
    pub fn open(&self) -> Option<&Probe> {
        self.forbidden.iter().find(|probe| probe.got_through)
    }

    /// Whether something forbidden was tried and all of it was held back, and nothing allowed was lost.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        !self.forbidden.is_empty() && self.open().is_none() && self.lost().is_none()
    }
}

/// What taking back came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Where the state is now other than recorded, in sentences. Others did that: it is told, and left.
    pub differences: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Restored {
    /// Whether the state is again exactly the recorded one.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty()
    }
}

/// What an isolation came to: what a step gives, and what stands in the entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Isolated {
    /// What is isolated.
    pub subject: String,
    /// The state before: what [`take_back`] needs.
    pub recorded: Value,
    /// What was made.
    pub applied: Value,
    /// What trying it showed.
    pub verified: Verified,
    /// Whether it is proved to hold.
    pub is_proved: bool,
}

/// Isolates, from the beginning or from where a killed run left off.
///
/// `recorded` is what an earlier run intended; else the state is recorded now and given to `intend`, which must have it on the
/// disk before it returns. When it cannot be done, or the allowed channel is lost, all of it is taken back at once: an isolation
/// that fails leaves nothing.
///
/// # Errors
///
/// [`Failed`] of any of the acts. Something forbidden that still gets through is no failure: it is told in
/// [`Isolated::verified`], and what holds is left to hold.
pub fn isolate(
    isolation: &dyn Isolation,
    recorded: Option<&Value>,
    intend: &dyn Fn(&Value) -> crate::Result<()>,
) -> Result<Isolated, Failed> {
    let subject = isolation.subject();
    let recorded = match recorded {
        Some(recorded) => recorded.clone(),
        None => {
            let recorded = isolation.record()?;
            intend(&json!({ "subject": subject, "recorded": recorded }))
                .map_err(|error| Failed::for_now(format!("what {subject} was could not be kept: {error}")))?;
            recorded
        }
    };
    let done = hold(isolation, &recorded).map_err(|failed| match isolation.rollback(&recorded) {
        Ok(_) => Failed { what: format!("{failed}; it was taken back"), ..failed },
        Err(again) => Failed { what: format!("{failed}; and it could not be taken back: {again}"), ..failed },
    });
    let (applied, verified) = done?;
    let is_proved = verified.is_proved();
    Ok(Isolated { subject, recorded, applied, verified, is_proved })
}

/// Applies until it verifies, a few times: what a platform says may lag behind what it was told.
fn hold(isolation: &dyn Isolation, recorded: &Value) -> Result<(Value, Verified), Failed> {
    let mut tries = 0;
    loop {
        tries += 1;
        let applied = isolation.apply(recorded)?;
        match isolation.verify(recorded) {
            Ok(verified) => match verified.lost() {
                None => return Ok((applied, verified)),
                Some(lost) => {
                    let (subject, what, seen) = (isolation.subject(), &lost.what, &lost.seen);
                    let what = format!("the allowed channel of {subject} was lost ({what}: {seen})");
                    return Err(Failed::for_good(what));
                }
            },
            Err(failed) if failed.may_help_again && tries < TRIES => thread::sleep(PAUSE),
            Err(failed) => return Err(failed),
        }
    }
}

/// Takes an isolation back from what [`isolate`] gave, or from what it intended.
///
/// # Errors
///
/// [`Failed`] when `given` holds no recorded state, or something of ours may still be there.
pub fn take_back(isolation: &dyn Isolation, given: &Value) -> Result<Restored, Failed> {
    let recorded = given
        .get("recorded")
        .ok_or_else(|| Failed::for_good(format!("no state of {} was recorded", isolation.subject())))?;
    isolation.rollback(recorded)
}

/// The name by which what one step makes is known again: the job and the step, letters that every platform takes.
///
/// # Errors
///
/// [`Failed`] when job and step together are too long.
pub fn mark(job: &str, step: &str) -> Result<String, Failed> {
    let mark: String = format!("{job}-{step}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let mark = mark.trim_matches('-').to_owned();
    if mark.is_empty() || mark.len() > LONGEST_MARK {
        return Err(Failed::for_good(format!(
            "{mark:?} has not 1 to {LONGEST_MARK} letters: give the step a shorter id"
        )));
    }
    Ok(mark)
}

/// A parameter of a step that is a list of texts; empty where there is none.
pub(crate) fn texts(context: &Context<'_>, name: &str) -> Result<Vec<String>, Failed> {
    let Some(value) = context.parameters.get(name) else { return Ok(Vec::new()) };
    let texts =
        value.as_array().and_then(|all| all.iter().map(|text| text.as_str().map(str::to_owned)).collect());
    texts.ok_or_else(|| Failed::for_good(format!("the parameter {name} must be a list of texts")))
}

/// What a cloud account refused, and whether another try may help.
pub(crate) fn refused(failure: &acquire::aws::Failure) -> Failed {
    Failed { what: failure.to_string(), may_help_again: failure.kind.is_worth_another_try() }
}

/// The connection of this context's account, in the region of its asset, if the settings know the account.
pub(crate) fn connection(context: &Context<'_>) -> Result<acquire::aws::Connection, Failed> {
    let (account, known) = (&context.asset.account, &context.settings.aws.accounts);
    if !account.is_empty() && !known.is_empty() && !known.contains(account) {
        return Err(Failed::for_good(format!("account {account} is none of those in the settings")));
    }
    crate::steps::capture::connection(context)
}

/// When a lease ends that begins now, RFC 3339; empty for one without end.
pub(crate) fn lease_end(clock: &dyn custody::Clock, seconds: u64) -> String {
    if seconds == 0 {
        return String::new();
    }
    let lasts = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    custody::clock::rfc3339(clock.now().wall_ns.saturating_add(lasts))
}

/// What was recorded, in its own type.
pub(crate) fn read_back<T: serde::de::DeserializeOwned>(recorded: &Value) -> Result<T, Failed> {
    T::deserialize(recorded)
        .map_err(|error| Failed::for_good(format!("what was recorded cannot be read: {error}")))
}

/// What is to be recorded, from its own type.
pub(crate) fn written<T: Serialize>(state: &T) -> Result<Value, Failed> {
    serde_json::to_value(state)
        .map_err(|error| Failed::for_good(format!("the state cannot be kept: {error}")))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A door that can be shut; `keep` is what still gets through.
    #[derive(Default)]
    struct Door {
        is_shut: RefCell<bool>,
        acts: RefCell<Vec<&'static str>>,
        loses_channel: bool,
        leaks: bool,
    }

    impl Isolation for Door {
        fn subject(&self) -> String {
            "the door".to_owned()
        }

        fn record(&self) -> Result<Value, Failed> {
            self.acts.borrow_mut().push("record");
            Ok(json!({ "was_shut": *self.is_shut.borrow() }))
        }

        fn apply(&self, _: &Value) -> Result<Value, Failed> {
            self.acts.borrow_mut().push("apply");
            *self.is_shut.borrow_mut() = true;
            Ok(Value::Null)
        }

        fn verify(&self, _: &Value) -> Result<Verified, Failed> {
            let probe = |got_through| Probe { what: "w".to_owned(), got_through, seen: "s".to_owned() };
            Ok(Verified {
                allowed: vec![probe(!self.loses_channel)],
                forbidden: vec![probe(self.leaks)],
                ..Verified::default()
            })
        }

        fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
            self.acts.borrow_mut().push("rollback");
            *self.is_shut.borrow_mut() = recorded["was_shut"] == true;
            Ok(Restored::default())
        }
    }

    #[test]
    fn the_state_is_kept_before_anything_is_touched_and_is_what_takes_it_back() {
        let door = Door::default();
        let kept = RefCell::new(Vec::new());
        let intend = |intent: &Value| {
            assert!(!*door.is_shut.borrow());
            kept.borrow_mut().push(intent.clone());
            Ok(())
        };
        let isolated = isolate(&door, None, &intend).unwrap();
        assert!(isolated.is_proved && *door.is_shut.borrow());
        assert_eq!(*door.acts.borrow(), ["record", "apply"]);
        // A run after a kill takes the state that was kept, for by now it is ours.
        let again = isolate(&door, Some(&kept.borrow()[0]["recorded"]), &intend).unwrap();
        assert_eq!((again.recorded, kept.borrow().len()), (isolated.recorded.clone(), 1));
        // From the intent alone, and from the result.
        for given in [kept.borrow()[0].clone(), serde_json::to_value(&isolated).unwrap()] {
            assert!(take_back(&door, &given).unwrap().is_exact());
            assert!(!*door.is_shut.borrow());
        }
        assert!(take_back(&door, &json!({})).is_err());
    }

    #[test]
    fn nothing_is_touched_when_the_state_cannot_be_kept() {
        let door = Door::default();
        let intend =
            |_: &Value| Err(crate::Error::Settings { path: "x".into(), what: "the disk is full".to_owned() });
        assert!(isolate(&door, None, &intend).unwrap_err().may_help_again);
        assert!(!*door.is_shut.borrow());
    }

    #[test]
    fn a_lost_channel_takes_it_back_and_a_leak_is_told_and_left() {
        let door = Door { loses_channel: true, ..Door::default() };
        let failed = isolate(&door, None, &|_| Ok(())).unwrap_err();
        assert!(!failed.may_help_again && failed.what.contains("taken back"), "{failed}");
        assert!(!*door.is_shut.borrow());
        let door = Door { leaks: true, ..Door::default() };
        let isolated = isolate(&door, None, &|_| Ok(())).unwrap();
        assert!(!isolated.is_proved && isolated.verified.open().is_some());
        assert!(*door.is_shut.borrow());
    }

    #[test]
    fn what_was_not_tried_proves_nothing() {
        assert!(!Verified { not_tried: vec!["no route".to_owned()], ..Verified::default() }.is_proved());
    }

    #[test]
    fn a_mark_has_letters_that_every_platform_takes() {
        assert_eq!(mark("J000017", "isolate_2").unwrap(), "j000017-isolate-2");
        assert_eq!(mark("J\n;", "x").unwrap(), "j---x");
        assert!(mark(&"j".repeat(50), "x").is_err() && mark("", "").is_err());
    }
}

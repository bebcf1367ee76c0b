//! An IAM access key, made inactive: requests signed with it are refused.
//!
//! - Made: the key's state is `Inactive`. The key itself is kept, and so is what it says of its last use.
//! - Verified: IAM says so. It is not tried, since nobody here has the secret.
//! - Taken back: active again, if it was and nobody else has changed it.
//! - Not held back: sessions that were begun with the key; where they are of a role, see [`super::iam_sessions`].

use acquire::aws::iam::Iam;
use acquire::aws::{Connection, FailureKind};
use custody::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Isolation, Restored, Verified, connection, lease_end, read_back, refused, written};
use crate::steps::{Context, Failed};

/// One access key.
pub struct IamKey<'a> {
    iam: Iam,
    mark: String,
    key: String,
    lease: u64,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    key: String,
    user: String,
    was_active: bool,
    until: String,
    warnings: Vec<String>,
}

impl<'a> IamKey<'a> {
    /// A key of the account of a connection.
    ///
    /// # Errors
    ///
    /// [`Failed`] for what is no id of a key that lasts.
    pub fn new(
        connection: &Connection,
        mark: &str,
        key: &str,
        lease: u64,
        clock: &'a dyn Clock,
    ) -> Result<Self, Failed> {
        // Those of sessions begin with ASIA, and cannot be made inactive.
        let is_key = key.starts_with("AKIA")
            && (16..=128).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !is_key {
            return Err(Failed::for_good(format!("{key:?} is no id of an access key of a user (AKIA…)")));
        }
        let iam = Iam::new(connection).map_err(|failure| refused(&failure))?;
        Ok(Self { iam, mark: mark.to_owned(), key: key.to_owned(), lease, clock })
    }

    /// Whether it is active; `None` if it is gone.
    fn is_active(&self, user: &str) -> Result<Option<bool>, Failed> {
        match self.iam.list_access_keys(user) {
            Ok(keys) => Ok(keys.value.iter().find(|key| key.id == self.key).map(|key| key.is_active)),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(refused(&failure)),
        }
    }

    fn set(&self, user: &str, is_active: bool) -> Result<(), Failed> {
        self.iam.set_access_key(user, &self.key, is_active).map_err(|failure| refused(&failure))
    }
}

impl Isolation for IamKey<'_> {
    fn subject(&self) -> String {
        format!("access key {}", self.key)
    }

    fn record(&self) -> Result<Value, Failed> {
        let user = self.iam.user_of_key(&self.key).map_err(|failure| refused(&failure))?;
        let was_active = self
            .is_active(&user)?
            .ok_or_else(|| Failed::for_good(format!("{} is no key of {user:?} in this account", self.key)))?;
        let mut warnings =
            vec![format!("sessions that were begun with a key of {user} go on until they end")];
        if !was_active {
            warnings.push(
                "it was inactive before, and stays so when this is taken back; if another isolation made it so, it is active \
                 again when that one ends"
                    .to_owned(),
            );
        }
        written(&Recorded {
            platform: "aws iam access key".to_owned(),
            mark: self.mark.clone(),
            key: self.key.clone(),
            user,
            was_active,
            until: lease_end(self.clock, self.lease),
            warnings,
        })
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        match self.is_active(&recorded.user)? {
            None => return Err(Failed::for_good(format!("{} is gone", recorded.key))),
            Some(true) => self.set(&recorded.user, false)?,
            Some(false) => {}
        }
        Ok(json!({ "state": "Inactive" }))
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        if self.is_active(&recorded.user)? != Some(false) {
            return Err(Failed::for_now(format!("IAM does not say that {} is inactive", recorded.key)));
        }
        Ok(Verified {
            read_back: vec![format!("IAM says that {} of {} is inactive", recorded.key, recorded.user)],
            not_tried: vec!["a request signed with it: its secret is not known here".to_owned()],
            ..Verified::default()
        })
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        match (self.is_active(&recorded.user)?, recorded.was_active) {
            (None, _) => restored.differences.push(format!("{} was deleted by others", recorded.key)),
            (Some(true), true) => restored.notes.push("it was active already".to_owned()),
            (Some(false), true) => {
                self.set(&recorded.user, true)?;
                if self.is_active(&recorded.user)? != Some(true) {
                    return Err(Failed::for_now(format!("IAM does not say that {} is active", recorded.key)));
                }
            }
            (Some(true), false) => {
                restored.differences.push(format!("{} was made active by others", recorded.key));
            }
            (Some(false), false) => {}
        }
        Ok(restored)
    }
}

/// The key of this context.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    let mark = super::mark(context.job, context.id)?;
    Ok(Box::new(IamKey::new(&connection(context)?, &mark, &context.asset.id, context.lease, &SystemClock)?))
}

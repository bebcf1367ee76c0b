//! IAM: what a principal may do, and what the role of an instance is.

use super::answer::{Answered, Raw, all_pages};
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller, Form};

static IAM: Service =
    Service { name: "IAM", id: "IAM", host: "iam", prefix: "iam", protocol: Protocol::Query("2010-05-08") };

/// Actions that one simulation is asked for.
const MOST_ACTIONS: usize = 100;

/// A client of IAM.
#[derive(Debug, Clone)]
pub struct Iam(Caller);

/// An access key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// `AKIA…`
    pub id: String,
    /// Whether requests may be signed with it.
    pub is_active: bool,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// What the policies say to an action on a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// `ebs:GetSnapshotBlock`
    pub action: String,
    /// An ARN, or `*`.
    pub resource: String,
    /// What follows.
    pub decision: Decision,
}

/// What policies say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// A policy allows it and none denies it.
    Allowed,
    /// No policy allows it.
    NotAllowed,
    /// A policy denies it; no other can allow it then.
    Denied,
}

impl Iam {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &IAM)?))
    }

    /// What the policies of a user or role say. Policies of the resource (a key's, a bucket's), of the session, and of
    /// services in other accounts are not asked: an *allowed* here can still be refused.
    ///
    /// `context` holds condition keys with a value each, such as `aws:ResourceTag/CaseId`.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:SimulatePrincipalPolicy`.
    pub fn simulate(
        &self,
        principal_arn: &str,
        actions: &[&str],
        resource: &str,
        context: &[(&str, &str)],
    ) -> Result<Answered<Vec<Simulated>>, Failure> {
        let form = Form::default()
            .with("PolicySourceArn", principal_arn)
            .list("ActionNames.member", actions.iter().take(MOST_ACTIONS).copied())
            .with("ResourceArns.member.1", resource);
        let form = (1..).zip(context).fold(form, |form, (number, (key, value))| {
            let at = format!("ContextEntries.member.{number}");
            form.with(format!("{at}.ContextKeyName"), *key)
                .with(format!("{at}.ContextKeyType"), "string")
                .with(format!("{at}.ContextKeyValues.member.1"), *value)
        });
        all_pages("IAM SimulatePrincipalPolicy", |marker| {
            let call = Call::reads("SimulatePrincipalPolicy", principal_arn);
            let (answer, raw) = self.0.form(&call, form.clone().maybe("Marker", marker))?;
            let Some(result) = answer.child("SimulatePrincipalPolicyResult") else {
                return Err(self.0.found(&call, FailureKind::Corrupt, "the answer has no result"));
            };
            let items = result.list("EvaluationResults").map(|found| Simulated {
                action: found.string(&["EvalActionName"]),
                resource: found.string(&["EvalResourceName"]),
                decision: match found.at(&["EvalDecision"]) {
                    "allowed" => Decision::Allowed,
                    "explicitDeny" => Decision::Denied,
                    _ => Decision::NotAllowed,
                },
            });
            let is_cut = result.at(&["IsTruncated"]) == "true";
            Ok((items.collect(), result.some(&["Marker"]).filter(|_| is_cut), raw))
        })
    }

    /// The roles of an instance profile, by the profile's name.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:GetInstanceProfile`.
    pub fn profile_roles(&self, profile: &str) -> Result<Answered<Vec<String>>, Failure> {
        let (answer, raw) =
            self.read("GetInstanceProfile", profile, Form::default().with("InstanceProfileName", profile))?;
        let profile =
            answer.child("GetInstanceProfileResult").and_then(|result| result.child("InstanceProfile"));
        let roles = profile.into_iter().flat_map(|profile| profile.list("Roles"));
        Ok(Answered { value: roles.map(|role| role.string(&["RoleName"])).collect(), raw: vec![raw] })
    }

    /// A role with who may become it.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:GetRole`.
    pub fn role(&self, role: &str) -> Result<Raw, Failure> {
        Ok(self.read("GetRole", role, Form::default().with("RoleName", role))?.1)
    }

    /// ARNs of the policies that are attached to a role.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:ListAttachedRolePolicies`.
    pub fn attached_policies(&self, role: &str) -> Result<Answered<Vec<String>>, Failure> {
        self.names("ListAttachedRolePolicies", role, "AttachedPolicies", Some("PolicyArn"))
    }

    /// Names of the policies that a role has of its own.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:ListRolePolicies`.
    pub fn own_policies(&self, role: &str) -> Result<Answered<Vec<String>>, Failure> {
        self.names("ListRolePolicies", role, "PolicyNames", None)
    }

    /// A policy that a role has of its own.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:GetRolePolicy`.
    pub fn own_policy(&self, role: &str, policy: &str) -> Result<Raw, Failure> {
        let form = Form::default().with("RoleName", role).with("PolicyName", policy);
        Ok(self.read("GetRolePolicy", role, form)?.1)
    }

    /// The access keys of a user: ids, states and dates, never the keys.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:ListAccessKeys`.
    pub fn access_keys(&self, user: &str) -> Result<Raw, Failure> {
        Ok(self.read("ListAccessKeys", user, Form::default().with("UserName", user))?.1)
    }

    /// When and for what an access key was last used.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:GetAccessKeyLastUsed`.
    pub fn access_key_last_used(&self, key_id: &str) -> Result<Raw, Failure> {
        Ok(self.read("GetAccessKeyLastUsed", key_id, Form::default().with("AccessKeyId", key_id))?.1)
    }

    /// The user that an access key is of. Keys that were never used have one too; keys of the root user have none.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:GetAccessKeyLastUsed`, or for a key of another account.
    pub fn user_of_key(&self, key_id: &str) -> Result<String, Failure> {
        let call = Call::reads("GetAccessKeyLastUsed", key_id);
        let (answer, _) = self.0.form(&call, Form::default().with("AccessKeyId", key_id))?;
        answer
            .some(&["GetAccessKeyLastUsedResult", "UserName"])
            .ok_or_else(|| self.0.found(&call, FailureKind::NotFound, "the answer names no user"))
    }

    /// The access keys of a user, typed.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:ListAccessKeys`.
    pub fn list_access_keys(&self, user: &str) -> Result<Answered<Vec<AccessKey>>, Failure> {
        all_pages("IAM ListAccessKeys", |marker| {
            let form = Form::default().with("UserName", user).maybe("Marker", marker);
            let (answer, raw) = self.read("ListAccessKeys", user, form)?;
            let result = answer.child("ListAccessKeysResult");
            let keys = result.into_iter().flat_map(|result| result.list("AccessKeyMetadata"));
            let keys = keys.map(|key| AccessKey {
                id: key.string(&["AccessKeyId"]),
                is_active: key.at(&["Status"]) == "Active",
                created: key.string(&["CreateDate"]),
            });
            let is_cut = result.is_some_and(|result| result.at(&["IsTruncated"]) == "true");
            let next = result.and_then(|result| result.some(&["Marker"])).filter(|_| is_cut);
            Ok((keys.collect(), next, raw))
        })
    }

    /// Has requests signed with a key refused, or taken again. Sessions that were begun with it go on either way.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:UpdateAccessKey`, [`FailureKind::NotFound`] if it is gone.
    pub fn set_access_key(&self, user: &str, key_id: &str, is_active: bool) -> Result<(), Failure> {
        let form = Form::default()
            .with("UserName", user)
            .with("AccessKeyId", key_id)
            .with("Status", if is_active { "Active" } else { "Inactive" });
        self.read("UpdateAccessKey", key_id, form)?;
        Ok(())
    }

    /// The document of a policy that a role has of its own.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if it has none of that name, [`FailureKind::Corrupt`] if it is no JSON.
    pub fn own_policy_document(&self, role: &str, policy: &str) -> Result<serde_json::Value, Failure> {
        let call = Call::reads("GetRolePolicy", role);
        let form = Form::default().with("RoleName", role).with("PolicyName", policy);
        let (answer, _) = self.0.form(&call, form)?;
        // As AWS gives it, and as others do.
        let text = answer.string(&["GetRolePolicyResult", "PolicyDocument"]);
        let text = if text.starts_with('%') { unescaped(&text) } else { text };
        serde_json::from_str(&text).map_err(|error| {
            self.0.found(&call, FailureKind::Corrupt, format!("the policy is no JSON: {error}"))
        })
    }

    /// Gives a role a policy of its own, or replaces the one of that name.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `iam:PutRolePolicy`.
    pub fn put_own_policy(
        &self,
        role: &str,
        policy: &str,
        document: &serde_json::Value,
    ) -> Result<(), Failure> {
        let form = Form::default()
            .with("RoleName", role)
            .with("PolicyName", policy)
            .with("PolicyDocument", document.to_string());
        self.read("PutRolePolicy", role, form)?;
        Ok(())
    }

    /// Removes a policy that a role has of its own.
    ///
    /// # Errors
    ///
    /// [`FailureKind::NotFound`] if it has none of that name.
    pub fn delete_own_policy(&self, role: &str, policy: &str) -> Result<(), Failure> {
        let form = Form::default().with("RoleName", role).with("PolicyName", policy);
        self.read("DeleteRolePolicy", role, form)?;
        Ok(())
    }

    fn read(&self, operation: &str, on: &str, form: Form) -> Result<(super::xml::Element, Raw), Failure> {
        self.0.form(&Call::reads(operation, on), form)
    }

    fn names(
        &self,
        operation: &str,
        role: &str,
        list: &str,
        field: Option<&str>,
    ) -> Result<Answered<Vec<String>>, Failure> {
        all_pages(&format!("IAM {operation}"), |marker| {
            let form = Form::default().with("RoleName", role).maybe("Marker", marker);
            let (answer, raw) = self.read(operation, role, form)?;
            let Some(result) = answer.child(&format!("{operation}Result")) else {
                let call = Call::reads(operation, role);
                return Err(self.0.found(&call, FailureKind::Corrupt, "the answer has no result"));
            };
            let name = |found: &super::xml::Element| match field {
                Some(field) => found.string(&[field]),
                None => found.text.clone(),
            };
            let is_cut = result.at(&["IsTruncated"]) == "true";
            let names = result.list(list).map(name).collect();
            Ok((names, result.some(&["Marker"]).filter(|_| is_cut), raw))
        })
    }
}

/// Takes `%XX` back; what is none stays.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_iam_writes_it() {
        assert_eq!(unescaped("%7B%22a%22%3A%20%22%C3%BC%22%7D"), "{\"a\": \"ü\"}");
        for odd in ["%", "%2", "%zz", "100%"] {
            assert_eq!(unescaped(odd), odd);
        }
    }
}

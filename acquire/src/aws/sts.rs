//! STS: who we are, and becoming a role of another account.

use super::answer::Answered;
use super::connection::{Connection, Credentials};
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller, Form};

static STS: Service =
    Service { name: "STS", id: "STS", host: "sts", prefix: "sts", protocol: Protocol::Query("2011-06-15") };

/// A client of STS.
#[derive(Debug, Clone)]
pub struct Sts(Caller);

/// Whose credentials requests are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The account, 12 digits.
    pub account: String,
    /// The ARN of the user or of the session of a role.
    pub arn: String,
    /// Its unique id.
    pub user_id: String,
}

impl CallerIdentity {
    /// The ARN that policies are attached to: of a session, that of its role.
    ///
    /// The path of a role is not in the ARN of its session, so for a role with a path this is not its ARN; IAM then says so.
    #[must_use]
    pub fn policy_arn(&self) -> String {
        let parts: Vec<&str> = self.arn.splitn(6, ':').collect();
        match parts.as_slice() {
            [arn, partition, "sts", region, account, resource] => {
                let mut names = resource.split('/');
                match (names.next(), names.next()) {
                    (Some("assumed-role"), Some(role)) => {
                        format!("{arn}:{partition}:iam:{region}:{account}:role/{role}")
                    }
                    _ => self.arn.clone(),
                }
            }
            _ => self.arn.clone(),
        }
    }
}

/// What `AssumeRole` is asked for.
#[derive(Debug, Clone, Default)]
pub struct RoleToAssume {
    /// Its ARN.
    pub arn: String,
    /// What the session is called in the account's logs: 2 to 64 of `[A-Za-z0-9_=,.@-]`.
    pub session_name: String,
    /// What the role's owner asks for beside the identity.
    pub external_id: Option<String>,
    /// For how many seconds; 3,600 if it is not said.
    pub seconds: Option<u32>,
}

/// Credentials of a role.
#[derive(Debug, Clone)]
pub struct AssumedRole {
    /// To open a [`Connection`] with.
    pub credentials: Credentials,
    /// When they end, RFC 3339.
    pub expires: String,
    /// The ARN of the session.
    pub arn: String,
}

impl Sts {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &STS)?))
    }

    /// Who we are. AWS asks no permission for it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn caller_identity(&self) -> Result<Answered<CallerIdentity>, Failure> {
        let call = Call::reads("GetCallerIdentity", "");
        let (answer, raw) = self.0.form(&call, Form::default())?;
        let field = |name: &str| answer.string(&["GetCallerIdentityResult", name]);
        let value = CallerIdentity { account: field("Account"), arn: field("Arn"), user_id: field("UserId") };
        if value.account.is_empty() || value.arn.is_empty() {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no account"));
        }
        Ok(Answered { value, raw: vec![raw] })
    }

    /// Becomes a role. The answer itself is not given: it holds the key.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] if the role does not trust us, or wants another external id.
    pub fn assume_role(&self, role: &RoleToAssume) -> Result<AssumedRole, Failure> {
        let call = Call::reads("AssumeRole", &role.arn);
        let form = Form::default()
            .with("RoleArn", &role.arn)
            .with("RoleSessionName", &role.session_name)
            .maybe("ExternalId", role.external_id.as_deref())
            .maybe("DurationSeconds", role.seconds.map(|seconds| seconds.to_string()).as_deref());
        let (answer, _) = self.0.form(&call, form)?;
        let field = |name: &str| answer.string(&["AssumeRoleResult", "Credentials", name]);
        let credentials = Credentials {
            access_key_id: field("AccessKeyId"),
            secret_access_key: field("SecretAccessKey"),
            session_token: Some(field("SessionToken")),
        };
        if credentials.access_key_id.is_empty() || credentials.secret_access_key.is_empty() {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer has no credentials"));
        }
        let arn = answer.string(&["AssumeRoleResult", "AssumedRoleUser", "Arn"]);
        Ok(AssumedRole { credentials, expires: field("Expiration"), arn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_session_leads_to_that_of_its_role() {
        let arn = |arn: &str| {
            CallerIdentity { account: String::new(), arn: arn.to_owned(), user_id: String::new() }
                .policy_arn()
        };
        assert_eq!(
            arn("arn:aws:sts::123456789012:assumed-role/ir/jane"),
            "arn:aws:iam::123456789012:role/ir"
        );
        assert_eq!(
            arn("arn:aws-cn:iam::123456789012:user/a/jane"),
            "arn:aws-cn:iam::123456789012:user/a/jane"
        );
        assert_eq!(arn("arn:aws:sts::1:federated-user/jane"), "arn:aws:sts::1:federated-user/jane");
        assert_eq!(arn("x"), "x");
    }
}

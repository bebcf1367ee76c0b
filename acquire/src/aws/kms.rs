//! KMS: what key a disk is encrypted with, and whether it can be used.

use serde_json::{Value, json};

use super::answer::Answered;
use super::connection::Connection;
use super::endpoint::{Protocol, Service};
use super::failure::{Failure, FailureKind};
use super::request::{Call, Caller};

static KMS: Service =
    Service { name: "KMS", id: "KMS", host: "kms", prefix: "kms", protocol: Protocol::Json("TrentService") };

/// A client of KMS.
#[derive(Debug, Clone)]
pub struct Kms(Caller);

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its ARN.
    pub arn: String,
    /// `Enabled`, `Disabled`, `PendingDeletion`, …
    pub state: String,
    /// `AWS` for the keys that AWS manages, which no other account can be let use; else `CUSTOMER`.
    pub manager: String,
    /// The account that it is in.
    pub account: String,
}

impl Kms {
    /// Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Invalid`] where region or address are none.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        Ok(Self(Caller::new(connection, &KMS)?))
    }

    /// One key, by id, ARN or alias.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `kms:DescribeKey`.
    pub fn describe_key(&self, key: &str) -> Result<Answered<Key>, Failure> {
        let call = Call::reads("DescribeKey", key);
        let (answer, raw) = self.0.json(&call, &json!({"KeyId": key}))?;
        let field = |name: &str| {
            let field = answer.get("KeyMetadata").and_then(|key| key.get(name)).and_then(Value::as_str);
            field.unwrap_or_default().to_owned()
        };
        let value = Key {
            arn: field("Arn"),
            state: field("KeyState"),
            manager: field("KeyManager"),
            account: field("AWSAccountId"),
        };
        if value.arn.is_empty() {
            return Err(self.0.found(&call, FailureKind::Corrupt, "the answer names no key"));
        }
        Ok(Answered { value, raw: vec![raw] })
    }

    /// Has the key make a data key and decrypt it again, and compares the two: whether it is usable, not only described.
    ///
    /// Nothing of either answer is kept, for both hold the data key.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Denied`] without `kms:GenerateDataKey` or `kms:Decrypt`; [`FailureKind::Corrupt`] where what comes
    /// back is another key.
    pub fn round_trip(&self, key: &str) -> Result<(), Failure> {
        let made = Call::reads("GenerateDataKey", key);
        let (answer, _) = self.0.json(&made, &json!({"KeyId": key, "KeySpec": "AES_256"}))?;
        let field = |answer: &Value, name: &str| {
            answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (Some(sealed), Some(plain)) = (field(&answer, "CiphertextBlob"), field(&answer, "Plaintext"))
        else {
            return Err(self.0.found(&made, FailureKind::Corrupt, "the answer has no data key"));
        };
        let opened = Call::reads("Decrypt", key);
        let (answer, _) = self.0.json(&opened, &json!({"KeyId": key, "CiphertextBlob": sealed}))?;
        if field(&answer, "Plaintext").as_deref() == Some(plain.as_str()) {
            return Ok(());
        }
        Err(self.0.found(&opened, FailureKind::Corrupt, "what was decrypted is not what was encrypted"))
    }
}

//! Requests to S3 that are tried again where that helps, and what their failures mean to who reads logs.

use std::future::Future;
use std::time::Duration;

use crate::aws::{Failure, FailureKind};
use crate::blocks::pause;

/// Tries of one request, at most, with waits between them that double.
const MOST_TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Sends a request until it is answered, or until another try makes no sense.
pub(super) async fn patiently<T, F>(mut send: impl FnMut() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match send().await {
            Ok(answer) => return Ok(answer),
            Err(failure) if !failure.kind.is_worth_another_try() || tries >= MOST_TRIES => {
                return Err(failure);
            }
            Err(_) => tokio::time::sleep(pause(FIRST_WAIT, LONGEST_WAIT, tries)).await,
        }
    }
}

/// What an object's failure means, and what to do.
pub(super) fn words(failure: &Failure, bucket: &str, key: &str) -> String {
    let message = failure.message.to_ascii_lowercase();
    let told = |text: &str| message.contains(text);
    if failure.code == "InvalidObjectState" {
        return format!(
            "it is archived, so it cannot be read now: restore it (aws s3api restore-object --bucket {bucket} --key … \
             --restore-request Days=7,GlacierJobParameters={{Tier=Standard}}), wait for that, and acquire again ({failure})"
        );
    }
    if failure.code.contains("KMS") || told("kms:") || told("kms key") {
        return format!(
            "the key of KMS that it is encrypted with may not be used: kms:Decrypt on that key is missing ({failure})"
        );
    }
    match failure.kind {
        FailureKind::Denied => {
            format!(
                "s3:GetObject on arn:aws:s3:::{bucket}/{key} is missing, or kms:Decrypt on the key that it is encrypted with ({failure})"
            )
        }
        FailureKind::NotFound => format!("deleted between listing and reading ({failure})"),
        _ => failure.to_string(),
    }
}

/// A list that may not be had, in words.
pub(super) fn of_list(mut failure: Failure, bucket: &str, prefix: &str) -> Failure {
    if failure.kind == FailureKind::Denied {
        failure.message = format!(
            "s3:ListBucket on arn:aws:s3:::{bucket} (for the prefix {prefix:?}) is missing: {}",
            failure.message
        );
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn failed(code: &str, message: &str) -> Failure {
        Failure::answered("S3 GetObject", code, "", message, 403, None)
    }

    #[test]
    fn what_is_denied_is_asked_once_and_names_what_is_missing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let asked = AtomicU32::new(0);
        let denied = runtime.block_on(patiently(|| async {
            asked.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(failed("AccessDenied", "Access Denied"))
        }));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let said = words(&denied.unwrap_err(), "b", "k");
        assert!(said.contains("s3:GetObject on arn:aws:s3:::b/k"), "{said}");
        let kms = "User: arn:aws:iam::1:user/x is not authorized to perform: kms:Decrypt on resource: arn:aws:kms:…";
        let said = words(&failed("AccessDenied", kms), "b", "k");
        assert!(said.starts_with("the key of KMS") && said.contains("kms:Decrypt"), "{said}");
        assert!(words(&failed("InvalidObjectState", ""), "b", "k").contains("restore-object --bucket b"));
        let listed = of_list(failed("AccessDenied", "Access Denied"), "b", "p/");
        assert!(listed.to_string().contains("s3:ListBucket on arn:aws:s3:::b"), "{listed}");
    }
}

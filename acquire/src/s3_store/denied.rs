//! What a writer lacks who is refused: which permission, and on what.

use custody::bundle::RemotePlace;

use crate::aws::Failure;

/// What may be missing, in words.
pub(super) fn permission(failure: &Failure, place: &RemotePlace, key: &str) -> String {
    let bucket = &place.bucket;
    let objects = format!("arn:aws:s3:::{bucket}/{key}");
    let said = failure.message.to_ascii_lowercase();
    if said.contains("kms") || failure.code.to_ascii_lowercase().contains("kms") {
        return "the bucket encrypts by a KMS key: the writer needs kms:GenerateDataKey and kms:Decrypt on it, by its \
                policy and by its key's"
            .to_owned();
    }
    if place.retention.is_some() && said.contains("retention") {
        return format!("the writer needs s3:PutObjectRetention on {objects}");
    }
    match failure.operation.as_str() {
        "S3 AbortMultipartUpload" => format!("the writer needs s3:AbortMultipartUpload on {objects}"),
        "S3 ListMultipartUploads" => {
            format!("it would need s3:ListBucketMultipartUploads on arn:aws:s3:::{bucket}")
        }
        "S3 PutObjectRetention" => format!("the writer needs s3:PutObjectRetention on {objects}"),
        "S3 HeadObject" => format!("it would need s3:GetObject on {objects}"),
        "S3 GetObjectLockConfiguration" => {
            format!("it would need s3:GetBucketObjectLockConfiguration on arn:aws:s3:::{bucket}")
        }
        _ => {
            let lock = if place.retention.is_some() { ", s3:PutObjectRetention" } else { "" };
            format!(
                "the writer needs s3:PutObject{lock} on {objects}; where the bucket encrypts by a KMS key, \
                 kms:GenerateDataKey and kms:Decrypt on that key too"
            )
        }
    }
}

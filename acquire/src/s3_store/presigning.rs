//! Addresses that carry their signature, so that who has one may do that one thing with no credential.
//!
//! Reference: Amazon S3, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use custody::bundle::RemotePlace;

use crate::aws::{Failure, FailureKind};

/// Signs addresses of one place for a time.
pub(super) struct Presigner {
    credentials: Credentials,
    region: String,
    /// When: nanoseconds since 1970.
    wall_ns: i64,
    lasts: Duration,
}

/// What a signature adds to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The parameters that are the same for every address: algorithm, scope of the credential, time, and a session's token.
    pub(super) common: String,
    /// The names of the headers that are signed.
    pub(super) headers: String,
    /// 64 hexadecimal digits.
    pub(super) signature: String,
}

impl Presigner {
    pub(super) fn new(credentials: Credentials, region: &str, wall_ns: i64, lasts: Duration) -> Self {
        Self { credentials, region: region.to_owned(), wall_ns, lasts }
    }

    /// Signs one act: an address with its query, and the headers that must be sent with it.
    pub(super) fn sign(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
    ) -> Result<Signature, Failure> {
        // Nothing of what went wrong here is shown: it may hold what was signed.
        let failed = || Failure::found("presigning", FailureKind::Invalid, "the request could not be signed");
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(self.lasts);
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.wall_ns).unwrap_or(0)))
            .settings(settings)
            .build()
            .map_err(|_| failed())?
            .into();
        let signed_headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = SignableRequest::new(method, url, signed_headers, SignableBody::UnsignedPayload)
            .map_err(|_| failed())?;
        let (instructions, signature) = sign(request, &params).map_err(|_| failed())?.into_parts();
        let (mut common, mut names) = (Vec::new(), None);
        for (name, value) in instructions.params() {
            match *name {
                "X-Amz-SignedHeaders" => names = Some(value.to_string()),
                "X-Amz-Signature" => {}
                name => common.push(format!("{name}={}", encoded(value, false))),
            }
        }
        Ok(Signature { common: common.join("&"), headers: names.ok_or_else(failed)?, signature })
    }
}

/// The address of a place, to which `/` and a path are added: as the SDK's own clients would find it.
pub(super) fn base_of(place: &RemotePlace) -> String {
    let bucket = &place.bucket;
    let prefix =
        if place.prefix.is_empty() { String::new() } else { format!("/{}", encoded(&place.prefix, true)) };
    let suffix = if place.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    match &place.endpoint {
        Some(endpoint) => format!("{endpoint}/{bucket}{prefix}"),
        // The certificate of AWS's servers does not hold for a name with dots before theirs.
        None if bucket.contains('.') => format!("https://s3.{}.{suffix}/{bucket}{prefix}", place.region),
        None => format!("https://{bucket}.s3.{}.{suffix}{prefix}", place.region),
    }
}

/// A text as a part of an address; with `path`, `/` stays.
pub(super) fn encoded(text: &str, path: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (path && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's own reference for presigned addresses.
    #[test]
    fn an_address_is_signed_as_in_the_example_that_aws_publishes() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", secret, None, None, "test");
        // 2013-05-24T00:00:00Z
        let presigner =
            Presigner::new(credentials, "us-east-1", 1_369_353_600_000_000_000, Duration::from_secs(86_400));
        let signed = presigner.sign("GET", "https://examplebucket.s3.amazonaws.com/test.txt", &[]).unwrap();
        assert_eq!(signed.headers, "host");
        assert_eq!(signed.signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
        assert_eq!(
            signed.common,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F\
             aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
        );
    }

    #[test]
    fn a_place_has_the_address_that_the_sdk_would_use() {
        let place = |text: &str, region: &str, endpoint| {
            base_of(&RemotePlace::parse(text).unwrap().on(region, endpoint).unwrap())
        };
        assert_eq!(
            place("s3://evidence/a=b/c", "eu-1", None),
            "https://evidence.s3.eu-1.amazonaws.com/a%3Db/c"
        );
        assert_eq!(
            place("s3://evi.dence", "cn-north-1", None),
            "https://s3.cn-north-1.amazonaws.com.cn/evi.dence"
        );
        let own = place("s3://evidence/x", "eu-1", Some("http://127.0.0.1:9000"));
        assert_eq!(own, "http://127.0.0.1:9000/evidence/x");
    }
}

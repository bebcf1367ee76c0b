//! What S3 tells of an object beside its bytes, and whether the bytes are those that it tells of.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use custody::{Digest, Hasher};
use md5::{Digest as _, Md5};

/// Headers that tell of the answer and not of the object.
const OF_THE_ANSWER: [&str; 3] = ["x-amz-request-id", "x-amz-id-2", "x-amz-cf-id"];

/// Headers of an object beside those that begin with `x-amz-`.
const OF_THE_OBJECT: [&str; 9] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "etag",
    "expires",
    "last-modified",
];

/// Bytes of values that are kept of one object: S3 allows 2 KiB of metadata, and 8 KiB of headers in all.
const MOST_BYTES: usize = 64 << 10;

/// What S3 says of an object, by the names of headers, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(Vec<(String, String)>);

impl Headers {
    pub(super) fn of<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut room = MOST_BYTES;
        let mut kept: Vec<(String, String)> = all
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .filter(|(name, _)| {
                let of_object = name.starts_with("x-amz-") && !OF_THE_ANSWER.contains(&name.as_str());
                of_object || OF_THE_OBJECT.contains(&name.as_str())
            })
            .filter(|(name, value)| {
                let left = room.checked_sub(name.len().saturating_add(value.len()));
                room = left.unwrap_or(room);
                left.is_some()
            })
            .collect();
        kept.sort();
        Self(kept)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those that tell a checksum of the whole object.
    pub(super) fn checksums(self) -> Self {
        Self(self.0.into_iter().filter(|(name, _)| name.starts_with("x-amz-checksum-")).collect())
    }

    /// Takes over those that are not here yet.
    pub(super) fn add(&mut self, more: Self) {
        let more: Vec<_> = more.0.into_iter().filter(|(name, _)| self.get(name).is_none()).collect();
        self.0.extend(more);
        self.0.sort();
    }

    /// SHA-256 of the whole object, where S3 keeps one. That of an upload in parts is one over the parts' hashes.
    fn sha256(&self) -> Option<Digest> {
        let text = self.get("x-amz-checksum-sha256").filter(|text| !text.contains('-'))?;
        let is_composite =
            self.get("x-amz-checksum-type").is_some_and(|kind| kind.eq_ignore_ascii_case("COMPOSITE"));
        let bytes = BASE64_STANDARD.decode(text).ok().filter(|_| !is_composite)?;
        Some(Digest(bytes.try_into().ok()?))
    }

    /// MD5 of the whole object: its ETag, where it was uploaded in one piece and not encrypted by a key of KMS or of a
    /// customer. Source: Amazon S3 API reference, `Object`, `ETag`.
    fn md5(&self) -> Option<[u8; 16]> {
        let is_plain = self.get("x-amz-server-side-encryption").is_none_or(|kind| kind == "AES256");
        let by_customer =
            self.iter().any(|(name, _)| name.starts_with("x-amz-server-side-encryption-customer"));
        let tag = self.get("etag")?.trim_matches('"');
        if !is_plain || by_customer || tag.len() != 32 {
            return None;
        }
        let mut md5 = [0; 16];
        for (byte, pair) in md5.iter_mut().zip(tag.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(md5)
    }
}

/// The hashes that an object's bytes are compared by.
#[derive(Clone)]
pub(super) struct Comparison {
    sha256: Hasher,
    md5: Option<Md5>,
}

impl Comparison {
    pub(super) fn new(headers: &Headers) -> Self {
        Self { sha256: Hasher::new(), md5: headers.md5().map(|_| Md5::new()) }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(md5) = self.md5.as_mut() {
            md5.update(bytes);
        }
    }

    /// What does not match, in words.
    pub(super) fn differences(self, headers: &Headers) -> Vec<String> {
        let mut words = Vec::new();
        let found = self.sha256.finish();
        if let Some(told) = headers.sha256()
            && told != found
        {
            words.push(format!("its bytes have SHA-256 {found}, but S3 says {told}"));
        }
        if let (Some(told), Some(md5)) = (headers.md5(), self.md5) {
            let found: [u8; 16] = md5.finalize().into();
            if told != found {
                let etag = headers.get("etag").unwrap_or_default();
                words.push(format!("its bytes do not have the MD5 that its ETag {etag} says"));
            }
        }
        words
    }
}

/// What of all bytes of an object does not match, in words.
pub(super) fn differences(headers: &Headers, bytes: &[u8]) -> Vec<String> {
    let mut comparison = Comparison::new(headers);
    comparison.update(bytes);
    comparison.differences(headers)
}

/// How the bytes could be compared, in a word.
pub(super) fn compared_by(headers: &Headers) -> &'static str {
    match (headers.sha256(), headers.md5()) {
        (Some(_), _) => "sha256",
        (None, Some(_)) => "md5",
        (None, None) => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers::of(pairs.iter().copied())
    }

    /// SHA-256 and MD5 of `abc`, FIPS 180-2 and RFC 1321.
    const SHA256: &str = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=";
    const MD5: &str = "\"900150983cd24fb0d6963f7d28e17f72\"";

    #[test]
    fn bytes_are_compared_with_what_the_service_keeps_of_them() {
        for (pairs, by) in [
            (&[("x-amz-checksum-sha256", SHA256), ("ETag", "\"x\"")][..], "sha256"),
            (&[("ETag", MD5)], "md5"),
            (&[("ETag", MD5), ("x-amz-server-side-encryption", "AES256")], "md5"),
        ] {
            let headers = headers(pairs);
            assert_eq!(compared_by(&headers), by);
            assert_eq!(differences(&headers, b"abc"), Vec::<String>::new());
            assert_eq!(differences(&headers, b"abd").len(), 1);
        }
    }

    #[test]
    fn what_is_no_hash_of_the_bytes_is_not_compared() {
        for pairs in [
            &[("etag", MD5), ("x-amz-server-side-encryption", "aws:kms")][..],
            &[("etag", MD5), ("x-amz-server-side-encryption-customer-algorithm", "AES256")],
            &[("etag", "\"900150983cd24fb0d6963f7d28e17f72-2\"")],
            &[("etag", "\"zz0150983cd24fb0d6963f7d28e17f72\"")],
            &[("x-amz-checksum-sha256", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-2")],
            &[("x-amz-checksum-sha256", SHA256), ("x-amz-checksum-type", "COMPOSITE")],
            &[("x-amz-checksum-sha256", "short")],
            &[],
        ] {
            let headers = headers(pairs);
            assert_eq!(
                (compared_by(&headers), differences(&headers, b"abd").len()),
                ("none", 0),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn headers_of_the_answer_are_left_out_and_those_of_the_object_are_bounded() {
        let long = "x".repeat(MOST_BYTES);
        let kept = headers(&[
            ("X-Amz-Meta-signature", "ab"),
            ("x-amz-request-id", "1"),
            ("date", "now"),
            ("x-amz-meta-long", &long),
            ("etag", "e"),
        ]);
        let names: Vec<_> = kept.iter().collect();
        assert_eq!(names, [("etag", "e"), ("x-amz-meta-signature", "ab")]);
    }
}

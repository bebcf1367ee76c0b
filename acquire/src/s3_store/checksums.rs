//! Checksums of parts, and of what is made of them, as a store tells them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use custody::{Digest, sha256};
use md5::{Digest as _, Md5};

use super::uploads::Part;

/// Hashes of a part: SHA-256, and MD5 for servers that check nothing else.
pub(super) struct PartSums {
    pub(super) sha256: Digest,
    pub(super) sha256_base64: String,
    pub(super) md5: Option<[u8; 16]>,
}

impl PartSums {
    pub(super) fn of(bytes: &[u8], with_md5: bool) -> Self {
        let sha256 = sha256(bytes);
        let md5 = with_md5.then(|| Md5::digest(bytes).into());
        Self { sha256, sha256_base64: BASE64.encode(sha256.as_bytes()), md5 }
    }
}

/// The checksum of an object that was put in parts: of the hashes of its parts, with their number.
pub(super) fn composite(parts: &[(i32, Part)]) -> String {
    let hashes: Vec<u8> = parts.iter().flat_map(|(_, part)| *part.sha256.as_bytes()).collect();
    format!("{}-{}", BASE64.encode(sha256(&hashes).as_bytes()), parts.len())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_parts_is_that_of_the_hashes_of_its_parts() {
        let part =
            |bytes: &[u8]| Part { size: 1, sha256: PartSums::of(bytes, false).sha256, etag: String::new() };
        // printf a|sha256sum, printf b|sha256sum, both in binary through sha256sum.
        let expected = sha256(&[*sha256(b"a").as_bytes(), *sha256(b"b").as_bytes()].concat());
        let found = composite(&[(1, part(b"a")), (2, part(b"b"))]);
        assert_eq!(found, format!("{}-2", BASE64.encode(expected.as_bytes())));
        assert_eq!(hex(&PartSums::of(b"", true).md5.unwrap()), "d41d8cd98f00b204e9800998ecf8427e");
    }
}

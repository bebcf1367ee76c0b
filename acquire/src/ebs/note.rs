//! Why an image of the restored volume may have another hash, in words for whoever compares the two.

/// What a bundle says of it, paragraph by paragraph; nothing where the volume is known not to be encrypted.
///
/// Reference: the behaviour is described in issues 395 and 470 of awslabs/coldsnap and in pull request 2169 of
/// bottlerocket-os/bottlerocket.
pub(super) fn hash_note(encrypted: Option<bool>) -> Option<Vec<&'static str>> {
    let first = match encrypted {
        Some(false) => return None,
        Some(true) => {
            "This snapshot is of an encrypted volume. It was read block by block through the EBS direct APIs, which decrypt \
             what they give."
        }
        None => {
            "Whether this snapshot is of an encrypted volume is not known to this bundle; what follows matters only if it \
             is. It was read block by block through the EBS direct APIs, which decrypt what they give."
        }
    };
    Some(vec![
        first,
        "A snapshot holds only blocks that were written. The others are listed here as absent, and zeros stand for them in \
         the stream, as they do in every image made through these APIs.",
        "On an encrypted volume that is restored from the same snapshot, a block that was never written reads as noise: the \
         volume decrypts zeros that nobody encrypted. So an image of the restored volume (by dd, for example) has another \
         SHA-256 than this stream, and neither is wrong. No evidence differs: nothing was ever stored in those blocks.",
        "What both must have in common is the SHA-256 of the present blocks alone, the stream's sha256_data in \
         manifest.json. The extents table says which these are.",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_volume_that_is_known_not_to_be_encrypted_needs_no_note() {
        assert_eq!(hash_note(Some(false)), None);
        for encrypted in [Some(true), None] {
            let note = hash_note(encrypted).unwrap().join(" ");
            assert!(note.contains("sha256_data") && note.is_ascii(), "{note}");
        }
    }
}

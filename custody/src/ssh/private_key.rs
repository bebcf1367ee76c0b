//! Private key files of OpenSSH, encrypted or not.

use ssh_key::PrivateKey;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Whether this is the text of a private key as `ssh-keygen` writes it.
pub(crate) fn is_openssh(text: &str) -> bool {
    text.contains("-----BEGIN OPENSSH PRIVATE KEY-----")
}

/// Whether it needs a passphrase.
pub(crate) fn is_encrypted_openssh(text: &str) -> bool {
    PrivateKey::from_openssh(text).is_ok_and(|key| key.is_encrypted())
}

/// Reads the seed of an Ed25519 key.
pub(crate) fn read_openssh(text: &str, passphrase: Option<&str>) -> Result<Zeroizing<[u8; 32]>> {
    let bad = |why: String| Error::Key { why };
    let key = PrivateKey::from_openssh(text).map_err(|error| bad(format!("no OpenSSH key: {error}")))?;
    let key = match (key.is_encrypted(), passphrase) {
        (false, _) => key,
        (true, Some(passphrase)) => {
            key.decrypt(passphrase).map_err(|_| bad("the passphrase does not open it".to_owned()))?
        }
        (true, None) => return Err(bad("it is encrypted and no passphrase was given".to_owned())),
    };
    let Some(pair) = key.key_data().ed25519() else {
        return Err(bad(format!(
            "it is of the kind {}, and only ssh-ed25519 keys sign a custody log",
            key.algorithm().as_str()
        )));
    };
    Ok(Zeroizing::new(pair.private.to_bytes()))
}

//! What OpenSSH brings: key files, an agent that keeps keys, signatures of files (SSHSIG) and certificates of people.
//!
//! A signature that is made here verifies with `ssh-keygen -Y verify`, and the other way round. Verified are
//! Ed25519, ECDSA over P-256 and P-384, RSA of 2048 to 8192 bits with SHA-2, and the two kinds of FIDO keys (`sk-`),
//! which must have been touched. ECDSA over P-521, DSA and SHA-1 are not: such a signature counts as none.

#[cfg(unix)]
mod agent;
mod allowed_signers;
mod certificate;
mod private_key;
mod public_key;
mod signature;
mod wire;

#[cfg(unix)]
pub use agent::{Agent, AgentIdentity, AgentKey};
pub use allowed_signers::{AllowedSigner, AllowedSigners};
pub use certificate::Certificate;
pub(crate) use private_key::{is_encrypted_openssh, is_openssh, read_openssh};
pub use public_key::SshPublicKey;
pub use signature::{PartyKey, Signed, SshSignature};

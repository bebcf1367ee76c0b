//! A command of the user's that signs: for tokens, hardware modules and key services that no agent serves.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::keys::{Signer, VerifyingKey};

/// 64 raw bytes or 88 letters are due; more is read only to say so.
const MOST_OUTPUT: u64 = 4096;
/// A person may have to type a PIN.
const PATIENCE: Duration = Duration::from_secs(300);

/// Signs by running a command: the bytes to sign on its standard input, the signature on its standard output, as 64
/// raw bytes or as base64 of them. Its standard error is left to it, so that it can ask for a PIN.
///
/// The command goes to `sh -c` as the user gave it; nothing of the evidence is put into it.
#[derive(Debug, Clone)]
pub struct CommandSigner {
    command: String,
    key: VerifyingKey,
}

impl CommandSigner {
    /// A command that signs with the private half of this key.
    pub fn new(command: &str, key: VerifyingKey) -> Self {
        Self { command: command.to_owned(), key }
    }

    fn run(&self, message: &[u8]) -> Result<Vec<u8>> {
        let fault = |error: std::io::Error| self.fault(&error.to_string());
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fault)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let message = message.to_vec();
        // A command that reads nothing closes its end, which is no fault by itself.
        std::thread::spawn(move || input.map(|mut input| input.write_all(&message)));
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.map(|output| output.take(MOST_OUTPUT).read_to_end(&mut bytes));
            let _ = done.send(read.unwrap_or(Ok(0)).map(|_| bytes));
        });
        let bytes = wait.recv_timeout(PATIENCE);
        if bytes.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(fault)?;
        let bytes = bytes.map_err(|_| self.fault("it did not end in five minutes"))?.map_err(fault)?;
        if bytes.len() as u64 >= MOST_OUTPUT {
            return Err(self.fault("it gave too much to be a signature"));
        }
        if status.success() { Ok(bytes) } else { Err(self.fault(&format!("it ended with {status}"))) }
    }

    fn fault(&self, why: &str) -> Error {
        Error::Key { why: format!("the signing command {:?}: {why}", self.command) }
    }
}

impl Signer for CommandSigner {
    fn verifying_key(&self) -> VerifyingKey {
        self.key
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let output = self.run(message)?;
        let signature: [u8; 64] = match output.as_slice().try_into() {
            Ok(raw) => raw,
            Err(_) => {
                let text = String::from_utf8_lossy(&output).split_whitespace().collect::<String>();
                let decoded = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
                let why = format!(
                    "it gave {} bytes that are no signature of 64 bytes, raw or base64",
                    output.len()
                );
                decoded.ok_or_else(|| self.fault(&why))?
            }
        };
        self.key.verify(message, &signature).map_err(|_| {
            self.fault(&format!("its signature does not verify under the key {}", self.key.fingerprint()))
        })?;
        Ok(signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn signer(command: &str) -> CommandSigner {
        CommandSigner::new(command, SigningKey::from_seed(&[7; 32]).verifying_key())
    }

    #[test]
    fn a_good_signature_is_taken_raw_and_as_base64() {
        let folder = tempfile::tempdir().unwrap();
        let signature = SigningKey::from_seed(&[7; 32]).sign(b"message");
        let (raw, text) = (folder.path().join("raw"), folder.path().join("text"));
        std::fs::write(&raw, signature).unwrap();
        std::fs::write(&text, STANDARD.encode(signature) + "\n").unwrap();
        for file in [raw, text] {
            assert_eq!(signer(&format!("cat {}", file.display())).sign(b"message").unwrap(), signature);
            let error = signer(&format!("cat {}", file.display())).sign(b"another").unwrap_err().to_string();
            assert!(error.contains("does not verify"), "{error}");
        }
    }

    #[test]
    fn what_goes_wrong_is_said() {
        for (command, words) in [
            ("exit 3", "exit status: 3"),
            ("true", "it gave 0 bytes"),
            ("head -c 64 /dev/zero", "does not verify"),
            ("seq 100", "it gave 292 bytes"),
            ("cat /dev/zero", "too much to be a signature"),
        ] {
            let error = signer(command).sign(&vec![0; 1 << 20]).unwrap_err().to_string();
            assert!(error.contains(words), "{command}: {error}");
        }
    }
}

//! What OpenSSH makes is read here, and the other way round: keys, certificates, signatures, an agent.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use custody::SigningKey;
use custody::ssh::{Agent, AllowedSigners, Certificate, PartyKey, SshPublicKey, SshSignature};

const NAMESPACE: &str = "custody@v1";

/// Runs a program of OpenSSH; `None` where there is none.
pub(crate) fn ran(folder: &Path, program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).current_dir(folder).stdin(Stdio::null()).output() {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{program} {args:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no {program} here");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Makes a key file of OpenSSH.
pub(crate) fn keygen(folder: &Path, name: &str, more: &[&str]) -> Option<()> {
    let args = [&["-q", "-N", "", "-C", "", "-f", name], more].concat();
    ran(folder, "ssh-keygen", &args).map(|_| ())
}

/// Runs `ssh-keygen -Y verify`; whether it says that the signature is good.
pub(crate) fn keygen_verifies(folder: &Path, who: &str, signature: &str, message: &[u8]) -> bool {
    let message_file = folder.join("message-to-verify");
    std::fs::write(&message_file, message).unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-f", "allowed_signers", "-I", who, "-n", NAMESPACE, "-s", signature])
        .current_dir(folder)
        .stdin(std::fs::File::open(message_file).unwrap())
        .output()
        .unwrap();
    output.status.success()
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn signatures_by_every_kind_of_key_that_ssh_keygen_makes_verify() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("offer"), "the offer\n").unwrap();
    for (name, kind) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        // Numbers of an ECDSA signature are now and then a byte short.
        let Some(()) = keygen(at, name, kind) else { return };
        for _ in 0..if name == "rsa" { 2 } else { 20 } {
            let _ = std::fs::remove_file(at.join("offer.sig"));
            ran(at, "ssh-keygen", &["-q", "-Y", "sign", "-f", name, "-n", NAMESPACE, "offer"]);
            let signature = SshSignature::parse(&text(at, "offer.sig")).unwrap();
            assert_eq!(signature.to_text(), text(at, "offer.sig"), "{name}");
            let signed = signature.verify(b"the offer\n", NAMESPACE).unwrap();
            assert_eq!(signed.key, SshPublicKey::from_line(&text(at, &format!("{name}.pub"))).unwrap());
            assert!(signature.verify(b"the offer", NAMESPACE).is_err());
            assert!(signature.verify(b"the offer\n", "file").is_err());
        }
    }
}

#[test]
fn a_signature_of_ours_verifies_with_ssh_keygen_also_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (Some(()), Some(())) = (keygen(at, "jane", &["-t", "ed25519"]), keygen(at, "ca", &["-t", "ecdsa"]))
    else {
        return;
    };
    ran(
        at,
        "ssh-keygen",
        &["-q", "-s", "ca", "-I", "Jane Roe", "-n", "jane@lab,role:examiner", "-z", "7", "jane.pub"],
    );
    let key = SigningKey::load(&at.join("jane"), None).unwrap();
    let plain = SshSignature::sign(b"offer\n", NAMESPACE, &PartyKey::of(&key)).unwrap();
    std::fs::write(at.join("plain.sig"), plain.to_text()).unwrap();
    let certificate = Certificate::from_line(&text(at, "jane-cert.pub")).unwrap();
    assert_eq!((certificate.names.as_slice(), certificate.serial), (&["jane@lab".to_owned()][..], 7));
    assert_eq!(
        (certificate.roles.as_slice(), certificate.key_id.as_str()),
        (&["examiner".to_owned()][..], "Jane Roe")
    );
    assert_eq!(certificate.validity(), "without end");
    let certified = PartyKey::of(&key).certified(certificate).unwrap();
    let certified = SshSignature::sign(b"offer\n", NAMESPACE, &certified).unwrap();
    std::fs::write(at.join("certified.sig"), certified.to_text()).unwrap();
    let allowed = format!("jane@lab {}*@lab cert-authority {}", text(at, "jane.pub"), text(at, "ca.pub"));
    std::fs::write(at.join("allowed_signers"), &allowed).unwrap();
    assert!(keygen_verifies(at, "jane@lab", "plain.sig", b"offer\n"));
    assert!(keygen_verifies(at, "jane@lab", "certified.sig", b"offer\n"));
    assert!(!keygen_verifies(at, "jane@lab", "certified.sig", b"offer"));
    // And our own reading of the same file gives the same answer.
    let allowed = AllowedSigners::parse(&allowed).unwrap();
    for signature in [&plain, &certified] {
        let signed = signature.verify(b"offer\n", NAMESPACE).unwrap();
        assert_eq!(allowed.who(&signed, NAMESPACE, 0), Some(vec!["jane@lab".to_owned()]));
    }
    let authority_only =
        AllowedSigners::parse(&format!("j*@lab cert-authority {}", text(at, "ca.pub"))).unwrap();
    assert!(authority_only.who(&plain.signer().unwrap(), NAMESPACE, 0).is_none());
    assert!(authority_only.who(&certified.signer().unwrap(), NAMESPACE, 0).is_some());
}

#[test]
fn every_changed_byte_of_a_certificate_or_signature_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let (Some(()), Some(())) = (keygen(at, "jane", &["-t", "ed25519"]), keygen(at, "ca", &["-t", "ed25519"]))
    else {
        return;
    };
    ran(
        at,
        "ssh-keygen",
        &["-q", "-s", "ca", "-I", "Jane", "-n", "jane", "-V", "20260101Z:20270101Z", "jane.pub"],
    );
    let certificate = Certificate::from_line(&text(at, "jane-cert.pub")).unwrap();
    assert_eq!(certificate.validity(), "from 2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z");
    assert!(certificate.holds_at(1_795_224_600_000_000_000) && !certificate.holds_at(0));
    for at in 0..certificate.blob().len() {
        let mut changed = certificate.blob().to_vec();
        changed[at] ^= 1;
        assert!(Certificate::from_blob(&changed).is_err(), "byte {at}");
        assert!(Certificate::from_blob(&certificate.blob()[..at]).is_err(), "cut at {at}");
    }
    // A certificate of a host is no person's.
    std::fs::remove_file(at.join("jane-cert.pub")).unwrap();
    ran(at, "ssh-keygen", &["-q", "-s", "ca", "-I", "Jane", "-n", "jane", "-h", "jane.pub"]);
    let error = Certificate::from_line(&text(at, "jane-cert.pub")).unwrap_err().to_string();
    assert!(error.contains("not for a person"), "{error}");

    let key = SigningKey::load(&at.join("jane"), None).unwrap();
    let good = SshSignature::sign(b"offer", NAMESPACE, &PartyKey::of(&key)).unwrap();
    let text = good.to_text();
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] ^= 1;
        let Ok(changed) = String::from_utf8(changed) else { continue };
        let verified = SshSignature::parse(&changed)
            .is_ok_and(|read| read.verify(b"offer", NAMESPACE).is_ok() && read != good);
        assert!(!verified, "byte {at}");
    }
}

#[test]
fn private_keys_of_openssh_are_read_with_and_without_a_passphrase() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(()) = keygen(at, "plain", &["-t", "ed25519"]) else { return };
    ran(at, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]);
    let fingerprint = |name: &str| SshPublicKey::from_line(&text(at, name)).unwrap().fingerprint();
    let plain = SigningKey::load(&at.join("plain"), None).unwrap();
    assert_eq!(plain.verifying_key().fingerprint(), fingerprint("plain.pub"));
    assert!(SigningKey::is_encrypted(&text(at, "locked")) && !SigningKey::is_encrypted(&text(at, "plain")));
    let locked = SigningKey::load(&at.join("locked"), Some("secret")).unwrap();
    assert_eq!(locked.verifying_key().fingerprint(), fingerprint("locked.pub"));
    for passphrase in [None, Some("wrong")] {
        assert!(SigningKey::load(&at.join("locked"), passphrase).is_err());
    }
    keygen(at, "rsa", &["-t", "rsa", "-b", "2048"]);
    let error = SigningKey::load(&at.join("rsa"), None).unwrap_err().to_string();
    assert!(error.contains("only ssh-ed25519 keys sign"), "{error}");
}

/// A real ssh-agent, stopped when this goes.
struct RunningAgent(Child);

impl Drop for RunningAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_ssh_agent_signs_with_every_kind_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let Some(()) = keygen(at, "jane", &["-t", "ed25519"]) else { return };
    keygen(at, "rsa", &["-t", "rsa", "-b", "2048"]);
    keygen(at, "p256", &["-t", "ecdsa"]);
    ran(at, "ssh-keygen", &["-q", "-s", "rsa", "-I", "Jane", "-n", "jane", "jane.pub"]);
    let socket = at.join("agent");
    let Ok(agent) = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn()
    else {
        eprintln!("skipped: there is no ssh-agent here");
        return;
    };
    let _agent = RunningAgent(agent);
    for _ in 0..200 {
        if socket.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for name in ["jane", "rsa", "p256"] {
        let added = Command::new("ssh-add")
            .arg("-q")
            .arg(name)
            .env("SSH_AUTH_SOCK", &socket)
            .current_dir(at)
            .status();
        assert!(added.unwrap().success());
    }
    let agent = Agent::at(&socket);
    assert_eq!(agent.identities().unwrap().len(), 4);
    for name in ["jane", "rsa", "p256"] {
        let public = SshPublicKey::from_line(&text(at, &format!("{name}.pub"))).unwrap();
        let key = agent.key(&public.fingerprint()).unwrap();
        assert_eq!(key.certificate().is_some(), name == "jane");
        let signature = SshSignature::sign(b"offer", NAMESPACE, &PartyKey::of_agent(&key)).unwrap();
        assert_eq!(signature.verify(b"offer", NAMESPACE).unwrap().key, public);
        let raw = key.signer().map(|signer| custody::Signer::sign(&signer, b"checkpoint").unwrap());
        match (name, raw) {
            ("jane", Ok(raw)) => public.ed25519().unwrap().verify(b"checkpoint", &raw).unwrap(),
            (_, Err(error)) => assert!(error.to_string().contains("only ssh-ed25519 keys"), "{error}"),
            (name, Ok(_)) => panic!("{name} signed a log"),
        }
    }
    let stranger = agent.key("SHA256:none").unwrap_err().to_string();
    assert!(stranger.contains("has no key SHA256:none; it has SHA256:"), "{stranger}");
    let gone = Agent::at(&at.join("gone")).identities().unwrap_err().to_string();
    assert!(gone.contains("no ssh-agent answers"), "{gone}");
}

#[test]
fn keys_of_tokens_verify_when_they_were_touched() {
    // The example key and signature of a FIDO token, made by hand after OpenSSH PROTOCOL.u2f.
    let token = SigningKey::from_seed(&[9; 32]);
    let field = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let kind = b"sk-ssh-ed25519@openssh.com";
    let blob = [field(kind), field(token.verifying_key().as_bytes()), field(b"ssh:")].concat();
    let key = SshPublicKey::from_blob(&blob).unwrap();
    for (flags, good) in [(1u8, true), (5, true), (0, false)] {
        let tail = [&[flags][..], &7u32.to_be_bytes()].concat();
        let said = [&custody::sha256(b"ssh:").0[..], &tail, &custody::sha256(b"message").0].concat();
        let signature = [field(kind), field(&token.sign(&said)), tail].concat();
        assert_eq!(key.verify(b"message", &signature).is_ok(), good, "flags {flags}");
        assert!(key.verify(b"another", &signature).is_err());
    }
}

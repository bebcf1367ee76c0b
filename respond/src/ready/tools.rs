//! Our own tools: the key that signs, the authorities that stamp, the binaries that are sent, the people who are told.

use std::path::Path;
use std::time::Duration;

use acquire::HttpPost;
use custody::Hasher;
use custody::anchors::{Authorities, request_time_stamp};
use custody::keys::VerifyingKey;
use custody::ssh::SshPublicKey;

use super::check::{Check, Finding, Severity, Status, Unable, chain};
use super::probe::Probe;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD33",
        version: 1,
        severity: Severity::High,
        title: "time-stamp authorities answer, and their tokens verify",
        scope: "authority",
        tested: "a token over random bytes is asked of each authority of `ready.time_stamp`, verified up to the root that is given, \
                 its time compared with this clock; every certificate must last 90 days more; a single authority is a warning",
        remediation: "let the service reach the authority; bring its new root; add a second [[ready.time_stamp]]",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: time_stamps,
    },
    Check {
        id: "RD34",
        version: 1,
        severity: Severity::High,
        title: "the signing key can be used, and is the one that was given out",
        scope: "key",
        tested: "random bytes are signed; the signature must verify under the key's public half, and under `ready.public_key`",
        remediation: "name the key in capture.key, give out its public half anew, or rotate with `exhibit custody key`",
        prowler: &[],
        seconds: 30,
        drill: None,
        test: signing_key,
    },
    Check {
        id: "RD37",
        version: 1,
        severity: Severity::High,
        title: "the binaries that are sent to hosts are there, and are ours",
        scope: "binary",
        tested: "each file of `ready.collector` is hashed and compared with its pinned SHA-256, and must be an executable of its \
                 machine (ELF header)",
        remediation: "publish the binary again; pin the new hash in the settings after it was verified; allow it in the EDR by this hash",
        prowler: &[],
        seconds: 60,
        drill: None,
        test: collectors,
    },
];

fn random() -> Result<[u8; 32], Unable> {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Unable::untested("there are no random numbers"))?;
    Ok(bytes)
}

fn time_stamps(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    const DAY: i64 = 86_400;
    let authorities = &probe.settings.ready.time_stamps;
    if authorities.is_empty() {
        return Err(Unable::none("the settings name no time-stamp authority (ready.time_stamp)"));
    }
    let post = HttpPost::new(Duration::from_secs(20), None)?;
    let expected = "a token that verifies, its time right within 5 s, no certificate ending within 90 days";
    let data = random()?;
    let mut found = Vec::new();
    for authority in authorities {
        let pem = std::fs::read_to_string(&authority.root)
            .map_err(|error| Unable::untested(format!("{}: {error}", authority.root.display())))?;
        let mut roots = Authorities::default();
        roots.add_pem(&pem)?;
        let stamp = match request_time_stamp(&post, &authority.url, &data) {
            Ok(stamp) => stamp,
            Err(error) => {
                found.push(Finding::new(&authority.url, Status::Error, chain(&error), expected));
                continue;
            }
        };
        let off = stamp.unix_time().saturating_sub(probe.now());
        let finding = match stamp.verify(&data, &roots, "") {
            Err(error) => Finding::of(&authority.url, false, chain(&error), expected),
            Ok(stamped) => {
                let ends = custody::clock::parse_rfc3339(&format!("{}T00:00:00Z", stamped.ends));
                let days = ends.map_or(0, |ends| (ends / 1_000_000_000 - probe.now()) / DAY);
                let mut wrong = Vec::new();
                if days < 90 {
                    wrong.push(format!("a certificate ends in {days} days"));
                }
                if off.abs() > 5 {
                    wrong.push(format!("its clock and ours are {off} s apart"));
                }
                let seen = if wrong.is_empty() { stamped.words() } else { wrong.join("; ") };
                Finding::of(&authority.url, wrong.is_empty(), seen, expected)
            }
        };
        found.push(finding.with_evidence(stamp.as_bytes()));
    }
    if let ([_], [only]) = (authorities.as_slice(), found.as_mut_slice())
        && only.status == Status::Pass
    {
        only.status = Status::Warn;
        only.observed = format!("{}; there is no second authority to fall back on", only.observed);
    }
    Ok(found)
}

fn signing_key(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let signer = probe.signer.as_ref().map_err(|why| Unable::untested(why.clone()))?;
    let message = random()?;
    let key = signer.verifying_key();
    let scope = key.fingerprint();
    let signature = signer.sign(&message)?;
    let own = key.verify(&message, &signature).is_ok();
    let expected = "a signature that verifies under the published public key";
    let Some(published) = &probe.settings.ready.public_key else {
        let status = if own { Status::Warn } else { Status::Fail };
        let seen = if own {
            "it signs; with which key others will verify was not compared (ready.public_key)"
        } else {
            "what it signs does not verify"
        };
        return Ok(vec![Finding::new(scope, status, seen, expected).with_evidence(signature.to_vec())]);
    };
    let given = published_key(published)?;
    let by_others = given.verify(&message, &signature).is_ok();
    let seen = match (own, by_others) {
        (true, true) => "it signs, and the published key verifies it".to_owned(),
        (true, false) => format!("it signs, but the published key is another: {}", given.fingerprint()),
        (false, _) => "what it signs does not verify".to_owned(),
    };
    Ok(vec![Finding::of(scope, own && by_others, seen, expected).with_evidence(signature.to_vec())])
}

/// The public key in a file: PEM, or the line of a `.pub` file.
fn published_key(path: &Path) -> Result<VerifyingKey, Unable> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Unable::untested(format!("{}: {error}", path.display())))?;
    if text.trim_start().starts_with("-----BEGIN") {
        return Ok(VerifyingKey::from_pem(&text)?);
    }
    let key = SshPublicKey::from_line(&text)?;
    key.ed25519().ok_or_else(|| Unable::untested(format!("{} is no Ed25519 key", path.display())))
}

/// What `e_machine` says of the architectures that we build for.
fn machine(arch: &str) -> Option<u16> {
    match arch {
        "x86_64" | "amd64" => Some(62),
        "aarch64" | "arm64" => Some(183),
        "armv7" | "arm" => Some(40),
        "i686" | "x86" => Some(3),
        "riscv64" => Some(243),
        "s390x" => Some(22),
        "ppc64le" => Some(21),
        _ => None,
    }
}

fn collectors(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let collectors = &probe.settings.ready.collectors;
    if collectors.is_empty() {
        return Err(Unable::none("the settings name no binaries (ready.collector)"));
    }
    let each = collectors.iter().map(|collector| {
        let scope = format!("{}/{}", collector.os, collector.arch);
        let expected = format!("{} with SHA-256 {}", collector.path.display(), collector.sha256);
        let (head, digest) = match hashed(&collector.path) {
            Ok(found) => found,
            Err(error) => {
                let is_gone = error.kind() == std::io::ErrorKind::NotFound;
                let status = if is_gone { Status::Fail } else { Status::Error };
                return Finding::new(scope, status, format!("cannot be read: {error}"), expected);
            }
        };
        let mut wrong = Vec::new();
        if !digest.eq_ignore_ascii_case(collector.sha256.trim()) {
            wrong.push(format!("its SHA-256 is {digest}"));
        }
        if collector.os == "linux" {
            let is_elf = head.starts_with(b"\x7fELF");
            let is_big = head.get(5) == Some(&2);
            let told: Option<[u8; 2]> = head.get(18..20).and_then(|two| two.try_into().ok());
            let told = told.map(|two| if is_big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) });
            match (is_elf, machine(&collector.arch)) {
                (false, _) => wrong.push("it is no ELF file".to_owned()),
                (true, Some(wanted)) if told != Some(wanted) => {
                    wrong.push(format!("it is of machine {} of ELF, not {wanted}", told.unwrap_or(0)));
                }
                _ => {}
            }
        }
        let seen = if wrong.is_empty() { "it is the pinned one".to_owned() } else { wrong.join("; ") };
        Finding::of(scope, wrong.is_empty(), seen, expected).with_evidence(digest)
    });
    Ok(each.collect())
}

/// The first bytes of a file, and its SHA-256.
fn hashed(path: &Path) -> std::io::Result<(Vec<u8>, String)> {
    use std::io::Read as _;
    let mut file = std::fs::File::open(path)?;
    let (mut hasher, mut head) = (Hasher::new(), Vec::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((head, hasher.finish().to_string()));
        }
        let bytes = piece.get(..read).unwrap_or_default();
        if head.is_empty() {
            head = bytes.get(..64).unwrap_or(bytes).to_vec();
        }
        hasher.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_hashed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let bytes = vec![7; 3_000_000];
        std::fs::write(&path, &bytes).unwrap();
        let (head, digest) = hashed(&path).unwrap();
        assert_eq!((head.len(), digest), (64, custody::sha256(&bytes).to_string()));
    }
}

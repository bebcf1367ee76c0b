//! What we write, checked by tools that are not ours: jq, openssl, sha256sum, Python.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use custody::verify::{Level, Options};
use custody::{EntryType, NewEntry, SigningKey, VerifyingKey};

use crate::support::{KEY, Recipe, check, log_with, note, writer};

/// Runs a shell command in a folder; `None`, with the reason, when one of the tools is not there.
fn run(folder: &Path, tools: &[&str], script: &str) -> Option<Output> {
    for tool in tools {
        let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            eprintln!("skipped: there is no {tool} here");
            return None;
        }
    }
    Some(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder).output().unwrap())
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn jq_prints_the_log_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 2);
    let odd = "tab\t, \"quotes\", back\\slash, \u{7f}, é, \u{1f600}, \u{2028}, </script>\n";
    let entry = NewEntry::new(EntryType::NOTE)
        .subject(b"/var/log/\xff\xfe", 9_007_199_254_740_991, custody::sha256(b""))
        .result("text", odd)
        .how("numbers", vec![-9_007_199_254_740_991i64, 0, 9_007_199_254_740_991]);
    log.append(&entry, &writer()).unwrap();
    let Some(output) = run(folder.path(), &["jq"], "jq -cS . custody.jsonl | cmp - custody.jsonl") else {
        return;
    };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn openssl_verifies_a_checkpoint_and_reads_our_keys() {
    let folder = tempfile::tempdir().unwrap();
    log_with(folder.path(), 2);
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("log.pem"), KEY.verifying_key().to_pem().unwrap()).unwrap();
    KEY.save(&path("plain.pem"), None).unwrap();
    KEY.save(&path("locked.pem"), Some("correct horse")).unwrap();
    let script = "
        sed '/^$/,$d' checkpoint > body
        grep '^— ' checkpoint | head -1 | awk '{print $3}' | base64 -d | tail -c 64 > sig
        openssl pkeyutl -verify -pubin -inkey log.pem -rawin -in body -sigfile sig
        openssl pkey -in plain.pem -pubout | cmp - log.pem
        openssl pkey -in locked.pem -passin 'pass:correct horse' -pubout | cmp - log.pem
        cut -d+ -f3- keys/log.vkey | base64 -d | tail -c 32 > of-vkey
        openssl pkey -pubin -in log.pem -outform DER | tail -c 32 | cmp - of-vkey";
    let Some(output) = run(folder.path(), &["openssl"], script) else { return };
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("Signature Verified Successfully"));
}

#[test]
fn keys_that_openssl_makes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let script = "
        openssl genpkey -algorithm ed25519 -out plain.pem
        openssl pkey -in plain.pem -aes256 -passout pass:secret -out locked.pem
        openssl pkey -in plain.pem -pubout -out public.pem";
    let Some(output) = run(folder.path(), &["openssl"], script) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let public = std::fs::read_to_string(folder.path().join("public.pem")).unwrap();
    let public = VerifyingKey::from_pem(&public).unwrap();
    let plain = SigningKey::load(&folder.path().join("plain.pem"), None).unwrap();
    let locked = SigningKey::load(&folder.path().join("locked.pem"), Some("secret")).unwrap();
    assert_eq!(plain.verifying_key(), public);
    assert_eq!(locked.verifying_key(), public);
}

#[test]
fn python_gets_the_same_chain_and_root() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 12);
    log.append(&note("last"), &writer()).unwrap();
    let script = r#"python3 - <<'EOF'
import hashlib, base64, json
H = lambda b: hashlib.sha256(b).digest()
L = open('custody.jsonl', 'rb').read().split(b'\n')[:-1]
p = '0' * 64
for n, l in enumerate(L):
    e = json.loads(l)
    assert e['prev'] == p and e['seq'] == n, n
    assert json.dumps(e, sort_keys=True, separators=(',', ':'), ensure_ascii=False).encode() == l, n
    p = hashlib.sha256(l).hexdigest()
def M(a):
    if len(a) == 1: return H(b'\0' + a[0])
    k = 1 << ((len(a) - 1).bit_length() - 1)
    return H(b'\1' + M(a[:k]) + M(a[k:]))
c = open('checkpoint', encoding='utf8').read().split('\n')
assert int(c[1]) == len(L) and c[2] == base64.b64encode(M(L)).decode()
EOF"#;
    let Some(output) = run(folder.path(), &["python3"], script) else { return };
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn sha256sum_and_zstd_check_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    Recipe::default().make(folder.path());
    let script = "
        sha256sum --strict --quiet -c SHA256SUMS
        zstd -q -dc data/disk/*.zst | sha256sum | cut -d' ' -f1
        jq -r '.streams[0].sha256' manifest.json
        openssl pkeyutl -verify -pubin -inkey keys/signer.pub.pem -rawin -in manifest.json -sigfile manifest.json.sig";
    let Some(output) = run(folder.path(), &["sha256sum", "zstd", "jq", "openssl"], script) else { return };
    assert!(output.status.success(), "{}", text(&output));
    let out = text(&output);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert_eq!(check(folder.path()).verdict.level, Level::Consistent);
}

#[test]
fn verifying_opens_nothing_for_writing() {
    // On a read-only copy everything verifies just the same.
    let folder = tempfile::tempdir().unwrap();
    Recipe::default().make(folder.path());
    let before: Vec<_> = crate::support::files_below(folder.path())
        .into_iter()
        .map(|file| (std::fs::metadata(folder.path().join(&file)).unwrap().modified().unwrap(), file))
        .collect();
    assert!(custody::verify::verify(folder.path(), &Options::default()).unwrap().is_intact());
    let after: Vec<_> = crate::support::files_below(folder.path())
        .into_iter()
        .map(|file| (std::fs::metadata(folder.path().join(&file)).unwrap().modified().unwrap(), file))
        .collect();
    assert_eq!(before, after);
}

//! Time stamps against `openssl ts`: what it accepts we accept, what it refuses we refuse.

use std::path::Path;
use std::sync::LazyLock;

use custody::anchors::{Answer, Authorities, Post, TimeStamp, TimeStampRequest, request_time_stamp};

use crate::test_authority::{Keys, Recipe, TestAuthority, openssl_accepts};

pub(crate) static RSA: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new(&Recipe::default()));
pub(crate) static P256: LazyLock<TestAuthority> =
    LazyLock::new(|| TestAuthority::new(&Recipe { name: "beta", keys: Keys::P256, ..Recipe::default() }));

/// An authority without a network between.
pub(crate) struct Near<'a>(pub(crate) &'a TestAuthority);

impl Post for Near<'_> {
    fn post(&self, _url: &str, content_type: &str, body: &[u8]) -> custody::Result<Answer> {
        assert_eq!(content_type, "application/timestamp-query");
        Ok(Answer { status: 200, content_type: String::new(), body: self.0.reply(body) })
    }
}

fn root(authority: &TestAuthority) -> Authorities {
    let mut authorities = Authorities::default();
    assert_eq!(authorities.add_pem(&authority.root()).unwrap(), 1);
    authorities
}

/// Whether openssl accepts these bytes; `None` as time is now.
fn accepted(authority: &TestAuthority, data: &[u8], token: &[u8], at: Option<i64>) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (data_file, token_file) = (folder.path().join("data"), folder.path().join("token.tsr"));
    std::fs::write(&data_file, data).unwrap();
    std::fs::write(&token_file, token).unwrap();
    openssl_accepts(&data_file, &token_file, &authority.path("root.pem"), None, at)
}

#[test]
fn what_openssl_stamps_is_accepted_by_both() {
    let p384 = TestAuthority::new(&Recipe { keys: Keys::P384, digest: "sha384", ..Recipe::default() });
    let pss = TestAuthority::new(&Recipe {
        keys: Keys::RsaPss,
        digest: "sha512",
        binding: "sha1",
        ..Recipe::default()
    });
    let [long, short] = [Keys::P384, Keys::P256]
        .map(|keys| TestAuthority::new(&Recipe { keys, digest: "sha512", ..Recipe::default() }));
    let rsa = TestAuthority::new(&Recipe { digest: "sha384", binding: "sha512", ..Recipe::default() });
    for authority in [&*RSA, &*P256, &p384, &pss, &long, &short, &rsa] {
        let stamp = request_time_stamp(&Near(authority), "", b"checkpoint").unwrap();
        let stamped = stamp.verify(b"checkpoint", &root(authority), "").unwrap();
        assert!(accepted(authority, b"checkpoint", stamp.as_bytes(), Some(stamp.unix_time())));
        assert!(stamped.authority.ends_with("stamping") && stamped.root.ends_with("root"), "{stamped:?}");
        assert_eq!(stamped.accuracy_us, Some(1_500_100));
        assert!(stamped.words().contains("(± 1.5001 s): valid at its own time"), "{}", stamped.words());
        // For other bytes by neither.
        assert!(stamp.verify(b"checkpoinu", &root(authority), "").is_err());
        assert!(!accepted(authority, b"checkpoinu", stamp.as_bytes(), None));
    }
}

#[test]
fn a_token_counts_under_its_own_root_only() {
    let stamp = request_time_stamp(&Near(&RSA), "", b"data").unwrap();
    assert!(stamp.verify(b"data", &root(&P256), "").is_err());
    assert!(!accepted(&P256, b"data", stamp.as_bytes(), None));
    assert!(stamp.verify(b"data", &Authorities::default(), "").is_err());
    // What lies below the root is no root, even when the verifier brings it.
    let mut below = Authorities::default();
    below.add_pem(&std::fs::read_to_string(RSA.path("chain.pem")).unwrap()).unwrap();
    assert!(stamp.verify(b"data", &below, "").is_err());
}

#[test]
fn a_token_stays_valid_when_its_certificate_has_ended() {
    let soon = TestAuthority::new(&Recipe { ends_in: Some(4), ..Recipe::default() });
    let stamp = request_time_stamp(&Near(&soon), "", b"data").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert!(stamp.verify(b"data", &root(&soon), "").is_ok(), "{:?}", stamp.verify(b"data", &root(&soon), ""));
    assert!(!accepted(&soon, b"data", stamp.as_bytes(), None), "openssl looks at today's date");
    assert!(
        accepted(&soon, b"data", stamp.as_bytes(), Some(stamp.unix_time())),
        "and with -attime at the token's"
    );
    // What is stamped after the end is refused by both, at any date that openssl may ask for.
    let late = soon.reply(TimeStampRequest::over(b"data").unwrap().as_der());
    let late = TimeStamp::parse(&late).unwrap();
    let why = late.verify(b"data", &root(&soon), "").unwrap_err().to_string();
    assert!(why.contains("had ended at"), "{why}");
    assert!(!accepted(&soon, b"data", late.as_bytes(), Some(late.unix_time())));
}

#[test]
fn a_certificate_for_something_else_stamps_nothing() {
    // openssl refuses to stamp with most of these, so the key is used by a second authority that says it may.
    let good = &*RSA;
    for extensions in [
        "extendedKeyUsage=critical,timeStamping,codeSigning\n",
        "extendedKeyUsage=critical,codeSigning\n",
        "extendedKeyUsage=timeStamping\n",
        "basicConstraints=CA:FALSE\n",
    ] {
        let wrong = TestAuthority::new(&Recipe { extensions, ..Recipe::default() });
        let query = TimeStampRequest::over(b"data").unwrap();
        let reply = wrong.reply(query.as_der());
        let refused = TimeStamp::parse(&reply).and_then(|stamp| stamp.verify(b"data", &root(&wrong), ""));
        assert!(refused.is_err(), "{extensions}");
        assert!(reply.is_empty() || !accepted(&wrong, b"data", &reply, None), "{extensions}");
    }
    assert!(request_time_stamp(&Near(good), "", b"data").is_ok());
}

/// Gives the same answer to everything.
struct Says(u16, Vec<u8>);

impl Post for Says {
    fn post(&self, _url: &str, _type: &str, _body: &[u8]) -> custody::Result<Answer> {
        Ok(Answer { status: self.0, content_type: String::new(), body: self.1.clone() })
    }
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let old = RSA.reply(TimeStampRequest::over(b"data").unwrap().as_der());
    let why = request_time_stamp(&Says(200, old), "http://tsa", b"data").unwrap_err().to_string();
    assert!(why.contains("nonce"), "{why}");
    for (status, body) in
        [(500, vec![]), (200, vec![]), (200, b"<html>".to_vec()), (200, vec![0x30; 300_000])]
    {
        assert!(request_time_stamp(&Says(status, body), "http://tsa", b"data").is_err());
    }
    // A request that the authority does not understand is refused in its own words.
    let refusal = RSA.reply(b"\x30\x03\x02\x01\x01");
    let why = request_time_stamp(&Says(200, refusal), "http://tsa", b"data").unwrap_err().to_string();
    assert!(why.contains("refused") || why.contains("DER"), "{why}");
}

#[test]
fn a_token_with_any_changed_bit_is_never_accepted_for_other_bytes_and_never_changes_its_time() {
    for authority in [&*RSA, &*P256] {
        let stamp = request_time_stamp(&Near(authority), "", b"data").unwrap();
        let (authorities, whole) = (root(authority), stamp.as_bytes().to_vec());
        let said = stamp.verify(b"data", &authorities, "").unwrap();
        let mut still = 0;
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let Ok(read) = TimeStamp::parse(&changed) else { continue };
                assert!(read.verify(b"other", &authorities, "").is_err(), "byte {at} bit {bit}");
                if let Ok(proof) = read.verify(b"data", &authorities, "") {
                    // Bytes that nothing signs: the status, a version, a certificate that is not needed.
                    assert_eq!(proof, said, "byte {at} bit {bit}");
                    still += 1;
                }
            }
            let cut = TimeStamp::parse(&whole[..at]).and_then(|cut| cut.verify(b"data", &authorities, ""));
            assert!(cut.is_err(), "cut at {at}");
        }
        assert!(still < whole.len(), "{still} of {} bits change nothing", whole.len() * 8);
    }
}

#[test]
fn openssl_reads_our_request() {
    let folder = tempfile::tempdir().unwrap();
    let request = TimeStampRequest::over(b"data").unwrap();
    std::fs::write(folder.path().join("q.tsq"), request.as_der()).unwrap();
    let out = crate::test_authority::openssl(folder.path(), &["ts", "-query", "-in", "q.tsq", "-text"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("Hash Algorithm: sha256") && text.contains("Certificate required: yes"), "{text}");
}

#[test]
fn the_chain_that_is_kept_is_what_openssl_needs() {
    let folder = tempfile::tempdir().unwrap();
    let stamp = request_time_stamp(&Near(&P256), "", b"data").unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (data, token) = (write("data", b"data"), write("t.tsr", stamp.as_bytes()));
    let chain = write("chain.pem", stamp.certificates_pem().as_bytes());
    let root: &Path = &P256.path("root.pem");
    assert!(openssl_accepts(&data, &token, root, Some(&chain), Some(stamp.unix_time())));
    assert_eq!(stamp.certificates_pem().matches("BEGIN CERTIFICATE").count(), 2);
}

//! A time-stamp authority of our own, made with `openssl`: a root, an issuer below it, and a certificate that stamps.

#![allow(dead_code, reason = "one of several test binaries uses each part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What kind of keys an authority has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Rsa,
    /// RSA keys, certificates signed with PSS.
    RsaPss,
    P256,
    P384,
}

/// How an authority is made.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    pub(crate) keys: Keys,
    /// The extensions of the certificate that stamps.
    pub(crate) extensions: &'static str,
    pub(crate) digest: &'static str,
    pub(crate) binding: &'static str,
    /// Seconds from now until that certificate ends, where it is to end soon.
    pub(crate) ends_in: Option<i64>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "alpha",
            keys: Keys::Rsa,
            extensions: "extendedKeyUsage=critical,timeStamping\nkeyUsage=critical,digitalSignature\n",
            digest: "sha256",
            binding: "sha256",
            ends_in: None,
        }
    }
}

/// The authority, in a folder that goes with it.
pub(crate) struct TestAuthority {
    folder: tempfile::TempDir,
    /// Held while a token is made.
    turn: std::sync::Mutex<()>,
}

impl TestAuthority {
    pub(crate) fn new(recipe: &Recipe) -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap(), turn: std::sync::Mutex::default() };
        authority.make(recipe);
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The root certificate, PEM.
    pub(crate) fn root(&self) -> String {
        std::fs::read_to_string(self.path("root.pem")).unwrap()
    }

    fn make(&self, recipe: &Recipe) {
        let name = recipe.name;
        let new_key = |file: &str| {
            let args: &[&str] = match recipe.keys {
                Keys::Rsa | Keys::RsaPss => {
                    &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
                }
                Keys::P256 => &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
                Keys::P384 => &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            };
            self.openssl(&[args, &["-out", file]].concat());
        };
        ["root.key", "issuer.key", "tsa.key"].into_iter().for_each(new_key);
        let hash = if recipe.keys == Keys::P384 { "-sha384" } else { "-sha256" };
        let pss: &[&str] = match recipe.keys {
            Keys::RsaPss => &["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"],
            _ => &[],
        };
        let subject = |who: &str| format!("/O=Test Authority/CN={name} {who}");
        let mut root =
            vec!["req", "-x509", "-new", "-key", "root.key", "-out", "root.pem", "-days", "3650", hash];
        let (root_subject, issuer_subject, tsa_subject) =
            (subject("root"), subject("issuer"), subject("stamping"));
        root.extend(["-subj", &root_subject]);
        root.extend(pss);
        self.openssl(&root);
        self.write(
            "issuer.ext",
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n",
        );
        self.write("tsa.ext", recipe.extensions);
        self.openssl(&["req", "-new", "-key", "issuer.key", "-subj", &issuer_subject, "-out", "issuer.csr"]);
        self.openssl(&["req", "-new", "-key", "tsa.key", "-subj", &tsa_subject, "-out", "tsa.csr"]);
        let issue = |what: &str, by: &str| {
            let (csr, out, ext) = (format!("{what}.csr"), format!("{what}.pem"), format!("{what}.ext"));
            let (ca, key) = (format!("{by}.pem"), format!("{by}.key"));
            let mut args = vec!["x509", "-req", "-in", &csr, "-out", &out, "-CA", &ca, "-CAkey", &key];
            args.extend(["-CAcreateserial", "-days", "1825", "-extfile", &ext, hash]);
            args.extend(pss);
            self.openssl(&args);
        };
        issue("issuer", "root");
        match recipe.ends_in {
            None => issue("tsa", "issuer"),
            Some(seconds) => self.issue_until(seconds),
        }
        let chain =
            ["tsa.pem", "issuer.pem"].map(|name| std::fs::read_to_string(self.path(name)).unwrap()).concat();
        self.write("chain.pem", &chain);
        self.write("serial", "01\n");
        let (digest, binding) = (recipe.digest, recipe.binding);
        self.write(
            "tsa.cnf",
            &format!(
                "[tsa]\ndefault_tsa = it\n[it]\nserial = serial\nsigner_cert = tsa.pem\ncerts = issuer.pem\n\
                 signer_key = tsa.key\nsigner_digest = {digest}\ndefault_policy = 1.2.3.4.1\n\
                 digests = sha256, sha384, sha512\naccuracy = secs:1, millisecs:500, microsecs:100\nordering = yes\n\
                 tsa_name = yes\ness_cert_id_chain = no\ness_cert_id_alg = {binding}\nclock_precision_digits = 3\n"
            ),
        );
    }

    /// A certificate that ends soon: `openssl ca` takes dates.
    fn issue_until(&self, seconds: i64) {
        self.write("index.txt", "");
        self.write("number", "01\n");
        let extensions = std::fs::read_to_string(self.path("tsa.ext")).unwrap();
        self.write(
            "ca.cnf",
            &format!(
                "[ca]\ndefault_ca = it\n[it]\ndatabase = index.txt\nserial = number\nnew_certs_dir = .\n\
                 default_md = sha256\npolicy = any\n[any]\nO = optional\nCN = supplied\n[ext]\n{extensions}"
            ),
        );
        let date = |offset: i64| {
            let out = Command::new("date")
                .args(["-u", "-d", &format!("{offset} seconds"), "+%Y%m%d%H%M%SZ"])
                .output();
            String::from_utf8(out.unwrap().stdout).unwrap().trim().to_owned()
        };
        self.openssl(&[
            "ca",
            "-batch",
            "-config",
            "ca.cnf",
            "-in",
            "tsa.csr",
            "-cert",
            "issuer.pem",
            "-keyfile",
            "issuer.key",
            "-out",
            "tsa.pem",
            "-startdate",
            &date(-3600),
            "-enddate",
            &date(seconds),
            "-extensions",
            "ext",
            "-notext",
        ]);
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn openssl(&self, args: &[&str]) -> Output {
        let out = openssl(self.folder.path(), args);
        assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out
    }

    /// Answers a request, as `openssl ts -reply` does.
    pub(crate) fn reply(&self, query: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let (query_file, reply) = (folder.path().join("q.tsq"), folder.path().join("r.tsr"));
        std::fs::write(&query_file, query).unwrap();
        let (query_file, reply_file) = (query_file.to_str().unwrap(), reply.to_str().unwrap());
        // Two at once would write the file of serial numbers together.
        let _turn = self.turn.lock().unwrap();
        // openssl exits with 1 when it refuses, and writes the refusal.
        openssl(
            self.folder.path(),
            &["ts", "-reply", "-config", "tsa.cnf", "-queryfile", query_file, "-out", reply_file],
        );
        std::fs::read(&reply).unwrap_or_default()
    }
}

/// Runs openssl in a folder.
pub(crate) fn openssl(folder: &Path, args: &[&str]) -> Output {
    Command::new("openssl").args(args).current_dir(folder).env("LC_ALL", "C").output().unwrap()
}

/// Whether `openssl ts -verify` accepts a token file over a data file, with this root, at this time.
pub(crate) fn openssl_accepts(
    data: &Path,
    token: &Path,
    root: &Path,
    untrusted: Option<&Path>,
    at: Option<i64>,
) -> bool {
    let mut args: Vec<String> = ["ts", "-verify", "-data"].map(String::from).to_vec();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    args.extend([text(data), "-in".into(), text(token), "-CAfile".into(), text(root)]);
    args.extend(untrusted.into_iter().flat_map(|path| ["-untrusted".to_owned(), text(path)]));
    args.extend(at.into_iter().flat_map(|at| ["-attime".to_owned(), at.to_string()]));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let out = openssl(Path::new("/"), &args);
    out.status.success() && String::from_utf8_lossy(&out.stdout).contains("Verification: OK")
}

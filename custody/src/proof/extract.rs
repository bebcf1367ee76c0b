//! What leaves a case alone: one exhibit, one file or one entry, in a folder with its proof and how to check it.
//!
//! ```text
//! DIR/
//!   file/NAME                 the file's bytes            (or entry.json, or bundle/)
//!   proof.json                its proof                   (or entry.tlog-proof, or case-entry.tlog-proof)
//!   checkpoint                the signed checkpoint that the proof ends in
//!   keys/log.vkey  keys/log.pub.pem     the key that signed it
//!   check_proof.py            checks the proof with Python and openssl
//!   VERIFY.md  SHA256SUMS     the commands; every file but SHA256SUMS
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::making::{FoundFile, Prover};
use super::tlog::TlogProof;
use crate::case::Case;
use crate::case_layout::exhibit_folder_name;
use crate::checkpoint::SignedCheckpoint;
use crate::digest::{Digest, sha256, sha256_of};
use crate::durable_file::{sync_folder, write_new};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::verify::{LogCopy, Options, verify_bundle};

/// The script that checks proofs; it stands in every extract.
pub const CHECK_PROOF: &str = include_str!("check_proof.py");

/// What was put into a folder to leave the case.
#[derive(Debug, Clone)]
pub struct Extract {
    /// The folder.
    pub folder: PathBuf,
    /// What is given: its name, size and SHA-256. Proofs, keys and commands are not listed.
    pub given: (String, u64, Digest),
    /// The exhibit that it is of, where it is of one.
    pub exhibit: Option<String>,
}

/// Puts one file of a bundle into a new folder, with the proof that it was acquired.
///
/// No other file's name or content goes along. What does is said in `VERIFY.md`: the manifest, and the file's own line.
///
/// # Errors
///
/// [`Error::WouldOverwrite`], [`Error::Write`]; those of [`Prover::file`] and [`Prover::copy_file`].
pub fn extract_file(prover: &Prover, found: &FoundFile, folder: &Path) -> Result<Extract> {
    let proof = prover.file(found)?;
    // What is given out is checked as the other side will check it.
    proof.check()?;
    let mut packing = Packing::begin(folder)?;
    let path = &found.entry.path;
    let name = exhibit_folder_name("", path.rsplit('/').next().unwrap_or(path));
    let name = match name.trim_start_matches('-') {
        "" | "." | ".." => "file/content".to_owned(),
        name => format!("file/{name}"),
    };
    let full = packing.folder.join(&name);
    packing.sub("file")?;
    let fault = |source| Error::Write { path: full.clone(), source };
    let mut out = BufWriter::new(File::options().write(true).create_new(true).open(&full).map_err(fault)?);
    prover.copy_file(found, &mut out)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(fault)?;
    let sha256 = packing.list(&name)?;
    packing.put("proof.json", &proof.to_bytes()?)?;
    let (seal, key) = prover.seal()?;
    packing.signed(&seal.checkpoint, &key)?;
    let manifest = prover.bundle().manifest();
    let what = format!(
        "The file `{path}` of exhibit {} ({}), {} bytes, as it was acquired {}.",
        manifest.exhibit, manifest.name, found.entry.size, manifest.created
    );
    let limits = "- `proof.json` holds the bundle's manifest whole, because it is what was signed: who acquired what, on \
                  which host, when, with which\n  options, and how large each stream is. It also holds this file's own \
                  line of the catalogue: path, times, owner, place in the stream.\n- It names no other file. The hashes \
                  on the way to the root are of lines with 128 random bits each, so nothing can be found from\n  them \
                  by guessing. How many files there are can be told from them.\n- That the acquisition read the source \
                  rightly is for the bundle's own record to show, not for this proof.\n";
    packing.finish(&Sheet {
        what: &what,
        check: &format!("python3 check_proof.py proof.json {name}"),
        expect: &format!("file {path}, {} bytes, SHA-256 {sha256}\nPROVED", found.entry.size),
        key: &key,
        limits,
    })?;
    let name = name.trim_start_matches("file/").to_owned();
    Ok(Extract {
        folder: folder.to_owned(),
        given: (name, found.entry.size, sha256),
        exhibit: Some(manifest.exhibit.clone()),
    })
}

/// Puts one entry of a log into a new folder, with the proof that it is in the log.
///
/// # Errors
///
/// [`Error::WouldOverwrite`], [`Error::Write`]; those of [`LogCopy::prove`].
pub fn extract_entry(log: &LogCopy, seq: u64, folder: &Path) -> Result<Extract> {
    let (line, proof, key) = log.prove(seq)?;
    let entry = Entry::parse(line.as_bytes())?;
    let mut packing = Packing::begin(folder)?;
    let proof = TlogProof { extra: Some(line.clone().into_bytes()), ..proof };
    packing.put("entry.json", line.as_bytes())?;
    packing.put("entry.tlog-proof", proof.to_text().as_bytes())?;
    packing.signed(&proof.checkpoint, &key)?;
    let size = proof.checkpoint.checkpoint.size;
    let what =
        format!("Entry {seq} of the custody log {}: {}, {}.", log_name(&proof), entry.kind, entry.time.wall);
    let expect = format!(
        "entry {seq} of the log {}, {size} entries: {}, {}",
        log_name(&proof),
        entry.kind,
        entry.time.wall
    );
    packing.finish(&Sheet {
        what: &what,
        check: "python3 check_proof.py entry.tlog-proof keys/log.vkey",
        expect: &expect,
        key: &key,
        limits: "- `entry.json` is the entry's exact line; its SHA-256 after a zero byte is its leaf in the log's tree.\n\
                 - Of the other entries it holds hashes only, and each of those lines holds 74 random bits of its own (`id`).\n\
                 - It does not show that the log has no later entry that corrects this one.\n",
    })?;
    let given = (format!("entry {seq}"), line.len() as u64, sha256(line.as_bytes()));
    Ok(Extract { folder: folder.to_owned(), given, exhibit: entry.about.exhibit })
}

/// Copies one exhibit of a case into a new folder, with the proof that the case's log names its manifest.
///
/// The copy is verified from its bytes up.
///
/// # Errors
///
/// [`Error::WouldOverwrite`], [`Error::Write`], [`Error::Malformed`] when the copy does not verify or the exhibit is not
/// sealed, [`Error::Read`].
pub fn extract_exhibit(case: &Case, id: &str, options: &Options, folder: &Path) -> Result<Extract> {
    let exhibit = case.exhibit(id)?;
    let log = LogCopy::read(case.folder())?;
    let named = case.log().read()?.entries.into_iter().find_map(|entry| {
        let manifest = entry.about.subject.iter().find(|subject| subject.id == "manifest.json")?;
        (entry.about.exhibit.as_deref() == Some(id)).then_some((entry.seq, manifest.sha256?, manifest.size?))
    });
    let none = || {
        Error::malformed("exhibit", format!("no entry of the case names the manifest of {id}; is it sealed?"))
    };
    let (seq, manifest, size) = named.ok_or_else(none)?;
    let mut packing = Packing::begin(folder)?;
    packing.copy_folder(&exhibit.folder, "bundle")?;
    let done = verify_bundle(&folder.join("bundle"), options)?;
    if !done.is_intact() || done.manifest_sha256 != Some(manifest) {
        let why =
            done.faults.first().map_or_else(|| "its manifest is another".to_owned(), ToString::to_string);
        return Err(Error::malformed("copy of the exhibit", why));
    }
    let (line, proof, key) = log.prove(seq)?;
    let proof = TlogProof { extra: Some(line.into_bytes()), ..proof };
    packing.put("case-entry.tlog-proof", proof.to_text().as_bytes())?;
    packing.signed(&proof.checkpoint, &key)?;
    let what = format!("Exhibit {id}, whole, in `bundle/`: {} at the time of this copy.", done.verdict);
    packing.finish(&Sheet {
        what: &format!("{what} `bundle/VERIFY.md` has the commands that check it from its bytes up."),
        check: "python3 check_proof.py case-entry.tlog-proof keys/log.vkey",
        expect: &format!("entry {seq} of the log {}, {} entries: …", log_name(&proof), proof.checkpoint.checkpoint.size),
        key: &key,
        limits: &format!(
            "- The entry in `case-entry.tlog-proof` names the SHA-256 of `bundle/manifest.json`, {manifest}:\n  compare \
             it with `sha256sum bundle/manifest.json`.\n- Of the case's other entries and exhibits nothing is here but \
             hashes.\n- The bundle is given whole: every file of it, its names and its log.\n"
        ),
    })?;
    Ok(Extract {
        folder: folder.to_owned(),
        given: (format!("{id}/manifest.json"), size, manifest),
        exhibit: Some(id.to_owned()),
    })
}

fn log_name(proof: &TlogProof) -> &str {
    &proof.checkpoint.checkpoint.origin
}

/// What `VERIFY.md` says.
struct Sheet<'a> {
    what: &'a str,
    check: &'a str,
    expect: &'a str,
    key: &'a VerifyingKey,
    limits: &'a str,
}

/// A folder while it is filled.
struct Packing {
    folder: PathBuf,
    sums: BTreeMap<String, Digest>,
}

impl Packing {
    fn begin(folder: &Path) -> Result<Self> {
        std::fs::create_dir(folder).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::WouldOverwrite { path: folder.to_owned() },
            _ => Error::Write { path: folder.to_owned(), source },
        })?;
        Ok(Self { folder: folder.to_owned(), sums: BTreeMap::new() })
    }

    fn sub(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        std::fs::create_dir(&path).map_err(|source| Error::Write { path, source })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        write_new(&self.folder.join(name), bytes)?;
        self.sums.insert(name.to_owned(), sha256(bytes));
        Ok(())
    }

    /// Hashes a file that was written, and lists it.
    fn list(&mut self, name: &str) -> Result<Digest> {
        let path = self.folder.join(name);
        let hash = File::open(&path).and_then(sha256_of).map_err(|source| Error::Read { path, source })?;
        self.sums.insert(name.to_owned(), hash);
        Ok(hash)
    }

    fn signed(&mut self, checkpoint: &SignedCheckpoint, key: &VerifyingKey) -> Result<()> {
        self.sub("keys")?;
        self.put("checkpoint", checkpoint.note.to_text().as_bytes())?;
        self.put("keys/log.vkey", format!("{}\n", key.to_vkey(&checkpoint.checkpoint.origin)).as_bytes())?;
        self.put("keys/log.pub.pem", key.to_pem()?.as_bytes())?;
        self.put("check_proof.py", CHECK_PROOF.as_bytes())
    }

    /// Copies a folder of plain files; links are refused, for they may lead anywhere.
    fn copy_folder(&mut self, from: &Path, name: &str) -> Result<()> {
        self.sub(name)?;
        let fault = |source| Error::Read { path: from.to_owned(), source };
        let mut items =
            std::fs::read_dir(from).map_err(fault)?.collect::<std::io::Result<Vec<_>>>().map_err(fault)?;
        items.sort_by_key(std::fs::DirEntry::file_name);
        for item in items {
            let kind = item.file_type().map_err(fault)?;
            let inner = item.file_name();
            let inner =
                inner.to_str().ok_or_else(|| Error::malformed("bundle", "a file's name is not UTF-8"))?;
            let to = format!("{name}/{inner}");
            if kind.is_dir() {
                self.copy_folder(&item.path(), &to)?;
            } else if kind.is_file() {
                let path = self.folder.join(&to);
                std::fs::copy(item.path(), &path).map_err(|source| Error::Write { path, source })?;
                self.list(&to)?;
            } else {
                return Err(Error::malformed("bundle", format!("{to} is a link or no plain file")));
            }
        }
        Ok(())
    }

    fn finish(&mut self, sheet: &Sheet<'_>) -> Result<()> {
        let Sheet { what, check, expect, key, limits } = sheet;
        let fingerprint = key.fingerprint();
        let text = format!(
            "# How to check this without the case that it came from\n\n{what}\n\n\
             Run the commands in this folder, with bash, GNU coreutils, OpenSSL 3 and Python 3. Below each stands what \
             it must print.\n\n\
             ## 1. Nothing here was changed since it was packed\n```sh\n\
             sha256sum --strict --quiet -c SHA256SUMS && echo unchanged\n```\n```text\nunchanged\n```\n\n\
             ## 2. The proof holds\n`check_proof.py` is short, and uses nothing but Python's own library and openssl: read \
             it first.\n```sh\n{check}\n```\nAmong its lines:\n```text\n{expect}\n```\n\n\
             ## 3. The log's key signed the checkpoint\n```sh\n\
             sed '/^$/,$d' checkpoint > /tmp/checkpoint.text\n\
             sed -n 's/^— [^ ]* //p' checkpoint | head -1 | base64 -d | tail -c 64 > /tmp/checkpoint.sig\n\
             openssl pkeyutl -verify -pubin -inkey keys/log.pub.pem -rawin -in /tmp/checkpoint.text \\\n  \
             -sigfile /tmp/checkpoint.sig\n```\n```text\nSignature Verified Successfully\n```\n\n\
             ## 4. It is the key that you know\n```sh\n\
             {{ printf '\\000\\000\\000\\013ssh-ed25519\\000\\000\\000\\040'; openssl pkey -pubin -in keys/log.pub.pem \
             -outform DER | tail -c 32; }} \\\n  | openssl dgst -sha256 -binary | base64 | tr -d '=\\n' | sed \
             's/^/SHA256:/'; echo\n```\n```text\n{fingerprint}\n```\n\
             Only something from **outside** this folder shows whose key that is: a receipt, or a fingerprint that was \
             handed over before.\n\n## What goes along, and what this does not show\n{limits}\
             - Times are those of the host's clock, unless an anchor over the checkpoint says otherwise.\n"
        );
        self.put("VERIFY.md", text.as_bytes())?;
        let sums: String = self.sums.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
        write_new(&self.folder.join("SHA256SUMS"), sums.as_bytes())?;
        sync_folder(&self.folder)
    }
}

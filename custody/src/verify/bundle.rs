//! The check of a bundle, from its stored bytes up to the seal in its log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::findings::{FaultKind, Findings, Place};
use super::log::LogCheck;
use super::remote::{self, DataPlace};
use super::stream::{self, FileHashes, hash_file, unreadable};
use super::{Counts, Kind, Options, Verification, log, threats, verdict_of};
use crate::bundle::{
    BundleStore, DecryptedStore, Identities, LONGEST_MANIFEST, LayeredStore, LocalFolder, Manifest, STORE,
    Stream, UPLOADS, Unopened,
};
use crate::case_layout;
use crate::digest::{Digest, sha256};
use crate::durable_file::read_small;
use crate::entry::{Entry, EntryType};
use crate::error::{Error, Result};
use crate::keys::VerifyingKey;
use crate::strict_json;
use crate::verify::verdict::Level;

const MANIFEST: &str = "manifest.json";
const SIGNATURE: &str = "manifest.json.sig";
pub(super) const SUMS: &str = "SHA256SUMS";
const SIGNER: &str = "keys/signer.pub.pem";
/// Left over when a crash comes between the seal and its removal.
const JOURNAL: &str = "journal";
/// The folder of what may lie in a store elsewhere.
const DATA: &str = "data/";

/// Verifies the bundle in `folder`.
pub(super) fn verify(folder: &Path, options: &Options) -> Result<Verification> {
    let mut findings = Findings::default();
    let log = log::verify(folder, options, &mut findings)?;
    let mut files = list_files(folder, &mut findings)?;
    log_files_only(&mut files, &mut findings);
    let mut store: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
    let data = remote::data_place(folder, options, &mut findings)?;
    if !matches!(data, DataPlace::Here) && files.iter().any(|path| path.starts_with(DATA)) {
        findings.note(
            "some of its data lies here too; what counts lies in the store, and that here was not read",
        );
    }
    if let DataPlace::There(there) = &data {
        remote::check(&**there, folder, &files, &mut findings)?;
        files.retain(|path| !path.starts_with(DATA));
        files.extend(there.listing().files.keys().filter(|path| path.starts_with(DATA)).cloned());
        let there: Arc<dyn BundleStore> = Arc::clone(there) as _;
        store = Arc::new(LayeredStore::new(store, there));
    }
    let mut check = Check {
        folder,
        store,
        log: &log,
        files,
        hashes: FileHashes::new(),
        findings,
        counts: Counts::default(),
        identities: &options.identities,
        data: &data,
        ciphertext_only: false,
        belongs: None,
    };
    let seal = log.entries_of(&EntryType::BUNDLE_SEALED).next();
    let manifest = match seal {
        Some(seal) => check.sealed(seal)?,
        None => {
            if check.files.contains(MANIFEST) {
                check.findings.note("manifest.json is there, and the log holds no seal of it");
            }
            None
        }
    };
    let Check { mut findings, mut counts, files, ciphertext_only, belongs, .. } = check;
    counts.files = files.len() as u64;
    match &data {
        DataPlace::Here => {}
        DataPlace::NotRead(place) => findings.note(format!("DATA NOT READ: its data lies at {place}")),
        DataPlace::There(there) => {
            findings.note(format!("its data was read at {}", there.place()));
            there.notes().into_iter().for_each(|note| findings.note(note));
        }
    }
    counts.entries = log.summary.size;
    let verdict = verdict_of(&log, options, &findings, seal.map(|seal| seal.seq), seal.is_none());
    let mut done = Verification::new(Kind::Bundle, folder, verdict, findings, counts, &log);
    if verdict.level > Level::Open && verdict.anchors == 0 && !log.anchored.is_empty() {
        done.notes.push("there are anchors, and none of those that count reaches the seal".to_owned());
    }
    if verdict.level > Level::Open && !options.trust.is_empty() && !log.trusted {
        done.notes.push("no trusted key signed it".to_owned());
    }
    done.manifest_sha256 = manifest;
    done.belongs = belongs;
    if ciphertext_only {
        done.set_ciphertext_only();
    }
    if matches!(data, DataPlace::NotRead(_)) {
        done.set_data_not_read();
    }
    done.threats = threats::decide(&done, &log, options);
    Ok(done)
}

struct Check<'a> {
    folder: &'a Path,
    store: Arc<dyn BundleStore>,
    log: &'a LogCheck,
    files: BTreeSet<String>,
    hashes: FileHashes,
    findings: Findings,
    counts: Counts,
    identities: &'a Identities,
    data: &'a DataPlace,
    ciphertext_only: bool,
    belongs: Option<(String, Option<String>)>,
}

impl Check<'_> {
    /// Checks everything against the seal; gives the hash of the manifest that is there.
    fn sealed(&mut self, seal: &Entry) -> Result<Option<Digest>> {
        let sealed: BTreeMap<&str, Digest> = seal
            .about
            .subject
            .iter()
            .filter_map(|subject| Some((subject.id.as_str(), subject.sha256?)))
            .collect();
        let manifest = self.sealed_file(MANIFEST, LONGEST_MANIFEST, &sealed, seal)?;
        let signature = self.sealed_file(SIGNATURE, 4096, &sealed, seal)?;
        let sums = self.sealed_file(SUMS, 1 << 30, &sealed, seal)?;
        let parsed = manifest.as_deref().map(Manifest::from_bytes);
        if let Some(Err(error)) = &parsed
            && !self.findings.names(MANIFEST)
        {
            self.findings.fault(Place::file(MANIFEST), FaultKind::Manifest, error.to_string());
        }
        let parsed = parsed.and_then(Result::ok);
        self.signature(manifest.as_deref(), signature.as_deref(), parsed.as_ref(), seal)?;
        if let Some(manifest) = &parsed {
            self.manifest_and_log(manifest, seal);
            if let Some(base) = &manifest.base {
                self.findings.note(format!(
                    "it holds what changed since {}; what is as in there lies in another bundle and is not checked here",
                    base.snapshot
                ));
            }
            for stream in &manifest.streams {
                if matches!(self.data, DataPlace::NotRead(_)) {
                    // What the manifest says of them, so that SHA256SUMS can be compared with it.
                    self.hashes
                        .extend(stream.files().map(|file| (file.path.clone(), (file.size, file.sha256))));
                } else if stream.is_encrypted() {
                    self.encrypted(stream)?;
                } else {
                    stream::verify(
                        &self.store,
                        stream,
                        &mut self.hashes,
                        &mut self.findings,
                        &mut self.counts,
                    )?;
                }
            }
            self.only_listed_data(manifest);
        }
        self.hash_the_rest();
        self.sums(sums.as_deref(), &sealed);
        Ok(manifest.as_deref().map(sha256))
    }

    /// Checks the stored files of an encrypted stream, and what is in them if a key opens them.
    fn encrypted(&mut self, stream: &Stream) -> Result<()> {
        for file in stream.files() {
            stream::listed(&*self.store, file, &mut self.hashes, &mut self.findings);
        }
        let decrypted: Arc<dyn BundleStore> =
            Arc::new(DecryptedStore::new(Arc::clone(&self.store), self.identities.clone()));
        // A file that was changed is a fault already, and says nothing of the key.
        let fits = !self.identities.is_empty()
            && stream.files().filter(|file| !self.findings.names(&file.path)).any(
                |file| !matches!(decrypted.size_of(&file.path), Err(error) if Unopened::is_no_key(&error)),
            );
        if !fits {
            self.ciphertext_only = true;
            let why = if self.identities.is_empty() {
                "no identity was given"
            } else {
                "no given identity opens it"
            };
            self.findings.note(format!(
                "CIPHERTEXT ONLY: stream {} is encrypted and {why}; its chunks, tables and its hash were not checked",
                stream.name
            ));
            return Ok(());
        }
        let mut inside = FileHashes::new();
        stream::verify(&decrypted, &stream.decrypted(), &mut inside, &mut self.findings, &mut self.counts)
    }

    /// Reads a file that the seal names, and compares it.
    fn sealed_file(
        &mut self,
        name: &str,
        most: u64,
        sealed: &BTreeMap<&str, Digest>,
        seal: &Entry,
    ) -> Result<Option<Vec<u8>>> {
        if sealed.get(name).is_none() {
            let words = format!("the seal does not name {name}");
            self.findings.fault(Place::entry(seal.seq), FaultKind::Entry, words);
        }
        if !self.files.contains(name) {
            self.findings.fault(Place::file(name), FaultKind::Missing, "it was sealed and is not there");
            return Ok(None);
        }
        let bytes = match read_small(&self.folder.join(name), most) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(Error::Read { source, .. }) => {
                unreadable(name, &source, &mut self.findings);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let found = sha256(&bytes);
        self.hashes.insert(name.to_owned(), (bytes.len() as u64, found));
        if sealed.get(name).is_some_and(|sealed| *sealed != found) {
            let words = format!("its SHA-256 is {found}, and entry {} sealed another", seal.seq);
            self.findings.fault(Place::file(name), FaultKind::Changed, words);
        }
        Ok(Some(bytes))
    }

    /// The signature over the manifest, by a key that the log allows.
    fn signature(
        &mut self,
        manifest: Option<&[u8]>,
        signature: Option<&[u8]>,
        parsed: Option<&Manifest>,
        seal: &Entry,
    ) -> Result<()> {
        let signer = match read_small(&self.folder.join(SIGNER), 4096) {
            Ok(Some(pem)) => std::str::from_utf8(&pem).ok().and_then(|pem| VerifyingKey::from_pem(pem).ok()),
            _ => None,
        };
        let size = seal.seq.saturating_add(1);
        let allowed: Vec<&VerifyingKey> = self.log.keys.iter().flat_map(|keys| keys.valid_at(size)).collect();
        match &signer {
            // What is wrong with the file itself shows in SHA256SUMS.
            None => self.findings.fault(Place::file(SIGNER), FaultKind::Changed, "it holds no Ed25519 key"),
            Some(signer) if !allowed.contains(&signer) => {
                let words = format!("the log does not let its key {} sign", signer.fingerprint());
                self.findings.fault(Place::file(SIGNER), FaultKind::Key, words);
            }
            Some(_) => {}
        }
        let (Some(manifest), Some(signature)) = (manifest, signature) else { return Ok(()) };
        let named = parsed.map(|manifest| manifest.examiner.key.as_str());
        let by = allowed.iter().find(|key| key.verify(manifest, signature).is_ok());
        match by {
            None => {
                let words = "it is not a signature of manifest.json by a key of the log";
                let file = if self.findings.names(MANIFEST) { MANIFEST } else { SIGNATURE };
                self.findings.fault(Place::file(file), FaultKind::Signature, words);
            }
            Some(key) if named.is_some_and(|named| named != key.fingerprint()) => {
                let words = "it names another key than the one that signed it";
                self.findings.fault(Place::file(MANIFEST), FaultKind::Manifest, words);
            }
            Some(key) if signer.as_ref().is_some_and(|signer| signer != *key) => {
                let words = "it is not the key that signed manifest.json";
                self.findings.fault(Place::file(SIGNER), FaultKind::Changed, words);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn manifest_and_log(&mut self, manifest: &Manifest, seal: &Entry) {
        self.belongs = Some((manifest.exhibit.clone(), manifest.case.clone()));
        let mut differ = |words: &str| self.findings.fault(Place::file(MANIFEST), FaultKind::Manifest, words);
        if manifest.log.origin != self.log.summary.origin || manifest.log.vkey != self.log.genesis_vkey {
            differ("it names another custody log than the one beside it");
        }
        if seal.about.exhibit.as_ref().is_some_and(|exhibit| *exhibit != manifest.exhibit) {
            differ("it is of another exhibit than its seal");
        }
        if let (Some(sealed), Some(case)) = (&seal.about.case, &manifest.case)
            && sealed != case
        {
            differ("it is of another case than its seal");
        }
    }

    fn only_listed_data(&mut self, manifest: &Manifest) {
        let mut listed = BTreeSet::new();
        for stream in &manifest.streams {
            let tables = [
                Some(&stream.chunks),
                Some(&stream.extents),
                stream.catalog.as_ref(),
                stream.ranges.as_ref(),
            ];
            listed
                .extend(tables.into_iter().flatten().chain(&stream.segments).map(|file| file.path.as_str()));
        }
        for path in
            self.files.iter().filter(|path| path.starts_with("data/") && !listed.contains(path.as_str()))
        {
            self.findings.fault(Place::file(path), FaultKind::Unlisted, "the manifest does not list it");
        }
    }

    fn hash_the_rest(&mut self) {
        let left: Vec<String> =
            self.files.iter().filter(|path| !self.hashes.contains_key(*path)).cloned().collect();
        // What is wrong already is not read through: somebody may have put an endless file there.
        let left: Vec<String> = left.into_iter().filter(|path| !self.findings.names(path)).collect();
        for path in left {
            match hash_file(&*self.store, &path) {
                Ok(found) => {
                    self.hashes.insert(path, found);
                }
                Err(error) if !self.findings.names(&path) => unreadable(&path, &error, &mut self.findings),
                Err(_) => {}
            }
        }
    }

    /// SHA256SUMS is built anew from the files that are there and compared byte for byte.
    fn sums(&mut self, stored: Option<&[u8]>, sealed: &BTreeMap<&str, Digest>) {
        let mut rebuilt = String::new();
        for (path, (_, sha256)) in self.hashes.iter().filter(|(path, _)| path.as_str() != SUMS) {
            rebuilt.push_str(&format!("{sha256}  {path}\n"));
        }
        let Some(stored) = stored else { return };
        if stored == rebuilt.as_bytes() {
            return;
        }
        if sealed.get(SUMS) != Some(&sha256(stored)) {
            // SHA256SUMS itself was changed, which is listed already; it can accuse no other file.
            if sealed.get(SUMS) == Some(&sha256(rebuilt.as_bytes())) {
                self.findings
                    .note("SHA256SUMS built anew is the sealed one: the files it lists are unchanged");
            }
            return;
        }
        let text = String::from_utf8_lossy(stored);
        let mut listed = BTreeMap::new();
        for line in text.lines() {
            let (hash, path) = line.split_once("  ").unwrap_or((line, ""));
            listed.insert(path, hash);
        }
        let before = self.findings.fault_count;
        for (path, hash) in &listed {
            match self.hashes.get(*path) {
                Some((_, found)) if found.to_string() == **hash => {}
                _ if self.findings.names(path) => {}
                Some((_, found)) => {
                    let words = format!("its SHA-256 is {found} and SHA256SUMS lists {hash}");
                    self.findings.fault(Place::file(*path), FaultKind::Changed, words);
                }
                None => self.findings.fault(
                    Place::file(*path),
                    FaultKind::Missing,
                    "SHA256SUMS lists it and it is not there",
                ),
            }
        }
        let unlisted: Vec<_> = self
            .hashes
            .keys()
            .filter(|path| path.as_str() != SUMS && !listed.contains_key(path.as_str()))
            .cloned()
            .collect();
        for path in unlisted.into_iter().filter(|path| !self.findings.names(path)).collect::<Vec<_>>() {
            self.findings.fault(
                Place::file(path),
                FaultKind::Unlisted,
                "neither the manifest nor SHA256SUMS lists it",
            );
        }
        if before == self.findings.fault_count && self.findings.faults.is_empty() {
            self.findings.fault(
                Place::file(SUMS),
                FaultKind::Changed,
                "it is not what the files that are there give",
            );
        }
    }
}

/// Takes the log's own files off the list; others that are named like them are faults.
fn log_files_only(files: &mut BTreeSet<String>, findings: &mut Findings) {
    let known = |path: &str| {
        [case_layout::LOG, case_layout::FRONTIER, case_layout::CHECKPOINT, case_layout::MIRROR, STORE]
            .contains(&path)
            || path.starts_with(case_layout::TORN_PREFIX)
            || path.starts_with("checkpoints/")
            || path.starts_with("anchors/")
    };
    let leftovers: Vec<_> = case_layout::LEFTOVERS.into_iter().chain([JOURNAL, UPLOADS]).collect();
    files.retain(|path| {
        if leftovers.contains(&path.as_str()) {
            findings.note(format!("{path} was left over when a writer was interrupted; it is no evidence"));
            return false;
        }
        if !known(path) && path.starts_with("custody.") {
            findings.fault(Place::file(path), FaultKind::Unlisted, "it is no file of a custody log");
            return false;
        }
        !known(path)
    });
}

/// Every file under `folder`, as paths with `/`; links and other things that are no plain files are faults.
pub(super) fn list_files(folder: &Path, findings: &mut Findings) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let fault = |source| Error::Read { path: folder.clone(), source };
        for item in std::fs::read_dir(&folder).map_err(fault)? {
            let item = item.map_err(fault)?;
            let kind = item.file_type().map_err(fault)?;
            let path = format!("{prefix}{}", strict_json::escape_text(item.file_name().as_encoded_bytes()));
            if kind.is_dir() {
                folders.push((item.path(), format!("{path}/")));
            } else if kind.is_file() {
                files.insert(path);
            } else {
                findings.fault(Place::file(path), FaultKind::Unlisted, "it is a link or no plain file");
            }
        }
    }
    Ok(files)
}

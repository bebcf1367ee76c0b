//! A log as a forger handles it: lines changed, chained anew, signed anew with whatever key there is.

use std::path::{Path, PathBuf};

use custody::merkle::Frontier;
use custody::{Checkpoint, EntryType, SignedCheckpoint, SigningKey, sha256, strict_json};
use serde_json::{Value, json};

/// The files of a log, with its lines in hand.
pub(super) struct ForgedLog {
    pub(super) folder: PathBuf,
    pub(super) origin: String,
    pub(super) lines: Vec<Vec<u8>>,
}

impl ForgedLog {
    pub(super) fn read(folder: &Path) -> Self {
        let bytes = std::fs::read(folder.join("custody.jsonl")).unwrap();
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.pop();
        let vkey = std::fs::read_to_string(folder.join("keys/log.vkey")).unwrap();
        let origin = vkey.split('+').next().unwrap().to_owned();
        Self { folder: folder.to_owned(), origin, lines }
    }

    pub(super) fn value(&self, seq: usize) -> Value {
        serde_json::from_slice(&self.lines[seq]).unwrap()
    }

    pub(super) fn set(&mut self, seq: usize, value: &Value) {
        self.lines[seq] = strict_json::to_line(value).unwrap().into_bytes();
    }

    pub(super) fn kind(&self, seq: usize) -> String {
        self.value(seq)["type"].as_str().unwrap().to_owned()
    }

    /// The entries of this type.
    pub(super) fn all_of(&self, kind: &EntryType) -> Vec<usize> {
        (0..self.lines.len()).filter(|seq| self.kind(*seq) == kind.as_str()).collect()
    }

    /// An entry like entry `like`, with other words.
    pub(super) fn note_like(&self, like: usize, text: &str) -> Vec<u8> {
        let mut value = self.value(like);
        let fields = value.as_object_mut().unwrap();
        for field in ["subject", "how", "refs", "errors", "party_sigs", "exhibit"] {
            fields.remove(field);
        }
        fields.insert("type".into(), json!("note"));
        fields.insert("result".into(), json!({ "text": text }));
        strict_json::to_line(&value).unwrap().into_bytes()
    }

    /// Numbers and chains the entries anew from `from` on.
    pub(super) fn chain_from(&mut self, from: usize) {
        for seq in from..self.lines.len() {
            let mut value = self.value(seq);
            value["seq"] = json!(seq);
            let prev = seq.checked_sub(1).map(|before| sha256(&self.lines[before]).to_string());
            value["prev"] = json!(prev.unwrap_or_else(|| "0".repeat(64)));
            self.set(seq, &value);
        }
    }

    pub(super) fn write(&self) {
        let mut bytes = self.lines.join(&b'\n');
        if !bytes.is_empty() {
            bytes.push(b'\n');
        }
        std::fs::write(self.folder.join("custody.jsonl"), bytes).unwrap();
    }

    fn frontier(&self, size: usize) -> Frontier {
        let mut frontier = Frontier::new();
        self.lines.iter().take(size).for_each(|line| frontier.push(line));
        frontier
    }

    pub(super) fn write_frontier(&self) {
        let text = self.frontier(self.lines.len()).to_text();
        std::fs::write(self.folder.join("custody.frontier"), text).unwrap();
    }

    /// A checkpoint over the first `size` lines.
    pub(super) fn checkpoint(&self, size: usize, key: &SigningKey) -> SignedCheckpoint {
        let root = self.frontier(size).root();
        let checkpoint = Checkpoint { origin: self.origin.clone(), size: size as u64, root };
        SignedCheckpoint::sign(checkpoint, key).unwrap()
    }

    pub(super) fn sign(&self, key: &SigningKey) {
        let text = self.checkpoint(self.lines.len(), key).note.to_text();
        std::fs::write(self.folder.join("checkpoint"), text).unwrap();
    }

    pub(super) fn kept(&self) -> Vec<u64> {
        let mut sizes: Vec<u64> = std::fs::read_dir(self.folder.join("checkpoints"))
            .unwrap()
            .map(|item| item.unwrap().file_name().to_str().unwrap().parse().unwrap())
            .collect();
        sizes.sort_unstable();
        sizes
    }

    pub(super) fn kept_path(&self, size: u64) -> PathBuf {
        self.folder.join(format!("checkpoints/{size:08}"))
    }

    pub(super) fn forget_kept_above(&self, size: u64) {
        for kept in self.kept().into_iter().filter(|kept| *kept > size) {
            std::fs::remove_file(self.kept_path(kept)).unwrap();
        }
    }

    /// Keeps a checkpoint wherever one must be kept, and no other.
    pub(super) fn sign_kept(&self, key: &SigningKey) {
        self.forget_kept_above(0);
        for seq in 0..self.lines.len() {
            let Ok(value) = serde_json::from_slice::<Value>(&self.lines[seq]) else { continue };
            let Ok(kind) = serde_json::from_value::<EntryType>(value["type"].clone()) else { continue };
            if kind.keeps_checkpoint() {
                let size = seq + 1;
                std::fs::write(self.kept_path(size as u64), self.checkpoint(size, key).note.to_text())
                    .unwrap();
            }
        }
    }

    /// Takes the anchors out, files and entries, as one does who cannot forge them.
    pub(super) fn drop_anchors(&mut self) {
        let anchors = self.folder.join("anchors");
        std::fs::remove_dir_all(&anchors).unwrap();
        std::fs::create_dir(&anchors).unwrap();
        for seq in self.all_of(&EntryType::ANCHOR_MADE) {
            self.lines[seq] = self.note_like(seq, "nothing of note");
        }
    }

    /// Writes everything anew: what the owner of a key can make to fit together.
    pub(super) fn forge(&self, key: &SigningKey) {
        self.write();
        self.write_frontier();
        self.sign_kept(key);
        self.sign(key);
    }
}

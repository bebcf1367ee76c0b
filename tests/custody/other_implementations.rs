//! Checkpoints and trees of ours, checked by other people's code: `signed_note` and `tlog_tiles` (Cloudflare).

use std::collections::HashMap;

use custody::merkle::{consistency_proof, inclusion_proof, leaf_hash, root_of};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader, check_record, check_tree, prove_record, prove_tree, stored_hashes,
    tree_hash,
};

use crate::support::{KEY, WITNESS, log_with};

#[test]
fn another_implementation_verifies_our_notes_and_reads_our_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_with(folder.path(), 6);
    let mut signed = log.read().unwrap().checkpoint.unwrap();
    signed.note.add_signature("witness.example/w1", &*WITNESS).unwrap();
    let bytes = signed.note.to_text();
    let keys =
        [KEY.verifying_key().to_vkey(log.origin()), WITNESS.verifying_key().to_vkey("witness.example/w1")];
    let list = |keys: &[String]| {
        let verifier =
            |key: &String| Box::new(StandardVerifier::new(key).unwrap()) as Box<dyn signed_note::Verifier>;
        VerifierList::new(keys.iter().map(verifier).collect())
    };
    let note = Note::from_bytes(bytes.as_bytes()).unwrap();
    let (verified, unverified) = note.verify(&list(&keys)).unwrap();
    assert_eq!((verified.len(), unverified.len()), (2, 0));
    let read = Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((read.origin(), read.size()), (log.origin(), signed.checkpoint.size));
    assert_eq!(read.hash().0, signed.checkpoint.root.0);
    // Its eye is no softer than ours.
    let forged = bytes.replace("\n7\n", "\n8\n");
    assert!(Note::from_bytes(forged.as_bytes()).is_ok_and(|note| note.verify(&list(&keys)).is_err()));
    // A cosignature is a line that it passes over.
    let line =
        custody::anchors::Cosignature::sign(signed.note.text(), "w2", &*WITNESS, 1_795_300_000).unwrap().line;
    signed.note.add_line(line).unwrap();
    let note = Note::from_bytes(signed.note.to_text().as_bytes()).unwrap();
    let (verified, unverified) = note.verify(&list(&keys)).unwrap();
    assert_eq!((verified.len(), unverified.len()), (2, 1));
}

/// The hashes that `tlog_tiles` stores, by its own index.
#[derive(Default)]
struct Stored(HashMap<u64, Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        Ok(indexes.iter().map(|index| self.0[index]).collect())
    }
}

#[test]
fn another_implementation_gives_the_same_roots_and_accepts_our_proofs() {
    let lines: Vec<String> = (0..70).map(|n| format!("entry {n}")).collect();
    let mut stored = Stored::default();
    let mut roots = vec![root_of(&lines[..0])];
    for (n, line) in lines.iter().enumerate() {
        let n = n as u64;
        let new = stored_hashes(n, line.as_bytes(), &stored).unwrap();
        let first = stored.0.len() as u64;
        stored.0.extend(new.into_iter().enumerate().map(|(at, hash)| (first + at as u64, hash)));
        let size = n + 1;
        let root = root_of(&lines[..size as usize]);
        assert_eq!(tree_hash(size, &stored).unwrap().0, root.0, "{size} leaves");
        roots.push(root);
    }
    let leaves: Vec<_> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let theirs =
        |proof: Vec<custody::Digest>| -> Vec<Hash> { proof.into_iter().map(|hash| Hash(hash.0)).collect() };
    for size in 1..=70usize {
        for n in 0..size {
            let ours = theirs(inclusion_proof(&leaves[..size], n).unwrap());
            assert_eq!(prove_record(size as u64, n as u64, &stored).unwrap(), ours, "{n} of {size}");
            check_record(&ours, size as u64, Hash(roots[size].0), n as u64, Hash(leaves[n].0)).unwrap();
        }
        for old in 1..=size {
            let ours = theirs(consistency_proof(&leaves[..size], old).unwrap());
            assert_eq!(prove_tree(size as u64, old as u64, &stored).unwrap(), ours, "{old} to {size}");
            check_tree(&ours, size as u64, Hash(roots[size].0), old as u64, Hash(roots[old].0)).unwrap();
        }
    }
}

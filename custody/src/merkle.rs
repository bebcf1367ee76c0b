//! The Merkle tree of RFC 6962: roots, proofs, and the right edge that makes appending cheap.
//!
//! A leaf's hash is `SHA-256(0x00 || data)`, a node's `SHA-256(0x01 || left || right)`; the left subtree of `n`
//! leaves holds the largest power of two below `n`. The root of nothing is `SHA-256("")`.

use crate::digest::{Digest, Hasher, sha256};
use crate::error::{Error, Result};

/// The hash of a leaf that holds `data`.
pub fn leaf_hash(data: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(data);
    hasher.finish()
}

/// The hash of a node above `left` and `right`.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [1; 65];
    for (to, from) in bytes.iter_mut().skip(1).zip(left.0.iter().chain(&right.0)) {
        *to = *from;
    }
    sha256(&bytes)
}

/// The root over leaves that hold the given data, in order.
pub fn root_of<T: AsRef<[u8]>>(leaves: impl IntoIterator<Item = T>) -> Digest {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(leaf.as_ref());
    }
    frontier.root()
}

/// The right edge of a tree: all that is needed to append a leaf and to know the new root.
///
/// Holds at most 64 hashes, however large the tree is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest first, one for each set bit of `size`.
    subtrees: Vec<Digest>,
}

impl Frontier {
    /// The edge of an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the smallest complete subtree, over the last leaves; `None` of an empty tree.
    pub fn smallest(&self) -> Option<Digest> {
        self.subtrees.last().copied()
    }

    /// Appends a leaf that holds `data`.
    pub fn push(&mut self, data: &[u8]) {
        self.push_hash(leaf_hash(data));
    }

    /// Appends a leaf whose hash is known.
    pub fn push_hash(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The root of the tree as it stands.
    pub fn root(&self) -> Digest {
        let mut smallest_first = self.subtrees.iter().rev();
        match smallest_first.next() {
            None => sha256(b""),
            Some(last) => smallest_first.fold(*last, |right, left| node_hash(left, &right)),
        }
    }

    /// The lines of `custody.frontier`: the size, then each subtree's root in hex, largest first.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.size);
        for hash in &self.subtrees {
            text.push_str(&hash.to_string());
            text.push('\n');
        }
        text
    }

    /// Reads what [`Frontier::to_text`] writes; any other spelling is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] naming what is wrong.
    pub fn from_text(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::malformed("frontier", why);
        let mut lines = text.lines();
        let size = lines.next().unwrap_or_default();
        let size: u64 = size.parse().map_err(|_| bad("the first line is not the size"))?;
        let subtrees = lines.map(str::parse).collect::<Result<Vec<Digest>>>()?;
        let frontier = Self { size, subtrees };
        if frontier.subtrees.len() != size.count_ones() as usize || frontier.to_text() != text {
            return Err(bad("its lines do not fit its size"));
        }
        Ok(frontier)
    }
}

/// A tree with all its nodes, for many proofs: each costs as many steps as the tree is high.
#[derive(Debug)]
pub struct Tree {
    /// The leaves' hashes, then each level above; a node without a sibling rises as it is.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over hashes of leaves. Holds about twice as many hashes as there are leaves.
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below
                .chunks(2)
                .filter_map(|pair| match pair {
                    [left, right] => Some(node_hash(left, right)),
                    [single] => Some(*single),
                    _ => None,
                })
                .collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().and_then(|level| level.first());
        top.copied().unwrap_or_else(|| sha256(b""))
    }

    /// The same proof as [`inclusion_proof`] gives.
    pub fn inclusion_proof(&self, index: usize) -> Option<Vec<Digest>> {
        self.levels.first()?.get(index)?;
        let siblings =
            self.levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
        Some(siblings.copied().collect())
    }
}

/// The proof that the leaf at `index` is in the tree over `leaves` (hashes of leaves), nearest sibling first.
///
/// `None` when there is no such leaf. Cost is one pass over the leaves.
pub fn inclusion_proof(leaves: &[Digest], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at_checked(left_size(leaves.len()))?;
        if index < left.len() {
            proof.push(root_of_hashes(right));
            leaves = left;
        } else {
            proof.push(root_of_hashes(left));
            index -= left.len();
            leaves = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Whether `proof` shows that a leaf with hash `leaf` is number `index` of the `size` leaves under `root`.
pub fn verify_inclusion(leaf: &Digest, index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    // RFC 9162, section 2.1.3.2.
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// The proof that the tree over the first `old_size` of `leaves` is the beginning of the tree over all of them.
///
/// `None` when `old_size` is 0 or more than there are.
pub fn consistency_proof(leaves: &[Digest], old_size: usize) -> Option<Vec<Digest>> {
    if old_size == 0 || old_size > leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    // RFC 6962, section 2.1.2; `whole` is that section's flag b.
    let (mut leaves, mut old, mut whole) = (leaves, old_size, true);
    while old != leaves.len() {
        let (left, right) = leaves.split_at_checked(left_size(leaves.len()))?;
        if old <= left.len() {
            proof.push(root_of_hashes(right));
            leaves = left;
        } else {
            proof.push(root_of_hashes(left));
            old -= left.len();
            leaves = right;
            whole = false;
        }
    }
    if !whole {
        proof.push(root_of_hashes(leaves));
    }
    proof.reverse();
    Some(proof)
}

/// Whether `proof` shows that the tree of `old_size` leaves is the beginning of the tree of `new_size` leaves.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    old_root: &Digest,
    new_root: &Digest,
    proof: &[Digest],
) -> bool {
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    // RFC 9162, section 2.1.4.2.
    let first = if old_size.is_power_of_two() { Some(old_root) } else { None };
    let mut hashes = first.into_iter().chain(proof);
    let Some(start) = hashes.next() else { return false };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    let level = node.trailing_ones();
    node = node.checked_shr(level).unwrap_or(0);
    last = last.checked_shr(level).unwrap_or(0);
    let (mut old, mut new) = (*start, *start);
    for sibling in hashes {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old == *old_root && new == *new_root
}

/// How many of `n` leaves (at least 2) are under the left child of their root.
fn left_size(n: usize) -> usize {
    n.div_ceil(2).next_power_of_two()
}

/// The root over hashes of leaves, in order.
pub fn root_of_hashes(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push_hash(*leaf);
    }
    frontier.root()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition in RFC 6962, section 2.1, word for word.
    fn by_definition(leaves: &[Vec<u8>]) -> Digest {
        match leaves {
            [] => sha256(b""),
            [leaf] => leaf_hash(leaf),
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
            }
        }
    }

    fn sample(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("entry {i}").into_bytes()).collect()
    }

    #[test]
    fn a_whole_tree_gives_the_same_proofs() {
        for n in 0..70 {
            let leaves: Vec<Digest> = sample(n).iter().map(|data| leaf_hash(data)).collect();
            let tree = Tree::new(leaves.clone());
            for index in 0..n + 2 {
                assert_eq!(tree.inclusion_proof(index), inclusion_proof(&leaves, index), "{index} of {n}");
            }
        }
    }

    #[test]
    fn roots_of_the_certificate_transparency_test_data_come_out() {
        // From certificate-transparency's merkle_tree_test, also in the Go and Python ports.
        let leaves = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let leaves: Vec<_> = leaves.iter().map(|leaf| hex::decode(leaf).unwrap()).collect();
        let expected = [
            (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
            (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
            (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
            (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
            (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
        ];
        for (size, root) in expected {
            assert_eq!(root_of(&leaves[..size]).to_string(), root);
        }
        assert_eq!(Frontier::new().root(), sha256(b""));
    }

    #[test]
    fn every_proof_of_every_small_tree_verifies_and_no_other() {
        for size in 1..34usize {
            let data = sample(size);
            let leaves: Vec<_> = data.iter().map(|leaf| leaf_hash(leaf)).collect();
            let root = by_definition(&data);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index).unwrap();
                for claimed in 0..=size {
                    let fits = verify_inclusion(&leaves[index], claimed as u64, size as u64, &proof, &root);
                    assert_eq!(fits, claimed == index, "leaf {index} of {size} as {claimed}");
                }
                assert!(!verify_inclusion(&leaf_hash(b"other"), index as u64, size as u64, &proof, &root));
                for cut in 0..proof.len() {
                    assert!(!verify_inclusion(
                        &leaves[index],
                        index as u64,
                        size as u64,
                        &proof[..cut],
                        &root
                    ));
                }
                let mut longer = proof.clone();
                longer.push(root);
                assert!(!verify_inclusion(&leaves[index], index as u64, size as u64, &longer, &root));
            }
            assert_eq!(inclusion_proof(&leaves, size), None);
        }
    }

    #[test]
    fn every_consistency_proof_of_every_small_tree_verifies_and_no_other() {
        for size in 1..34usize {
            let data = sample(size);
            let leaves: Vec<_> = data.iter().map(|leaf| leaf_hash(leaf)).collect();
            let root = by_definition(&data);
            for old in 1..=size {
                let old_root = by_definition(&data[..old]);
                let proof = consistency_proof(&leaves, old).unwrap();
                for claimed in 0..=size + 1 {
                    let fits = verify_consistency(claimed as u64, size as u64, &old_root, &root, &proof);
                    assert_eq!(fits, claimed == old, "{old} of {size} as {claimed}");
                }
                let other = leaf_hash(b"other");
                assert!(!verify_consistency(old as u64, size as u64, &other, &root, &proof));
                assert!(!verify_consistency(old as u64, size as u64, &old_root, &other, &proof));
            }
        }
    }

    #[test]
    fn a_frontier_whose_lines_do_not_fit_its_size_is_refused() {
        let hash = leaf_hash(b"");
        for text in [
            "",
            "x\n",
            "1\n",
            "2\n",
            "0\n\n",
            "0",
            "+1\n",
            &format!("2\n{hash}\n{hash}\n"),
            &format!("1\n{hash}"),
        ] {
            assert!(Frontier::from_text(text).is_err(), "{text:?}");
        }
        assert!(Frontier::from_text(&format!("{}\n", u64::MAX)).is_err());
    }

    proptest! {
        #[test]
        fn the_frontier_gives_the_root_of_the_definition(size in 0usize..300) {
            let data = sample(size);
            let mut frontier = Frontier::new();
            for leaf in &data {
                frontier.push(leaf);
            }
            prop_assert_eq!(frontier.root(), by_definition(&data));
            prop_assert_eq!(Frontier::from_text(&frontier.to_text()).unwrap(), frontier);
        }
    }
}

//! What lies in a snapshot, block by block, without holding more than some of it.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody::sha256;

/// Bytes of a block of EBS.
pub(crate) const BLOCK: usize = 512 << 10;

/// Different blocks that a generator repeats.
const POOL: usize = 24;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Never written: it is not listed.
    Absent,
    /// Written, with zeros.
    Zero,
    /// Lines that compress well; the number tells different ones apart.
    Text(u32),
    /// Bytes that do not compress.
    Noise(u32),
}

/// A snapshot that is complete.
pub(crate) struct Snapshot {
    /// As `snap-0123456789abcdef0`.
    pub(crate) id: String,
    /// As EBS tells it.
    pub(crate) gib: u64,
    /// Snapshots of one volume can be compared.
    pub(crate) volume: String,
    content: Content,
}

enum Content {
    /// Bytes of a disk, and which of its blocks were ever written.
    Image { data: Arc<Vec<u8>>, present: Vec<bool>, checksums: Vec<OnceLock<String>> },
    /// A rule that gives each block; what it gives is made once.
    Made { blocks: u32, piece: Box<dyn Fn(u32) -> Piece + Send + Sync>, pool: Arc<Pool> },
}

struct Pool {
    zero: Body,
    text: Vec<Body>,
    noise: Vec<Body>,
}

/// What a block of one content is sent as.
pub(crate) struct Body {
    bytes: Vec<u8>,
    checksum: String,
}

impl Body {
    fn new(bytes: Vec<u8>) -> Self {
        let checksum = STANDARD.encode(sha256(&bytes).0);
        Self { bytes, checksum }
    }
}

impl Snapshot {
    /// A snapshot of a disk's image, whose blocks were written where `present` says so; it is padded with blocks that
    /// were never written to whole GiB.
    pub(crate) fn of_image(id: &str, mut data: Vec<u8>, present: impl Fn(u32) -> bool) -> Self {
        let blocks = data.len().div_ceil(BLOCK);
        data.resize(blocks * BLOCK, 0);
        let content = Content::Image {
            data: Arc::new(data),
            present: (0..blocks as u32).map(present).collect(),
            checksums: (0..blocks).map(|_| OnceLock::new()).collect(),
        };
        let gib = (blocks as u64 * BLOCK as u64).div_ceil(1 << 30);
        Self { id: id.to_owned(), gib, volume: "vol-0a1b2c3d4e5f60718".to_owned(), content }
    }

    /// A snapshot whose blocks a rule gives.
    pub(crate) fn made(id: &str, gib: u64, piece: impl Fn(u32) -> Piece + Send + Sync + 'static) -> Self {
        let blocks = u32::try_from(gib << 30 >> 19).unwrap();
        let content = Content::Made { blocks, piece: Box::new(piece), pool: pool() };
        Self { id: id.to_owned(), gib, volume: "vol-0a1b2c3d4e5f60718".to_owned(), content }
    }

    /// Of another volume.
    pub(crate) fn of_volume(mut self, volume: &str) -> Self {
        volume.clone_into(&mut self.volume);
        self
    }

    /// Makes all checksums now, so that they cost nothing later.
    pub(crate) fn warm(&self) {
        for index in 0..self.listable() {
            self.block(index);
        }
    }

    /// Blocks that may be listed.
    pub(crate) fn listable(&self) -> u32 {
        match &self.content {
            Content::Image { present, .. } => present.len() as u32,
            Content::Made { blocks, .. } => *blocks,
        }
    }

    /// Whether a block was written.
    pub(crate) fn is_present(&self, index: u32) -> bool {
        match &self.content {
            Content::Image { present, .. } => present.get(index as usize).copied().unwrap_or(false),
            Content::Made { blocks, piece, .. } => index < *blocks && piece(index) != Piece::Absent,
        }
    }

    /// A block's bytes and the Base64 of their SHA-256.
    pub(crate) fn block(&self, index: u32) -> Option<(&[u8], &str)> {
        if !self.is_present(index) {
            return None;
        }
        match &self.content {
            Content::Image { data, checksums, .. } => {
                let bytes = data.chunks(BLOCK).nth(index as usize)?;
                let checksum = checksums[index as usize].get_or_init(|| STANDARD.encode(sha256(bytes).0));
                Some((bytes, checksum))
            }
            Content::Made { piece, pool, .. } => {
                let body = match piece(index) {
                    Piece::Absent => return None,
                    Piece::Zero => &pool.zero,
                    Piece::Text(number) => &pool.text[number as usize % POOL],
                    Piece::Noise(number) => &pool.noise[number as usize % POOL],
                };
                Some((&body.bytes, &body.checksum))
            }
        }
    }

    /// The disk as the direct APIs give it: zeros where no block was written. For small ones.
    pub(crate) fn disk(&self) -> Vec<u8> {
        let mut disk = vec![0; (self.gib << 30) as usize];
        for index in 0..self.listable() {
            if let Some((bytes, _)) = self.block(index) {
                disk[index as usize * BLOCK..][..BLOCK].copy_from_slice(bytes);
            }
        }
        disk
    }
}

fn pool() -> Arc<Pool> {
    static POOL_OF_ALL: OnceLock<Arc<Pool>> = OnceLock::new();
    Arc::clone(POOL_OF_ALL.get_or_init(|| {
        let each = |make: fn(u64) -> Vec<u8>| (0..POOL as u64).map(|n| Body::new(make(n))).collect();
        Arc::new(Pool { zero: Body::new(vec![0; BLOCK]), text: each(text), noise: each(noise) })
    }))
}

/// A log that compresses to about a tenth.
pub(crate) fn text(number: u64) -> Vec<u8> {
    let mut random = Random(number + 1);
    let mut text = Vec::with_capacity(BLOCK + 128);
    while text.len() < BLOCK {
        let value = random.next();
        let (second, port, from) = (value % 86_400, value >> 20 & 0xffff, value >> 40 & 0xff);
        text.extend_from_slice(
            format!(
                "{second:05} web{number:03} sshd[{port}]: Failed password for root from 203.0.113.{from}\n"
            )
            .as_bytes(),
        );
    }
    text.truncate(BLOCK);
    text
}

/// Bytes that do not compress.
pub(crate) fn noise(number: u64) -> Vec<u8> {
    let mut random = Random(number ^ 0x9E37_79B9_7F4A_7C15);
    (0..BLOCK / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

/// Marsaglia's xorshift: the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

//! SHA-256 of a stream and of each of its chunks in one pass, where the processor has instructions for it.
//!
//! Both hashes run over the same blocks, so the message schedule (FIPS 180-4, 6.2.2 step 1) is worked out once for the two,
//! and the rounds of one fill the waits of the other: together they cost little more than one. Only streams that are cut
//! at multiples of 64 bytes can be hashed so. A fault here would show at start, in [`crate::digest::self_test`], and in
//! every `verify`, which uses neither this code nor its instructions for chunks.

use crate::digest::{Digest, Hash256, Hasher};

/// A running SHA-256 of a stream that is fed by chunks, and that may give the hash of each chunk as well.
#[derive(Debug, Clone)]
pub struct TwinHasher(Way);

#[derive(Debug, Clone)]
enum Way {
    /// In one pass with the chunk's hash.
    #[cfg(target_arch = "x86_64")]
    Twin(Twin),
    /// The stream's hash alone.
    Single(Hasher),
}

impl TwinHasher {
    /// A hash of nothing yet.
    pub fn new() -> Self {
        // Not optimised, each of the instructions is a call, and a GiB takes most of a minute: tests hash many.
        let by_instructions = if cfg!(debug_assertions) { None } else { Self::by_instructions() };
        by_instructions.unwrap_or_else(|| Self(Way::Single(Hasher::new())))
    }

    /// The same by the processor's own instructions; `None` where it has none.
    #[must_use]
    pub fn by_instructions() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if sha_extensions::are_there() {
            return Some(Self(Way::Twin(Twin::default())));
        }
        None
    }

    /// Whether the next chunk's hash comes with the stream's.
    pub fn gives_chunk_hashes(&self) -> bool {
        match &self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Twin(twin) => twin.rest.is_empty(),
            Way::Single(_) => false,
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Twin(twin) => twin.update(bytes),
            Way::Single(hasher) => hasher.update(bytes),
        }
    }

    /// Takes in a chunk, and gives its own hash where [`TwinHasher::gives_chunk_hashes`] said so.
    pub fn update_chunk(&mut self, chunk: &[u8]) -> Option<Digest> {
        #[cfg(target_arch = "x86_64")]
        if let Way::Twin(twin) = &mut self.0
            && twin.rest.is_empty()
        {
            return Some(twin.update_chunk(chunk));
        }
        self.update(chunk);
        None
    }

    /// Takes the next bytes into this hash and into another, in one pass where that can be.
    pub fn update_with(&mut self, other: &mut Self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if let (Way::Twin(one), Way::Twin(two)) = (&mut self.0, &mut other.0)
            && one.rest.is_empty()
            && two.rest.is_empty()
        {
            let (blocks, rest) = bytes.as_chunks::<64>();
            [one.whole, two.whole] = sha_extensions::compress([one.whole, two.whole], blocks);
            for twin in [one, two] {
                twin.length = twin.length.wrapping_add(bytes.len() as u64);
                twin.rest.extend_from_slice(rest);
            }
            return;
        }
        self.update(bytes);
        other.update(bytes);
    }

    /// Gives the digest of all bytes taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Twin(twin) => twin.finish(),
            Way::Single(hasher) => hasher.finish(),
        }
    }
}

impl Default for TwinHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hash256 for TwinHasher {
    fn new() -> Self {
        Self::new()
    }
    fn update(&mut self, bytes: &[u8]) {
        Self::update(self, bytes);
    }
    fn gives_chunk_hashes(&self) -> bool {
        Self::gives_chunk_hashes(self)
    }
    fn update_chunk(&mut self, chunk: &[u8]) -> Option<Digest> {
        Self::update_chunk(self, chunk)
    }
    fn update_with(&mut self, other: &mut Self, bytes: &[u8]) {
        Self::update_with(self, other, bytes);
    }
    fn finish(self) -> Digest {
        Self::finish(self)
    }
}

/// The eight words of a running SHA-256.
#[cfg(target_arch = "x86_64")]
type State = [u32; 8];

/// FIPS 180-4, 5.3.3.
#[cfg(target_arch = "x86_64")]
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone)]
struct Twin {
    whole: State,
    /// Bytes taken in.
    length: u64,
    /// Those that fill no block yet; fewer than 64.
    rest: Vec<u8>,
}

#[cfg(target_arch = "x86_64")]
impl Default for Twin {
    fn default() -> Self {
        Self { whole: INITIAL, length: 0, rest: Vec::new() }
    }
}

#[cfg(target_arch = "x86_64")]
impl Twin {
    fn update(&mut self, mut bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if !self.rest.is_empty() {
            let (fill, after) = bytes.split_at(bytes.len().min(64 - self.rest.len()));
            self.rest.extend_from_slice(fill);
            bytes = after;
            let (blocks, rest) = self.rest.as_chunks::<64>();
            [self.whole] = sha_extensions::compress([self.whole], blocks);
            if rest.is_empty() {
                self.rest.clear();
            }
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        [self.whole] = sha_extensions::compress([self.whole], blocks);
        self.rest.extend_from_slice(rest);
    }

    /// Only when no bytes of a block are left over.
    fn update_chunk(&mut self, chunk: &[u8]) -> Digest {
        let (blocks, rest) = chunk.as_chunks::<64>();
        let [whole, own] = sha_extensions::compress([self.whole, INITIAL], blocks);
        self.whole = whole;
        self.length = self.length.wrapping_add(chunk.len() as u64);
        self.rest.extend_from_slice(rest);
        finish(own, rest, chunk.len() as u64)
    }

    fn finish(self) -> Digest {
        finish(self.whole, &self.rest, self.length)
    }
}

/// Pads and gives the digest (FIPS 180-4, 5.1.1).
#[cfg(target_arch = "x86_64")]
fn finish(state: State, rest: &[u8], length: u64) -> Digest {
    let mut last = rest.to_vec();
    last.push(0x80);
    last.resize(if rest.len() < 56 { 56 } else { 120 }, 0);
    last.extend_from_slice(&length.wrapping_mul(8).to_be_bytes());
    let [state] = sha_extensions::compress([state], last.as_chunks::<64>().0);
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    Digest(digest)
}

/// The processor's own SHA-256 rounds (Intel SHA Extensions, in AMD's processors since 2017).
#[cfg(target_arch = "x86_64")]
mod sha_extensions {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    use super::State;

    /// Whether this processor has them.
    pub(super) fn are_there() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("sse4.1")
            && is_x86_feature_detected!("ssse3")
    }

    /// Takes whole blocks into one or more running hashes, the same blocks into each. Only where they are there.
    #[allow(unsafe_code, reason = "the compiler cannot know what processor this runs on; callers asked")]
    pub(super) fn compress<const N: usize>(states: [State; N], blocks: &[[u8; 64]]) -> [State; N] {
        // SAFETY: a `Twin` is only made when `are_there` says that this processor has all three features.
        unsafe { rounds(states, blocks) }
    }

    /// FIPS 180-4, 6.2.2, four rounds at a time.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn rounds<const N: usize>(states: [State; N], blocks: &[[u8; 64]]) -> [State; N] {
        let mut abef = states.map(|[a, b, _, _, e, f, _, _]| words(f, e, b, a));
        let mut cdgh = states.map(|[_, _, c, d, _, _, g, h]| words(h, g, d, c));
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        for block in blocks {
            let [a, b, c, d, e, f, g, h] = block.as_chunks::<8>().0 else { return states };
            let load = |low: &[u8; 8], high: &[u8; 8]| {
                _mm_shuffle_epi8(_mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low)), swap)
            };
            let (mut w0, mut w1, mut w2, mut w3) = (load(a, b), load(c, d), load(e, f), load(g, h));
            let (first_abef, first_cdgh) = (abef, cdgh);
            macro_rules! four_rounds {
                ($w:expr, $k0:literal, $k1:literal, $k2:literal, $k3:literal) => {
                    let sum = _mm_add_epi32($w, words($k0, $k1, $k2, $k3));
                    for (abef, cdgh) in abef.iter_mut().zip(&mut cdgh) {
                        *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, sum);
                    }
                    let sum = _mm_shuffle_epi32::<0x0e>(sum);
                    for (abef, cdgh) in abef.iter_mut().zip(&mut cdgh) {
                        *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, sum);
                    }
                };
            }
            // The next four words of the schedule, in place of the oldest four.
            macro_rules! next_words {
                ($old:ident, $second:ident, $third:ident, $newest:ident) => {
                    let sum = _mm_add_epi32(
                        _mm_sha256msg1_epu32($old, $second),
                        _mm_alignr_epi8::<4>($newest, $third),
                    );
                    $old = _mm_sha256msg2_epu32(sum, $newest);
                };
            }
            four_rounds!(w0, 0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5);
            four_rounds!(w1, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5);
            four_rounds!(w2, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3);
            four_rounds!(w3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174);
            next_words!(w0, w1, w2, w3);
            four_rounds!(w0, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc);
            next_words!(w1, w2, w3, w0);
            four_rounds!(w1, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da);
            next_words!(w2, w3, w0, w1);
            four_rounds!(w2, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7);
            next_words!(w3, w0, w1, w2);
            four_rounds!(w3, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967);
            next_words!(w0, w1, w2, w3);
            four_rounds!(w0, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13);
            next_words!(w1, w2, w3, w0);
            four_rounds!(w1, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85);
            next_words!(w2, w3, w0, w1);
            four_rounds!(w2, 0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3);
            next_words!(w3, w0, w1, w2);
            four_rounds!(w3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070);
            next_words!(w0, w1, w2, w3);
            four_rounds!(w0, 0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5);
            next_words!(w1, w2, w3, w0);
            four_rounds!(w1, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3);
            next_words!(w2, w3, w0, w1);
            four_rounds!(w2, 0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208);
            next_words!(w3, w0, w1, w2);
            four_rounds!(w3, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2);
            for (after, before) in abef.iter_mut().zip(first_abef) {
                *after = _mm_add_epi32(*after, before);
            }
            for (after, before) in cdgh.iter_mut().zip(first_cdgh) {
                *after = _mm_add_epi32(*after, before);
            }
        }
        let mut ended = states;
        for ((state, abef), cdgh) in ended.iter_mut().zip(abef).zip(cdgh) {
            let ([f, e, b, a], [h, g, d, c]) = (lanes(abef), lanes(cdgh));
            *state = [a, b, c, d, e, f, g, h];
        }
        ended
    }

    /// Four words, the lowest lane first.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn words(w0: u32, w1: u32, w2: u32, w3: u32) -> __m128i {
        _mm_set_epi32(w3.cast_signed(), w2.cast_signed(), w1.cast_signed(), w0.cast_signed())
    }

    /// The four words again.
    #[target_feature(enable = "sse4.1")]
    #[inline]
    fn lanes(of: __m128i) -> [u32; 4] {
        [
            _mm_extract_epi32::<0>(of),
            _mm_extract_epi32::<1>(of),
            _mm_extract_epi32::<2>(of),
            _mm_extract_epi32::<3>(of),
        ]
        .map(i32::cast_unsigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{sha256, sha256_portable};

    /// By the instructions where there are any.
    fn twin() -> TwinHasher {
        TwinHasher::by_instructions().unwrap_or_default()
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn stream_and_chunks_have_the_hashes_that_others_give_them() {
        for (chunk, length) in [
            (64, 0),
            (64, 1),
            (64, 64),
            (128, 1000),
            (4096, 4096 * 3 + 55),
            (512, 512 * 7 + 56),
            (65_536, 300_001),
        ] {
            let data = bytes(length);
            let mut twin = twin();
            for part in data.chunks(chunk) {
                if twin.gives_chunk_hashes() {
                    assert_eq!(twin.update_chunk(part), Some(sha256_portable(part)), "{chunk} of {length}");
                } else {
                    assert_eq!(twin.update_chunk(part), None);
                }
            }
            assert_eq!(twin.finish(), sha256(&data), "{chunk} of {length}");
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_hash_of_the_whole() {
        for length in (0..300).chain([4095, 70_000]) {
            let data = bytes(length);
            for piece in [1, 3, 55, 63, 64, 65, 127, 1000] {
                let mut twin = twin();
                data.chunks(piece).for_each(|part| twin.update(part));
                assert_eq!(twin.finish(), sha256_portable(&data), "{length} by {piece}");
            }
        }
    }

    #[test]
    fn two_streams_take_the_same_bytes_as_each_would_alone() {
        for (first, second, length) in [(0, 0, 4096), (64, 128, 1000), (1, 64, 300), (64, 7, 65_537)] {
            let (mut one, mut two) = (twin(), twin());
            one.update(&bytes(first));
            two.update(&bytes(second));
            one.update_with(&mut two, &bytes(length));
            one.update_with(&mut two, &bytes(65));
            for (twin, before) in [(one, first), (two, second)] {
                let all = [bytes(before), bytes(length), bytes(65)].concat();
                assert_eq!(twin.finish(), sha256_portable(&all), "{length} bytes behind {before}");
            }
        }
    }

    #[test]
    fn a_stream_that_is_off_its_blocks_gives_no_chunk_hashes() {
        let mut twin = twin();
        twin.update(b"abc");
        assert!(!twin.gives_chunk_hashes());
        assert_eq!(twin.update_chunk(&bytes(128)), None);
        assert_eq!(twin.finish(), sha256(&[b"abc".as_slice(), &bytes(128)].concat()));
    }
}

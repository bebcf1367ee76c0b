//! Pages of blocks, and the tokens in them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::snapshot::{BLOCK, Snapshot};
use super::{Fault, Settings};

/// Makes tokens differ.
static COUNTER: AtomicU64 = AtomicU64::new(1 << 40);

/// What a token says: as long as those of AWS, and with every letter that must be escaped in an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) is_page: bool,
    /// The number of its list.
    pub(crate) generation: u32,
    /// Requests for blocks before it was given.
    pub(crate) gets: u64,
    /// Its block, or the first of the page it asks for.
    pub(crate) index: u32,
    /// Of which snapshot.
    pub(crate) snapshot: u32,
}

impl Token {
    fn write(self, to: &mut String) {
        let mut bytes = [0xfb; 48];
        bytes[0] = u8::from(self.is_page);
        bytes[4..8].copy_from_slice(&self.generation.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.gets.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.index.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.snapshot.to_be_bytes());
        let mut letters = [0; 64];
        let written = STANDARD.encode_slice(bytes, &mut letters).unwrap();
        to.push_str(std::str::from_utf8(&letters[..written]).unwrap());
    }

    pub(crate) fn read(text: &str) -> Option<Self> {
        let bytes: [u8; 48] = STANDARD.decode(text).ok()?.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            is_page: bytes[0] == 1,
            generation: word(4),
            gets: u64::from(word(8)) << 32 | u64::from(word(12)),
            index: word(16),
            snapshot: word(20),
        })
    }
}

/// A number for a snapshot's name.
pub(crate) fn number_of(snapshot: &str) -> u32 {
    snapshot.bytes().fold(2_166_136_261, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(16_777_619))
}

/// What is compared, if two are.
pub(crate) struct Asked<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The earlier one of a comparison.
    pub(crate) first: Option<&'a Snapshot>,
    pub(crate) from: u32,
    pub(crate) most: usize,
    pub(crate) generation: u32,
    pub(crate) gets: u64,
}

impl Asked<'_> {
    /// Whether a block belongs in this list.
    fn lists(&self, index: u32) -> bool {
        match self.first {
            None => self.snapshot.is_present(index),
            Some(first) => match (first.block(index), self.snapshot.block(index)) {
                (None, None) => false,
                (Some((_, before)), Some((_, after))) => before != after,
                _ => true,
            },
        }
    }

    fn end(&self) -> u32 {
        self.snapshot.listable().max(self.first.map_or(0, Snapshot::listable))
    }

    fn token(&self, is_page: bool, index: u32, of: &Snapshot) -> Token {
        let (generation, gets) = (self.generation, self.gets);
        Token { is_page, generation, gets, index, snapshot: number_of(&of.id) }
    }

    /// The page as JSON.
    pub(crate) fn page(&self, settings: &Settings, fault: Option<&Fault>) -> String {
        let most = match fault {
            Some(Fault::EmptyPage | Fault::EndlessPages) => 0,
            Some(Fault::ShortPage(most)) => self.most.min(*most),
            _ => self.most,
        };
        let mut indexes = (self.from..self.end()).filter(|&index| self.lists(index));
        let mut page: Vec<i64> = indexes.by_ref().take(most).map(i64::from).collect();
        let next = indexes.next();
        drop(indexes);
        let next = match fault {
            Some(Fault::EmptyPage | Fault::EndlessPages | Fault::Cycle) => Some(self.from),
            _ => next,
        };
        match fault {
            Some(Fault::Descending) => page.reverse(),
            Some(Fault::Duplicate) => page.extend(page.last().copied()),
            Some(Fault::OutOfRange) => page.push(((self.snapshot.gib << 30) / BLOCK as u64 + 5) as i64),
            Some(Fault::Negative) => page.insert(0, -1),
            _ => {}
        }
        let mut json = String::with_capacity(page.len() * 108 + 256);
        json.push_str(if self.first.is_some() { "{\"ChangedBlocks\":[" } else { "{\"Blocks\":[" });
        for (number, &index) in page.iter().enumerate() {
            if number > 0 {
                json.push(',');
            }
            self.entry(&mut json, index, fault);
        }
        let size = match fault {
            Some(Fault::SizeInBytes) => self.snapshot.gib << 30,
            _ => self.snapshot.gib,
        };
        let block = match fault {
            Some(Fault::OtherBlockSize(size)) => *size,
            _ => BLOCK as u64,
        };
        let _ = write!(json, "],\"BlockSize\":{block},\"ExpiryTime\":{}", expiry(settings));
        if let Some(next) = next {
            json.push_str(",\"NextToken\":\"");
            let mut token = self.token(true, next, self.snapshot);
            if matches!(fault, Some(Fault::EndlessPages)) {
                token.gets = COUNTER.fetch_add(1, Ordering::Relaxed);
            }
            token.write(&mut json);
            json.push('"');
        }
        let _ = write!(json, ",\"VolumeSize\":{size}}}");
        json
    }

    fn entry(&self, json: &mut String, index: i64, fault: Option<&Fault>) {
        let _ = write!(json, "{{\"BlockIndex\":{index}");
        let at = u32::try_from(index).unwrap_or(0);
        let mut token = |name: &str, of: &Snapshot| {
            let _ = write!(json, ",\"{name}\":\"");
            if !matches!(fault, Some(Fault::NoToken)) {
                self.token(false, at, of).write(json);
            }
            json.push('"');
        };
        match self.first {
            None => token("BlockToken", self.snapshot),
            Some(first) => {
                if first.is_present(at) {
                    token("FirstBlockToken", first);
                }
                if self.snapshot.is_present(at) {
                    token("SecondBlockToken", self.snapshot);
                }
            }
        }
        json.push('}');
    }
}

/// Seconds since 1970, with three digits after the point as AWS writes them.
#[allow(clippy::disallowed_methods, reason = "a server's own time, nothing of evidence")]
fn expiry(settings: &Settings) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}.000", (now + settings.expires_in).as_secs())
}

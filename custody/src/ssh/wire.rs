//! The binary form of OpenSSH's keys and signatures (RFC 4251 section 5), read with every length checked.

use crate::error::{Error, Result};

/// Reads fields off the front of some bytes.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    /// Fields of `what`, for the words of errors.
    pub(super) fn of(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(Error::malformed(self.what, "it is cut short"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(Error::malformed(self.what, "it is cut short"));
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(super) fn int32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(super) fn int64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes behind their length.
    pub(super) fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.int32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A string that must be UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let what = self.what;
        std::str::from_utf8(self.string()?).map_err(|_| Error::malformed(what, "a text is not UTF-8"))
    }

    /// A positive number of any size, without its leading zero; only the one canonical spelling is taken.
    pub(super) fn positive(&mut self) -> Result<&'a [u8]> {
        let what = self.what;
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            number @ [1..=0x7f, ..] => Ok(number),
            _ => Err(Error::malformed(what, "a number is not positive, or not in the canonical spelling")),
        }
    }

    /// All strings that are left.
    pub(super) fn texts(mut self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        while !self.rest.is_empty() {
            texts.push(self.text()?.to_owned());
        }
        Ok(texts)
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(self) -> Result<()> {
        match self.rest {
            [] => Ok(()),
            _ => Err(Error::malformed(self.what, "bytes follow its end")),
        }
    }
}

/// Writes bytes behind their length.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Several strings, one after the other.
pub(super) fn strings<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        put_string(&mut out, part);
    }
    out
}

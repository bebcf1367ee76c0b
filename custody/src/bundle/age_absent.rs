//! Takes the place of `age_format` in a build without the feature `age`: nothing is encrypted and nothing decrypted.

use std::convert::Infallible;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::sync::Arc;

use super::protection::Unopened;
use super::store::BundleStore;

const ABSENT: &str = "this build has no encryption (feature `age`)";

/// There is none.
#[derive(Clone)]
pub(super) struct Recipient(Infallible);

impl Recipient {
    pub(super) fn parse(_: &str) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }
}

/// There is none.
#[derive(Clone)]
pub(super) struct Identity(Infallible);

impl Identity {
    pub(super) fn parse(_: &str) -> Result<Self, String> {
        Err(ABSENT.to_owned())
    }
}

/// Never made.
pub(super) struct Encrypting<W: Write>(Infallible, PhantomData<W>);

impl<W: Write> Encrypting<W> {
    pub(super) fn begin(recipients: &[Recipient], _: W) -> io::Result<Self> {
        match recipients.first() {
            Some(recipient) => match recipient.0 {},
            None => Err(io::Error::new(io::ErrorKind::Unsupported, ABSENT)),
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self.0 {}
    }
}

impl<W: Write> Write for Encrypting<W> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}

/// Never made.
pub(super) struct Decrypting(Infallible);

impl Decrypting {
    pub(super) fn open(_: &Arc<dyn BundleStore>, _: &str, keys: &[Identity]) -> io::Result<Self> {
        match keys.first() {
            Some(key) => match key.0 {},
            None => Err(Unopened::NoKey.into_io()),
        }
    }

    pub(super) fn length(&self) -> u64 {
        match self.0 {}
    }

    pub(super) fn read_at(&mut self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }
}

//! Tells a caller how far a build is.

/// Silent by default; the command line draws it.
pub trait Progress: Send + Sync {
    /// A step begins; `total` files, where that is known.
    fn started(&self, _what: &str, _total: Option<u64>) {}
    /// So many more files are done.
    fn advanced(&self, _files: u64) {}
    /// The step is done.
    fn finished(&self) {}
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}

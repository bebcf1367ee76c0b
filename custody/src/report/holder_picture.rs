//! The picture of custody: who held what, from the first entry to the last.

use serde::Serialize;

use super::device_picture::{Bar, Key};

/// Who held each exhibit when; times run from left to right over a width of 1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderPicture {
    /// What it shows.
    pub title: String,
    /// The same in words, for those who cannot see it.
    pub words: String,
    /// One row an exhibit.
    pub rows: Vec<HolderRow>,
    /// Days or hours below it.
    pub ticks: Vec<Tick>,
    /// The colours and the holders.
    pub key: Vec<Key>,
}

/// The bars of one exhibit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderRow {
    /// The exhibit.
    pub label: String,
    /// One bar a span of custody, in order, without overlap.
    pub bars: Vec<Bar>,
}

/// A mark of the time axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// Where, of 1000.
    pub x: u64,
    /// The time.
    pub label: String,
}

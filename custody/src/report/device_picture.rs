//! The picture of a stream: which state its bytes are in, from the first to the last.

use serde::Serialize;

use crate::bundle::{Extent, State};

/// Width of the picture in its own units.
const WIDTH: u64 = 1000;

/// The picture of a stream, from its first byte at the left to its last at the right, over a width of 1000.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct DevicePicture {
    /// What it shows.
    pub title: String,
    /// The same in words, for those who cannot see it.
    pub words: String,
    /// The bars in order, without a gap between them.
    pub bars: Vec<Bar>,
    /// The colours.
    pub key: Vec<Key>,
}

/// One bar of a picture.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Bar {
    /// Its left edge, of 1000.
    pub x: u64,
    /// Its width, of 1000.
    pub w: u64,
    /// Its colour, as `#rrggbb`.
    pub fill: &'static str,
}

/// A colour and what it means.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Key {
    /// What it means.
    pub words: String,
    /// The colour, as `#rrggbb`.
    pub fill: &'static str,
}

/// The bars and their key. A state that would be narrower than the eye sees is still drawn one unit wide, and
/// `unreadable` is drawn last, over all others: a lost sector must not vanish in the picture.
pub(super) fn picture(extents: &[Extent], size: u64) -> (Vec<Bar>, Vec<Key>) {
    let mut columns = vec![State::Data; usize::try_from(WIDTH).unwrap_or(0)];
    let mut seen = Vec::new();
    for worst_last in
        [State::Zero, State::Base, State::Data, State::Absent, State::Skipped, State::Unreadable]
    {
        for extent in extents.iter().filter(|extent| extent.state == worst_last && extent.length > 0) {
            if !seen.contains(&worst_last) {
                seen.push(worst_last);
            }
            let (from, to) =
                (place(extent.start, size), place(extent.end(), size).max(place(extent.start, size) + 1));
            for column in columns.iter_mut().take(to).skip(from) {
                *column = worst_last;
            }
        }
    }
    let mut bars: Vec<Bar> = Vec::new();
    let mut x = 0;
    for run in columns.chunk_by(|a, b| a == b) {
        let w = run.len() as u64;
        if let Some(state) = run.first().filter(|_| size > 0) {
            bars.push(Bar { x, w, fill: fill(*state) });
        }
        x += w;
    }
    let key = seen
        .into_iter()
        .map(|state| Key { words: super::completeness::state_words(state).to_owned(), fill: fill(state) })
        .collect();
    (bars, key)
}

fn place(offset: u64, size: u64) -> usize {
    let at = u128::from(offset) * u128::from(WIDTH) / u128::from(size.max(1));
    usize::try_from(at).unwrap_or(usize::MAX)
}

fn fill(state: State) -> &'static str {
    match state {
        State::Data => "#2f5d8a",
        State::Zero => "#e8edf3",
        State::Base => "#9bb7d4",
        State::Absent => "#ffffff",
        State::Skipped => "#d9b45b",
        State::Unreadable => "#a3201b",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, length: u64, state: State) -> Extent {
        Extent { start, length, state, detail: String::new() }
    }

    #[test]
    fn one_lost_sector_in_a_terabyte_is_still_seen() {
        let half = 500_000_000_000;
        let (bars, key) = picture(
            &[
                extent(0, half, State::Data),
                extent(half, 512, State::Unreadable),
                extent(half + 512, half - 512, State::Data),
            ],
            2 * half,
        );
        assert!(bars.contains(&Bar { x: 500, w: 1, fill: "#a3201b" }));
        assert_eq!(bars.iter().map(|bar| bar.w).sum::<u64>(), WIDTH);
        assert_eq!(key.len(), 2);
        assert_eq!(picture(&[], 0).0, []);
    }
}

//! The faces of the PDF: Noto Sans and Noto Sans Mono, part of the program, and the widths of their glyphs.
//!
//! Licence and origin lie beside the files, in `report/fonts/`.

use krilla::text::Font;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use crate::error::{Error, Result};

const REGULAR: &[u8] = include_bytes!("../fonts/NotoSans-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../fonts/NotoSans-Bold.ttf");
const MONO: &[u8] = include_bytes!("../fonts/NotoSansMono-Regular.ttf");

/// Units of an em in all three.
const EM: f32 = 1000.0;

/// A face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    /// For running text.
    Regular,
    /// For weight.
    Bold,
    /// For hashes, paths and commands.
    Mono,
}

/// A glyph: its number in its font, and its width in units of an em.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GlyphOf {
    /// Its number; 0 is no glyph.
    pub(super) id: u16,
    advance: u16,
}

impl GlyphOf {
    /// Its width in ems.
    pub(super) fn advance(self) -> f32 {
        f32::from(self.advance) / EM
    }
}

/// The three faces.
pub(super) struct Fonts {
    regular: Loaded,
    bold: Loaded,
    mono: Loaded,
}

struct Loaded {
    font: Font,
    /// By character, of the first plane; the faces hold none beyond it.
    glyphs: Vec<GlyphOf>,
}

impl Fonts {
    /// The faces, read.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if a font within the program cannot be read.
    pub(super) fn load() -> Result<Self> {
        Ok(Self { regular: Loaded::read(REGULAR)?, bold: Loaded::read(BOLD)?, mono: Loaded::read(MONO)? })
    }

    /// The font of a face.
    pub(super) fn font(&self, face: Face) -> Font {
        self.loaded(face).font.clone()
    }

    /// The glyph of a character in that face.
    pub(super) fn glyph(&self, face: Face, character: char) -> Option<GlyphOf> {
        let at = usize::try_from(u32::from(character)).ok()?;
        self.loaded(face).glyphs.get(at).copied().filter(|glyph| glyph.id != 0)
    }

    /// The face that a character is printed in, where another is wanted: that one, or one that has it, or none.
    pub(super) fn face_for(&self, wanted: Face, character: char) -> Option<Face> {
        [wanted, Face::Regular, Face::Mono].into_iter().find(|face| self.glyph(*face, character).is_some())
    }

    /// How wide a text is in that face at that size.
    pub(super) fn width(&self, face: Face, size: f32, text: &str) -> f32 {
        let glyphs = text.chars().filter_map(|character| self.glyph(face, character));
        let units: u32 = glyphs.map(|glyph| u32::from(glyph.advance)).sum();
        units as f32 * size / EM
    }

    fn loaded(&self, face: Face) -> &Loaded {
        match face {
            Face::Regular => &self.regular,
            Face::Bold => &self.bold,
            Face::Mono => &self.mono,
        }
    }
}

impl Loaded {
    fn read(bytes: &'static [u8]) -> Result<Self> {
        let unreadable = || Error::malformed("font", "one within the program cannot be read");
        let font = Font::new(bytes.into(), 0).ok_or_else(unreadable)?;
        let tables = FontRef::new(bytes).map_err(|_| unreadable())?;
        let metrics = tables.glyph_metrics(Size::unscaled(), LocationRef::default());
        let mut glyphs = vec![GlyphOf::default(); 0x1_0000];
        for (character, glyph) in tables.charmap().mappings() {
            let slot = usize::try_from(character).ok().and_then(|at| glyphs.get_mut(at));
            let id = u16::try_from(glyph.to_u32()).ok();
            if let (Some(slot), Some(id), Some(width)) = (slot, id, metrics.advance_width(glyph)) {
                *slot = GlyphOf { id, advance: width as u16 };
            }
        }
        Ok(Self { font, glyphs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faces_hold_latin_greek_and_cyrillic_and_hashes_are_of_equal_width() {
        let fonts = Fonts::load().unwrap();
        for character in "Aéß€ğŁΩЖ–—“”•…№".chars() {
            for face in [Face::Regular, Face::Bold, Face::Mono] {
                assert!(fonts.glyph(face, character).is_some(), "{character} in {face:?}");
            }
        }
        assert_eq!(fonts.width(Face::Mono, 10.0, "0123"), 24.0);
        assert_eq!(fonts.width(Face::Mono, 10.0, "iiii"), fonts.width(Face::Mono, 10.0, "WWWW"));
        assert_eq!(fonts.face_for(Face::Regular, '→'), Some(Face::Mono));
        assert_eq!(fonts.face_for(Face::Regular, '張'), None);
        assert_eq!(fonts.face_for(Face::Regular, '\u{1F600}'), None);
    }
}

//! Spans of text set into lines of a given width.
//!
//! Every character that is not a space is printed: one without a glyph, or that would act on the text around it (control,
//! direction, joiner), as `[U+202E]`. So text runs from left to right, and what is extracted is what is seen.

use super::fonts::{Face, Fonts};
use crate::report::document::{Span, Style};

/// A colour: red, green, blue.
pub(super) type Ink = [u8; 3];

pub(super) const BLACK: Ink = [0x1b, 0x1f, 0x24];
pub(super) const GREY: Ink = [0x5b, 0x64, 0x70];
pub(super) const PALE: Ink = [0xd5, 0xda, 0xe0];
pub(super) const TINT: Ink = [0xf3, 0xf5, 0xf8];
pub(super) const BLUE: Ink = [0x1f, 0x4e, 0x79];
pub(super) const GREEN: Ink = [0x1e, 0x6b, 0x3a];
pub(super) const AMBER: Ink = [0x8a, 0x5a, 0x00];
pub(super) const RED: Ink = [0xa3, 0x20, 0x1b];

/// How a run of glyphs looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) face: Face,
    pub(super) size: f32,
    pub(super) ink: Ink,
}

/// How a block of text is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// Of its plain text.
    pub(super) look: Look,
    /// From one line to the next.
    pub(super) leading: f32,
    /// Spaces are kept as they are, and lines are broken wherever they are full: commands.
    pub(super) verbatim: bool,
    /// No line is broken at a space: times.
    pub(super) whole: bool,
}

impl Setting {
    pub(super) const fn new(face: Face, size: f32, leading: f32, ink: Ink) -> Self {
        Self { look: Look { face, size, ink }, leading, verbatim: false, whole: false }
    }

    /// Where the first line's foot stands below its top.
    pub(super) fn baseline(&self) -> f32 {
        self.leading * 0.5 + self.look.size * 0.36
    }

    fn of(&self, style: Style) -> Look {
        let look = self.look;
        match style {
            Style::Plain => look,
            Style::Strong => Look { face: Face::Bold, ..look },
            Style::Mono => Look { face: Face::Mono, size: look.size * 0.93, ..look },
            Style::Soft => Look { size: look.size * 0.86, ink: GREY, ..look },
            Style::Bad => Look { face: Face::Bold, ink: RED, ..look },
            Style::NoRecord => Look { face: Face::Bold, size: look.size * 0.9, ink: AMBER },
        }
    }
}

/// Glyphs of one look in a line.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// From the line's left edge.
    pub(super) x: f32,
    pub(super) text: String,
    pub(super) look: Look,
}

/// A line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pub(super) runs: Vec<Run>,
    /// Without a space at its end.
    pub(super) width: f32,
    /// It goes on with what did not fit on the line before.
    pub(super) goes_on: bool,
}

impl Line {
    /// Its text.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        self.runs.iter().map(|run| run.text.as_str()).collect()
    }
}

/// A part of a word in one look.
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) look: Look,
}

/// A word, which has no space in it, spaces, or the end of a line.
pub(super) enum Atom {
    Word(Vec<Piece>),
    Space(usize, Look),
    LineEnd,
}

/// A text for the file's own data: what does not print is named as on the page, and it is cut to so many characters.
pub(super) fn named(text: &str, most: usize) -> String {
    let mut named = String::new();
    for character in text.chars().take(most) {
        match character {
            '\n' | '\t' => named.push(' '),
            _ if prints(character) => named.push(character),
            _ => named.push_str(&format!("[U+{:04X}]", u32::from(character))),
        }
    }
    named
}

/// The words of these spans.
pub(super) fn atoms(fonts: &Fonts, spans: &[Span], setting: &Setting) -> Vec<Atom> {
    let mut atoms = Vec::new();
    let mut word: Vec<Piece> = Vec::new();
    for span in spans {
        let look = setting.of(span.style);
        // A citation such as `[case 7]` stays in one piece, and so does `NO RECORD`.
        let short = span.text.trim().len() < 32;
        let whole = setting.whole || (matches!(span.style, Style::Soft | Style::NoRecord) && short);
        let mut inside = span.style == Style::NoRecord;
        for character in span.text.chars() {
            inside |= character == '[';
            let blank = matches!(character, ' ' | '\t' | '\u{a0}');
            if character == '\n' {
                end_word(&mut atoms, &mut word);
                atoms.push(Atom::LineEnd);
            } else if blank && !(whole && (inside || setting.whole)) {
                end_word(&mut atoms, &mut word);
                let wide = if character == '\t' && setting.verbatim { 4 } else { 1 };
                match atoms.last_mut() {
                    Some(Atom::Space(count, _)) => *count += wide,
                    _ => atoms.push(Atom::Space(wide, look)),
                }
            } else {
                let shown = if blank { ' ' } else { character };
                match fonts.face_for(look.face, shown).filter(|_| prints(shown)) {
                    Some(face) => add(&mut word, shown, Look { face, ..look }),
                    None => {
                        for shown in format!("[U+{:04X}]", u32::from(character)).chars() {
                            add(&mut word, shown, look);
                        }
                    }
                }
            }
        }
    }
    end_word(&mut atoms, &mut word);
    atoms
}

/// Whether a character prints as itself, and does nothing to the text around it.
fn prints(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}')
}

fn add(word: &mut Vec<Piece>, character: char, look: Look) {
    match word.last_mut() {
        Some(piece) if piece.look == look => piece.text.push(character),
        _ => word.push(Piece { text: character.to_string(), look }),
    }
}

fn end_word(atoms: &mut Vec<Atom>, word: &mut Vec<Piece>) {
    if !word.is_empty() {
        atoms.push(Atom::Word(std::mem::take(word)));
    }
}

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

struct Piece {
    text: String,
    look: Look,
}

enum Atom {
    Word(Vec<Piece>),
    Space(usize, Look),
    LineEnd,
}

/// The lines of these spans. At least one, and none wider than asked for, unless one glyph is.
pub(super) fn lines(fonts: &Fonts, spans: &[Span], setting: &Setting, width: f32) -> Vec<Line> {
    let mut composer = Composer {
        fonts,
        width,
        verbatim: setting.verbatim,
        lines: Vec::new(),
        line: Line::default(),
        space: None,
        hard: true,
    };
    for atom in atoms(fonts, spans, setting) {
        match atom {
            Atom::Word(pieces) => composer.word(pieces),
            Atom::Space(count, look) => composer.space = Some((count, look)),
            Atom::LineEnd => {
                composer.space = None;
                composer.end_line();
                composer.line.goes_on = false;
                composer.hard = true;
            }
        }
    }
    composer.end_line();
    composer.lines
}

/// One line of plain text, cut with an ellipsis where it is wider.
pub(super) fn cut_to(fonts: &Fonts, text: &str, setting: &Setting, width: f32) -> Line {
    let set = |text: &str| lines(fonts, &[Span::plain(text)], &Setting { whole: true, ..*setting }, f32::MAX);
    let mut characters: Vec<char> = text.chars().take(1000).collect();
    let mut line = set(&characters.iter().collect::<String>()).into_iter().next().unwrap_or_default();
    while line.width > width && !characters.is_empty() {
        characters.truncate(characters.len() - 1);
        let shorter: String = characters.iter().chain(std::iter::once(&'…')).collect();
        line = set(&shorter).into_iter().next().unwrap_or_default();
    }
    line
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

fn atoms(fonts: &Fonts, spans: &[Span], setting: &Setting) -> Vec<Atom> {
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

struct Composer<'f> {
    fonts: &'f Fonts,
    width: f32,
    verbatim: bool,
    lines: Vec<Line>,
    line: Line,
    space: Option<(usize, Look)>,
    /// The line begins where the text has a line end, not where it was broken.
    hard: bool,
}

impl Composer<'_> {
    fn word(&mut self, pieces: Vec<Piece>) {
        let wide: f32 = pieces.iter().map(|piece| self.wide(&piece.look, &piece.text)).sum();
        let gap = self.space.as_ref().map_or(0.0, |(count, look)| self.blank(*count, look));
        let full = self.line.width + gap + wide > self.width;
        let long = wide > self.width;
        // A long hash or path begins on the line it would stand on, if a good part of it fits there.
        let begins_here = long && self.width - self.line.width - gap > 0.4 * self.width;
        if full && !self.line.runs.is_empty() && !begins_here {
            self.soft_break();
        } else if let Some((count, look)) = self.space.take() {
            let indent = self.line.runs.is_empty();
            if !indent || (self.hard && self.verbatim) {
                let count = if self.verbatim { count } else { 1 };
                self.put(" ".repeat(count), look);
            }
        }
        self.space = None;
        for piece in pieces {
            self.piece(piece);
        }
    }

    fn piece(&mut self, piece: Piece) {
        let mut rest: Vec<char> = piece.text.chars().collect();
        loop {
            let text: String = rest.iter().collect();
            if self.line.width + self.wide(&piece.look, &text) <= self.width {
                if !text.is_empty() {
                    self.put(text, piece.look);
                }
                return;
            }
            let fits = self.fitting(&rest, &piece.look);
            let cut = if fits == 0 && self.line.runs.is_empty() { 1 } else { fits };
            let tail = rest.split_off(cut.min(rest.len()));
            if !rest.is_empty() {
                self.put(rest.iter().collect(), piece.look);
            }
            rest = tail;
            if rest.is_empty() {
                return;
            }
            self.end_line();
        }
    }

    /// How many of the characters go on this line: hashes in groups of 32, 16 or 8, paths after a sign that parts them.
    fn fitting(&self, rest: &[char], look: &Look) -> usize {
        let mut x = self.line.width;
        let mut most = 0;
        for character in rest {
            x += self.fonts.glyph(look.face, *character).map_or(0.0, |glyph| glyph.advance() * look.size);
            if x > self.width {
                break;
            }
            most += 1;
        }
        let is_hash = rest.len() >= 16 && rest.iter().all(char::is_ascii_hexdigit);
        if is_hash && let Some(group) = [32, 16, 8].into_iter().find(|group| most >= *group) {
            return most - most % group;
        }
        let parts = rest.iter().take(most).rposition(|character| "/\\-_.,:;=&?@+|)]}".contains(*character));
        match parts {
            Some(at) if 2 * (at + 1) >= most => at + 1,
            _ => most,
        }
    }

    fn put(&mut self, text: String, look: Look) {
        let wide = self.wide(&look, &text);
        match self.line.runs.last_mut() {
            Some(run) if run.look == look => run.text.push_str(&text),
            _ => self.line.runs.push(Run { x: self.line.width, text, look }),
        }
        self.line.width += wide;
    }

    /// Ends the line where the text has a space: it stays in the text, so that words stay apart when it is extracted.
    fn soft_break(&mut self) {
        if self.space.is_some()
            && let Some(run) = self.line.runs.last_mut()
        {
            run.text.push(' ');
        }
        self.end_line();
    }

    fn end_line(&mut self) {
        let next = Line { goes_on: true, ..Line::default() };
        self.lines.push(std::mem::replace(&mut self.line, next));
        self.hard = false;
    }

    fn wide(&self, look: &Look, text: &str) -> f32 {
        self.fonts.width(look.face, look.size, text)
    }

    fn blank(&self, count: usize, look: &Look) -> f32 {
        let one = self.wide(look, " ");
        if self.verbatim { one * count as f32 } else { one }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Setting = Setting::new(Face::Regular, 10.0, 14.0, BLACK);

    fn set(spans: &[Span], setting: &Setting, width: f32) -> Vec<String> {
        let fonts = Fonts::load().unwrap();
        let lines = lines(&fonts, spans, setting, width);
        assert!(lines.iter().all(|line| line.width <= width), "{lines:?}");
        lines.iter().map(Line::text).collect()
    }

    #[test]
    fn lines_are_broken_at_spaces_which_stay_in_the_text() {
        let lines = set(&[Span::plain("one two three four five six seven")], &BODY, 80.0);
        assert!(lines.len() > 2);
        assert_eq!(lines.concat(), "one two three four five six seven");
        assert_eq!(set(&[Span::plain("")], &BODY, 80.0), [""]);
    }

    #[test]
    fn a_hash_that_fits_is_not_broken_and_one_that_does_not_is_broken_in_eights() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(set(&[Span::mono(hash.clone())], &BODY, 400.0).concat(), hash);
        assert_eq!(set(&[Span::mono(hash.clone())], &BODY, 400.0).len(), 1);
        let broken = set(&[Span::plain("is "), Span::mono(hash.clone())], &BODY, 200.0);
        assert_eq!(broken.concat(), format!("is {hash}"));
        assert_eq!(broken.iter().map(|line| line.trim().len()).collect::<Vec<_>>(), [2, 32, 32]);
    }

    #[test]
    fn a_citation_is_never_broken() {
        let spans = [Span::plain("It was sealed "), Span::new("[case 123456]", Style::Soft)];
        let fonts = Fonts::load().unwrap();
        for width in 60..200 {
            let lines = lines(&fonts, &spans, &BODY, width as f32);
            assert!(lines.iter().any(|line| line.text().contains("[case 123456]")), "{lines:?}");
        }
    }

    #[test]
    fn characters_that_cannot_be_printed_are_named_and_never_dropped() {
        let lines =
            set(&[Span::plain("a\u{202e}b\u{0}c\u{feff}d 張 \u{1F600}\u{e000}\u{ad}")], &BODY, 1000.0);
        assert_eq!(lines, ["a[U+202E]b[U+0000]c[U+FEFF]d [U+5F35] [U+1F600][U+E000][U+00AD]"]);
    }

    #[test]
    fn a_command_keeps_its_spaces_and_line_ends() {
        let setting = Setting { verbatim: true, ..Setting::new(Face::Mono, 8.0, 11.0, BLACK) };
        let lines = set(&[Span::plain("for x in y:\n    print(x)\n\nend")], &setting, 400.0);
        assert_eq!(lines, ["for x in y:", "    print(x)", "", "end"]);
    }

    #[test]
    fn a_width_of_nothing_still_prints_everything() {
        let fonts = Fonts::load().unwrap();
        let lines = lines(&fonts, &[Span::plain("abc de")], &BODY, 0.0);
        assert_eq!(lines.iter().map(Line::text).collect::<String>().replace(' ', ""), "abcde");
        assert!(cut_to(&fonts, &"wide ".repeat(100), &BODY, 50.0).text().ends_with('…'));
    }
}

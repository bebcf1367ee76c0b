//! Words set into lines: where lines are broken, and where long words are.

use super::fonts::Fonts;
use super::text::{Atom, Line, Look, Piece, Run, Setting, atoms};
use crate::report::document::Span;

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
    use super::super::fonts::Face;
    use super::super::text::BLACK;
    use super::*;
    use crate::report::document::Style;

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
    fn a_hash_that_fits_is_not_broken_and_one_that_does_not_is_broken_in_halves() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(set(&[Span::mono(hash.clone())], &BODY, 400.0).concat(), hash);
        assert_eq!(set(&[Span::mono(hash.clone())], &BODY, 400.0).len(), 1);
        let broken = set(&[Span::plain("is "), Span::mono(hash.clone())], &BODY, 200.0);
        assert_eq!(broken.concat(), format!("is {hash}"));
        assert_eq!(broken.iter().map(|line| line.trim().len()).collect::<Vec<_>>(), [35, 32]);
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

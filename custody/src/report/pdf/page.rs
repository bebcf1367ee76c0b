//! Pages as they are filled: a cursor that runs down, marks of structure, and what is to be drawn where.

use super::fonts::Fonts;
use super::text::{Ink, Line, Run, Setting};

/// A4, in points.
pub(super) const WIDTH: f32 = 595.276;
pub(super) const HEIGHT: f32 = 841.89;
/// Of the text.
pub(super) const LEFT: f32 = 56.0;
pub(super) const RIGHT: f32 = WIDTH - 56.0;
pub(super) const TOP: f32 = 54.0;
pub(super) const BOTTOM: f32 = HEIGHT - 66.0;
pub(super) const MEASURE: f32 = RIGHT - LEFT;

/// A mark of structure, for those who cannot see the page.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// The document's title.
    Title,
    /// A part of the document.
    Section,
    /// A heading: its level, its text.
    Heading(u16, String),
    Paragraph,
    /// What belongs together without being more than that.
    Group,
    List,
    Item,
    ItemSign,
    ItemBody,
    /// A table: what it lists.
    Table(String),
    Caption,
    TableHead,
    TableBody,
    Row,
    ColumnHead,
    RowHead,
    Cell,
    /// A picture: the same in words.
    Figure(String),
    /// A command or an output: its text without the line ends of the page.
    Code(String),
    Contents,
    ContentsItem,
    /// A link within the document.
    Link(Link),
    /// Of the page, not of the document: a table's head that is repeated.
    Aside,
}

/// A link to a part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Link {
    /// Index of the part.
    pub(super) part: usize,
    pub(super) words: String,
    /// Left, top, width, height.
    pub(super) area: [f32; 4],
}

/// What is drawn, or where structure begins and ends. A page's are in reading order.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Open(Mark),
    Close,
    /// A run whose line begins at `x`, on the base line `y`.
    Text {
        x: f32,
        y: f32,
        run: Run,
    },
    /// Rectangles, each left, top, width, height.
    Fill {
        boxes: Vec<[f32; 4]>,
        ink: Ink,
    },
}

/// Where a part begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index of the page.
    pub(super) page: usize,
    pub(super) y: f32,
}

/// The pages, and where the next thing goes.
pub(super) struct Book<'f> {
    pub(super) fonts: &'f Fonts,
    pub(super) pages: Vec<Vec<Op>>,
    pub(super) y: f32,
    /// Where each part begins.
    pub(super) parts: Vec<Place>,
    /// A line of a command was broken, and so there is a mark to explain.
    pub(super) bent: bool,
}

impl<'f> Book<'f> {
    pub(super) fn new(fonts: &'f Fonts) -> Self {
        Self { fonts, pages: vec![Vec::new()], y: TOP, parts: Vec::new(), bent: false }
    }

    /// Where the cursor is.
    pub(super) fn place(&self) -> Place {
        Place { page: self.pages.len() - 1, y: self.y }
    }

    pub(super) fn new_page(&mut self) {
        self.pages.push(Vec::new());
        self.y = TOP;
    }

    pub(super) fn at_top(&self) -> bool {
        self.y <= TOP
    }

    /// Room left on the page.
    pub(super) fn room(&self) -> f32 {
        BOTTOM - self.y
    }

    /// Goes to a new page unless so much fits on this one, or this one is new. True if it went.
    pub(super) fn need(&mut self, height: f32) -> bool {
        let goes = height > self.room() && !self.at_top();
        if goes {
            self.new_page();
        }
        goes
    }

    /// Space between blocks; none at the top of a page.
    pub(super) fn gap(&mut self, height: f32) {
        if !self.at_top() {
            self.y += height;
        }
    }

    pub(super) fn push(&mut self, op: Op) {
        if let Some(page) = self.pages.last_mut() {
            page.push(op);
        }
    }

    pub(super) fn open(&mut self, mark: Mark) {
        self.push(Op::Open(mark));
    }

    pub(super) fn close(&mut self) {
        self.push(Op::Close);
    }

    /// What `inside` draws stands under this mark.
    pub(super) fn marked(&mut self, mark: Mark, inside: impl FnOnce(&mut Self)) {
        self.open(mark);
        inside(self);
        self.close();
    }

    pub(super) fn fill(&mut self, area: [f32; 4], ink: Ink) {
        self.push(Op::Fill { boxes: vec![area], ink });
    }

    /// A thin line from left to right.
    pub(super) fn rule(&mut self, x: f32, y: f32, width: f32, ink: Ink) {
        self.fill([x, y, width, 0.5], ink);
    }

    /// Draws a line whose top is at `top`.
    pub(super) fn line_at(&mut self, x: f32, top: f32, line: Line, setting: &Setting) {
        let y = top + setting.baseline();
        for run in line.runs {
            self.push(Op::Text { x: x + run.x, y, run });
        }
    }

    /// Lines below each other, over as many pages as they need; never one alone at the foot or head of a page.
    pub(super) fn flow(&mut self, x: f32, lines: Vec<Line>, setting: &Setting) {
        let mut left = lines.len();
        let mut here = self.fitting(left, setting);
        for line in lines {
            if here == 0 {
                self.new_page();
                here = self.fitting(left, setting);
            }
            self.line_at(x, self.y, line, setting);
            self.y += setting.leading;
            here = here.saturating_sub(1);
            left = left.saturating_sub(1);
        }
    }

    /// How many of the lines still to come go on this page.
    fn fitting(&self, left: usize, setting: &Setting) -> usize {
        let fits = (self.room() / setting.leading).max(0.0) as usize;
        let fits = if self.at_top() { fits.max(1) } else { fits };
        match (fits, left) {
            _ if fits >= left => left,
            _ if self.at_top() => fits,
            // Two here and two there at least.
            (0 | 1, _) | (_, 0..=3) => 0,
            _ => fits.min(left - 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fonts::Face;
    use super::super::lines::lines;
    use super::super::text::BLACK;
    use super::*;
    use crate::report::document::Span;

    const BODY: Setting = Setting::new(Face::Regular, 10.0, 14.0, BLACK);

    fn lines_on_each_page(from: f32, count: usize) -> Vec<usize> {
        let fonts = Fonts::load().unwrap();
        let mut book = Book::new(&fonts);
        book.y = from;
        let text = vec!["x"; count].join("\n");
        let lines = lines(&fonts, &[Span::plain(text)], &BODY, 100.0);
        book.flow(LEFT, lines, &BODY);
        book.pages.iter().map(Vec::len).collect()
    }

    #[test]
    fn no_line_stands_alone_at_the_foot_or_head_of_a_page() {
        assert_eq!(lines_on_each_page(TOP, 3), [3]);
        assert_eq!(lines_on_each_page(BOTTOM - 14.0, 5), [0, 5]);
        assert_eq!(lines_on_each_page(BOTTOM - 29.0, 5), [2, 3]);
        assert_eq!(lines_on_each_page(BOTTOM - 4.0 * 14.0 - 1.0, 5), [3, 2]);
        assert_eq!(lines_on_each_page(BOTTOM - 29.0, 3), [0, 3]);
        let per_page = ((BOTTOM - TOP) / 14.0) as usize;
        assert_eq!(lines_on_each_page(TOP, 2 * per_page + 1), [per_page, per_page, 1]);
    }
}

//! The table of contents: kept free while pages are laid out, filled in when each part has its page.

use super::fonts::Face;
use super::lines::cut_to;
use super::page::{BOTTOM, Book, LEFT, Link, MEASURE, Mark, RIGHT, TOP};
use super::text::{BLACK, BLUE, GREY, Line, PALE, Setting};
use crate::report::document::Part;

const HEADING: Setting = Setting::new(Face::Bold, 11.0, 17.0, BLACK);
const ENTRY: Setting = Setting::new(Face::Regular, 9.6, 16.4, BLACK);
const NUMBER: Setting = Setting::new(Face::Bold, 9.6, 16.4, BLUE);
const PAGE: Setting = Setting::new(Face::Regular, 9.6, 16.4, GREY);
const INDENT: f32 = 22.0;

/// Room kept for the table of contents.
pub(super) struct Kept {
    page: usize,
    /// How many operations the page has before it.
    at: usize,
    y: f32,
}

/// Keeps room for it, here or on the next page.
pub(super) fn keep(book: &mut Book<'_>, parts: &[Part]) -> Kept {
    let tall = HEADING.leading + shown(parts).len() as f32 * ENTRY.leading + 6.0;
    book.gap(16.0);
    book.need(tall);
    let place = book.place();
    let kept = Kept { page: place.page, at: book.pages.last().map_or(0, Vec::len), y: place.y };
    book.y += tall;
    kept
}

/// Fills the room that was kept, now that each part has its page.
pub(super) fn fill(book: &mut Book<'_>, kept: &Kept, parts: &[Part]) {
    let mut draft = Book::new(book.fonts);
    draft.y = kept.y;
    let heading = cut_to(book.fonts, "Contents", &HEADING, MEASURE);
    draft.open(Mark::Group);
    draft.marked(Mark::Heading(1, "Contents".to_owned()), |book| {
        book.line_at(LEFT, book.y, heading, &HEADING);
    });
    draft.y += HEADING.leading;
    draft.open(Mark::Contents);
    for (at, part) in shown(parts).iter().enumerate() {
        let page = book.parts.get(at).map_or(0, |place| place.page) + 1;
        let words = format!("{}, page {page}", part.title);
        let area = [LEFT, draft.y, MEASURE, ENTRY.leading];
        draft.open(Mark::ContentsItem);
        draft.marked(Mark::Link(Link { part: at, words, area }), |draft| entry(draft, part, page));
        draft.close();
        draft.rule(LEFT, draft.y + ENTRY.leading - 1.0, MEASURE, PALE);
        draft.y += ENTRY.leading;
    }
    draft.close();
    draft.close();
    let operations = draft.pages.into_iter().flatten();
    if let Some(page) = book.pages.get_mut(kept.page) {
        let at = kept.at.min(page.len());
        page.splice(at..at, operations);
    }
}

fn entry(draft: &mut Book<'_>, part: &Part, page: usize) {
    // Spaces at the ends keep the three apart when they are extracted.
    let number = cut_to(draft.fonts, &format!("{} ", part.number), &NUMBER, INDENT);
    let title = cut_to(draft.fonts, &format!("{} ", part.title), &ENTRY, MEASURE - INDENT - 40.0);
    let page = cut_to(draft.fonts, &page.to_string(), &PAGE, 40.0);
    let right = RIGHT - page.width;
    let set: [(f32, Line, &Setting); 3] =
        [(LEFT, number, &NUMBER), (LEFT + INDENT, title, &ENTRY), (right, page, &PAGE)];
    for (x, line, setting) in set {
        draft.line_at(x, draft.y, line, setting);
    }
}

/// As many as stand on one page; the outline has them all.
fn shown(parts: &[Part]) -> &[Part] {
    let most = ((BOTTOM - TOP - HEADING.leading - 6.0) / ENTRY.leading) as usize;
    parts.get(..most.min(parts.len())).unwrap_or_default()
}

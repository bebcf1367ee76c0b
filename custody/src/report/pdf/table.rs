//! Tables and lists of facts: widths of columns, rows over pages, heads that come again.

use super::blocks::TABLE;
use super::columns::widths;
use super::fonts::{Face, Fonts};
use super::lines::lines;
use super::page::{BOTTOM, Book, LEFT, MEASURE, Mark, TOP};
use super::text::{AMBER, BLUE, GREEN, GREY, Ink, Line, PALE, RED, Setting, TINT};
use crate::report::document::{Column, ColumnKind, Fact, Row, Span, Style, Table, Tone};

/// Around the text of a cell.
pub(super) const PAD_X: f32 = 4.0;
const PAD_Y: f32 = 2.6;
/// Width of the labels of facts.
const LABEL: f32 = 128.0;

pub(super) const HEAD: Setting = Setting::new(Face::Bold, 7.6, 10.2, GREY);
const FACT: Setting = Setting::new(Face::Regular, 9.2, 12.6, super::text::BLACK);
const FACT_LABEL: Setting = Setting::new(Face::Regular, 8.6, 12.6, GREY);
const CAPTION: Setting = Setting::new(Face::Bold, 8.8, 12.4, BLUE);

/// A cell, set.
struct Cell {
    x: f32,
    width: f32,
    lines: Vec<Line>,
    setting: Setting,
    mark: Mark,
    right: bool,
}

/// What a row stands on.
struct Ground {
    tint: Option<Ink>,
    bar: Option<Ink>,
    rule: Ink,
}

/// A table; nothing if it has no columns.
pub(super) fn table(book: &mut Book<'_>, table: &Table) {
    if table.columns.is_empty() {
        return;
    }
    let fonts = book.fonts;
    let places = places(fonts, table);
    book.need(least(fonts, table).min(BOTTOM - TOP));
    let caption = lines(fonts, &[Span::plain(table.caption.clone())], &CAPTION, MEASURE);
    let caption = if table.caption.is_empty() { Vec::new() } else { caption };
    book.marked(Mark::Table(table.caption.clone()), |book| {
        if !caption.is_empty() {
            book.marked(Mark::Caption, |book| book.flow(LEFT, caption, &CAPTION));
            book.y += 1.5;
        }
        let draw_head = |book: &mut Book<'_>| {
            let ground = Ground { tint: Some(TINT), bar: None, rule: GREY };
            row(book, heads(fonts, &table.columns, &places), &ground, &mut |_| {});
        };
        book.marked(Mark::TableHead, draw_head);
        book.open(Mark::TableBody);
        for each in &table.rows {
            let cells = cells(fonts, &table.columns, &places, each);
            row(book, cells, &ground(each.tone), &mut |book| book.marked(Mark::Aside, draw_head));
        }
        book.close();
    });
}

/// Room that a table needs to begin: its caption, its head, its first row.
pub(super) fn least(fonts: &Fonts, table: &Table) -> f32 {
    let places = places(fonts, table);
    let caption = lines(fonts, &[Span::plain(table.caption.clone())], &CAPTION, MEASURE).len();
    let first = table.rows.first().map_or(0.0, |row| height(&cells(fonts, &table.columns, &places, row)));
    caption as f32 * CAPTION.leading + height(&heads(fonts, &table.columns, &places)) + first + 2.0 * PAD_Y
}

/// Left edge and width of each column.
fn places(fonts: &Fonts, table: &Table) -> Vec<(f32, f32)> {
    let mut x = LEFT;
    let place = |width| {
        let place = (x, width);
        x += width;
        place
    };
    widths(fonts, table).into_iter().map(place).collect()
}

/// Facts: what it is, the fact, the entries that say it.
pub(super) fn facts(book: &mut Book<'_>, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    let places = [(LEFT, LABEL), (LEFT + LABEL, MEASURE - LABEL)];
    let [(label_x, label_width), (x, width)] = places;
    book.open(Mark::Table(String::new()));
    for fact in facts {
        let mut value = fact.value.clone();
        for cite in &fact.cites {
            value.push(Span::plain(" "));
            value.push(cite.span());
        }
        let label = [Span::plain(fact.label.clone())];
        let cells = vec![
            Cell {
                x: label_x,
                width: label_width,
                lines: lines(book.fonts, &label, &FACT_LABEL, label_width - 2.0 * PAD_X),
                setting: FACT_LABEL,
                mark: Mark::RowHead,
                right: false,
            },
            Cell {
                x,
                width,
                lines: lines(book.fonts, &value, &FACT, width - 2.0 * PAD_X),
                setting: FACT,
                mark: Mark::Cell,
                right: false,
            },
        ];
        row(book, cells, &Ground { tint: None, bar: None, rule: PALE }, &mut |_| {});
    }
    book.close();
}

fn ground(tone: Tone) -> Ground {
    let (tint, bar) = match tone {
        Tone::Plain => (None, None),
        Tone::Good => (None, Some(GREEN)),
        Tone::Warn => (Some([0xfd, 0xf6, 0xe6]), Some(AMBER)),
        Tone::Bad => (Some([0xfb, 0xea, 0xe9]), Some(RED)),
    };
    Ground { tint, bar, rule: PALE }
}

fn heads(fonts: &Fonts, columns: &[Column], places: &[(f32, f32)]) -> Vec<Cell> {
    let head = |(column, (x, width)): (&Column, &(f32, f32))| Cell {
        x: *x,
        width: *width,
        lines: lines(fonts, &[Span::plain(column.title.clone())], &HEAD, width - 2.0 * PAD_X),
        setting: HEAD,
        mark: Mark::ColumnHead,
        right: column.kind == ColumnKind::Number,
    };
    columns.iter().zip(places).map(head).collect()
}

fn cells(fonts: &Fonts, columns: &[Column], places: &[(f32, f32)], row: &Row) -> Vec<Cell> {
    let none: &[Span] = &[];
    let texts = row.cells.iter().map(Vec::as_slice).chain(std::iter::repeat(none));
    let cell = |((column, (x, width)), spans): ((&Column, &(f32, f32)), &[Span])| {
        let (setting, room) = (setting(column.kind), width - 2.0 * PAD_X);
        let spans = spans_of(column.kind, spans);
        let mut set = lines(fonts, &spans, &setting, room);
        if setting.whole && set.len() > 1 {
            set = lines(fonts, &spans, &Setting { whole: false, ..setting }, room);
        }
        let right = column.kind == ColumnKind::Number;
        Cell { x: *x, width: *width, lines: set, setting, mark: Mark::Cell, right }
    };
    columns.iter().zip(places).zip(texts).map(cell).collect()
}

/// How the cells of a column are set.
pub(super) fn setting(kind: ColumnKind) -> Setting {
    Setting { whole: matches!(kind, ColumnKind::Time | ColumnKind::Number), ..TABLE }
}

/// What a column of hashes holds is set in mono, whether the cell says so or not.
pub(super) fn spans_of(kind: ColumnKind, spans: &[Span]) -> Vec<Span> {
    let style = |style| if kind == ColumnKind::Hash && style == Style::Plain { Style::Mono } else { style };
    spans.iter().map(|span| Span::new(span.text.clone(), style(span.style))).collect()
}

/// How high a row is.
fn height(cells: &[Cell]) -> f32 {
    let tallest = cells.iter().map(|cell| cell.lines.len() as f32 * cell.setting.leading);
    tallest.fold(0.0, f32::max) + 2.0 * PAD_Y
}

/// A row: whole on this page or the next; only one that is higher than a page is cut.
fn row(book: &mut Book<'_>, mut cells: Vec<Cell>, ground: &Ground, head: &mut dyn FnMut(&mut Book<'_>)) {
    let tall = height(&cells);
    if tall > book.room() && !book.at_top() && tall <= BOTTOM - TOP - 40.0 {
        book.new_page();
        head(book);
    }
    loop {
        let leading = cells.iter().map(|cell| cell.setting.leading).fold(1.0, f32::max);
        let rest: usize = cells.iter().map(|cell| cell.lines.len()).max().unwrap_or(0);
        let fits = ((book.room() - 2.0 * PAD_Y) / leading).max(0.0) as usize;
        if fits < rest.min(2) && !book.at_top() {
            book.new_page();
            head(book);
            // A head that leaves no room would come for ever.
            if book.room() < 3.0 * leading + 2.0 * PAD_Y {
                book.new_page();
            }
            continue;
        }
        let here = fits.max(1).min(rest);
        piece_of_row(book, &mut cells, here, ground);
        if here >= rest {
            return;
        }
    }
}

/// The next lines of each cell.
fn piece_of_row(book: &mut Book<'_>, cells: &mut [Cell], count: usize, ground: &Ground) {
    let shown = cells.iter().map(|cell| cell.lines.len().min(count) as f32 * cell.setting.leading);
    let tall = shown.fold(0.0, f32::max) + 2.0 * PAD_Y;
    let (top, left) = (book.y, cells.first().map_or(LEFT, |cell| cell.x));
    let width: f32 = cells.iter().map(|cell| cell.width).sum();
    if let Some(tint) = ground.tint {
        book.fill([left, top, width, tall], tint);
    }
    if let Some(bar) = ground.bar {
        book.fill([left, top, 2.0, tall], bar);
    }
    book.marked(Mark::Row, |book| {
        for cell in cells {
            let rest = cell.lines.split_off(cell.lines.len().min(count));
            let lines = std::mem::replace(&mut cell.lines, rest);
            let mut y = top + PAD_Y;
            let (x, room) = (cell.x + PAD_X, cell.width - 2.0 * PAD_X);
            book.marked(cell.mark.clone(), |book| {
                for line in lines {
                    let x = if cell.right { x + (room - line.width).max(0.0) } else { x };
                    book.line_at(x, y, line, &cell.setting);
                    y += cell.setting.leading;
                }
            });
        }
    });
    book.y = top + tall;
    book.rule(left, book.y - 0.25, width, ground.rule);
}

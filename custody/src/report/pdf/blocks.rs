//! Blocks laid out on pages, one kind each.

use super::fonts::{Face, Fonts};
use super::lines::lines;
use super::page::{BOTTOM, Book, LEFT, MEASURE, Mark, RIGHT, TOP};
use super::text::{AMBER, BLACK, BLUE, GREEN, GREY, Ink, Line, PALE, RED, Setting, TINT};
use super::{picture, table};
use crate::report::document::{Block, Document, Part, Span, Tone};

/// Text of tables; also the smallest text there is to read.
pub(super) const TABLE: Setting = Setting::new(Face::Regular, 7.9, 10.4, BLACK);

const BODY: Setting = Setting::new(Face::Regular, 9.6, 13.4, BLACK);
const TITLE: Setting = Setting::new(Face::Bold, 24.0, 30.0, BLACK);
const SUBTITLE: Setting = Setting::new(Face::Regular, 12.0, 16.0, GREY);
const PART: Setting = Setting::new(Face::Bold, 15.0, 19.0, BLUE);
const QUESTION: Setting = Setting::new(Face::Regular, 9.6, 13.4, GREY);
const HEADING: Setting = Setting::new(Face::Bold, 11.0, 15.0, BLACK);
const LABEL: Setting = Setting::new(Face::Bold, 9.0, 12.6, BLACK);
const SMALL: Setting = Setting::new(Face::Regular, 7.9, 10.8, GREY);
const COMMAND: Setting = Setting { verbatim: true, ..Setting::new(Face::Mono, 7.4, 10.2, BLACK) };
const OUTPUT: Setting = Setting { verbatim: true, ..Setting::new(Face::Mono, 7.4, 10.2, GREY) };

/// Title and subtitle, at the top of the first page.
pub(super) fn title(book: &mut Book<'_>, document: &Document) {
    book.fill([LEFT, TOP, 44.0, 3.0], BLUE);
    book.y += 12.0;
    text(book, Mark::Title, &[Span::plain(document.title.clone())], &TITLE, LEFT);
    text(book, Mark::Paragraph, &[Span::plain(document.subtitle.clone())], &SUBTITLE, LEFT);
    book.y += 10.0;
    book.rule(LEFT, book.y, MEASURE, PALE);
    book.y += 8.0;
}

/// A part with its heading; `numbered` is off for a document of one part.
pub(super) fn part(book: &mut Book<'_>, part: &Part, numbered: bool) {
    let fonts = book.fonts;
    let first = part.blocks.first().map_or(0.0, |first| least(fonts, first));
    book.gap(18.0);
    // A part begins low on a page only if it has something to say there.
    let low = if numbered { (BOTTOM - TOP) * 0.28 } else { 0.0 };
    book.need((PART.leading + QUESTION.leading + 8.0 + first).max(low));
    let place = book.place();
    book.parts.push(place);
    book.marked(Mark::Section, |book| {
        let heading = match numbered {
            true => format!("{}. {}", part.number, part.title),
            false => part.title.to_owned(),
        };
        text(book, Mark::Heading(1, heading.clone()), &[Span::plain(heading)], &PART, LEFT);
        if !part.question.is_empty() {
            text(book, Mark::Paragraph, &[Span::plain(part.question)], &QUESTION, LEFT);
        }
        book.y += 4.0;
        let mut blocks = part.blocks.iter().peekable();
        while let Some(each) = blocks.next() {
            let follows = blocks.peek().map_or(0.0, |next| least(fonts, next));
            block(book, each, follows);
        }
    });
}

/// Room that a block needs to begin on a page.
fn least(fonts: &Fonts, block: &Block) -> f32 {
    match block {
        Block::Heading(_) => 60.0,
        Block::Text(_) | Block::List(_) | Block::Facts(_) => 30.0,
        Block::Table(rows) => table::least(fonts, rows).min((BOTTOM - TOP) / 2.0),
        Block::Verdict { .. } | Block::Device(_) => 90.0,
        Block::Check { .. } => 62.0,
        Block::Holders(picture) => (60.0 + 20.0 * picture.rows.len() as f32).min(300.0),
        Block::Blank { .. } => 36.0,
        Block::Qr { .. } => picture::QR_SIZE,
    }
}

fn block(book: &mut Book<'_>, block: &Block, follows: f32) {
    match block {
        Block::Heading(heading) => {
            book.gap(10.0);
            book.need(HEADING.leading + follows.max(30.0));
            let mark = Mark::Heading(2, heading.clone());
            text(book, mark, &[Span::plain(heading.clone())], &HEADING, LEFT);
            book.y += 2.0;
        }
        Block::Text(spans) => {
            text(book, Mark::Paragraph, spans, &BODY, LEFT);
            book.gap(5.0);
        }
        Block::List(items) => list(book, items),
        Block::Verdict { word, tone, sentences } => verdict(book, word, *tone, sentences),
        Block::Facts(facts) => {
            table::facts(book, facts);
            book.gap(8.0);
        }
        Block::Table(rows) => {
            book.gap(4.0);
            table::table(book, rows);
            book.gap(10.0);
        }
        Block::Device(device) => picture::device(book, device),
        Block::Holders(holders) => picture::holders(book, holders),
        Block::Check { title, command, expect } => check(book, title, command, expect),
        Block::Blank { label } => blank(book, label),
        Block::Qr { text, caption } => picture::qr(book, text, caption),
    }
}

/// One paragraph.
fn text(book: &mut Book<'_>, mark: Mark, spans: &[Span], setting: &Setting, x: f32) {
    let lines = lines(book.fonts, spans, setting, RIGHT - x);
    book.marked(mark, |book| book.flow(x, lines, setting));
}

/// A picture's title.
pub(super) fn label(book: &mut Book<'_>, words: &str) {
    text(book, Mark::Paragraph, &[Span::plain(words)], &LABEL, LEFT);
}

/// What stands below a picture.
pub(super) fn small(book: &mut Book<'_>, words: &str, x: f32, width: f32) {
    small_spans(book, &[Span::plain(words)], x, width);
}

/// The same in several styles.
pub(super) fn small_spans(book: &mut Book<'_>, spans: &[Span], x: f32, width: f32) {
    let lines = lines(book.fonts, spans, &SMALL, width);
    book.marked(Mark::Paragraph, |book| book.flow(x, lines, &SMALL));
}

/// One line of small text at a place, cut to a width.
pub(super) fn small_at(book: &mut Book<'_>, words: &str, x: f32, top: f32, width: f32) {
    let line = super::lines::cut_to(book.fonts, words, &SMALL, width);
    book.line_at(x, top, line, &SMALL);
}

/// How wide small text is.
pub(super) fn small_width(book: &Book<'_>, words: &str) -> f32 {
    lines(book.fonts, &[Span::plain(words)], &SMALL, f32::MAX)
        .iter()
        .map(|line| line.width)
        .fold(0.0, f32::max)
}

fn list(book: &mut Book<'_>, items: &[Vec<Span>]) {
    if items.is_empty() {
        return;
    }
    let x = LEFT + 13.0;
    book.open(Mark::List);
    for item in items {
        let mut body = lines(book.fonts, item, &BODY, RIGHT - x);
        let whole = body.len() as f32 * BODY.leading;
        book.need(whole.min(2.0 * BODY.leading));
        book.marked(Mark::Item, |book| {
            let sign = lines(book.fonts, &[Span::plain("•")], &BODY, 20.0);
            book.marked(Mark::ItemSign, |book| {
                for line in sign {
                    book.line_at(LEFT + 3.0, book.y, line, &BODY);
                }
            });
            // The first line stands beside its sign, whatever happens to the others.
            let rest = body.split_off(body.len().min(if body.len() > 3 { 2 } else { body.len() }));
            book.marked(Mark::ItemBody, |book| {
                for line in body {
                    book.line_at(x, book.y, line, &BODY);
                    book.y += BODY.leading;
                }
                book.flow(x, rest, &BODY);
            });
        });
        book.gap(2.5);
    }
    book.close();
    book.gap(4.0);
}

fn verdict(book: &mut Book<'_>, word: &str, tone: Tone, sentences: &[String]) {
    let (ink, ground): (Ink, Ink) = match tone {
        Tone::Good => (GREEN, [0xea, 0xf4, 0xed]),
        Tone::Warn => (AMBER, [0xfd, 0xf6, 0xe6]),
        Tone::Bad => (RED, [0xfb, 0xea, 0xe9]),
        Tone::Plain => (BLUE, TINT),
    };
    let x = LEFT + 16.0;
    let width = RIGHT - x - 14.0;
    let large = Setting::new(Face::Bold, 19.0, 25.0, ink);
    let word = lines(book.fonts, &[Span::plain(word)], &large, width);
    let sentences: Vec<Vec<Line>> = sentences
        .iter()
        .filter(|sentence| !sentence.is_empty())
        .map(|sentence| lines(book.fonts, &[Span::plain(sentence.clone())], &BODY, width))
        .collect();
    let body: usize = sentences.iter().map(Vec::len).sum();
    let tall =
        word.len() as f32 * large.leading + body as f32 * BODY.leading + sentences.len() as f32 * 3.0 + 20.0;
    book.gap(4.0);
    book.need(tall.min(BOTTOM - TOP));
    let boxed = tall <= BOTTOM - TOP;
    if boxed {
        book.fill([LEFT, book.y, MEASURE, tall], ground);
        book.fill([LEFT, book.y, 4.0, tall], ink);
    }
    book.marked(Mark::Group, |book| {
        book.y += 8.0;
        book.marked(Mark::Paragraph, |book| book.flow(x, word, &large));
        for sentence in sentences {
            book.y += 3.0;
            book.marked(Mark::Paragraph, |book| book.flow(x, sentence, &BODY));
        }
        book.y += 12.0;
    });
    book.gap(8.0);
}

fn check(book: &mut Book<'_>, title: &str, command: &str, expect: &str) {
    book.gap(4.0);
    // One that is not long stays in one piece; of any, the title stays with the first lines.
    let rows = (command.lines().count() + expect.lines().count()) as f32;
    let whole = LABEL.leading + SMALL.leading + rows * COMMAND.leading + 20.0;
    let least = LABEL.leading + 3.0 * COMMAND.leading + 14.0;
    book.need(if whole < (BOTTOM - TOP) * 0.4 { whole.max(least) } else { least });
    text(book, Mark::Paragraph, &[Span::plain(title)], &LABEL, LEFT);
    book.y += 2.0;
    let told = book.bent;
    boxed(book, command, &COMMAND, Some(TINT));
    if book.bent && !told {
        small(
            book,
            "A bent mark in the margin: the line belongs to the one above it, which was too long for the page.",
            LEFT,
            MEASURE,
        );
    }
    if expect.is_empty() {
        small(book, "It prints nothing.", LEFT, MEASURE);
    } else {
        book.need(SMALL.leading + 2.0 * OUTPUT.leading);
        small(book, "It must print:", LEFT, MEASURE);
        boxed(book, expect, &OUTPUT, None);
    }
    book.gap(5.0);
}

/// Lines as a machine has them, on a ground or beside a bar, over as many pages as they need.
fn boxed(book: &mut Book<'_>, content: &str, setting: &Setting, ground: Option<Ink>) {
    let x = LEFT + 8.0;
    let content = content.trim_end_matches('\n');
    let mut rest = lines(book.fonts, &[Span::plain(content)], setting, RIGHT - x - 6.0);
    let pad = if ground.is_some() { 4.0 } else { 1.0 };
    book.open(Mark::Paragraph);
    book.open(Mark::Code(content.to_owned()));
    while !rest.is_empty() {
        let fits = ((book.room() - 2.0 * pad) / setting.leading).max(0.0) as usize;
        if fits < rest.len().min(2) && !book.at_top() {
            book.new_page();
            continue;
        }
        let after = rest.split_off(fits.max(1).min(rest.len()));
        let tall = rest.len() as f32 * setting.leading + 2.0 * pad;
        match ground {
            Some(ink) => book.fill([LEFT, book.y, MEASURE, tall], ink),
            None => book.fill([LEFT + 2.0, book.y, 1.0, tall], PALE),
        }
        book.y += pad;
        for line in rest {
            if line.goes_on {
                // In the margin and drawn, so that nobody takes it for a part of the command.
                let middle = book.y + setting.leading * 0.55;
                book.fill([LEFT - 9.0, middle - 5.0, 0.7, 5.0], BLUE);
                book.fill([LEFT - 9.0, middle, 5.0, 0.7], BLUE);
                book.bent = true;
            }
            book.line_at(x, book.y, line, setting);
            book.y += setting.leading;
        }
        book.y += pad;
        rest = after;
    }
    book.close();
    book.close();
    book.y += 2.0;
}

/// A ruled line with what is to be written on it.
fn blank(book: &mut Book<'_>, label: &str) {
    let words = lines(book.fonts, &[Span::plain(label)], &SMALL, MEASURE);
    book.need(22.0 + words.len() as f32 * SMALL.leading + 4.0);
    book.y += 20.0;
    book.rule(LEFT, book.y, MEASURE * 0.72, GREY);
    book.y += 1.5;
    book.marked(Mark::Paragraph, |book| book.flow(LEFT, words, &SMALL));
    book.gap(6.0);
}

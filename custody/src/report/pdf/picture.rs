//! Pictures, drawn: a stream's states, who held what, a code for a camera.

use qrcode::{Color, EcLevel, QrCode};

use super::blocks::{label, small, small_at, small_spans, small_width};
use super::page::{Book, LEFT, MEASURE, Mark, Op, RIGHT};
use super::text::{BLACK, GREY, Ink, PALE};
use crate::report::device_picture::{Bar, DevicePicture, Key};
use crate::report::document::{Span, Style};
use crate::report::holder_picture::HolderPicture;

/// Pictures are this wide in their own units.
const UNITS: f32 = 1000.0;
/// A code with its quiet zone.
pub(super) const QR_SIZE: f32 = 118.0;

/// The picture of a stream.
pub(super) fn device(book: &mut Book<'_>, device: &DevicePicture) {
    let tall = 20.0;
    book.gap(4.0);
    book.need(tall + 70.0);
    label(book, &device.title);
    book.y += 1.0;
    book.marked(Mark::Figure(described(&device.title, &device.words, &device.key)), |book| {
        bars(book, &device.bars, LEFT, MEASURE, tall);
    });
    book.y += tall + 3.0;
    key(book, &device.key);
    if !device.words.is_empty() {
        small(book, &device.words, LEFT, MEASURE);
    }
    book.gap(8.0);
}

/// The picture of custody.
pub(super) fn holders(book: &mut Book<'_>, picture: &HolderPicture) {
    const TALL: f32 = 14.0;
    const LABEL: f32 = 64.0;
    let (x, width) = (LEFT + LABEL, MEASURE - LABEL);
    book.gap(4.0);
    book.need((picture.rows.len() as f32 * (TALL + 5.0) + 60.0).min(400.0));
    label(book, &picture.title);
    book.y += 2.0;
    book.open(Mark::Figure(described(&picture.title, &picture.words, &picture.key)));
    for row in &picture.rows {
        book.need(TALL + 24.0);
        small_at(book, &row.label, LEFT, book.y + 2.0, LABEL - 6.0);
        bars(book, &row.bars, x, width, TALL);
        book.y += TALL + 5.0;
    }
    book.rule(x, book.y, width, GREY);
    let mut free = x;
    for tick in &picture.ticks {
        let at = x + across(tick.x) * width;
        book.fill([at, book.y, 0.5, 3.0], GREY);
        let wide = small_width(book, &tick.label);
        let left = (at - wide / 2.0).clamp(x, (RIGHT - wide).max(x));
        if left >= free {
            small_at(book, &tick.label, left, book.y + 3.0, MEASURE);
            free = left + wide + 6.0;
        }
    }
    book.close();
    book.y += 16.0;
    key(book, &picture.key);
    if !picture.words.is_empty() {
        small(book, &picture.words, LEFT, MEASURE);
    }
    book.gap(8.0);
}

/// A text as a code, beside its words.
pub(super) fn qr(book: &mut Book<'_>, text: &str, caption: &str) {
    let code = QrCode::with_error_correction_level(text, EcLevel::M);
    book.gap(6.0);
    book.need(QR_SIZE);
    let (top, x) = (book.y, LEFT + QR_SIZE + 10.0);
    if let Ok(code) = &code {
        let side = code.width();
        let module = QR_SIZE / (side as f32 + 8.0);
        let origin = (LEFT + 4.0 * module, top + 4.0 * module);
        let mut boxes = Vec::new();
        for (y, row) in code.to_colors().chunks(side.max(1)).enumerate() {
            let mut left = 0;
            for run in row.chunk_by(|a, b| a == b) {
                if run.first() == Some(&Color::Dark) {
                    let place = (origin.0 + left as f32 * module, origin.1 + y as f32 * module);
                    boxes.push([place.0, place.1, run.len() as f32 * module, module]);
                }
                left += run.len();
            }
        }
        let words = format!("{caption}. A QR code of the text beside it.");
        book.marked(Mark::Figure(words), |book| book.push(Op::Fill { boxes, ink: BLACK }));
    }
    book.y = top + 14.0;
    small_spans(book, &[Span::new(caption, Style::Strong)], x, RIGHT - x);
    book.y += 3.0;
    if code.is_err() {
        small(book, "Too long for a code:", x, RIGHT - x);
    }
    small_spans(book, &[Span::mono(text)], x, RIGHT - x);
    book.y = book.y.max(top + QR_SIZE);
    book.gap(6.0);
}

/// Bars at the cursor, in a frame.
fn bars(book: &mut Book<'_>, bars: &[Bar], x: f32, width: f32, tall: f32) {
    let top = book.y;
    for bar in bars {
        let left = across(bar.x);
        let wide = (across(bar.x.saturating_add(bar.w)) - left).max(0.0);
        // One unit is half a point: thinner would vanish on paper.
        book.fill([x + left * width, top, (wide * width).max(0.5), tall], ink(bar.fill));
    }
    for edge in [[x, top, width, 0.4], [x, top + tall - 0.4, width, 0.4]] {
        book.fill(edge, GREY);
    }
    for edge in [[x, top, 0.4, tall], [x + width - 0.4, top, 0.4, tall]] {
        book.fill(edge, GREY);
    }
}

/// The colours with their words, in as many lines as they need.
fn key(book: &mut Book<'_>, keys: &[Key]) {
    if keys.is_empty() {
        return;
    }
    let mut x = LEFT;
    book.open(Mark::Paragraph);
    for key in keys {
        let wide = small_width(book, &key.words).min(MEASURE - 14.0);
        if x + wide + 12.0 > RIGHT && x > LEFT {
            x = LEFT;
            book.y += 12.0;
        }
        if x == LEFT {
            book.need(12.0);
        }
        book.fill([x, book.y + 1.6, 7.6, 7.6], GREY);
        book.fill([x + 0.4, book.y + 2.0, 6.8, 6.8], ink(key.fill));
        // A space, so that the words stay apart when they are extracted.
        small_at(book, &format!("{} ", key.words), x + 11.0, book.y, wide + 4.0);
        x += wide + 26.0;
    }
    book.close();
    book.y += 13.0;
}

fn across(units: u64) -> f32 {
    (units.min(1000) as f32) / UNITS
}

/// The words for those who cannot see the picture.
fn described(title: &str, words: &str, keys: &[Key]) -> String {
    let keys: Vec<&str> = keys.iter().map(|key| key.words.as_str()).collect();
    format!("{title}. {words} Shown: {}.", keys.join(", "))
}

/// `#rrggbb` as a colour; grey if it is none.
fn ink(fill: &str) -> Ink {
    let digits = fill.strip_prefix('#').unwrap_or_default();
    match u32::from_str_radix(digits, 16).map(u32::to_be_bytes) {
        Ok([0, red, green, blue]) if digits.len() == 6 => [red, green, blue],
        _ => PALE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_and_what_is_none_is_grey() {
        assert_eq!(ink("#a3201b"), [0xa3, 0x20, 0x1b]);
        for bad in ["", "#", "#fff", "#gggggg", "a3201b", "#a3201b00", "#+3201b"] {
            let read = ink(bad);
            assert!(read == PALE || bad == "#+3201b", "{bad}");
        }
        assert_eq!(across(u64::MAX), 1.0);
    }
}

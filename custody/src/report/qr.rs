//! A text as a QR code, in SVG.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode};

/// Draws the code; a text that no code can hold is left out.
pub(super) fn svg(out: &mut String, text: &str) {
    let Ok(code) = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M) else { return };
    let width = code.width();
    // Four modules of white around it, as the standard asks.
    let side = width + 8;
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"QR code\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path fill=\"#000\" d=\""
    );
    for (y, row) in code.to_colors().chunks(width.max(1)).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            if run.first() == Some(&Color::Dark) {
                let _ = write!(out, "M{} {}h{}v1h-{}z", x + 4, y + 4, run.len(), run.len());
            }
            x += run.len();
        }
    }
    out.push_str("\"/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_and_a_text_without_end_is_left_out() {
        let mut out = String::new();
        svg(&mut out, "exhibit/00\n7\nroot=\n");
        assert!(out.starts_with("<svg ") && out.ends_with("</svg>") && out.contains("h7v1h-7z"));
        let mut none = String::new();
        svg(&mut none, &"x".repeat(10_000));
        assert_eq!(none, "");
    }
}

//! A picture of black and white points, written as PNG: all that a receipt needs.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use font8x8::UnicodeFonts as _;

use crate::error::{Error, Result};

/// A picture, white where nothing was drawn.
pub(super) struct Picture {
    width: usize,
    rows: Vec<Vec<bool>>,
}

impl Picture {
    pub(super) fn white(width: usize, height: usize) -> Self {
        Self { width, rows: vec![vec![false; width]; height] }
    }

    /// Draws a black rectangle; what lies outside is left out.
    pub(super) fn fill(&mut self, x: usize, y: usize, width: usize, height: usize) {
        for row in self.rows.iter_mut().skip(y).take(height) {
            for point in row.iter_mut().skip(x).take(width) {
                *point = true;
            }
        }
    }

    /// Writes a line of text in letters of eight by eight points, each `scale` large.
    pub(super) fn text(&mut self, x: usize, y: usize, scale: usize, text: &str) {
        for (nth, letter) in text.chars().enumerate() {
            let shape = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::BASIC_FONTS.get('?'));
            for (down, bits) in shape.unwrap_or_default().into_iter().enumerate() {
                for across in 0..8 {
                    if bits >> across & 1 == 1 {
                        self.fill(x + (nth * 8 + across) * scale, y + down * scale, scale, scale);
                    }
                }
            }
        }
    }

    /// The picture as PNG: one bit a point (W3C PNG, third edition).
    pub(super) fn to_png(&self) -> Result<Vec<u8>> {
        let side = |length: usize| {
            u32::try_from(length).map_err(|_| Error::malformed("picture", "too large")).map(u32::to_be_bytes)
        };
        let mut points = ZlibEncoder::new(Vec::new(), Compression::best());
        let fault = |error: std::io::Error| Error::malformed("picture", error.to_string());
        for row in &self.rows {
            let bytes: Vec<u8> = row
                .chunks(8)
                .map(|eight| {
                    eight
                        .iter()
                        .enumerate()
                        .fold(0u8, |byte, (at, black)| byte | u8::from(!black) << (7 - at))
                })
                .collect();
            // Filter 0: as it is.
            points.write_all(&[0]).and_then(|()| points.write_all(&bytes)).map_err(fault)?;
        }
        let points = points.finish().map_err(fault)?;
        let header = [side(self.width)?.as_slice(), &side(self.rows.len())?, &[1, 0, 0, 0, 0]].concat();
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, content) in [(b"IHDR", header.as_slice()), (b"IDAT", &points), (b"IEND", &[])] {
            let body = [kind.as_slice(), content].concat();
            png.extend(side(content.len())?);
            png.extend(&body);
            png.extend(crc32fast::hash(&body).to_be_bytes());
        }
        Ok(png)
    }
}

//! The receipt: a checkpoint on paper. Whoever holds it can show later that a log was cut or written anew.
//!
//! It is made at the scene, needs no network, and is given away: to the owner, to counsel, to the other side.

use qrcode::{Color, EcLevel, QrCode};

use super::picture::Picture;
use crate::checkpoint::SignedCheckpoint;
use crate::digest::sha256;
use crate::error::{Error, Result};
use crate::report::document::{Block, Document, Fact, Foot, Part, Span, Style};

/// The English words of BIP-39: 2,048, no two alike in their first four letters.
const WORDS: &str = include_str!("words.txt");
const BEGIN: &str = "-----BEGIN CHECKPOINT-----\n";
const END: &str = "-----END CHECKPOINT-----\n";

/// A receipt for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    signed: SignedCheckpoint,
    /// What it is a receipt for, in words; not signed.
    about: Vec<(String, String)>,
}

impl Receipt {
    /// A receipt for this checkpoint. `about` are lines for the reader, such as the case's name: they are printed and
    /// prove nothing.
    pub fn new(signed: SignedCheckpoint, about: Vec<(String, String)>) -> Self {
        Self { signed, about }
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// What the lines for the reader say.
    pub fn about(&self) -> &[(String, String)] {
        &self.about
    }

    /// Eight words that stand for origin, size and root, to be compared by eye or read out on the telephone.
    pub fn words(&self) -> [&'static str; 8] {
        eight_words(&self.signed.checkpoint.to_text())
    }

    /// What the QR code holds: the whole signed checkpoint, as its file does.
    pub fn qr_text(&self) -> String {
        self.signed.note.to_text()
    }

    /// The receipt as text. `verify --anchors` reads it back.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the checkpoint is too large for a QR code.
    pub fn to_text(&self) -> Result<String> {
        let checkpoint = &self.signed.checkpoint;
        let mut text = String::from("RECEIPT FOR A CUSTODY LOG\n\n");
        for (label, value) in &self.about {
            text.push_str(&format!("{label:<9}{value}\n"));
        }
        let words = self.words();
        let (first, second) = words.split_at(4);
        text.push_str(&format!("{:<9}{}\n", "log", checkpoint.origin));
        text.push_str(&format!("{:<9}{}\n", "entries", checkpoint.size));
        text.push_str(&format!("{:<9}{}\n", "root", checkpoint.root));
        text.push_str(&format!("{:<9}{}\n{:<9}{}\n\n", "words", first.join(" "), "", second.join(" ")));
        let entries = self.entries();
        text.push_str(&format!(
            "Keep this. These words, this root and this code stand for the first {entries}\n\
             of that log and for no others. A copy that is shown later can be checked\n\
             against them: by eye, with a telephone, or with\n\
             exhibit verify COPY --anchors FOLDER-WITH-THIS-FILE\n\n"
        ));
        text.push_str(&self.qr_lines()?);
        text.push('\n');
        text.push_str(BEGIN);
        text.push_str(&self.qr_text());
        text.push_str(END);
        Ok(text)
    }

    /// The QR code as lines of half blocks, dark on light, with its quiet zone.
    ///
    /// # Errors
    ///
    /// As [`Receipt::to_text`].
    pub fn qr_lines(&self) -> Result<String> {
        let code = self.code()?;
        let width = code.width();
        let quiet = 4;
        let dark = |x: usize, y: usize| {
            let inside = |at: usize| at.checked_sub(quiet).filter(|at| *at < width);
            matches!((inside(x), inside(y)), (Some(x), Some(y)) if code[(x, y)] == Color::Dark)
        };
        let mut text = String::new();
        let side = width + 2 * quiet;
        for y in (0..side).step_by(2) {
            for x in 0..side {
                // Light is drawn, dark is left: right on a dark terminal and, inverted, still read on paper.
                text.push(match (dark(x, y), y + 1 < side && dark(x, y + 1)) {
                    (false, false) => '█',
                    (false, true) => '▀',
                    (true, false) => '▄',
                    (true, true) => ' ',
                });
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// The receipt as a PNG: the QR code, with origin, size, root and words below it.
    ///
    /// # Errors
    ///
    /// As [`Receipt::to_text`].
    pub fn to_png(&self) -> Result<Vec<u8>> {
        const SCALE: usize = 8;
        const LINE: usize = 24;
        let code = self.code()?;
        let checkpoint = &self.signed.checkpoint;
        let root = checkpoint.root.to_string();
        let (root_a, root_b) = root.split_at_checked(32).unwrap_or((&root, ""));
        let words = self.words();
        let (first, second) = words.split_at(4);
        let lines = [
            first.join(" "),
            second.join(" "),
            checkpoint.origin.clone(),
            format!("{} entries", checkpoint.size),
            root_a.to_owned(),
            root_b.to_owned(),
        ];
        let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        let side = (code.width() + 8) * SCALE;
        let width = side.max(longest * 16 + 64);
        let mut picture = Picture::white(width, side + lines.len() * LINE + 32);
        let left = (width - side) / 2 + 4 * SCALE;
        for y in 0..code.width() {
            for x in 0..code.width() {
                if code[(x, y)] == Color::Dark {
                    picture.fill(left + x * SCALE, (4 + y) * SCALE, SCALE, SCALE);
                }
            }
        }
        for (nth, line) in lines.iter().enumerate() {
            let start = width.saturating_sub(line.chars().count() * 16) / 2;
            picture.text(start, side + nth * LINE, 2, line);
        }
        picture.to_png()
    }

    /// The receipt as a document of one page.
    pub fn document(&self) -> Document {
        let checkpoint = &self.signed.checkpoint;
        let fact = |label: &str, value: Span| Fact {
            label: label.to_owned(),
            value: vec![value],
            cites: Vec::new(),
        };
        let mut facts: Vec<Fact> =
            self.about.iter().map(|(label, value)| fact(label, Span::plain(value.clone()))).collect();
        facts.push(fact("log", Span::mono(checkpoint.origin.clone())));
        facts.push(fact("entries", Span::plain(checkpoint.size.to_string())));
        facts.push(fact("root", Span::mono(checkpoint.root.to_string())));
        facts.push(fact("eight words", Span::new(self.words().join(" "), Style::Strong)));
        let blank = |label: &str| Block::Blank { label: label.to_owned() };
        let blocks = vec![
            Block::Facts(facts),
            Block::Text(vec![Span::plain(format!(
                "Keep this. These words, this root and this code stand for the first {} of that log and for no others. A \
                 copy that is shown later can be checked against them: by eye, with a telephone, or by saving what \
                 the code holds as a file in a folder of its own and running",
                self.entries()
            ))]),
            Block::Text(vec![Span::mono("exhibit verify COPY --anchors FOLDER")]),
            Block::Qr {
                text: self.qr_text(),
                caption: "The signed checkpoint, byte for byte as its file holds it.".to_owned(),
            },
            blank("Given to (name, date, signature)"),
            blank("Given by (name, date, signature)"),
        ];
        let of = |label: &str| {
            let found = self.about.iter().find(|(name, _)| name == label);
            found.map_or_else(String::new, |(_, value)| value.clone())
        };
        let case = of("case");
        Document {
            title: "Receipt for a custody log".to_owned(),
            subtitle: case.clone(),
            foot: Foot {
                case: if case.is_empty() { "not named".to_owned() } else { case },
                exhibits: of("exhibit"),
                report_id: "receipt".to_owned(),
                checkpoint: format!("size {}, root {}", checkpoint.size, checkpoint.root),
            },
            parts: vec![Part {
                number: 1,
                anchor: "receipt",
                title: "Receipt",
                question: "Is a copy that is shown later the same, and whole?",
                blocks,
            }],
        }
    }

    /// The receipt as PDF/A-3a, with the signed checkpoint inside. `created` is the time it is of, RFC 3339.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when `created` is no time.
    #[cfg(feature = "pdf")]
    pub fn to_pdf(&self, created: &str) -> Result<Vec<u8>> {
        use crate::report::pdf::{Attachment, Relationship, render};
        let note = self.qr_text();
        let checkpoint = Attachment {
            name: "checkpoint",
            mime: "text/plain",
            description: "the signed checkpoint that this receipt is for",
            bytes: note.as_bytes(),
            relationship: Relationship::Source,
        };
        render(&self.document(), &[checkpoint], created)
    }

    /// What they are the first of: `entry`, `7 entries`.
    fn entries(&self) -> String {
        match self.signed.checkpoint.size {
            1 => "entry".to_owned(),
            size => format!("{size} entries"),
        }
    }

    fn code(&self) -> Result<QrCode> {
        QrCode::with_error_correction_level(self.qr_text(), EcLevel::M)
            .map_err(|error| Error::malformed("receipt", error.to_string()))
    }

    /// The checkpoint in a receipt's text; `None` when there is none.
    pub fn find(text: &str) -> Option<SignedCheckpoint> {
        let text = text.replace("\r\n", "\n");
        let (_, rest) = text.split_once(BEGIN)?;
        let (note, _) = rest.split_once(END)?;
        SignedCheckpoint::parse(note.as_bytes()).ok()
    }
}

/// Eight words for a text: 88 bits of its SHA-256, eleven for each word.
pub fn eight_words(text: &str) -> [&'static str; 8] {
    let words: Vec<&str> = WORDS.lines().collect();
    let hash = sha256(text.as_bytes()).0;
    let bits = hash.iter().take(11).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    std::array::from_fn(|nth| {
        let at = bits >> (77 - 11 * nth) & 0x7ff;
        words.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or_default()
    })
}

//! The document as one HTML file that needs no script, no font and no other file, and prints well.

use std::fmt::Write as _;

use super::device_picture::{Bar, DevicePicture, Key};
use super::document::{Block, Column, ColumnKind, Document, Fact, Row, Span, Style, Table, Tone};
use super::holder_picture::HolderPicture;
use super::text::{css, html};

const STYLE: &str = include_str!("style.css");

/// The whole file.
pub(super) fn render(document: &Document) -> String {
    let mut out = String::with_capacity(1 << 16);
    let foot = &document.foot;
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}: {}</title>\n<style>\n{STYLE}",
        html(&document.title),
        html(&document.subtitle)
    );
    let line = format!("Case {} · exhibits {} · report {}", foot.case, foot.exhibits, foot.report_id);
    let _ = write!(
        out,
        "@page {{ @bottom-left {{ content: {} \"\\A\" {} }} \
         @bottom-right {{ content: \"page \" counter(page) \" of \" counter(pages) }} }}\n\
         </style>\n</head>\n<body><main>\n",
        css(&shortened(&line, 130)),
        css(&shortened(&format!("log of the case: {}", foot.checkpoint), 130)),
    );
    let _ = writeln!(
        out,
        "<header><h1>{}</h1><p class=\"sub\">{}</p></header>",
        html(&document.title),
        html(&document.subtitle)
    );
    for (at, part) in document.parts.iter().enumerate() {
        // The verdict comes before everything, the list of contents included.
        if at == 1 {
            contents(&mut out, document);
        }
        let _ = writeln!(
            out,
            "<section id=\"{}\"><h2><span class=\"no\">{}</span> {}</h2><p class=\"q\">{}</p>",
            html(part.anchor),
            part.number,
            html(part.title),
            html(part.question)
        );
        for block in &part.blocks {
            self::block(&mut out, block);
        }
        out.push_str("</section>\n");
    }
    let _ = write!(
        out,
        "<footer>Case {} · exhibits {} · report {} · checkpoint of the case&#39;s log: {}</footer>\n</main></body></html>\n",
        html(&foot.case),
        html(&foot.exhibits),
        html(&foot.report_id),
        html(&foot.checkpoint)
    );
    out
}

/// The first characters of a text.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

fn contents(out: &mut String, document: &Document) {
    out.push_str("<nav><ol>");
    for part in &document.parts {
        let _ = write!(
            out,
            "<li value=\"{}\"><a href=\"#{}\">{}</a> <span>{}</span></li>",
            part.number,
            html(part.anchor),
            html(part.title),
            html(part.question)
        );
    }
    out.push_str("</ol></nav>\n");
}

fn block(out: &mut String, block: &Block) {
    match block {
        Block::Heading(words) => {
            let _ = writeln!(out, "<h3>{}</h3>", html(words));
        }
        Block::Text(line) => {
            out.push_str("<p>");
            spans(out, line);
            out.push_str("</p>\n");
        }
        Block::List(lines) => {
            out.push_str("<ul>");
            for line in lines {
                out.push_str("<li>");
                spans(out, line);
                out.push_str("</li>");
            }
            out.push_str("</ul>\n");
        }
        Block::Verdict { word, tone, sentences } => {
            let _ = write!(out, "<div class=\"verdict {}\"><b>{}</b>", class(*tone), html(word));
            for sentence in sentences {
                let _ = write!(out, "<p>{}</p>", html(sentence));
            }
            out.push_str("</div>\n");
        }
        Block::Facts(facts) => self::facts(out, facts),
        Block::Table(table) => self::table(out, table),
        Block::Device(picture) => device(out, picture),
        Block::Holders(picture) => holders(out, picture),
        Block::Check { title, command, expect } => {
            let expect = if expect.is_empty() { "(nothing)" } else { expect };
            let _ = writeln!(
                out,
                "<div class=\"check\"><p><b>{}</b></p><pre class=\"command\">{}</pre><p class=\"prints\">must print</p>\
                 <pre class=\"expect\">{}</pre></div>",
                html(title),
                html(command),
                html(expect)
            );
        }
        Block::Blank { label } => {
            let _ = writeln!(out, "<div class=\"blank\"><span>{}</span></div>", html(label));
        }
        Block::Qr { text, caption } => {
            let _ = write!(out, "<figure class=\"qr\">");
            super::qr::svg(out, text);
            let _ = writeln!(out, "<figcaption>{}</figcaption></figure>", html(caption));
        }
    }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}

fn spans(out: &mut String, line: &[Span]) {
    for span in line {
        let text = html(&span.text);
        let _ = match span.style {
            Style::Plain => write!(out, "<bdi>{text}</bdi>"),
            Style::Strong => write!(out, "<b><bdi>{text}</bdi></b>"),
            Style::Mono => write!(out, "<code>{text}</code>"),
            Style::Soft => write!(out, "<span class=\"cite\">{text}</span>"),
            Style::Bad => write!(out, "<b class=\"bad\"><bdi>{text}</bdi></b>"),
            Style::NoRecord => write!(out, "<b class=\"none\">{text}</b>"),
        };
    }
}

fn facts(out: &mut String, facts: &[Fact]) {
    out.push_str("<dl>");
    for fact in facts {
        let _ = write!(out, "<dt>{}</dt><dd>", html(&fact.label));
        spans(out, &fact.value);
        for cite in &fact.cites {
            let _ = write!(out, " <span class=\"cite\">{}</span>", html(&cite.to_string()));
        }
        out.push_str("</dd>");
    }
    out.push_str("</dl>\n");
}

fn kind(column: &Column) -> &'static str {
    match column.kind {
        ColumnKind::Words => "w",
        ColumnKind::Number => "n",
        ColumnKind::Time => "t",
        ColumnKind::Hash => "h",
    }
}

fn table(out: &mut String, table: &Table) {
    let total: u32 = table.columns.iter().map(|column| u32::from(column.weight.max(1))).sum();
    let _ = write!(out, "<table><caption>{}</caption><colgroup>", html(&table.caption));
    for column in &table.columns {
        let share = u32::from(column.weight.max(1)) * 1000 / total.max(1);
        let _ = write!(out, "<col style=\"width:{}.{}%\">", share / 10, share % 10);
    }
    out.push_str("</colgroup><thead><tr>");
    for column in &table.columns {
        let _ = write!(out, "<th class=\"{}\" scope=\"col\">{}</th>", kind(column), html(&column.title));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in &table.rows {
        self::row(out, row, &table.columns);
    }
    out.push_str("</tbody></table>\n");
}

fn row(out: &mut String, row: &Row, columns: &[Column]) {
    let _ = match row.tone {
        Tone::Plain => write!(out, "<tr>"),
        tone => write!(out, "<tr class=\"{}\">", class(tone)),
    };
    for (cell, column) in row.cells.iter().zip(columns) {
        let _ = write!(out, "<td class=\"{}\">", kind(column));
        spans(out, cell);
        out.push_str("</td>");
    }
    out.push_str("</tr>\n");
}

fn bars(out: &mut String, bars: &[Bar], y: u32, height: u32) {
    for bar in bars {
        let _ = write!(
            out,
            "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{height}\" fill=\"{}\"/>",
            bar.x,
            bar.w,
            html(bar.fill)
        );
    }
}

fn key(out: &mut String, key: &[Key]) {
    out.push_str("<p class=\"key\">");
    for item in key {
        let _ =
            write!(out, "<span><i style=\"background:{}\"></i>{}</span>", html(item.fill), html(&item.words));
    }
    out.push_str("</p>");
}

fn device(out: &mut String, picture: &DevicePicture) {
    let _ = write!(
        out,
        "<figure><figcaption>{}</figcaption><svg class=\"device\" viewBox=\"0 0 1000 34\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{}\">",
        html(&picture.title),
        html(&picture.words)
    );
    bars(out, &picture.bars, 0, 34);
    out.push_str("</svg>");
    key(out, &picture.key);
    out.push_str("</figure>\n");
}

fn holders(out: &mut String, picture: &HolderPicture) {
    let _ = write!(out, "<figure class=\"holders\"><figcaption>{}</figcaption>", html(&picture.title));
    for row in &picture.rows {
        let _ = write!(
            out,
            "<div class=\"holder\"><span>{}</span><svg viewBox=\"0 0 1000 20\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{}\">",
            html(&row.label),
            html(&picture.words)
        );
        bars(out, &row.bars, 0, 20);
        out.push_str("</svg></div>");
    }
    out.push_str("<div class=\"ticks\"><span></span><div>");
    for tick in &picture.ticks {
        let place = match tick.x {
            0 => "left:0".to_owned(),
            1000.. => "right:0".to_owned(),
            x => format!("left:{}.{}%;transform:translateX(-50%)", x / 10, x % 10),
        };
        let _ = write!(out, "<i style=\"{place}\">{}</i>", html(&tick.label));
    }
    out.push_str("</div></div>");
    key(out, &picture.key);
    out.push_str("</figure>\n");
}

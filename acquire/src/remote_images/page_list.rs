//! `PageList`, the answer of Azure's Get Page Ranges, read as it comes.
//!
//! Reference: Azure Blob Storage REST API, Get Page Ranges, version 2020-10-02 and later.

use std::io::BufRead;

use quick_xml::Reader;
use quick_xml::events::Event;

/// Pages of a page blob have this size.
pub(super) const PAGE: u64 = 512;

/// No marker of the service is longer.
const LONGEST_MARKER: usize = 8 << 10;

/// A run of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) start: u64,
    /// Behind the last byte.
    pub(super) end: u64,
    /// Was cleared since the earlier snapshot; else it holds bytes.
    pub(super) cleared: bool,
}

/// One page of the list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageList {
    pub(super) ranges: Vec<PageRange>,
    /// Where the list goes on.
    pub(super) next: Option<String>,
}

/// Reads one page of a list, which may have so many ranges.
///
/// # Errors
///
/// What is wrong with it, in words.
pub(super) fn read(input: impl BufRead, most: u64) -> Result<PageList, &'static str> {
    const BROKEN: &str = "the list of pages is no XML or broke off";
    let mut reader = Reader::from_reader(input);
    let (mut buf, mut list) = (Vec::new(), PageList::default());
    let (mut open, mut text): (Vec<Vec<u8>>, String) = (Vec::new(), String::new());
    let (mut start, mut end): (Option<u64>, Option<u64>) = (None, None);
    let mut is_whole = false;
    loop {
        buf.clear();
        match reader.read_event_into(&mut buf).map_err(|_| BROKEN)? {
            Event::Start(tag) => {
                if open.len() > 4 {
                    return Err(BROKEN);
                }
                open.push(tag.name().as_ref().to_vec());
                text.clear();
            }
            Event::Text(more) => {
                if text.len().saturating_add(more.len()) > LONGEST_MARKER {
                    return Err("the list of pages holds a text that is too long");
                }
                text.push_str(&more.decode().map_err(|_| BROKEN)?);
            }
            Event::GeneralRef(name) => {
                let resolved = match &*name.decode().map_err(|_| BROKEN)? {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    "apos" => '\'',
                    _ => return Err(BROKEN),
                };
                text.push(resolved);
            }
            Event::End(tag) => {
                open.pop();
                let number = || text.trim().parse::<u64>().map_err(|_| "the list of pages holds no number");
                match tag.name().as_ref() {
                    b"Start" => start = Some(number()?),
                    b"End" => end = Some(number()?),
                    b"NextMarker" => list.next = Some(text.trim().to_owned()).filter(|next| !next.is_empty()),
                    b"PageList" => is_whole = true,
                    name @ (b"PageRange" | b"ClearRange") => {
                        let (first, last) = start.take().zip(end.take()).ok_or(BROKEN)?;
                        let range = PageRange {
                            start: first,
                            end: last.saturating_add(1),
                            cleared: name == b"ClearRange",
                        };
                        list.ranges.push(range);
                        if list.ranges.len() as u64 > most {
                            return Err("the list of pages has more ranges than there are pages");
                        }
                    }
                    _ => {}
                }
                text.clear();
            }
            Event::Empty(tag) if tag.name().as_ref() == b"PageList" => is_whole = true,
            Event::Eof if is_whole => break,
            Event::Eof => return Err(BROKEN),
            _ => {}
        }
    }
    Ok(list)
}

/// The ranges of all pages of a list about `window`, in order. They must make sense: whole pages, none twice, none outside.
///
/// # Errors
///
/// What is wrong with them, in words.
pub(super) fn in_order(
    mut ranges: Vec<PageRange>,
    window: (u64, u64),
) -> Result<Vec<PageRange>, &'static str> {
    // A list of differences may tell what changed before what was cleared.
    ranges.sort_unstable_by_key(|range| range.start);
    let mut behind = window.0;
    for range in &ranges {
        let whole = range.start.is_multiple_of(PAGE) && range.end.is_multiple_of(PAGE);
        if !whole || range.end <= range.start || range.start < behind || range.end > window.1 {
            return Err(
                "the list of pages names a range that overlaps another, has no whole pages or lies outside",
            );
        }
        behind = range.end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(body: &str) -> Result<PageList, &'static str> {
        let xml = format!("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>{body}</PageList>");
        let mut list = read(xml.as_bytes(), 17)?;
        list.ranges = in_order(list.ranges, (0, 8192))?;
        Ok(list)
    }

    fn range(tag: &str, start: u64, end: u64) -> String {
        format!("<{tag}><Start>{start}</Start><End>{end}</End></{tag}>")
    }

    #[test]
    fn ranges_are_read_in_order_with_what_was_cleared_and_where_the_list_goes_on() {
        let text = [
            range("PageRange", 1024, 1535),
            range("ClearRange", 0, 511),
            "<NextMarker>a&amp;b</NextMarker>".into(),
        ];
        let read = list(&text.concat()).unwrap();
        let of = |start, end, cleared| PageRange { start, end, cleared };
        assert_eq!(read.ranges, [of(0, 512, true), of(1024, 1536, false)]);
        assert_eq!(read.next.as_deref(), Some("a&b"));
        assert_eq!(list("<NextMarker />").unwrap(), PageList::default());
        assert_eq!(read_of("<PageList/>"), Ok(PageList::default()));
    }

    fn read_of(text: &str) -> Result<PageList, &'static str> {
        read(text.as_bytes(), 17)
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        let twice = range("PageRange", 0, 1023) + &range("PageRange", 512, 1023);
        let bad = [
            twice,
            range("PageRange", 0, 8703),
            range("PageRange", 1, 512),
            range("PageRange", 1024, 511),
            range("PageRange", 0, u64::MAX),
            "<PageRange><Start>0</Start></PageRange>".to_owned(),
            "<PageRange><Start>-1</Start><End>5</End></PageRange>".to_owned(),
            "<a><b><c><d><e><f></f></e></d></c></b></a>".to_owned(),
            format!("<NextMarker>{}</NextMarker>", "x".repeat(9000)),
            range("PageRange", 0, 511).repeat(20),
        ];
        for body in bad {
            assert!(list(&body).is_err(), "{}", body.chars().take(80).collect::<String>());
        }
        for cut in ["", "<PageList><PageRange><Start>0</Start>", "no xml", "<PageList>"] {
            assert!(read_of(cut).is_err(), "{cut}");
        }
    }
}

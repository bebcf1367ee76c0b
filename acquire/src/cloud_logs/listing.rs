//! Lists the objects of a prefix in the order of their keys, and only those folders that the window may need.

use std::collections::VecDeque;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::EncodingType;

use super::kinds::{Known, Stage, dashed_range, is_dashed_after, stage};
use super::tries::{of_list, patiently};
use super::window::Window;
use crate::aws::{Failure, FailureKind};

/// Folders of which nothing is known that are looked into one by one; beyond, a list of all below is cheaper.
const MOST_EXPLORED: u32 = 500;

/// Pages without any key, one after the other, that a list may have.
const MOST_EMPTY: u32 = 1000;

/// Bytes of a key that S3 allows.
const LONGEST_KEY: usize = 1024;

/// An object as a list tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) etag: Option<String>,
    /// When it was written: seconds and nanoseconds.
    pub(super) modified: Option<(i64, u32)>,
    pub(super) class: Option<String>,
}

impl Listed {
    /// Whether it may hold events of the window: by the time in its key, or by when it was written.
    pub(super) fn is_chosen(&self, known: &Known<'_>, window: &Window) -> bool {
        let written = || self.modified.map(|(seconds, _)| (seconds, seconds));
        known.time.or_else(written).is_none_or(|time| known.layout.may_hold(time, window))
    }
}

/// What a walk comes upon.
#[derive(Debug)]
pub(super) enum Found {
    Object(Listed),
    /// Keys that were not listed, and why.
    Unlisted {
        keys: String,
        why: &'static str,
    },
    /// What is wrong with a part of the list.
    Trouble {
        key: String,
        what: String,
    },
}

/// What a list is asked for.
#[derive(Debug, Clone, Default)]
struct Ask {
    prefix: String,
    by_folder: bool,
    start_after: Option<String>,
    /// Keys from here on are of no interest.
    end: Option<String>,
}

/// One answer.
#[derive(Debug, Default)]
struct Page {
    items: Vec<Item>,
    next: Option<String>,
}

#[derive(Debug)]
enum Item {
    Object(Listed),
    Folder(String),
    Trouble { key: String, what: String },
}

impl Item {
    fn name(&self) -> &str {
        match self {
            Self::Object(listed) => &listed.key,
            Self::Folder(name) | Self::Trouble { key: name, .. } => name,
        }
    }
}

/// A list that is being read.
#[derive(Debug)]
struct Open {
    ask: Ask,
    items: VecDeque<Item>,
    token: Option<String>,
    is_done: bool,
    pages: u64,
    empty: u32,
    /// The last name of the list, which every later one must follow.
    last: String,
}

impl Open {
    fn new(ask: Ask) -> Self {
        Self {
            ask,
            items: VecDeque::new(),
            token: None,
            is_done: false,
            pages: 0,
            empty: 0,
            last: String::new(),
        }
    }
}

/// Goes through prefixes, one after the other. Memory is bounded by the depth of folders.
#[derive(Debug)]
pub(super) struct Walk {
    client: Client,
    bucket: String,
    prefixes: VecDeque<(String, Window)>,
    /// The window of the prefix that is being walked.
    window: Window,
    open: Vec<Open>,
    explored: u32,
    requests: u64,
    /// Whether a list that fails is a trouble among others.
    has_begun: bool,
    found: VecDeque<Found>,
}

impl Walk {
    pub(super) fn new(client: Client, bucket: &str, prefixes: &[(String, Window)]) -> Self {
        let prefixes: VecDeque<_> = prefixes.iter().cloned().collect();
        // Of several, one that may not be listed does not keep from the others.
        let has_begun = prefixes.len() > 1;
        Self {
            client,
            bucket: bucket.to_owned(),
            prefixes,
            window: Window::default(),
            open: Vec::new(),
            explored: 0,
            requests: 0,
            has_begun,
            found: VecDeque::new(),
        }
    }

    /// The window of the prefix that is being walked.
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Lists that were asked for.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// What comes next in the order of keys; `None` at the end.
    ///
    /// # Errors
    ///
    /// What the first list of an only prefix says. Else a list that fails is [`Found::Trouble`].
    pub(super) async fn next(&mut self) -> Result<Option<Found>, Failure> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            let Some(open) = self.open.last_mut() else {
                let Some((prefix, window)) = self.prefixes.pop_front() else { return Ok(None) };
                self.window = window;
                let folder = prefix.rfind('/').and_then(|at| prefix.get(..=at)).unwrap_or_default();
                let by_folder =
                    !self.window.is_all() && !matches!(stage(folder), Stage::Date { is_day: true, .. });
                self.open.push(Open::new(Ask { prefix, by_folder, ..Ask::default() }));
                continue;
            };
            match open.items.pop_front() {
                Some(Item::Object(listed)) => return Ok(Some(Found::Object(listed))),
                Some(Item::Trouble { key, what }) => return Ok(Some(Found::Trouble { key, what })),
                Some(Item::Folder(name)) => self.enter(name),
                None if open.is_done => drop(self.open.pop()),
                None => self.turn_page().await?,
            }
        }
    }

    /// Looks into a folder as far as the window needs it.
    fn enter(&mut self, prefix: String) {
        let by_folder = match stage(&prefix) {
            Stage::Date { layout, span, .. } if !layout.may_hold(span, &self.window) => {
                self.found.push_back(Found::Unlisted { keys: prefix, why: "outside the time asked for" });
                return;
            }
            Stage::Date { is_day, .. } => !is_day,
            Stage::Above => true,
            Stage::Unknown => {
                self.explored = self.explored.saturating_add(1);
                self.explored <= MOST_EXPLORED
            }
            Stage::Astray => false,
        };
        self.open.push(Open::new(Ask { prefix, by_folder, ..Ask::default() }));
    }

    /// Reads the next page of the innermost list.
    async fn turn_page(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        self.requests = self.requests.saturating_add(1);
        let (client, bucket, ask) = (&self.client, &self.bucket, &open.ask);
        let token = open.token.take();
        let answer = patiently(|| ask_page(client, bucket, ask, token.as_deref())).await;
        let mut page = match answer {
            Ok(page) => page,
            Err(failure) => {
                let failure = of_list(failure, bucket, &ask.prefix);
                if !self.has_begun {
                    return Err(failure);
                }
                self.give_up(&failure.to_string());
                return Ok(());
            }
        };
        self.has_begun = true;
        open.pages = open.pages.saturating_add(1);
        open.empty = if page.items.is_empty() { open.empty.saturating_add(1) } else { 0 };
        page.items.sort_by(|one, other| one.name().as_bytes().cmp(other.name().as_bytes()));
        if open.empty >= MOST_EMPTY {
            self.give_up(&format!("{MOST_EMPTY} pages of the list were empty, one after the other"));
            return Ok(());
        }
        // A list is in order. One that is not may repeat itself without end.
        let is_in_order =
            page.items.first().is_none_or(|item| open.pages == 1 || item.name() > open.last.as_str());
        if !is_in_order {
            self.give_up("the server's list is not in the order of its keys, so it may repeat itself");
            return Ok(());
        }
        if let Some(item) = page.items.last() {
            item.name().clone_into(&mut open.last);
        }
        if open.pages == 1
            && page.next.is_some()
            && open.ask.start_after.is_none()
            && !self.window.is_all()
            && page.items.iter().all(|item| is_dashed_after(&open.ask.prefix, item.name()))
        {
            let (start_after, end) = dashed_range(&open.ask.prefix, &self.window);
            let prefix = open.ask.prefix.clone();
            for (keys, is_cut) in [
                (
                    format!("{prefix}… up to {}", start_after.clone().unwrap_or_default()),
                    start_after.is_some(),
                ),
                (format!("{prefix}… from {} on", end.clone().unwrap_or_default()), end.is_some()),
            ] {
                if is_cut {
                    self.found.push_back(Found::Unlisted { keys, why: "outside the time asked for" });
                }
            }
            let start_after = Some(start_after.unwrap_or_else(|| prefix.clone()));
            *open = Open::new(Ask { prefix, start_after, end, by_folder: open.ask.by_folder });
            return Ok(());
        }
        let end = open.ask.end.as_deref();
        let is_past = |item: &Item| end.is_some_and(|end| item.name() >= end);
        open.is_done = page.next.is_none() || page.items.last().is_some_and(is_past);
        open.items.extend(page.items.into_iter().filter(|item| !is_past(item)));
        open.token = page.next;
        Ok(())
    }

    /// Ends the innermost list before its end.
    fn give_up(&mut self, why: &str) {
        let Some(open) = self.open.pop() else { return };
        let key = if open.last.is_empty() { open.ask.prefix } else { open.last };
        let what = format!("the list of objects ends here, and what follows is not acquired: {why}");
        self.found.extend(open.items.into_iter().filter_map(|item| match item {
            Item::Object(listed) => Some(Found::Object(listed)),
            _ => None,
        }));
        self.found.push_back(Found::Trouble { key, what });
    }
}

async fn ask_page(client: &Client, bucket: &str, ask: &Ask, token: Option<&str>) -> Result<Page, Failure> {
    const OPERATION: &str = "S3 ListObjectsV2";
    let answer = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(&ask.prefix)
        .set_delimiter(ask.by_folder.then(|| "/".to_owned()))
        .set_start_after(ask.start_after.clone().filter(|_| token.is_none()))
        .set_continuation_token(token.map(str::to_owned))
        // XML cannot hold every character that a key may have.
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .map_err(|error| Failure::of(OPERATION, &error))?;
    let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let decode = |text: &str| if is_encoded { decoded(text) } else { Some(text.to_owned()) };
    let mut page = Page::default();
    for object in answer.contents() {
        let raw = object.key().unwrap_or_default();
        let key = decode(raw).filter(|key| !key.is_empty() && key.len() <= LONGEST_KEY);
        let Some(key) = key.filter(|key| key.starts_with(&ask.prefix)) else {
            let what = "the server lists it, but it is no key of this prefix: it was not acquired".to_owned();
            page.items.push(Item::Trouble { key: raw.chars().take(LONGEST_KEY).collect(), what });
            continue;
        };
        let Ok(size) = u64::try_from(object.size().unwrap_or(-1)) else {
            let what = "the server lists it without a size: it was not acquired".to_owned();
            page.items.push(Item::Trouble { key, what });
            continue;
        };
        page.items.push(Item::Object(Listed {
            key,
            size,
            etag: object.e_tag().map(str::to_owned),
            modified: object.last_modified().map(|time| (time.secs(), time.subsec_nanos())),
            class: object.storage_class().map(|class| class.as_str().to_owned()),
        }));
    }
    for folder in answer.common_prefixes() {
        let raw = folder.prefix().unwrap_or_default();
        let below = decode(raw).filter(|name| name.ends_with('/') && name.len() <= LONGEST_KEY);
        let below = below.filter(|name| name.starts_with(&ask.prefix) && name.len() > ask.prefix.len());
        match below {
            Some(name) => page.items.push(Item::Folder(name)),
            None => {
                let what =
                    "the server lists it as a folder, but it is none of this prefix: it was not listed"
                        .to_owned();
                page.items.push(Item::Trouble { key: raw.chars().take(LONGEST_KEY).collect(), what });
            }
        }
    }
    let token = answer.next_continuation_token().filter(|token| !token.is_empty());
    if answer.is_truncated() == Some(true) {
        let missing =
            || Failure::found(OPERATION, FailureKind::Corrupt, "the list goes on, but does not say how");
        page.next = Some(token.ok_or_else(missing)?.to_owned());
    }
    Ok(page)
}

/// A key as a list with URL encoding has it: `%XX`, and `+` for a space. `None` if that gives no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit =
                    |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                high << 4 | low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_as_the_service_encodes_them() {
        assert_eq!(decoded("a+b%2Bc%01%C3%BC/%25").as_deref(), Some("a b+c\u{1}ü/%"));
        for bad in ["%", "%4", "%zz", "%FF"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}

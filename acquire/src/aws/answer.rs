//! What a service answered: typed, and as the bytes that came.

use std::collections::HashSet;
use std::fmt;

use super::failure::{Failure, FailureKind};

/// Pages of one list, at most; AWS ends far sooner.
const MOST_PAGES: usize = 10_000;

/// An answer as it came, to be kept as evidence.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw {
    /// As `EC2 DescribeInstances`.
    pub operation: String,
    /// The service's number of this request.
    pub request_id: Option<String>,
    /// Whether the bytes are JSON; else they are XML.
    pub is_json: bool,
    /// The whole body.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Raw {
    /// Without the bytes: an answer may hold a secret of the instance.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("operation", &self.operation)
            .field("request_id", &self.request_id)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What was asked for, with the answers that it was read from, page by page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered<T> {
    /// What was asked for.
    pub value: T,
    /// The answers as they came.
    pub raw: Vec<Raw>,
}

impl<T> Answered<T> {
    /// The same answers, read further.
    pub(crate) fn map<U>(self, read: impl FnOnce(T) -> U) -> Answered<U> {
        Answered { value: read(self.value), raw: self.raw }
    }
}

/// Follows a list from page to page, and sees when it goes round in a circle.
#[derive(Debug)]
pub(crate) struct Pages {
    operation: String,
    seen: HashSet<String>,
}

impl Pages {
    pub(crate) fn new(operation: &str) -> Self {
        Self { operation: operation.to_owned(), seen: HashSet::new() }
    }

    /// Takes the token of the next page; `None` where the list ends. A page may be empty and have a next one.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Corrupt`] for a token that was given before, or a list without an end.
    pub(crate) fn next(&mut self, token: Option<String>) -> Result<Option<String>, Failure> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        let fault = |what: &str| Err(Failure::found(&self.operation, FailureKind::Corrupt, what));
        if self.seen.len() >= MOST_PAGES {
            return fault("the list has more pages than can be");
        }
        if !self.seen.insert(token.clone()) {
            return fault("the list goes round in a circle: a page names one that was had before");
        }
        Ok(Some(token))
    }
}

/// Every item of a list, with the pages as they came.
pub(crate) fn all_pages<T>(
    operation: &str,
    mut page: impl FnMut(Option<&str>) -> Result<(Vec<T>, Option<String>, Raw), Failure>,
) -> Result<Answered<Vec<T>>, Failure> {
    let mut pages = Pages::new(operation);
    let (mut value, mut raw, mut token) = (Vec::new(), Vec::new(), None);
    loop {
        let (items, next, answer) = page(token.as_deref())?;
        value.extend(items);
        raw.push(answer);
        match pages.next(next)? {
            Some(next) => token = Some(next),
            None => return Ok(Answered { value, raw }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> Raw {
        Raw { operation: "EC2 X".to_owned(), request_id: None, is_json: false, bytes: b"hunter2".to_vec() }
    }

    fn list(tokens: &[Option<&str>]) -> Result<Answered<Vec<usize>>, Failure> {
        let mut calls = 0;
        all_pages("EC2 X", |_| {
            let token = tokens.get(calls).copied().flatten().map(str::to_owned);
            calls += 1;
            Ok((if calls == 2 { vec![] } else { vec![calls] }, token, raw()))
        })
    }

    #[test]
    fn a_list_is_followed_over_empty_pages_to_its_end() {
        let all = list(&[Some("a"), Some("b"), Some("c"), None]).unwrap();
        assert_eq!((all.value, all.raw.len()), (vec![1, 3, 4], 4));
        assert_eq!(list(&[Some("a"), Some("")]).unwrap().raw.len(), 2);
    }

    #[test]
    fn a_list_that_goes_round_in_a_circle_is_a_failure_and_not_an_endless_loop() {
        for tokens in [[Some("a"), Some("a"), None], [Some("a"), Some("b"), Some("a")]] {
            let failure = list(&tokens).unwrap_err();
            assert!(failure.kind == FailureKind::Corrupt && failure.message.contains("circle"), "{failure}");
        }
        let mut count = 0_usize;
        let endless = all_pages::<u8>("EC2 X", |_| {
            count += 1;
            Ok((vec![], Some(count.to_string()), raw()))
        });
        assert_eq!(endless.unwrap_err().kind, FailureKind::Corrupt);
    }

    #[test]
    fn an_answer_is_not_shown_by_debug() {
        assert!(!format!("{:?}", Answered { value: (), raw: vec![raw()] }).contains("hunter2"));
    }
}

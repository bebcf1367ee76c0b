//! Who is who: the file of allowed signers that `ssh-keygen -Y verify -f` takes.

use std::path::Path;

use super::certificate::Certificate;
use super::public_key::SshPublicKey;
use super::signature::Signed;
use crate::clock::parse_rfc3339;
use crate::durable_file::read_small;
use crate::error::{Error, Result};

/// Larger files are no list of people.
const MOST_FILE: u64 = 16 << 20;

/// A file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS).
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners(Vec<AllowedSigner>);

/// One line of it: people, and their key or the key of the authority that certifies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigner {
    /// Patterns of names, as `*@lab.example` or `!guest@lab.example`.
    pub principals: Vec<String>,
    /// Whether the key is of an authority.
    pub authority: bool,
    /// In which namespaces it may sign; all when there are none.
    pub namespaces: Vec<String>,
    /// From when on, in nanoseconds since 1970.
    pub valid_after: Option<i64>,
    /// Until when.
    pub valid_before: Option<i64>,
    /// The key.
    pub key: SshPublicKey,
}

impl AllowedSigners {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], or [`Error::Malformed`] with the number of the line.
    pub fn read(path: &Path) -> Result<Self> {
        let missing = || Error::Read { path: path.to_owned(), source: std::io::ErrorKind::NotFound.into() };
        let bytes = read_small(path, MOST_FILE)?.ok_or_else(missing)?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads the text of such a file. Times without a zone are taken as UTC.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] with the number of the line.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let line_of = |(at, line): (usize, &str)| {
            AllowedSigner::parse(line)
                .map_err(|error| Error::malformed("allowed signers file", format!("line {at}: {error}")))
        };
        lines.map(line_of).collect::<Result<Vec<_>>>().map(Self)
    }

    /// Adds the lines of another file.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Whether it lists nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who signed in this namespace at this time (nanoseconds since 1970): the names that the list allows.
    ///
    /// `None` when it knows neither the key nor, at that time, the certificate's authority.
    pub fn who(&self, signed: &Signed, namespace: &str, wall_ns: i64) -> Option<Vec<String>> {
        self.0.iter().filter(|line| line.holds(namespace, wall_ns)).find_map(|line| {
            match (&signed.certificate, line.authority) {
                (Some(certificate), true) => line.certifies(certificate, wall_ns),
                (_, false) if line.key == signed.key => Some(line.principals.clone()),
                _ => None,
            }
        })
    }
}

impl AllowedSigner {
    fn parse(line: &str) -> Result<Self> {
        let bad = |why: String| Error::malformed("line", why);
        let mut words = words_of(line).into_iter();
        let principals = words.next().unwrap_or_default().replace('"', "");
        let principals: Vec<String> = principals.split(',').map(str::to_owned).collect();
        let rest: Vec<String> = words.collect();
        let algorithm =
            |word: &str| word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-");
        let (options, key) = match rest.as_slice() {
            [first, ..] if algorithm(first) => ("", rest.join(" ")),
            [options, key @ ..] => (options.as_str(), key.join(" ")),
            [] => return Err(bad("it names no key".to_owned())),
        };
        let key = SshPublicKey::from_line(&key)?;
        let mut read = Self {
            principals,
            authority: false,
            namespaces: Vec::new(),
            valid_after: None,
            valid_before: None,
            key,
        };
        for option in options_of(options) {
            let (name, value) = option.split_once('=').unwrap_or((&option, ""));
            match name.to_ascii_lowercase().as_str() {
                "cert-authority" => read.authority = true,
                "namespaces" => read.namespaces = value.split(',').map(str::to_owned).collect(),
                "valid-after" => read.valid_after = Some(time_of(value)?),
                "valid-before" => read.valid_before = Some(time_of(value)?),
                other => return Err(bad(format!("the option {other:?} is not known"))),
            }
        }
        Ok(read)
    }

    fn holds(&self, namespace: &str, wall_ns: i64) -> bool {
        (self.namespaces.is_empty() || matches_list(&self.namespaces, namespace))
            && self.valid_after.is_none_or(|after| after <= wall_ns)
            && self.valid_before.is_none_or(|before| wall_ns < before)
    }

    fn certifies(&self, certificate: &Certificate, wall_ns: i64) -> Option<Vec<String>> {
        if certificate.authority != self.key || !certificate.holds_at(wall_ns) {
            return None;
        }
        let allowed = certificate.names.iter().filter(|name| matches_list(&self.principals, name));
        let names: Vec<String> = allowed.cloned().collect();
        (!names.is_empty()).then_some(names)
    }
}

/// Splits at blanks outside quotes.
fn words_of(line: &str) -> Vec<String> {
    split_outside_quotes(line, |c| c == ' ' || c == '\t')
}

/// Splits at commas outside quotes, and takes the quotes off.
fn options_of(text: &str) -> Vec<String> {
    split_outside_quotes(text, |c| c == ',').into_iter().map(|option| option.replace('"', "")).collect()
}

fn split_outside_quotes(text: &str, at: impl Fn(char) -> bool) -> Vec<String> {
    let mut quoted = false;
    let split = text.split(|c: char| {
        quoted ^= c == '"';
        !quoted && at(c)
    });
    split.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, with or without a `Z`.
fn time_of(text: &str) -> Result<i64> {
    let bad = || Error::malformed("time", format!("{text:?} is not YYYYMMDD[HHMM[SS]][Z]"));
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(bad());
    }
    let digits = format!("{digits:0<14}");
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    let (date, time) = ((part(0..4), part(4..6), part(6..8)), (part(8..10), part(10..12), part(12..14)));
    let text = format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, time.0, time.1, time.2);
    parse_rfc3339(&text).map_err(|_| bad())
}

/// Whether a list of patterns takes a text: one does, and none that begins with `!` does.
fn matches_list(patterns: &[String], text: &str) -> bool {
    let hit = |pattern: &str| matches(pattern.as_bytes(), text.as_bytes());
    let refused = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(hit);
    !refused && patterns.iter().filter(|pattern| !pattern.starts_with('!')).any(|pattern| hit(pattern))
}

/// Shell-like: `*` and `?`. Goes back to the last `*` only, so its time is at most the product of both lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(letter) if text.get(t) == Some(letter) => (p, t) = (p + 1, t + 1),
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3URoR";

    #[test]
    fn lines_are_read_with_their_options() {
        let text = format!(
            "# people\n\njane@lab,j@lab {KEY} Jane\n*@lab cert-authority,namespaces=\"custody@v1,file\" {KEY}\n\
             old@lab valid-after=\"20260101\",valid-before=20270101120000Z {KEY}\n"
        );
        let read = AllowedSigners::parse(&text).unwrap().0;
        assert_eq!(read[0].principals, ["jane@lab", "j@lab"]);
        assert!(read[1].authority && read[1].namespaces == ["custody@v1", "file"]);
        assert!(read[1].holds("file", 0) && !read[1].holds("git", 0));
        assert_eq!(read[2].valid_after, Some(1_767_225_600_000_000_000));
        assert!(!read[2].holds("x", 0));
        for (bad, why) in [("jane@lab", "line 1"), ("j verify-required ssh-ed25519 AAAA", "line 1")] {
            let error = AllowedSigners::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = AllowedSigners::parse(&format!("j odd {KEY}")).unwrap_err().to_string();
        assert!(error.contains("\"odd\" is not known"), "{error}");
    }

    #[test]
    fn patterns_match_as_in_a_shell_and_refusals_win() {
        for (pattern, text, hit) in [
            ("*", "", true),
            ("*@lab", "jane@lab", true),
            ("*@lab", "jane@lab.evil", false),
            ("j?ne@*", "jane@lab", true),
            ("**a**b", "xaxxb", true),
            ("a*b*c", "abxbc", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), hit, "{pattern} {text}");
        }
        let list = ["*@lab".to_owned(), "!guest@lab".to_owned()];
        assert!(matches_list(&list, "jane@lab") && !matches_list(&list, "guest@lab"));
    }
}

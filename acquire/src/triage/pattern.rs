//! Patterns of paths: `*` and `?` within one part, `[a-z]` and `[!a-z]` for one byte, `**` for any number of parts.
//!
//! A star matches a leading dot as well: what hides is what is looked for. Patterns are matched on bytes, and no part
//! ever matches a slash.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// It starts at each home folder instead of the root.
    pub(crate) is_of_home: bool,
    pub(crate) parts: Vec<Part>,
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// This name.
    Name(Vec<u8>),
    /// Any name that matches.
    Glob(Vec<Token>),
    /// Any number of folders, or none.
    AnyDepth,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Byte(u8),
    AnyByte,
    AnyRun,
    Set { not: bool, ranges: Vec<(u8, u8)> },
}

impl Pattern {
    /// Reads one that starts at the root or at each home: `/var/log/*.log`, `~/.ssh/*`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn path(text: &str) -> Result<Self, String> {
        let (rest, is_of_home) = match (text.strip_prefix("~/"), text.strip_prefix('/')) {
            (Some(rest), _) => (rest, true),
            (_, Some(rest)) => (rest, false),
            _ => return Err(format!("the pattern {text:?} is no path: it starts with / or ~/")),
        };
        Self::read(text, rest, is_of_home)
    }

    /// Reads one that matches the last parts of a path: `.git/hooks/*`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn tail(text: &str) -> Result<Self, String> {
        if text.starts_with('/') || text.starts_with("~/") {
            return Err(format!("the pattern {text:?} is for any place, and cannot start with / or ~/"));
        }
        let pattern = Self::read(text, text, false)?;
        if pattern.parts.contains(&Part::AnyDepth) {
            return Err(format!("the pattern {text:?} is for any place already: it needs no **"));
        }
        Ok(pattern)
    }

    /// Reads one of either kind.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn either(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Self::path(text).map(|mut pattern| {
                pattern.parts.insert(0, Part::Name(Vec::new()));
                pattern
            });
        }
        Self::tail(text)
    }

    fn read(text: &str, rest: &str, is_of_home: bool) -> Result<Self, String> {
        let mut parts = Vec::new();
        for part in rest.split('/').filter(|part| !part.is_empty()) {
            match part {
                "." | ".." => return Err(format!("the pattern {text:?} holds {part}")),
                "**" if parts.last() == Some(&Part::AnyDepth) => {}
                "**" => parts.push(Part::AnyDepth),
                part => parts.push(read_part(text, part.as_bytes())?),
            }
        }
        if parts.is_empty() && !rest.is_empty() {
            return Err(format!("the pattern {text:?} names nothing"));
        }
        if text.contains('\0') {
            return Err(format!("the pattern {text:?} holds a zero byte"));
        }
        Ok(Self { text: text.to_owned(), is_of_home, parts })
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a path matches: its last parts, or, of a pattern that starts with a slash, all of them.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        let names: Vec<&OsStr> = path
            .components()
            .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
            .collect();
        match self.parts.split_first() {
            Some((Part::Name(root), rest)) if root.is_empty() => matches_all(rest, &names),
            _ => names
                .len()
                .checked_sub(self.parts.len())
                .and_then(|from| names.get(from..))
                .is_some_and(|tail| self.parts.iter().zip(tail).all(|(part, name)| part.matches(name))),
        }
    }
}

impl Part {
    /// Whether a name matches. A part of any depth matches none by itself.
    pub(crate) fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(own) => own == name.as_bytes(),
            Self::Glob(tokens) => matches_name(tokens, name.as_bytes()),
            Self::AnyDepth => false,
        }
    }
}

fn matches_all(parts: &[Part], names: &[&OsStr]) -> bool {
    match (parts.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((Part::AnyDepth, [])), _) => true,
        (Some((Part::AnyDepth, rest)), _) => {
            (0..=names.len()).any(|skip| matches_all(rest, names.get(skip..).unwrap_or_default()))
        }
        (Some((part, rest)), Some((name, others))) => part.matches(name) && matches_all(rest, others),
        _ => false,
    }
}

fn read_part(text: &str, part: &[u8]) -> Result<Part, String> {
    if !part.iter().any(|byte| b"*?[".contains(byte)) {
        return Ok(Part::Name(part.to_vec()));
    }
    let mut tokens = Vec::new();
    let mut rest = part;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'*' if tokens.last() == Some(&Token::AnyRun) => {}
            b'*' => tokens.push(Token::AnyRun),
            b'?' => tokens.push(Token::AnyByte),
            b'[' => {
                let end = rest.iter().position(|&byte| byte == b']').filter(|&end| end > 0);
                let Some((inside, after)) = end.and_then(|end| rest.split_at_checked(end)) else {
                    return Err(format!("the pattern {text:?} has a [ without its ]"));
                };
                tokens.push(read_set(inside));
                rest = after.get(1..).unwrap_or_default();
            }
            byte => tokens.push(Token::Byte(byte)),
        }
    }
    Ok(Part::Glob(tokens))
}

fn read_set(inside: &[u8]) -> Token {
    let (not, mut rest) = match inside.split_first() {
        Some((b'!' | b'^', rest)) if !rest.is_empty() => (true, rest),
        _ => (false, inside),
    };
    let mut ranges = Vec::new();
    while let Some((&from, after)) = rest.split_first() {
        match after {
            [b'-', to, others @ ..] => {
                ranges.push((from, *to));
                rest = others;
            }
            _ => {
                ranges.push((from, from));
                rest = after;
            }
        }
    }
    Token::Set { not, ranges }
}

/// Matches with one place to come back to, so that the time is bounded by the product of both lengths.
fn matches_name(tokens: &[Token], name: &[u8]) -> bool {
    let (mut at, mut token) = (0usize, 0usize);
    let mut again: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(at) {
        let is_match = match tokens.get(token) {
            Some(Token::AnyRun) => {
                again = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::AnyByte) => true,
            Some(Token::Byte(own)) => *own == byte,
            Some(Token::Set { not, ranges }) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *not
            }
            None => false,
        };
        if is_match {
            (at, token) = (at + 1, token + 1);
        } else if let Some((star, from)) = again {
            (at, token) = (from + 1, star + 1);
            again = Some((star, from + 1));
        } else {
            return false;
        }
    }
    tokens.get(token..).unwrap_or_default().iter().all(|token| *token == Token::AnyRun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, name: &str) -> bool {
        Pattern::tail(pattern).unwrap().matches(Path::new(name))
    }

    #[test]
    fn names_match_as_a_shell_has_it_and_hidden_ones_as_well() {
        for (pattern, good, bad) in [
            ("*.log", "a.log", "a.log.1"),
            ("*.log", ".log", "log"),
            ("*", ".hidden", ""),
            ("a?c", "abc", "ac"),
            ("syslog.[0-9]", "syslog.3", "syslog.x"),
            ("x[!a-c]", "xd", "xb"),
            ("[-a]", "-", "b"),
            ("a*b*c", "aXbYbc", "aXcYb"),
            ("*aaaaaaaa*b", "aaaaaaaaaaab", "aaaaaaaaaaaa"),
        ] {
            assert!(name(pattern, good), "{pattern} {good}");
            assert!(!name(pattern, bad), "{pattern} {bad}");
        }
    }

    #[test]
    fn a_pattern_for_any_place_matches_the_last_parts_of_a_path() {
        assert!(name(".git/hooks/*", "/srv/a/.git/hooks/post-commit"));
        assert!(!name(".git/hooks/*", "/srv/a/.git/hooks"));
        assert!(!name("a/b", "b"));
    }

    #[test]
    fn an_exclusion_with_a_leading_slash_matches_the_whole_path() {
        let whole = Pattern::either("/var/*/x").unwrap();
        assert!(whole.matches(Path::new("/var/log/x")));
        assert!(!whole.matches(Path::new("/srv/var/log/x")));
        let deep = Pattern::either("/var/**/x").unwrap();
        assert!(deep.matches(Path::new("/var/x")) && deep.matches(Path::new("/var/a/b/x")));
        assert!(Pattern::either("/var/**").unwrap().matches(Path::new("/var/a/b")));
    }

    #[test]
    fn patterns_that_could_lead_astray_are_refused() {
        for bad in ["var/log", "/var/../etc", "/a/[b", "//", "/a\0"] {
            assert!(Pattern::path(bad).is_err(), "{bad:?}");
        }
        for bad in ["/x", "~/x", "a/**/b", "."] {
            assert!(Pattern::tail(bad).is_err(), "{bad:?}");
        }
    }
}

//! Where in a file of TOML or JSON something stands, so that an error names its line.

use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::raw::NoKeyTwice;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Toml,
    Json,
}

impl Syntax {
    /// As the name of the file says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Reads a file into a type.
    ///
    /// # Errors
    ///
    /// What is wrong, with its line. A key that is said twice is wrong in both.
    pub(crate) fn read<T: serde::de::DeserializeOwned>(self, text: &str) -> Result<T, String> {
        match self {
            Self::Toml => toml::from_str(text).map_err(|error| {
                let line = error.span().map(|span| line_at(text, span.start));
                at_line(line, error.message())
            }),
            Self::Json => {
                let twice = serde_json::from_str::<NoKeyTwice>(text).map(|_| ());
                twice.and_then(|()| serde_json::from_str(text)).map_err(|error| {
                    let words = error.to_string();
                    let what = words.rsplit_once(" at line ").map_or(words.as_str(), |(what, _)| what);
                    at_line(Some(error.line()), what)
                })
            }
        }
    }

    /// The line of what stands at a path, or of what is nearest above it.
    pub(crate) fn line(self, text: &str, path: &[Part]) -> Option<usize> {
        (0..=path.len()).rev().find_map(|length| {
            let seed = Walk(path.get(..length)?);
            match self {
                Self::Toml => {
                    let error = seed.deserialize(toml::Deserializer::parse(text).ok()?).err()?;
                    (error.message() == HERE).then(|| error.span().map(|span| line_at(text, span.start)))?
                }
                Self::Json => {
                    let error = seed.deserialize(&mut serde_json::Deserializer::from_str(text)).err()?;
                    error.to_string().starts_with(HERE).then(|| error.line())
                }
            }
        })
    }
}

/// A step on the way to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key(&'static str),
    Item(usize),
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) path: Vec<Part>,
    pub(crate) what: String,
}

impl Fault {
    pub(crate) fn new(path: &[Part], what: impl Into<String>) -> Self {
        Self { path: path.to_vec(), what: what.into() }
    }

    /// In words, with its line.
    pub(crate) fn words(&self, syntax: Syntax, text: &str) -> String {
        at_line(syntax.line(text, &self.path), &self.what)
    }
}

/// A path with one part more.
pub(crate) fn below(path: &[Part], parts: &[Part]) -> Vec<Part> {
    path.iter().chain(parts).copied().collect()
}

fn at_line(line: Option<usize>, what: &str) -> String {
    line.map_or_else(|| what.to_owned(), |line| format!("line {line}: {what}"))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The error that marks the place: the reader of either syntax adds to it where it is.
const HERE: &str = "this is the place";

/// Goes down a path and fails where it ends.
struct Walk<'a>(&'a [Part]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.plain()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.plain()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.plain()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.plain()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.plain()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.plain()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((next, rest)) = self.0.split_first() else { return Err(A::Error::custom(HERE)) };
        let Part::Item(wanted) = next else { return Ok(()) };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Walk(rest))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((next, rest)) = self.0.split_first() else { return Err(A::Error::custom(HERE)) };
        while let Some(key) = map.next_key::<String>()? {
            match next {
                Part::Key(wanted) if *wanted == key => map.next_value_seed(Walk(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl Walk<'_> {
    fn plain<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.0.is_empty() { Err(E::custom(HERE)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "version = 1\n[[rule]]\nid = \"a\"\nstep = [\n  { id = \"x\" },\n  { id = \"y\" },\n]\n\n[[rule]]\nid = \"b\"\nmatch.all = [\n { field = \"s\" }\n]\n";
    const JSON: &str = "{\n\"version\": 1,\n\"rule\": [\n{\"id\": \"a\", \"step\": [\n{\"id\": \"x\"},\n{\"id\": \"y\"}]},\n{\"id\": \"b\"}]}\n";

    #[test]
    fn a_path_has_a_line_in_both_syntaxes() {
        use Part::{Item, Key};
        for (path, toml, json) in [
            (vec![Key("version")], 1, 2),
            (vec![Key("rule"), Item(0), Key("id")], 3, 4),
            (vec![Key("rule"), Item(0), Key("step"), Item(1)], 6, 6),
            (vec![Key("rule"), Item(1), Key("id")], 10, 7),
        ] {
            assert_eq!(Syntax::Toml.line(TOML, &path), Some(toml), "{path:?}");
            assert_eq!(Syntax::Json.line(JSON, &path), Some(json), "{path:?}");
        }
        let matcher = [Key("rule"), Item(1), Key("match"), Key("all"), Item(0)];
        assert_eq!(Syntax::Toml.line(TOML, &matcher), Some(12));
    }

    #[test]
    fn what_is_not_there_has_the_line_of_what_is_above_it() {
        let path = [Part::Key("rule"), Part::Item(0), Part::Key("step"), Part::Item(1), Part::Key("needs")];
        assert_eq!(Syntax::Toml.line(TOML, &path), Some(6));
        assert_eq!(Syntax::Json.line(JSON, &path), Some(6));
    }

    #[test]
    fn a_key_that_is_said_twice_is_an_error_with_its_line() {
        type Any = serde_json::Value;
        let twice = Syntax::Json.read::<Any>("{\n\"a\": {\"b\": 1,\n\"b\": 2}}").unwrap_err();
        assert_eq!(twice, "line 3: the key \"b\" is there twice");
        let twice = Syntax::Toml.read::<Any>("a = 1\nb = 1\na = 2\n").unwrap_err();
        assert!(twice.starts_with("line 3: duplicate key"), "{twice}");
        assert!(Syntax::Json.read::<Any>(&"[".repeat(100_000)).is_err());
        assert!(Syntax::Toml.read::<Any>(&format!("a = {}", "[".repeat(100_000))).is_err());
    }
}

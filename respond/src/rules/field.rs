//! What a matcher can look at: fields of the alert, and of the asset that would be acted on.

use crate::alert::{Alert, Status};
use crate::inventory::Asset;

/// Fields of this prefix are the asset's own tags, whatever their names are.
pub const TAGS: &str = "asset.tags.";

/// What a matcher is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The alert.
    pub alert: &'a Alert,
    /// The asset, as the inventory has it, and the role that the alert gives it.
    pub asset: Option<(&'a Asset, &'a str)>,
}

/// What kind of values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// A text.
    Text,
    /// Any number of texts; a matcher holds if it holds for one of them.
    Texts,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
}

/// One field of the table.
pub struct FieldKind {
    /// Its name in rules.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// What values it has.
    pub holds: Holds,
    read: for<'a> fn(&Subject<'a>) -> Values<'a>,
}

/// The values of a field; an empty list means that the sender said nothing of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values<'a> {
    Texts(Vec<&'a str>),
    Number(f64),
    Flag(bool),
}

/// A field that a rule names.
#[derive(Clone)]
pub(crate) enum Field {
    Known(&'static FieldKind),
    Tag(String),
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Field {
    /// The field of this name.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        if let Some(kind) = FIELDS.iter().find(|kind| kind.name == name) {
            return Ok(Self::Known(kind));
        }
        match name.strip_prefix(TAGS) {
            Some("") => Err(format!("{TAGS} names no tag")),
            Some(tag) => Ok(Self::Tag(tag.to_owned())),
            None => Err(unknown(name)),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Known(kind) => kind.name.to_owned(),
            Self::Tag(tag) => format!("{TAGS}{tag}"),
        }
    }

    pub(crate) fn holds(&self) -> Holds {
        match self {
            Self::Known(kind) => kind.holds,
            Self::Tag(_) => Holds::Text,
        }
    }

    pub(crate) fn is_tag(&self) -> bool {
        matches!(self, Self::Tag(_))
    }

    /// Whether it is one of the asset, not of the alert.
    pub(crate) fn is_of_asset(&self) -> bool {
        match self {
            Self::Known(kind) => kind.name.starts_with("asset."),
            Self::Tag(_) => true,
        }
    }

    pub(crate) fn read<'a>(&self, subject: &Subject<'a>) -> Values<'a> {
        match self {
            Self::Known(kind) => (kind.read)(subject),
            Self::Tag(tag) => {
                let value = subject.asset.and_then(|(asset, _)| asset.tags.get(tag));
                said(value.map(String::as_str))
            }
        }
    }
}

fn unknown(name: &str) -> String {
    let near = FIELDS.iter().map(|kind| (distance(kind.name, name), kind.name)).min();
    match near {
        Some((steps, near)) if steps <= 3 => format!("there is no field {name:?}; {near:?} is near"),
        _ => format!("there is no field {name:?}; `docs/RULES.md` has the table"),
    }
}

/// In how many letters two words differ (Levenshtein), of words that are not long.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above_left), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            let here = (above_left + usize::from(from != to)).min(above + 1).min(left + 1);
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn said<'a>(values: impl IntoIterator<Item = &'a str>) -> Values<'a> {
    Values::Texts(values.into_iter().filter(|value| !value.is_empty()).collect())
}

fn of_asset<'a>(subject: &Subject<'a>, read: fn(&'a Asset) -> &'a str) -> Values<'a> {
    said(subject.asset.map(|(asset, _)| read(asset)))
}

/// Every field but the asset's tags.
pub static FIELDS: &[FieldKind] = &[
    FieldKind {
        name: "source",
        about: "the product that sent it, a word of the table of sources",
        holds: Holds::Text,
        read: |s| said([s.alert.source.as_str()]),
    },
    FieldKind {
        name: "source_id",
        about: "the sender's id of it",
        holds: Holds::Text,
        read: |s| said([s.alert.source_id.as_str()]),
    },
    FieldKind {
        name: "occurrence",
        about: "what tells an update from a repetition",
        holds: Holds::Text,
        read: |s| said([s.alert.occurrence.as_str()]),
    },
    FieldKind {
        name: "status",
        about: "`firing` or `resolved`",
        holds: Holds::Text,
        read: |s| {
            said([match s.alert.status {
                Status::Firing => "firing",
                Status::Resolved => "resolved",
            }])
        },
    },
    FieldKind {
        name: "severity",
        about: "0 to 100",
        holds: Holds::Number,
        read: |s| Values::Number(f64::from(s.alert.severity)),
    },
    FieldKind {
        name: "severity_label",
        about: "the sender's own word for it",
        holds: Holds::Text,
        read: |s| said([s.alert.severity_label.as_str()]),
    },
    FieldKind {
        name: "title",
        about: "one line for people",
        holds: Holds::Text,
        read: |s| said([s.alert.title.as_str()]),
    },
    FieldKind {
        name: "type",
        about: "the sender's kind of alert, such as `Backdoor:EC2/C&CActivity.B`",
        holds: Holds::Text,
        read: |s| said([s.alert.kind.as_str()]),
    },
    FieldKind {
        name: "first_seen",
        about: "a time, as text",
        holds: Holds::Text,
        read: |s| said(s.alert.first_seen.as_deref()),
    },
    FieldKind {
        name: "last_seen",
        about: "a time, as text",
        holds: Holds::Text,
        read: |s| said(s.alert.last_seen.as_deref()),
    },
    FieldKind {
        name: "cloud",
        about: "`aws`, `azure`, `gcp`",
        holds: Holds::Text,
        read: |s| said([s.alert.cloud.as_str()]),
    },
    FieldKind {
        name: "account",
        about: "account, subscription or tenant",
        holds: Holds::Text,
        read: |s| said([s.alert.account.as_str()]),
    },
    FieldKind {
        name: "region",
        about: "the region",
        holds: Holds::Text,
        read: |s| said([s.alert.region.as_str()]),
    },
    FieldKind {
        name: "principals",
        about: "users, roles, access keys",
        holds: Holds::Texts,
        read: |s| said(s.alert.principals.iter().map(String::as_str)),
    },
    FieldKind {
        name: "ips",
        about: "addresses of the other side",
        holds: Holds::Texts,
        read: |s| said(s.alert.ips.iter().map(String::as_str)),
    },
    FieldKind {
        name: "hashes",
        about: "hashes of files",
        holds: Holds::Texts,
        read: |s| said(s.alert.hashes.iter().map(String::as_str)),
    },
    FieldKind {
        name: "attack.tactic",
        about: "ATT&CK tactics, ids or names as sent",
        holds: Holds::Texts,
        read: |s| said(s.alert.attack.iter().map(|attack| attack.tactic.as_str())),
    },
    FieldKind {
        name: "attack.technique",
        about: "ATT&CK techniques, ids or names as sent",
        holds: Holds::Texts,
        read: |s| said(s.alert.attack.iter().map(|attack| attack.technique.as_str())),
    },
    FieldKind {
        name: "assets.kind",
        about: "kinds of everything that the alert names",
        holds: Holds::Texts,
        read: |s| said(s.alert.assets.iter().map(|asset| asset.kind.word())),
    },
    FieldKind {
        name: "assets.id",
        about: "ids of everything that the alert names",
        holds: Holds::Texts,
        read: |s| said(s.alert.assets.iter().map(|asset| asset.id.as_str())),
    },
    FieldKind {
        name: "link",
        about: "where a person can look at it",
        holds: Holds::Text,
        read: |s| said([s.alert.link.as_str()]),
    },
    FieldKind {
        name: "action",
        about: "what a person pressed at the sender, such as the name of a custom action of Security Hub",
        holds: Holds::Text,
        read: |s| said([s.alert.action.as_str()]),
    },
    FieldKind {
        name: "is_sample",
        about: "whether the sender says that it is only a sample",
        holds: Holds::Flag,
        read: |s| Values::Flag(s.alert.is_sample),
    },
    FieldKind {
        name: "asset.kind",
        about: "the asset's kind, and its tag `kind`, such as `domain_controller`",
        holds: Holds::Texts,
        read: |s| {
            let tag = s.asset.and_then(|(asset, _)| asset.tags.get("kind"));
            said(s.asset.map(|(asset, _)| asset.kind.word()).into_iter().chain(tag.map(String::as_str)))
        },
    },
    FieldKind {
        name: "asset.id",
        about: "its id in the inventory",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.id),
    },
    FieldKind {
        name: "asset.role",
        about: "`primary`, or the alert's word for a lesser part",
        holds: Holds::Text,
        read: |s| said(s.asset.map(|(_, role)| role)),
    },
    FieldKind {
        name: "asset.aliases",
        about: "its other names in the inventory",
        holds: Holds::Texts,
        read: |s| said(s.asset.into_iter().flat_map(|(asset, _)| asset.aliases.iter().map(String::as_str))),
    },
    FieldKind {
        name: "asset.account",
        about: "its account, subscription or cluster",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.account),
    },
    FieldKind {
        name: "asset.region",
        about: "its region",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.region),
    },
    FieldKind {
        name: "asset.owner",
        about: "who answers for it",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.owner),
    },
    FieldKind {
        name: "asset.criticality",
        about: "`low`, `normal`, `high`, `critical`",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.criticality),
    },
    FieldKind {
        name: "asset.group",
        about: "the group it belongs to",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.group),
    },
    FieldKind {
        name: "asset.target",
        about: "through which target of the settings it is reached",
        holds: Holds::Text,
        read: |s| of_asset(s, |asset| &asset.target),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_a_slip_of_the_pen_is_told() {
        for (at, kind) in FIELDS.iter().enumerate() {
            assert!(FIELDS[at + 1..].iter().all(|other| other.name != kind.name), "{}", kind.name);
            assert_eq!(Field::named(kind.name).unwrap().name(), kind.name);
        }
        assert!(Field::named("severty").unwrap_err().contains("\"severity\" is near"));
        assert!(Field::named("asset.tags.").is_err());
        assert!(Field::named("no.such.thing.at.all").unwrap_err().contains("RULES.md"));
        assert_eq!(Field::named("asset.tags.tier").unwrap().name(), "asset.tags.tier");
    }

    #[test]
    fn what_was_not_said_has_no_value() {
        let alert = Alert::default();
        let subject = Subject { alert: &alert, asset: None };
        for kind in FIELDS.iter().filter(|kind| matches!(kind.holds, Holds::Text | Holds::Texts)) {
            let values = Field::Known(kind).read(&subject);
            let expected = if kind.name == "status" { vec!["firing"] } else { vec![] };
            assert_eq!(values, Values::Texts(expected), "{}", kind.name);
        }
    }
}

//! One matcher: a field and what must hold of it. Judging is pure and total: what is missing does not match.

use std::fmt;
use std::net::IpAddr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ipnet::IpNet;

use super::field::{Field, Holds, Subject, Values};
use super::raw::{OneOrMany, RawMatcher, Scalar};

/// More values one matcher does not take.
const MOST_VALUES: usize = 1_024;

/// A longer text no value is.
const LONGEST_VALUE: usize = 1_024;

/// So much of a value is repeated in a reason.
const SHOWN: usize = 80;

/// What each operator does, for people: the table of the documentation.
pub static OPERATORS: &[(&str, &str)] = &[
    ("eq", "is this value"),
    ("in", "is one of these values"),
    ("glob", "is like this pattern, or one of these: `*` any text, `?` one letter, `[ab]`, `{one,other}`"),
    ("prefix", "begins with this text, or one of these"),
    ("suffix", "ends with this text, or one of these"),
    ("contains", "holds this text, or one of these"),
    ("gt", "is above this number"),
    ("gte", "is at least this number"),
    ("lt", "is below this number"),
    ("lte", "is at most this number"),
    ("cidr", "is an address within this network, or one of these"),
    ("exists", "was said (`true`), or was not (`false`)"),
    ("anything_but", "was said, and is none of these values"),
];

/// A field and what must hold of one of its values.
#[derive(Clone)]
pub(crate) struct Matcher {
    field: Field,
    tests: Vec<Test>,
}

#[derive(Clone)]
enum Test {
    In(Vec<Scalar>),
    Glob(GlobSet, Vec<String>),
    Prefix(Vec<String>),
    Suffix(Vec<String>),
    Contains(Vec<String>),
    Above(f64),
    AtLeast(f64),
    Below(f64),
    AtMost(f64),
    Cidr(Vec<IpNet>),
    Exists(bool),
    AnythingBut(Vec<Scalar>),
}

impl Matcher {
    /// Checks what a file says, so that nothing can go wrong when it is judged.
    pub(crate) fn new(raw: &RawMatcher) -> Result<Self, String> {
        let field = Field::named(&raw.field)?;
        let mut tests = Vec::new();
        if let Some(value) = &raw.eq {
            tests.push(Test::In(scalars(&field, "eq", std::slice::from_ref(value))?));
        }
        if let Some(values) = &raw.among {
            tests.push(Test::In(scalars(&field, "in", values)?));
        }
        if let Some(patterns) = &raw.glob {
            let patterns = texts(&field, "glob", patterns)?;
            tests.push(Test::Glob(globs(&patterns)?, patterns));
        }
        if let Some(values) = &raw.prefix {
            tests.push(Test::Prefix(texts(&field, "prefix", values)?));
        }
        if let Some(values) = &raw.suffix {
            tests.push(Test::Suffix(texts(&field, "suffix", values)?));
        }
        if let Some(values) = &raw.contains {
            tests.push(Test::Contains(texts(&field, "contains", values)?));
        }
        for (operator, number, test) in [
            ("gt", raw.gt, Test::Above as fn(f64) -> Test),
            ("gte", raw.gte, Test::AtLeast),
            ("lt", raw.lt, Test::Below),
            ("lte", raw.lte, Test::AtMost),
        ] {
            if let Some(number) = number {
                tests.push(test(bound(&field, operator, number)?));
            }
        }
        if let Some(networks) = &raw.cidr {
            let networks = texts(&field, "cidr", networks)?;
            tests.push(Test::Cidr(networks.iter().map(|text| network(text)).collect::<Result<_, _>>()?));
        }
        if let Some(values) = &raw.anything_but {
            tests.push(Test::AnythingBut(scalars(&field, "anything_but", values.all())?));
        }
        if let Some(exists) = raw.exists {
            tests.push(Test::Exists(exists));
        }
        let alone = |test: &Test| matches!(test, Test::Exists(_) | Test::AnythingBut(_));
        match tests.len() {
            0 => Err(format!("{} has no operator: {}", raw.field, operator_words())),
            1 => Ok(Self { field, tests }),
            _ if tests.iter().any(alone) => {
                Err("`exists` and `anything_but` stand alone in a matcher".to_owned())
            }
            _ => Ok(Self { field, tests }),
        }
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, subject: &Subject<'_>) -> bool {
        self.judge(&self.field.read(subject))
    }

    /// Whether it holds, and why, in words.
    pub(crate) fn explain(&self, subject: &Subject<'_>) -> (bool, String) {
        let values = self.field.read(subject);
        let holds = self.judge(&values);
        (holds, format!("{self} ({})", shown_values(&values)))
    }

    /// Whether it looks at the asset.
    pub(crate) fn is_of_asset(&self) -> bool {
        self.field.is_of_asset()
    }

    /// The name of its field.
    pub(crate) fn field(&self) -> String {
        self.field.name()
    }

    /// The texts that it compares its field with as a whole, for what reads rules over.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &str> {
        self.tests
            .iter()
            .flat_map(|test| match test {
                Test::In(values) | Test::AnythingBut(values) => values.as_slice(),
                _ => &[],
            })
            .filter_map(|value| match value {
                Scalar::Text(text) => Some(text.as_str()),
                _ => None,
            })
    }

    fn judge(&self, values: &Values<'_>) -> bool {
        match values {
            Values::Texts(texts) => match self.tests.as_slice() {
                [Test::Exists(exists)] => texts.is_empty() != *exists,
                [Test::AnythingBut(but)] => {
                    !texts.is_empty() && texts.iter().all(|text| !but.iter().any(|value| value.is(text)))
                }
                tests => texts.iter().any(|text| tests.iter().all(|test| of_text(test, text))),
            },
            Values::Number(number) => self.tests.iter().all(|test| of_number(test, *number)),
            Values::Flag(flag) => self.tests.iter().all(|test| match test {
                Test::In(values) => values.contains(&Scalar::Flag(*flag)),
                Test::AnythingBut(values) => !values.contains(&Scalar::Flag(*flag)),
                Test::Exists(exists) => *exists,
                _ => false,
            }),
        }
    }
}

fn of_text(test: &Test, text: &str) -> bool {
    match test {
        Test::In(values) => values.iter().any(|value| value.is(text)),
        Test::Glob(globs, _) => globs.is_match(text),
        Test::Prefix(values) => values.iter().any(|value| text.starts_with(value.as_str())),
        Test::Suffix(values) => values.iter().any(|value| text.ends_with(value.as_str())),
        Test::Contains(values) => values.iter().any(|value| text.contains(value.as_str())),
        Test::Above(_) | Test::AtLeast(_) | Test::Below(_) | Test::AtMost(_) => {
            text.parse::<f64>().is_ok_and(|number| of_number(test, number))
        }
        Test::Cidr(networks) => {
            let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
            address.is_ok_and(|address| networks.iter().any(|network| network.contains(&address)))
        }
        // They stand alone, and were judged.
        Test::Exists(_) | Test::AnythingBut(_) => false,
    }
}

fn of_number(test: &Test, number: f64) -> bool {
    let is = |value: &Scalar| match value {
        #[allow(clippy::cast_precision_loss, reason = "fields are 0 to 100")]
        Scalar::Whole(whole) => *whole as f64 == number,
        Scalar::Real(real) => *real == number,
        Scalar::Text(_) | Scalar::Flag(_) => false,
    };
    match test {
        Test::In(values) => values.iter().any(is),
        Test::AnythingBut(values) => !values.iter().any(is),
        Test::Above(bound) => number > *bound,
        Test::AtLeast(bound) => number >= *bound,
        Test::Below(bound) => number < *bound,
        Test::AtMost(bound) => number <= *bound,
        Test::Exists(exists) => *exists,
        _ => false,
    }
}

fn scalars(field: &Field, operator: &str, values: &[Scalar]) -> Result<Vec<Scalar>, String> {
    counted(operator, values.len())?;
    for value in values {
        let fits = match (field.holds(), value) {
            (Holds::Text | Holds::Texts, Scalar::Text(text)) => {
                measured(text)?;
                known_word(field, text)?;
                true
            }
            (Holds::Number, Scalar::Whole(_) | Scalar::Real(_)) | (Holds::Flag, Scalar::Flag(_)) => true,
            _ => false,
        };
        if !fits {
            return Err(format!("{} {}, and is compared with {value}", field.name(), what_it_holds(field)));
        }
    }
    Ok(values.to_vec())
}

/// Of the fields with few words, no other is ever there: a slip of the pen would never match.
fn known_word(field: &Field, text: &str) -> Result<(), String> {
    let words: &[&str] = match field.name().as_str() {
        "status" => &["firing", "resolved"],
        "asset.criticality" => &crate::inventory::CRITICALITIES,
        _ => return Ok(()),
    };
    if words.contains(&text) {
        return Ok(());
    }
    Err(format!("{} is never {text:?}, but {}", field.name(), words.join(", ")))
}

fn texts(field: &Field, operator: &str, values: &OneOrMany) -> Result<Vec<String>, String> {
    if !matches!(field.holds(), Holds::Text | Holds::Texts) {
        return Err(format!("{} {}, so `{operator}` is not for it", field.name(), what_it_holds(field)));
    }
    counted(operator, values.all().len())?;
    values
        .all()
        .iter()
        .map(|value| match value {
            Scalar::Text(text) if text.is_empty() => {
                Err(format!("`{operator}` of nothing would always hold"))
            }
            Scalar::Text(text) => measured(text).map(|()| text.clone()),
            other => Err(format!("`{operator}` takes texts, not {other}")),
        })
        .collect()
}

fn counted(operator: &str, count: usize) -> Result<(), String> {
    match count {
        0 => Err(format!("`{operator}` of no value would never hold")),
        count if count > MOST_VALUES => Err(format!("`{operator}` takes at most {MOST_VALUES} values")),
        _ => Ok(()),
    }
}

fn measured(text: &str) -> Result<(), String> {
    if text.len() > LONGEST_VALUE {
        return Err(format!("a value has {} bytes; {LONGEST_VALUE} are allowed", text.len()));
    }
    Ok(())
}

fn bound(field: &Field, operator: &str, number: f64) -> Result<f64, String> {
    if field.holds() != Holds::Number && !field.is_tag() {
        return Err(format!("{} {}, so `{operator}` is not for it", field.name(), what_it_holds(field)));
    }
    if number.is_finite() { Ok(number) } else { Err(format!("`{operator}` takes a number")) }
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).build();
        set.add(glob.map_err(|error| format!("the pattern {pattern:?} is none: {}", error.kind()))?);
    }
    set.build().map_err(|error| format!("the patterns are too large: {}", error.kind()))
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("{text:?} is no network; write it like 198.51.100.0/24 or 2001:db8::/32"))
}

fn what_it_holds(field: &Field) -> &'static str {
    match field.holds() {
        Holds::Text | Holds::Texts => "is text",
        Holds::Number => "is a number",
        Holds::Flag => "is true or false",
    }
}

fn operator_words() -> String {
    OPERATORS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ")
}

/// A text as reasons repeat it: quoted, with control characters escaped, and not without end.
pub(crate) fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("{start:?}{more}")
}

fn shown_values(values: &Values<'_>) -> String {
    match values {
        Values::Texts(texts) => match texts.as_slice() {
            [] => "it is not there".to_owned(),
            [one] => format!("it is {}", shown(one)),
            [first, ..] => format!("it is {} and {} more", shown(first), texts.len() - 1),
        },
        Values::Number(number) => format!("it is {number}"),
        Values::Flag(flag) => format!("it is {flag}"),
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field.name())?;
        for (at, test) in self.tests.iter().enumerate() {
            f.write_str(if at == 0 { " " } else { " and " })?;
            match test {
                Test::In(values) => write!(f, "is {}", listed(values)),
                Test::Glob(_, patterns) => write!(f, "is like {}", listed(patterns)),
                Test::Prefix(values) => write!(f, "begins with {}", listed(values)),
                Test::Suffix(values) => write!(f, "ends with {}", listed(values)),
                Test::Contains(values) => write!(f, "holds {}", listed(values)),
                Test::Above(bound) => write!(f, "is above {bound}"),
                Test::AtLeast(bound) => write!(f, "is at least {bound}"),
                Test::Below(bound) => write!(f, "is below {bound}"),
                Test::AtMost(bound) => write!(f, "is at most {bound}"),
                Test::Cidr(networks) => write!(f, "is within {}", listed(networks)),
                Test::Exists(true) => f.write_str("is there"),
                Test::Exists(false) => f.write_str("is not there"),
                Test::AnythingBut(values) => write!(f, "is there and not {}", listed(values)),
            }?;
        }
        Ok(())
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn listed<T: fmt::Display>(values: &[T]) -> String {
    let words = values.iter().take(3).map(|value| shown_plain(&value.to_string())).collect::<Vec<_>>();
    let more = values.len().saturating_sub(3);
    if more == 0 { words.join(" or ") } else { format!("{} or {more} more", words.join(" or ")) }
}

/// As [`shown`], without quotes.
fn shown_plain(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN).flat_map(char::escape_debug).collect();
    if chars.next().is_some() { format!("{start}…") } else { start }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alert::{Alert, Attack};

    fn matcher(toml: &str) -> Result<Matcher, String> {
        Matcher::new(&toml::from_str::<RawMatcher>(toml).map_err(|error| error.to_string())?)
    }

    fn alert() -> Alert {
        Alert {
            source: "guardduty".into(),
            severity: 80,
            kind: "Backdoor:EC2/C&CActivity.B".into(),
            ips: vec!["203.0.113.9".into(), "::ffff:198.51.100.7".into(), "no address".into()],
            attack: vec![Attack { tactic: "TA0011".into(), technique: "T1071.004".into() }],
            ..Alert::default()
        }
    }

    fn holds(toml: &str) -> bool {
        let alert = alert();
        matcher(toml).unwrap().holds(&Subject { alert: &alert, asset: None })
    }

    #[test]
    fn each_operator_holds_of_what_it_says_and_of_nothing_else() {
        for (yes, no) in [
            ("field='source'\neq='guardduty'", "field='source'\neq='guardDuty'"),
            ("field='source'\nin=['x','guardduty']", "field='source'\nin=['x']"),
            ("field='type'\nglob='Backdoor:EC2/*'", "field='type'\nglob='Backdoor:EC2'"),
            ("field='type'\nglob=['x','*:EC2/C&C*']", "field='type'\nglob=['?']"),
            ("field='type'\nprefix='Backdoor:'", "field='type'\nprefix='backdoor:'"),
            ("field='type'\nsuffix='.B'", "field='type'\nsuffix='.C'"),
            ("field='type'\ncontains=['EC2','S3']", "field='type'\ncontains='S3'"),
            ("field='severity'\ngt=79", "field='severity'\ngt=80"),
            ("field='severity'\ngte=80", "field='severity'\ngte=80.5"),
            ("field='severity'\nlt=81", "field='severity'\nlt=80"),
            ("field='severity'\nlte=80", "field='severity'\nlte=79"),
            ("field='severity'\ngte=70\nlt=90", "field='severity'\ngte=70\nlt=80"),
            ("field='severity'\neq=80", "field='severity'\nin=[79,81]"),
            ("field='ips'\ncidr='198.51.100.0/24'", "field='ips'\ncidr='192.0.2.0/24'"),
            ("field='ips'\ncidr=['::1','203.0.113.9']", "field='ips'\ncidr='2001:db8::/32'"),
            ("field='ips'\nexists=true", "field='hashes'\nexists=true"),
            ("field='hashes'\nexists=false", "field='source'\nexists=false"),
            ("field='source'\nanything_but='x'", "field='source'\nanything_but=['x','guardduty']"),
            ("field='ips'\nanything_but='192.0.2.1'", "field='ips'\nanything_but='203.0.113.9'"),
            ("field='is_sample'\neq=false", "field='is_sample'\neq=true"),
            ("field='status'\neq='firing'", "field='status'\neq='resolved'"),
            ("field='attack.technique'\nprefix='T1071'", "field='attack.technique'\neq='T1071'"),
        ] {
            assert!(holds(yes), "{yes}");
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_missing_matches_nothing_but_its_absence() {
        for missing in [
            "field='asset.id'\nglob='*'",
            "field='asset.tags.tier'\nanything_but='x'",
            "field='hashes'\nanything_but='x'",
            "field='asset.tags.score'\nlt=100",
            "field='asset.owner'\nexists=true",
        ] {
            assert!(!holds(missing), "{missing}");
        }
        assert!(holds("field='asset.owner'\nexists=false"));
    }

    #[test]
    fn several_operators_must_hold_of_one_value() {
        assert!(holds("field='ips'\nprefix='203'\nsuffix='9'"));
        assert!(!holds("field='ips'\nprefix='203'\nsuffix='7'"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (bad, says) in [
            ("field='severty'\neq=1", "near"),
            ("field='severity'", "no operator"),
            ("field='severity'\neq='80'", "is a number"),
            ("field='severity'\nglob='8*'", "not for it"),
            ("field='source'\ngte=1", "not for it"),
            ("field='source'\neq=1", "is text"),
            ("field='is_sample'\neq='false'", "true or false"),
            ("field='source'\nregex='a.*'", "unknown field"),
            ("field='source'\nin=[]", "no value"),
            ("field='source'\nprefix=''", "always hold"),
            ("field='source'\nglob='[a'", "pattern"),
            ("field='ips'\ncidr='198.51.100.0/33'", "no network"),
            ("field='source'\nexists=true\neq='x'", "alone"),
            ("field='status'\neq='open'", "never"),
            ("field='asset.criticality'\nin=['severe']", "never"),
            ("field='severity'\ngte=nan", "a number"),
        ] {
            let error = matcher(bad).err().unwrap_or_default();
            assert!(error.contains(says), "{bad}: {error}");
        }
        assert!(matcher(&format!("field='title'\neq='{}'", "x".repeat(1_025))).is_err());
    }

    #[test]
    fn a_reason_repeats_no_control_character_and_no_novel() {
        let alert = Alert { title: format!("\u{1b}[31m\n{}", "x".repeat(10_000)), ..Alert::default() };
        let (holds, why) =
            matcher("field='title'\ncontains='x'").unwrap().explain(&Subject { alert: &alert, asset: None });
        assert!(holds && why.len() < 300 && !why.contains(['\u{1b}', '\n']), "{why}");
    }

    proptest! {
        #[test]
        fn matching_never_panics_and_explains_as_it_judges(
            value in ".{0,40}", pattern in ".{1,20}", operator in 0usize..6, ips in prop::collection::vec(".{0,20}", 0..4),
        ) {
            let raw = format!("field={}\n{}={}", ["\"title\"", "\"ips\""][operator % 2],
                ["eq", "glob", "prefix", "suffix", "contains", "cidr"][operator],
                serde_json::Value::from(pattern));
            let Ok(matcher) = matcher(&raw) else { return Ok(()) };
            let alert = Alert { title: value, ips, ..Alert::default() };
            let subject = Subject { alert: &alert, asset: None };
            prop_assert_eq!(matcher.holds(&subject), matcher.explain(&subject).0);
        }
    }
}

//! From files to rules: everything that can be wrong with them is found here, and told with file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::amounts::{Rate, range, size, span};
use super::field::Field;
use super::files::{files_of, read};
use super::graph;
use super::limits::Limits;
use super::matcher::Matcher;
use super::place::{Fault, Part, Syntax, below};
use super::raw::{
    OnTimeout, RawApproval, RawDedup, RawDefaults, RawFile, RawLimits, RawMatch, RawRule, RawStep, RawTime,
};
use super::rule::{Match, Rule, RuleSet};
use super::{Approval, Mode, OnError, PlannedStep, Repeat};
use crate::alert::AssetKind;
use crate::error::{Error, Result};
use crate::steps::{Parameter, Phase, STEPS, Step, Takes};

/// More rules, or steps of one rule, nobody could answer for.
const MOST_RULES: usize = 2_000;
const MOST_STEPS: usize = 64;
const MOST_MATCHERS: usize = 256;

const ORDER: i64 = 1_000;
const WINDOW: u64 = 6 * 3_600;
const TIMEOUT: u64 = 12 * 3_600;
const LEASE: u64 = 8 * 3_600;
const APPROVAL: u64 = 24 * 3_600;
const MOST_ASSETS: u32 = 5;
const RETRIES: u32 = 3;
const BACKOFF: (u64, u64) = (10, 300);

impl RuleSet {
    /// Reads a file of rules, or all `.toml` and `.json` files of a folder; in which order makes no difference.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], and [`Error::Settings`] with the line of whatever cannot be meant: a field, operator, step or parameter
    /// that there is not, steps in a circle, two rules of one id.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, STEPS)
    }

    /// As [`RuleSet::load`], with other steps than those of the table.
    ///
    /// # Errors
    ///
    /// As [`RuleSet::load`].
    pub fn load_with(path: &Path, steps: &[&dyn Step]) -> Result<Self> {
        let mut files = Vec::new();
        for path in files_of(path)? {
            let text = read(&path)?;
            files.push((path, text));
        }
        Self::of_files(&files, steps)
    }

    /// Rules of texts that were read already.
    pub(crate) fn of_files(files: &[(PathBuf, String)], steps: &[&dyn Step]) -> Result<Self> {
        let mut rules = Vec::new();
        let mut limits: Option<(Limits, &Path)> = None;
        let mut protect = Vec::new();
        let mut digests = Vec::new();
        for (path, text) in files {
            let wrong = |what: String| Error::Settings { path: path.clone(), what };
            let syntax = Syntax::of(path).unwrap_or(Syntax::Toml);
            let raw: RawFile = syntax.read(text).map_err(wrong)?;
            let said = |fault: Fault| wrong(fault.words(syntax, text));
            if raw.version != 1 {
                return Err(said(Fault::new(&[Part::Key("version")], "this program knows version 1")));
            }
            if let Some(raw) = &raw.limits {
                let here = limits_of(raw).map_err(said)?;
                if let Some((_, other)) = limits {
                    let what = format!("there are [limits] in {other:?} too; one file says them");
                    return Err(said(Fault::new(&[Part::Key("limits")], what)));
                }
                limits = Some((here, path));
            }
            if let Some(raw) = &raw.protect {
                let path = [Part::Key("protect"), Part::Key("match")];
                protect.push(matches(&raw.matchers, &path).map_err(said)?);
            }
            for (at, rule) in raw.rules.iter().enumerate() {
                let place = [Part::Key("rule"), Part::Item(at)];
                let mut made = Reader { defaults: &raw.defaults, steps }.rule(rule, &place).map_err(said)?;
                made.file.clone_from(path);
                made.line = syntax.line(text, &place);
                if let Some(other) = rules.iter().find(|other: &&Rule| other.id == made.id) {
                    let other = other.line.map_or_else(
                        || format!("{:?}", other.file),
                        |line| format!("{:?}, line {line}", other.file),
                    );
                    let what = format!("there are two rules {:?}; the other is in {other}", made.id);
                    return Err(said(Fault::new(&below(&place, &[Part::Key("id")]), what)));
                }
                rules.push(made);
            }
            if rules.len() > MOST_RULES {
                return Err(wrong(format!("there are more than {MOST_RULES} rules")));
            }
            digests.push(custody::sha256(text.as_bytes()).to_string());
        }
        rules.sort_by(|a, b| (a.order, &a.id).cmp(&(b.order, &b.id)));
        digests.sort();
        let sha256 = custody::sha256(digests.join("\n").as_bytes()).to_string();
        let limits = limits.map(|(limits, _)| limits).unwrap_or_default();
        Ok(Self { rules, limits, protect, sha256 })
    }
}

fn limits_of(raw: &RawLimits) -> Result<Limits, Fault> {
    let mut limits = Limits::default();
    let at = |group: &'static str, key: &'static str| [Part::Key("limits"), Part::Key(group), Part::Key(key)];
    if let Some(raw) = &raw.captures {
        limits.captures_per_hour = raw.per_hour.unwrap_or(limits.captures_per_hour);
        limits.captures_at_once = raw.concurrent.unwrap_or(limits.captures_at_once);
        if limits.captures_at_once == 0 {
            return Err(Fault::new(&at("captures", "concurrent"), "nothing would ever be captured"));
        }
        if let Some(bytes) = &raw.bytes_per_day {
            let bytes = size(bytes).map_err(|what| Fault::new(&at("captures", "bytes_per_day"), what))?;
            limits.bytes_per_day = Some(bytes);
        }
    }
    if let Some(raw) = &raw.isolations {
        limits.isolations_per_hour = raw.per_hour.unwrap_or(limits.isolations_per_hour);
        limits.isolations_at_once = raw.concurrent.unwrap_or(limits.isolations_at_once);
        if let Some(share) = raw.max_share_of_group {
            if !(0.0..=1.0).contains(&share) {
                return Err(Fault::new(&at("isolations", "max_share_of_group"), "a share is from 0 to 1"));
            }
            limits.isolated_share_of_group = share;
        }
    }
    Ok(limits)
}

fn matches(raw: &RawMatch, path: &[Part]) -> Result<Match, Fault> {
    if raw.all.is_empty() && raw.any.is_empty() {
        let what = "it would match whatever comes: say what in `match.all` or `match.any`";
        return Err(Fault::new(path, what));
    }
    let list = |name: &'static str, list: &[super::raw::RawMatcher]| {
        let path = below(path, &[Part::Key(name)]);
        if list.len() > MOST_MATCHERS {
            return Err(Fault::new(&path, format!("there are more than {MOST_MATCHERS} matchers")));
        }
        let made = list.iter().enumerate().map(|(at, raw)| {
            Matcher::new(raw).map_err(|what| Fault::new(&below(&path, &[Part::Item(at)]), what))
        });
        made.collect::<Result<Vec<_>, _>>()
    };
    Ok(Match { all: list("all", &raw.all)?, any: list("any", &raw.any)?, none: list("none", &raw.none)? })
}

/// Whether it may be an id of a rule or step: it stands in names of cases, tags and files.
fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.len() <= 64
        && bytes.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_')
}

fn id_fault(path: &[Part], id: &str) -> Fault {
    let what = format!(
        "{id:?} is no id: it is of a-z, 0-9, - and _, begins with a letter or digit, and has at most 64"
    );
    Fault::new(&below(path, &[Part::Key("id")]), what)
}

/// The steps of a rule, and what is known of them.
struct Steps {
    steps: Vec<PlannedStep>,
    kinds: Vec<AssetKind>,
    phases: BTreeMap<String, Phase>,
    isolating: BTreeSet<String>,
}

struct Reader<'a> {
    defaults: &'a RawDefaults,
    steps: &'a [&'a dyn Step],
}

impl Reader<'_> {
    fn rule(&self, raw: &RawRule, path: &[Part]) -> Result<Rule, Fault> {
        let at = |key: &'static str| below(path, &[Part::Key(key)]);
        if !is_id(&raw.id) {
            return Err(id_fault(path, &raw.id));
        }
        let expires = raw.expires.as_ref().map(moment).transpose();
        let expires = expires.map_err(|what| Fault::new(&at("expires"), what))?;
        let kinds = raw.assets.kinds.as_deref();
        if kinds.is_some_and(<[_]>::is_empty) || raw.assets.max == Some(0) {
            return Err(Fault::new(&at("assets"), "it would never take an asset"));
        }
        let Steps { steps, kinds, phases, isolating } = self.steps(raw, kinds, path)?;
        let approval = raw.approval.as_ref().or(self.defaults.approval.as_ref());
        let approval = match approval {
            Some(raw) => {
                let approval = approval_of(raw).map_err(|what| Fault::new(&at("approval"), what))?;
                if approval.run_on_timeout {
                    let what =
                        "a whole plan is not run because nobody answered; `mode = \"auto\"` says that it is";
                    return Err(Fault::new(&at("approval"), what));
                }
                approval
            }
            None => Approval { from: Vec::new(), count: 1, timeout: APPROVAL, run_on_timeout: false },
        };
        let (dedup_key, dedup_window, repeat) =
            self.dedup(raw.dedup.as_ref()).map_err(|what| Fault::new(&at("dedup"), what))?;
        let rate = |text: &Option<String>| text.as_deref().map(Rate::parse).transpose();
        let rate = |text| rate(text).map_err(|what| Fault::new(&at("rate"), what));
        let storm = raw.storm.as_ref().map(|storm| Rate::parse(&storm.over).map(|over| (over, storm.then)));
        let storm = storm.transpose().map_err(|what| Fault::new(&at("storm"), what))?;
        Ok(Rule {
            id: raw.id.clone(),
            about: raw.about.clone(),
            order: raw.order.unwrap_or(ORDER),
            expires,
            mode: raw.mode.or(self.defaults.mode).unwrap_or(Mode::Approve),
            approval,
            role: raw.assets.role.clone().filter(|role| role != "any"),
            kinds,
            most_assets: raw.assets.max.unwrap_or(MOST_ASSETS),
            dedup_window,
            repeat,
            rate_per_asset: rate(&raw.rate.per_asset)?,
            rate_per_rule: rate(&raw.rate.per_rule)?,
            storm,
            stop: raw.stop,
            isolate_first: raw.isolate_first,
            steps,
            phases,
            isolating,
            file: PathBuf::new(),
            line: None,
            dedup_key,
            matchers: matches(&raw.matchers, &at("match"))?,
        })
    }

    /// The steps in their order, and the kinds of assets that all of them can be done to.
    fn steps(&self, rule: &RawRule, kinds: Option<&[AssetKind]>, path: &[Part]) -> Result<Steps, Fault> {
        let path = below(path, &[Part::Key("step")]);
        if rule.steps.is_empty() || rule.steps.len() > MOST_STEPS {
            return Err(Fault::new(&path, format!("a rule has 1 to {MOST_STEPS} steps")));
        }
        let mut planned = Vec::new();
        let mut phases = BTreeMap::new();
        let mut isolating = BTreeSet::new();
        let mut marks = BTreeMap::new();
        let mut all_take: BTreeSet<AssetKind> = AssetKind::ALL.iter().copied().collect();
        for (at, raw) in rule.steps.iter().enumerate() {
            let path = below(&path, &[Part::Item(at)]);
            let Some(step) = self.steps.iter().find(|step| step.word() == raw.word) else {
                return Err(Fault::new(&below(&path, &[Part::Key("use")]), self.unknown(&raw.word)));
            };
            if let Some(kind) = kinds.unwrap_or_default().iter().find(|kind| !step.takes(**kind)) {
                let what =
                    format!("{} cannot be done to {}, which `assets.kinds` has", raw.word, kind.word());
                return Err(Fault::new(&path, what));
            }
            all_take.retain(|kind| step.takes(*kind));
            phases.insert(raw.id.clone(), step.phase());
            if step.isolates() {
                isolating.insert(raw.id.clone());
                // By its mark an isolation is known again, and would be taken for another one's of the same mark.
                let mark = crate::isolate::mark("J999999", &raw.id)
                    .map_err(|failed| Fault::new(&path, format!("step {:?}: {failed}", raw.id)))?;
                if let Some(other) = marks.insert(mark, raw.id.clone()).filter(|other| *other != raw.id) {
                    let what = format!("the steps {other:?} and {:?} differ too little in their ids", raw.id);
                    return Err(Fault::new(&path, what));
                }
            }
            planned.push(self.step(raw, *step, &path)?);
        }
        if all_take.is_empty() {
            return Err(Fault::new(
                &path,
                "there is no kind of asset that all of these steps can be done to",
            ));
        }
        let steps = graph::ordered(planned, &phases, rule.isolate_first)
            .map_err(|(at, what)| Fault::new(&below(&path, &[Part::Item(at)]), what))?;
        if let Some((capture, isolation)) = crate::edr::fight(&steps) {
            let at = rule.steps.iter().position(|raw| raw.id == capture).unwrap_or_default();
            let what = format!(
                "step {capture:?} captures through the EDR while {isolation:?} may change the containment, which fails the capture: \
                 say which comes first, as `needs = [\"{isolation}:finished\"]`"
            );
            return Err(Fault::new(&below(&path, &[Part::Item(at)]), what));
        }
        let kinds = kinds.map_or_else(|| all_take.into_iter().collect(), <[_]>::to_vec);
        Ok(Steps { steps, kinds, phases, isolating })
    }

    fn step(&self, raw: &RawStep, step: &dyn Step, path: &[Part]) -> Result<PlannedStep, Fault> {
        if !is_id(&raw.id) {
            return Err(id_fault(path, &raw.id));
        }
        let fault = |what: String| Fault::new(path, format!("step {:?}: {what}", raw.id));
        let within =
            |own: &Option<String>, usual: Option<&str>, otherwise: u64| match own.as_deref().or(usual) {
                Some(text) => span(text).map_err(fault),
                None => Ok(otherwise),
            };
        let retry = raw.retry.as_ref();
        let backoff =
            retry.and_then(|retry| retry.backoff.as_deref()).map_or(Ok(BACKOFF), range).map_err(fault)?;
        let retries = retry.and_then(|retry| retry.max).unwrap_or(RETRIES);
        if retries > 100 {
            return Err(fault("more than 100 tries after the first are none that help".to_owned()));
        }
        let lease = match raw.lease.as_deref().or(self.defaults.lease.as_deref()) {
            _ if !step.undoes() && raw.lease.is_some() => {
                return Err(fault(format!("{} cannot be taken back, so it has no lease", raw.word)));
            }
            _ if !step.isolates() && raw.lease.is_none() => 0,
            Some("never") => 0,
            Some(text) => span(text).map_err(fault)?,
            None => LEASE,
        };
        let said = parameters(&raw.parameters, &raw.word, step.parameters()).map_err(fault)?;
        step.check(&said).map_err(fault)?;
        let needs = raw.needs.clone().unwrap_or_default();
        if raw.max_wait.is_some() && needs.is_empty() {
            return Err(fault("`max_wait` waits for nothing, since nothing is needed".to_owned()));
        }
        Ok(PlannedStep {
            id: raw.id.clone(),
            word: raw.word.clone(),
            needs,
            always: raw.always,
            on_error: raw.on_error.unwrap_or(OnError::Stop),
            timeout: within(&raw.timeout, self.defaults.timeout.as_deref(), TIMEOUT)?,
            max_wait: within(&raw.max_wait, None, 0)?,
            retries,
            backoff,
            lease,
            approval: raw.approval.as_ref().map(approval_of).transpose().map_err(fault)?,
            parameters: said,
        })
    }

    fn unknown(&self, word: &str) -> String {
        let words: Vec<&str> = self.steps.iter().map(|step| step.word()).collect();
        format!("there is no step {word:?}; there are {}", words.join(", "))
    }

    fn dedup(&self, own: Option<&RawDedup>) -> Result<(Vec<Field>, u64, Repeat), String> {
        let none = RawDedup::default();
        let (own, usual) = (own.unwrap_or(&none), self.defaults.dedup.as_ref().unwrap_or(&none));
        let key = own.key.as_ref().or(usual.key.as_ref());
        let key =
            key.map_or_else(|| Ok(Vec::new()), |key| key.iter().map(|name| Field::named(name)).collect());
        let window = own.window.as_ref().or(usual.window.as_ref());
        let window = window.map_or(Ok(WINDOW), |text| span(text))?;
        Ok((key?, window, own.repeat.or(usual.repeat).unwrap_or(Repeat::Attach)))
    }
}

fn approval_of(raw: &RawApproval) -> Result<Approval, String> {
    let count = raw.count.unwrap_or(1);
    if count == 0 || count > 10 {
        return Err("`count` of an approval is 1 to 10".to_owned());
    }
    if let Some(name) = raw.from.iter().find(|name| name.trim().is_empty() || name.len() > 128) {
        return Err(format!("{name:?} is no name of one who approves"));
    }
    Ok(Approval {
        from: raw.from.clone(),
        count,
        timeout: raw.timeout.as_deref().map_or(Ok(APPROVAL), span)?,
        run_on_timeout: raw.on_timeout == Some(OnTimeout::Run),
    })
}

fn parameters(
    said: &Map<String, Value>,
    word: &str,
    known: &[Parameter],
) -> Result<Map<String, Value>, String> {
    for (name, value) in said {
        let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
            let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
            let names = if names.is_empty() { "none of its own".to_owned() } else { names.join(", ") };
            return Err(format!("{word} knows no parameter {name:?}; it knows {names}"));
        };
        let (fits, takes) = match parameter.takes {
            Takes::Text => (value.is_string(), "a text"),
            Takes::Texts => {
                (value.as_array().is_some_and(|all| all.iter().all(Value::is_string)), "a list of texts")
            }
            Takes::Number => (value.is_u64(), "a whole number"),
            Takes::Flag => (value.is_boolean(), "true or false"),
            Takes::Span => (value.as_str().is_some_and(|text| span(text).is_ok()), "a span such as 15m"),
        };
        if !fits {
            return Err(format!("{name:?} takes {takes}, not {value}"));
        }
    }
    Ok(said.clone())
}

/// The second since 1970 of a date, or of a time in UTC unless it says another zone.
fn moment(raw: &RawTime) -> Result<i64, String> {
    let text = raw.to_string();
    let forms = [text.clone(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    let found = forms.iter().find_map(|form| custody::clock::parse_rfc3339(form).ok());
    found
        .map(|nanoseconds| nanoseconds.div_euclid(1_000_000_000))
        .ok_or_else(|| format!("{text:?} is no time; write it like 2027-01-01 or 2027-01-01T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::super::made_steps::{BACKDOOR, MADE, rules};
    use super::super::raw::Then;
    use super::*;

    #[test]
    fn the_rule_of_the_reference_is_read_to_the_last_word() {
        let set = rules(BACKDOOR).unwrap();
        let rule = set.rule("ec2-backdoor").unwrap();
        assert_eq!((rule.order, rule.mode, rule.expires), (100, Mode::Auto, Some(1_798_761_600)));
        assert_eq!((rule.role.as_deref(), rule.most_assets), (Some("primary"), 5));
        assert_eq!((rule.dedup_window, rule.repeat, rule.stop), (21_600, Repeat::Attach, true));
        assert_eq!(rule.rate_per_asset, Some(Rate { count: 1, within: 21_600 }));
        assert_eq!(rule.rate_per_rule, Some(Rate { count: 20, within: 3_600 }));
        assert_eq!(rule.storm, Some((Rate { count: 50, within: 300 }, Then::TriageOnly)));
        let ids: Vec<&str> = rule.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["protect", "memory", "disk", "isolate", "tell"]);
        let [protect, memory, disk, isolate, tell] = rule.steps.as_slice() else { panic!("five steps") };
        assert_eq!((protect.lease, protect.retries, protect.backoff), (0, 3, (10, 300)));
        assert_eq!((memory.timeout, memory.on_error), (1_200, OnError::Continue));
        assert_eq!((disk.retries, disk.backoff), (5, (10, 300)));
        assert_eq!((isolate.max_wait, isolate.lease), (900, 28_800));
        let asked = Approval { from: vec!["ir-oncall".into()], count: 1, timeout: 600, run_on_timeout: true };
        assert_eq!(isolate.approval, Some(asked));
        assert!(tell.always && tell.needs.len() == 4);
        assert_eq!(set.limits().bytes_per_day, Some(2 << 40));
        assert!(set.protects());
        assert_eq!(rule.line, Some(11));
    }

    /// The rule with one thing replaced.
    fn with(from: &str, to: &str) -> Result<RuleSet, String> {
        assert!(BACKDOOR.contains(from), "{from}");
        rules(&BACKDOOR.replacen(from, to, 1))
    }

    #[test]
    fn whatever_cannot_be_meant_is_told_with_its_line() {
        for (from, to, says) in [
            ("version = 1", "version = 2", "line 2: this program knows version 1"),
            ("order = 100", "ordre = 100", "line 13: unknown field `ordre`"),
            (
                "field = \"severity\"",
                "field = \"severty\"",
                "line 18: there is no field \"severty\"; \"severity\" is near",
            ),
            ("gte = 70", "above = 70", "line 18: unknown field `above`"),
            ("gte = 70", "gte = \"high\"", "line 18"),
            ("cidr = \"198", "regex = \"198", "line 22: unknown field `regex`"),
            (
                "use = \"capture.memory\"",
                "use = \"capture.memry\"",
                "line 30: there is no step \"capture.memry\"",
            ),
            (
                "timeout = \"20m\"",
                "profil = \"x\"",
                "line 30: step \"memory\": capture.memory knows no parameter \"profil\"",
            ),
            ("timeout = \"20m\"", "profile = 1", "\"profile\" takes a text, not 1"),
            ("timeout = \"20m\"", "for = \"x\"", "\"for\" takes a span"),
            ("timeout = \"20m\"", "timeout = \"soon\"", "line 30: step \"memory\": \"soon\" is no span"),
            (
                "needs = [\"protect\"], timeout",
                "needs = [\"protct\"], timeout",
                "line 30: step \"memory\" needs \"protct\"",
            ),
            (
                "needs = [\"protect\"], timeout",
                "needs = [\"isolate\"], timeout",
                "in a circle: memory needs isolate needs memory",
            ),
            ("id = \"disk\"", "id = \"protect\"", "line 31: there are two steps"),
            ("id = \"disk\"", "id = \"../x\"", "line 31: \"../x\" is no id"),
            ("id = \"ec2-backdoor\"", "id = \"EC2\"", "line 12: \"EC2\" is no id"),
            ("lease = \"8h\"", "lease = \"0h\"", "no time at all"),
            ("retry = {", "lease = \"1h\", retry = {", "cannot be taken back"),
            ("id = \"protect\", use", "id = \"protect\", max_wait = \"1m\", use", "waits for nothing"),
            ("kinds = [\"ec2_instance\"]", "kinds = [\"ec2_instance\", \"host\"]", "cannot be done to host"),
            ("kinds = [\"ec2_instance\"]", "kinds = [\"server\"]", "line 23: unknown variant `server`"),
            ("kinds = [\"ec2_instance\"]", "kinds = []", "never take an asset"),
            ("expires = 2027-01-01", "expires = \"soon\"", "line 14: \"soon\" is no time"),
            ("\"1/6h\"", "\"often\"", "line 25: \"often\" is no rate"),
            ("then = \"triage_only\"", "then = \"panic\"", "line 26: unknown variant `panic`"),
            ("max_share_of_group = 0.34", "max_share_of_group = 34", "a share is from 0 to 1"),
            ("\"2TiB\"", "\"2 TiB\"", "is no size"),
            ("concurrent = 4", "concurrent = 0", "nothing would ever be captured"),
            ("on_timeout = \"run\"", "on_timeout = \"hope\"", "unknown variant `hope`"),
            ("count = 1", "count = 0", "1 to 10"),
            ("mode = \"auto\"", "mode = \"auto\"\nmode = \"auto\"", "line 16: duplicate key"),
            ("mode = \"auto\"", "approval = { on_timeout = \"run\" }", "nobody answered"),
            ("key = [\"asset.id\"]", "key = [\"asset.ip\"]", "there is no field \"asset.ip\""),
        ] {
            let error = with(from, to).err().unwrap_or_default();
            assert!(error.contains(says), "{from} -> {to}\nsaid: {error}\nnot:  {says}");
            assert!(error.contains("rules.toml"), "{error}");
        }
    }

    #[test]
    fn what_would_fail_every_isolation_is_told_when_the_rules_are_loaded() {
        let load = |kind: &str, steps: &str| {
            let text = format!(
                "version = 1\n[[rule]]\nid = \"a\"\nassets = {{ kinds = [\"{kind}\"] }}\nmatch.all = [ {{ field = \"severity\", gte = 1 }} ]\nstep = [\n{steps}\n]\n"
            );
            RuleSet::of_files(&[("rules.toml".into(), text)], STEPS).map_err(|error| error.to_string())
        };
        let host = |more: &str| load("host", &format!("{{ id = \"i\", use = \"isolate.host\"{more} }}"));
        let ec2 =
            |more: &str| load("ec2_instance", &format!("{{ id = \"i\", use = \"isolate.ec2_sg\"{more} }}"));
        host(", allow = [\"collector.example:443\", \"192.0.2.1\"], allow_from = [\"192.0.2.0/24:22\"]")
            .unwrap();
        ec2(", allow = [\"192.0.2.1:443\", \"sg-0123456789abcdef0:443\"], probes = [\"[2001:db8::1]:22\"], settle_seconds = 9")
            .unwrap();
        for (error, says) in [
            (host(", allow = [\"0.0.0.0/0\"]"), "too much to leave open"),
            (host(", allow_from = [\"192.0.2.0/33:22\"]"), "192.0.2.0/33:22"),
            (host(", probes = [\"192.0.2.1\"]"), "is no ADDRESS:PORT"),
            (ec2(", allow = [\"192.0.2.1\"]"), "is no NETWORK:PORT"),
            (ec2(", allow = [\"0.0.0.0/0:443\"]"), "too much to leave open"),
            (ec2(", settle_seconds = 500"), "0 to 120"),
        ] {
            let error = error.err().unwrap_or_default();
            assert!(error.contains(says) && error.contains("line 7"), "{says} is not in: {error}");
        }
        let long = |letters: usize| {
            load("host", &format!("{{ id = \"{}\", use = \"isolate.host\" }}", "i".repeat(letters)))
        };
        assert!(long(32).is_ok() && long(33).unwrap_err().contains("a shorter id"));
        let two = |first: &str, second: &str| {
            load(
                "host",
                &format!(
                    "{{ id = \"{first}\", use = \"isolate.host\" }},\n{{ id = \"{second}\", use = \"isolate.defender\" }}"
                ),
            )
        };
        assert!(two("cut-a", "cut-b").is_ok());
        let error = two("cut_a", "cut-a").unwrap_err();
        assert!(error.contains("line 8") && error.contains("differ too little"), "{error}");
    }

    #[test]
    fn a_rule_that_matches_whatever_comes_is_refused() {
        let step = "step = [ { id = \"tell\", use = \"notify.webhook\" } ]";
        for matchers in ["match = {}", "match.none = [ { field = \"is_sample\", eq = true } ]"] {
            let error =
                rules(&format!("version = 1\n[[rule]]\nid = \"a\"\n{matchers}\n{step}\n")).unwrap_err();
            assert!(error.contains("line 4: it would match whatever comes"), "{error}");
        }
        assert!(
            rules(&format!("version = 1\n[[rule]]\nid = \"a\"\n{step}\n")).unwrap_err().contains("`match`")
        );
    }

    #[test]
    fn the_same_rules_are_read_from_json() {
        let json = r#"{"version": 1, "rule": [{"id": "a", "expires": "2027-01-01", "match":
            {"all": [{"field": "severity", "gte": 70}]},
            "step": [{"id": "m", "use": "capture.memory", "profile": "full"}]}]}"#;
        let files = |text: &str| [(PathBuf::from("rules.json"), text.to_owned())];
        let set = RuleSet::of_files(&files(json), MADE).unwrap();
        assert_eq!(set.rules()[0].expires, Some(1_798_761_600));
        assert_eq!(set.rules()[0].steps[0].parameters["profile"], "full");
        for (from, to, says) in [
            ("\"gte\": 70", "\"gte\": 70, \"gte\": 1", "line 2: the key \"gte\" is there twice"),
            (
                "\"profile\": \"full\"",
                "\"profile\": \"full\", \"profile\": \"fast\"",
                "line 3: the key \"profile\"",
            ),
            ("severity", "severty", "line 2: there is no field"),
            ("capture.memory", "capture.x", "line 3: there is no step"),
            ("\"gte\": 70", "\"near\": 70", "line 2: unknown field `near`"),
        ] {
            let error = RuleSet::of_files(&files(&json.replace(from, to)), MADE).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn files_of_a_folder_are_one_set() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |id: &str| {
            format!(
                "version = 1\n[[rule]]\nid = \"{id}\"\nmatch.all = [ {{ field = \"severity\", gte = 1 }} ]\nstep = [ {{ id = \"m\", use = \"capture.memory\" }} ]\n"
            )
        };
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        write("b.toml", rule("b"));
        write("a.toml", rule("a"));
        write("notes.txt", "not rules".into());
        write(".hidden.toml", "not rules".into());
        let set = RuleSet::load_with(folder.path(), MADE).unwrap();
        let ids: Vec<&str> = set.rules().iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        write("c.toml", rule("a"));
        let twice = RuleSet::load_with(folder.path(), MADE).unwrap_err().to_string();
        assert!(twice.contains("c.toml\": line 3: there are two rules \"a\"; the other is in"), "{twice}");
        write("c.toml", "version = 1\n[limits]\n".into());
        write("d.toml", "version = 1\n[limits]\n".into());
        let limits = RuleSet::load_with(folder.path(), MADE).unwrap_err().to_string();
        assert!(limits.contains("d.toml\": line 2: there are [limits] in"), "{limits}");
        assert!(RuleSet::load_with(&folder.path().join("notes.txt"), MADE).is_err());
        assert!(RuleSet::load_with(&folder.path().join("none.toml"), MADE).is_err());
    }

    #[test]
    fn steps_say_what_a_rule_without_kinds_is_for() {
        let rule = |steps: &str| {
            rules(&format!(
                "version = 1\n[[rule]]\nid = \"a\"\nmatch.all = [ {{ field = \"severity\", gte = 1 }} ]\nstep = [ {steps} ]\n"
            ))
        };
        let both = "{ id = \"m\", use = \"capture.memory\" }, { id = \"d\", use = \"capture.ebs_snapshot\" }";
        assert_eq!(rule(both).unwrap().rules()[0].kinds, [AssetKind::Ec2Instance]);
        let none = "{ id = \"m\", use = \"capture.memory\" }, { id = \"b\", use = \"capture.bucket\" }";
        assert!(rule(none).unwrap_err().contains("no kind of asset"));
        assert!(rule("").unwrap_err().contains("1 to 64 steps"));
    }
}

//! One alert against all rules: what is done to which asset, and why. Pure, and without an error.

use std::sync::Arc;

use custody::Clock;
use serde_json::json;

use super::field::{Subject, Values};
use super::matcher::shown;
use super::rule::{Rule, RuleSet};
use super::{Decide, Decision, Mode, Plan, Reason};
use crate::alert::Alert;
use crate::inventory::{Asset, Inventory};

/// More of the assets that one alert names are not looked at; an attack sequence of GuardDuty names up to 400.
const MOST_ASSETS: usize = 500;

/// More reasons are not kept of one decision; how many were dropped is the last of them.
const MOST_REASONS: usize = 2_000;

/// A longer key is kept as its hash.
const LONGEST_KEY: usize = 300;

impl RuleSet {
    /// Decides about an alert at a second since 1970.
    ///
    /// The same alert, rules, assets and second give the same decision, whatever the order of the rules in their files and of the
    /// assets in the alert.
    #[must_use]
    pub fn decide(&self, inventory: &Inventory, alert: &Alert, now: i64) -> Decision {
        let mut decision = Deciding { rules: self, alert, plans: Vec::new(), reasons: Vec::new() };
        let assets = decision.resolve(inventory);
        let mut taken = vec![false; assets.len()];
        for rule in &self.rules {
            decision.rule(rule, &assets, &mut taken, now);
        }
        decision.end()
    }
}

/// An asset that the alert names and the inventory or an owned account has.
struct Known {
    asset: Asset,
    role: String,
    /// Whether the inventory says something of it; otherwise only its account is ours.
    is_listed: bool,
}

struct Deciding<'a> {
    rules: &'a RuleSet,
    alert: &'a Alert,
    plans: Vec<Plan>,
    reasons: Vec<Reason>,
}

impl Deciding<'_> {
    fn say(&mut self, rule: &str, holds: bool, what: impl Into<String>) {
        self.reasons.push(Reason { rule: rule.to_owned(), holds, what: what.into() });
    }

    /// The assets that may be acted on, ephemeral ones first; the others are refused, each with its reason.
    fn resolve(&mut self, inventory: &Inventory) -> Vec<Known> {
        let mut named: Vec<_> = self.alert.assets.iter().collect();
        named.sort();
        named.dedup();
        if named.len() > MOST_ASSETS {
            let what = format!("the alert names {} assets; {MOST_ASSETS} are looked at", named.len());
            self.say("", false, what);
            named.truncate(MOST_ASSETS);
        }
        if named.is_empty() {
            self.say("", false, "the alert names no asset, so nothing can be done to one");
        }
        let mut known: Vec<Known> = Vec::new();
        for reference in named {
            match inventory.find(reference, self.alert) {
                Ok(asset) => {
                    let same =
                        |known: &&mut Known| known.asset.kind == asset.kind && known.asset.id == asset.id;
                    match known.iter_mut().find(same) {
                        Some(same) if reference.role == PRIMARY => PRIMARY.clone_into(&mut same.role),
                        Some(_) => {}
                        None => {
                            let is_listed = inventory.lists(&asset);
                            known.push(Known { asset, role: reference.role.clone(), is_listed });
                        }
                    }
                }
                Err(why) => {
                    let what =
                        format!("{} {} is refused: {why}", reference.kind.word(), shown(&reference.id));
                    self.say("", false, what);
                }
            }
        }
        let rank = |known: &Known| {
            (!known.asset.is_ephemeral(), known.role != PRIMARY, known.asset.kind, known.asset.id.clone())
        };
        known.sort_by_cached_key(rank);
        known
    }

    fn rule(&mut self, rule: &Rule, assets: &[Known], taken: &mut [bool], now: i64) {
        let alert = self.alert;
        if rule.has_expired(now) {
            self.say(&rule.id, false, "it has expired");
            return;
        }
        let of_alert = Subject { alert, asset: None };
        self.reasons.extend(rule.matchers.explain(&rule.id, &of_alert, false));
        if !rule.matchers.may_hold(&of_alert) {
            self.say(&rule.id, false, "it does not match");
            return;
        }
        let mut left = rule.most_assets;
        let mut over = 0;
        let mut any = false;
        for (known, taken) in assets.iter().zip(taken) {
            let asset = &known.asset;
            if *taken {
                let what = format!("{}: an earlier rule with `stop` has it", named(asset));
                self.say(&rule.id, false, what);
                continue;
            }
            if let Some(why) = not_selected(rule, known) {
                self.say(&rule.id, false, format!("{}: {why}", named(asset)));
                continue;
            }
            let subject = Subject { alert, asset: Some((asset, &known.role)) };
            self.reasons.extend(rule.matchers.explain(&rule.id, &subject, true));
            if !rule.matchers.holds(&subject) {
                self.say(&rule.id, false, format!("{}: it does not match", named(asset)));
                continue;
            }
            any = true;
            if left == 0 {
                over += 1;
                continue;
            }
            left -= 1;
            // Only of what it acts on: what it leaves out goes on to later rules.
            *taken = rule.stop;
            let plan = self.plan(rule, &subject, known);
            self.plans.push(plan);
        }
        if over > 0 {
            let what = format!("{over} more assets are left out: `assets.max` is {}", rule.most_assets);
            self.say(&rule.id, false, what);
        }
        if !any {
            self.say(&rule.id, false, "it has no asset to act on");
        }
    }

    fn plan(&mut self, rule: &Rule, subject: &Subject<'_>, known: &Known) -> Plan {
        let asset = &known.asset;
        let mut steps = rule.steps.clone();
        let asks = if self.rules.protect.iter().any(|protect| protect.holds(subject)) {
            Some("is protected")
        } else if self.rules.protects() && !known.is_listed {
            Some("is not in the inventory, so whether it is protected is not known")
        } else {
            None
        };
        if let (Some(why), false) = (asks, rule.isolating.is_empty()) {
            for step in steps.iter_mut().filter(|step| rule.isolating.contains(&step.id)) {
                let asked = step.approval.get_or_insert_with(|| rule.approval.clone());
                asked.run_on_timeout = false;
            }
            let what = format!("{} {why}: it is isolated only when a person says yes", named(asset));
            self.say(&rule.id, false, what);
        }
        let does = match rule.mode {
            Mode::Observe => "would be",
            Mode::Approve => "is, when a person says yes,",
            Mode::Auto => "is",
        };
        let words: Vec<&str> = steps.iter().map(|step| step.word.as_str()).collect();
        self.say(&rule.id, true, format!("{} {does} taken: {}", named(asset), words.join(", ")));
        Plan {
            rule: rule.id.clone(),
            mode: rule.mode,
            asset: asset.clone(),
            dedup_key: dedup_key(rule, subject, asset),
            dedup_window: rule.dedup_window,
            truncated: false,
            repeat: rule.repeat,
            approval: (rule.mode == Mode::Approve).then(|| rule.approval.clone()),
            steps,
        }
    }

    fn end(mut self) -> Decision {
        // Stable: within either half, the order of rules and assets stays.
        self.plans.sort_by_key(|plan| !plan.asset.is_ephemeral());
        if self.reasons.len() > MOST_REASONS {
            let dropped = self.reasons.len() - MOST_REASONS;
            self.reasons.truncate(MOST_REASONS);
            self.say("", false, format!("{dropped} more reasons are not kept"));
        }
        Decision { plans: self.plans, reasons: self.reasons }
    }
}

/// The role of what an alert is chiefly about.
const PRIMARY: &str = "primary";

/// An asset in words.
pub(crate) fn named(asset: &Asset) -> String {
    let id: String = asset.id.chars().take(256).flat_map(char::escape_debug).collect();
    format!("{} {id}", asset.kind.word())
}

fn not_selected(rule: &Rule, known: &Known) -> Option<String> {
    if !rule.kinds.contains(&known.asset.kind) {
        return Some("the rule is not for its kind".to_owned());
    }
    match &rule.role {
        Some(role) if *role != known.role => {
            Some(format!("the rule is for the role {}, and it has {}", shown(role), shown(&known.role)))
        }
        _ => None,
    }
}

/// What makes two alerts the same for a rule: the rule, the asset, and what else the rule says.
fn dedup_key(rule: &Rule, subject: &Subject<'_>, asset: &Asset) -> String {
    let mut key = vec![json!(rule.id), json!(asset.kind.word()), json!(asset.id)];
    for field in &rule.dedup_key {
        let name = field.name();
        if name == "asset.id" || name == "asset.kind" {
            continue;
        }
        let value = match field.read(subject) {
            Values::Texts(mut texts) => {
                texts.sort_unstable();
                json!(texts)
            }
            Values::Number(number) => json!(number),
            Values::Flag(flag) => json!(flag),
        };
        key.push(json!([name, value]));
    }
    let key = serde_json::Value::from(key).to_string();
    if key.len() <= LONGEST_KEY { key } else { format!("sha256:{}", custody::sha256(key.as_bytes())) }
}

/// Rules, assets and a clock: what decides in the service.
pub struct Decider {
    rules: Arc<RuleSet>,
    inventory: Arc<Inventory>,
    clock: Arc<dyn Clock>,
}

impl Decider {
    /// Decides by these, at the time of this clock.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, inventory: Arc<Inventory>, clock: Arc<dyn Clock>) -> Self {
        Self { rules, inventory, clock }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// The assets.
    #[must_use]
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }
}

impl Decide for Decider {
    fn decide(&self, alert: &Alert) -> Decision {
        self.rules.decide(&self.inventory, alert, self.clock.now().wall_ns.div_euclid(1_000_000_000))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::made_steps::{AFTER, BACKDOOR, BEFORE, alert, asset, instance, inventory, rules};
    use super::super::{Approval, Repeat};
    use super::*;
    use crate::alert::{AssetKind, AssetRef, Status};

    fn decide(alert: &Alert) -> Decision {
        rules(BACKDOOR).unwrap().decide(&inventory(9), alert, BEFORE)
    }

    fn says(decision: &Decision, words: &str) -> bool {
        decision.reasons.iter().any(|reason| reason.what.contains(words))
    }

    #[test]
    fn a_backdoor_gives_the_plan_and_a_reason_for_each_matcher() {
        let decision = decide(&alert(&[1]));
        let [plan] = decision.plans.as_slice() else { panic!("one plan: {:#?}", decision.reasons) };
        assert_eq!(
            (plan.rule.as_str(), plan.mode, plan.asset.id.as_str()),
            ("ec2-backdoor", Mode::Auto, &*instance(1))
        );
        assert_eq!((plan.dedup_window, plan.repeat, plan.steps.len()), (21_600, Repeat::Attach, 5));
        assert_eq!(plan.dedup_key, format!("[\"ec2-backdoor\",\"ec2_instance\",\"{}\"]", instance(1)));
        for matcher in [
            "all of: source is guardduty or securityhub (it is \"guardduty\")",
            "all of: severity is at least 70 (it is 80)",
            "all of: type is like Backdoor:EC2/* or CryptoCurrency:EC2/* (it is \"Backdoor:EC2/C&CActivity.B\")",
            "all of: is_sample is false (it is false)",
            "all of: status is firing (it is \"firing\")",
            "none of: ips is within 198.51.100.0/24 (it is \"203.0.113.9\")",
        ] {
            assert!(says(&decision, matcher), "{matcher}: {:#?}", decision.reasons);
        }
        assert!(decision.reasons.iter().all(|reason| reason.holds));
    }

    #[test]
    fn each_matcher_alone_keeps_the_rule_from_acting() {
        type Change = fn(&mut Alert);
        let changes: [(Change, &str); 6] = [
            (|alert| alert.source = "wazuh".into(), "source is"),
            (|alert| alert.severity = 69, "severity is at least 70 (it is 69)"),
            (|alert| alert.kind = "Recon:EC2/Portscan".into(), "type is like"),
            (|alert| alert.is_sample = true, "is_sample is false (it is true)"),
            (|alert| alert.status = Status::Resolved, "status is firing (it is \"resolved\")"),
            (|alert| alert.ips.push("198.51.100.7".into()), "none of: ips is within"),
        ];
        for (change, words) in changes {
            let mut alert = alert(&[1]);
            change(&mut alert);
            let decision = decide(&alert);
            assert!(decision.plans.is_empty());
            let against: Vec<_> = decision.reasons.iter().filter(|reason| !reason.holds).collect();
            assert_eq!(against.len(), 2, "{against:#?}");
            assert!(against[0].what.contains(words), "{against:#?}");
        }
    }

    #[test]
    fn a_rule_ends_with_its_time() {
        let set = rules(BACKDOOR).unwrap();
        assert_eq!(set.decide(&inventory(9), &alert(&[1]), BEFORE).plans.len(), 1);
        let after = set.decide(&inventory(9), &alert(&[1]), AFTER);
        assert!(after.plans.is_empty() && says(&after, "it has expired"));
    }

    #[test]
    fn only_known_assets_are_acted_on_and_the_others_are_kept_with_their_reason() {
        let mut alert = alert(&[1, 77]);
        alert.assets.push(AssetRef { kind: AssetKind::Host, id: "$(reboot)".into(), role: "primary".into() });
        let decision = decide(&alert);
        assert_eq!(decision.plans.len(), 1);
        assert!(says(
            &decision,
            &format!(
                "ec2_instance \"{}\" is refused: it is not in the inventory, and its account is none of ours",
                instance(77)
            )
        ));
        assert!(says(&decision, "host \"$(reboot)\" is refused: that is no id"));
        let ours = inventory(9).with_accounts(vec!["111122223333".into()]);
        assert_eq!(rules(BACKDOOR).unwrap().decide(&ours, &alert, BEFORE).plans.len(), 2);
        assert!(says(&decide(&Alert { assets: vec![], ..alert }), "names no asset"));
    }

    #[test]
    fn a_fan_out_has_its_cap() {
        let decision = decide(&alert(&[0, 1, 2, 3, 4, 5, 6, 7]));
        assert_eq!(decision.plans.len(), 5);
        assert!(says(&decision, "3 more assets are left out: `assets.max` is 5"));
    }

    #[test]
    fn a_protected_asset_is_captured_and_never_isolated_unasked() {
        let mut critical = asset(1);
        critical.tags.insert("tier".into(), "critical".into());
        let mut controller = asset(2);
        controller.tags.insert("kind".into(), "domain_controller".into());
        let assets = Inventory::of([critical, controller, asset(3)]);
        let decision = rules(BACKDOOR).unwrap().decide(&assets, &alert(&[1, 2, 3]), BEFORE);
        let runs_unasked = |number: usize| {
            let plan = decision.plans.iter().find(|plan| plan.asset.id == instance(number)).unwrap();
            assert_eq!(plan.steps.len(), 5);
            let asked = plan.steps.iter().find(|step| step.id == "isolate").unwrap().approval.clone();
            asked.is_none_or(|asked: Approval| asked.run_on_timeout)
        };
        assert_eq!((runs_unasked(1), runs_unasked(2), runs_unasked(3)), (false, false, true));
        assert!(says(&decision, "is protected: it is isolated only when a person says yes"));
        // Without an approval of its own, the step gets one.
        let text = BACKDOOR.replace(
            ", approval = { from = [\"ir-oncall\"], count = 1, timeout = \"10m\", on_timeout = \"run\" }",
            "",
        );
        let decision = rules(&text).unwrap().decide(&assets, &alert(&[1, 3]), BEFORE);
        let asked: Vec<bool> = decision.plans.iter().map(|plan| plan.steps[3].approval.is_some()).collect();
        assert_eq!(asked, [true, false]);
    }

    #[test]
    fn what_is_ours_by_its_account_alone_is_isolated_only_when_a_person_says_yes() {
        let ours = Inventory::of([asset(1)]).with_accounts(vec!["111122223333".into()]);
        let decided = |text: &str| rules(text).unwrap().decide(&ours, &alert(&[1, 2]), BEFORE);
        let runs_unasked = |decision: &Decision, number: usize| {
            let plan = decision.plans.iter().find(|plan| plan.asset.id == instance(number)).unwrap();
            let asked = plan.steps.iter().find(|step| step.id == "isolate").unwrap().approval.clone();
            asked.is_none_or(|asked| asked.run_on_timeout)
        };
        let decision = decided(BACKDOOR);
        assert_eq!((runs_unasked(&decision, 1), runs_unasked(&decision, 2)), (true, false));
        assert!(says(&decision, "is not in the inventory, so whether it is protected is not known"));
        // Where nothing is protected, there is nothing that is not known of it.
        let (before, rest) = BACKDOOR.split_once("[protect]").unwrap();
        let (_, after) = rest.split_once("[[rule]]").unwrap();
        let decision = decided(&format!("{before}[[rule]]{after}"));
        assert_eq!((runs_unasked(&decision, 1), runs_unasked(&decision, 2)), (true, true));
    }

    #[test]
    fn what_a_rule_leaves_out_goes_on_to_the_next_though_it_says_stop() {
        let triage = "[[rule]]\nid = \"triage\"\norder = 200\nmatch.all = [ { field = \"severity\", gte = 1 } ]\nassets.max = 50\nassets.kinds = [\"ec2_instance\"]\nstep = [ { id = \"t\", use = \"capture.triage\" } ]\n";
        let all: Vec<usize> = (0..20).collect();
        let decision =
            rules(&format!("{BACKDOOR}{triage}")).unwrap().decide(&inventory(20), &alert(&all), BEFORE);
        let of = |rule: &str| -> Vec<String> {
            let plans = decision.plans.iter().filter(|plan| plan.rule == rule);
            plans.map(|plan| plan.asset.id.clone()).collect()
        };
        assert_eq!((of("ec2-backdoor").len(), of("triage").len()), (5, 15));
        assert!(of("triage").iter().all(|id| !of("ec2-backdoor").contains(id)));
    }

    const TWO: &str = r#"
version = 1
[[rule]]
id = "b-second"
match.all = [ { field = "severity", gte = 1 } ]
assets.kinds = ["ec2_instance", "container"]
step = [ { id = "t", use = "capture.triage" } ]
[[rule]]
id = "a-first"
stop = STOP
mode = "auto"
match.any = [ { field = "asset.tags.tier", eq = "web" }, { field = "source", eq = "falco" } ]
assets.kinds = ["ec2_instance"]
step = [ { id = "m", use = "capture.memory" } ]
"#;

    #[test]
    fn rules_go_by_order_and_id_and_stop_ends_the_list_for_that_asset_alone() {
        let mut web = asset(1);
        web.tags.insert("tier".into(), "web".into());
        let mut container = asset(3);
        container.kind = AssetKind::Container;
        container.id = "0123456789ab".into();
        let assets = Inventory::of([web, asset(2), container]);
        let mut alert = alert(&[1, 2]);
        alert.assets.push(AssetRef {
            kind: AssetKind::Container,
            id: "0123456789ab".into(),
            role: "x".into(),
        });
        let plans = |stop: &str| -> Vec<(String, String)> {
            let decision = rules(&TWO.replace("STOP", stop)).unwrap().decide(&assets, &alert, BEFORE);
            decision.plans.into_iter().map(|plan| (plan.rule, plan.asset.id)).collect()
        };
        let plan = |rule: &str, id: String| (rule.to_owned(), id);
        // What is ephemeral comes first, whatever rule it is of.
        let container = plan("b-second", "0123456789ab".into());
        let stopped = [container.clone(), plan("a-first", instance(1)), plan("b-second", instance(2))];
        assert_eq!(plans("true"), stopped);
        let both = [
            container,
            plan("a-first", instance(1)),
            plan("b-second", instance(1)),
            plan("b-second", instance(2)),
        ];
        assert_eq!(plans("false"), both);
    }

    #[test]
    fn names_of_one_asset_are_one_plan() {
        let mut listed = asset(1);
        listed.aliases = vec!["web01".into(), "aid-7".into()];
        let mut alert = alert(&[]);
        for (id, role) in [("web01", "observer"), ("aid-7", "primary"), ("WEB01", "observer")] {
            alert.assets.push(AssetRef { kind: AssetKind::Host, id: id.into(), role: role.into() });
        }
        let decision = rules(BACKDOOR).unwrap().decide(&Inventory::of([listed]), &alert, BEFORE);
        assert_eq!(decision.plans.len(), 1, "{:#?}", decision.reasons);
    }

    #[test]
    fn the_key_has_what_the_rule_says_and_always_the_asset() {
        let text = BACKDOOR.replace("key = [\"asset.id\"]", "key = [\"type\", \"ips\"]");
        let key = |alert: &Alert| {
            rules(&text).unwrap().decide(&inventory(9), alert, BEFORE).plans[0].dedup_key.clone()
        };
        let (mut one, two) = (alert(&[1]), alert(&[2]));
        assert_ne!(key(&one), key(&two));
        let before = key(&one);
        one.ips.push("192.0.2.1".into());
        assert_ne!(key(&one), before);
        let swapped = Alert { ips: vec!["192.0.2.1".into(), "203.0.113.9".into()], ..one.clone() };
        assert_eq!(key(&swapped), key(&one));
        one.ips = (0..200).map(|n| format!("192.0.2.{n}")).collect();
        assert!(key(&one).starts_with("sha256:"));
    }

    #[test]
    fn a_plan_has_a_hash_of_all_that_it_says() {
        let plan = decide(&alert(&[1])).plans.remove(0);
        let mut seen = std::collections::BTreeSet::from([plan.hash()]);
        assert_eq!(plan.hash(), plan.hash());
        type Change = fn(&mut Plan);
        let changes: [Change; 6] = [
            |plan| plan.mode = Mode::Observe,
            |plan| plan.asset.id.push('0'),
            |plan| plan.steps[0].timeout += 1,
            |plan| drop(plan.steps.pop()),
            |plan| {
                plan.steps[1].parameters = serde_json::Map::from_iter([("profile".to_owned(), "x".into())]);
            },
            |plan| plan.steps[3].approval = None,
        ];
        for change in changes {
            let mut other = plan.clone();
            change(&mut other);
            assert!(seen.insert(other.hash()));
        }
    }

    /// The rules of a file in another order.
    fn shuffled(text: &str, order: &[usize]) -> String {
        let (head, rest) = text.split_once("[[rule]]").unwrap();
        let rules: Vec<&str> = rest.split("[[rule]]").collect();
        let mut text = head.to_owned();
        for at in order {
            text.push_str("[[rule]]");
            text.push_str(rules[*at]);
        }
        text
    }

    proptest! {
        #[test]
        fn the_order_of_rules_in_a_file_and_of_assets_in_an_alert_changes_nothing(
            order in Just((0..4).collect::<Vec<usize>>()).prop_shuffle(),
            assets in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(), severity: u8,
        ) {
            let further = "[[rule]]\nid = \"z\"\norder = 1\nstop = true\nmatch.all = [ { field = \"severity\", lt = 40 } ]\nassets.max = 2\nstep = [ { id = \"t\", use = \"capture.triage\" } ]\n";
            let text = format!("{BACKDOOR}{}{further}", TWO.replace("STOP", "true").replace("version = 1\n", ""));
            let mut straight = alert(&[0, 1, 2, 3, 4, 5, 6, 7]);
            straight.severity = severity;
            let mixed = Alert { assets: assets.iter().map(|at| straight.assets[*at].clone()).collect(), ..straight.clone() };
            let assets = inventory(7);
            let one = rules(&text).unwrap().decide(&assets, &straight, BEFORE);
            let other = rules(&shuffled(&text, &order)).unwrap().decide(&assets, &mixed, BEFORE);
            prop_assert_eq!(one.plans, other.plans);
            prop_assert_eq!(one.reasons, other.reasons);
        }

        #[test]
        fn no_alert_makes_a_decision_panic(
            texts in prop::collection::vec(".{0,60}", 8), severity: u8, kind in 0usize..9, count in 0usize..20,
        ) {
            let mut alert = alert(&[1]);
            alert.source = texts[0].clone();
            alert.kind = texts[1].clone();
            alert.ips = texts[2..5].to_vec();
            alert.account = texts[5].clone();
            alert.severity = severity;
            for at in 0..count {
                alert.assets.push(AssetRef { kind: AssetKind::ALL[kind], id: format!("{}{at}", texts[6]), role: texts[7].clone() });
            }
            let decision = decide(&alert);
            prop_assert!(decision.plans.iter().all(|plan| inventory(9).assets().contains(&plan.asset)));
            prop_assert!(decision.reasons.iter().all(|reason| !reason.what.contains(|c: char| c.is_control())));
        }
    }
}

//! The sample rules over the sample alerts, and the page that documents rules against the tables it is about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use respond::alert::{self, Alert, AssetKind, Mapping, SOURCES};
use respond::inventory::Inventory;
use respond::rules::{Decision, FIELDS, Holds, Mode, OPERATORS, RuleSet};
use respond::steps::{Phase, STEPS, Takes};

/// 2026-11-21, when the samples were made.
const NOW: i64 = 1_795_219_200;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules() -> RuleSet {
    RuleSet::load(&root().join("samples/rules")).unwrap()
}

fn inventory() -> Inventory {
    Inventory::load(&root().join("samples/inventory/assets.toml"))
        .unwrap()
        .with_accounts(vec!["111122223333".into()])
}

fn alerts_in(file: &str) -> Vec<Alert> {
    let source = file.split('/').next().unwrap();
    let path = root().join("samples/alerts").join(file);
    let mapping = path.with_extension("mapping.toml");
    let mapping = mapping.is_file().then(|| Mapping::load(&mapping).unwrap());
    alert::read(source, mapping.as_ref(), &fs::read(path).unwrap()).unwrap()
}

fn decided(file: &str) -> Decision {
    let alerts = alerts_in(file);
    rules().decide(&inventory(), &alerts[0], NOW)
}

fn words(decision: &Decision) -> Vec<(String, Mode, String, Vec<String>)> {
    let plan = |plan: &respond::rules::Plan| {
        let ids = plan.steps.iter().map(|step| step.id.clone()).collect();
        (plan.rule.clone(), plan.mode, plan.asset.id.clone(), ids)
    };
    decision.plans.iter().map(plan).collect()
}

#[test]
fn the_sample_rules_are_read_over_without_a_remark() {
    let rules = rules();
    assert!(rules.rules().len() >= 8);
    assert_eq!(rules.review(NOW), []);
}

#[test]
fn an_instance_with_a_backdoor_is_captured_then_isolated() {
    let [(rule, mode, asset, steps)] = &words(&decided("guardduty/c2_from_instance.json"))[..] else {
        panic!("one plan");
    };
    assert_eq!((rule.as_str(), *mode, asset.as_str()), ("ec2-backdoor", Mode::Auto, "i-0a1b2c3d4e5f60718"));
    assert_eq!(steps, &["protect", "disk", "isolate", "timeline", "report", "tell"]);
}

#[test]
fn a_pressed_button_has_its_own_rule_and_no_other() {
    let plans = words(&decided("security_hub/custom_action.json"));
    assert_eq!(plans.iter().map(|plan| plan.0.as_str()).collect::<Vec<_>>(), ["capture-button"]);
}

#[test]
fn a_shell_in_a_pod_takes_the_pod_and_its_container_first() {
    let rules: BTreeSet<String> =
        words(&decided("falco/terminal_shell_in_pod.json")).into_iter().map(|plan| plan.0).collect();
    assert_eq!(rules, ["container-shell", "pod-shell"].map(str::to_owned).into());
}

#[test]
fn a_host_is_taken_over_ssh_in_order_of_volatility() {
    let plans = words(&decided("wazuh/ssh_brute_force.json"));
    let (_, mode, asset, steps) = plans.iter().find(|plan| plan.0 == "host-over-ssh").unwrap();
    assert_eq!((*mode, asset.as_str()), (Mode::Auto, "web01"));
    assert_eq!(steps, &["triage", "memory", "logs", "timeline", "report", "tell"]);
    let (_, mode, ..) = plans.iter().find(|plan| plan.0 == "watch-hosts").unwrap();
    assert_eq!(*mode, Mode::Observe);
}

#[test]
fn ransomware_is_cut_off_before_it_is_captured() {
    let mut alert = alerts_in("guardduty/c2_from_instance.json").remove(0);
    alert.kind = "Impact:EC2/Ransomware".into();
    let decision = rules().decide(&inventory(), &alert, NOW);
    let [(rule, _, _, steps)] = &words(&decision)[..] else { panic!("one plan") };
    assert_eq!(rule, "ec2-ransomware");
    assert_eq!(steps, &["protect", "isolate", "disk", "timeline", "tell"]);
    let disk = decision.plans[0].steps.iter().find(|step| step.id == "disk").unwrap();
    assert_eq!(disk.needs, ["isolate:finished"]);
}

#[test]
fn samples_resolved_alerts_and_hostile_ids_have_nothing_done() {
    for file in ["guardduty/sample_finding.json", "guardduty/archived.json", "guardduty/hostile_fields.json"]
    {
        for alert in alerts_in(file) {
            let decision = rules().decide(&inventory(), &alert, NOW);
            assert!(decision.plans.is_empty(), "{file}: {:?}", words(&decision));
        }
    }
}

#[test]
fn no_plan_is_for_an_asset_that_is_not_ours() {
    let stranger = Inventory::default();
    for source in SOURCES {
        let folder = root().join("samples/alerts").join(source.word);
        for entry in fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.ends_with(".json") || name.ends_with(".refused.json") {
                continue;
            }
            for alert in alerts_in(&format!("{}/{name}", source.word)) {
                let decision = rules().decide(&stranger, &alert, NOW);
                assert!(decision.plans.is_empty(), "{name}");
                let refused = decision.reasons.iter().filter(|reason| reason.rule.is_empty()).count();
                assert!(refused >= alert.assets.len().min(1), "{name}");
            }
        }
    }
}

#[test]
fn the_names_of_files_make_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let mut names: Vec<PathBuf> =
        fs::read_dir(root().join("samples/rules")).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "toml"));
    names.sort();
    for (at, name) in names.iter().rev().enumerate() {
        fs::copy(name, folder.path().join(format!("{at}.toml"))).unwrap();
    }
    let other = RuleSet::load(folder.path()).unwrap();
    assert_eq!(other.sha256(), rules().sha256());
    for file in
        ["guardduty/attack_sequence.json", "wazuh/ssh_brute_force.json", "falco/terminal_shell_in_pod.json"]
    {
        for alert in alerts_in(file) {
            let (one, two) =
                (rules().decide(&inventory(), &alert, NOW), other.decide(&inventory(), &alert, NOW));
            assert_eq!((one.plans, one.reasons), (two.plans, two.reasons), "{file}");
        }
    }
}

/// The lines of a table of the page, between its heading and the next empty line.
fn table<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no {heading:?}"));
    let lines = rest.lines().skip_while(|line| !line.starts_with("|---"));
    lines.skip(1).take_while(|line| line.starts_with('|')).collect()
}

fn compare(page: &str, heading: &str, expected: &[String]) {
    let found = table(page, heading);
    assert!(
        found == expected,
        "the table of {heading:?} in docs/RULES.md should be:\n{}\n",
        expected.join("\n")
    );
}

fn kinds_of(takes: impl Fn(AssetKind) -> bool) -> String {
    let kinds: Vec<&str> =
        AssetKind::ALL.iter().filter(|kind| takes(**kind)).map(|kind| kind.word()).collect();
    if kinds.len() == AssetKind::ALL.len() { "any".into() } else { kinds.join(", ") }
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Protect => "1 protect",
        Phase::Volatile => "2 volatile",
        Phase::Disk => "3 disk",
        Phase::Isolate => "4 isolate",
        Phase::Credentials => "5 credentials",
        Phase::Slow => "6 slow",
        Phase::Analyse => "7 analyse",
        Phase::Tell => "8 tell",
    }
}

#[test]
fn the_page_has_every_field_operator_and_step_as_it_is() {
    let page = fs::read_to_string(root().join("docs/RULES.md")).unwrap();
    let fields: Vec<String> = FIELDS
        .iter()
        .map(|field| {
            let holds = match field.holds {
                Holds::Text => "text",
                Holds::Texts => "texts",
                Holds::Number => "number",
                Holds::Flag => "true or false",
            };
            format!("| `{}` | {holds} | {} |", field.name, field.about)
        })
        .chain(["| `asset.tags.NAME` | text | its tag of this name |".to_owned()])
        .collect();
    compare(&page, "Fields", &fields);
    let operators: Vec<String> =
        OPERATORS.iter().map(|(word, about)| format!("| `{word}` | {about} |")).collect();
    compare(&page, "Operators", &operators);
    let steps: Vec<String> = STEPS
        .iter()
        .map(|step| {
            let parameters: Vec<String> = step
                .parameters()
                .iter()
                .map(|one| {
                    let takes = match one.takes {
                        Takes::Text => "text",
                        Takes::Texts => "texts",
                        Takes::Number => "number",
                        Takes::Flag => "true or false",
                        Takes::Span => "span",
                    };
                    format!("`{}` ({takes}): {}", one.name, one.about)
                })
                .collect();
            format!(
                "| `{}` | {} | {} | {} | {} |",
                step.word(),
                step.about(),
                kinds_of(|kind| step.takes(kind)),
                phase_word(step.phase()),
                if parameters.is_empty() { "–".to_owned() } else { parameters.join("; ") },
            )
        })
        .collect();
    compare(&page, "Steps", &steps);
}

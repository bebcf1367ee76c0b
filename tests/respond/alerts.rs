//! Every product's alerts: what each sample reads as, and what no body may do.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use respond::alert::{self, Alert, AssetKind, Mapping, SOURCES, Status};
use serde_json::{Value, json};

fn samples(source: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/alerts").join(source);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| has_end(path, ".json"))
        .collect();
    files.sort();
    files
}

fn has_end(path: &Path, end: &str) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(end))
}

/// A mapping stands beside its sample: `x.json`, `x.mapping.toml`.
fn mapping(sample: &Path) -> Option<Mapping> {
    let file = sample.with_extension("mapping.toml");
    file.exists().then(|| Mapping::load(&file).unwrap())
}

fn read(source: &str, sample: &Path) -> Result<Vec<Alert>, alert::Unparsed> {
    alert::read(source, mapping(sample).as_ref(), &std::fs::read(sample).unwrap())
}

fn sample(source: &str, name: &str) -> Alert {
    let file = samples(source).into_iter().find(|path| has_end(path, name)).unwrap();
    read(source, &file).unwrap().remove(0)
}

#[test]
fn every_sample_reads_as_a_person_reviewed_it() {
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/snapshots/alerts");
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(snapshots);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for source in SOURCES {
        for file in samples(source.word) {
            let name = format!("{}__{}", source.word, file.file_stem().unwrap().to_str().unwrap());
            let text = match read(source.word, &file) {
                Ok(alerts) => serde_json::to_string_pretty(&alerts).unwrap(),
                Err(why) => format!("unparsed: {why}"),
            };
            assert_eq!(has_end(&file, ".refused.json"), text.starts_with("unparsed"), "{name}: {text}");
            settings.bind(|| insta::assert_snapshot!(name, text));
        }
    }
}

#[test]
fn every_source_has_samples_and_every_folder_of_samples_a_source() {
    for source in SOURCES {
        assert!(!samples(source.word).is_empty(), "{}", source.word);
        assert!(!source.about.is_empty() && !source.severity.is_empty());
    }
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/alerts");
    for folder in std::fs::read_dir(folders).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(alert::source(&name).is_some(), "samples/alerts/{name}");
    }
}

#[test]
fn no_sample_passes_for_another_source_with_an_asset_it_does_not_name() {
    for source in SOURCES {
        for other in SOURCES.iter().filter(|other| other.word != source.word) {
            for file in samples(source.word) {
                for alert in alert::read(other.word, None, &std::fs::read(&file).unwrap()).unwrap_or_default()
                {
                    assert_eq!(alert.source, other.word);
                    assert!(
                        alert.assets.iter().all(|asset| asset.kind.allows(&asset.id)),
                        "{file:?} as {}",
                        other.word
                    );
                }
            }
        }
    }
}

#[test]
fn samples_of_the_senders_are_marked_and_nothing_else_is() {
    for source in SOURCES {
        for file in samples(source.word) {
            let marked = read(source.word, &file).unwrap_or_default().iter().any(|alert| alert.is_sample);
            let says = ["sample_finding", "old_sample", "test_alert", "sidekick_test"];
            let expected = says.iter().any(|word| file.to_str().unwrap().contains(word));
            assert_eq!(marked, expected, "{file:?}");
        }
    }
}

#[test]
fn a_finding_and_what_is_written_back_to_it_are_one_occurrence_and_an_action_another() {
    let imported = sample("security_hub", "imported_from_guardduty.json");
    let back = sample("security_hub", "written_back.json");
    let action = sample("security_hub", "custom_action.json");
    assert_eq!((&imported.source_id, &imported.occurrence), (&back.source_id, &back.occurrence));
    assert_eq!(imported.source_id, action.source_id);
    assert_ne!(imported.occurrence, action.occurrence);
    assert_eq!(action.action, "Capture and isolate");
}

#[test]
fn an_alert_that_is_over_is_another_occurrence_of_the_same_alert() {
    let (firing, over) = (sample("guardduty", "c2_from_instance.json"), sample("guardduty", "archived.json"));
    assert_eq!(firing.source_id, over.source_id);
    assert_ne!(firing.occurrence, over.occurrence);
    assert_eq!((firing.status, over.status), (Status::Firing, Status::Resolved));
}

#[test]
fn a_hostile_field_leaves_no_asset_no_address_no_link_and_no_control_character() {
    let alert = sample("guardduty", "hostile_fields.json");
    assert!(alert.assets.is_empty() && alert.ips.is_empty() && alert.link.is_empty());
    assert!(alert.source_id.starts_with("sha256:"));
    assert_eq!(alert.severity, 100);
    assert!(!serde_json::to_string(&alert).unwrap().contains("\\u001b"));
    assert!(alert.notes.iter().any(|note| note.contains("is no id of a ec2_instance")));
}

#[test]
fn a_word_that_is_no_source_and_a_body_that_is_no_object_are_refused() {
    assert!(alert::read("nagios", None, b"{}").is_err());
    for source in SOURCES {
        for body in ["", "null", "5", "\"x\"", "{}", "[]", "[[]]", "[null]", "{\"a\":1,\"a\":2}"] {
            assert!(alert::read(source.word, None, body.as_bytes()).is_err(), "{} {body}", source.word);
        }
    }
}

#[test]
fn a_body_of_too_many_alerts_is_refused_as_a_whole() {
    let one = json!({"labels": {"alertname": "x"}, "startsAt": "2026-11-20T04:00:00Z"});
    let body = |count: usize| json!({"version": "4", "alerts": vec![one.clone(); count]}).to_string();
    assert_eq!(alert::read("alertmanager", None, body(1000).as_bytes()).unwrap().len(), 1000);
    assert!(alert::read("alertmanager", None, body(1001).as_bytes()).is_err());
}

#[test]
fn two_ids_that_differ_only_beyond_64_bits_are_refused_and_not_made_one() {
    for id in ["18446744073709551617", "18446744073709551618"] {
        let body = format!(r#"{{"detail": {{}}, "id": {id}, "title": "x"}}"#);
        let why = alert::read("defender", None, body.as_bytes()).unwrap_err();
        assert!(why.0.contains("`id` is a number of too many digits"), "{why}");
        let why = alert::read("generic", None, body.as_bytes()).unwrap_err();
        assert!(why.0.contains("`source_id` is a number of too many digits"), "{why}");
    }
    let text = r#"{"id": "18446744073709551617", "title": "x"}"#;
    let read = alert::read("defender", None, text.as_bytes()).unwrap();
    assert_eq!(read[0].source_id, "18446744073709551617");
}

#[test]
fn the_machine_that_only_saw_it_is_no_asset_of_an_alert() {
    for (source, name, seen) in [
        ("falco", "console_login_by_cloudtrail.json", &[][..]),
        ("falco", "exec_into_pod_by_audit.json", &[(AssetKind::K8sPod, "/shop/web-7d4b9c6f5-x2x9k")]),
        ("wazuh", "syslog_of_a_firewall.json", &[]),
    ] {
        let alert = sample(source, name);
        let named: Vec<_> = alert.assets.iter().map(|asset| (asset.kind, asset.id.as_str())).collect();
        assert_eq!(named, seen, "{name}");
        assert!(alert.notes.iter().any(|note| note.contains("web01") || note.contains("manager")), "{name}");
    }
}

#[test]
fn the_manager_of_wazuh_is_the_host_only_where_it_watches_itself() {
    let of = |agent: &str, more: Value| {
        let mut body = json!({"id": "1.1", "rule": {"id": "5710", "level": 5},
            "agent": {"id": agent, "name": "siem01"}, "manager": {"name": "siem01"}});
        let more = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(more);
        let alert = alert::read("wazuh", None, body.to_string().as_bytes()).unwrap().remove(0);
        assert_eq!(alert.assets.is_empty(), alert.notes.iter().any(|note| note.contains("no host is known")));
        alert.assets.len()
    };
    for own in [
        json!({"location": "/var/log/auth.log"}),
        json!({"location": "/var/log/auth.log", "predecoder": {"hostname": "SIEM01.corp.example"}}),
        json!({"location": "journald"}),
        json!({"location": "syscheck", "syscheck": {"path": "/etc/passwd"}}),
    ] {
        assert_eq!(of("000", own.clone()), 1, "{own}");
    }
    for others in [
        json!({"location": "192.0.2.1"}),
        json!({"location": "Wazuh-AWS"}),
        json!({"location": "/var/log/remote/all.log", "predecoder": {"hostname": "fw-edge-1"}}),
        json!({"location": "(ssh_integrity_check_linux) root@db01->syscheck", "syscheck": {"path": "/etc/passwd"}}),
        json!({}),
    ] {
        assert_eq!(of("000", others.clone()), 0, "{others}");
        assert_eq!(of("001", others.clone()), 1, "an agent is the host whatever it reads: {others}");
    }
}

/// What must hold of every alert, whoever sent it.
fn check(alert: &Alert) {
    assert!(alert.severity <= 100);
    assert!(alert.assets.len() <= 500 && alert.ips.len() <= 200 && alert.notes.len() <= 20);
    for asset in &alert.assets {
        assert!(asset.kind.allows(&asset.id), "{asset:?}");
    }
    for ip in &alert.ips {
        assert!(ip.parse::<std::net::IpAddr>().is_ok(), "{ip}");
    }
    let value = serde_json::to_value(alert).unwrap();
    each_text(&value, &|text| {
        assert!(
            !text.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)),
            "{text:?}"
        );
        assert!(text.chars().count() <= 1100, "{text}");
    });
    let text = value.to_string();
    assert_eq!(&serde_json::from_str::<Alert>(&text).unwrap(), alert);
}

fn each_text(value: &Value, see: &dyn Fn(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(map) => map.values().for_each(|item| each_text(item, see)),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("i-0a1b2c3d4e5f60718")),
        Just(Value::from("true")),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Every place in a value, as a list of steps.
fn places(value: &Value, here: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    all.push(here.clone());
    let within: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (step, value) in within {
        here.push(step);
        places(value, here, all);
        here.pop();
    }
}

fn put(value: &mut Value, place: &[String], new: Value) {
    let Some((step, rest)) = place.split_first() else { return *value = new };
    let within = match value {
        Value::Object(map) => map.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().unwrap()),
        _ => None,
    };
    put(within.unwrap(), rest, new);
}

proptest! {
    #[test]
    fn any_bytes_are_an_alert_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for source in SOURCES {
            alert::read(source.word, None, &bytes).unwrap_or_default().iter().for_each(check);
        }
    }

    #[test]
    fn any_json_is_an_alert_or_refused(value in any_json()) {
        let body = value.to_string();
        for source in SOURCES {
            alert::read(source.word, None, body.as_bytes()).unwrap_or_default().iter().for_each(check);
        }
    }

    /// Closer to home: a sample in which one or two places hold something else.
    #[test]
    fn a_sample_with_anything_anywhere_is_an_alert_or_refused(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..3),
    ) {
        let all: Vec<(&str, PathBuf)> =
            SOURCES.iter().flat_map(|source| samples(source.word).into_iter().map(|file| (source.word, file))).collect();
        let (source, file) = which.get(&all);
        let mut value: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for (place, new) in changes {
            let mut all = Vec::new();
            places(&value, &mut Vec::new(), &mut all);
            let place: &Vec<String> = place.get(&all);
            put(&mut value, place, new);
        }
        let body = value.to_string();
        alert::read(source, mapping(file).as_ref(), body.as_bytes()).unwrap_or_default().iter().for_each(check);
    }

    #[test]
    fn a_cut_sample_is_refused(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let all: Vec<(&str, PathBuf)> =
            SOURCES.iter().flat_map(|source| samples(source.word).into_iter().map(|file| (source.word, file))).collect();
        let (source, file) = which.get(&all);
        let bytes = std::fs::read(file).unwrap();
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap();
        prop_assert!(alert::read(source, mapping(file).as_ref(), &bytes[..at.index(end)]).is_err());
    }
}

#[test]
fn every_kind_of_asset_is_named_by_some_sample() {
    for kind in AssetKind::ALL {
        let named = SOURCES
            .iter()
            .flat_map(|source| samples(source.word).into_iter().map(|file| (source.word, file)))
            .any(|(source, file)| {
                read(source, &file)
                    .unwrap_or_default()
                    .iter()
                    .any(|alert| alert.assets.iter().any(|a| a.kind == *kind))
            });
        assert!(named, "{kind:?}");
    }
}

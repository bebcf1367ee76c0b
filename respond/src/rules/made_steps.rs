//! Steps, rules and alerts that tests of this module share. The steps do nothing; the real ones are in `steps`.

use serde_json::Value;

use super::RuleSet;
use crate::alert::{Alert, AssetKind, AssetRef};
use crate::inventory::{Asset, Inventory};
use crate::steps::{Context, Failed, Parameter, Step, Takes};

pub(super) struct Made {
    word: &'static str,
    kinds: &'static [AssetKind],
    isolates: bool,
}

impl Step for Made {
    fn word(&self) -> &'static str {
        self.word
    }

    fn about(&self) -> &'static str {
        "does nothing"
    }

    fn takes(&self, kind: AssetKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    fn isolates(&self) -> bool {
        self.isolates
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[
            Parameter { name: "profile", about: "which files", takes: Takes::Text },
            Parameter { name: "for", about: "how long", takes: Takes::Span },
        ]
    }

    fn run(&self, _: &Context<'_>) -> Result<Value, Failed> {
        Ok(Value::Null)
    }
}

const fn made(word: &'static str, kinds: &'static [AssetKind], isolates: bool) -> Made {
    Made { word, kinds, isolates }
}

const EC2: &[AssetKind] = &[AssetKind::Ec2Instance];
const HOSTS: &[AssetKind] = &[AssetKind::Ec2Instance, AssetKind::Host, AssetKind::Container];

static PROTECT: Made = made("aws.ec2.protect", EC2, false);
static MEMORY: Made = made("capture.memory", HOSTS, false);
static TRIAGE: Made = made("capture.triage", HOSTS, false);
static EBS: Made = made("capture.ebs_snapshot", EC2, false);
static GROUPS: Made = made("isolate.ec2_sg", EC2, true);
static TELL: Made = made("notify.webhook", &[], false);
static BUCKET: Made = made("capture.bucket", &[AssetKind::S3Bucket], false);

pub(super) static MADE: &[&dyn Step] = &[&PROTECT, &MEMORY, &TRIAGE, &EBS, &GROUPS, &TELL, &BUCKET];

/// The rule that everything else here is about.
pub(super) const BACKDOOR: &str = r#"
version = 1
[defaults]
mode = "approve"
[limits]
captures = { per_hour = 30, concurrent = 4, bytes_per_day = "2TiB" }
isolations = { per_hour = 5, concurrent = 3, max_share_of_group = 0.34 }
[protect]
match.any = [ { field = "asset.tags.tier", eq = "critical" }, { field = "asset.kind", in = ["domain_controller", "k8s_control_plane"] } ]

[[rule]]
id = "ec2-backdoor"
order = 100
expires = 2027-01-01
mode = "auto"
match.all = [
  { field = "source", in = ["guardduty", "securityhub"] },
  { field = "severity", gte = 70 },
  { field = "type", glob = ["Backdoor:EC2/*", "CryptoCurrency:EC2/*"] },
  { field = "is_sample", eq = false }, { field = "status", eq = "firing" },
]
match.none = [ { field = "ips", cidr = "198.51.100.0/24" } ]       # our scanner
assets = { role = "primary", kinds = ["ec2_instance"], max = 5 }
dedup  = { key = ["asset.id"], window = "6h", repeat = "attach" }
rate   = { per_asset = "1/6h", per_rule = "20/1h" }
storm  = { over = "50/5m", then = "triage_only" }
stop   = true
step = [
  { id = "protect", use = "aws.ec2.protect" },
  { id = "memory", use = "capture.memory", needs = ["protect"], timeout = "20m", on_error = "continue" },
  { id = "disk", use = "capture.ebs_snapshot", needs = ["protect"], retry = { max = 5, backoff = "10s..5m" } },
  { id = "isolate", use = "isolate.ec2_sg", needs = ["disk:started", "memory:finished"], max_wait = "15m", lease = "8h", approval = { from = ["ir-oncall"], count = 1, timeout = "10m", on_timeout = "run" } },
  { id = "tell", use = "notify.webhook", always = true },
]
"#;

/// A second before that rule expires, and one after.
pub(super) const BEFORE: i64 = 1_798_761_599;
pub(super) const AFTER: i64 = 1_798_761_600;

pub(super) fn rules(text: &str) -> Result<RuleSet, String> {
    RuleSet::of_files(&[("rules.toml".into(), text.to_owned())], MADE).map_err(|error| error.to_string())
}

pub(super) fn instance(number: usize) -> String {
    format!("i-{number:017x}")
}

pub(super) fn alert(instances: &[usize]) -> Alert {
    let assets = instances.iter().map(|number| AssetRef {
        kind: AssetKind::Ec2Instance,
        id: instance(*number),
        role: "primary".into(),
    });
    Alert {
        source: "guardduty".into(),
        source_id: "f-1".into(),
        severity: 80,
        kind: "Backdoor:EC2/C&CActivity.B".into(),
        account: "111122223333".into(),
        assets: assets.collect(),
        ips: vec!["203.0.113.9".into()],
        ..Alert::default()
    }
}

pub(super) fn asset(number: usize) -> Asset {
    Asset {
        kind: AssetKind::Ec2Instance,
        id: instance(number),
        aliases: Vec::new(),
        account: String::new(),
        region: String::new(),
        owner: String::new(),
        criticality: String::new(),
        group: String::new(),
        target: String::new(),
        tags: std::collections::BTreeMap::new(),
    }
}

pub(super) fn inventory(count: usize) -> Inventory {
    Inventory::of((0..count).map(asset))
}

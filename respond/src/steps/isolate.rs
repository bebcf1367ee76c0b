//! Steps that isolate: any [`Isolation`] as a step, with its state kept before it is touched.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value};

use super::{Context, Failed, Parameter, Phase, Step, Takes};
use crate::alert::AssetKind;
use crate::edr::isolation;
use crate::inventory::Asset;
use crate::isolate::allowed::Allowed;
use crate::isolate::ec2_rules::{MOST_SETTLE, permissions};
use crate::isolate::{
    Isolation, Restored, Verified, docker_networks, ec2_groups, host_nft, iam_key, iam_sessions, isolate,
    k8s_pod, take_back,
};
use crate::state::steps::{standing, taken_back};

/// The tag of an asset that is never isolated by a rule, with any of [`NEVER`].
const TAG: &str = "isolate";

/// Values of [`TAG`] that forbid it.
const NEVER: &[&str] = &["never", "no", "false"];

const ALLOW: Parameter = Parameter {
    name: "allow",
    about: "`ADDR[:PORT]` that it may still connect to; without a port, anything with that address",
    takes: Takes::Texts,
};
const ALLOW_FROM: Parameter = Parameter {
    name: "allow_from",
    about: "`ADDR:PORT`: who may still connect to which port of it",
    takes: Takes::Texts,
};
const PROBES: Parameter = Parameter {
    name: "probes",
    about: "`ADDR:PORT` that must not be reached any more, to try it",
    takes: Takes::Texts,
};
const EDR: Parameter = Parameter {
    name: "edr",
    about: "which tenant of `[targets.edr]`, where there are several",
    takes: Takes::Text,
};

/// This host.
pub(super) static HOST: IsolationStep = IsolationStep {
    word: "isolate.host",
    about: "Cuts this Linux host off by nftables, all but the addresses in `allow` and `allow_from`",
    takes: &[AssetKind::Host],
    parameters: &[ALLOW, ALLOW_FROM, PROBES],
    phase: Phase::Isolate,
    of: host_nft::of,
};

/// An EC2 instance.
pub(super) static EC2: IsolationStep = IsolationStep {
    word: "isolate.ec2_sg",
    about: "Gives every interface of an EC2 instance a security group that lets out only what is in `allow`",
    takes: &[AssetKind::Ec2Instance],
    parameters: &[
        Parameter {
            name: "allow",
            about: "`NETWORK:PORT`, `sg-…:PORT` or `pl-…:PORT` that it may still reach",
            takes: Takes::Texts,
        },
        PROBES,
        Parameter { name: "takes_addresses", about: "take its elastic addresses away", takes: Takes::Flag },
        Parameter { name: "takes_profile", about: "take its role away", takes: Takes::Flag },
        Parameter {
            name: "settle_seconds",
            about: "how long everything is let through, so that open flows end",
            takes: Takes::Number,
        },
    ],
    phase: Phase::Isolate,
    of: ec2_groups::of,
};

/// A container of Docker.
pub(super) static DOCKER: IsolationStep = IsolationStep {
    word: "isolate.docker",
    about: "Takes a container of Docker from all its networks, and freezes it if `pause` is true",
    takes: &[AssetKind::Container],
    parameters: &[Parameter { name: "pause", about: "freeze its processes too", takes: Takes::Flag }],
    phase: Phase::Isolate,
    of: docker_networks::of,
};

/// A pod.
pub(super) static K8S: IsolationStep = IsolationStep {
    word: "isolate.k8s_pod",
    about: "Takes a pod's labels away and holds it by a network policy that lets out only to `allow`",
    takes: &[AssetKind::K8sPod],
    parameters: &[ALLOW],
    phase: Phase::Isolate,
    of: k8s_pod::of,
};

/// An access key.
pub(super) static IAM_KEY: IsolationStep = IsolationStep {
    word: "isolate.iam_key",
    about: "Makes an IAM access key inactive",
    takes: &[AssetKind::IamAccessKey],
    parameters: &[],
    phase: Phase::Credentials,
    of: iam_key::of,
};

/// The sessions of a role.
pub(super) static IAM_SESSIONS: IsolationStep = IsolationStep {
    word: "isolate.iam_sessions",
    about: "Revokes every session of an IAM role that was issued before now",
    takes: &[AssetKind::IamRole],
    parameters: &[],
    phase: Phase::Credentials,
    of: iam_sessions::of,
};

/// A host that CrowdStrike watches.
pub(super) static CROWDSTRIKE: IsolationStep = IsolationStep {
    word: "isolate.crowdstrike",
    about: "Has CrowdStrike Falcon contain a host's network",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
    parameters: &[EDR],
    phase: Phase::Isolate,
    of: isolation::of_crowdstrike,
};

/// A host that Defender watches.
pub(super) static DEFENDER: IsolationStep = IsolationStep {
    word: "isolate.defender",
    about: "Has Microsoft Defender for Endpoint isolate a host",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
    parameters: &[EDR],
    phase: Phase::Isolate,
    of: isolation::of_defender,
};

/// A host that SentinelOne watches.
pub(super) static SENTINELONE: IsolationStep = IsolationStep {
    word: "isolate.sentinelone",
    about: "Has SentinelOne disconnect a host from its network",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
    parameters: &[EDR],
    phase: Phase::Isolate,
    of: isolation::of_sentinelone,
};

/// One platform as a step.
pub struct IsolationStep {
    /// As [`Step::word`].
    pub word: &'static str,
    /// As [`Step::about`].
    pub about: &'static str,
    /// What it can be done to.
    pub takes: &'static [AssetKind],
    /// As [`Step::parameters`].
    pub parameters: &'static [Parameter],
    /// As [`Step::phase`].
    pub phase: Phase,
    /// The asset of this context, as something that can be isolated. Changes nothing, and is made for undoing too.
    pub of: for<'c> fn(&'c Context<'_>) -> Result<Box<dyn Isolation + 'c>, Failed>,
}

impl Step for IsolationStep {
    fn word(&self) -> &'static str {
        self.word
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn takes(&self, kind: AssetKind) -> bool {
        self.takes.contains(&kind)
    }

    fn isolates(&self) -> bool {
        true
    }

    fn parameters(&self) -> &'static [Parameter] {
        self.parameters
    }

    fn check(&self, parameters: &Map<String, Value>) -> Result<(), String> {
        // Whatever a name will stand for when the time comes.
        let any = |_: &str| Ok(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]);
        let texts = |name: &str| -> Vec<String> {
            let all = parameters.get(name).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if self.word == EC2.word {
            permissions(&texts("allow")).map_err(|failed| failed.what)?;
        } else {
            texts("allow").iter().try_for_each(|text| Allowed::read_to(text, &any).map(drop))?;
        }
        texts("allow_from").iter().try_for_each(|text| Allowed::read_from(text, &any).map(drop))?;
        for text in texts("probes") {
            text.parse::<SocketAddr>().map_err(|_| format!("{text:?} in `probes` is no ADDRESS:PORT"))?;
        }
        match parameters.get("settle_seconds").and_then(Value::as_u64) {
            Some(seconds) if seconds > MOST_SETTLE => {
                Err(format!("settle_seconds is 0 to {MOST_SETTLE}, not {seconds}"))
            }
            _ => Ok(()),
        }
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        if let Some(why) = protected(context.asset) {
            return Err(Failed::for_good(why));
        }
        let isolation = (self.of)(context)?;
        // The oldest: a later one may have been recorded when ours was applied already. But none from before it was taken back:
        // what others set since then is what is to be restored.
        let before = standing(context.intents).iter().find_map(|intent| intent.get("recorded"));
        let watched = Watched { isolation: &*isolation, is_taken_back: Cell::new(false) };
        let isolated = isolate(&watched, before, context.intend).map_err(|failed| {
            if !watched.is_taken_back.get() {
                return failed;
            }
            match (context.intend)(&taken_back()) {
                Ok(()) => failed,
                Err(error) => {
                    Failed { what: format!("{failed}; and that could not be kept: {error}"), ..failed }
                }
            }
        })?;
        crate::isolate::written(&isolated)
    }

    fn undo(&self, context: &Context<'_>, recorded: &Value) -> Result<Value, Failed> {
        let restored = take_back(&*(self.of)(context)?, recorded)?;
        let is_exact = restored.is_exact();
        let mut value = crate::isolate::written(&restored)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("is_exact".to_owned(), is_exact.into());
        }
        Ok(value)
    }
}

/// An isolation of which it is seen whether it was taken back.
struct Watched<'a> {
    isolation: &'a dyn Isolation,
    is_taken_back: Cell<bool>,
}

impl Isolation for Watched<'_> {
    fn subject(&self) -> String {
        self.isolation.subject()
    }

    fn record(&self) -> Result<Value, Failed> {
        self.isolation.record()
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        self.is_taken_back.set(false);
        self.isolation.apply(recorded)
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        self.isolation.verify(recorded)
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let restored = self.isolation.rollback(recorded)?;
        self.is_taken_back.set(true);
        Ok(restored)
    }

    fn lease_until(&self, recorded: &Value, until: Option<i64>) -> Result<bool, Failed> {
        self.isolation.lease_until(recorded, until)
    }
}

/// Why an asset is never isolated. The rules look at their `[protect]` before; this holds whatever they say.
fn protected(asset: &Asset) -> Option<String> {
    let value = asset.tags.get(TAG)?;
    let forbids = NEVER.iter().any(|never| value.eq_ignore_ascii_case(never));
    forbids.then(|| format!("{} is protected: the inventory says {TAG} = {value:?}", asset.id))
}

//! Steps that isolate: any [`Isolation`] as a step, with its state kept before it is touched.

use serde_json::Value;

use super::{Context, Failed, Parameter, Phase, Step, Takes};
use crate::alert::AssetKind;
use crate::edr::isolation;
use crate::inventory::Asset;
use crate::isolate::{
    Isolation, docker_networks, ec2_groups, host_nft, iam_key, iam_sessions, isolate, k8s_pod, take_back,
};

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

    fn phase(&self) -> Phase {
        self.phase
    }

    fn run(&self, context: &Context<'_>) -> Result<Value, Failed> {
        if let Some(why) = protected(context.asset) {
            return Err(Failed::for_good(why));
        }
        let isolation = (self.of)(context)?;
        // The oldest: a later one may have been recorded when ours was applied already.
        let before = context.intents.iter().find_map(|intent| intent.get("recorded"));
        let isolated = isolate(&*isolation, before, context.intend)?;
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

/// Why an asset is never isolated. The rules look at their `[protect]` before; this holds whatever they say.
fn protected(asset: &Asset) -> Option<String> {
    let value = asset.tags.get(TAG)?;
    let forbids = NEVER.iter().any(|never| value.eq_ignore_ascii_case(never));
    forbids.then(|| format!("{} is protected: the inventory says {TAG} = {value:?}", asset.id))
}

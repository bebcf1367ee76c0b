//! Steps that isolate: any [`Isolation`] as a step, with its state kept before it is touched.

use serde_json::Value;

use super::{Context, Failed, Step};
use crate::alert::AssetKind;
use crate::edr::isolation;
use crate::inventory::Asset;
use crate::isolate::{
    Isolation, docker_networks, ec2_groups, host_nft, iam_key, iam_sessions, isolate, take_back,
};

/// The tag of an asset that is never isolated by a rule, with any of [`NEVER`].
const TAG: &str = "isolate";

/// Values of [`TAG`] that forbid it.
const NEVER: &[&str] = &["never", "no", "false"];

/// This host.
pub(super) static HOST: IsolationStep = IsolationStep {
    word: "isolate.host",
    about: "Cuts this Linux host off by nftables, all but the addresses in `allow` and `allow_from`",
    takes: &[AssetKind::Host],
    of: host_nft::of,
};

/// An EC2 instance.
pub(super) static EC2: IsolationStep = IsolationStep {
    word: "isolate.ec2_sg",
    about: "Gives every interface of an EC2 instance a security group that lets out only what is in `allow`",
    takes: &[AssetKind::Ec2Instance],
    of: ec2_groups::of,
};

/// A container of Docker.
pub(super) static DOCKER: IsolationStep = IsolationStep {
    word: "isolate.docker",
    about: "Takes a container of Docker from all its networks, and freezes it if `pause` is true",
    takes: &[AssetKind::Container],
    of: docker_networks::of,
};

/// An access key.
pub(super) static IAM_KEY: IsolationStep = IsolationStep {
    word: "isolate.iam_key",
    about: "Makes an IAM access key inactive",
    takes: &[AssetKind::IamAccessKey],
    of: iam_key::of,
};

/// The sessions of a role.
pub(super) static IAM_SESSIONS: IsolationStep = IsolationStep {
    word: "isolate.iam_sessions",
    about: "Revokes every session of an IAM role that was issued before now",
    takes: &[AssetKind::IamRole],
    of: iam_sessions::of,
};

/// A host that CrowdStrike watches.
pub(super) static CROWDSTRIKE: IsolationStep = IsolationStep {
    word: "isolate.crowdstrike",
    about: "Has CrowdStrike Falcon contain a host's network",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
    of: isolation::of_crowdstrike,
};

/// A host that Defender watches.
pub(super) static DEFENDER: IsolationStep = IsolationStep {
    word: "isolate.defender",
    about: "Has Microsoft Defender for Endpoint isolate a host",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
    of: isolation::of_defender,
};

/// A host that SentinelOne watches.
pub(super) static SENTINELONE: IsolationStep = IsolationStep {
    word: "isolate.sentinelone",
    about: "Has SentinelOne disconnect a host from its network",
    takes: &[AssetKind::Host, AssetKind::Ec2Instance],
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
    /// The asset of this context, as something that can be isolated. Changes nothing, and is made for undoing too.
    pub of: fn(&Context<'_>) -> Result<Box<dyn Isolation>, Failed>,
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

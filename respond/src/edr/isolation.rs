//! A host, contained by its EDR: `isolate.crowdstrike`, `isolate.defender`, `isolate.sentinelone`.
//!
//! - Recorded: whether it is contained already, which then stays so when ours is taken back.
//! - Made: containment, asked for once and waited for.
//! - Verified: what the EDR says. Nothing is tried, since nothing of ours is on the host's network: it is not proof.
//! - Taken back: let back, if it was not contained before.
//! - A contained host still talks to its EDR, and to what the tenant's own containment policy excepts.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use custody::clock::SystemClock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Containment, EdrSettings, Patience, Product, device, tenant};
use crate::isolate::{Isolation, Restored, Verified, lease_end, read_back, written};
use crate::steps::{Context, Failed};

/// A host of one tenant.
#[derive(Debug)]
pub struct EdrHost {
    settings: EdrSettings,
    tenant: String,
    device: String,
    mark: String,
    lease: u64,
    time: Duration,
    pause: Duration,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    tenant: String,
    device: String,
    mark: String,
    was_contained: bool,
    until: String,
    warnings: Vec<String>,
}

/// Ends with the step's own time; nothing here lasts.
static NEVER: AtomicBool = AtomicBool::new(false);

impl EdrHost {
    /// A host by its product's own id. Containment is waited for so long, and looked for every so often.
    #[must_use]
    pub fn new(
        settings: &EdrSettings,
        tenant: &str,
        device: &str,
        mark: &str,
        lease: u64,
        (time, pause): (Duration, Duration),
    ) -> Self {
        Self {
            settings: settings.clone(),
            tenant: tenant.to_owned(),
            device: device.to_owned(),
            mark: mark.to_owned(),
            lease,
            time,
            pause,
        }
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&dyn Product, Patience<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let patience = Patience { until: Instant::now() + self.time, pause: self.pause, stop: &NEVER };
        act(&*self.settings.connect(patience)?, patience)
    }

    /// Makes it so, and waits until it is. Gives what was asked for, if anything was.
    fn make(&self, contained: bool) -> Result<Option<Value>, Failed> {
        let wanted = if contained { Containment::Contained } else { Containment::Normal };
        self.with(|product, patience| {
            let mut asked = None;
            loop {
                let now = product.containment(&self.device)?;
                if now == wanted {
                    return Ok(asked);
                }
                // Once; what is changing already, whoever asked for it, comes to its end first.
                if asked.is_none() && !matches!(now, Containment::Changing(_)) {
                    asked = Some(product.ask(&self.device, contained, &format!("Exhibit {}", self.mark))?);
                    continue;
                }
                patience.pause(&format!("{} is {}", self.subject(), now.told()))?;
            }
        })
    }
}

impl Isolation for EdrHost {
    fn subject(&self) -> String {
        format!("host {} of {} ({})", self.device, self.tenant, self.settings.word())
    }

    fn record(&self) -> Result<Value, Failed> {
        let before = self.with(|product, patience| {
            loop {
                match product.containment(&self.device)? {
                    Containment::Changing(word) => {
                        patience.pause(&format!("{} is {word}", self.subject()))?;
                    }
                    settled => return Ok(settled),
                }
            }
        })?;
        let was_contained = before == Containment::Contained;
        let mut warnings = Vec::new();
        if was_contained {
            warnings.push("it is contained already, and stays so when this is taken back".to_owned());
        }
        written(&Recorded {
            platform: self.settings.word().to_owned(),
            tenant: self.tenant.clone(),
            device: self.device.clone(),
            mark: self.mark.clone(),
            was_contained,
            until: lease_end(&SystemClock, self.lease),
            warnings,
        })
    }

    fn apply(&self, _recorded: &Value) -> Result<Value, Failed> {
        let asked = self.make(true)?;
        Ok(json!({"state": "contained", "asked": asked}))
    }

    fn verify(&self, _recorded: &Value) -> Result<Verified, Failed> {
        let now = self.with(|product, _| product.containment(&self.device))?;
        if now != Containment::Contained {
            return Err(Failed::for_now(format!("{} is {}", self.subject(), now.told())));
        }
        Ok(Verified {
            read_back: vec![format!("{} says that {} is contained", self.settings.word(), self.device)],
            not_tried: vec![
                "a connection from or to the host: nothing of ours stands in its network".to_owned(),
            ],
            ..Verified::default()
        })
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        if recorded.device != self.device || recorded.tenant != self.tenant {
            return Err(Failed::for_good("what was recorded is of another host"));
        }
        if recorded.was_contained {
            restored.notes.push("it was contained before, so it was not let back".to_owned());
            if self.with(|product, _| product.containment(&self.device))? != Containment::Contained {
                restored
                    .differences
                    .push(format!("{} is no longer contained: others let it back", self.device));
            }
            return Ok(restored);
        }
        if self.make(false)?.is_none() {
            restored.notes.push("others had let it back already".to_owned());
        }
        Ok(restored)
    }
}

/// The host of this context in a tenant of a product.
fn of(context: &Context<'_>, product: &str) -> Result<Box<dyn Isolation>, Failed> {
    let mark = crate::isolate::mark(context.job, context.id)?;
    let named = context.parameters.get("edr").and_then(Value::as_str);
    let (name, settings) = tenant(&context.settings.targets.edr, context.asset, named, Some(product))?;
    let device = device(settings, context.asset)?;
    let times = (Duration::from_secs(900), Duration::from_secs(10));
    Ok(Box::new(EdrHost::new(settings, name, device, &mark, context.lease, times)))
}

pub(crate) fn of_crowdstrike(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    of(context, "crowdstrike")
}

pub(crate) fn of_defender(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    of(context, "defender")
}

pub(crate) fn of_sentinelone(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    of(context, "sentinelone")
}

//! A host, contained by its EDR: `isolate.crowdstrike`, `isolate.defender`, `isolate.sentinelone`.
//!
//! - Recorded: whether it is contained already, which then stays so when ours is taken back.
//! - Made: containment, asked for once and waited for. A host that is away is contained when it is back: what the EDR accepted
//!   and not confirmed in time is left to it, and told, never taken back for that.
//! - Verified: what the EDR says. Nothing is tried, since nothing of ours is on the host's network: it is not proof.
//! - Taken back: let back, if it was not contained before. Asked for and looked at, not waited for, since other hosts wait too:
//!   until the EDR confirms it, it is not taken back yet, and looked at again.
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
pub struct EdrHost<'s> {
    settings: EdrSettings,
    tenant: String,
    device: String,
    mark: String,
    lease: u64,
    time: Duration,
    pause: Duration,
    stop: &'s AtomicBool,
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

/// What a containment came to that was to be made.
struct Made {
    /// What the EDR calls the request; nothing where none was needed.
    asked: Option<Value>,
    /// Whether the EDR says that it is done; else it accepted it.
    is_confirmed: bool,
}

impl<'s> EdrHost<'s> {
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
            stop: &NEVER,
        }
    }

    /// The same, that waits no longer once this is set.
    #[must_use]
    pub fn stopped_by(mut self, stop: &'s AtomicBool) -> Self {
        self.stop = stop;
        self
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&dyn Product, Patience<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let patience = Patience { until: Instant::now() + self.time, pause: self.pause, stop: self.stop };
        act(&*self.settings.connect(patience)?, patience)
    }

    /// Has it contained, and waits until it is, or until the time is over for one that is about to be.
    fn contain(&self) -> Result<Made, Failed> {
        self.with(|product, patience| {
            let mut asked = None;
            loop {
                let now = product.containment(&self.device)?;
                if now == Containment::Contained {
                    return Ok(Made { asked, is_confirmed: true });
                }
                // Once; what is changing already, whoever asked for it, comes to its end first.
                if asked.is_none() && !matches!(now, Containment::Changing(_)) {
                    asked = Some(product.ask(&self.device, true, &self.comment())?);
                    continue;
                }
                let given_up = asked.as_ref().map_or(Ok(None), |asked| product.given_up(asked))?;
                if let Some(why) = given_up {
                    return Err(Failed::for_now(format!("{} was not contained: {why}", self.subject())));
                }
                match patience.pause(&format!("{} is {}", self.subject(), now.told())) {
                    // Taking it back now would let the host back just when it comes back.
                    Err(_) if now.becomes(true) => return Ok(Made { asked, is_confirmed: false }),
                    waited => waited?,
                }
            }
        })
    }

    fn comment(&self) -> String {
        format!("Exhibit {}", self.mark)
    }

    /// Asks that it be let back, unless it is or is about to be; whether it is.
    fn let_back(&self) -> Result<bool, Failed> {
        self.with(|product, _| {
            let now = product.containment(&self.device)?;
            if now == Containment::Normal || now.becomes(false) {
                return Ok(now == Containment::Normal);
            }
            product.ask(&self.device, false, &self.comment()).map_err(|failed| match now {
                // Some products let nothing be changed that is changing.
                Containment::Changing(_) => Failed { may_help_again: true, ..failed },
                _ => failed,
            })?;
            Ok(product.containment(&self.device)? == Containment::Normal)
        })
    }
}

impl Isolation for EdrHost<'_> {
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
        let made = self.contain()?;
        let state = if made.is_confirmed { "contained" } else { "accepted, not confirmed yet" };
        Ok(json!({"state": state, "asked": made.asked}))
    }

    fn verify(&self, _recorded: &Value) -> Result<Verified, Failed> {
        let now = self.with(|product, _| product.containment(&self.device))?;
        let product = self.settings.word();
        let mut verified = Verified {
            not_tried: vec![
                "a connection from or to the host: nothing of ours stands in its network".to_owned(),
            ],
            ..Verified::default()
        };
        match now {
            Containment::Contained => {
                verified.read_back.push(format!("{product} says that {} is contained", self.device));
            }
            now if now.becomes(true) => verified.not_tried.push(format!(
                "{product} accepted the containment of {} and has not confirmed it yet ({}): a host that is away is contained when \
                 it is back",
                self.device,
                now.told()
            )),
            now => return Err(Failed::for_now(format!("{} is {}", self.subject(), now.told()))),
        }
        Ok(verified)
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
        if !self.let_back()? {
            return Err(Failed::for_now(format!(
                "{} accepted that {} be let back and has not confirmed it yet: a host that is away is let back when it is back",
                self.settings.word(),
                self.device
            )));
        }
        Ok(restored)
    }
}

/// The host of this context in a tenant of a product.
fn of<'c>(context: &'c Context<'_>, product: &str) -> Result<Box<dyn Isolation + 'c>, Failed> {
    let mark = crate::isolate::mark(context.job, context.id)?;
    let named = context.parameters.get("edr").and_then(Value::as_str);
    let (name, settings) = tenant(&context.settings.targets.edr, context.asset, named, Some(product))?;
    let device = device(settings, context.asset)?;
    let times = (Duration::from_secs(900), Duration::from_secs(10));
    let host = EdrHost::new(settings, name, device, &mark, context.lease, times);
    Ok(Box::new(host.stopped_by(context.stop)))
}

pub(crate) fn of_crowdstrike<'c>(context: &'c Context<'_>) -> Result<Box<dyn Isolation + 'c>, Failed> {
    of(context, "crowdstrike")
}

pub(crate) fn of_defender<'c>(context: &'c Context<'_>) -> Result<Box<dyn Isolation + 'c>, Failed> {
    of(context, "defender")
}

pub(crate) fn of_sentinelone<'c>(context: &'c Context<'_>) -> Result<Box<dyn Isolation + 'c>, Failed> {
    of(context, "sentinelone")
}

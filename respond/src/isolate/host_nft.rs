//! This Linux host, isolated by a table of nftables of our own.
//!
//! - Made: the table `inet exhibit_quarantine`, see [`super::nft_ruleset`]. No rule of anybody else is touched.
//! - Verified: a datagram to nobody is refused by this host's filter, and each allowed address that answered before still does.
//! - Taken back: that table alone, known by its mark; then the whole ruleset is compared with the recorded one.
//! - Not recorded: counters. A set that others fill by themselves shows as a difference.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use custody::clock::{Clock, SystemClock, parse_rfc3339, rfc3339};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::allowed::{Allowed, Way, resolve};
use super::command::{find, run};
use super::host_bypass;
use super::host_lease::{delete, stop_timers, tidy_later};
use super::host_probe::{NOBODY, Sent, connect, send_datagram};
use super::nft_listing::{Listing, Ours};
use super::nft_ruleset::{TABLE, rules_of, ruleset};
use super::{Isolation, Probe, Restored, Verified, lease_end, read_back, texts, written};
use crate::steps::{Context, Failed};

/// Allowed channels, at most.
const MOST_ALLOWED: usize = 64;

/// Addresses that are tried, at most.
const MOST_TRIED: usize = 16;

/// How long an allowed address may take to answer, and how often it is tried once isolated.
const ANSWER: Duration = Duration::from_secs(4);
const TRIES: u32 = 3;

/// What is wanted of the isolation of a host.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Where the host may still connect to, `ADDR[:PORT]`; without a port, anything with that address.
    pub allow: Vec<String>,
    /// Who may connect to which port of the host, `ADDR:PORT`.
    pub allow_from: Vec<String>,
    /// Further addresses that must not be reached afterwards, `ADDR:PORT`.
    pub probes: Vec<String>,
    /// Seconds after which it ends by itself; 0 for never.
    pub lease: u64,
}

/// This host.
pub struct HostNft<'a> {
    mark: String,
    wanted: Wanted,
    clock: &'a dyn Clock,
    program: Option<PathBuf>,
}

/// The isolation that this host is under now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Whose it is.
    pub mark: String,
    /// Seconds of its lease that are left; 0 once it is over and everything is let through, `None` for one without end.
    pub lease_left: Option<u64>,
}

/// The isolation that this host is under now, as the kernel says.
///
/// # Errors
///
/// [`Failed`] when nft cannot be asked.
pub fn now() -> Result<Option<Now>, Failed> {
    Ok(Ours::now()?.map(|ours| Now { mark: ours.mark, lease_left: ours.lease }))
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    host: String,
    boot: String,
    name_space: String,
    /// When it ends by itself; empty for never.
    until: String,
    allowed: Vec<Allowed>,
    /// Those that answered before.
    answered: Vec<SocketAddr>,
    /// What could be reached before and must not be.
    forbidden: Vec<SocketAddr>,
    warnings: Vec<String>,
    before: Listing,
}

impl<'a> HostNft<'a> {
    /// This host. `program` is `exhibit` itself, which takes the table away after the lease where there is no systemd.
    #[must_use]
    pub fn new(mark: &str, wanted: Wanted, clock: &'a dyn Clock, program: Option<PathBuf>) -> Self {
        Self { mark: mark.to_owned(), wanted, clock, program }
    }

    fn allowed(&self) -> Result<Vec<Allowed>, Failed> {
        let mut allowed = Vec::new();
        for text in &self.wanted.allow {
            allowed.extend(Allowed::read_to(text, &resolve).map_err(Failed::for_good)?);
        }
        for text in &self.wanted.allow_from {
            allowed.extend(Allowed::read_from(text, &resolve).map_err(Failed::for_good)?);
        }
        allowed.sort();
        allowed.dedup();
        if allowed.len() > MOST_ALLOWED {
            return Err(Failed::for_good(format!(
                "{} channels are allowed, more than {MOST_ALLOWED}",
                allowed.len()
            )));
        }
        Ok(allowed)
    }

    /// Seconds of lease that are left; `None` for a lease without end.
    fn left(&self, until: &str) -> Result<Option<u64>, Failed> {
        if until.is_empty() {
            return Ok(None);
        }
        let until = parse_rfc3339(until)
            .map_err(|error| Failed::for_good(format!("what was recorded cannot be read: {error}")))?;
        let left = until.saturating_sub(self.clock.now().wall_ns) / 1_000_000_000;
        Ok(Some(u64::try_from(left).unwrap_or(0)))
    }

    /// Loads the ruleset, and has it taken away when its lease is over.
    fn load(&self, recorded: &Recorded, until: &str) -> Result<Value, Failed> {
        let left = self.left(until)?;
        if left == Some(0) {
            return Err(Failed::for_good(format!("the lease of the isolation ended at {until}")));
        }
        let text = ruleset(&recorded.mark, &recorded.allowed, left);
        run("nft", &["-f", "-"], &text)?.output("loading the ruleset")?;
        let ours = Ours::now()?.filter(|ours| ours.mark == recorded.mark);
        let ours = ours.ok_or_else(|| Failed::for_now("our table is not there after it was loaded"))?;
        let tidied_by = match left {
            Some(seconds) => tidy_later(&recorded.mark, ours.handle, seconds, self.program.as_deref()),
            None => {
                stop_timers(&recorded.mark);
                String::new()
            }
        };
        Ok(json!({
            "table": format!("inet {TABLE}"), "ruleset": text, "sha256": custody::sha256(text.as_bytes()).to_string(),
            "until": until, "table_removed_by": tidied_by,
        }))
    }
}

impl Isolation for HostNft<'_> {
    fn subject(&self) -> String {
        "this host".to_owned()
    }

    fn record(&self) -> Result<Value, Failed> {
        if find("nft").is_none() {
            return Err(Failed::for_good("this host has no nft (Debian package nftables)"));
        }
        if let Some(other) = Ours::now()?.filter(|ours| ours.mark != self.mark && ours.lease != Some(0)) {
            return Err(Failed::for_good(format!("this host is isolated already, by {}", other.mark)));
        }
        let allowed = self.allowed()?;
        let mut warnings = Vec::new();
        if allowed.is_empty() {
            warnings.push("no channel is allowed: nothing can reach this host, nor leave it".to_owned());
        }
        warnings.extend(host_bypass::warnings());
        let to = allowed.iter().filter_map(|allowed| match allowed.way {
            Way::To(port) if allowed.net.prefix_len() == allowed.net.max_prefix_len() => {
                Some(SocketAddr::new(allowed.net.addr(), port))
            }
            _ => None,
        });
        let (mut answered, mut silent) = (Vec::new(), Vec::new());
        for address in to.take(MOST_TRIED) {
            match connect(address, ANSWER) {
                Ok(()) => answered.push(address),
                Err(_) => silent.push(address.to_string()),
            }
        }
        if !silent.is_empty() {
            warnings.push(format!("did not answer before the isolation either: {}", silent.join(", ")));
        }
        let mut forbidden = NOBODY.to_vec();
        for text in self.wanted.probes.iter().take(MOST_TRIED) {
            forbidden
                .push(text.parse().map_err(|_| Failed::for_good(format!("{text:?} is no ADDRESS:PORT")))?);
        }
        // What was held back before proves nothing afterwards, and what is allowed is not forbidden.
        forbidden.retain(|to| !allowed.iter().any(|allowed| allowed.net.contains(&to.ip())));
        forbidden.retain(|to| send_datagram(*to) == Sent::Left);
        let now = self.clock.now();
        written(&Recorded {
            platform: "linux nftables".to_owned(),
            mark: self.mark.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: now.boot.unwrap_or_default(),
            name_space: name_space(),
            until: lease_end(self.clock, self.wanted.lease),
            allowed,
            answered,
            forbidden,
            warnings,
            before: Listing::now()?,
        })
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        same_name_space(&recorded, self.clock)?;
        match Ours::now()? {
            Some(ours)
                if ours.mark == recorded.mark && ours.lease != Some(0) && is_whole(&recorded, &ours) =>
            {
                // Its lease may have been extended since: it is left as it is.
                Ok(json!({ "table": format!("inet {TABLE}"), "was_there": true }))
            }
            Some(ours) if ours.mark != recorded.mark && ours.lease != Some(0) => {
                Err(Failed::for_good(format!("this host is isolated already, by {}", ours.mark)))
            }
            _ => self.load(&recorded, &recorded.until),
        }
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let ours = Ours::now()?.filter(|ours| ours.mark == recorded.mark);
        let ours = ours.ok_or_else(|| Failed::for_now("our table is not there"))?;
        let mut verified = Verified::default();
        if !is_whole(&recorded, &ours) {
            return Err(Failed::for_now("our table is not as it was loaded: somebody changed it"));
        }
        for address in &recorded.answered {
            let mut seen = String::new();
            let got_through = (0..TRIES).any(|_| match connect(*address, ANSWER) {
                Ok(()) => true,
                Err(error) => {
                    seen = error;
                    false
                }
            });
            let seen = if got_through { "it answered".to_owned() } else { seen };
            verified.allowed.push(Probe { what: format!("TCP to {address}"), got_through, seen });
        }
        for to in &recorded.forbidden {
            let what = format!("a datagram to {to}");
            match send_datagram(*to) {
                Sent::Left => {
                    verified.forbidden.push(Probe { what, got_through: true, seen: "it left".to_owned() });
                }
                Sent::HeldBack => verified.forbidden.push(Probe {
                    what,
                    got_through: false,
                    seen: "this host's filter refused it".to_owned(),
                }),
                Sent::NotTried(why) => verified.not_tried.push(format!("{what}: {why}")),
            }
        }
        for (family, is_four) in [("IPv4", true), ("IPv6", false)] {
            if !recorded.forbidden.iter().any(|to| to.is_ipv4() == is_four) {
                verified
                    .not_tried
                    .push(format!("{family}: nothing could be sent before the isolation either"));
            }
        }
        for allowed in recorded.allowed.iter().filter(|allowed| !matches!(allowed.way, Way::To(_))) {
            verified.not_tried.push(format!("{allowed}: only the other side can try it"));
        }
        Ok(verified)
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        same_name_space(&recorded, self.clock)?;
        let mut restored = Restored::default();
        let is_new_boot = self.clock.now().boot.is_some_and(|boot| boot != recorded.boot);
        match Ours::now()? {
            Some(ours) if ours.mark == recorded.mark => {
                if !is_whole(&recorded, &ours) {
                    restored
                        .notes
                        .push("our table had been changed by others before it was removed".to_owned());
                }
                stop_timers(&recorded.mark);
                delete(ours.handle)?;
            }
            Some(other) => {
                restored.notes.push(format!("the isolation {} is another one, and was left", other.mark));
            }
            None if is_new_boot => {
                restored
                    .notes
                    .push("the host was started anew since, and our table was gone with it".to_owned());
            }
            None => restored.notes.push("our table was not there".to_owned()),
        }
        restored.differences = recorded.before.differences(&Listing::now()?);
        Ok(restored)
    }

    fn lease_until(&self, recorded: &Value, until: Option<i64>) -> Result<bool, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        same_name_space(&recorded, self.clock)?;
        let ours = Ours::now()?.filter(|ours| ours.mark == recorded.mark && ours.lease != Some(0));
        if ours.is_none() {
            return Err(Failed::for_good(format!("{} isolates this host no more", recorded.mark)));
        }
        self.load(&recorded, &until.map(rfc3339).unwrap_or_default())?;
        Ok(true)
    }
}

/// Whether our table has the chains and as many rules as it was loaded with.
fn is_whole(recorded: &Recorded, ours: &Ours) -> bool {
    rules_of(&ruleset(&recorded.mark, &recorded.allowed, ours.lease)) == ours.rules
}

/// The network that this thread sees.
fn name_space() -> String {
    let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    link.to_string_lossy().into_owned()
}

/// Since a start of the host its numbers mean nothing.
fn same_name_space(recorded: &Recorded, clock: &dyn Clock) -> Result<(), Failed> {
    let boot = clock.now().boot.unwrap_or_default();
    if boot == recorded.boot && recorded.name_space != name_space() {
        return Err(Failed::for_good("it was isolated in another network name space than this one"));
    }
    let here = rustix::system::uname();
    let here = here.nodename().to_string_lossy();
    if boot != recorded.boot && here != recorded.host {
        return Err(Failed::for_good(format!(
            "it was the host {:?} that was isolated, and this is {here:?}",
            recorded.host
        )));
    }
    Ok(())
}

/// The host of this context, if it is this one.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    // An asset without a target is somewhere, but not known to be here.
    if context.asset.target != "local" {
        return Err(Failed::for_good(format!(
            "{} is reached through {:?}: only this host can be isolated by nftables",
            context.asset.id, context.asset.target
        )));
    }
    let wanted = Wanted {
        allow: texts(context, "allow")?,
        allow_from: texts(context, "allow_from")?,
        probes: texts(context, "probes")?,
        lease: context.lease,
    };
    let mark = super::mark(context.job, context.id)?;
    Ok(Box::new(HostNft::new(&mark, wanted, &SystemClock, Some(context.program.clone()))))
}

//! A container of Docker, taken from its networks, and frozen where that is wanted.
//!
//! - Made: the container is disconnected from each network that it is in; with `pause`, frozen before that.
//! - Verified: Docker says so, and the kernel: the container's network name space has no interface left but loopback.
//! - Taken back: each network with the addresses and aliases recorded, then the container goes on. A network without a range of
//!   addresses of the user's own gives the next free one, which is told where it is another. A container that ended meanwhile
//!   is put into its networks for its next start, which is told too.
//! - Refused: a container in the network of the host or of another container, which has none of its own.
//! - Reference: Docker Engine API, v1.41 and later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use acquire::triage::unix_http::{AnswerLimits, Ask, request};
use custody::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Isolation, Probe, Restored, Verified, lease_end, read_back, written};
use crate::steps::{Context, Failed};

/// Where Docker listens unless told otherwise.
pub const SOCKET: &str = "/run/docker.sock";

const LIMITS: AnswerLimits = AnswerLimits { time: Duration::from_secs(60), body: 8 << 20 };

/// Networks that a container may be in, at most.
const MOST_NETWORKS: usize = 100;

/// One container.
pub struct DockerNetworks<'a> {
    socket: PathBuf,
    mark: String,
    container: String,
    pause: bool,
    lease: u64,
    clock: &'a dyn Clock,
}

/// What stands in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recorded {
    platform: String,
    mark: String,
    container: String,
    name: String,
    pauses: bool,
    was_paused: bool,
    networks: BTreeMap<String, Network>,
    until: String,
    warnings: Vec<String>,
}

/// What a container has in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Network {
    id: String,
    ipv4: String,
    ipv6: String,
    aliases: BTreeSet<String>,
    links: BTreeSet<String>,
    options: BTreeMap<String, String>,
}

/// What Docker says of a container.
struct Container {
    id: String,
    name: String,
    is_running: bool,
    is_paused: bool,
    pid: u64,
    mode: String,
    networks: BTreeMap<String, Network>,
    /// Networks that it will be in once it runs again.
    waiting: BTreeSet<String>,
    warnings: Vec<String>,
}

impl<'a> DockerNetworks<'a> {
    /// A container of the daemon at this socket, by its id.
    ///
    /// # Errors
    ///
    /// [`Failed`] for what is no id: a name could be another container's tomorrow.
    pub fn new(
        socket: &Path,
        mark: &str,
        container: &str,
        pause: bool,
        lease: u64,
        clock: &'a dyn Clock,
    ) -> Result<Self, Failed> {
        let is_id = (12..=64).contains(&container.len())
            && container.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            return Err(Failed::for_good(format!("{container:?} is no id of a container")));
        }
        let (socket, mark, container) = (socket.to_owned(), mark.to_owned(), container.to_owned());
        Ok(Self { socket, mark, container, pause, lease, clock })
    }

    fn ask(&self, ask: Ask<'_>, target: &str) -> Result<(u16, Value), Failed> {
        let answer = request(&self.socket, ask, target, LIMITS)
            .map_err(|error| Failed::for_now(format!("docker at {:?}: {error}", self.socket)))?;
        if let Some(cut) = answer.cut {
            return Err(Failed::for_now(format!("docker at {:?}: {cut}", self.socket)));
        }
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
    }

    /// Has something done. That it was done already (304) is as good.
    fn order(&self, target: &str, body: &Value) -> Result<(), Failed> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        match self.ask(Ask::Post(&body), target)? {
            (200..=299 | 304, _) => Ok(()),
            (status, answer) => Err(said(target, status, &answer)),
        }
    }

    /// What is there; `None` if the container is gone.
    fn inspect(&self, id: &str) -> Result<Option<Container>, Failed> {
        let target = format!("/containers/{id}/json");
        match self.ask(Ask::Get, &target)? {
            (200, answer) => container(&answer).map(Some),
            (404, _) => Ok(None),
            (status, answer) => Err(said(&target, status, &answer)),
        }
    }

    fn there(&self, recorded: &Recorded) -> Result<Container, Failed> {
        let found = self.inspect(&recorded.container)?;
        found.ok_or_else(|| Failed::for_good(format!("container {} is gone", recorded.container)))
    }

    fn reconnect(
        &self,
        recorded: &Recorded,
        name: &str,
        network: &Network,
        restored: &mut Restored,
    ) -> Result<(), Failed> {
        let target = format!("/networks/{}/connect", network.id);
        let endpoint = |with_address: bool| {
            let addresses = if with_address {
                json!({ "IPv4Address": network.ipv4, "IPv6Address": network.ipv6 })
            } else {
                json!({})
            };
            json!({
                "Container": recorded.container,
                "EndpointConfig": {
                    "IPAMConfig": addresses, "Aliases": network.aliases, "Links": network.links, "DriverOpts": network.options,
                },
            })
        };
        let mut answer = self.ask(Ask::Post(&endpoint(true).to_string()), &target)?;
        // Only networks with a range of the user's own take an address that is asked for, and one may be taken by now.
        if matches!(answer.0, 400 | 403 | 409 | 500) {
            answer = self.ask(Ask::Post(&endpoint(false).to_string()), &target)?;
        }
        match answer {
            (200..=299, _) => Ok(()),
            (404, _) => {
                restored.differences.push(format!("network {name:?} is there no more"));
                Ok(())
            }
            (status, answer) => Err(said(&target, status, &answer)),
        }
    }
}

impl Isolation for DockerNetworks<'_> {
    fn subject(&self) -> String {
        format!("container {}", self.container.get(..12).unwrap_or(&self.container))
    }

    fn record(&self) -> Result<Value, Failed> {
        let found = self.inspect(&self.container)?;
        let found =
            found.ok_or_else(|| Failed::for_good(format!("there is no container {}", self.container)))?;
        if found.mode == "host" || found.mode.starts_with("container:") {
            return Err(Failed::for_good(format!(
                "{} is in the network {:?}, which is not its own and cannot be taken from it: isolate the host, or what shares it",
                found.name, found.mode
            )));
        }
        if !found.is_running {
            return Err(Failed::for_good(format!("{} is not running", found.name)));
        }
        if found.networks.len() > MOST_NETWORKS {
            return Err(Failed::for_good(format!("{} is in more than {MOST_NETWORKS} networks", found.name)));
        }
        let mut warnings = found.warnings;
        if found.networks.is_empty() {
            // Docker keeps no word on a running container that would say whose doing it is.
            warnings.push(
                "it is in no network already: if another isolation took it from them, it is back in them when that one ends"
                    .to_owned(),
            );
        }
        written(&Recorded {
            platform: "docker".to_owned(),
            mark: self.mark.clone(),
            container: found.id,
            name: found.name,
            pauses: self.pause,
            was_paused: found.is_paused,
            networks: found.networks,
            until: lease_end(self.clock, self.lease),
            warnings,
        })
    }

    fn apply(&self, recorded: &Value) -> Result<Value, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let found = self.there(&recorded)?;
        // Frozen first, so that nothing in it sees the network go.
        if recorded.pauses && !found.is_paused {
            self.order(&format!("/containers/{}/pause", recorded.container), &Value::Null)?;
        }
        let mut left = Vec::new();
        // One that others put it into since is theirs, and is told by the verification.
        let is_recorded = |(name, network): &(String, Network)| {
            recorded.networks.get(name).is_some_and(|was| was.id == network.id)
        };
        for (name, network) in found.networks.into_iter().filter(is_recorded) {
            let body = json!({ "Container": recorded.container, "Force": false });
            self.order(&format!("/networks/{}/disconnect", network.id), &body)?;
            left.push(name);
        }
        Ok(json!({ "networks_left": left, "paused": recorded.pauses }))
    }

    fn verify(&self, recorded: &Value) -> Result<Verified, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let found = self.there(&recorded)?;
        if recorded.pauses && !found.is_paused {
            return Err(Failed::for_now(format!("docker does not say that {} is paused", recorded.name)));
        }
        let mut verified = Verified::default();
        if found.networks.is_empty() {
            verified.read_back.push(format!("docker says that {} is in no network", recorded.name));
        }
        let what = format!("the interfaces of process {}", found.pid);
        match interfaces(found.pid) {
            Ok(names) => verified.forbidden.push(Probe {
                what,
                got_through: !names.is_empty(),
                seen: if names.is_empty() { "loopback alone".to_owned() } else { names.join(" ") },
            }),
            Err(error) => verified.not_tried.push(format!("{what}: {error}")),
        }
        for name in found.networks.keys() {
            verified.forbidden.push(Probe {
                what: format!("network {name:?}"),
                got_through: true,
                seen: "docker says that it is in it".to_owned(),
            });
        }
        Ok(verified)
    }

    fn rollback(&self, recorded: &Value) -> Result<Restored, Failed> {
        let recorded: Recorded = read_back(recorded)?;
        let mut restored = Restored::default();
        let Some(found) = self.inspect(&recorded.container)? else {
            restored.differences.push(format!("container {} is gone", recorded.name));
            return Ok(restored);
        };
        for (name, network) in recorded
            .networks
            .iter()
            .filter(|(name, _)| !found.networks.contains_key(*name) && !found.waiting.contains(*name))
        {
            self.reconnect(&recorded, name, network, &mut restored)?;
        }
        if recorded.pauses && !recorded.was_paused && found.is_paused {
            self.order(&format!("/containers/{}/unpause", recorded.container), &Value::Null)?;
        }
        let now = self.there(&recorded)?;
        if !now.is_running {
            restored.differences.push(format!("{} does not run any more: others ended it", recorded.name));
        }
        for (name, was) in &recorded.networks {
            if !now.is_running && (now.waiting.contains(name) || now.networks.contains_key(name)) {
                restored.notes.push(format!("it is in network {name:?} from its next start on"));
                continue;
            }
            let Some(is) = now.networks.get(name) else {
                if !restored.differences.iter().any(|difference| difference.contains(&format!("{name:?}"))) {
                    return Err(Failed::for_now(format!(
                        "{} is not in network {name:?} again",
                        recorded.name
                    )));
                }
                continue;
            };
            if is != was {
                let (was, is) = (was.words(), is.words());
                restored.differences.push(format!("in network {name:?} it has {is}; before it had {was}"));
            }
        }
        for name in now.networks.keys().filter(|name| !recorded.networks.contains_key(*name)) {
            restored.differences.push(format!("it was put into network {name:?} by others"));
        }
        if now.is_paused != recorded.was_paused {
            let words = if now.is_paused { "paused" } else { "no longer paused" };
            restored.differences.push(format!("it is {words}, by others"));
        }
        Ok(restored)
    }
}

impl Network {
    fn words(&self) -> String {
        let list = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>().join(",");
        format!(
            "address {:?} {:?}, aliases {:?}, links {:?}",
            self.ipv4,
            self.ipv6,
            list(&self.aliases),
            list(&self.links)
        )
    }
}

fn said(target: &str, status: u16, answer: &Value) -> Failed {
    let words = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    let words: String = words.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let what = format!("docker answered {status} to {target}: {words}");
    if status >= 500 { Failed::for_now(what) } else { Failed::for_good(what) }
}

fn container(answer: &Value) -> Result<Container, Failed> {
    let at = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is = |pointer: &str| answer.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
    let id = at("/Id");
    if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failed::for_now("docker's answer names no container"));
    }
    let short: String = id.chars().take(12).collect();
    let (mut networks, mut waiting) = (BTreeMap::new(), BTreeSet::new());
    let all = answer.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    for (name, found) in all.into_iter().flatten() {
        let text = |field: &str| found.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let texts = |field: &str| -> BTreeSet<String> {
            let all = found.get(field).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let network_id = text("NetworkID");
        if !network_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Failed::for_now("docker's answer names a network that is none"));
        }
        // A container that is not running has them without being in them.
        if network_id.is_empty() {
            waiting.insert(name.clone());
            continue;
        }
        let mut aliases = texts("Aliases");
        // Docker adds this one by itself.
        aliases.remove(&short);
        let options = found.get("DriverOpts").and_then(Value::as_object).into_iter().flatten();
        let options = options.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let (ipv4, ipv6, options) = (text("IPAddress"), text("GlobalIPv6Address"), options.collect());
        let network = Network { id: network_id, ipv4, ipv6, aliases, links: texts("Links"), options };
        networks.insert(name.clone(), network);
    }
    let mut warnings = Vec::new();
    if is("/HostConfig/AutoRemove") {
        warnings.push("it was started with --rm: when it ends, its layer is deleted".to_owned());
    }
    let restart = at("/HostConfig/RestartPolicy/Name");
    if !matches!(restart.as_str(), "" | "no") {
        warnings.push(format!(
            "its restart policy is {restart:?}: a restart keeps it disconnected, but not its memory"
        ));
    }
    let labels = answer.pointer("/Config/Labels").and_then(Value::as_object);
    for label in labels.into_iter().flatten().map(|(label, _)| label) {
        if label.starts_with("com.docker.swarm.") || label.starts_with("io.kubernetes.") {
            warnings.push("an orchestrator manages it, and may replace it".to_owned());
            break;
        }
    }
    Ok(Container {
        name: at("/Name").trim_start_matches('/').to_owned(),
        is_running: is("/State/Running"),
        is_paused: is("/State/Paused"),
        pid: answer.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or(0),
        mode: at("/HostConfig/NetworkMode"),
        id,
        networks,
        waiting,
        warnings,
    })
}

/// The interfaces that a process sees, but loopback.
fn interfaces(pid: u64) -> Result<Vec<String>, String> {
    if pid == 0 {
        return Err("it has no process".to_owned());
    }
    let path = format!("/proc/{pid}/net/dev");
    let table = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let names = table.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    // The kernel's own tunnels are in every name space, and down.
    let own =
        ["lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0"];
    Ok(names.filter(|name| !own.contains(name)).map(str::to_owned).collect())
}

/// The container of this context.
pub(crate) fn of(context: &Context<'_>) -> Result<Box<dyn Isolation>, Failed> {
    let pause = match context.parameters.get("pause") {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| Failed::for_good("pause must be true or false"))?,
    };
    let target = context.asset.target.as_str();
    let settings = context.settings.targets.containers.get(target);
    let on = settings.map_or(target, |settings| settings.on.as_deref().unwrap_or("local"));
    let runtime = settings.and_then(|settings| settings.runtime.as_deref()).unwrap_or("auto");
    if on != "local" || !matches!(runtime, "auto" | "docker") {
        return Err(Failed::for_good(format!(
            "{} is reached through {target:?}: only Docker on this host can be told to take it from its networks",
            context.asset.id
        )));
    }
    let socket =
        settings.and_then(|settings| settings.sockets.first()).map_or(Path::new(SOCKET), PathBuf::as_path);
    let mark = super::mark(context.job, context.id)?;
    let docker = DockerNetworks::new(socket, &mark, &context.asset.id, pause, context.lease, &SystemClock)?;
    Ok(Box::new(docker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_reaches_the_daemon() {
        let docker = |id: &str| DockerNetworks::new(Path::new(SOCKET), "j1", id, false, 0, &SystemClock);
        assert!(docker("0123456789ab").is_ok() && docker(&"a".repeat(64)).is_ok());
        for bad in ["web", "0123456789AB", "../networks/x", "0123456789ab/kill", &"a".repeat(65)] {
            assert!(docker(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_of_a_container_that_ended_is_known_by_its_name_alone() {
        let ended = container(&json!({
            "Id": "a".repeat(64), "Name": "/web", "State": { "Running": false, "Pid": 0 },
            "NetworkSettings": { "Networks": {
                "back": { "NetworkID": "", "IPAddress": "" }, "front": { "NetworkID": "b1", "IPAddress": "" },
            } },
        }))
        .unwrap();
        assert!(!ended.is_running && ended.waiting.contains("back") && ended.networks.len() == 1);
        assert_eq!(ended.networks["front"].id, "b1");
    }

    #[test]
    fn the_interfaces_of_a_process_are_told_without_loopback() {
        assert!(!interfaces(u64::from(std::process::id())).unwrap().contains(&"lo".to_owned()));
        assert!(interfaces(0).is_err());
    }
}

//! RD40: one of two joined network name spaces is isolated as a host would be, tried from both sides, and put back.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::super::check::{Finding, Unable, chain};
use super::super::probe::{Probe, child};
use crate::isolate::host_nft::{HostNft, Wanted};
use crate::isolate::{isolate, mark, take_back};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection that is held back is waited for.
const SILENCE: Duration = Duration::from_secs(2);

/// Addresses of the two sides, both families (RFC 5737 and RFC 4193), and the two ports of the second side.
const HERE: [&str; 2] = ["198.51.100.1", "fd00:eb::1"];
const THERE: [&str; 2] = ["198.51.100.2", "fd00:eb::2"];
const CHANNEL: u16 = 8443;
const ATTACKER: u16 = 4444;

/// Two name spaces that go with the drill.
struct Pair {
    here: String,
    there: String,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), Unable> {
    let mut command = Command::new("ip");
    command.args(arguments);
    let ran = child(command, PATIENCE)?;
    if ran.code == Some(0) {
        return Ok(());
    }
    Err(Unable::untested(format!("`ip {}`: {}", arguments.join(" "), ran.last_words())))
}

impl Pair {
    fn new() -> Result<Self, Unable> {
        let number = std::process::id();
        let pair = Self { here: format!("exhibit-a{number}"), there: format!("exhibit-b{number}") };
        ip(&["netns", "add", &pair.here])?;
        ip(&["netns", "add", &pair.there])?;
        ip(&[
            "-n",
            &pair.here,
            "link",
            "add",
            "drill0",
            "type",
            "veth",
            "peer",
            "name",
            "drill0",
            "netns",
            &pair.there,
        ])?;
        for (name, [v4, v6], [via4, via6]) in [(&pair.here, HERE, THERE), (&pair.there, THERE, HERE)] {
            ip(&["-n", name, "addr", "add", &format!("{v4}/24"), "dev", "drill0"])?;
            ip(&["-n", name, "addr", "add", &format!("{v6}/64"), "dev", "drill0", "nodad"])?;
            ip(&["-n", name, "link", "set", "drill0", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "route", "add", "default", "via", via4])?;
            ip(&["-n", name, "-6", "route", "add", "default", "via", via6])?;
        }
        Ok(pair)
    }
}

/// Runs something in a thread of its own within a name space.
fn inside<T: Send + 'static>(
    name: &str,
    what: impl FnOnce() -> Result<T, Unable> + Send + 'static,
) -> Result<JoinHandle<Result<T, Unable>>, Unable> {
    let path = PathBuf::from("/run/netns").join(name);
    let spawned = std::thread::Builder::new().name("drill".to_owned()).spawn(move || {
        let file =
            File::open(&path).map_err(|error| Unable::untested(format!("{}: {error}", path.display())))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Unable::untested(format!("{}: {error}", path.display())))?;
        what()
    });
    spawned.map_err(|error| Unable::untested(format!("no thread could be had: {error}")))
}

fn joined<T>(thread: JoinHandle<Result<T, Unable>>) -> Result<T, Unable> {
    thread.join().unwrap_or_else(|_| Err(Unable::untested("the drill ended in an error of the program")))
}

/// Listens at both ports and both families, and gives back whatever comes.
fn echo() -> Result<(), Unable> {
    for address in THERE {
        for port in [CHANNEL, ATTACKER] {
            let listener = TcpListener::bind((address, port))?;
            // It ends with the process; its name space is gone before.
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    std::thread::spawn(move || {
                        let mut stream = stream;
                        let mut piece = [0; 64];
                        while let Ok(read) = stream.read(&mut piece) {
                            let said = piece.get(..read).unwrap_or_default();
                            if said.is_empty() || stream.write_all(said).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        }
    }
    Ok(())
}

/// Opens a connection, and says something that must come back.
fn talk(address: &str, port: u16) -> Result<TcpStream, String> {
    let to: SocketAddr =
        format!("{}:{port}", if address.contains(':') { format!("[{address}]") } else { address.to_owned() })
            .parse()
            .map_err(|_| "no address".to_owned())?;
    let stream = TcpStream::connect_timeout(&to, SILENCE).map_err(|error| error.to_string())?;
    say(&stream)?;
    Ok(stream)
}

fn say(mut stream: &TcpStream) -> Result<(), String> {
    let words = |error: std::io::Error| error.to_string();
    stream.set_read_timeout(Some(SILENCE)).map_err(words)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(words)?;
    stream.write_all(b"drill").map_err(words)?;
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).map_err(words)?;
    if &heard == b"drill" { Ok(()) } else { Err("something else came back".to_owned()) }
}

/// The whole ruleset of the name space that this thread is in.
fn listed() -> Result<Vec<u8>, Unable> {
    let mut command = Command::new("nft");
    command.args(["-a", "list", "ruleset"]);
    let ran = child(command, PATIENCE)?;
    if ran.code == Some(0) {
        Ok(ran.stdout)
    } else {
        Err(Unable::untested(format!("nft: {}", ran.last_words())))
    }
}

/// A ruleset that somebody else has, so that putting back is more than removing all.
fn somebody_elses_rules() -> Result<(), Unable> {
    for arguments in [
        &["add", "table", "inet", "somebody"][..],
        &[
            "add",
            "chain",
            "inet",
            "somebody",
            "input",
            "{ type filter hook input priority 0 ; policy accept ; }",
        ],
        &["add", "rule", "inet", "somebody", "input", "tcp", "dport", "23", "drop"],
    ] {
        let mut command = Command::new("nft");
        command.args(arguments);
        let ran = child(command, PATIENCE)?;
        if ran.code != Some(0) {
            return Err(Unable::untested(format!("nft: {}", ran.last_words())));
        }
    }
    Ok(())
}

pub(super) fn drill(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    let pair = Pair::new()?;
    joined(inside(&pair.there, echo)?)?;
    let clock = std::sync::Arc::clone(&probe.clock);
    let (wrong, told) = joined(inside(&pair.here, move || tried(&*clock))?)?;
    let expected =
        "the channel answers, the attacker's connections are cut, the ruleset is put back as it was";
    let seen = if wrong.is_empty() { told } else { wrong.join("; ") };
    Ok(vec![Finding::of("linux-nftables", wrong.is_empty(), &seen, expected).with_evidence(seen)])
}

/// What went wrong, and what went well.
fn tried(clock: &dyn custody::Clock) -> Result<(Vec<String>, String), Unable> {
    let mut wrong = Vec::new();
    somebody_elses_rules()?;
    let before = listed()?;
    let mut attackers = Vec::new();
    for address in THERE {
        for port in [CHANNEL, ATTACKER] {
            // What does not work before proves nothing afterwards.
            let stream = talk(address, port)
                .map_err(|why| Unable::untested(format!("{address} port {port} before: {why}")))?;
            if port == ATTACKER {
                attackers.push((address, stream));
            }
        }
    }
    let failed = |failed: crate::steps::Failed| Unable::untested(chain(&failed));
    let wanted = Wanted {
        allow: vec![format!("{}:{CHANNEL}", THERE[0]), format!("[{}]:{CHANNEL}", THERE[1])],
        probes: vec![format!("{}:{ATTACKER}", THERE[0])],
        ..Wanted::default()
    };
    let isolation = HostNft::new(&mark("ready", "drill").map_err(failed)?, wanted, clock, None);
    let begun = Instant::now();
    let done = isolate(&isolation, None, &|_| Ok(())).map_err(failed)?;
    let took = begun.elapsed();
    if !done.is_proved {
        wrong.push(format!("the isolation's own probe proves nothing: {:?}", done.verified));
    }
    for address in THERE {
        if let Err(why) = talk(address, CHANNEL) {
            wrong.push(format!("the channel to {address} was lost: {why}"));
        }
        if talk(address, ATTACKER).is_ok() {
            wrong.push(format!("{address} could still be connected to"));
        }
    }
    for (address, stream) in &attackers {
        if say(stream).is_ok() {
            wrong.push(format!("the established connection to {address} still lives"));
        }
    }
    let given = serde_json::to_value(&done)?;
    let restored = take_back(&isolation, &given).map_err(failed)?;
    if !restored.is_exact() {
        wrong.push(format!("taken back with differences: {}", restored.differences.join("; ")));
    }
    if listed()? != before {
        wrong.push("the ruleset afterwards is not that of before".to_owned());
    }
    for address in THERE {
        if let Err(why) = talk(address, ATTACKER) {
            wrong.push(format!("{address} cannot be reached afterwards: {why}"));
        }
    }
    let told = format!(
        "isolated and proved in {} ms; channel kept, new and established connections cut over IPv4 and IPv6; the ruleset was put \
         back as it was",
        took.as_millis()
    );
    Ok((wrong, told))
}

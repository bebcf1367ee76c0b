//! The sockets of every network namespace of the live system.
//!
//! - Namespaces: those of all processes and threads, those that a descriptor or a mount (`/run/netns`) holds.
//! - Source: a thread of ours enters each and reads its own `net/`, which needs `CAP_SYS_ADMIN`; without that right, the
//!   tables of `/proc/PID/net` of one process of each. A namespace that is seen in neither way is listed.
//! - Cross view: the kernel's socket monitor (see [`super::sock_diag`]). What it alone tells is named.
//! - `/V3/sockets.jsonl` is the table, with the processes that hold each socket; `/V3/netns-INODE/` the raw texts, all of
//!   `net/` but `rpc`, whose channels wait for a reader.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use custody::clock::Clock;
use rustix::fs::FileType;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::bounded_reads::{Patience, link_below, names_below, open_folder, read_below, target_below};
use super::live_table::{LiveTable, Row};
use super::processes::namespace_inode;
use super::sock_diag::{self, Told};
use super::socket_tables::{Socket, TABLES, sockets as decode};
use crate::error::Result;
use crate::tar_packer::TarPacker;

/// The format of the table.
pub(crate) const FORMAT: &str = "exhibit-live-sockets/1";

/// One table; a long one of a busy host takes a second.
const LIMIT: Duration = Duration::from_secs(20);
/// Bytes of one table.
const TABLE: usize = 64 << 20;
const MOST_NAMES: usize = 1 << 20;
/// Files below `net/` that are kept.
const MOST_FILES: usize = 2000;
/// Processes named beside one socket.
const MOST_HOLDERS: usize = 64;
/// Folders of `net/` that are entered.
const FOLDERS: [&str; 5] = ["stat", "dev_snmp6", "netfilter", "bonding", "vlan"];

/// Takes the sockets of the running system.
///
/// # Errors
///
/// Those of [`TarPacker::made`]. What cannot be read is an issue.
pub(crate) fn sockets(out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    sockets_at(Path::new("/"), out, clock)
}

/// Takes the sockets of the system whose `/proc` lies below `root`.
pub(crate) fn sockets_at(root: &Path, out: &mut TarPacker<'_>, clock: &dyn Clock) -> Result<()> {
    sockets_in(root, None, out, clock)
}

/// Takes the sockets of some network namespaces, named by their inodes; `None` for all of them.
pub(crate) fn sockets_in(
    root: &Path,
    wanted: Option<&BTreeSet<String>>,
    out: &mut TarPacker<'_>,
    clock: &dyn Clock,
) -> Result<()> {
    let proc = root.join("proc");
    let mut patience = Patience::of(LIMIT);
    let mut survey = {
        let (to_read, is_live) = (proc.clone(), root == Path::new("/"));
        match patience.wait(move || Survey::of(&to_read, is_live)) {
            Ok(survey) => survey,
            Err(error) => {
                out.note(&proc, &format!("sockets cannot be traced to processes: {error}"));
                return Ok(());
            }
        }
    };
    if let Some(wanted) = wanted {
        survey.namespaces.retain(|inode, _| wanted.contains(inode));
    }
    if survey.refused > 0 {
        let what = format!(
            "descriptors of {} processes could not be read, so their sockets stand alone",
            survey.refused
        );
        out.note(&proc, &what);
    }
    let mut about = serde_json::Map::new();
    about.insert("observed".to_owned(), clock.now().rfc3339().into());
    about.insert("namespaces".to_owned(), survey.namespaces.len().into());
    let mut table = LiveTable::new("V3/sockets", FORMAT, about);
    let kinds = if root == Path::new("/") { sock_diag::kinds_there(root) } else { Vec::new() };
    if kinds.len() < 6 && root == Path::new("/") {
        let what = "socket monitor not asked for all kinds of sockets: the kernel would load a module for it";
        out.note(&proc.join("net"), what);
    }
    for (inode, ways) in &survey.namespaces {
        let observed = clock.now().rfc3339();
        let place = format!("V3/netns-{inode}");
        let view = look(&proc, ways, &kinds, &place, out)?;
        for issue in &view.issues {
            out.note(Path::new(&place), issue);
        }
        let sockets = view.sockets();
        let listening = listening(&sockets);
        for (socket, told, only_told) in sockets {
            let mut row = socket_row(&socket, inode, &survey);
            if let (Some((_, port)), Some("ESTABLISHED")) = (socket.local, socket.state) {
                // A guess: whoever listens at this port took the connection.
                row.flag("inbound", listening.contains(&(stem(socket.protocol), port)));
            }
            row.put("observed", observed.clone());
            if let Some(told) = told {
                row.put("cookie", told.cookie.to_string());
                if let Some(group) = told.group_id {
                    row.put("cgroup_id", group.to_string());
                }
            }
            if only_told {
                row.put("hidden", "not listed by /proc/net, told by the socket monitor");
                let what = format!(
                    "a {} socket of inode {} is not in /proc/net, but the socket monitor tells it",
                    socket.protocol, socket.inode
                );
                out.note(Path::new(&place), &what);
            }
            table.row(out, row.into_map())?;
        }
    }
    table.end(out)
}

/// How a network namespace can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// By a process or thread in it: its folder below `/proc`.
    Through(PathBuf),
    /// By entering it: a link or mount that stands for it.
    Entering(PathBuf),
}

/// Who holds what.
#[derive(Default)]
struct Survey {
    /// By inode, as text.
    namespaces: BTreeMap<String, Vec<Way>>,
    holders: HashMap<u64, Vec<u32>>,
    names: HashMap<u32, Vec<u8>>,
    /// Processes whose descriptors we may not see.
    refused: u64,
}

impl Survey {
    fn of(proc: &Path, is_live: bool) -> io::Result<Self> {
        let mut survey = Self::default();
        let (names, _) = names_below(&open_folder(proc)?, ".", MOST_NAMES)?;
        let mut held = Vec::new();
        for name in names {
            let Ok(pid) = name.parse::<u32>() else { continue };
            let place = proc.join(&name);
            let Ok(folder) = open_folder(&place) else { continue };
            if let Ok(comm) = read_below(&folder, "comm", 1 << 10) {
                survey.names.insert(pid, comm.bytes.trim_ascii_end().to_vec());
            }
            let own = link_below(&folder, "ns/net").ok();
            survey.add(own.as_deref(), Way::Through(place.clone()));
            survey.threads(&folder, &place, &name, own.as_deref());
            match names_below(&folder, "fd", MOST_NAMES) {
                Ok((numbers, _)) => {
                    for number in numbers {
                        let fd = format!("fd/{number}");
                        let Ok(link) = link_below(&folder, &fd) else { continue };
                        if let Some(inode) = numbered(&link, b"socket:[") {
                            let holders = survey.holders.entry(inode).or_default();
                            if holders.len() < MOST_HOLDERS && !holders.contains(&pid) {
                                holders.push(pid);
                            }
                        } else if link.starts_with(b"net:[") {
                            held.push((link, place.join(fd)));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => survey.refused += 1,
                Err(_) => {}
            }
        }
        if is_live {
            let mounts = std::fs::read(proc.join("self/mountinfo")).unwrap_or_default();
            held.extend(mounted_namespaces(&mounts));
        }
        for (link, place) in held {
            survey.add(Some(&link), Way::Entering(place));
        }
        Ok(survey)
    }

    /// Threads may live in another namespace than their process.
    fn threads(&mut self, folder: &OwnedFd, place: &Path, pid: &str, own: Option<&[u8]>) {
        let Ok((threads, _)) = names_below(folder, "task", MOST_NAMES) else { return };
        for thread in threads.iter().filter(|thread| *thread != pid) {
            let link = link_below(folder, &format!("task/{thread}/ns/net")).ok();
            if link.is_some() && link.as_deref() != own {
                self.add(link.as_deref(), Way::Through(place.join("task").join(thread)));
            }
        }
    }

    fn add(&mut self, link: Option<&[u8]>, way: Way) {
        // A kernel without network namespaces has no such links: then there is one.
        let inode = match link {
            Some(link) => match namespace_inode(link) {
                Some(inode) => inode,
                None => return,
            },
            None => return,
        };
        let ways = self.namespaces.entry(inode).or_default();
        if ways.len() < 8 {
            ways.push(way);
        }
    }
}

/// The names of the processes that listen at a Unix socket; none if that cannot be told.
pub(crate) fn holders_of_socket(root: &Path, socket: &Path) -> Vec<String> {
    let proc = root.join("proc");
    let (to_read, socket) = (proc, socket.to_owned());
    let holders = Patience::of(LIMIT).wait(move || {
        let inode = target_below(rustix::fs::CWD, socket.to_str().unwrap_or_default())?;
        let table = read_below(&open_folder(&to_read)?, "net/unix", TABLE)?;
        let survey = Survey::of(&to_read, false)?;
        let name = |path: &[u8]| {
            std::str::from_utf8(path).is_ok_and(|path| {
                target_below(rustix::fs::CWD, path).is_ok_and(|found| {
                    (found.stx_ino, found.stx_dev_minor, found.stx_dev_major)
                        == (inode.stx_ino, inode.stx_dev_minor, inode.stx_dev_major)
                })
            })
        };
        let listeners = decode("unix", &table.bytes).0.into_iter().filter(|listener| {
            listener.state == Some("LISTEN") && listener.name.as_deref().is_some_and(name)
        });
        let mut holders = Vec::new();
        for listener in listeners {
            for pid in survey.holders.get(&listener.inode).into_iter().flatten() {
                let comm = survey.names.get(pid).map(|comm| custody::strict_json::escape_text(comm));
                holders.push(comm.unwrap_or_else(|| pid.to_string()));
            }
        }
        holders.sort();
        holders.dedup();
        Ok(holders)
    });
    holders.unwrap_or_default()
}

/// The number in `socket:[4711]`.
fn numbered(link: &[u8], start: &[u8]) -> Option<u64> {
    std::str::from_utf8(link.strip_prefix(start)?.strip_suffix(b"]")?).ok()?.parse().ok()
}

/// Network namespaces that are mounted somewhere: their link, and the place.
fn mounted_namespaces(mounts: &[u8]) -> Vec<(Vec<u8>, PathBuf)> {
    let text = String::from_utf8_lossy(mounts);
    let of_line = |line: &str| {
        let mut fields = line.split(' ');
        let root = fields.nth(3)?.to_owned();
        let place = fields.next()?;
        // Blanks in a path are octal escapes; `ip netns` and Docker make none.
        let whole = root.starts_with("net:[") && !place.contains('\\');
        whole.then(|| (root.into_bytes(), PathBuf::from(place)))
    };
    text.lines().filter_map(of_line).collect()
}

/// What was seen of one namespace.
#[derive(Default)]
struct View {
    /// Those of [`TABLES`] that are there.
    texts: BTreeMap<&'static str, Vec<u8>>,
    /// Tables read once more after the socket monitor was asked.
    again: BTreeSet<(&'static str, u64)>,
    told: Vec<Told>,
    issues: Vec<String>,
}

impl View {
    /// All sockets: with what the monitor told of each, and whether it alone told.
    fn sockets(&self) -> Vec<(Socket, Option<&Told>, bool)> {
        let mut known: HashMap<(&str, u64), &Told> = HashMap::new();
        for told in self.told.iter().filter(|told| told.socket.inode != 0) {
            known.insert((told.socket.protocol, told.socket.inode), told);
        }
        let mut all = Vec::new();
        for table in TABLES {
            let Some(text) = self.texts.get(table) else { continue };
            for socket in decode(table, text).0 {
                let told = known.remove(&(socket.protocol, socket.inode));
                all.push((socket, told, false));
            }
        }
        let mut rest: Vec<&Told> = known.into_values().collect();
        rest.sort_by_key(|told| (told.socket.protocol, told.socket.inode));
        for told in rest {
            // What is in the table by now came while we looked.
            let is_hidden = !self.again.contains(&(told.socket.protocol, told.socket.inode));
            all.push((told.socket.clone(), Some(told), is_hidden));
        }
        all
    }
}

/// Looks at a namespace by the first way that works.
fn look(
    proc: &Path,
    ways: &[Way],
    kinds: &[(&'static str, u8, u8)],
    place: &str,
    out: &mut TarPacker<'_>,
) -> Result<View> {
    let mut refusals = Vec::new();
    for way in ways {
        // A thread that has entered a namespace stays there, so each has its own.
        let mut patience = Patience::of(LIMIT);
        let entered = enter(proc, way, &mut patience);
        let folder = match (way, &entered) {
            // A process may end while it is read; our thread does not.
            (_, Ok(())) => proc.join("thread-self"),
            (Way::Through(folder), Err(_)) => folder.clone(),
            (Way::Entering(link), Err(error)) => {
                refusals.push(format!("by {}: {error}", link.display()));
                continue;
            }
        };
        let listed = patience.wait(move || {
            let folder = open_folder(&folder)?;
            let names = files_of(&folder)?;
            Ok((Arc::new(folder), names))
        });
        let (folder, names) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                refusals.push(error.to_string());
                continue;
            }
        };
        let mut view = View::default();
        view.read(&folder, names, &mut patience, place, out)?;
        match entered {
            Ok(()) => view.ask(&folder, kinds, &mut patience),
            Err(_) if kinds.is_empty() => {}
            Err(error) => view.issues.push(format!("socket monitor not asked, /proc is the source: {error}")),
        }
        return Ok(view);
    }
    let what = format!(
        "not seen: {}",
        if refusals.is_empty() { "no way in".to_owned() } else { refusals.join("; ") }
    );
    Ok(View { issues: vec![what], ..View::default() })
}

/// The files below `net/` that are kept.
fn files_of(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = names_below(folder, "net", MOST_FILES)?.0;
    for below in FOLDERS {
        if let Ok((found, _)) = names_below(folder, &format!("net/{below}"), MOST_FILES) {
            names.extend(found.into_iter().map(|name| format!("{below}/{name}")));
        }
    }
    names.retain(|name| {
        target_below(folder, &format!("net/{name}"))
            .is_ok_and(|found| FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile)
    });
    names.truncate(MOST_FILES);
    Ok(names)
}

/// Moves the thread behind `patience` into the namespace.
fn enter(proc: &Path, way: &Way, patience: &mut Patience) -> io::Result<()> {
    let link = match way {
        Way::Through(place) => place.join("ns/net"),
        Way::Entering(place) => place.clone(),
    };
    // A made tree has texts in place of namespaces.
    if proc != Path::new("/proc") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "not the /proc of this system"));
    }
    patience.wait(move || {
        let namespace = File::open(&link)?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    })
}

impl View {
    fn read(
        &mut self,
        folder: &Arc<OwnedFd>,
        names: Vec<String>,
        patience: &mut Patience,
        place: &str,
        out: &mut TarPacker<'_>,
    ) -> Result<()> {
        for name in names {
            let (to_read, path) = (Arc::clone(folder), format!("net/{name}"));
            let taken = match patience.wait(move || read_below(&to_read, &path, TABLE)) {
                Ok(taken) => taken,
                Err(error) => {
                    self.issues.push(format!("{name}: {error}"));
                    continue;
                }
            };
            if taken.cut {
                self.issues.push(format!("{name}: only its first {} bytes", taken.bytes.len()));
            }
            if taken.bytes.is_empty() {
                continue;
            }
            out.made(&format!("{place}/{name}"), &taken.bytes)?;
            if let Some(table) = TABLES.iter().find(|table| **table == name) {
                let unread = decode(table, &taken.bytes).1;
                if unread > 0 {
                    self.issues.push(format!("{name}: {unread} lines could not be read"));
                }
                self.texts.insert(table, taken.bytes);
            }
        }
        Ok(())
    }

    /// Asks the socket monitor, and then reads the tables once more, for what came meanwhile.
    fn ask(&mut self, folder: &Arc<OwnedFd>, kinds: &[(&'static str, u8, u8)], patience: &mut Patience) {
        for &(name, family, protocol) in kinds {
            match patience.wait(move || sock_diag::dump(name, family, protocol)) {
                Ok(told) => self.told.extend(told),
                // A kernel that was built without a monitor of this kind.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.issues.push(format!("socket monitor, {name}: {error}")),
            }
            let (to_read, path) = (Arc::clone(folder), format!("net/{name}"));
            if let Ok(taken) = patience.wait(move || read_below(&to_read, &path, TABLE)) {
                self.again.extend(decode(name, &taken.bytes).0.iter().map(|socket| (name, socket.inode)));
            }
        }
    }
}

/// The ports at which somebody listens, by protocol.
fn listening(sockets: &[(Socket, Option<&Told>, bool)]) -> BTreeSet<(&'static str, u16)> {
    let listeners = sockets.iter().filter(|(socket, ..)| socket.state == Some("LISTEN"));
    listeners.filter_map(|(socket, ..)| Some((stem(socket.protocol), socket.local?.1))).collect()
}

/// A listener of IPv6 may take connections of IPv4.
fn stem(protocol: &'static str) -> &'static str {
    protocol.strip_suffix('6').unwrap_or(protocol)
}

fn socket_row(socket: &Socket, namespace: &str, survey: &Survey) -> Row {
    let mut row = Row::default();
    row.put("netns", namespace);
    row.put("protocol", socket.protocol);
    for (side, address) in [("local", socket.local), ("remote", socket.remote)] {
        if let Some((ip, port)) = address {
            row.put(&format!("{side}_ip"), ip.to_string());
            row.put(&format!("{side}_port"), port);
        }
    }
    if let Some(state) = socket.state {
        row.put("state", state);
    }
    row.number("uid", socket.uid);
    row.put("inode", socket.inode.to_string());
    if let Some((send, receive)) = socket.waiting {
        row.number("send_queue", Some(send));
        row.number("receive_queue", Some(receive));
    }
    row.some_text("name", socket.name.as_deref());
    if let Some(holders) = survey.holders.get(&socket.inode).filter(|_| socket.inode != 0) {
        row.put("pids", holders.clone());
        let first = holders.first().and_then(|pid| survey.names.get(pid));
        row.some_text("process", first.map(Vec::as_slice));
    }
    row
}

#[cfg(test)]
mod tests;

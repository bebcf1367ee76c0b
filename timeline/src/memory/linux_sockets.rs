//! Open internet sockets of processes: from task to open files to the socket behind them.
//!
//! - Times: the kernel notes none. A row has the time at which memory was read, when the socket was open.
//! - Addresses: of a socket without a peer, `dst` is the local end. Of a connection to a port that some process listens
//!   on, `src` is the remote end, for it came in; of any other the local one.
//! - Limits: one row a socket and process; sockets that no process holds (TIME_WAIT, the kernel's own) are not read;
//!   1,048,576 descriptors a process.
//! - Reference: Linux `include/net/sock.h`, `include/linux/fdtable.h`, `net/socket.c`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address_space::le;
use super::btf::Field;
use super::kernel::Kernel;
use super::linux_clock::{Clock, ClockReader};
use super::linux_tasks::{Task, TaskReader};
use super::record_parts::Part;
use super::structure::{Extract, View, needed};
use crate::event::{Event, Span};
use crate::parser::Context;

/// `fs.nr_open` as it is set everywhere.
const MOST_DESCRIPTORS: u64 = 1 << 20;
/// Descriptors that are looked at in all.
const MOST_IN_ALL: u64 = 1 << 24;
const INET: u64 = 2;
const INET6: u64 = 10;
const TCP: u64 = 6;
const UDP: u64 = 17;
const LISTEN: u64 = 10;

/// Where the members of open files and sockets lie.
pub(crate) struct SocketReader {
    socket_files: u64,
    files_table: u64,
    table_length: u64,
    table: u64,
    file_operations: u64,
    file_data: u64,
    socket_sock: u64,
    inode: Option<(u64, u64)>,
    namespace: Option<(u64, u64)>,
    extract: Extract,
    family: Field,
    state: Field,
    local4: Field,
    remote4: Field,
    local6: Option<Field>,
    remote6: Option<Field>,
    local_port: Field,
    remote_port: Field,
    protocol: Option<Field>,
    kind: Option<Field>,
}

impl SocketReader {
    /// Finds the members.
    ///
    /// # Errors
    ///
    /// In words, which symbol or member is missing.
    pub(crate) fn new(kernel: &Kernel) -> Result<SocketReader, String> {
        let types = kernel.types();
        let socket_files = kernel
            .symbol("socket_file_ops")
            .ok_or("the kernel's symbols have no socket_file_ops, by which sockets are known")?;
        let at = |structure, way| Ok::<u64, String>(needed(types, structure, way)?.offset);
        let sock = |way| needed(types, "sock", way);
        let optional = |way| types.field("sock", way);
        let (family, state) = (sock("__sk_common.skc_family")?, sock("__sk_common.skc_state")?);
        let (local4, remote4) = (sock("__sk_common.skc_rcv_saddr")?, sock("__sk_common.skc_daddr")?);
        let (local_port, remote_port) = (sock("__sk_common.skc_num")?, sock("__sk_common.skc_dport")?);
        let (local6, remote6) =
            (optional("__sk_common.skc_v6_rcv_saddr"), optional("__sk_common.skc_v6_daddr"));
        let (protocol, kind) = (optional("sk_protocol"), optional("sk_type"));
        let fields: Vec<Field> = [family, state, local4, remote4, local_port, remote_port]
            .into_iter()
            .chain([local6, remote6, protocol, kind].into_iter().flatten())
            .collect();
        let extract = Extract::over(&fields).ok_or("struct sock is impossibly large")?;
        let member = |structure, way| Some(types.field(structure, way)?.offset);
        let inode = || {
            let socket = member("socket_alloc", "socket")?;
            let number = member("socket_alloc", "vfs_inode")?.checked_add(member("inode", "i_ino")?)?;
            Some((socket, number))
        };
        let namespace = || Some((member("sock", "__sk_common.skc_net")?, member("net", "ns.inum")?));
        Ok(SocketReader {
            socket_files,
            files_table: at("files_struct", "fdt")?,
            table_length: at("fdtable", "max_fds")?,
            table: at("fdtable", "fd")?,
            file_operations: at("file", "f_op")?,
            file_data: at("file", "private_data")?,
            socket_sock: at("socket", "sk")?,
            inode: inode(),
            namespace: namespace(),
            extract,
            family,
            state,
            local4,
            remote4,
            local6,
            remote6,
            local_port,
            remote_port,
            protocol,
            kind,
        })
    }

    /// Gives what each row stands on.
    pub(crate) fn for_each(
        &self,
        kernel: &Kernel,
        tasks: &TaskReader,
        clock: &Part,
        socket: &mut dyn FnMut(Vec<Part>),
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut listeners: HashMap<u64, Part> = HashMap::new();
        let mut note = |parts: Vec<Part>| {
            if let Some(sock) = parts.into_iter().next()
                && let (port, true) = self.port(&sock)
            {
                listeners.entry(port).or_insert(sock);
            }
        };
        self.each(kernel, tasks, clock, &mut note, &mut |_, _| {});
        let mut give = |mut parts: Vec<Part>| {
            let listener = parts.first().and_then(|sock| match self.port(sock) {
                (port, false) => listeners.get(&port).cloned(),
                (_, true) => None,
            });
            parts.push(listener.unwrap_or_default());
            socket(parts);
        };
        self.each(kernel, tasks, clock, &mut give, broken);
    }

    /// A socket's own port, and whether it listens there for TCP.
    fn port(&self, sock: &Part) -> (u64, bool) {
        let view = self.extract.of(&sock.bytes);
        let is_tcp = self.protocol.as_ref().is_none_or(|field| view.number(field) == Some(TCP));
        let listens = is_tcp && view.number(&self.state) == Some(LISTEN);
        (view.number(&self.local_port).unwrap_or(0), listens)
    }

    fn each(
        &self,
        kernel: &Kernel,
        tasks: &TaskReader,
        clock: &Part,
        socket: &mut dyn FnMut(Vec<Part>),
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut left = MOST_IN_ALL;
        tasks.try_each(kernel, &mut |task| self.of_task(kernel, task, clock, &mut left, socket), broken);
    }

    fn of_task(
        &self,
        kernel: &Kernel,
        task: &Task,
        clock: &Part,
        left: &mut u64,
        socket: &mut dyn FnMut(Vec<Part>),
    ) -> Result<(), &'static str> {
        let Some(files) = task.files else { return Ok(()) };
        let table = kernel.u64(files.wrapping_add(self.files_table));
        let table = table.ok_or("the open files of this process are not in the image")?;
        let mut length = [0; 4];
        let has_length = kernel.read(table.wrapping_add(self.table_length), &mut length);
        let entries = kernel.u64(table.wrapping_add(self.table)).filter(|_| has_length);
        let entries = entries.ok_or("the table of open files of this process is not in the image")?;
        let length = u64::from(u32::from_le_bytes(length));
        if length > MOST_DESCRIPTORS {
            return Err("the table of open files of this process is impossibly long");
        }
        let mut seen = HashSet::new();
        for n in 0..length {
            *left = left
                .checked_sub(1)
                .ok_or("too many descriptors in all: those of this process are not read")?;
            let entry = entries.wrapping_add(n * 8);
            let file =
                kernel.u64(entry).ok_or("the table of open files of this process is not all in the image")?;
            if file != 0 && kernel.u64(file.wrapping_add(self.file_operations)) == Some(self.socket_files) {
                let parts = self.parts(kernel, task, entry, file, clock, &mut seen);
                if let Some(parts) = parts.ok_or("a socket of this process is not in the image")? {
                    socket(parts);
                }
            }
        }
        Ok(())
    }

    /// The parts of a socket's row; an inner `None` where it is no internet socket, or was given before.
    fn parts(
        &self,
        kernel: &Kernel,
        task: &Task,
        entry: u64,
        file: u64,
        clock: &Part,
        seen: &mut HashSet<u64>,
    ) -> Option<Option<Vec<Part>>> {
        let data = file.checked_add(self.file_data)?;
        let socket = kernel.u64(data)?;
        let sock_at = socket.checked_add(self.socket_sock)?;
        let sock = kernel.u64(sock_at)?;
        if sock == 0 || !seen.insert(sock) {
            return Some(None);
        }
        let part = kernel.part(sock.checked_add(self.extract.start)?, self.extract.length)?;
        let family = self.extract.of(&part.bytes).number(&self.family)?;
        if family != INET && family != INET6 {
            return Some(None);
        }
        let mut way = Part::default();
        for at in [entry, data, sock_at] {
            let step = kernel.part(at, 8)?;
            way.bytes.extend(step.bytes);
            way.spans.extend(step.spans);
        }
        let inode = self
            .inode
            .and_then(|(within, number)| kernel.part(socket.checked_sub(within)?.checked_add(number)?, 8));
        let namespace = self.namespace.and_then(|(net, number)| {
            kernel.part(kernel.u64(sock.checked_add(net)?)?.checked_add(number)?, 4)
        });
        let (inode, namespace) = (inode.unwrap_or_default(), namespace.unwrap_or_default());
        Some(Some(vec![part, task.part.clone(), task.owner.clone(), clock.clone(), way, inode, namespace]))
    }

    /// The row of a socket.
    pub(crate) fn rows(
        &self,
        parts: &[Part],
        tasks: &TaskReader,
        clock: Option<&ClockReader>,
        context: &Context,
    ) -> Vec<Event> {
        let [sock, task, owner, time, _, inode, namespace, listener] = parts else { return Vec::new() };
        let view = self.extract.of(&sock.bytes);
        let number = |field: &Field| view.number(field).unwrap_or(0);
        let (Some(identity), Some((local, remote))) = (tasks.identity(task, owner), self.addresses(view))
        else {
            return Vec::new();
        };
        let local_port = number(&self.local_port) as u16;
        let remote_port = (number(&self.remote_port) as u16).swap_bytes();
        let protocol = self.protocol.as_ref().and_then(|field| view.number(field));
        let kind = self.kind.as_ref().and_then(|field| view.number(field));
        let name = protocol_name(protocol, kind);
        let state = state_word(protocol, number(&self.state), remote_port != 0);
        let is_connected = remote_port != 0 || !remote.is_unspecified();
        let is_inbound =
            is_connected && protocol.is_none_or(|number| number == TCP) && !listener.bytes.is_empty();

        let who = format!("{} ({})", identity.name, identity.pid);
        let here = end(local, local_port);
        let there = end(remote, remote_port);
        let message = match (is_connected, is_inbound) {
            (false, _) => format!("{name} socket of {who}: {here}, {state}"),
            (true, false) => format!("{name} socket of {who}: {here} to {there}, {state}"),
            (true, true) => format!("{name} socket of {who}: {here} from {there}, {state}"),
        };
        let event = Event::new("memory:socket", "Recorded Time", Span::default(), message);
        let mut event = Clock::date(clock.and_then(|clock| clock.clock(time)), event);
        event.category = Some("network".into());
        event.action = Some(match (is_connected, state) {
            (true, _) => "connected".into(),
            (false, "listening") => "listening".into(),
            (false, _) => "socket-open".into(),
        });
        event.pid = Some(identity.pid);
        event.process = Some(identity.name);
        event.user_name = identity.uid.and_then(|uid| context.user(uid)).map(str::to_owned);
        let (local, remote) = ((local.to_string(), local_port), (remote.to_string(), remote_port));
        let (from, to) = match (is_connected, is_inbound) {
            (false, _) => (None, local),
            (true, false) => (Some(local), remote),
            (true, true) => (Some(remote), local),
        };
        if let Some((ip, port)) = from {
            (event.src_ip, event.src_port) = (Some(ip), Some(port.into()));
        }
        (event.dst_ip, event.dst_port) = (Some(to.0), Some(to.1.into()));
        let number_in = |part: &Part| (!part.bytes.is_empty()).then(|| le(&part.bytes));
        event.inode = number_in(inode).and_then(|inode| i64::try_from(inode).ok());
        let attrs = &mut event.attrs;
        attrs.put("protocol", name);
        attrs.put_some("inbound", is_inbound.then_some(true));
        attrs.put("state", state);
        attrs.put("family", if number(&self.family) == INET { "inet" } else { "inet6" });
        attrs.put_some("uid", identity.uid);
        attrs.put_some("network_namespace", number_in(namespace));
        vec![event]
    }

    fn addresses(&self, view: View<'_>) -> Option<(IpAddr, IpAddr)> {
        let four = |field: &Field| Some(IpAddr::from(<[u8; 4]>::try_from(view.bytes(field)?).ok()?));
        let six = |field: &Option<Field>| {
            let address = Ipv6Addr::from(<[u8; 16]>::try_from(view.bytes(field.as_ref()?)?).ok()?);
            Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
        };
        match view.number(&self.family)? {
            INET => Some((four(&self.local4)?, four(&self.remote4)?)),
            _ => Some((six(&self.local6)?, six(&self.remote6)?)),
        }
    }
}

fn end(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => format!("*:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
        IpAddr::V4(address) => format!("{address}:{port}"),
    }
}

/// The protocol's name. Kernels that keep it where we cannot read it still say whether it is a stream.
fn protocol_name(protocol: Option<u64>, kind: Option<u64>) -> String {
    match (protocol, kind) {
        (Some(TCP), _) => "TCP".to_owned(),
        (Some(UDP), _) => "UDP".to_owned(),
        (Some(1), _) => "ICMP".to_owned(),
        (Some(58), _) => "ICMPv6".to_owned(),
        (Some(132), _) => "SCTP".to_owned(),
        (Some(136), _) => "UDP-Lite".to_owned(),
        (Some(262), _) => "MPTCP".to_owned(),
        (Some(number), Some(3)) => format!("raw IP protocol {number}"),
        (Some(number), _) => format!("IP protocol {number}"),
        (None, Some(1)) => "stream".to_owned(),
        (None, Some(2)) => "datagram".to_owned(),
        (None, _) => "internet".to_owned(),
    }
}

fn state_word(protocol: Option<u64>, state: u64, has_peer: bool) -> &'static str {
    const STATES: [&str; 12] = [
        "established",
        "syn sent",
        "syn received",
        "fin wait 1",
        "fin wait 2",
        "time wait",
        "closed",
        "close wait",
        "last ack",
        "listening",
        "closing",
        "new syn received",
    ];
    if protocol != Some(TCP) && state == 7 {
        return if has_peer { "connected" } else { "unconnected" };
    }
    let at = usize::try_from(state).ok().and_then(|state| state.checked_sub(1));
    at.and_then(|at| STATES.get(at).copied()).unwrap_or("in an unknown state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_ends_are_said_as_an_investigator_would() {
        assert_eq!(state_word(Some(TCP), 10, false), "listening");
        assert_eq!(state_word(Some(TCP), 7, false), "closed");
        assert_eq!(state_word(Some(UDP), 7, false), "unconnected");
        assert_eq!(state_word(Some(TCP), 0, false), "in an unknown state");
        assert_eq!(end("0.0.0.0".parse().unwrap(), 80), "*:80");
        assert_eq!(end("::1".parse().unwrap(), 80), "[::1]:80");
        assert_eq!(protocol_name(Some(89), Some(3)), "raw IP protocol 89");
    }
}

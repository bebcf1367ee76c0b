//! Sockets as the kernel's own socket monitor tells them: a second view, which a hook in `/proc/net` does not reach.
//!
//! Asked for are TCP, UDP and raw sockets of both families. Reference: sock_diag(7), `linux/inet_diag.h`. A kernel that
//! would have to load a module to answer is not asked: that would change the system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::socket_tables::{Socket, state_word};

/// `SOCK_DIAG_BY_FAMILY`, `NLM_F_REQUEST | NLM_F_DUMP`, `NLMSG_ERROR`, `NLMSG_DONE`.
const BY_FAMILY: u16 = 20;
const DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Bytes of `nlmsghdr`, of `inet_diag_req_v2`, and of `inet_diag_msg`.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
/// `INET_DIAG_CGROUP_ID`.
const CGROUP: u16 = 21;

/// Sockets of one answer, at most.
const MOST_SOCKETS: usize = 1 << 20;

const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// What is asked for: name, family, protocol, and the kernel modules that answer.
const KINDS: [(&str, u8, u8, [&str; 2]); 6] = [
    ("tcp", IPV4, 6, ["inet_diag", "tcp_diag"]),
    ("tcp6", IPV6, 6, ["inet_diag", "tcp_diag"]),
    ("udp", IPV4, 17, ["inet_diag", "udp_diag"]),
    ("udp6", IPV6, 17, ["inet_diag", "udp_diag"]),
    ("raw", IPV4, 255, ["inet_diag", "raw_diag"]),
    ("raw6", IPV6, 255, ["inet_diag", "raw_diag"]),
];

/// A socket, with what only this view tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) socket: Socket,
    pub(crate) cookie: u64,
    pub(crate) group_id: Option<u64>,
}

/// The kinds that can be asked for without a module being loaded for it.
pub(crate) fn kinds_there(root: &Path) -> Vec<(&'static str, u8, u8)> {
    // Without this file the kernel takes no modules at all.
    let Ok(loaded) = std::fs::read_to_string(root.join("proc/modules")) else {
        return KINDS.iter().map(|&(name, family, protocol, _)| (name, family, protocol)).collect();
    };
    let release = std::fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    let built_in =
        std::fs::read_to_string(root.join("lib/modules").join(release.trim()).join("modules.builtin"))
            .unwrap_or_default();
    let is_there = |module: &str| {
        loaded.lines().any(|line| line.split(' ').next() == Some(module))
            || built_in.lines().any(|line| line.ends_with(&format!("/{module}.ko")))
    };
    KINDS
        .iter()
        .filter(|(.., modules)| modules.iter().all(|module| is_there(module)))
        .map(|&(name, family, protocol, _)| (name, family, protocol))
        .collect()
}

/// All sockets of one kind in the network namespace of this thread.
pub(crate) fn dump(name: &'static str, family: u8, protocol: u8) -> io::Result<Vec<Told>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request(family, protocol), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut block = vec![0; 64 << 10];
    loop {
        let (filled, _) = recv(&socket, block.as_mut_slice(), RecvFlags::empty())?;
        if read_answer(name, block.get(..filled).unwrap_or_default(), &mut found)? || filled == 0 {
            return Ok(found);
        }
        if found.len() >= MOST_SOCKETS {
            return Err(io::Error::other("more sockets than are listed"));
        }
    }
}

/// `nlmsghdr` and `inet_diag_req_v2`: all states, all sockets.
fn request(family: u8, protocol: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// Reads one datagram of an answer; gives whether it was the last one.
fn read_answer(name: &'static str, mut bytes: &[u8], found: &mut Vec<Told>) -> io::Result<bool> {
    while let Some(length) = number32(bytes, 0) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = bytes.get(..length).filter(|_| length >= HEADER) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that is cut short"));
        };
        let content = message.get(HEADER..).unwrap_or_default();
        match number16(message, 4) {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = number32(content, 0).map_or(0, |code| code.cast_signed());
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                };
            }
            Some(BY_FAMILY) => found.extend(told(name, content)),
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn told(name: &'static str, bytes: &[u8]) -> Option<Told> {
    let family = *bytes.first()?;
    let ip = |at: usize| -> Option<IpAddr> {
        let sixteen = <[u8; 16]>::try_from(bytes.get(at..at.checked_add(16)?)?).ok()?;
        let [a, b, c, d, ..] = sixteen;
        match family {
            IPV4 => Some(Ipv4Addr::new(a, b, c, d).into()),
            IPV6 => Some(Ipv6Addr::from(sixteen).into()),
            _ => None,
        }
    };
    let port = |at: usize| number16(bytes, at).map(u16::from_be);
    let cookie = u64::from(number32(bytes, 44)?) | u64::from(number32(bytes, 48)?) << 32;
    let waiting = u64::from(number32(bytes, 60)?);
    let socket = Socket {
        protocol: name,
        local: Some((ip(8)?, port(4)?)),
        remote: Some((ip(24)?, port(6)?)),
        state: Some(state_word(name, *bytes.get(1)?)),
        uid: Some(number32(bytes, 64)?.into()),
        inode: number32(bytes, 68)?.into(),
        waiting: Some((waiting, number32(bytes, 56)?.into())),
        name: None,
    };
    let mut group_id = None;
    let mut attributes = bytes.get(MESSAGE..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (number16(attributes, 0), number16(attributes, 2)) {
        let length = usize::from(length);
        let Some(value) = attributes.get(4..length) else { break };
        if kind == CGROUP {
            group_id = <[u8; 8]>::try_from(value).ok().map(u64::from_ne_bytes);
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Told { socket, cookie, group_id })
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    <[u8; 2]>::try_from(two).ok().map(u16::from_ne_bytes)
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    <[u8; 4]>::try_from(four).ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_told_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let found = match dump("tcp", IPV4, 6) {
            Ok(found) => found,
            Err(error) => {
                #[allow(clippy::print_stderr, reason = "a test that is skipped must say so")]
                {
                    eprintln!("skipped: this kernel has no socket monitor: {error}");
                }
                return;
            }
        };
        let own = found.iter().find(|told| told.socket.local == Some((local.ip(), local.port()))).unwrap();
        assert_eq!(own.socket.state, Some("LISTEN"));
        let link = std::fs::read_link(format!("/proc/self/fd/{}", {
            use std::os::fd::AsRawFd;
            listener.as_raw_fd()
        }))
        .unwrap();
        assert_eq!(link.to_str().unwrap(), format!("socket:[{}]", own.socket.inode));
    }

    #[test]
    fn an_answer_with_lengths_that_lie_ends_with_an_error_and_not_with_a_panic() {
        let mut message = vec![0; HEADER + MESSAGE + 12];
        message[0] = (HEADER + MESSAGE + 12) as u8;
        message[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        message[HEADER] = IPV4;
        message[HEADER + 1] = 10;
        let at = HEADER + MESSAGE;
        message[at] = 12;
        message[at + 2] = CGROUP as u8;
        message[at + 4] = 77;
        let mut found = Vec::new();
        assert!(!read_answer("tcp", &message, &mut found).unwrap());
        assert_eq!(found[0].group_id, Some(77));
        for end in 4..message.len() {
            assert!(read_answer("tcp", &message[..end], &mut Vec::new()).is_err());
        }
        for at in 0..message.len() {
            let mut broken = message.clone();
            broken[at] ^= 0xff;
            let _ = read_answer("tcp", &broken, &mut Vec::new());
        }
    }

    #[test]
    fn a_kernel_that_would_load_a_module_is_not_asked() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc")).unwrap();
        assert_eq!(kinds_there(root.path()).len(), 6);
        std::fs::write(
            root.path().join("proc/modules"),
            "inet_diag 1 1 tcp_diag, Live 0\ntcp_diag 1 0 - Live 0\n",
        )
        .unwrap();
        let names: Vec<_> = kinds_there(root.path()).iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, ["tcp", "tcp6"]);
    }
}

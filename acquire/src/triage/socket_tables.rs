//! What the tables of `/proc/net` say of sockets. Reference: proc_net(5), `net/ipv4/tcp_ipv4.c`, `net/packet/af_packet.c`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) protocol: &'static str,
    pub(crate) local: Option<(IpAddr, u16)>,
    pub(crate) remote: Option<(IpAddr, u16)>,
    pub(crate) state: Option<&'static str>,
    pub(crate) uid: Option<u64>,
    pub(crate) inode: u64,
    pub(crate) waiting: Option<(u64, u64)>,
    /// Of a Unix socket its path, of a packet socket what it listens to.
    pub(crate) name: Option<Vec<u8>>,
}

/// The tables that are decoded, in the order of their rows.
pub(crate) const TABLES: [&str; 12] =
    ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "packet", "unix"];

/// The sockets of one table, and how many of its lines could not be read.
pub(crate) fn sockets(table: &'static str, text: &[u8]) -> (Vec<Socket>, u64) {
    let read: fn(&'static str, &[u8]) -> Option<Socket> = match table {
        "packet" => packet,
        "unix" => unix,
        _ => internet,
    };
    let mut unread = 0u64;
    let lines = text.split(|&byte| byte == b'\n').skip(1).filter(|line| !line.trim_ascii().is_empty());
    let found = lines
        .filter_map(|line| {
            let socket = read(table, line);
            unread = unread.saturating_add(u64::from(socket.is_none()));
            socket
        })
        .collect();
    (found, unread)
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`.
fn internet(protocol: &'static str, line: &[u8]) -> Option<Socket> {
    let line = std::str::from_utf8(line).ok()?;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at).copied();
    let state = u8::from_str_radix(field(3)?, 16).ok()?;
    let (send, receive) = field(4)?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some(Socket {
        protocol,
        local: Some(address(field(1)?)?),
        remote: Some(address(field(2)?)?),
        state: Some(state_word(protocol, state)),
        uid: field(7)?.parse().ok(),
        inode: field(9)?.parse().ok()?,
        waiting: hex(send).zip(hex(receive)),
        name: None,
    })
}

/// `0100007F:1F90`: each word of the address as the host writes its numbers, the port as a number.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    if ip.len() % 8 != 0 {
        return None;
    }
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip = match (<[u8; 4]>::try_from(bytes.as_slice()), <[u8; 16]>::try_from(bytes.as_slice())) {
        (Ok(four), _) => IpAddr::V4(Ipv4Addr::from(four)),
        (_, Ok(sixteen)) => IpAddr::V6(Ipv6Addr::from(sixteen)),
        _ => return None,
    };
    Some((ip, port))
}

/// The state's name, as `ss` and RFC 9293 have it. Sockets without connections know two of them.
pub(crate) fn state_word(protocol: &str, state: u8) -> &'static str {
    match (state, protocol.starts_with("tcp")) {
        (1, _) => "ESTABLISHED",
        (7, false) => "UNCONNECTED",
        (2, _) => "SYN_SENT",
        (3, _) => "SYN_RECV",
        (4, _) => "FIN_WAIT1",
        (5, _) => "FIN_WAIT2",
        (6, _) => "TIME_WAIT",
        (7, true) => "CLOSE",
        (8, _) => "CLOSE_WAIT",
        (9, _) => "LAST_ACK",
        (10, _) => "LISTEN",
        (11, _) => "CLOSING",
        (12, _) => "NEW_SYN_RECV",
        _ => "UNKNOWN",
    }
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`: who listens to whole packets.
fn packet(protocol: &'static str, line: &[u8]) -> Option<Socket> {
    let line = std::str::from_utf8(line).ok()?;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at).copied();
    let kind = if field(2)? == "3" { "raw" } else { "datagrams" };
    let name = format!("{kind}, protocol 0x{}, interface {}", field(3)?, field(4)?);
    Some(Socket {
        protocol,
        uid: field(7)?.parse().ok(),
        inode: field(8)?.parse().ok()?,
        name: Some(name.into_bytes()),
        ..Socket::default()
    })
}

/// `Num RefCount Protocol Flags Type St Inode Path`; the path may hold anything.
fn unix(protocol: &'static str, line: &[u8]) -> Option<Socket> {
    let mut fields = line.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty());
    let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let (_number, _count, _protocol) = (field()?, field()?, field()?);
    let flags = u32::from_str_radix(field()?, 16).ok()?;
    let (_kind, state, inode) = (field()?, field()?, field()?);
    // The eighth field goes to the end of the line, blanks and all.
    let blanks = line.iter().enumerate().skip_while(|(_, byte)| byte.is_ascii_whitespace());
    let mut in_field = false;
    let mut begun = 0;
    let path = blanks.map(|(at, byte)| (at, byte.is_ascii_whitespace())).find_map(|(at, blank)| {
        begun += usize::from(!blank && !in_field);
        in_field = !blank;
        (begun == 8).then(|| line.get(at..)).flatten()
    });
    // __SO_ACCEPTCON of `include/linux/net.h`
    let state = match (flags & 0x0001_0000 != 0, state) {
        (true, _) => "LISTEN",
        (_, "03") => "CONNECTED",
        (_, "02") => "CONNECTING",
        (_, "04") => "DISCONNECTING",
        _ => "UNCONNECTED",
    };
    Some(Socket {
        protocol,
        state: Some(state),
        inode: inode.parse().ok()?,
        name: path.map(<[u8]>::to_vec),
        ..Socket::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &[u8] = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000:07E8 00000000:0000 0A 00000001:00000002 00:00000000 00000000  1000        0 91 1 000 100 0 0 10 0\nnonsense\n\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_is_read_as_the_host_wrote_it() {
        assert_eq!(address("0100007F:1F90").unwrap(), ("127.0.0.1".parse().unwrap(), 8080));
        let v6 = "B80D01200000000000000000010000AA:0016";
        assert_eq!(address(v6).unwrap(), ("2001:db8::aa00:1".parse().unwrap(), 22));
        for bad in ["", ":", "0100007F", "01:1", "0100007F0100007F:0016", "zz00007F:0016", "0100007F:12345"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tcp_table_gives_its_sockets_and_counts_what_it_cannot_read() {
        let (found, unread) = sockets("tcp", TCP);
        assert_eq!(unread, 1);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].local, Some(("0.0.0.0".parse().unwrap(), 2024)));
        assert_eq!((found[0].state, found[0].uid, found[0].inode), (Some("LISTEN"), Some(1000), 91));
        assert_eq!(found[0].waiting, Some((1, 2)));
        for end in 0..TCP.len() {
            for table in TABLES {
                let _ = sockets(table, &TCP[..end]); // must not panic
            }
        }
    }

    #[test]
    fn packet_and_unix_sockets_are_told() {
        let (found, _) =
            sockets("packet", b"sk RefCnt Type Proto Iface R Rmem User Inode\nff 3 3 0003 2 1 0 0 4711\n");
        assert_eq!(found[0].name.as_deref(), Some(&b"raw, protocol 0x0003, interface 2"[..]));
        assert_eq!(found[0].inode, 4711);
        let (found, _) = sockets(
            "unix",
            b"Num RefCount Protocol Flags Type St Inode Path\nff: 00000002 00000000 00010000 0001 01 17 /run/a b\nff: 00000002 00000000 00000000 0001 03 18\nff: 00000002 00000000 00010000 0001 01 19 @/tmp/.X\n",
        );
        assert_eq!(found[0].name.as_deref(), Some(&b"/run/a b"[..]));
        assert_eq!((found[0].state, found[1].state), (Some("LISTEN"), Some("CONNECTED")));
        assert_eq!((found[1].inode, found[1].name.as_deref()), (18, None));
        assert_eq!(found[2].name.as_deref(), Some(&b"@/tmp/.X"[..]));
    }
}

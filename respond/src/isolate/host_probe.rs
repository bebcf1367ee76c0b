//! Tries from this host what shall work and what shall not.
//!
//! A filter of the host that drops what goes out says so at once: the system refuses to send (`EPERM`). So a datagram to an
//! address that nobody has tells an isolation from none, and where there is none it harms nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Addresses for documentation (RFC 5737, RFC 3849), at the port for what is thrown away (RFC 863).
pub(crate) const NOBODY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// What became of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It left.
    Left,
    /// A filter of this host held it back.
    HeldBack,
    /// It could not be tried: there is no route, or no such family.
    NotTried(String),
}

/// Sends one empty datagram.
pub(crate) fn send_datagram(to: SocketAddr) -> Sent {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sent = UdpSocket::bind((any, 0)).and_then(|socket| socket.send_to(&[], to));
    match sent {
        Ok(_) => Sent::Left,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Sent::HeldBack,
        Err(error) => Sent::NotTried(error.to_string()),
    }
}

/// Connects by TCP.
pub(crate) fn connect(to: SocketAddr, time: Duration) -> Result<(), String> {
    match TcpStream::connect_timeout(&to, time) {
        Ok(_) => Ok(()),
        // It answered, if only that nobody listens there.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_silence() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(connect(listener.local_addr().unwrap(), Duration::from_secs(5)), Ok(()));
        assert_eq!(send_datagram(listener.local_addr().unwrap()), Sent::Left);
    }
}

//! Logins in `utmp` of this machine: who is on it now. Reference: utmp(5), glibc `bits/utmp.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `USER_PROCESS`.
const LOGIN: i16 = 7;

/// One login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Vec<u8>,
    pub(crate) line: Vec<u8>,
    pub(crate) host: Vec<u8>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) pid: u32,
    pub(crate) seconds: i64,
    pub(crate) microseconds: i64,
}

/// The logins among the records; those of other kinds, and what is no record, are left out.
pub(crate) fn logins(bytes: &[u8]) -> Vec<Login> {
    // 64-bit systems without 32-bit programs have wide times; no file has a size that both divide by chance often.
    let wide = !bytes.len().is_multiple_of(384) && bytes.len().is_multiple_of(400);
    bytes.chunks_exact(if wide { 400 } else { 384 }).filter_map(|record| login(record, wide)).collect()
}

fn login(record: &[u8], wide: bool) -> Option<Login> {
    let text = |from: usize, to: usize| -> Option<Vec<u8>> {
        Some(record.get(from..to)?.split(|&byte| byte == 0).next().unwrap_or_default().to_vec())
    };
    let short = |at: usize| Some(i32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(i64::from_ne_bytes(record.get(at..at + 8)?.try_into().ok()?));
    if i16::from_ne_bytes(record.get(..2)?.try_into().ok()?) != LOGIN {
        return None;
    }
    let (seconds, microseconds, address) = match wide {
        true => (long(344)?, long(352)?, 360),
        false => (short(340)?.into(), short(344)?.into(), 348),
    };
    let address: [u8; 16] = record.get(address..address + 16)?.try_into().ok()?;
    let [a, b, c, d, rest @ ..] = address;
    let address = match (address == [0; 16], rest == [0; 12]) {
        (true, _) => None,
        (_, true) => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(Ipv6Addr::from(address).into()),
    };
    Some(Login {
        user: text(44, 76)?,
        line: text(8, 40)?,
        host: text(76, 332)?,
        address,
        pid: u32::try_from(short(4)?).unwrap_or(0),
        seconds,
        microseconds: microseconds.clamp(0, 999_999),
    })
}

/// A record of 384 bytes, for tests.
#[cfg(test)]
pub(crate) fn record(kind: i16, pid: i32, line: &str, user: &str, host: &str, seconds: i32) -> Vec<u8> {
    let mut record = vec![0; 384];
    let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &kind.to_ne_bytes());
    put(4, &pid.to_ne_bytes());
    put(8, line.as_bytes());
    put(44, user.as_bytes());
    put(76, host.as_bytes());
    put(340, &seconds.to_ne_bytes());
    if let Ok(Ok(address)) = host.parse::<Ipv4Addr>().map(|ip| Ok::<_, ()>(ip.octets())) {
        put(348, &address);
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_logins_are_given_whatever_else_the_file_holds() {
        let mut bytes = record(2, 0, "~", "reboot", "6.1.0", 1);
        bytes.extend(record(7, 42, "pts/1", "bob", "2001:db8::1", 1_795_220_000));
        bytes.extend(record(8, 43, "pts/2", "", "", 3));
        let found = logins(&bytes);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].user.as_slice(), found[0].pid, found[0].address), (&b"bob"[..], 42, None));
        for end in 0..bytes.len() {
            let _ = logins(&bytes[..end]); // must not panic
        }
        assert!(logins(&vec![0xff; 384 * 400]).is_empty());
    }

    #[test]
    fn records_with_wide_times_are_told_by_their_size() {
        let mut wide = vec![0; 400];
        wide[0..2].copy_from_slice(&7i16.to_ne_bytes());
        wide[44..47].copy_from_slice(b"eve");
        wide[344..352].copy_from_slice(&4_000_000_000i64.to_ne_bytes());
        wide[360..364].copy_from_slice(&[192, 0, 2, 1]);
        let found = logins(&wide);
        assert_eq!((found[0].user.as_slice(), found[0].seconds), (&b"eve"[..], 4_000_000_000));
        assert_eq!(found[0].address, Some("192.0.2.1".parse().unwrap()));
    }
}

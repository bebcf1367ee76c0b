//! What the evidence says about its own host: name, time zone, users.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::TzBasis;
use crate::parser::Context;
use crate::text::clean;
use crate::year::YearPlan;
use crate::zone::{KnownZone, Zone};

/// A configuration file of the host, small by nature; no more than this of it is read.
pub const LARGEST_CONFIG: usize = 1 << 20;

/// Gives small files and symbolic links below the evidence's root.
pub trait HostRoot {
    /// The first [`LARGEST_CONFIG`] bytes of the file at `path` (`/etc/hostname`).
    fn file(&self, path: &str) -> Option<Vec<u8>>;
    /// Where the symbolic link at `path` points.
    fn link(&self, path: &str) -> Option<Vec<u8>>;
}

/// The context for the parsers. `timezone` is what the person said, and wins.
pub fn read(root: &dyn HostRoot, timezone: Option<&Zone>) -> Context {
    let zone = match timezone {
        Some(zone) => KnownZone { zone: zone.clone(), basis: TzBasis::Flag },
        None => host_zone(root)
            .map_or_else(KnownZone::default, |zone| KnownZone { zone, basis: TzBasis::HostConfig }),
    };
    Context { host: host_name(root), zone, year: YearPlan::Unknown, users: Arc::new(users(root)) }
}

fn host_name(root: &dyn HostRoot) -> Option<String> {
    let file = root.file("/etc/hostname")?;
    let name = file
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|l| !l.is_empty() && !l.starts_with(b"#"))?;
    Some(clean(name))
}

/// `/etc/localtime` decides, as it does for the C library; `/etc/timezone` where that is no link.
fn host_zone(root: &dyn HostRoot) -> Option<Zone> {
    if let Some(target) = root.link("/etc/localtime") {
        let target = clean(&target);
        if let Some(zone) = target.split_once("zoneinfo/").and_then(|(_, name)| Zone::from_name(name)) {
            return Some(zone);
        }
    }
    if let Some(zone) = root.file("/etc/localtime").and_then(|bytes| Zone::from_tzif(&bytes)) {
        return Some(zone);
    }
    Zone::from_name(clean(&root.file("/etc/timezone")?).lines().next()?)
}

fn users(root: &dyn HostRoot) -> BTreeMap<u32, String> {
    let mut users = BTreeMap::new();
    for line in root.file("/etc/passwd").unwrap_or_default().split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b':');
        let (Some(name), Some(_), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Some(uid) = std::str::from_utf8(uid).ok().and_then(|uid| uid.parse().ok()) {
            // The first name of a uid is the one the system shows.
            users.entry(uid).or_insert_with(|| clean(name));
        }
    }
    users
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made(&'static [(&'static str, &'static str)], Option<&'static str>);

    impl HostRoot for Made {
        fn file(&self, path: &str) -> Option<Vec<u8>> {
            self.0.iter().find(|(p, _)| *p == path).map(|(_, text)| text.as_bytes().to_vec())
        }
        fn link(&self, path: &str) -> Option<Vec<u8>> {
            (path == "/etc/localtime").then_some(self.1?.as_bytes().to_vec())
        }
    }

    #[test]
    fn the_host_says_its_name_zone_and_users() {
        let root = Made(
            &[
                ("/etc/hostname", "# name\nweb01\n"),
                ("/etc/timezone", "Asia/Tokyo\n"),
                ("/etc/passwd", "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n"),
            ],
            Some("/usr/share/zoneinfo/Europe/Berlin"),
        );
        let context = read(&root, None);
        assert_eq!(context.host.as_deref(), Some("web01"));
        assert_eq!(
            (context.zone.zone.name().as_str(), context.zone.basis),
            ("Europe/Berlin", TzBasis::HostConfig)
        );
        assert_eq!(context.user(0), Some("root"));
        assert_eq!(read(&Made(root.0, None), None).zone.zone.name(), "Asia/Tokyo");
        assert_eq!(read(&root, Some(&Zone::UTC)).zone.basis, TzBasis::Flag);
        assert_eq!(read(&Made(&[], None), None).zone.basis, TzBasis::AssumedUtc);
    }
}

//! What of EC2 is acquired: a snapshot, a volume, or all volumes of an instance.

use std::fmt;
use std::str::FromStr;

/// The id of a snapshot, a volume or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// `snap-…`
    Snapshot(String),
    /// `vol-…`
    Volume(String),
    /// `i-…`
    Instance(String),
}

impl Target {
    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Snapshot(id) | Self::Volume(id) | Self::Instance(id) => id,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_id =
            |rest: &str| (8..=32).contains(&rest.len()) && rest.bytes().all(|c| c.is_ascii_hexdigit());
        let id = text.to_owned();
        match text.split_once('-') {
            Some(("snap", rest)) if is_id(rest) => Ok(Self::Snapshot(id)),
            Some(("vol", rest)) if is_id(rest) => Ok(Self::Volume(id)),
            Some(("i", rest)) if is_id(rest) => Ok(Self::Instance(id)),
            _ => Err("name a snapshot (snap-…), a volume (vol-…) or an instance (i-…)".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_it_is_of_and_nothing_else_is_one() {
        assert!(matches!("snap-0123456789abcdef0".parse(), Ok(Target::Snapshot(_))));
        assert!(matches!("vol-01234567".parse(), Ok(Target::Volume(_))));
        assert!(matches!("i-0123456789abcdef0".parse(), Ok(Target::Instance(_))));
        for text in
            ["", "i-", "snap-xyz01234", "ami-01234567", "i-0123456", "vol-01234567&x=1", "vol_01234567"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}

//! What an id of each kind of asset looks like. Anything else is no id, and goes no further.

use std::net::IpAddr;

use super::AssetKind;

impl AssetKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::Ec2Instance,
        Self::EbsVolume,
        Self::Container,
        Self::K8sPod,
        Self::Host,
        Self::IamAccessKey,
        Self::IamUser,
        Self::IamRole,
        Self::S3Bucket,
    ];

    /// The word in rules, mappings and inventory, such as `ec2_instance`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ec2Instance => "ec2_instance",
            Self::EbsVolume => "ebs_volume",
            Self::Container => "container",
            Self::K8sPod => "k8s_pod",
            Self::Host => "host",
            Self::IamAccessKey => "iam_access_key",
            Self::IamUser => "iam_user",
            Self::IamRole => "iam_role",
            Self::S3Bucket => "s3_bucket",
        }
    }

    /// Whether an id has the form of this kind.
    ///
    /// No form holds a space, a quote, a control character, `..`, or a `-` at its start: what passes can be an argument of a
    /// command. It says nothing of whether there is such a thing.
    #[must_use]
    pub fn allows(self, id: &str) -> bool {
        match self {
            Self::Ec2Instance => id.strip_prefix("i-").is_some_and(is_ec2_number),
            Self::EbsVolume => id.strip_prefix("vol-").is_some_and(is_ec2_number),
            Self::Container => (12..=64).contains(&id.len()) && id.bytes().all(is_lower_hex),
            Self::K8sPod => is_pod(id),
            Self::Host => is_host(id),
            Self::IamAccessKey => is_access_key(id),
            Self::IamUser => is_iam(id, "user"),
            Self::IamRole => is_iam(id, "role"),
            Self::S3Bucket => is_bucket(id),
        }
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_ec2_number(number: &str) -> bool {
    matches!(number.len(), 8 | 17) && number.bytes().all(is_lower_hex)
}

/// Begins with a letter or digit; then letters, digits and these.
fn is_name(name: &str, longest: usize, also: &[u8]) -> bool {
    name.len() <= longest
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
        && !name.contains("..")
}

/// A label of DNS as Kubernetes has it (RFC 1123), or several with `.` between.
fn is_dns(name: &str, longest: usize, dots: bool) -> bool {
    name.len() <= longest
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
        && (dots || !name.contains('.'))
}

fn is_pod(id: &str) -> bool {
    let mut parts = id.split('/');
    let (Some(cluster), Some(namespace), Some(name), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    (cluster.is_empty() || is_name(cluster, 100, b"-_."))
        && is_dns(namespace, 63, false)
        && is_dns(name, 253, true)
}

fn is_host(id: &str) -> bool {
    is_name(id, 253, b"-_.") || id.parse::<IpAddr>().is_ok()
}

fn is_access_key(id: &str) -> bool {
    let rest = id.strip_prefix("AKIA").or_else(|| id.strip_prefix("ASIA"));
    rest.is_some_and(|rest| {
        rest.len() == 16 && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    })
}

/// A name, or `arn:aws…:iam::123456789012:user/path/name`.
fn is_iam(id: &str, what: &str) -> bool {
    let is_iam_name = |name: &str| is_name(name, 64, b"+=,.@_-");
    let Some(arn) = id.strip_prefix("arn:") else { return is_iam_name(id) };
    let mut parts = arn.splitn(5, ':');
    let (Some(partition), Some("iam"), Some(""), Some(account), Some(resource)) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some(path) = resource.strip_prefix(what).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    matches!(partition, "aws" | "aws-cn" | "aws-us-gov" | "aws-iso" | "aws-iso-b")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && path.len() <= 512
        && path.split('/').all(is_iam_name)
}

fn is_bucket(id: &str) -> bool {
    id.len() >= 3 && is_dns(id, 63, true) && id.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_of_each_kind_pass_and_neighbours_do_not() {
        let good = [
            (AssetKind::Ec2Instance, "i-0123456789abcdef0"),
            (AssetKind::Ec2Instance, "i-99999999"),
            (AssetKind::EbsVolume, "vol-0123456789abcdef0"),
            (AssetKind::Container, "0123456789ab"),
            (AssetKind::K8sPod, "prod-1/shop/web-7d4b9c6f5-x2x9k"),
            (AssetKind::K8sPod, "/shop/web.0"),
            (AssetKind::Host, "WEB_01.example.org"),
            (AssetKind::Host, "2001:db8::1"),
            (AssetKind::IamAccessKey, "AKIAIOSFODNN7EXAMPLE"),
            (AssetKind::IamUser, "jo.doe@example.org"),
            (AssetKind::IamUser, "arn:aws:iam::123456789012:user/eng/jo"),
            (AssetKind::IamRole, "arn:aws-cn:iam::123456789012:role/web"),
            (AssetKind::S3Bucket, "my.logs-2026"),
        ];
        for (kind, id) in good {
            assert!(kind.allows(id), "{kind:?} {id}");
        }
        let bad = [
            (AssetKind::Ec2Instance, "i-0123456789abcdef"),
            (AssetKind::Ec2Instance, "i-0123456789ABCDEF0"),
            (AssetKind::Ec2Instance, "i-0123456789abcdef0;reboot"),
            (AssetKind::EbsVolume, "i-0123456789abcdef0"),
            (AssetKind::Container, "host"),
            (AssetKind::K8sPod, "shop/web"),
            (AssetKind::K8sPod, "a/b/c/d"),
            (AssetKind::K8sPod, "a/../c"),
            (AssetKind::Host, "-oProxyCommand=x"),
            (AssetKind::Host, "a..b"),
            (AssetKind::Host, "a b"),
            (AssetKind::Host, "$(id)"),
            (AssetKind::IamAccessKey, "AKIAIOSFODNN7EXAMPL"),
            (AssetKind::IamUser, "arn:aws:iam::123456789012:root"),
            (AssetKind::IamUser, "arn:aws:iam::123456789012:role/x"),
            (AssetKind::IamRole, "arn:aws:iam::1:role/x"),
            (AssetKind::IamRole, "arn:aws:iam::123456789012:role/../x"),
            (AssetKind::S3Bucket, "192.0.2.1"),
            (AssetKind::S3Bucket, "ab"),
            (AssetKind::S3Bucket, "a/b"),
        ];
        for (kind, id) in bad {
            assert!(!kind.allows(id), "{kind:?} {id}");
        }
    }

    #[test]
    fn words_are_those_that_serde_writes() {
        for kind in AssetKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }

    proptest! {
        #[test]
        fn what_passes_can_be_an_argument_and_a_part_of_a_path(id in "\\PC{0,40}|[-./a-f0-9:]{0,70}|.{0,40}") {
            for kind in AssetKind::ALL {
                if kind.allows(&id) {
                    prop_assert!(!id.starts_with('-') && !id.contains(".."));
                    prop_assert!(id.is_ascii() && !id.contains(|c: char| c.is_control() || " \"'`$\\;|&<>*?".contains(c)));
                }
            }
        }
    }
}

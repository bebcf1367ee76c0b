//! Where each service answers: by partition, or where the configuration says.

use aws_config::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::failure::{Failure, FailureKind};

/// The longest name of a region that is believed.
const LONGEST_REGION: usize = 64;

/// What is known of one service before it is asked.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its name for people: `EC2`.
    pub(crate) name: &'static str,
    /// Its name in the SDK's configuration: `Service Quotas`.
    pub(crate) id: &'static str,
    /// Its name in an address: `servicequotas`.
    pub(crate) host: &'static str,
    /// Its name in signatures and permissions.
    pub(crate) prefix: &'static str,
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
}

/// How a service is spoken to.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// A form is sent, XML comes back. The version of the API.
    Query(&'static str),
    /// JSON 1.1 both ways. What stands before an operation's name.
    Json(&'static str),
    /// Paths are got, JSON comes back.
    Rest,
}

/// Where a request is sent, and for what region it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) region: String,
}

/// A partition of AWS: regions with one suffix, and one region that its IAM is signed for.
struct Partition {
    regions: &'static [&'static str],
    suffix: &'static str,
    /// For both IP versions.
    dual: Option<&'static str>,
    iam: (&'static str, &'static str),
}

/// As the SDKs' own `partitions.json` has them; the first is also that of regions that are not known yet.
const PARTITIONS: [Partition; 6] = [
    Partition {
        regions: &[],
        suffix: "amazonaws.com",
        dual: Some("api.aws"),
        iam: ("iam.amazonaws.com", "us-east-1"),
    },
    Partition {
        regions: &["cn-"],
        suffix: "amazonaws.com.cn",
        dual: Some("api.amazonwebservices.com.cn"),
        iam: ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    },
    Partition {
        regions: &["us-gov-"],
        suffix: "amazonaws.com",
        dual: Some("api.aws"),
        iam: ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
    },
    Partition {
        regions: &["us-iso-"],
        suffix: "c2s.ic.gov",
        dual: None,
        iam: ("iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    },
    Partition {
        regions: &["us-isob-"],
        suffix: "sc2s.sgov.gov",
        dual: None,
        iam: ("iam.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
    },
    Partition {
        regions: &["eusc-"],
        suffix: "amazonaws.eu",
        dual: None,
        iam: ("iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    },
];

/// Which kinds of addresses are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Only cryptography that FIPS 140 allows.
    pub(crate) fips: bool,
    /// Both IP versions.
    pub(crate) dual_stack: bool,
}

impl Endpoint {
    /// Where the configuration says, else AWS's own.
    ///
    /// An address given for all services by the program counts before one given for this service by environment or profile
    /// (`AWS_ENDPOINT_URL_EC2`), and that before one given for all there (`AWS_ENDPOINT_URL`): the SDK's own order.
    pub(crate) fn of(config: &SdkConfig, service: &Service) -> Result<Self, Failure> {
        let region = config.region().map_or("", AsRef::as_ref);
        let is_told = config.get_origin("endpoint_url").is_client_config();
        let own = if is_told { None } else { own_address(config, service) };
        let wanted = Wanted {
            fips: config.use_fips().unwrap_or(false),
            dual_stack: config.use_dual_stack().unwrap_or(false),
        };
        let mut endpoint = Self::of_aws(service, region, wanted)?;
        if let Some(url) = own.or_else(|| config.endpoint_url().map(str::to_owned)) {
            endpoint.url = checked(service, &url)?;
        }
        Ok(endpoint)
    }

    /// AWS's own.
    pub(crate) fn of_aws(service: &Service, region: &str, wanted: Wanted) -> Result<Self, Failure> {
        // It becomes a part of the address that a signed request goes to.
        let is_region = !region.is_empty()
            && region.len() <= LONGEST_REGION
            && region.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        if !is_region {
            let message = format!("{region:?} is not the name of a region");
            return Err(Failure::found(service.name, FailureKind::Invalid, message));
        }
        let [aws, others @ ..] = &PARTITIONS;
        let partition = others
            .iter()
            .find(|partition| partition.regions.iter().any(|start| region.starts_with(start)))
            .unwrap_or(aws);
        if service.host == "iam" {
            let (host, region) = partition.iam;
            let fips = wanted.fips && host == "iam.amazonaws.com";
            let host = if fips { "iam-fips.amazonaws.com" } else { host };
            return Ok(Self { url: format!("https://{host}"), region: region.to_owned() });
        }
        // In the government's regions the ordinary addresses are those of FIPS, but for keys.
        let fips = wanted.fips && (!region.starts_with("us-gov-") || service.host == "kms");
        let fips = if fips { "-fips" } else { "" };
        let suffix = partition.dual.filter(|_| wanted.dual_stack).unwrap_or(partition.suffix);
        Ok(Self {
            url: format!("https://{}{fips}.{region}.{suffix}", service.host),
            region: region.to_owned(),
        })
    }
}

/// What `AWS_ENDPOINT_URL_<SERVICE>` or the profile's `services` section says.
fn own_address(config: &SdkConfig, service: &Service) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id(service.id)
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .ok()?;
    config.service_config()?.load_config(key)
}

/// An address that requests can be sent to. It is not shown: it may hold a password.
fn checked(service: &Service, url: &str) -> Result<String, Failure> {
    let url = url.trim().trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']) => Ok(url.to_owned()),
        _ => Err(Failure::found(
            service.name,
            FailureKind::Invalid,
            "the server's address must be http://host:port or https://host, without user, query or fragment",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC2: Service = Service {
        name: "EC2",
        id: "EC2",
        host: "ec2",
        prefix: "ec2",
        protocol: Protocol::Query("2016-11-15"),
    };
    const IAM: Service = Service {
        name: "IAM",
        id: "IAM",
        host: "iam",
        prefix: "iam",
        protocol: Protocol::Query("2010-05-08"),
    };
    const KMS: Service = Service {
        name: "KMS",
        id: "KMS",
        host: "kms",
        prefix: "kms",
        protocol: Protocol::Json("TrentService"),
    };

    fn url(service: &Service, region: &str, fips: bool, dual_stack: bool) -> String {
        Endpoint::of_aws(service, region, Wanted { fips, dual_stack }).unwrap().url
    }

    #[test]
    fn each_partition_has_its_own_addresses() {
        assert_eq!(url(&EC2, "eu-central-1", false, false), "https://ec2.eu-central-1.amazonaws.com");
        assert_eq!(url(&EC2, "cn-north-1", false, false), "https://ec2.cn-north-1.amazonaws.com.cn");
        assert_eq!(url(&EC2, "us-gov-west-1", false, false), "https://ec2.us-gov-west-1.amazonaws.com");
        assert_eq!(url(&EC2, "us-iso-east-1", false, false), "https://ec2.us-iso-east-1.c2s.ic.gov");
        assert_eq!(url(&EC2, "us-isob-east-1", false, false), "https://ec2.us-isob-east-1.sc2s.sgov.gov");
        assert_eq!(url(&EC2, "xx-new-9", false, false), "https://ec2.xx-new-9.amazonaws.com");
        assert_eq!(url(&EC2, "eu-central-1", false, true), "https://ec2.eu-central-1.api.aws");
        assert_eq!(url(&EC2, "us-east-2", true, false), "https://ec2-fips.us-east-2.amazonaws.com");
        assert_eq!(url(&EC2, "us-gov-east-1", true, false), "https://ec2.us-gov-east-1.amazonaws.com");
        assert_eq!(url(&KMS, "us-gov-east-1", true, false), "https://kms-fips.us-gov-east-1.amazonaws.com");
    }

    #[test]
    fn iam_answers_at_one_place_of_a_partition_and_is_signed_for_it() {
        for (region, host, signed) in [
            ("eu-central-1", "https://iam.amazonaws.com", "us-east-1"),
            ("cn-northwest-1", "https://iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("us-gov-east-1", "https://iam.us-gov.amazonaws.com", "us-gov-west-1"),
        ] {
            let found = Endpoint::of_aws(&IAM, region, Wanted::default()).unwrap();
            assert_eq!(found, Endpoint { url: host.to_owned(), region: signed.to_owned() });
        }
    }

    #[test]
    fn a_region_cannot_lead_to_another_server() {
        for region in ["", "evil.example/#", "a.b", "eu-central-1\r\n", "EU", &"a".repeat(65)] {
            assert!(Endpoint::of_aws(&EC2, region, Wanted::default()).is_err(), "{region}");
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_and_not_shown() {
        for url in
            ["http://user:hunter2@host", "host:80", "ftp://hunter2", "https://host/?x=hunter2", "https://"]
        {
            let failure = checked(&EC2, url).unwrap_err();
            assert!(!format!("{failure} {failure:?}").contains("hunter2"), "{url}");
        }
        assert_eq!(checked(&EC2, "http://127.0.0.1:5055/").unwrap(), "http://127.0.0.1:5055");
    }
}

//! Addresses and names of Amazon SNS: taken apart strictly, compared whole, never repaired.

/// A topic's ARN, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    /// The whole ARN.
    pub(super) arn: String,
    region: String,
    partition: Partition,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Partition {
    Standard,
    China,
    UsGovernment,
}

impl Partition {
    fn domain(self) -> &'static str {
        match self {
            Self::Standard | Self::UsGovernment => "amazonaws.com",
            Self::China => "amazonaws.com.cn",
        }
    }
}

impl Topic {
    /// `arn:aws:sns:REGION:ACCOUNT:NAME`, also of the partitions `aws-cn` and `aws-us-gov`.
    pub(super) fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.split(':');
        let mut next = || parts.next();
        let (arn_word, partition, service) = (next()?, next()?, next()?);
        let (region, account, name) = (next()?, next()?, next()?);
        let partition = match partition {
            "aws" => Partition::Standard,
            "aws-cn" => Partition::China,
            "aws-us-gov" => Partition::UsGovernment,
            _ => return None,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_good = arn_word == "arn"
            && service == "sns"
            && parts.next().is_none()
            && is_region(region)
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && (1..=256).contains(&name.len())
            && name.chars().all(plain);
        is_good.then(|| Self { arn: arn.to_owned(), region: region.to_owned(), partition })
    }

    /// The host of its region.
    pub(super) fn host(&self) -> String {
        format!("sns.{}.{}", self.region, self.partition.domain())
    }

    /// Names that the certificate may have which signs its messages, as Amazon's own verifier has them.
    pub(super) fn signers(&self) -> Vec<String> {
        let (region, domain) = (&self.region, self.partition.domain());
        let mut names = vec![
            format!("sns.{domain}"),
            format!("sns.{region}.{domain}"),
            format!("sns-signing.{region}.{domain}"),
            format!("sns-{region}.{domain}"),
        ];
        if self.partition == Partition::UsGovernment {
            names.push("sns-us-gov-west-1.amazonaws.com".to_owned());
        }
        names
    }

    /// Whether this is where the certificate of its region lies: the host itself, one plain name that ends in `.pem`.
    pub(super) fn is_certificate(&self, url: &str) -> bool {
        let file = url.strip_prefix("https://").and_then(|rest| rest.strip_prefix(self.host().as_str()));
        file.and_then(|rest| rest.strip_prefix('/')).is_some_and(is_pem_name)
    }

    /// Whether this confirms a subscription to this very topic, at the host of its region.
    pub(super) fn is_confirmation(&self, url: &str, token: &str) -> bool {
        let rest = url.strip_prefix("https://").and_then(|rest| rest.strip_prefix(self.host().as_str()));
        let Some(query) = rest.and_then(|rest| rest.strip_prefix("/?").or_else(|| rest.strip_prefix('?')))
        else {
            return false;
        };
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.sort_unstable();
        let topic = format!("TopicArn={}", self.arn);
        let escaped = format!("TopicArn={}", self.arn.replace(':', "%3A"));
        let token = format!("Token={token}");
        match pairs.as_slice() {
            [action, first, second] => {
                *action == "Action=ConfirmSubscription"
                    && *first == token
                    && (*second == topic || *second == escaped)
            }
            _ => false,
        }
    }

    /// What is opened to confirm: made here, of nothing but topic and token.
    pub(super) fn confirmation(&self, token: &str) -> Option<String> {
        is_token(token).then(|| {
            let topic = self.arn.replace(':', "%3A");
            format!("https://{}/?Action=ConfirmSubscription&TopicArn={topic}&Token={token}", self.host())
        })
    }
}

/// Whether it is a token as SNS gives them.
pub(super) fn is_token(token: &str) -> bool {
    (1..=1024).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether it is an authority's own place of an intermediate certificate of Amazon's.
pub(super) fn is_intermediate(url: &str) -> bool {
    let rest = url.strip_prefix("http://crt.").and_then(|rest| rest.split_once(".amazontrust.com/"));
    rest.is_some_and(|(name, file)| {
        (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && (5..=64).contains(&file.len())
            && file.ends_with(".cer")
            && file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    })
}

/// Whether an address is one of the kinds that may be opened at all.
pub(super) fn is_pinned(url: &str) -> bool {
    if is_intermediate(url) {
        return true;
    }
    let Some((host, rest)) = url.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let region = host.strip_prefix("sns.").and_then(|host| {
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    });
    region.is_some_and(is_region) && (is_pem_name(rest) || rest.starts_with("?Action=ConfirmSubscription&"))
}

fn is_region(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (5..=32).contains(&word.len())
        && word.bytes().all(plain)
        && word.contains('-')
        && !word.starts_with('-')
        && word.ends_with(|c: char| c.is_ascii_digit())
}

fn is_pem_name(name: &str) -> bool {
    (5..=128).contains(&name.len())
        && name.ends_with(".pem")
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sns:eu-west-1:111122223333:findings";

    #[test]
    fn only_arns_of_topics_are_topics() {
        assert_eq!(Topic::parse(ARN).unwrap().host(), "sns.eu-west-1.amazonaws.com");
        let china = Topic::parse("arn:aws-cn:sns:cn-north-1:111122223333:findings").unwrap();
        assert_eq!(china.host(), "sns.cn-north-1.amazonaws.com.cn");
        for wrong in [
            "",
            "arn:aws:sqs:eu-west-1:111122223333:findings",
            "arn:aws:sns:eu-west-1:111122223333",
            "arn:aws:sns:eu-west-1:111122223333:findings:more",
            "arn:aws:sns:eu-west-1.evil.example/:111122223333:findings",
            "arn:aws:sns:eu-west-1:11112222333:findings",
            "arn:evil:sns:eu-west-1:111122223333:findings",
        ] {
            assert_eq!(Topic::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_certificate_of_its_own_region_is_taken() {
        let topic = Topic::parse(ARN).unwrap();
        let good = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";
        assert!(topic.is_certificate(good) && is_pinned(good));
        for wrong in [
            "http://sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.us-east-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com:443/a.pem",
            "https://user@sns.eu-west-1.amazonaws.com/a.pem",
            "https://sns.eu-west-1.amazonaws.com@169.254.169.254/a.pem",
            "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem",
            "https://sns.eu-west-1.amazonaws.com/a/../b.pem",
            "https://sns.eu-west-1.amazonaws.com/../a.pem",
            "https://sns.eu-west-1.amazonaws.com/a.pem?x=.pem",
            "https://sns.eu-west-1.amazonaws.com/a.pem#.pem",
            "https://sns.eu-west-1.amazonaws.com/a.txt",
            "https://SNS.eu-west-1.amazonaws.com/a.pem",
            " https://sns.eu-west-1.amazonaws.com/a.pem",
            "https://169.254.169.254/a.pem",
            "file:///etc/passwd.pem",
        ] {
            assert!(!topic.is_certificate(wrong), "{wrong}");
        }
    }

    #[test]
    fn only_a_confirmation_of_this_topic_at_its_own_host_is_one() {
        let topic = Topic::parse(ARN).unwrap();
        let good = format!(
            "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={ARN}&Token=2336412f37"
        );
        assert!(topic.is_confirmation(&good, "2336412f37"));
        assert!(topic.is_confirmation(&topic.confirmation("2336412f37").unwrap(), "2336412f37"));
        assert!(is_pinned(&topic.confirmation("2336412f37").unwrap()));
        assert!(!topic.is_confirmation(&good, "2336412f38"));
        for wrong in [
            good.replace("eu-west-1.amazonaws", "us-east-1.amazonaws"),
            good.replace("https", "http"),
            good.replace("ConfirmSubscription", "DeleteTopic"),
            good.replace("findings", "others"),
            good.replace("sns.eu-west-1.amazonaws.com", "169.254.169.254"),
            good.replace(".com/", ".com:8080/"),
            format!("{good}&Token=2"),
        ] {
            assert!(!topic.is_confirmation(&wrong, "2336412f37"), "{wrong}");
        }
        assert_eq!(topic.confirmation("a&Action=DeleteTopic"), None);
    }

    #[test]
    fn intermediates_are_amazons_own() {
        assert!(is_intermediate("http://crt.r2m01.amazontrust.com/r2m01.cer"));
        for wrong in [
            "http://crt.r2m01.amazontrust.com.evil.example/r2m01.cer",
            "http://crt.evil.example/.amazontrust.com/r2m01.cer",
            "http://crt.r2m01.amazontrust.com/../r2m01.cer/x",
            "http://crt.r2m01.amazontrust.com@169.254.169.254/r2m01.cer",
            "http://169.254.169.254/crt.r2m01.amazontrust.com/r2m01.cer",
        ] {
            assert!(!is_intermediate(wrong), "{wrong}");
        }
    }
}

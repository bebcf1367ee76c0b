//! The few addresses that a request can make this service open, each pinned, and what opens them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::sns_address;

/// For a whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotGot {
    /// The other side said no: another try gives the same.
    Refused(String),
    /// It could not be reached, or failed: another try may help.
    Failed(String),
}

impl fmt::Display for NotGot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

/// Gets what lies at an address that was pinned before.
pub trait Fetch: Send + Sync + fmt::Debug {
    /// The body of a 200, at most `most` bytes of it. No redirect is followed.
    ///
    /// # Errors
    ///
    /// [`NotGot`].
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, NotGot>;
}

/// Over the network: no redirects, 5 seconds, no environment, never to an address of this host or link.
///
/// It looks at the pins once more itself, so that no mistake elsewhere makes it a way into a network.
#[derive(Debug)]
pub struct WebFetch {
    agent: ureq::Agent,
}

impl WebFetch {
    /// With the roots of Mozilla's programme.
    pub fn new() -> Self {
        Self { agent: ureq::Agent::with_parts(config(), DefaultConnector::default(), PublicOnly::default()) }
    }
}

fn config() -> Config {
    Config::builder()
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(16 << 10)
        .user_agent(concat!("exhibit/", env!("CARGO_PKG_VERSION")))
        .proxy(None)
        .build()
}

impl Default for WebFetch {
    fn default() -> Self {
        Self::new()
    }
}

impl Fetch for WebFetch {
    fn get(&self, url: &str, most: u64) -> Result<Vec<u8>, NotGot> {
        if !sns_address::is_pinned(url) {
            return Err(NotGot::Refused("the address is none that may be opened".to_owned()));
        }
        get(&self.agent, url, most)
    }
}

fn get(agent: &ureq::Agent, url: &str, most: u64) -> Result<Vec<u8>, NotGot> {
    let mut answer = agent.get(url).call().map_err(|error| NotGot::Failed(error.to_string()))?;
    match answer.status().as_u16() {
        200 => {}
        status @ (429 | 500..) => return Err(NotGot::Failed(format!("the answer was {status}"))),
        status => return Err(NotGot::Refused(format!("the answer was {status}"))),
    }
    // ureq takes a body that reaches its limit for too long.
    let body = answer.body_mut().with_config().limit(most.saturating_add(1)).read_to_vec();
    body.map_err(|error| NotGot::Failed(error.to_string()))
}

/// Resolves names, and gives only addresses that are not this host's or link's own.
#[derive(Debug, Default)]
struct PublicOnly(DefaultResolver);

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // A private address of a TLS peer is one of an endpoint in our own network, and its certificate proves it;
        // plain HTTP proves nothing.
        let is_proven = uri.scheme_str() == Some("https");
        let mut good = self.empty();
        for address in self.0.resolve(uri, config, timeout)?.iter() {
            if may_connect(address, is_proven) {
                good.push(*address);
            }
        }
        if good.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(good) }
    }
}

/// Whether an address may be connected to for somebody else.
fn may_connect(address: &SocketAddr, is_proven: bool) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let own = ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || a == 0;
            let private = ip.is_private() || (a == 100 && (64..128).contains(&b));
            !own && (is_proven || !private)
        }
        IpAddr::V6(ip) => {
            let own =
                ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local();
            !own && (is_proven || !ip.is_unique_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_host_and_link_are_never_connected_to() {
        for ip in [
            "127.0.0.1:80",
            "169.254.169.254:80",
            "0.0.0.0:80",
            "[::1]:80",
            "[fe80::1]:80",
            "[::ffff:169.254.169.254]:80",
            "[::ffff:127.0.0.1]:443",
            "224.0.0.1:80",
        ] {
            let address: SocketAddr = ip.parse().unwrap();
            assert!(!may_connect(&address, true) && !may_connect(&address, false), "{ip}");
        }
        for ip in ["10.0.0.1:443", "192.168.1.1:443", "172.16.0.1:443", "100.64.0.1:443", "[fd00::1]:443"] {
            let address: SocketAddr = ip.parse().unwrap();
            assert!(may_connect(&address, true) && !may_connect(&address, false), "{ip}");
        }
        assert!(may_connect(&"54.239.28.85:443".parse().unwrap(), false));
    }

    /// Answers one request with this.
    fn once(answer: String) -> (std::thread::JoinHandle<()>, String) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/cert.pem", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        });
        (thread, url)
    }

    #[test]
    fn no_redirect_is_followed_and_no_long_body_is_taken() {
        // As the service's own but for the addresses, which are this host's here.
        let agent =
            ureq::Agent::with_parts(config(), DefaultConnector::default(), DefaultResolver::default());
        let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        target.set_nonblocking(true).unwrap();
        let elsewhere = format!("http://{}/", target.local_addr().unwrap());
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} X\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
            let (thread, url) = once(answer);
            assert_eq!(get(&agent, &url, 100), Err(NotGot::Refused(format!("the answer was {status}"))));
            thread.join().unwrap();
        }
        assert_eq!(target.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

        let body =
            |length| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "a".repeat(length));
        let (thread, url) = once(body(100));
        assert_eq!(get(&agent, &url, 100).unwrap().len(), 100);
        thread.join().unwrap();
        let (thread, url) = once(body(101));
        assert!(matches!(get(&agent, &url, 100), Err(NotGot::Failed(_))));
        thread.join().unwrap();
    }

    #[test]
    fn what_is_not_pinned_is_not_opened() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/cert.pem", listener.local_addr().unwrap());
        assert!(matches!(WebFetch::new().get(&url, 10), Err(NotGot::Refused(_))));
        assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

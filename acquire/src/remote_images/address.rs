//! Addresses that let whoever holds them read evidence.

use std::fmt;

/// No signed address is longer.
const LONGEST: usize = 16 << 10;

/// An address whose query is a secret: a signature that gives access to whoever has it.
///
/// Only what stands before the query is ever shown.
#[derive(Clone)]
pub struct SecretUrl {
    base: String,
    /// Without `?`; empty if there is none.
    query: String,
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretUrl").field(&self.base).finish()
    }
}

/// Why a text is no address. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnAddress(&'static str);

impl SecretUrl {
    /// Reads an address. It must be `https://`; `http://` is taken for this very machine alone, since anybody on the way
    /// could read the signature.
    ///
    /// # Errors
    ///
    /// [`NotAnAddress`], without the text itself.
    pub fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(NotAnAddress("the address is longer than any service makes them"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAnAddress(
                "the address holds a space, a line break or a letter that none can have",
            ));
        }
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = base.split_once("://").ok_or(NotAnAddress("it is no address (https://…)"))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() || path.is_empty() {
            return Err(NotAnAddress("the address names no object"));
        }
        if authority.contains('@') {
            return Err(NotAnAddress("the address holds a user name"));
        }
        if text.contains('#') {
            return Err(NotAnAddress("the address holds a # part"));
        }
        match scheme {
            "https" => {}
            "http" if is_this_machine(authority) => {}
            _ => {
                return Err(NotAnAddress(
                    "the address must be https://, so that nobody on the way can read it",
                ));
            }
        }
        Ok(Self { base: base.to_owned(), query: query.to_owned() })
    }

    /// The address without its query: what may be shown.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.base
    }

    /// Whether it has a query, which may be a secret.
    #[must_use]
    pub fn has_query(&self) -> bool {
        !self.query.is_empty()
    }

    /// A parameter of the query by its name, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
    }

    /// The whole address, with more parameters. Never to be shown.
    pub(super) fn with(&self, more: &[(&str, &str)]) -> String {
        let own = (!self.query.is_empty()).then(|| self.query.clone());
        let more = more.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        let query: Vec<String> = own.into_iter().chain(more).collect();
        if query.is_empty() { self.base.clone() } else { format!("{}?{}", self.base, query.join("&")) }
    }
}

fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let value = if byte == b'%' {
            let (high, low) = (hex(bytes.next()), hex(bytes.next()));
            high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
        } else {
            Some(byte)
        };
        out.extend(value);
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAS: &str = "https://md-x.blob.core.windows.net/c/disk.vhd?sv=2022-11-02&se=2026-11-22T00%3A00%3A00Z&sig=QUJD%2BREVG";

    #[test]
    fn the_signature_is_not_shown_and_stands_in_what_is_sent() {
        let url = SecretUrl::parse(&format!(" {SAS}\n")).unwrap();
        assert!(!format!("{url:?} {}", url.shown()).contains("QUJD"));
        assert_eq!(url.shown(), "https://md-x.blob.core.windows.net/c/disk.vhd");
        assert_eq!(url.parameter("se").unwrap(), "2026-11-22T00:00:00Z");
        let sent = url.with(&[("comp", "pagelist"), ("marker", "a b/+")]);
        assert_eq!(sent, format!("{SAS}&comp=pagelist&marker=a%20b%2F%2B"));
    }

    #[test]
    fn what_would_go_over_a_line_in_the_clear_or_is_no_address_is_refused_without_being_repeated() {
        for bad in [
            "http://md-x.blob.core.windows.net/c/d?sig=QUJD",
            "http://127.0.0.1.example.org/c/d?sig=QUJD",
            "ftp://x/y?sig=QUJD",
            "https:///d?sig=QUJD",
            "https://host?sig=QUJD",
            "https://user@host/d?sig=QUJD",
            "https://host/d?sig=QUJD#x",
            "https://host/d?sig=QUJD\r\nX: y",
            "sig=QUJD",
        ] {
            let refused = SecretUrl::parse(bad).unwrap_err();
            assert!(!refused.to_string().contains("QUJD"), "{bad}");
        }
        for good in ["http://127.0.0.1:10000/a/c/d?x=1", "http://[::1]:1/a", "http://localhost/a"] {
            assert!(SecretUrl::parse(good).is_ok(), "{good}");
        }
    }
}

//! HTTP for what is posted to time-stamp authorities and witnesses.

use std::time::Duration;

use custody::anchors::{Answer, Post};

use crate::http_agent::careful_agent;

/// Larger answers are cut off with an error: a token has 10 KiB.
const MOST_ANSWER: u64 = 1 << 20;

/// Posts over HTTP and HTTPS (rustls; the roots of Mozilla's programme), within a time for the whole exchange.
///
/// No redirect is followed, so that what was meant for one party goes to no other; an answer of more than 1 MiB is an
/// error. Nothing is read from the environment.
#[derive(Debug)]
pub struct HttpPost {
    agent: ureq::Agent,
}

impl HttpPost {
    /// Gives up on an exchange after `patience`. `proxy` is an HTTP proxy's address.
    ///
    /// # Errors
    ///
    /// [`custody::Error::Post`] when the proxy's address is none.
    pub fn new(patience: Duration, proxy: Option<&str>) -> custody::Result<Self> {
        let proxy = proxy.map(ureq::Proxy::new).transpose().map_err(|error| fault("proxy", &error))?;
        let connect = patience.min(Duration::from_secs(10));
        let config = careful_agent(patience, connect).proxy(proxy).build();
        Ok(Self { agent: config.new_agent() })
    }
}

impl Post for HttpPost {
    fn post(&self, url: &str, content_type: &str, body: &[u8]) -> custody::Result<Answer> {
        let mut answer = (self.agent.post(url).header("Content-Type", content_type).send(body))
            .map_err(|error| fault(url, &error))?;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        let content_type = kind.unwrap_or_default().to_owned();
        let body = (answer.body_mut().with_config().limit(MOST_ANSWER).read_to_vec())
            .map_err(|error| fault(url, &error))?;
        Ok(Answer { status, content_type, body })
    }
}

fn fault(url: &str, error: &ureq::Error) -> custody::Error {
    custody::Error::Post { url: url.to_owned(), why: error.to_string() }
}

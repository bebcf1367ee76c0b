//! Anchors: what vouches for a log from outside the hands of whoever keeps it.
//!
//! - [`TimeStamp`]: an RFC 3161 token over a whole checkpoint file. [`request_time_stamp`] gets one.
//! - [`Cosignature`]: a witness's signature over a checkpoint with a time (C2SP tlog-cosignature).
//! - [`Receipt`]: a checkpoint on paper.
//!
//! What must be posted goes through [`Post`]: this crate opens no connection. All that is read here comes from
//! strangers: sizes are bounded, nothing is believed before it is verified.

mod certificate;
mod cosignature;
mod der;
mod making;
mod picture;
mod public_key;
mod receipt;
mod time_stamp;
mod token;
mod witness;

pub use cosignature::Cosignature;
pub use making::{
    Asked, HOW_CHECKPOINT, HOW_COVERS, HOW_KIND, HOW_URL, HOW_WAITING_SINCE, KIND_COSIGNATURE,
    KIND_TIME_STAMP, Parties, Pending, anchor, import_anchor, pending,
};
pub use receipt::{Receipt, eight_words};
pub use time_stamp::{
    Authorities, MOST_TIME_STAMP, QUERY_TYPE, REPLY_TYPE, Stamped, TimeStamp, TimeStampRequest,
    request_time_stamp,
};
pub use witness::{CosignRequest, MOST_REQUEST, Witness, ask_witness, cosign};

pub(crate) use certificate::words_of;
pub(crate) use time_stamp::imprints;

use crate::error::Result;

/// Posts a body to an address and gives the answer.
pub trait Post: Send + Sync {
    /// Posts `body`. Any HTTP status is an answer; following redirects to other schemes is not allowed.
    ///
    /// # Errors
    ///
    /// When there is no answer in time, or it is larger than the caller can take.
    fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Answer>;
}

/// An answer to a [`Post`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type, or empty.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

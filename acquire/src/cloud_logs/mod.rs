//! Logs that cloud services deliver into a bucket: the objects of a prefix and a span of time, byte for byte, with all that the
//! store tells of them.
//!
//! - Objects are chosen by the time in their key where a layout is known (`kinds`), else by when they were written. Folders of
//!   days outside the window are not listed, and that is said.
//! - Every object becomes a file of the stream `objects`, with its metadata as extended attributes of the catalogue and as
//!   records of the tar. Its bytes are compared with the checksums that the store keeps.
//! - CloudTrail's digest files are verified as AWS documents it (`digest_chain`), with the log files that they name.
//! - Where no object tells of a time, that is said, and no more (`gaps`).

mod capture;
mod content;
mod digest_chain;
mod digest_file;
mod estimate;
mod fetch;
mod gaps;
mod inflated;
mod integrity;
mod kinds;
mod listing;
mod lookup;
mod place;
mod run;
mod trail_keys;
mod tries;
mod window;

pub use capture::{CloudLogs, CloudLogsOptions};
pub use estimate::Estimate;
pub use place::Place;
pub use window::Window;

//! Questions to a timeline: SQL, filters with facets and histograms, single events; and the formats of answers.
//!
//! Everything runs in the engine's streaming mode over the parts that the manifest lists, and answers are streams
//! of rows: memory does not grow with the timeline.

pub mod answer;
mod condition;
mod engine;
mod find;
mod merged;
mod moment;
pub mod outputs;
mod question;
mod summaries;
mod time_literals;
mod timeline;

pub use answer::{Answer, AnswerColumn, AnswerRow, Value};
pub use moment::moment;

pub use outputs::{Format, Written};
pub use question::{Bucket, Query, Undated};
pub use timeline::{DEFAULT_COLUMNS, Timeline};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_at_size;

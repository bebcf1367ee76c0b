//! The timeline on disk: rows are made, sorted in bounded memory and written as Parquet parts that a manifest lists.
//!
//! ```text
//! CASE/timeline/
//!   manifest.json                                what is here, replaced atomically and last
//!   events/exhibit=E001/<first 32 hex of SHA-256>.parquet
//!   ledger/exhibit=E001/<first 32 hex of SHA-256>.jsonl
//!   tmp/                                         runs being sorted; removed at the end and at the next start
//! ```
//!
//! Parts and ledgers are named by their content and never change. A build that stops half-way leaves the old
//! manifest, and with it the old timeline, as it was.

mod column_builders;
pub mod columns;
mod files;
pub mod ledger;
pub mod manifest;
mod parquet;
pub mod row;
pub mod runs;
mod stored_row;
mod writer;

pub use ledger::{LedgerRow, LedgerSummary};
pub use manifest::{ExhibitTimeline, Manifest, Part, StoredContext, Tool};
pub use row::{Row, RowMaker};
pub use runs::{RowSink, SortLimits, Sorter};
pub use writer::TimelineWriter;

#[cfg(test)]
pub(crate) mod made_rows;
#[cfg(test)]
mod tests;

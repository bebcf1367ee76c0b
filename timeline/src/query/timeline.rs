//! A timeline that is open for questions.

use std::path::{Path, PathBuf};

use polars::prelude::{DataFrame, HiveOptions, IntoLazy, LazyFrame, PlRefPath, ScanArgsParquet, ScanSources};
use serde_json::{Map, Value as Json};

use super::answer::Answer;
use super::condition::matching;
use super::engine::{answer, guarded, plan_sql};
use super::question::Query;
use super::{find, merged, summaries};
use crate::Error;
use crate::store::Manifest;
use crate::store::columns::{COLUMNS, column, schema};
use crate::store::ledger::Ledger;
use crate::store::manifest::Part;

/// The timeline of a case.
#[derive(Debug)]
pub struct Timeline {
    folder: PathBuf,
    manifest: Manifest,
}

/// The columns that are shown where none are named.
pub const DEFAULT_COLUMNS: [&str; 6] = ["ts", "host", "source", "user_name", "message", "event_id"];

impl Timeline {
    /// Opens the timeline in `folder` (`CASE/timeline`).
    ///
    /// # Errors
    ///
    /// [`Error::NoTimeline`] when there is none, [`Error::Damaged`] when its manifest is not what was written or
    /// a file that it lists is missing or has another size. Hashes are not checked here: that is
    /// [`Manifest::check_hashes`].
    pub fn open(folder: &Path) -> Result<Timeline, Error> {
        let manifest =
            Manifest::read(folder)?.ok_or_else(|| Error::NoTimeline { path: folder.to_owned() })?;
        manifest.check_sizes(folder)?;
        Ok(Timeline { folder: folder.to_owned(), manifest })
    }

    /// What the timeline holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The completeness ledger of an exhibit.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when the timeline does not have the exhibit, else as [`Ledger::read`].
    pub fn ledger(&self, exhibit: &str) -> Result<Ledger, Error> {
        let found = self.manifest.exhibits.get(exhibit);
        let found = found.ok_or_else(|| Error::Usage {
            what: format!("the timeline has no exhibit {exhibit:?}; it has {}", self.exhibit_list()),
        })?;
        Ledger::read(&self.folder, &found.ledger)
    }

    /// Answers one SQL query (`SELECT` or `WITH`) over the table `events`. Its rows have no order but the one
    /// that the query asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Query`] when the engine refuses it, with the list of columns where a name is unknown;
    /// [`Error::Usage`] when it is no query or reads anything but `events`.
    pub fn sql(&self, sql: &str) -> Result<Answer, Error> {
        let plan = plan_sql(self.events()?, sql)?;
        answer(plan)
    }

    /// Answers a question: events in order of time; or counts, where facets or a histogram are asked for.
    ///
    /// # Errors
    ///
    /// As [`Timeline::sql`].
    pub fn query(&self, query: &Query) -> Result<Answer, Error> {
        check_columns(query.columns.iter().chain(&query.facet))?;
        if query.histogram.is_some() || !query.facet.is_empty() {
            return answer(summaries::plan(matching(self.events()?, query, true)?, query)?);
        }
        let frames = self.exhibits().map(|parts| matching(self.frame(parts)?, query, false));
        merged::events(frames.collect::<Result<_, _>>()?, query)
    }

    /// How many events fulfil the question's conditions, and how many of them have no time.
    ///
    /// # Errors
    ///
    /// As [`Timeline::sql`].
    pub fn count(&self, query: &Query) -> Result<(u64, u64), Error> {
        summaries::count(matching(self.events()?, query, true)?)
    }

    /// The event whose id begins with `prefix`: all its columns, as JSON. `prefix` has 8 to 24 hex digits.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when it is no such prefix, when no event has it, and when several have it: then the
    /// first of them are named.
    pub fn find_event(&self, prefix: &str) -> Result<Map<String, Json>, Error> {
        let mut found = self.find_events(&[prefix.to_owned()])?;
        found.pop().ok_or_else(|| Error::Usage { what: format!("no event has the id {prefix}") })
    }

    /// The events with these ids, in the order of the ids. Whole ids cost one pass over the timeline together, a
    /// shorter prefix costs one each. All events are held at once: ask for some thousands at a time.
    ///
    /// # Errors
    ///
    /// As [`Timeline::find_event`], for the first that is not found.
    pub fn find_events(&self, prefixes: &[String]) -> Result<Vec<Map<String, Json>>, Error> {
        find::events(&self.events()?, prefixes)
    }

    /// The table `events`: all parts of all exhibits.
    fn events(&self) -> Result<LazyFrame, Error> {
        let parts: Vec<&Part> = self.exhibits().flatten().collect();
        self.frame(&parts)
    }

    fn exhibits(&self) -> impl Iterator<Item = &[Part]> {
        self.manifest.exhibits.values().map(|exhibit| exhibit.parts.as_slice())
    }

    fn frame<P: std::borrow::Borrow<Part>>(&self, parts: impl AsRef<[P]>) -> Result<LazyFrame, Error> {
        let paths: Vec<PlRefPath> = parts
            .as_ref()
            .iter()
            .map(|part| {
                let path = self.folder.join(&part.borrow().path);
                PlRefPath::try_from_path(&path).map_err(|_| Error::Usage {
                    what: format!("the query engine reads no folder whose name is not Unicode: {path:?}"),
                })
            })
            .collect::<Result<_, _>>()?;
        if paths.is_empty() {
            return Ok(DataFrame::empty_with_schema(&schema()).lazy());
        }
        let options = ScanArgsParquet {
            // The paths are names, not patterns, and the exhibit is a column of the file.
            glob: false,
            hive_options: HiveOptions { enabled: Some(false), ..HiveOptions::default() },
            cache: false,
            ..ScanArgsParquet::default()
        };
        guarded(|| LazyFrame::scan_parquet_sources(ScanSources::Paths(paths.into()), options))
    }

    fn exhibit_list(&self) -> String {
        self.manifest.exhibits.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

fn check_columns<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    match names.find(|name| column(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let all: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
            Err(Error::Usage {
                what: format!("there is no column {name:?}\nthe columns are: {}", all.join(", ")),
            })
        }
    }
}

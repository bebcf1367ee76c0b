//! The custody report: who, what, when, how, what is missing, and how to check it all without us.
//!
//! One model, made from the files of a case and nothing else: no clock, no network. The same heads of the logs give
//! the same bytes. Text that comes from evidence or people is escaped everywhere.

pub mod device_picture;
pub mod document;
mod first_document;
pub mod holder_picture;
mod model;
mod words;

use minijinja::{AutoEscape, Environment};

use crate::case::Case;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::verify::Verification;

pub use document::Document;
pub use model::Report;

const TEMPLATE: &str = include_str!("template.html");

impl Report {
    /// Collects a report from a case and what its verification found.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when a log cannot be read. What is damaged is part of the report.
    pub fn of_case(case: &Case, verification: &Verification) -> Result<Report> {
        model::collect(case, verification)
    }

    /// The report as one HTML file that needs no script, no font and no other file.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if the template fails, which no content makes it do.
    pub fn to_html(&self) -> Result<String> {
        let failed = |error: minijinja::Error| Error::Malformed { what: "report", why: format!("{error:#}") };
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        environment.add_template("report.html", TEMPLATE).map_err(failed)?;
        environment
            .get_template("report.html")
            .and_then(|template| template.render(minijinja::value::Serde(self)))
            .map_err(failed)
    }

    /// The report as one line of JSON, for programs.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it cannot be written, which no content makes it do.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::malformed("report", error.to_string()))
    }
}

/// What an entry records, in one plain sentence.
pub fn what(entry: &Entry) -> String {
    words::what(entry)
}

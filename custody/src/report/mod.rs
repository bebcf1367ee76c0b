//! The custody report: who, what, when, how, what is missing, and how to check it all without us.
//!
//! One model, made from the files of a case and nothing else: no clock, no network. From it come one [`Document`], which
//! every printed form renders, and the forms for programs. The same heads of the logs give the same bytes. Text that
//! comes from evidence or people is shown safe and short everywhere.

mod acquisition;
mod aftermath;
mod answers;
mod authority;
mod blocks;
mod case_jsonld;
mod case_nodes;
mod certificates;
mod certificates_abroad;
mod check_scripts;
mod checks;
mod completeness;
mod corrections;
mod cover;
pub mod device_picture;
pub mod document;
mod hash_table;
pub mod holder_picture;
mod holders;
mod html;
mod integrity;
mod limits;
mod lineage;
mod material;
mod model;
#[cfg(feature = "pdf")]
pub mod pdf;
mod qr;
mod questions;
mod questions_of_record;
mod text;
mod time_evidence;
mod transfers;
mod units;
mod validation;
mod words;

use crate::case::Case;
use crate::digest::sha256;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::verify::Verification;
use material::Material;
use model::Model;

pub use document::Document;
use document::Foot;

/// The report of a case.
#[derive(Debug)]
pub struct Report {
    material: Material,
    model: Model,
    /// `report.json`, whose hash names the report.
    json: String,
}

impl Report {
    /// Collects a report from a case and what its verification found.
    ///
    /// What is damaged is part of the report. Lists are bounded: what is left out is counted, and says where it can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when the folder of exhibits cannot be read.
    pub fn of_case(case: &Case, verification: &Verification) -> Result<Report> {
        let material = Material::gather(case, verification)?;
        let model = Model::of(&material);
        let json =
            serde_json::to_string(&model).map_err(|error| Error::malformed("report", error.to_string()))?;
        Ok(Report { material, model, json })
    }

    /// The report as parts of blocks, which every printed form renders.
    pub fn document(&self) -> Document {
        let exhibits: Vec<&str> = self.material.exhibits.iter().map(|x| x.id.as_str()).collect();
        let exhibits = match exhibits.as_slice() {
            [first, .., last] if exhibits.len() > 4 => format!("{first} to {last}"),
            few => few.join(", "),
        };
        let log = &self.material.log;
        let root = log.root().map(|root| root.to_string()).unwrap_or_default();
        let name = text::bounded(&self.material.case.name, 120);
        Document {
            title: "Custody report".to_owned(),
            subtitle: name,
            foot: Foot {
                case: text::bounded(&self.material.case.name, 40),
                exhibits: text::bounded(&exhibits, 60),
                report_id: self.id(),
                checkpoint: format!("size {}, root {root}", log.size()),
            },
            parts: self.model.parts.clone(),
        }
    }

    /// The report's id: the first 16 hexadecimal digits of the SHA-256 of [`Report::to_json`].
    pub fn id(&self) -> String {
        sha256(self.json.as_bytes()).to_string().chars().take(16).collect()
    }

    /// The report as one HTML file that needs no script, no font and no other file.
    pub fn to_html(&self) -> String {
        html::render(&self.document())
    }

    /// The report in CASE 1.4, as JSON-LD: every entry an action, with the exhibits, people and tools.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] if it cannot be written, which no content makes it do.
    pub fn to_case_jsonld(&self) -> Result<String> {
        case_jsonld::render(&self.material)
    }

    /// The report as one line of JSON, for programs: facts, checks, questions, and the parts as they are printed.
    pub fn to_json(&self) -> &str {
        &self.json
    }
}

/// What an entry records, in one plain sentence.
pub fn what(entry: &Entry) -> String {
    words::what(entry)
}

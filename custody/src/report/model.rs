//! The model of the report: the facts that programs want, and every part in words; `report.json` is this.

use serde::Serialize;

use super::checks::{self, Check};
use super::document::Part;
use super::material::{Log, Material};
use super::questions::{self, Question};
use super::{
    acquisition, authority, certificates, completeness, corrections, cover, hash_table, holders, integrity,
    limits, lineage, time_evidence, transfers, validation,
};
use crate::bundle::StateBytes;
use crate::digest::Digest;
use crate::verify::Verification;

/// Everything that the report says.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) format: &'static str,
    pub(super) case: CaseFacts,
    pub(super) verdict: VerdictFacts,
    pub(super) tool: String,
    pub(super) heads: Vec<HeadFacts>,
    pub(super) exhibits: Vec<ExhibitFacts>,
    pub(super) complete: bool,
    pub(super) verification: Verification,
    pub(super) checks: Vec<Check>,
    pub(super) questions: Vec<Question>,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
pub(super) struct CaseFacts {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) examiner: String,
    pub(super) organisation: String,
    pub(super) authority: String,
    pub(super) created: String,
}

#[derive(Debug, Serialize)]
pub(super) struct VerdictFacts {
    pub(super) word: String,
    pub(super) sentence: String,
    pub(super) anchors: u32,
    pub(super) faults: u64,
}

/// The head of a log that the report was made from.
#[derive(Debug, Serialize)]
pub(super) struct HeadFacts {
    pub(super) log: String,
    pub(super) folder: String,
    pub(super) origin: String,
    pub(super) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<Digest>,
    /// The signed checkpoint, whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<String>,
    /// The key that signed it, as a C2SP verifier key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vkey: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ExhibitFacts {
    pub(super) id: String,
    pub(super) folder: String,
    pub(super) verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) manifest_sha256: Option<Digest>,
    pub(super) streams: Vec<StreamFacts>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamFacts {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) chunk_root: Digest,
    pub(super) states: StateBytes,
}

impl Model {
    pub(super) fn of(m: &Material) -> Self {
        let checks = checks::checks(m);
        let questions = questions::questions(m);
        let case = &m.case;
        let verification = &m.verification;
        Self {
            format: "exhibit-report/1",
            case: CaseFacts {
                id: case.id.clone(),
                name: case.name.clone(),
                examiner: case.examiner.clone(),
                organisation: case.organisation.clone(),
                authority: case.authority.clone(),
                created: case.created.clone(),
            },
            verdict: VerdictFacts {
                word: verification.verdict.to_string(),
                sentence: verification.sentence.clone(),
                anchors: verification.verdict.anchors,
                faults: verification.fault_count,
            },
            tool: format!("exhibit {}", env!("CARGO_PKG_VERSION")),
            heads: m.logs().filter(|log| log.unread.is_none()).map(head).collect(),
            exhibits: m.exhibits.iter().map(exhibit).collect(),
            complete: completeness::is_whole(m),
            // Where the case lay when it was read is not part of what the report says.
            verification: Verification { path: String::new(), ..verification.clone() },
            parts: parts(m, &checks, &questions),
            checks,
            questions,
        }
    }
}

/// All parts, in the order they are read.
fn parts(m: &Material, checks: &[Check], questions: &[Question]) -> Vec<Part> {
    vec![
        cover::verdict(m),
        cover::summary(m),
        limits::limits(m),
        authority::authority(m),
        authority::competence(m),
        lineage::exhibits(m),
        acquisition::record(m),
        completeness::ledger(m),
        hash_table::hash_table(m),
        validation::validation(m),
        holders::timeline(m),
        transfers::transfers(m),
        time_evidence::time(m),
        integrity::integrity(m),
        checks::yourself(m, checks),
        corrections::corrections(m),
        certificates::certificates(m),
        corrections::glossary(m),
        questions::pack(questions),
    ]
}

fn head(log: &Log) -> HeadFacts {
    HeadFacts {
        log: log.name.clone(),
        folder: log.folder.clone(),
        origin: log.origin.clone(),
        size: log.size(),
        root: log.root(),
        checkpoint: log.head.as_ref().map(|head| head.note.to_text()),
        vkey: log.signer.as_ref().map(|key| key.to_vkey(&log.origin)),
    }
}

fn exhibit(x: &super::material::ExhibitMaterial) -> ExhibitFacts {
    let streams = x.streams().map(|(stream, _)| StreamFacts {
        name: stream.name.clone(),
        size: stream.size,
        sha256: stream.sha256,
        chunk_root: stream.chunk_root,
        states: stream.states,
    });
    ExhibitFacts {
        id: x.id.clone(),
        folder: x.folder.clone(),
        verdict: x.verdict(),
        kind: x.manifest.as_ref().map(|manifest| manifest.source.kind.clone()),
        manifest_sha256: x.manifest_sha256,
        streams: streams.collect(),
    }
}

//! What a command is given: a case folder, a bundle folder, or `CASE:E001`.

use std::path::{Path, PathBuf};

use custody::aftercare::{ITEM_BUNDLE, disposals};
use custody::case_layout;
use custody::{Case, Exhibit};

use crate::failure::Failure;

/// A case, or one bundle, in a case or on its own.
pub(crate) enum Target {
    /// A whole case.
    Case(Box<Case>),
    /// A bundle, and the case that it is used from.
    Bundle {
        /// The bundle's folder.
        folder: PathBuf,
        /// Its case, where it lies in one.
        case: Option<Box<Case>>,
    },
}

impl Target {
    /// Finds out what the words name.
    pub(crate) fn open(words: &str) -> Result<Target, Failure> {
        let path = Path::new(words);
        if path.is_dir() {
            if case_layout::case_file(path).is_file() {
                return Ok(Target::Case(Box::new(open_case(path)?)));
            }
            if case_layout::log(path).is_file() || path.join("manifest.json").is_file() {
                return Ok(Target::Bundle { folder: path.to_owned(), case: case_around(path) });
            }
            return Err(Failure::usage(format!("{path:?} is neither a case nor a bundle"))
                .hint("a case holds case.json, a bundle holds manifest.json and custody.jsonl"));
        }
        if let Some((case, id)) = words.rsplit_once(':') {
            let case = open_case(Path::new(case))?;
            let exhibit = exhibit_of(&case, id)?;
            return Ok(Target::Bundle { folder: exhibit.folder, case: Some(Box::new(case)) });
        }
        Err(Failure::usage(format!("there is no case or bundle at {path:?}"))
            .hint("make a case with `exhibit init CASE --name NAME --examiner YOU`"))
    }

    /// The case that the act belongs to.
    pub(crate) fn case(&self) -> Option<&Case> {
        match self {
            Target::Case(case) => Some(case),
            Target::Bundle { case, .. } => case.as_deref(),
        }
    }

    /// The folder whose log custody commands write to.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Target::Case(case) => case.folder(),
            Target::Bundle { folder, .. } => folder,
        }
    }
}

/// Opens the case in a folder.
pub(crate) fn open_case(path: &Path) -> Result<Case, Failure> {
    if !case_layout::case_file(path).is_file() {
        return Err(Failure::usage(format!("there is no case at {path:?}"))
            .hint("make one with `exhibit init CASE --name NAME --examiner YOU`"));
    }
    Ok(Case::open(path)?)
}

/// The exhibit of that id, or a usage error that lists those there are.
pub(crate) fn exhibit_of(case: &Case, id: &str) -> Result<Exhibit, Failure> {
    let exhibits = case.exhibits()?;
    let known: Vec<String> = exhibits.iter().map(|exhibit| exhibit.id.clone()).collect();
    exhibits.into_iter().find(|exhibit| exhibit.id.eq_ignore_ascii_case(id)).ok_or_else(|| {
        let gone = case.log().read().map(|log| disposals(&log.entries)).unwrap_or_default();
        let gone = gone.into_iter().rfind(|gone| {
            gone.exhibit.as_deref().is_some_and(|gone| gone.eq_ignore_ascii_case(id))
                && gone.item == ITEM_BUNDLE
        });
        if let Some(gone) = gone {
            let words =
                format!("{id} is not in the case {:?}: entry {} disposed of it", case.folder(), gone.seq);
            let hint = gone.record.map(|record| format!("its custody record is kept in {record}"));
            return hint.into_iter().fold(Failure::usage(words), Failure::hint);
        }
        let there = if known.is_empty() {
            "it has none yet".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        Failure::usage(format!("the case {:?} has no exhibit {id:?}: {there}", case.folder()))
    })
}

/// The case whose `exhibits/` folder holds this bundle.
fn case_around(bundle: &Path) -> Option<Box<Case>> {
    let bundle = bundle.canonicalize().ok()?;
    let exhibits = bundle.parent()?;
    let case = exhibits.parent()?;
    (case_layout::exhibits(case) == exhibits).then(|| Case::open(case).ok().map(Box::new))?
}

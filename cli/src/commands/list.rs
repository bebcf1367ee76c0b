//! `exhibit list`: the exhibits of a case.

use std::path::PathBuf;

use custody::aftercare::{Day, Disposal, ITEM_BUNDLE, RetentionState, Rules, disposals};
use custody::bundle::{Bundle, RemotePlace};
use custody::clock::Clock as _;
use custody::verify::{self, Options};
use custody::{Case, Entry, EntryType};
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::{target, ui};

/// List the exhibits of a case: size, hash, verdict, retention
///
/// The verdict is that of the exhibit's custody log and of what it says is sealed; `exhibit verify` checks every byte.
///
/// Example: exhibit list ir-2026-017
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The case
    case: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let mut documents = Vec::new();
    let mut rows = Vec::new();
    let life = Life::of(&case, session)?;
    for exhibit in case.exhibits()? {
        let folder = exhibit.folder.display().to_string();
        let bundle = Bundle::open(&exhibit.folder);
        // A place that cannot be read is for `verify` to tell.
        let place = RemotePlace::read(&exhibit.folder).ok().flatten().map(|place| place.to_string());
        let log = verify::verify_log(&exhibit.folder, &Options::default());
        let (verdict, name, kind, size, sha256, why) = match &bundle {
            Ok(bundle) => {
                let manifest = bundle.manifest();
                let size: u64 = manifest.streams.iter().map(|stream| stream.size).sum();
                let sha256 =
                    manifest.streams.first().map(|stream| stream.sha256.to_string()).unwrap_or_default();
                let verdict = log.map_or_else(|_| "BROKEN".to_owned(), |log| log.verdict.to_string());
                (verdict, manifest.name.clone(), manifest.source.kind.clone(), Some(size), sha256, None)
            }
            Err(error) => {
                let open = matches!(error, custody::bundle::Error::NotSealed { .. });
                let verdict = if open { "OPEN" } else { "BROKEN" }.to_owned();
                (verdict, String::new(), String::new(), None, String::new(), Some(chain(error)))
            }
        };
        rows.push(vec![
            exhibit.id.clone(),
            name.clone(),
            kind.clone(),
            size.map(ui::bytes).unwrap_or_default(),
            sha256.get(..16).map(|start| format!("{start}…")).unwrap_or_default(),
            why.clone().map_or_else(|| verdict.clone(), |why| format!("{verdict}: {why}")),
        ]);
        documents.push(json!({
            "id": exhibit.id, "name": name, "kind": kind, "size": size, "sha256": sha256, "log_verdict": verdict,
            "folder": folder, "data_at": place, "error": why, "retention": life.retention(&exhibit.id), "disposed": life.disposed(&exhibit.id),
        }));
    }
    for (id, name, gone) in life.gone(&case)? {
        let when = gone.time.get(..10).unwrap_or(&gone.time);
        let words = format!("DISPOSED OF {when} (entry {})", gone.seq);
        rows.push(vec![id.clone(), name.clone(), String::new(), String::new(), String::new(), words]);
        documents.push(json!({
            "id": id, "name": name, "kind": "", "size": null, "sha256": "", "log_verdict": gone.verdict,
            "folder": gone.record, "error": null, "retention": null, "disposed": gone,
        }));
    }
    if session.ui.is_json() {
        session.ui.document(&documents.into())?;
    } else if rows.is_empty() {
        session.ui.say("the case has no exhibit yet");
    } else {
        session.ui.table(&["id", "name", "kind", "size", "sha-256", "log"], rows)?;
        for exhibit in case.exhibits()? {
            if let Ok(Some(place)) = RemotePlace::read(&exhibit.folder) {
                session
                    .ui
                    .data(&ui::printable(&format!("{}  its data lies at {place}", exhibit.id), false))?;
            }
            for words in life.words(&exhibit.id) {
                session.ui.data(&ui::printable(&format!("{}  {words}", exhibit.id), false))?;
            }
        }
        for (id, _, gone) in life.gone(&case)? {
            session.ui.data(&ui::printable(&format!("{id}  was {}", gone.words()), false))?;
        }
    }
    Ok(Outcome::Done)
}

/// What the case's log says of how long its exhibits are kept, and which are gone.
struct Life {
    rules: Rules,
    entries: Vec<Entry>,
    disposals: Vec<Disposal>,
    today: Day,
}

impl Life {
    fn of(case: &Case, session: &Session) -> Result<Life, Failure> {
        // A log that cannot be read is for `verify` to tell; the exhibits are listed all the same.
        let entries = match case.log().read() {
            Ok(log) => log.entries,
            Err(error) => {
                session.ui.warn(&format!("retention and disposals are not shown: {}", chain(&error)));
                Vec::new()
            }
        };
        let mut disposals = disposals(&entries);
        disposals.retain(|gone| gone.item == ITEM_BUNDLE);
        Ok(Life {
            rules: Rules::of(&entries),
            disposals,
            entries,
            today: Day::of_moment(&session.clock.now())?,
        })
    }

    fn disposed(&self, id: &str) -> Option<&Disposal> {
        self.disposals.iter().rfind(|gone| gone.exhibit.as_deref() == Some(id))
    }

    fn retention(&self, id: &str) -> Value {
        let keeping = self.rules.keeping(id);
        json!({
            "state": keeping.state(self.today), "until": keeping.until(), "review_due": keeping.review_due(self.today),
            "rules": keeping.rules,
        })
    }

    /// Exhibits that are no longer there, with their names, by id.
    fn gone(&self, case: &Case) -> Result<Vec<(String, String, &Disposal)>, Failure> {
        let there = case.exhibits()?;
        let added = self.entries.iter().filter(|entry| entry.kind == EntryType::EXHIBIT_ADDED);
        let gone = added.filter_map(|entry| {
            let id = entry.about.exhibit.clone()?;
            let gone = self.disposed(&id).filter(|_| there.iter().all(|exhibit| exhibit.id != id))?;
            Some((id, entry.how_text("name").unwrap_or_default().to_owned(), gone))
        });
        Ok(gone.collect())
    }

    /// What somebody must know of an exhibit that is there, one line each.
    fn words(&self, id: &str) -> Vec<String> {
        let keeping = self.rules.keeping(id);
        let rules: Vec<String> =
            keeping.rules.iter().map(|rule| format!("{} (entry {})", rule.words(), rule.seq)).collect();
        let rules = rules.join(" and ");
        let mut words = Vec::new();
        if let Some(gone) = self.disposed(id) {
            words.push(format!("STILL HERE, though entry {} disposed of it", gone.seq));
        }
        words.extend(match keeping.state(self.today) {
            RetentionState::NotSet => None,
            RetentionState::Kept | RetentionState::AwaitsEvent => Some(format!("is kept {rules}")),
            RetentionState::Due => Some(format!("DUE within 30 days: is kept {rules}")),
            RetentionState::Overdue => Some(format!("OVERDUE: was to be kept {rules}")),
        });
        if let Some(day) = keeping.review_due(self.today) {
            words.push(format!("REVIEW DUE since {day}"));
        }
        words
    }
}

//! One run over the objects of a list: read, compare, pack, and say what is missing.

use std::collections::BTreeMap;

use custody::strict_json::{escape_text, to_line};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::content::{Ahead, ObjectContent};
use super::digest_chain::{DigestChains, DigestCounts, Inside};
use super::fetch::{Bucket, First};
use super::gaps::Gaps;
use super::inflated::Inflated;
use super::integrity::{Headers, compared_by};
use super::kinds::{CLOUDTRAIL, DIGEST, Known, know};
use super::listing::{Found, Listed};
use super::place::path_of;
use super::trail_keys::Since;
use super::tries::words;
use super::window::Window;
use crate::aws::cloudtrail::CloudTrail;
use crate::aws::{Connection, Failure, FailureKind};
use crate::error::{Error, Result};
use crate::source::Issue;
use crate::tar_packer::{Object, TarPacker};
use crate::triage::spool::Spool;

/// Objects that fail one after the other because nothing answers, before the rest is given up.
const MOST_SILENT: u32 = 10;

/// Places that are not listed, as the summary names them; all are counted.
const MOST_UNLISTED: usize = 1000;

/// Chains that the manifest names; all are in the summary of the stream.
const MOST_IN_MANIFEST: usize = 20;

/// What goes from the list to the reader.
pub(super) enum Step {
    Found(Found, Window),
    /// The list could not be begun.
    Failed(Failure),
    End {
        lists: u64,
    },
}

/// What was taken and what was not.
#[derive(Debug, Default)]
struct Counts {
    taken: u64,
    bytes: u64,
    unread: u64,
    not_taken: u64,
    lists: u64,
    not_listed: u64,
    unlisted: Vec<Value>,
    layouts: BTreeMap<&'static str, (u64, u64)>,
    compared: BTreeMap<&'static str, u64>,
    is_cut: bool,
}

/// One run over the list.
pub(super) struct Run {
    connection: Connection,
    bucket: Bucket,
    name: String,
    chains: DigestChains,
    gaps: Gaps,
    counts: Counts,
    /// Objects that failed one after the other because nothing answered.
    silent: u32,
    /// The present second.
    now: i64,
}

impl Run {
    pub(super) fn new(
        connection: &Connection,
        bucket: &str,
        window: Window,
        chains: DigestChains,
        now: i64,
    ) -> Self {
        Self {
            connection: connection.clone(),
            bucket: Bucket::new(&connection.s3(), bucket),
            name: bucket.to_owned(),
            chains,
            gaps: Gaps::new(window),
            counts: Counts::default(),
            silent: 0,
            now,
        }
    }

    /// Goes through the whole list; gives what is known after it.
    pub(super) fn all(
        mut self,
        packer: &mut TarPacker<'_>,
        mut steps: Receiver<Step>,
        spool: Spool,
    ) -> Result<Map<String, Value>> {
        let mut ahead = Ahead::new(&self.connection, &self.bucket);
        let mut is_listed = false;
        loop {
            while !is_listed && ahead.has_room() {
                // What is on its way is waited for only if nothing else can be done.
                let step = match steps.try_recv() {
                    Ok(step) => Some(step),
                    Err(TryRecvError::Empty) if !ahead.is_empty() => break,
                    Err(_) => steps.blocking_recv(),
                };
                match step {
                    Some(Step::Found(Found::Object(listed), window)) => {
                        if listed.is_chosen(&know(&listed.key), &window) {
                            ahead.ask(listed);
                        } else {
                            self.counts.not_taken += 1;
                        }
                    }
                    Some(Step::Found(Found::Unlisted { keys, why }, _)) => {
                        self.counts.not_listed += 1;
                        if self.counts.unlisted.len() < MOST_UNLISTED {
                            self.counts
                                .unlisted
                                .push(json!({"keys": escape_text(keys.as_bytes()), "why": why}));
                        }
                    }
                    Some(Step::Found(Found::Trouble { key, what }, _)) => {
                        self.cut();
                        self.note(packer, &key, &what);
                    }
                    Some(Step::Failed(failure)) => return Err(Error::Cloud(failure)),
                    Some(Step::End { lists }) => (is_listed, self.counts.lists) = (true, lists),
                    None => {
                        is_listed = true;
                        self.cut();
                        self.note(packer, "", "the list of objects broke off: what follows is not acquired");
                    }
                }
            }
            let Some((listed, first)) = ahead.next() else { break };
            if let Err(why) = self.object(packer, &listed, first)? {
                let what = format!("this object and all that follow it were not acquired: {why}");
                self.cut();
                self.note(packer, &listed.key, &what);
                break;
            }
        }
        drop((ahead, steps));
        self.end(packer, spool)
    }

    /// Says that a part of what should be here is not.
    fn cut(&mut self) {
        self.counts.is_cut = true;
        self.chains.list_is_cut();
    }

    fn note(&self, packer: &mut TarPacker<'_>, key: &str, what: &str) {
        let path = escape_text(&path_of(&self.name, key));
        packer.issues().add(Issue { path, offset: None, length: None, what: escape_text(what.as_bytes()) });
    }

    /// Packs one object. The inner error says why no other one can be read either.
    fn object(
        &mut self,
        packer: &mut TarPacker<'_>,
        listed: &Listed,
        first: std::result::Result<First, Failure>,
    ) -> Result<std::result::Result<(), String>> {
        let (key, path) = (listed.key.as_str(), path_of(&self.name, &listed.key));
        let known = know(key);
        let (headers, inside) = match first {
            Ok(first) => {
                self.silent = 0;
                self.store(packer, listed, &known, &path, first)?
            }
            Err(failure) => {
                let is_silent = matches!(
                    failure.kind,
                    FailureKind::Connection | FailureKind::Server | FailureKind::Throttled
                );
                self.silent = if is_silent { self.silent + 1 } else { 0 };
                if failure.kind == FailureKind::Credentials || self.silent > MOST_SILENT {
                    return Ok(Err(failure.to_string()));
                }
                let what = format!("not acquired: {}", words(&failure, &self.name, key));
                let object = Object {
                    path: &path,
                    mtime: listed.modified,
                    size: 0,
                    attributes: self.attributes(listed, &Headers::default()),
                    errors: vec![escape_text(what.as_bytes())],
                };
                packer.object(&object, None)?;
                self.note(packer, key, &what);
                self.counts.unread += 1;
                (Headers::default(), Err("it could not be read".to_owned()))
            }
        };
        self.gaps.object(&known);
        let (connection, now) = (self.connection.clone(), self.now);
        self.chains.object(&known, key, inside, &headers, &mut |region, span| {
            ask_for_keys(&connection, region, span, now)
        });
        self.tell_faults(packer);
        Ok(Ok(()))
    }

    fn store(
        &mut self,
        packer: &mut TarPacker<'_>,
        listed: &Listed,
        known: &Known<'_>,
        path: &[u8],
        first: First,
    ) -> Result<(Headers, Inside)> {
        let headers = first.headers.clone();
        let object = Object {
            path,
            mtime: listed.modified,
            size: first.size,
            attributes: self.attributes(listed, &headers),
            errors: Vec::new(),
        };
        let is_digest = known.layout == &DIGEST;
        let inflated = (is_digest || known.layout == &CLOUDTRAIL).then(|| Inflated::new(is_digest));
        let mut content = ObjectContent::new(&self.connection, &self.bucket, &listed.key, first, inflated);
        packer.object(&object, Some(&mut content))?;
        self.counts.taken += 1;
        self.counts.bytes = self.counts.bytes.saturating_add(object.size);
        let layout = self.counts.layouts.entry(known.layout.name).or_default();
        *layout = (layout.0 + 1, layout.1.saturating_add(object.size));
        *self.counts.compared.entry(compared_by(&headers)).or_default() += 1;
        let inside = content.unpacked().unwrap_or_else(|| Err("it is not looked into".to_owned()));
        Ok((headers, inside))
    }

    /// What the store tells of an object, under names that say so.
    fn attributes(&self, listed: &Listed, headers: &Headers) -> Vec<(String, String)> {
        let own = [
            ("bucket", Some(self.name.clone())),
            ("key", Some(listed.key.clone())),
            ("listed-etag", listed.etag.clone()),
            ("listed-size", Some(listed.size.to_string())),
            ("listed-storage-class", listed.class.clone()),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let told = headers
            .iter()
            .filter(|(name, _)| *name != "content-length")
            .map(|(name, value)| (name, value.to_owned()));
        own.chain(told).map(|(name, value)| (format!("user.s3.{name}"), value)).collect()
    }

    fn tell_faults(&mut self, packer: &mut TarPacker<'_>) {
        for (key, what) in self.chains.take_faults() {
            self.note(packer, &key, &what);
        }
    }

    /// Packs what was found out about all of them.
    fn end(mut self, packer: &mut TarPacker<'_>, mut spool: Spool) -> Result<Map<String, Value>> {
        let chains = self.chains.finish(self.now);
        self.tell_faults(packer);
        for (name, bytes) in self.chains.keys().answers() {
            packer.made(&format!("_cloud-logs/cloudtrail-public-keys/{name}"), bytes)?;
        }
        let gaps = self.gaps.finish(self.now);
        for gap in &gaps.gaps {
            let line = to_line(&gap.row()).map_err(Error::Custody)?;
            if !spool.add(line.as_bytes()) || !spool.add(b"\n") {
                break;
            }
        }
        if gaps.count > 0 {
            spool.store("_cloud-logs/gaps.jsonl", packer)?;
        }
        let mut facts = self.counts.facts();
        facts.insert("gaps".to_owned(), gaps.count.into());
        facts.insert("senders".to_owned(), gaps.series.len().into());
        if gaps.unfollowed > 0 {
            facts.insert("objects_of_senders_not_followed".to_owned(), gaps.unfollowed.into());
        }
        let digests = self.chains.counts();
        if digests != DigestCounts::default() {
            facts.insert("cloudtrail".to_owned(), digest_facts(&digests));
        }
        let mut summary = facts.clone();
        summary.insert("chains".to_owned(), chains.clone().into());
        summary.insert("not_listed_keys".to_owned(), self.counts.unlisted.clone().into());
        summary.insert("series".to_owned(), gaps.series.into());
        let mut text = to_line(&Value::Object(summary)).map_err(Error::Custody)?;
        text.push('\n');
        packer.made("_cloud-logs/summary.json", text.as_bytes())?;
        if !chains.is_empty() {
            facts.insert("chains".to_owned(), chains.into_iter().take(MOST_IN_MANIFEST).collect());
        }
        Ok(facts)
    }
}

impl Counts {
    fn facts(&self) -> Map<String, Value> {
        let layouts = self.layouts.iter();
        let layouts = layouts.map(|(name, (objects, bytes))| {
            ((*name).to_owned(), json!({"bytes": bytes, "objects": objects}))
        });
        let compared = self.compared.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count)));
        let mut facts = Map::from_iter([
            ("compared_by".to_owned(), Value::Object(compared.collect())),
            ("layouts".to_owned(), Value::Object(layouts.collect())),
            ("list_is_whole".to_owned(), (!self.is_cut).into()),
        ]);
        for (name, count) in [
            ("objects", self.taken),
            ("object_bytes", self.bytes),
            ("objects_unread", self.unread),
            ("objects_outside_the_time", self.not_taken),
            ("lists", self.lists),
            ("folders_not_listed", self.not_listed),
        ] {
            facts.insert(name.to_owned(), count.into());
        }
        facts
    }
}

fn digest_facts(counts: &DigestCounts) -> Value {
    json!({
        "digests": counts.digests, "digests_signed": counts.signed, "digests_not_signed": counts.not_signed,
        "digests_not_checked": counts.unchecked, "logs_right": counts.logs_right,
        "logs_right_by_unverified_digest": counts.logs_right_unsigned, "logs_changed": counts.logs_changed,
        "logs_missing": counts.logs_missing, "logs_in_no_digest": counts.logs_in_no_digest,
        "logs_at_times_without_digest": counts.logs_not_covered, "logs_named_outside": counts.logs_outside,
        "logs_unread": counts.logs_unread,
    })
}

/// Asks CloudTrail for the keys of a region; `now` is the present second.
fn ask_for_keys(
    connection: &Connection,
    region: &str,
    (since, until): Since,
    now: i64,
) -> std::result::Result<Vec<Vec<u8>>, Failure> {
    let client = CloudTrail::new(&connection.in_region(region))?;
    let answers = client.list_public_keys(since, until.filter(|until| *until < now))?;
    Ok(answers.into_iter().map(|answer| answer.bytes).collect())
}

//! CloudTrail's chain of digest files: signatures, links from each to the one before, and the log files that they name.
//!
//! Digest files come before the log files of their account, since that is the order of their keys. What is held at a time is
//! what one account's digest files name.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::btree_map::Entry;

use custody::Digest;
use custody::strict_json::escape_text;
use serde_json::{Value, json};

use super::digest_file::DigestFile;
use super::inflated::Unpacked;
use super::integrity::Headers;
use super::kinds::{CLOUDTRAIL, DIGEST, Known, know};
use super::trail_keys::{AskForKeys, Since, TrailKeys, is_signed};
use super::window::{Window, text};

/// Log files of one account that are held at a time: about 250 bytes each.
const MOST_NAMED: usize = 500_000;

/// A log file that was delivered so shortly before the end of the last digest may stand in the next one.
const LATE: i64 = 3600;

/// A fault of one object: its key and what is wrong.
pub(super) type Fault = (String, String);

/// How many of what were found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DigestCounts {
    pub(super) digests: u64,
    pub(super) signed: u64,
    pub(super) not_signed: u64,
    /// Those whose key could not be had.
    pub(super) unchecked: u64,
    pub(super) logs_right: u64,
    /// Their hash is right, but the digest that says so is not verified.
    pub(super) logs_right_unsigned: u64,
    pub(super) logs_changed: u64,
    pub(super) logs_missing: u64,
    pub(super) logs_in_no_digest: u64,
    /// Delivered at a time that no digest here tells of.
    pub(super) logs_not_covered: u64,
    /// Named by a digest, but outside what was asked for.
    pub(super) logs_outside: u64,
    /// Listed, but they could not be read.
    pub(super) logs_unread: u64,
}

/// The digests of one trail in one region.
#[derive(Debug)]
struct Chain {
    /// The first digest's start, and the last one's end.
    span: (i64, i64),
    /// Spans without a hole between them.
    covered: Vec<(i64, i64)>,
    region: String,
    account: String,
    is_backfill: bool,
    digests: u64,
    signed: u64,
    faults: u64,
    /// What the first one names as the one before it.
    before: Option<String>,
    last: Last,
}

/// The digest that came last.
#[derive(Debug)]
struct Last {
    key: String,
    /// Its hash and signature; `None` if it could not be read.
    read: Option<(Digest, Option<String>)>,
    end: Option<i64>,
}

/// A log file that a digest names.
#[derive(Debug)]
struct Named {
    sha256: Option<Digest>,
    is_signed: bool,
    is_seen: bool,
}

/// What is known of all chains so far.
pub(super) struct DigestChains {
    bucket: String,
    /// Below which log files and digest files were listed, and of which time.
    logs: (String, Window),
    digests: (String, Window),
    keys: TrailKeys,
    chains: BTreeMap<String, Chain>,
    account: String,
    named: HashMap<String, Named>,
    /// Log files that were named beyond what is held.
    unheld: u64,
    counts: DigestCounts,
    /// Whether the whole list of the prefix was read.
    is_list_whole: bool,
    faults: Vec<Fault>,
}

/// What could be read of an object.
pub(super) type Inside = Result<Unpacked, String>;

impl DigestChains {
    /// For log files and digest files below these prefixes and of these times.
    pub(super) fn new(
        bucket: &str,
        logs: (String, Window),
        digests: (String, Window),
        keys: TrailKeys,
    ) -> Self {
        Self {
            bucket: bucket.to_owned(),
            logs,
            digests,
            keys,
            chains: BTreeMap::new(),
            account: String::new(),
            named: HashMap::new(),
            unheld: 0,
            counts: DigestCounts::default(),
            is_list_whole: true,
            faults: Vec::new(),
        }
    }

    /// Says that a part of the list is missing, so that what was not seen may be there all the same.
    pub(super) fn list_is_cut(&mut self) {
        self.is_list_whole = false;
    }

    pub(super) fn counts(&self) -> DigestCounts {
        self.counts
    }

    pub(super) fn keys(&self) -> &TrailKeys {
        &self.keys
    }

    /// Takes away the faults that were found since the last time.
    pub(super) fn take_faults(&mut self) -> Vec<Fault> {
        std::mem::take(&mut self.faults)
    }

    fn fault(&mut self, key: &str, what: impl Into<String>) {
        self.faults.push((key.to_owned(), what.into()));
    }

    /// Told of each digest and log file, read or not, in the order of the list.
    pub(super) fn object(
        &mut self,
        known: &Known<'_>,
        key: &str,
        inside: Inside,
        headers: &Headers,
        ask: &mut AskForKeys<'_>,
    ) {
        if known.layout != &DIGEST && known.layout != &CLOUDTRAIL {
            return;
        }
        if self.account != known.account {
            self.end_account();
            known.account.clone_into(&mut self.account);
        }
        if known.layout == &DIGEST {
            self.digest(known, key, inside, headers, ask);
        } else {
            self.log(known, key, &inside);
        }
    }

    fn digest(
        &mut self,
        known: &Known<'_>,
        key: &str,
        inside: Inside,
        headers: &Headers,
        ask: &mut AskForKeys<'_>,
    ) {
        self.counts.digests += 1;
        let is_backfill = key.ends_with("_backfill.json.gz");
        let chain =
            format!("{}{}{}", known.series.0, known.series.1, if is_backfill { "backfill" } else { "" });
        let read = inside.and_then(|inside| DigestFile::read(&inside.bytes, headers));
        let before_faults = self.faults.len();
        let mut is_valid = false;
        match &read {
            Ok(file) => {
                is_valid = self.check_signature(known, key, file, ask);
                self.check_place(key, file);
                self.check_link(&chain, key, file);
                self.take_names(file, is_valid);
            }
            Err(why) => self.fault(key, format!("CloudTrail digest file that cannot be checked: {why}")),
        }
        let faults = self.faults.len().saturating_sub(before_faults) as u64;
        let last = Last {
            key: key.to_owned(),
            read: read.as_ref().ok().map(|file| (file.sha256, file.signature.clone())),
            end: read.as_ref().ok().map(|file| file.span.1),
        };
        let span = read.as_ref().ok().map(|file| file.span);
        let chain = match self.chains.entry(chain) {
            Entry::Occupied(chain) => {
                let chain = chain.into_mut();
                chain.last = last;
                chain
            }
            Entry::Vacant(place) => place.insert(Chain {
                span: span.unwrap_or_else(|| known.time.unwrap_or_default()),
                covered: Vec::new(),
                region: known.region.to_owned(),
                account: known.account.to_owned(),
                is_backfill,
                digests: 0,
                signed: 0,
                faults: 0,
                before: read.ok().and_then(|file| file.previous_digest_s3_object),
                last,
            }),
        };
        chain.digests += 1;
        chain.signed += u64::from(is_valid);
        chain.faults += faults;
        if let Some((start, end)) = span {
            chain.span = (chain.span.0.min(start), chain.span.1.max(end));
            match chain.covered.last_mut() {
                Some(run) if run.1 == start => run.1 = end,
                _ => chain.covered.push((start, end)),
            }
        }
    }

    fn check_signature(
        &mut self,
        known: &Known<'_>,
        key: &str,
        file: &DigestFile,
        ask: &mut AskForKeys<'_>,
    ) -> bool {
        let Some(signature) = file.signature_bytes() else {
            self.counts.not_signed += 1;
            self.fault(key, "CloudTrail digest file without a signature in its metadata: nothing shows that CloudTrail made it");
            return false;
        };
        // A region's digests are signed by a key of that region; the trail's own one stands before the time.
        let home = known.series.1.trim_end_matches('_').rsplit('_').next().unwrap_or_default();
        let regions = if home == known.region { vec![known.region] } else { vec![known.region, home] };
        let span = self.time_of_keys(file.span);
        let fingerprint = file.digest_public_key_fingerprint.as_str();
        let Some(public) = self.keys.find(fingerprint, &regions, span, ask) else {
            self.counts.unchecked += 1;
            let why = self.keys.why_not(fingerprint, &regions);
            self.fault(key, format!("the signature of this CloudTrail digest file is not checked: {why}"));
            return false;
        };
        let is_valid = is_signed(public, file.signed_text().as_bytes(), &signature);
        if is_valid {
            self.counts.signed += 1;
        } else {
            self.counts.not_signed += 1;
            self.fault(
                key,
                "CloudTrail digest file whose signature does not verify: it is not what CloudTrail signed",
            );
        }
        is_valid
    }

    /// The time for which a region's keys are asked for, once: that of the digests, and of this one at least.
    fn time_of_keys(&self, span: (i64, i64)) -> Since {
        let Window { since, until } = self.digests.1;
        let from = since.map_or(span.0, |since| since.min(span.0));
        (from, until.map(|until| until.saturating_add(DIGEST.before).max(span.1)))
    }

    fn check_place(&mut self, key: &str, file: &DigestFile) {
        if file.digest_s3_bucket != self.bucket || file.digest_s3_object != key {
            let (bucket, object) = (
                escape_text(file.digest_s3_bucket.as_bytes()),
                escape_text(file.digest_s3_object.as_bytes()),
            );
            self.fault(
                key,
                format!("CloudTrail digest file that was delivered to s3://{bucket}/{object}, not to here"),
            );
        }
    }

    /// Compares a digest with the one before it.
    fn check_link(&mut self, chain: &str, key: &str, file: &DigestFile) {
        let previous = file.previous_digest_s3_object.as_deref();
        let shown = |key: &str| escape_text(key.as_bytes());
        let mut faults = Vec::new();
        match (self.chains.get(chain), previous) {
            (None, None) => {}
            (None, Some(previous)) => {
                // Of the first one here, the one before is expected only where it would have been taken.
                let expected = know(previous);
                let is_asked_for = previous.starts_with(&self.digests.0)
                    && expected.time.is_some_and(|time| expected.layout.may_hold(time, &self.digests.1));
                let is_here = file.previous_digest_s3_bucket.as_ref().is_none_or(|bucket| *bucket == self.bucket);
                if is_asked_for && is_here && self.is_list_whole {
                    faults.push(format!("the digest file before this one, {}, is not there: removed, or expired by a rule of the bucket", shown(previous)));
                }
            }
            (Some(known), None) if !known.is_backfill => {
                faults.push(format!(
                    "the chain of digest files begins anew here: between the end of the one before ({}) and {} no digest file tells of what was delivered; logging or validation may have been off",
                    known.last.end.map_or_else(|| "unknown".to_owned(), text),
                    text(file.span.0)
                ));
            }
            (Some(_), None) => {}
            (Some(known), Some(previous)) if previous != known.last.key => {
                faults.push(format!(
                    "the digest file before this one should be {}, which is not there (removed, or it could not be listed); the one that is there is {}",
                    shown(previous),
                    shown(&known.last.key)
                ));
            }
            (Some(known), Some(_)) => match &known.last.read {
                None => faults.push("its link to the digest file before it cannot be checked, since that one could not be read".to_owned()),
                Some((sha256, signature)) => {
                    let told: Option<Digest> = file.previous_digest_hash_value.as_ref().and_then(|hash| hash.to_ascii_lowercase().parse().ok());
                    if told != Some(*sha256) {
                        faults.push(format!("the digest file before this one, {}, is not the one that it was made after: its hash differs", shown(&known.last.key)));
                    } else if file.previous_digest_signature != *signature {
                        faults.push(format!("the digest file before this one, {}, has another signature than it had then", shown(&known.last.key)));
                    }
                    if let Some(end) = known.last.end.filter(|end| *end != file.span.0 && !known.is_backfill) {
                        faults.push(format!("no digest file tells of what was delivered from {} to {}", text(end), text(file.span.0)));
                    }
                }
            },
        }
        for fault in faults {
            self.fault(key, fault);
        }
    }

    fn take_names(&mut self, file: &DigestFile, is_signed: bool) {
        for log in &file.log_files {
            if log.s3_bucket != self.bucket {
                self.counts.logs_outside += 1;
                continue;
            }
            let is_full = self.named.len() >= MOST_NAMED;
            let named = Named { sha256: log.sha256(), is_signed, is_seen: false };
            match self.named.get_mut(&log.s3_object) {
                Some(known) if known.is_signed || !is_signed => {}
                Some(known) => *known = named,
                None if !is_full => {
                    self.named.insert(log.s3_object.clone(), named);
                }
                None => self.unheld += 1,
            }
        }
    }

    fn log(&mut self, known: &Known<'_>, key: &str, inside: &Inside) {
        let Some(named) = self.named.get_mut(key) else {
            let time = known.time.unwrap_or_default().0;
            let covered = |chain: &Chain| {
                chain.account == known.account
                    && chain.region == known.region
                    && chain
                        .covered
                        .iter()
                        .any(|(start, end)| (*start..end.saturating_sub(LATE).max(*start)).contains(&time))
            };
            if self.unheld == 0 && self.chains.values().any(covered) {
                self.counts.logs_in_no_digest += 1;
                self.fault(key, "CloudTrail log file that no digest file here names: put there by somebody else, named by a digest file that is missing, or of a trail that writes none");
            } else {
                self.counts.logs_not_covered += 1;
            }
            return;
        };
        named.is_seen = true;
        match (inside, named.sha256) {
            (Ok(inside), Some(sha256)) if inside.sha256 == sha256 => {
                if named.is_signed {
                    self.counts.logs_right += 1;
                } else {
                    self.counts.logs_right_unsigned += 1;
                }
            }
            (Ok(inside), _) => {
                self.counts.logs_changed += 1;
                let found = inside.sha256;
                let told = named.sha256.map_or_else(|| "no SHA-256".to_owned(), |told| told.to_string());
                self.fault(key, format!("CloudTrail log file that is not what was delivered: what is in it has SHA-256 {found}, and its digest file says {told}"));
            }
            (Err(why), _) => {
                self.counts.logs_unread += 1;
                let why = why.clone();
                self.fault(
                    key,
                    format!("CloudTrail log file that could not be compared with its digest file: {why}"),
                );
            }
        }
    }

    /// Ends the account whose log files were listed last: what its digests named and nobody saw is missing.
    fn end_account(&mut self) {
        let mut unseen: Vec<String> =
            self.named.drain().filter(|(_, named)| !named.is_seen).map(|(key, _)| key).collect();
        unseen.sort();
        for key in unseen {
            let known = know(&key);
            let is_asked_for = known.layout == &CLOUDTRAIL
                && key.starts_with(&self.logs.0)
                && known.time.is_some_and(|time| known.layout.may_hold(time, &self.logs.1));
            if is_asked_for && self.is_list_whole {
                self.counts.logs_missing += 1;
                self.fault(&key, "CloudTrail log file that a digest file names and that is not there: removed, or expired by a rule of the bucket");
            } else {
                self.counts.logs_outside += 1;
            }
        }
        if self.unheld > 0 {
            let (unheld, account) = (std::mem::take(&mut self.unheld), self.account.clone());
            self.fault(&account, format!("its digest files name more log files than can be held at a time: {unheld} of them were not compared; acquire shorter times"));
        }
    }

    /// Ends it all; gives a row for each chain. `now` is the present second.
    pub(super) fn finish(&mut self, now: i64) -> Vec<Value> {
        self.end_account();
        // Without an end of the time that is asked for, a trail may have been ended long ago.
        if let Some(end) = self.digests.1.until.map(|until| until.min(now)) {
            let cut: Vec<_> = self
                .chains
                .values()
                .filter(|chain| !chain.is_backfill && chain.span.1.saturating_add(2 * LATE) < end)
                .map(|chain| (chain.last.key.clone(), chain.span.1))
                .collect();
            for (key, last) in cut {
                self.fault(&key, format!("no digest file tells of what was delivered after {}, though times up to {} were asked for: logging or validation was off, or digest files were removed", text(last), text(end)));
            }
        }
        self.chains
            .iter()
            .map(|(name, chain)| {
                json!({
                    "chain": escape_text(name.as_bytes()), "digests": chain.digests, "signed": chain.signed, "faults": chain.faults,
                    "first_start": text(chain.span.0), "last_end": text(chain.span.1),
                    "region": escape_text(chain.region.as_bytes()), "backfill": chain.is_backfill,
                    "before": chain.before.as_ref().map_or_else(|| "none: the chain begins here".to_owned(), |key| escape_text(key.as_bytes())),
                    "last": escape_text(chain.last.key.as_bytes()),
                })
            })
            .collect()
    }
}

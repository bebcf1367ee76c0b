//! What is to be acquired, and whether it can be: the plan, the first questions, and the stream.

use custody::bundle::Source as SourceFacts;
use custody::strict_json::escape_text;
use serde_json::{Map, Value};
use tokio::sync::mpsc::{self, Receiver};

use super::digest_chain::DigestChains;
use super::estimate::{Estimate, estimate};
use super::fetch::Bucket;
use super::kinds::digests_of;
use super::listing::Walk;
use super::lookup::Lookup;
use super::place::Place;
use super::run::{Run, Step};
use super::trail_keys::TrailKeys;
use super::tries::of_list;
use super::window::{Window, text};
use crate::aws::{Connection, Failure, FailureKind};
use crate::capture::{Capture, Streams};
use crate::error::{Error, Result};
use crate::triage::spool::Spool;

/// What is listed ahead of what is read.
const LISTED_AHEAD: usize = 4000;

/// Bytes of the table of gaps.
const MOST_TABLE: u64 = 64 << 20;

/// What to acquire.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CloudLogsOptions {
    /// Which objects; none where only events are looked up.
    pub place: Option<Place>,
    /// Of which time.
    pub window: Window,
    /// The public keys of CloudTrail's digest files, as `aws cloudtrail list-public-keys` writes them; else CloudTrail is
    /// asked for them.
    pub trail_keys: Option<Vec<u8>>,
    /// Whether CloudTrail is asked for the management events that it keeps of the last 90 days, as LookupEvents gives them.
    pub lookup: bool,
}

/// Logs in a bucket.
#[derive(Debug)]
pub struct CloudLogs {
    connection: Connection,
    place: Option<Place>,
    window: Window,
    keys: Option<TrailKeys>,
    /// The digest files of a prefix of log files, which it does not hold.
    beside: Option<(String, Window)>,
    lookup: Option<Lookup>,
    after: Map<String, Value>,
}

impl CloudLogs {
    /// Plans; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`Error::CloudLogs`] where the options make no sense.
    pub fn new(connection: &Connection, options: CloudLogsOptions) -> Result<Self> {
        let wrong = |what: String| Error::CloudLogs { what };
        let CloudLogsOptions { place, window, trail_keys, lookup } = options;
        if place.is_none() && !lookup {
            return Err(wrong("no bucket is named, and no events are to be looked up".to_owned()));
        }
        if window.since.zip(window.until).is_some_and(|(since, until)| since >= until) {
            return Err(wrong("the time asked for ends before it begins".to_owned()));
        }
        let keys = trail_keys.map(|bytes| TrailKeys::of_file(&bytes)).transpose();
        let keys =
            keys.map_err(|what| wrong(format!("the file of CloudTrail's public keys is none: {what}")))?;
        let beside = place.as_ref().and_then(|place| digests_of(&place.prefix));
        let beside = beside.map(|(prefix, span)| (prefix, narrowed(window, span)));
        let lookup = lookup.then(|| Lookup::new(connection, window));
        Ok(Self { connection: connection.clone(), place, window, keys, beside, lookup, after: Map::new() })
    }

    /// Asks whether the bucket can be listed and holds anything there (and follows it to its region), and whether events can
    /// be looked up.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`] with the permission that is missing, or [`FailureKind::NotFound`] if there is nothing.
    pub fn check(&mut self) -> Result<()> {
        const OPERATION: &str = "S3 ListObjectsV2";
        if let Some(lookup) = &self.lookup {
            lookup.check()?;
        }
        let Some(Place { bucket, prefix }) = &self.place else { return Ok(()) };
        let (answer, region) = self.connection.wait(Bucket::new(&self.connection.s3(), bucket).peek(prefix));
        let elsewhere =
            region.filter(|region| region != self.connection.region() && !self.connection.has_own_endpoint());
        let answer = match (answer, elsewhere) {
            (Err(_), Some(region)) => {
                self.connection = self.connection.in_region(&region);
                self.connection.wait(Bucket::new(&self.connection.s3(), bucket).peek(prefix)).0
            }
            (answer, _) => answer,
        };
        if answer.map_err(|failure| of_list(failure, bucket, prefix))? == 0 {
            let what = format!("no object of the bucket {bucket} has a key that begins with {prefix:?}");
            return Err(Failure::found(OPERATION, FailureKind::NotFound, what).into());
        }
        Ok(())
    }

    /// Lists what would be acquired, and reads nothing of it.
    ///
    /// # Errors
    ///
    /// [`Error::Cloud`] if nothing can be listed.
    pub fn estimate(&self) -> Result<Estimate> {
        let Some(walk) = self.walk() else { return Ok(Estimate::default()) };
        Ok(estimate(&self.connection, walk)?)
    }

    fn walk(&self) -> Option<Walk> {
        let place = self.place.as_ref()?;
        let own = (place.prefix.clone(), self.window);
        // Digest files first, so that they tell what the log files must be.
        let prefixes: Vec<_> = self.beside.iter().cloned().chain([own]).collect();
        Some(Walk::new(self.connection.s3(), &place.bucket, &prefixes))
    }

    /// Lists in the background.
    fn start(&self, mut walk: Walk) -> Receiver<Step> {
        let (to, from) = mpsc::channel(LISTED_AHEAD);
        self.connection.runtime().spawn(async move {
            loop {
                let step = match walk.next().await {
                    Ok(Some(found)) => Step::Found(found, *walk.window()),
                    Ok(None) => Step::End { lists: walk.requests() },
                    Err(failure) => Step::Failed(failure),
                };
                let is_last = !matches!(step, Step::Found(..));
                if to.send(step).await.is_err() || is_last {
                    return;
                }
            }
        });
        from
    }

    fn chains(&mut self, place: &Place) -> DigestChains {
        let own = (place.prefix.clone(), self.window);
        let digests = self.beside.clone().unwrap_or_else(|| own.clone());
        DigestChains::new(&place.bucket, own, digests, self.keys.take().unwrap_or_default())
    }
}

/// A window without what lies outside a span.
fn narrowed(window: Window, span: Option<(i64, i64)>) -> Window {
    let Some((from, to)) = span else { return window };
    let end = to.saturating_add(1);
    Window {
        since: Some(window.since.map_or(from, |since| since.max(from))),
        until: Some(window.until.map_or(end, |until| until.min(end))),
    }
}

impl Capture for CloudLogs {
    fn facts(&self) -> SourceFacts {
        let escaped = |text: &str| Value::from(escape_text(text.as_bytes()));
        let mut more = Map::from_iter([("region".to_owned(), escaped(self.connection.region()))]);
        if let Some(Place { bucket, prefix }) = &self.place {
            more.insert("bucket".to_owned(), escaped(bucket));
            more.insert("prefix".to_owned(), escaped(prefix));
        }
        if let Some(endpoint) = self.connection.own_endpoint() {
            more.insert("endpoint".to_owned(), escaped(&endpoint));
        }
        if let Some(lookup) = &self.lookup {
            more.insert("lookup_regions".to_owned(), lookup.regions().into());
        }
        SourceFacts {
            kind: "cloud-logs".to_owned(),
            path: self.place.as_ref().map(|place| escape_text(place.to_string().as_bytes())),
            more,
            ..SourceFacts::default()
        }
    }

    fn options(&self) -> Map<String, Value> {
        let times = [("since", self.window.since), ("until", self.window.until)];
        let times = times.into_iter().filter_map(|(name, time)| Some((name.to_owned(), text(time?).into())));
        let beside = self
            .beside
            .iter()
            .map(|(prefix, _)| ("digests_below".to_owned(), escape_text(prefix.as_bytes()).into()));
        times.chain(beside).collect()
    }

    fn capture(&mut self, streams: &mut Streams<'_>) -> Result<()> {
        let now = streams.clock().now().wall_ns.div_euclid(1_000_000_000);
        let spool = Spool::new(streams.folder, MOST_TABLE);
        let run = self.place.clone().zip(self.walk()).map(|(place, walk)| {
            let chains = self.chains(&place);
            let run = Run::new(&self.connection, &place.bucket, self.window, chains, now);
            (run, self.start(walk))
        });
        let lookup = self.lookup.clone();
        self.after = streams.tar("objects", "objects", |packer| {
            let mut facts = Map::new();
            if let Some((run, steps)) = run {
                facts = run.all(packer, steps, spool)?;
            }
            if let Some(lookup) = lookup {
                facts.insert("lookup".to_owned(), lookup.pack(packer, now)?);
            }
            Ok(facts)
        })?;
        Ok(())
    }

    fn facts_after(&self) -> Map<String, Value> {
        self.after.clone()
    }
}

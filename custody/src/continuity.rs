//! Who held the evidence when: a pure reading of a log's entries, with every gap and contradiction named.
//!
//! Time runs from the log's first entry to its last, or to the disposal of the item. The first holder is whoever wrote
//! the first entry. A handover that both parties signed leaves no gap: between the offer and the acceptance the
//! evidence is under way, and both stand for it. From the offer of a handover that the receiver (or the giver) did not
//! sign, the minutes are a gap until somebody signs for having it: until the next handover whose giver signed. A host's
//! clock is taken at its word here; what time is proved is another question.

use serde::Serialize;

use crate::clock::parse_rfc3339;
use crate::entry::{Entry, EntryType};
use crate::handover::Offer;
use crate::parties;

/// Who held the evidence when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Continuity {
    /// Spans that follow each other without a hole, the oldest first.
    pub spans: Vec<HeldSpan>,
    /// What cannot all be true, in words with the numbers of the entries.
    pub contradictions: Vec<String>,
    /// The end of what is told: the time of the last entry, or of the disposal.
    pub until: String,
    /// Nanoseconds that the spans are long together.
    pub total_ns: u64,
    /// Nanoseconds of them that are gaps.
    pub gap_ns: u64,
}

/// One span of time in one hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldSpan {
    /// From when, RFC 3339.
    pub from: String,
    /// Until when; `None` for the one that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who; `A to B` while it was under way.
    pub holder: String,
    /// Whether who gave it signed.
    pub signed_by_giver: bool,
    /// Whether who received it signed.
    pub signed_by_receiver: bool,
    /// The entries that tell of it, of the exhibit's own log (or of the one that was read).
    pub entries: Vec<u64>,
    /// Those of the case's log, where an exhibit is read together with its case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub case_entries: Vec<u64>,
    /// Why nobody vouches for these minutes; `None` when somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

impl Continuity {
    /// Reads the entries of one log, in their order. Party signatures are verified by what stands in the entries.
    pub fn of(entries: &[Entry]) -> Self {
        Self::of_exhibit(entries, &[])
    }

    /// Reads an exhibit's log together with its case's, whose handovers and disposals of the exhibit count too.
    pub fn of_exhibit(exhibit: &[Entry], case: &[Entry]) -> Self {
        let Some(first) = exhibit.first() else { return Self::default() };
        let mut all: Vec<Told<'_>> = exhibit.iter().map(|entry| Told { entry, of_case: false }).collect();
        let start = time_of(first).unwrap_or_default().0;
        let later: Vec<&Entry> =
            case.iter().filter(|entry| time_of(entry).is_some_and(|at| at.0 >= start)).collect();
        all.extend(
            of_this_exhibit(&later, first.about.exhibit.as_deref())
                .map(|entry| Told { entry, of_case: true }),
        );
        if !case.is_empty() {
            // Stable, so that each log keeps its own order where its clock did not go back.
            all.sort_by_key(|told| time_of(told.entry).unwrap_or_default().0);
        }
        let mut reading = Reading::begin(first);
        for told in &all {
            reading.read(*told);
            if reading.disposed {
                break;
            }
        }
        reading.end()
    }

    /// The spans that nobody vouches for.
    pub fn gaps(&self) -> impl Iterator<Item = &HeldSpan> {
        self.spans.iter().filter(|span| span.gap.is_some())
    }

    /// The share of time that is vouched for, in hundredths of a percent; rounded down, so that 10,000 means all.
    pub fn share(&self) -> u32 {
        if self.gaps().next().is_none() {
            return 10_000;
        }
        let vouched = u128::from(self.total_ns.saturating_sub(self.gap_ns)) * 10_000;
        let share = vouched.checked_div(u128::from(self.total_ns)).unwrap_or(0);
        u32::try_from(share.min(9_999)).unwrap_or(9_999)
    }

    /// In words: `continuity 99.2 %, 2 gaps`.
    pub fn share_words(&self) -> String {
        let gaps = match self.gaps().count() {
            0 => "no gap".to_owned(),
            1 => "1 gap".to_owned(),
            many => format!("{many} gaps"),
        };
        let share = self.share() / 10;
        let contradictions = match self.contradictions.len() {
            0 => String::new(),
            1 => ", 1 contradiction".to_owned(),
            many => format!(", {many} contradictions"),
        };
        match share {
            1_000 => format!("continuity 100 %, {gaps}{contradictions}"),
            _ => format!("continuity {}.{} %, {gaps}{contradictions}", share / 10, share % 10),
        }
    }
}

impl HeldSpan {
    fn tell(&mut self, place: At) {
        if place.of_case { self.case_entries.push(place.seq) } else { self.entries.push(place.seq) }
    }
}

/// An entry, and whose log it is in.
#[derive(Clone, Copy)]
struct Told<'a> {
    entry: &'a Entry,
    of_case: bool,
}

impl Told<'_> {
    fn place(self) -> At {
        At { of_case: self.of_case, seq: self.entry.seq }
    }
}

/// The number of an entry, and whose log it is in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    of_case: bool,
    seq: u64,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of_case = if self.of_case { " of the case" } else { "" };
        write!(f, "entry {}{of_case}", self.seq)
    }
}

/// The entries of a case that hand over or dispose of this exhibit.
fn of_this_exhibit<'a>(case: &[&'a Entry], exhibit: Option<&str>) -> impl Iterator<Item = &'a Entry> {
    let mut offers = Vec::new();
    let is_of = |entry: &&Entry| {
        if entry.kind == EntryType::TRANSFER_OFFERED {
            let offer = Offer::of(entry).ok().flatten();
            let named = offer.is_none_or(|offer| {
                offer.items.is_empty() || offer.items.iter().any(|item| Some(item.id.as_str()) == exhibit)
            });
            if named {
                offers.push(entry.seq);
            }
            return named;
        }
        if entry.kind == EntryType::TRANSFER_ACCEPTED || entry.kind == EntryType::TRANSFER_REFUSED {
            return entry.about.refs.first().is_some_and(|seq| offers.contains(seq));
        }
        entry.kind == EntryType::ITEM_DISPOSED
            && exhibit.is_some()
            && entry.about.exhibit.as_deref() == exhibit
    };
    let found: Vec<&'a Entry> = case.iter().copied().filter(is_of).collect();
    found.into_iter()
}

/// An offer that was made and not yet answered.
struct Pending {
    place: At,
    at: (i64, String),
    to: String,
    giver_signed: bool,
}

struct Reading {
    told: Continuity,
    /// The span that is not over.
    open: HeldSpan,
    start_ns: i64,
    pending: Option<Pending>,
    /// The answers that were given, by offer.
    answered: Vec<(At, At)>,
    now: (i64, String),
    disposed: bool,
}

impl Reading {
    fn begin(first: &Entry) -> Self {
        let at = time_of(first).unwrap_or_default();
        let open = span(&at.1, who(first), (true, true), &[At { of_case: false, seq: first.seq }], None);
        Self {
            told: Continuity::default(),
            open,
            start_ns: at.0,
            pending: None,
            answered: Vec::new(),
            now: at,
            disposed: false,
        }
    }

    fn read(&mut self, told: Told<'_>) {
        let (entry, place) = (told.entry, told.place());
        match time_of(entry) {
            Some(at) if at.0 >= self.now.0 => self.now = at,
            Some(_) => self.contradict(format!("the clock goes back at {place}")),
            None => self.contradict(format!("{place} states no time")),
        }
        if entry.kind == EntryType::TRANSFER_OFFERED {
            self.offered(entry, place);
        } else if entry.kind == EntryType::TRANSFER_ACCEPTED {
            self.accepted(entry, place);
        } else if entry.kind == EntryType::TRANSFER_REFUSED {
            self.refused(entry, place);
        } else if entry.kind == EntryType::ITEM_DISPOSED {
            self.open.tell(place);
            self.disposed = true;
        }
    }

    fn offered(&mut self, entry: &Entry, place: At) {
        if let Some(earlier) = &self.pending {
            let words = format!("{place} offers what {} had offered already", earlier.place);
            self.contradict(words);
        }
        let offer = Offer::of(entry).ok().flatten();
        let from = offer.as_ref().map_or_else(|| who(entry), |offer| offer.from.clone());
        let to = offer.map(|offer| offer.terms.to).filter(|to| !to.is_empty());
        let to =
            to.or_else(|| entry.how_text("to").map(str::to_owned)).unwrap_or_else(|| "somebody".to_owned());
        let giver_signed = signed(entry);
        if !same(&from, &self.open.holder) {
            let words = format!("in {place} {from:?} gives away what {:?} held", self.open.holder);
            self.contradict(words);
        }
        // Who signs for giving it away signs for having had it.
        if giver_signed && self.open.gap.is_some() && same(&from, &self.open.holder) {
            let next = span(&self.now.1, from, (self.open.signed_by_giver, true), &[place], None);
            self.turn(next);
        }
        self.pending = Some(Pending { place, at: self.now.clone(), to, giver_signed });
    }

    fn accepted(&mut self, entry: &Entry, place: At) {
        let Some(pending) = self.answer(entry, place) else { return };
        let receiver_signed = signed(entry);
        let both = (pending.giver_signed, receiver_signed);
        let entries = [pending.place, place];
        let gap = match both {
            (true, true) => None,
            (true, false) => Some(format!("{:?} did not sign for having received it", pending.to)),
            (false, true) => Some(format!("{:?} did not sign for having given it", self.open.holder)),
            (false, false) => Some("neither signed the handover".to_owned()),
        };
        // Back to the offer: from then on it was under way. Without the receiver's signature nobody can say until when.
        let way = format!("{} to {}", self.open.holder, pending.to);
        let now = std::mem::replace(&mut self.now, pending.at);
        if !receiver_signed {
            self.turn(span(&self.now.1, pending.to, both, &entries, gap));
            self.now = now;
            return;
        }
        self.turn(span(&self.now.1, way, both, &entries, gap));
        self.now = now;
        self.turn(span(&self.now.1, pending.to, both, &[place], None));
    }

    fn refused(&mut self, entry: &Entry, place: At) {
        if self.answer(entry, place).is_some() {
            self.open.tell(place);
        }
    }

    /// The offer that this entry answers, where it is the one that waits.
    fn answer(&mut self, entry: &Entry, place: At) -> Option<Pending> {
        let refs = entry.about.refs.first().map(|seq| At { seq: *seq, ..place });
        if self.pending.as_ref().is_some_and(|pending| Some(pending.place) == refs) {
            let pending = self.pending.take();
            self.answered.extend(refs.map(|offer| (offer, place)));
            return pending;
        }
        let earlier = self.answered.iter().find(|(offer, _)| Some(*offer) == refs);
        let words = match (refs, earlier) {
            (Some(offer), Some((_, by))) => {
                format!("{place} answers the offer in {offer} again, after {by}")
            }
            _ => format!("{place} answers no offer that waits"),
        };
        self.contradict(words);
        None
    }

    /// Ends the open span now and begins the next. A span of no length is left out, unless it is a gap.
    fn turn(&mut self, next: HeldSpan) {
        let mut last = std::mem::replace(&mut self.open, next);
        let length = u64::try_from(self.now.0.saturating_sub(self.start_ns)).unwrap_or(0);
        self.told.total_ns = self.told.total_ns.saturating_add(length);
        if last.gap.is_some() {
            self.told.gap_ns = self.told.gap_ns.saturating_add(length);
        }
        if length > 0 || last.gap.is_some() {
            last.to = Some(self.now.1.clone());
            self.told.spans.push(last);
        }
        self.start_ns = self.now.0;
    }

    fn contradict(&mut self, words: String) {
        self.told.contradictions.push(words);
    }

    fn end(mut self) -> Continuity {
        if let Some(pending) = self.pending.take().filter(|_| !self.disposed) {
            // Offered and never answered: nobody knows whose hands it is in since.
            let words = format!("the offer in {} to {:?} was never answered", pending.place, pending.to);
            let holder = format!("{} to {}", self.open.holder, pending.to);
            let now = std::mem::replace(&mut self.now, pending.at);
            let signed = (pending.giver_signed, false);
            self.turn(span(&self.now.1, holder, signed, &[pending.place], Some(words)));
            self.now = now;
        }
        let last = self.open.clone();
        self.turn(last.clone());
        match self.told.spans.last_mut().filter(|span| span.from == last.from && span.holder == last.holder) {
            Some(span) if !self.disposed => span.to = None,
            Some(_) => {}
            None => {
                let to = self.disposed.then(|| self.now.1.clone());
                self.told.spans.push(HeldSpan { to, ..last });
            }
        }
        self.told.until = self.now.1;
        self.told
    }
}

fn span(
    from: &str,
    holder: String,
    (signed_by_giver, signed_by_receiver): (bool, bool),
    told_by: &[At],
    gap: Option<String>,
) -> HeldSpan {
    let (entries, case_entries) = (Vec::new(), Vec::new());
    let from = from.to_owned();
    let mut span =
        HeldSpan { from, to: None, holder, signed_by_giver, signed_by_receiver, entries, case_entries, gap };
    told_by.iter().for_each(|place| span.tell(*place));
    span
}

/// Whether the party of this entry signed, and the signature is good.
fn signed(entry: &Entry) -> bool {
    let found = parties::check(entry);
    !found.is_empty() && found.iter().all(|signature| signature.good)
}

/// Whether two names are of the same holder.
fn same(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}

fn who(entry: &Entry) -> String {
    let actor = &entry.actor;
    if actor.name.is_empty() { actor.key.clone() } else { actor.name.clone() }
}

fn time_of(entry: &Entry) -> Option<(i64, String)> {
    Some((parse_rfc3339(&entry.time.wall).ok()?, entry.time.wall.clone()))
}

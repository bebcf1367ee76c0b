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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::FixedClock;
    use crate::digest::Digest;
    use crate::entry::{Actor, Identity, NewEntry, line_of};
    use crate::handover::{Answer, ReceiverSigns, Terms, answer_entry, offer_entry};
    use crate::keys::SigningKey;
    use crate::ssh::PartyKey;

    const PEOPLE: [&str; 3] = ["Ann", "Bob", "Cyd"];
    const MINUTE: i64 = 60_000_000_000;
    const START: i64 = 1_795_224_600_000_000_000;
    static KEYS: LazyLock<[SigningKey; 3]> =
        LazyLock::new(|| [1, 2, 3].map(|seed| SigningKey::from_seed(&[seed; 32])));

    /// A log that is only held in memory: whose act, after how many minutes.
    #[derive(Default)]
    struct Story {
        entries: Vec<Entry>,
        minutes: i64,
    }

    impl Story {
        fn act(&mut self, who: usize, after: i64, new: &NewEntry) -> u64 {
            self.minutes += after;
            let actor = Actor { name: PEOPLE[who].to_owned(), ..Actor::default() };
            let clock = FixedClock::at(START + self.minutes * MINUTE);
            let seq = self.entries.len() as u64;
            let identity = Identity { actor, ..Identity::default() };
            let line = line_of(new, seq, Digest([0; 32]), &identity, &KEYS[who], &clock).unwrap();
            self.entries.push(Entry::parse(line.as_bytes()).unwrap());
            seq
        }

        fn note(&mut self, who: usize, after: i64) {
            self.act(who, after, &NewEntry::new(EntryType::NOTE));
        }

        fn offer(&mut self, from: usize, to: usize, after: i64, signed: bool) -> (u64, Offer) {
            let party = PartyKey::of(&KEYS[from]);
            let offer = Offer {
                id: "id".to_owned(),
                origin: "exhibit/00".to_owned(),
                size: self.entries.len() as u64,
                root: Digest([0; 32]),
                case: None,
                items: Vec::new(),
                from: PEOPLE[from].to_owned(),
                from_key: signed.then(|| party.public().fingerprint()),
                terms: Terms { to: PEOPLE[to].to_owned(), ..Terms::default() },
                time: "2026".to_owned(),
            };
            let entry = offer_entry(&offer, signed.then_some(&party)).unwrap();
            (self.act(from, after, &entry), offer)
        }

        fn answer(
            &mut self,
            (seq, offer): &(u64, Offer),
            who: usize,
            after: i64,
            signed: bool,
            answer: &Answer,
        ) {
            let party = PartyKey::of(&KEYS[who]);
            let signs = if signed { ReceiverSigns::With(&party) } else { ReceiverSigns::Not };
            let entry = answer_entry(offer, *seq, Digest([0; 32]), answer, &signs).unwrap();
            self.act(who, after, &entry);
        }

        fn handover(&mut self, from: usize, to: usize, signed: (bool, bool)) {
            let offer = self.offer(from, to, 10, signed.0);
            self.answer(&offer, to, 10, signed.1, &accepted());
        }

        fn told(&self) -> Continuity {
            Continuity::of(&self.entries)
        }
    }

    fn accepted() -> Answer {
        Answer::Accepted { condition: String::new() }
    }

    fn holders(told: &Continuity) -> Vec<&str> {
        told.spans.iter().map(|span| span.holder.as_str()).collect()
    }

    #[test]
    fn a_chain_of_signed_handovers_has_no_gap() {
        let mut story = Story::default();
        story.note(0, 0);
        story.handover(0, 1, (true, true));
        story.handover(1, 2, (true, true));
        story.note(2, 60);
        let told = story.told();
        assert_eq!(holders(&told), ["Ann", "Ann to Bob", "Bob", "Bob to Cyd", "Cyd"]);
        assert_eq!(told.share_words(), "continuity 100 %, no gap");
        assert_eq!(told.spans[4].to, None);
        assert_eq!(told.total_ns, 100 * 60_000_000_000);
        assert!(told.contradictions.is_empty());
    }

    #[test]
    fn minutes_that_nobody_signed_for_are_a_gap_and_counted() {
        let mut story = Story::default();
        story.note(0, 0);
        // Ten minutes with Ann, ten without a signature, and Bob signs for giving it on.
        story.handover(0, 1, (true, false));
        story.handover(1, 2, (true, true));
        story.note(2, 960);
        let told = story.told();
        let gap = told.gaps().next().unwrap();
        assert_eq!((gap.holder.as_str(), gap.entries.as_slice()), ("Bob", &[1, 2][..]));
        assert_eq!((gap.signed_by_giver, gap.signed_by_receiver), (true, false));
        assert_eq!(told.gap_ns, 20 * 60_000_000_000);
        assert_eq!(told.share_words(), "continuity 98.0 %, 1 gap");
        // Where only the receiver signed, the way is the gap, and no more.
        let mut story = Story::default();
        story.note(0, 0);
        story.handover(0, 1, (false, true));
        story.note(1, 80);
        let told = story.told();
        assert_eq!(told.share_words(), "continuity 90.0 %, 1 gap");
        assert_eq!(
            told.gaps().next().unwrap().gap.as_deref(),
            Some("\"Ann\" did not sign for having given it")
        );
    }

    #[test]
    fn an_offer_that_waits_is_a_gap_and_a_refused_one_is_none() {
        let mut story = Story::default();
        story.note(0, 0);
        let offer = story.offer(0, 1, 10, true);
        story.note(0, 10);
        assert_eq!(story.told().share_words(), "continuity 50.0 %, 1 gap");
        story.answer(&offer, 1, 20, true, &Answer::Refused { reason: "no room".to_owned() });
        let told = story.told();
        assert_eq!((told.share_words().as_str(), holders(&told)), ("continuity 100 %, no gap", vec!["Ann"]));
    }

    #[test]
    fn what_cannot_be_true_is_named() {
        let mut story = Story::default();
        story.note(0, 0);
        let first = story.offer(0, 1, 1, true);
        let second = story.offer(0, 2, 1, true);
        story.answer(&first, 1, 1, true, &accepted());
        story.answer(&second, 2, 1, true, &accepted());
        story.answer(&second, 2, 1, true, &accepted());
        story.offer(0, 1, 1, true);
        let told = story.told();
        assert_eq!(
            told.contradictions,
            [
                "entry 2 offers what entry 1 had offered already",
                "entry 3 answers no offer that waits",
                "entry 5 answers the offer in entry 2 again, after entry 4",
                "in entry 6 \"Ann\" gives away what \"Cyd\" held",
            ]
        );
        assert!(told.share_words().ends_with("1 gap, 4 contradictions"), "{}", told.share_words());
    }

    #[test]
    fn a_signature_over_another_offer_vouches_for_nothing() {
        let mut story = Story::default();
        story.note(0, 0);
        story.handover(0, 1, (true, true));
        story.note(1, 10);
        let good = story.told();
        assert_eq!(good.share(), 10_000);
        let forged = story.entries[2].about.party_sigs.clone();
        let mut other = Story::default();
        other.note(0, 0);
        other.handover(0, 1, (true, false));
        other.entries[2].about.party_sigs = forged;
        other.entries[2].about.how.insert("offer".to_owned(), Vec::<String>::new().into());
        other.note(1, 10);
        assert!(other.told().share() < 10_000);
    }

    #[test]
    fn a_handover_of_the_whole_case_moves_its_exhibits() {
        let mut exhibit = Story::default();
        exhibit.note(0, 0);
        exhibit.entries[0].about.exhibit = Some("E001".to_owned());
        exhibit.note(0, 100);
        let mut case = Story::default();
        case.note(0, 5);
        case.handover(0, 1, (true, true));
        let told = Continuity::of_exhibit(&exhibit.entries, &case.entries);
        assert_eq!(holders(&told), ["Ann", "Ann to Bob", "Bob"]);
        assert_eq!((told.spans[2].case_entries.as_slice(), told.spans[2].entries.len()), (&[2][..], 0));
        assert_eq!(told.share_words(), "continuity 100 %, no gap");
        assert_eq!(Continuity::of(&[]).share_words(), "continuity 100 %, no gap");
    }

    #[test]
    fn nobody_holds_what_was_disposed_of() {
        let mut story = Story::default();
        story.note(0, 0);
        story.act(0, 10, &NewEntry::new(EntryType::ITEM_DISPOSED));
        story.note(0, 50);
        let told = story.told();
        assert_eq!(told.total_ns, 10 * 60_000_000_000);
        assert!(told.spans.last().unwrap().to.is_some());
    }

    /// One act of a random story.
    #[derive(Debug, Clone)]
    enum Act {
        Note(usize),
        Offer(usize, usize, bool),
        Answer(usize, usize, bool, bool),
        Dispose(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<(i64, Act)>> {
        let act = prop_oneof![
            2 => (0..3usize).prop_map(Act::Note),
            4 => (0..3usize, 0..3usize, any::<bool>()).prop_map(|(a, b, s)| Act::Offer(a, b, s)),
            4 => (0..3usize, 0..4usize, any::<bool>(), any::<bool>()).prop_map(|(a, b, s, y)| Act::Answer(a, b, s, y)),
            1 => (0..3usize).prop_map(Act::Dispose),
        ];
        proptest::collection::vec((-5..60i64, act), 0..12)
    }

    fn story_of(acts: &[(i64, Act)]) -> Story {
        let mut story = Story::default();
        story.note(0, 0);
        let mut offers = Vec::new();
        for (after, act) in acts {
            match act {
                Act::Note(who) => story.note(*who, *after),
                Act::Offer(from, to, signed) => offers.push(story.offer(*from, *to, *after, *signed)),
                Act::Answer(who, back, signed, yes) => {
                    let Some(offer) = offers.iter().rev().nth(*back).cloned() else { continue };
                    // The giver's own key signs for nobody else.
                    let own = offer.1.from_key.as_deref() == Some(&KEYS[*who].verifying_key().fingerprint());
                    let answer = if *yes { accepted() } else { Answer::Refused { reason: "no".to_owned() } };
                    story.answer(&offer, *who, *after, *signed && !own, &answer);
                }
                Act::Dispose(who) => {
                    story.act(*who, *after, &NewEntry::new(EntryType::ITEM_DISPOSED));
                }
            }
        }
        story
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn spans_follow_each_other_and_gaps_are_part_of_the_whole(acts in acts()) {
            let told = story_of(&acts).told();
            prop_assert!(!told.spans.is_empty());
            for pair in told.spans.windows(2) {
                prop_assert_eq!(pair[0].to.as_ref(), Some(&pair[1].from));
            }
            let last = told.spans.last().unwrap();
            prop_assert!(last.to.is_none() || last.to.as_ref() == Some(&told.until));
            prop_assert!(told.gap_ns <= told.total_ns && told.share() <= 10_000);
            prop_assert_eq!(told.share() == 10_000, told.gaps().next().is_none());
            let length = |span: &HeldSpan| {
                let time = |text: &str| parse_rfc3339(text).unwrap();
                time(span.to.as_ref().unwrap_or(&told.until)) - time(&span.from)
            };
            let total: i64 = told.spans.iter().map(length).sum();
            let gaps: i64 = told.gaps().map(length).sum();
            prop_assert_eq!((total as u64, gaps as u64), (told.total_ns, told.gap_ns));
        }

        #[test]
        fn taking_a_signature_away_never_raises_the_share(acts in acts(), which in 0..12usize) {
            let mut story = story_of(&acts);
            let before = story.told();
            let signed: Vec<usize> =
                (0..story.entries.len()).filter(|at| !story.entries[*at].about.party_sigs.is_empty()).collect();
            if signed.is_empty() {
                return Ok(());
            }
            story.entries[signed[which % signed.len()]].about.party_sigs.clear();
            let after = story.told();
            prop_assert!(after.gap_ns >= before.gap_ns, "{:?}\n{:?}", before, after);
        }

        #[test]
        fn entries_of_any_kind_and_text_are_read_without_a_fault(
            texts in proptest::collection::vec("[ -~]{0,40}", 0..6), refs in proptest::collection::vec(0..9u64, 0..3)
        ) {
            let mut story = Story::default();
            story.note(0, 0);
            for (at, text) in texts.iter().enumerate() {
                let kind = [EntryType::TRANSFER_OFFERED, EntryType::TRANSFER_ACCEPTED, EntryType::TRANSFER_REFUSED][at % 3].clone();
                let mut entry = NewEntry::new(kind).how("offer", vec![text.clone(); at]).how("to", text.as_str());
                entry.about.refs.clone_from(&refs);
                entry.about.party_sigs.push(serde_json::json!({"role": text, "sshsig": [text]}));
                story.act(at % 3, 1, &entry);
            }
            let told = story.told();
            prop_assert!(told.share() <= 10_000);
        }
    }
}

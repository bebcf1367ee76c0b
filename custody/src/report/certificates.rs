//! Part 17: drafts of certificates, with the facts that the entries give and blanks for what only a person can say.
//!
//! Never signed here. Sources: Federal Rules of Evidence 902(11), 902(13), 902(14) and the committee's note of 2017;
//! 28 U.S.C. § 1746; Bharatiya Sakshya Adhiniyam 2023, section 63 and its Schedule; Criminal Procedure Rules (England and
//! Wales), Part 19.

use super::blocks::{Line, fact, list, mono_fact, part};
use super::document::{Block, Cite, Fact, Part};
use super::material::{ExhibitMaterial, Material};
use super::units;
use super::{answers, certificates_abroad};
use crate::bundle::State;
use crate::entry::EntryType;

/// Exhibits that certificates are drafted for; more are one certificate each, by hand.
pub(super) const MOST: usize = 20;

pub(super) fn certificates(m: &Material) -> Part {
    let mut blocks = vec![
        Line::default()
            .strong("Drafts. ")
            .say(
                "Nothing here is signed or sworn. The facts come from the entries that are cited; every line in a box is for the \
                 person who signs, after reading it and knowing it to be true. Let a lawyer of the place look at the wording.",
            )
            .block(),
    ];
    blocks.extend(copy_certificate(m));
    blocks.extend(process_certificate(m));
    blocks.extend(records_certificate(m));
    blocks.extend(certificates_abroad::india(m));
    blocks.extend(certificates_abroad::england(m));
    part(17, "certificates", "Certificates (drafts)", "Who swears to it, and to what?", blocks)
}

pub(super) fn heading(words: &str) -> Block {
    Block::Heading(words.to_owned())
}

fn blank(label: &str) -> Block {
    Block::Blank { label: label.to_owned() }
}

pub(super) fn blanks<const N: usize>(labels: [&str; N]) -> Vec<Block> {
    labels.into_iter().map(blank).collect()
}

/// The facts of one exhibit that certificates need.
fn of_exhibit(m: &Material, x: &ExhibitMaterial) -> Vec<Fact> {
    let Some(manifest) = &x.manifest else {
        return vec![fact(x.id.clone(), "not sealed: no certificate can be drafted for it", &[])];
    };
    let (start, end) =
        (x.log.cite_first(&EntryType::ACQUIRE_START), x.log.cite_first(&EntryType::ACQUIRE_END));
    let source = &manifest.source;
    let marks = [source.path.clone(), source.model.clone(), source.serial.clone()];
    let marks = marks.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let mut facts = vec![
        fact("Exhibit", &format!("{}, {}", x.id, x.name()), &start),
        fact("Source: path, make and model, serial number", &marks, &start),
        fact("Capacity of the source", &source.size.map(units::size).unwrap_or_default(), &start),
        fact("Copied on", &units::date_words(&manifest.created), &start),
        fact(
            "Copied by",
            &x.log.first(&EntryType::ACQUIRE_START).map(answers::actor).unwrap_or_default(),
            &start,
        ),
        fact("On machine", &manifest.host.name, &start),
        fact("Authority", &m.case.authority, &[Cite::new("case", 0)]),
        fact("Program and version", &format!("{} {}", manifest.tool.name, manifest.tool.version), &start),
        mono_fact(
            "SHA-256 of the program file",
            &manifest.tool.build_sha256.map(|it| it.to_string()).unwrap_or_default(),
            &start,
        ),
        fact("Write block", "", &[]),
    ];
    for stream in &manifest.streams {
        let label = format!("SHA-256 of the source as it was read (stream {})", stream.name);
        facts.push(mono_fact(label, &stream.sha256.to_string(), &end));
    }
    let again = x
        .found
        .as_ref()
        .map(|found| format!("{} for this report: every stored byte was read again", found.verdict));
    facts.push(fact("Copy compared with it", &again.unwrap_or_default(), &[]));
    facts.push(mono_fact(
        "SHA-256 of the file that is offered (manifest.json, which names all others)",
        &x.manifest_sha256.map(|it| it.to_string()).unwrap_or_default(),
        &x.sealed(),
    ));
    let lost = x.bytes(State::Unreadable);
    let words = if lost == 0 {
        "none".to_owned()
    } else {
        format!("{}, filled with zeros; part 8 lists them", units::size(lost))
    };
    facts.push(fact("Exceptions: bytes that could not be read", &words, &end));
    let deviations = m.about(x).filter(|(_, entry)| entry.kind == EntryType::DEVIATION);
    let deviations: Vec<Cite> = deviations.map(|(log, entry)| log.cite(entry.seq)).collect();
    let words = if deviations.is_empty() {
        "none is recorded".to_owned()
    } else {
        units::number_of(deviations.len(), "deviation", "deviations")
    };
    facts.push(fact("Exceptions: deviations from procedure", &words, &deviations));
    let last = x.log.size().saturating_sub(1);
    let root = x.log.root().map(|root| root.to_string()).unwrap_or_default();
    facts.push(fact(
        "Custody from the acquisition until now",
        &format!("entries 0 to {last} of the log of {}, checkpoint root {root}", x.id),
        &[x.log.cite(0), x.log.cite(last)],
    ));
    facts
}

fn exhibits(m: &Material) -> Vec<Block> {
    let mut blocks: Vec<Block> =
        m.exhibits.iter().take(MOST).map(|x| Block::Facts(of_exhibit(m, x))).collect();
    if m.exhibits.len() > MOST {
        blocks.push(
            Line::of(format!("{} more exhibits need certificates of their own.", m.exhibits.len() - MOST))
                .block(),
        );
    }
    blocks
}

const PERJURY: [&str; 4] = [
    "I declare under penalty of perjury under the laws of the United States of America that the foregoing is true and correct \
     (28 U.S.C. § 1746; leave out \"under the laws of the United States of America\" when signed within the United States)",
    "Executed on (date)",
    "At (place)",
    "Signature",
];

fn copy_certificate(m: &Material) -> Vec<Block> {
    let mut blocks =
        vec![heading("United States: certification of data copied from an electronic device (FRE 902(14))")];
    blocks.extend(blanks([
        "1. Name, title and employer of the person who certifies",
        "2. Relation to the case",
        "3. Why qualified: training, certificates, how often done before",
    ]));
    blocks.push(
        Line::of("4. What was copied, from what, when, by whom, by what process, and with what result:")
            .block(),
    );
    blocks.extend(exhibits(m));
    blocks.push(
        Line::of(
            "5. Process of digital identification: SHA-256 of the whole source was computed while it was read. The stored copy was \
             read again and its SHA-256 compared with that value. Equal values mean equal content.",
        )
        .block(),
    );
    blocks.push(heading("6. Why the program can be relied on"));
    blocks.push(list(m.exhibits.iter().take(MOST).map(|x| answers::tested(m, x)).collect(), "part 10"));
    blocks.extend(blanks([
        "Known error rate, acceptance and peer review, in the words of the person who certifies",
    ]));
    blocks.push(
        Line::of(
            "7. This certification authenticates the data only. It says nothing on whether the content is true, relevant or \
             admissible. The record and this certification were made available to the other party before trial on:",
        )
        .block(),
    );
    blocks.push(blank("Date of notice (Rule 902(11))"));
    blocks.extend(blanks(PERJURY));
    blocks
}

fn process_certificate(m: &Material) -> Vec<Block> {
    let mut blocks =
        vec![heading("United States: certification of a process or system (FRE 902(13), 901(b)(9))")];
    blocks.push(blank("Name, title, employer, and why qualified"));
    blocks.push(
        Line::of(
            "What the system does: it reads each byte of a source once, in order, without opening the source for writing. It hashes \
             and stores what it reads, states for every byte whether it was read, and records each act as an entry of a log in \
             which every entry names the hash of the one before.",
        )
        .block(),
    );
    blocks.push(
        Line::of("How it was tested, on what inputs, with what result, on the day and the machine:").block(),
    );
    blocks.push(list(m.exhibits.iter().take(MOST).map(|x| answers::tested(m, x)).collect(), "part 10"));
    blocks.push(Line::of("Which version, and who operated it:").block());
    blocks.push(list(m.exhibits.iter().take(MOST).map(answers::tool).collect(), "part 10"));
    blocks.push(
        Line::of(
            "Built-in safeguards: who may write is bound to a signing key; entries can only be added; the number of entries and the \
             root over them are signed after each act; the whole was verified for this report with the verdict ",
        )
        .strong(m.verification.verdict.to_string())
        .say(".")
        .block(),
    );
    blocks.push(blank("Working properly that day: what I saw, and how I know"));
    blocks.extend(blanks(PERJURY));
    blocks
}

fn records_certificate(m: &Material) -> Vec<Block> {
    let span = || m.entries().map(|(_, entry)| &entry.time.wall);
    let (first, last) = (span().min(), span().max());
    let range = match (first, last) {
        (Some(first), Some(last)) => format!("from {} to {}", units::time_utc(first), units::time_utc(last)),
        _ => String::new(),
    };
    let log = &m.log;
    let cites = [log.cite(0), log.cite(log.size().saturating_sub(1))];
    let root = log.root().map(|root| root.to_string()).unwrap_or_default();
    let mut blocks = vec![heading(
        "United States: certification of records of a regularly conducted activity (FRE 902(11))",
    )];
    blocks.push(blank("Custodian or other qualified person: name, title, employer"));
    blocks.push(Block::Facts(vec![
        fact(
            "Records",
            &format!(
                "custody logs of the case, {} in the case's own",
                units::count(log.size(), "entry", "entries")
            ),
            &cites,
        ),
        fact("Entries written", &range, &cites),
        mono_fact("Root over the case's log", &root, &cites),
        fact(
            "Made at or near the time",
            "the program writes each entry when the act begins or ends, with the machine's clock",
            &cites,
        ),
    ]));
    blocks.extend(blanks([
        "Made by, or from information given by, a person with knowledge",
        "Kept in the course of a regularly conducted activity of (business)",
        "Making the record was a regular practice of that activity",
    ]));
    blocks.extend(blanks(PERJURY));
    blocks
}

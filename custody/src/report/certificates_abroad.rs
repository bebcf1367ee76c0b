//! Drafts of certificates of other places: India's section 63 with its Schedule, and the statement of an expert in
//! England and Wales.

use super::answers;
use super::blocks::{Line, fact, list, mono_fact};
use super::certificates::{MOST, blanks, heading};
use super::document::{Block, Fact};
use super::material::{ExhibitMaterial, Material};
use super::{text, units};
use crate::entry::EntryType;

pub(super) fn india(m: &Material) -> Vec<Block> {
    let mut blocks = vec![heading(
        "India: certificate under section 63(4)(c), Bharatiya Sakshya Adhiniyam 2023, Schedule",
    )];
    let hashes = |x: &ExhibitMaterial| -> Vec<Fact> {
        let Some(manifest) = &x.manifest else { return Vec::new() };
        let end = x.log.cite_first(&EntryType::ACQUIRE_END);
        let source = &manifest.source;
        let more = |name: &str| source.more.get(name).map(super::words::plain).unwrap_or_default();
        let start = x.log.cite_first(&EntryType::ACQUIRE_START);
        let mut facts = vec![
            fact("Exhibit", &x.id, &start),
            fact("Make and model", &source.model.clone().unwrap_or_default(), &start),
            fact("Colour", "", &[]),
            fact("Serial number", &source.serial.clone().unwrap_or_default(), &start),
            fact(
                "IMEI / UIN / UID / MAC / Cloud id",
                &[more("wwid"), more("cloud_id")]
                    .iter()
                    .filter(|it| !it.is_empty())
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", "),
                &start,
            ),
            fact(
                "Other relevant information",
                &format!(
                    "{}; {}",
                    source.path.clone().unwrap_or_default(),
                    source.size.map(units::size).unwrap_or_default()
                ),
                &start,
            ),
        ];
        for stream in &manifest.streams {
            facts.push(mono_fact(
                format!("Hash value (stream {})", stream.name),
                &stream.sha256.to_string(),
                &end,
            ));
        }
        facts.push(fact("Hash algorithm", "SHA256 (of the choices SHA1, SHA256, MD5, other)", &end));
        facts.push(fact("Hash report", "part 9 of this report, to be enclosed", &[]));
        facts
    };
    blocks.push(heading("Part A: to be filled by the party"));
    blocks.extend(blanks([
        "I, (name), son / daughter / spouse of",
        "residing or employed at",
        "do hereby solemnly affirm and sincerely state and submit as follows: I have produced the electronic record or output of the \
         digital record taken from the following device or digital record source (tick): computer or storage media / DVR / mobile / \
         flash drive / CD or DVD / server / cloud / other",
    ]));
    blocks.extend(m.exhibits.iter().take(MOST).map(|x| Block::Facts(hashes(x))));
    blocks.extend(blanks([
        "The device or source was under lawful control for regularly creating, storing or processing information, and during that \
         period the computer or communication device was working properly and the relevant information was regularly fed into it in \
         the ordinary course (or: if it was not working properly or out of operation at any time, that has not affected the record or \
         its accuracy)",
        "The device or source is (tick): owned / maintained / managed / operated by me",
        "Name and signature",
        "Date (DD/MM/YYYY)",
        "Time (IST, 24 hours)",
        "Place",
    ]));
    blocks.push(heading("Part B: to be filled by the expert"));
    blocks.extend(blanks([
        "I, (name), son / daughter / spouse of",
        "residing or employed at",
        "do hereby solemnly affirm that the produced electronic record or output of the digital record is obtained from the following \
         device or digital record source (tick): computer or storage media / DVR / mobile / flash drive / CD or DVD / server / cloud / \
         other",
    ]));
    blocks.extend(m.exhibits.iter().take(MOST).map(|x| Block::Facts(hashes(x))));
    blocks.extend(blanks([
        "Name, designation and signature",
        "Date (DD/MM/YYYY)",
        "Time (IST, 24 hours)",
        "Place",
    ]));
    blocks
}

pub(super) fn england(m: &Material) -> Vec<Block> {
    let mut blocks = vec![heading(
        "England and Wales: statement for an expert's report (Criminal Procedure Rules, Part 19)",
    )];
    blocks.extend(blanks([
        "Qualifications, relevant experience and accreditation (19.4(a))",
        "Literature and other information relied on (19.4(b))",
        "Substance of all facts given to me that are material to the opinions (19.4(c))",
    ]));
    blocks.push(
        Line::of("Which of these facts are within my own knowledge (19.4(d)). The entries give:").block(),
    );
    let facts = m
        .exhibits
        .iter()
        .take(MOST)
        .flat_map(|x| [answers::copied(x), answers::same(x), answers::source_changed(x)]);
    blocks.push(list(facts.collect(), "part 7"));
    blocks.push(
        Line::of("Who carried out any examination, measurement, test or experiment (19.4(e)):").block(),
    );
    let people = super::authority::people(m);
    let names = people.keys().map(|[name, role, org, _]| {
        let words = [name, role, org]
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(|text| text::cell(text))
            .collect::<Vec<_>>();
        if words.is_empty() { Line::default().no_record() } else { Line::of(words.join(", ")) }
    });
    blocks.push(list(names.collect(), "part 5"));
    blocks.extend(blanks([
        "Range of opinion, and reasons for my own (19.4(f))",
        "Qualifications to my opinion, if any (19.4(g))",
        "Anything that might reasonably undermine my opinion or detract from my credibility or impartiality (19.3(3)(c))",
        "Summary of conclusions (19.4(i))",
        "I understand my duty to the court, and have complied and will continue to comply with it (19.4(j))",
        "Declaration of truth as in a witness statement (19.4(k))",
        "Signature and date",
    ]));
    blocks
}

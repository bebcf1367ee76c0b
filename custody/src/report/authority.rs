//! Part 4: by what authority, and what was taken under it. Part 5: who acted, and what is known of them.

use std::collections::BTreeMap;

use super::answers::{actor, kind_words};
use super::blocks::{Line, fact, hashes, mono_fact, numbers, part, row, table, times, words};
use super::document::{Block, Cite, NO_RECORD, Part, Span};
use super::material::Material;
use super::{text, units};
use crate::entry::EntryType;
use crate::parties;

pub(super) fn authority(m: &Material) -> Part {
    let genesis = [Cite::new("case", 0)];
    let mut blocks = vec![Block::Facts(vec![
        fact("Authority of the case", &m.case.authority, &genesis),
        fact("Begins, ends", "", &[]),
        fact("Person in overall charge", "", &[]),
        fact("Written authority enclosed", "", &[]),
    ])];
    let rows = m.exhibits.iter().map(|x| {
        let start = x.log.first(&EntryType::ACQUIRE_START);
        let source = x.manifest.as_ref().map(|manifest| &manifest.source);
        let whys =
            || m.about(x).filter_map(|(log, entry)| Some((log.cite(entry.seq), entry.about.why.as_ref()?)));
        let given = whys().find(|(_, why)| !why.authority.is_empty());
        let purpose = whys().find(|(_, why)| !why.purpose.is_empty());
        let mut cites: Vec<String> = given.iter().chain(&purpose).map(|(cite, _)| cite.to_string()).collect();
        let given = match given {
            Some((_, why)) => why.authority.clone(),
            None if m.case.authority.is_empty() => NO_RECORD.to_owned(),
            None => {
                cites.insert(0, "[case 0]".to_owned());
                "that of the case".to_owned()
            }
        };
        cites.dedup();
        let cite = cites.join(" ");
        let purpose = purpose.map_or_else(|| NO_RECORD.to_owned(), |(_, why)| why.purpose.clone());
        row([
            x.id.clone(),
            source.map_or_else(String::new, |source| kind_words(&source.kind).to_owned()),
            source.and_then(|source| source.path.clone()).unwrap_or_else(|| NO_RECORD.to_owned()),
            start.map_or_else(|| NO_RECORD.to_owned(), |entry| units::time(&entry.time.wall)),
            given,
            purpose,
            cite,
        ])
    });
    let columns = vec![
        words("Exhibit", 2),
        words("What", 3),
        words("Source", 5),
        times("Begun (UTC)"),
        words("Authority", 4),
        words("Purpose", 4),
        words("Entry", 3),
    ];
    blocks.extend(table("What was taken, and under which authority", columns, rows, "custody.jsonl"));
    let decisions = [
        EntryType::ALERT_RECEIVED,
        EntryType::DECISION_MADE,
        EntryType::APPROVAL_GIVEN,
        EntryType::ISOLATION_DONE,
        EntryType::ISOLATION_UNDONE,
    ];
    if m.of(&decisions).next().is_some() {
        let rows = m.of(&decisions).map(|(log, entry)| {
            row([
                log.cite(entry.seq).to_string(),
                units::time(&entry.time.wall),
                entry.kind.to_string(),
                actor(entry),
                super::words::told(entry),
            ])
        });
        let columns =
            vec![words("Entry", 3), times("Time (UTC)"), words("Act", 3), words("By", 4), words("What", 8)];
        blocks.extend(table("Decisions and approvals", columns, rows, "custody.jsonl"));
    }
    blocks.push(
        Line::of(
            "Whether what was taken stays within the authority is for a person to judge: this report sets both beside each other.",
        )
        .block(),
    );
    part(4, "authority", "Authority and scope", "Were you allowed, and did you stay within it?", blocks)
}

/// What one person did, as the entries tell.
#[derive(Default)]
pub(super) struct Acts {
    pub(super) count: u64,
    pub(super) first: String,
    pub(super) last: String,
    pub(super) example: Option<Cite>,
}

/// Everybody who acted, by name, role, organisation and key.
pub(super) fn people(m: &Material) -> BTreeMap<[String; 4], Acts> {
    let mut people: BTreeMap<[String; 4], Acts> = BTreeMap::new();
    for (log, entry) in m.entries() {
        let actor = &entry.actor;
        let who = [&actor.name, &actor.role, &actor.org, &actor.key].map(String::clone);
        // Names beyond any laboratory's are counted with the last of them.
        if people.len() > 10_000 && !people.contains_key(&who) {
            continue;
        }
        let acts = people.entry(who).or_default();
        acts.count += 1;
        if acts.first.is_empty() || entry.time.wall < acts.first {
            acts.first.clone_from(&entry.time.wall);
        }
        if entry.time.wall > acts.last {
            acts.last.clone_from(&entry.time.wall);
        }
        acts.example.get_or_insert_with(|| log.cite(entry.seq));
    }
    people
}

/// The table of certificates, or a sentence that there is none.
fn or_no_certificate(blocks: Vec<Block>) -> Vec<Block> {
    match blocks.first() {
        Some(Block::Table(table)) if table.rows.is_empty() => {
            vec![Line::of("Certificates that bind a key to a person: ").no_record().say(".").block()]
        }
        _ => blocks,
    }
}

pub(super) fn competence(m: &Material) -> Part {
    let known = |text: &String| if text.is_empty() { NO_RECORD.to_owned() } else { text.clone() };
    let people = people(m);
    let rows = people.iter().map(|([name, role, org, key], acts)| {
        let mut row = row([
            known(name),
            known(role),
            known(org),
            key.clone(),
            units::thousands(acts.count),
            units::time(&acts.first),
            units::time(&acts.last),
            acts.example.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
        if let Some(cell) = row.cells.get_mut(3) {
            *cell = vec![Span::mono(text::cell(key))];
        }
        row
    });
    let columns = vec![
        words("Name", 4),
        words("Role", 3),
        words("Organisation", 3),
        hashes("Key that signed (fingerprint)", 6),
        numbers("Acts", 2),
        times("First (UTC)"),
        times("Last (UTC)"),
        words("First entry", 2),
    ];
    let mut blocks = table("Everybody whom an entry names", columns, rows, "custody.jsonl");
    blocks.push(Line::of(
        "Name and role are as they were given to the program; the key is what signed. That a key belongs to a person, only a \
         certificate or the person can say.",
    ).block());
    let signed = m.entries().filter(|(_, entry)| !entry.about.party_sigs.is_empty());
    let certified =
        signed.flat_map(|(log, entry)| parties::check(entry).into_iter().map(move |it| (log, it)));
    let rows = certified.filter_map(|(log, it)| {
        let certificate = it.certificate.as_ref()?;
        let names =
            if certificate.names.is_empty() { NO_RECORD.to_owned() } else { certificate.names.join(", ") };
        let roles =
            if certificate.roles.is_empty() { NO_RECORD.to_owned() } else { certificate.roles.join(", ") };
        let held = if certificate.held { "held when it was used" } else { "DID NOT HOLD when it was used" };
        Some(row([
            log.cite(it.entry).to_string(),
            names,
            roles,
            certificate.key_id.clone(),
            certificate.authority.clone(),
            format!("{}; {held}", certificate.validity),
        ]))
    });
    let columns = vec![
        words("Entry", 3),
        words("Names", 3),
        words("Roles", 3),
        words("Certificate", 3),
        hashes("Authority's key", 6),
        words("Holds", 5),
    ];
    let shown = table("Certificates that parties of a handover showed", columns, rows, "custody.jsonl");
    blocks.extend(or_no_certificate(shown));
    let mut facts = vec![
        fact("Training and certificates of competence", "", &[]),
        fact("Experience with this procedure", "", &[]),
        fact("Employer's accreditation", "", &[]),
        fact("Witness to the acquisition", "", &[]),
    ];
    for log in m.logs() {
        for entry in log
            .entries
            .iter()
            .filter(|entry| [EntryType::KEY_ADDED, EntryType::KEY_REVOKED].contains(&entry.kind))
            .take(50)
        {
            let label = if entry.kind == EntryType::KEY_ADDED { "Key added" } else { "Key revoked" };
            facts.push(fact(label, &super::words::told(entry), &[log.cite(entry.seq)]));
        }
        if let Some(signer) = &log.signer {
            let label = format!(
                "Key of the head of {}",
                if log.name == "case" {
                    "the case's log".to_owned()
                } else {
                    format!("the log of {}", log.name)
                }
            );
            facts.push(mono_fact(label, &signer.fingerprint(), &[]));
        }
    }
    blocks.push(Block::Facts(facts));
    part(5, "people", "People and competence", "Who are you, and who says so?", blocks)
}

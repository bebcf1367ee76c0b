//! The tamper corpus: every threat of the model carried out against a small case, in thousands of variants.
//!
//! `cargo test` runs a sample. The whole corpus, with the table of what was tried, found and noted:
//! `EXHIBIT_TAMPER=all cargo test --release -p exhibit-custody --test custody tamper -- --nocapture`.
//! So many of each class: `EXHIBIT_TAMPER=40`. One class, or one variant of it: `EXHIBIT_TAMPER='an entry edited'`, `EXHIBIT_TAMPER='an entry edited:17'`.

mod attack;
mod clean;
mod cuts;
mod files;
mod forged_log;
mod lines;
mod made_case;
mod people;
mod spelling;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use custody::verify::verify;

use crate::support::{copy_folder, faults};
use attack::{Attack, Class, Expected, Random};
use made_case::{MadeCase, View};

/// How many variants of each class a normal test run tries.
const SAMPLE: u32 = 3;
/// No check of so small a case may take longer, whatever was put there.
const LONGEST: Duration = Duration::from_secs(20);

fn classes() -> Vec<&'static Class> {
    [lines::CLASSES, cuts::CLASSES, files::CLASSES, spelling::CLASSES, people::CLASSES]
        .into_iter()
        .flatten()
        .collect()
}

#[derive(Debug, Default, Clone)]
struct Tally {
    tried: u32,
    found: u32,
    noted: u32,
    missed: Vec<String>,
}

/// What to run: all, a sample, one class, one variant.
#[expect(clippy::disallowed_methods, reason = "the whole corpus is asked for by an environment variable")]
fn wanted() -> String {
    std::env::var("EXHIBIT_TAMPER").unwrap_or_default()
}

#[test]
fn every_kind_of_tampering_is_found_or_named_as_what_cannot_be() {
    let wanted = wanted();
    let (only, seed) = match wanted.rsplit_once(':') {
        Some((name, seed)) if seed.parse::<u32>().is_ok() => (name.to_owned(), seed.parse::<u32>().ok()),
        _ => (wanted.clone(), None),
    };
    let most: u32 = match only.as_str() {
        "" => SAMPLE,
        number => number.parse().unwrap_or(u32::MAX),
    };
    let all = ["", "all"].contains(&only.as_str()) || most < u32::MAX;
    let classes: Vec<&Class> = classes().into_iter().filter(|class| all || class.name == only).collect();
    assert!(!classes.is_empty(), "no class is called {only:?}");
    let mut jobs: Vec<(usize, u32)> = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        jobs.extend(
            (0..class.tries.min(most))
                .filter(|nth| seed.is_none_or(|seed| seed == *nth))
                .map(|nth| (at, nth)),
        );
    }
    let made = MadeCase::new();
    for view in [View::Bare, View::Trusting, View::Outside, View::Remembering, View::Witnessed] {
        let clean = verify(&made.case, &view.options(&made)).unwrap();
        assert!(clean.is_intact(), "{view:?}: {}", faults(&clean));
    }
    let tallies = run(&made, &classes, &jobs);
    if !wanted.is_empty() {
        print_table(&classes, &tallies);
    }
    let missed: Vec<String> = tallies.into_iter().flat_map(|tally| tally.missed).collect();
    assert!(missed.is_empty(), "{} of {} missed:\n{}", missed.len(), jobs.len(), missed.join("\n"));
}

fn run(made: &MadeCase, classes: &[&Class], jobs: &[(usize, u32)]) -> Vec<Tally> {
    let next = AtomicUsize::new(0);
    let tallies = Mutex::new(vec![Tally::default(); classes.len()]);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, nth)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (expected, missed) = try_one(made, classes[*at], *nth);
                    let mut tallies = tallies.lock().unwrap();
                    let tally = &mut tallies[*at];
                    tally.tried += 1;
                    match (missed, expected) {
                        (Some(missed), _) => tally.missed.push(missed),
                        (None, Expected::Fault { .. }) => tally.found += 1,
                        (None, _) => tally.noted += 1,
                    }
                }
            });
        }
    });
    tallies.into_inner().unwrap()
}

/// Tampers with a fresh copy and verifies it; says what was missed.
fn try_one(made: &MadeCase, class: &Class, nth: u32) -> (Expected, Option<String>) {
    // A seed that changes nothing is replaced by the next that does.
    for again in 0..100u64 {
        let desk = made_case::desk();
        let case = desk.path().join("case");
        copy_folder(&made.case, &case);
        for folder in made_case::EMPTY_FOLDERS {
            std::fs::create_dir_all(case.join(folder)).unwrap();
        }
        let random = Random::new(class.name, u64::from(nth) + again * 1_000_000);
        let mut attack = Attack { made, case: case.clone(), random, did: String::new() };
        let act = || (class.act)(&mut attack);
        let Ok(expected) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)) else {
            let why = format!("{} {}:{nth} could not be carried out", class.threat, class.name);
            return (Expected::Nothing, Some(why));
        };
        if matches!(expected, Expected::Nothing) {
            continue;
        }
        let did = attack.did;
        let began = Instant::now();
        let check = || verify(&case, &class.view.options(made));
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        let took = began.elapsed();
        let missed = match answer {
            Err(_) => Some("the verifier panicked".to_owned()),
            Ok(Err(error)) => Some(format!("the verifier gave up: {error}")),
            Ok(_) if took > LONGEST => Some(format!("the check took {took:?}")),
            Ok(Ok(done)) => expected.unmet(&done).map(|why| {
                format!(
                    "{why}\n  {} {}\n  notes {:?}\n  {}",
                    done.verdict,
                    done.sentence,
                    done.notes,
                    faults(&done)
                )
            }),
        };
        let missed = missed
            .map(|why| format!("{} {}:{nth} ({:?}; {did})\n  {why}", class.threat, class.name, class.view));
        return (expected, missed);
    }
    (Expected::Nothing, Some(format!("{} {}:{nth}: no seed changes anything", class.threat, class.name)))
}

/// What was tried and what came of it, and what cannot be found.
fn print_table(classes: &[&Class], tallies: &[Tally]) {
    eprintln!("{:<4} {:<70} {:>6} {:>6} {:>6} {:>6}", "", "class", "tried", "found", "noted", "missed");
    let mut sum = [0, 0, 0, 0];
    for (class, tally) in classes.iter().zip(tallies) {
        let row = [tally.tried, tally.found, tally.noted, tally.missed.len() as u32];
        let [tried, found, noted, missed] = row;
        eprintln!("{:<4} {:<70} {tried:>6} {found:>6} {noted:>6} {missed:>6}", class.threat, class.name);
        sum.iter_mut().zip(row).for_each(|(sum, more)| *sum += more);
    }
    let [tried, found, noted, missed] = sum;
    eprintln!("{:<4} {:<70} {tried:>6} {found:>6} {noted:>6} {missed:>6}", "", "all");
    eprintln!("\nWhat the files alone cannot show, and why:");
    for class in classes {
        if let Some(why) = class.missable {
            eprintln!("{:<4} {}: {why}", class.threat, class.name);
        }
    }
}

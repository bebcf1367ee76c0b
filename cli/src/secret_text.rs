//! Secrets that a command needs: from a file or standard input, never from an argument, which every process list shows.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::failure::Failure;

/// No secret that is read here is longer.
const LONGEST: u64 = 64 << 10;

/// No file of signatures is longer.
const LONGEST_FILE: u64 = 128 << 20;

/// Reads a secret from a file; `-` is standard input. `what` names it in errors, as `the SAS`.
pub(crate) fn read(place: &Path, what: &str) -> Result<String, Failure> {
    read_up_to(place, what, LONGEST)
}

/// As [`read`], of a file of signatures.
pub(crate) fn read_long(place: &Path, what: &str) -> Result<String, Failure> {
    read_up_to(place, what, LONGEST_FILE)
}

fn read_up_to(place: &Path, what: &str, longest: u64) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if place == Path::new("-") {
        std::io::stdin().lock().take(longest).read_to_string(&mut text)
    } else if place.to_string_lossy().contains("://") {
        return Err(Failure::usage(format!(
            "{what} itself must not be an argument, which every process list shows"
        ))
        .hint("write it into a file and name that, or give - and write it to standard input")
        .hint("what was given must be taken for known by others now: get a new one"));
    } else {
        File::open(place).and_then(|file| file.take(longest).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::usage(format!("{what} cannot be read from {}: {error}", place.display())))?;
    let text = text.trim();
    if text.is_empty() || text.len() as u64 >= longest {
        return Err(Failure::usage(format!("{} does not hold {what}", place.display())));
    }
    Ok(text.to_owned())
}

/// A secret from the environment.
#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
pub(crate) fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

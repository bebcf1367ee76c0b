//! RD39: a canary is captured, verified, given out again, and what was planted in it found.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use custody::Hasher;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::super::check::{Finding, Status, Unable};
use super::super::probe::{Probe, Ran, child};

/// Bytes of the image.
const IMAGE: u64 = 64 << 20;

/// How long one command of the program may take.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// A folder that goes with the drill.
struct Workplace(PathBuf);

impl Workplace {
    fn new(probe: &Probe) -> Result<Self, Unable> {
        let folder = probe.settings.state.join(format!("drill-{}", probe.clock.now().wall_ns));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| Unable::untested(format!("{}: {error}", folder.display())))?;
        Ok(Self(folder))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is planted.
struct Planted {
    words: String,
    /// Whether the image has a file system that the words lie in as a file.
    in_file_system: bool,
}

pub(super) fn drill(probe: &Probe) -> Result<Vec<Finding>, Unable> {
    // `init` would make a key where there is none: a drill leaves nothing behind.
    probe.signer.as_ref().map_err(|why| Unable::untested(why.clone()))?;
    let place = Workplace::new(probe)?;
    let planted = plant(&place)?;
    let case = place.path("case");
    let examiner = probe.settings.examiner.clone();
    let examiner = if examiner.is_empty() { "exhibit ready".to_owned() } else { examiner };
    let ran = probe.exhibit(&["init", &case, "--name", "drill", "--examiner", &examiner], PATIENCE)?;
    done("init", &ran)?;
    let mut found = vec![
        step("disk", disk(probe, &place, &case, &planted)),
        step("files", files(probe, &place, &case, &planted)),
    ];
    if let Some(asset) = &probe.settings.ready.canary.ebs {
        found.push(step(asset, ebs(probe, &place, &case, asset)));
    }
    Ok(found)
}

/// What came of one canary.
fn step(scope: &str, outcome: Result<(bool, String), Unable>) -> Finding {
    let expected = "acquired, verified, given out again, and the planted words found";
    match outcome {
        Ok((holds, seen)) => Finding::of(scope, holds, &seen, expected).with_evidence(seen),
        // The program was there and said no: that is what a drill is to find out.
        Err(Unable::CouldNotTest(why) | Unable::NotApplicable(why)) => {
            Finding::new(scope, Status::Fail, why, expected)
        }
    }
}

/// A command that must have done its work without an issue.
fn done(what: &str, ran: &Ran) -> Result<(), Unable> {
    match ran.code {
        Some(0) => Ok(()),
        code => {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            Err(Unable::untested(format!("`exhibit {what}` ended with {code}: {}", ran.last_words())))
        }
    }
}

fn plant(place: &Workplace) -> Result<Planted, Unable> {
    let io = |error: std::io::Error| Unable::untested(format!("the canary could not be made: {error}"));
    let mut random = [0; 24];
    SystemRandom::new().fill(&mut random).map_err(|_| Unable::untested("there are no random numbers"))?;
    let words = format!("exhibit canary {}", hex::encode(random));
    let folder = place.0.join("files/etc");
    fs::create_dir_all(&folder).map_err(io)?;
    fs::write(folder.join("planted.txt"), format!("{words}\n")).map_err(io)?;
    let noise: Vec<u8> =
        (0..2_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(place.0.join("files/noise.bin"), &noise).map_err(io)?;
    let image = place.0.join("disk.img");
    File::create_new(&image).and_then(|file| file.set_len(IMAGE)).map_err(io)?;
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(place.0.join("files")).arg(&image);
    let made = child(make, Duration::from_secs(60)).is_ok_and(|ran| ran.code == Some(0));
    let has_reader = Command::new("debugfs").arg("-V").output().is_ok_and(|out| out.status.success());
    if !made {
        // Without tools for a file system the words stand in the middle of the image.
        let mut file = File::options().write(true).open(&image).map_err(io)?;
        file.write_all(&noise).map_err(io)?;
        file.write_all(words.as_bytes()).map_err(io)?;
    }
    Ok(Planted { words, in_file_system: made && has_reader })
}

/// Options of every acquisition, as the settings say.
fn protection(probe: &Probe) -> Vec<&str> {
    probe.settings.capture.encrypt_to.iter().flat_map(|to| ["--encrypt-to", to.as_str()]).collect()
}

/// Acquires, verifies and gives out again; the seconds of each.
fn through(
    probe: &Probe,
    acquire: &[&str],
    (case, name): (&str, &str),
    (format, output): (&str, &str),
) -> Result<[f64; 3], Unable> {
    let timed = |what: &str, arguments: &[&str]| {
        let begun = Instant::now();
        let ran = probe.exhibit(arguments, PATIENCE)?;
        done(what, &ran)?;
        Ok::<_, Unable>((begun.elapsed().as_secs_f64(), ran))
    };
    let mut arguments = vec!["acquire"];
    arguments.extend(acquire);
    arguments.extend(["--case", case, "--name", name]);
    arguments.extend(protection(probe));
    let (acquired, ran) = timed("acquire", &arguments)?;
    let said = String::from_utf8_lossy(&ran.stdout);
    // The bundle's path is the last line.
    let bundle = said.lines().last().unwrap_or_default().trim().to_owned();
    let (verified, _) = timed("verify", &["verify", &bundle])?;
    let (given, _) = timed("export", &["export", &bundle, "--format", format, "-o", output])?;
    Ok([acquired, verified, given])
}

fn told([acquired, verified, given]: [f64; 3]) -> String {
    format!("acquired in {acquired:.1} s, verified in {verified:.1} s, given out in {given:.1} s")
}

fn disk(probe: &Probe, place: &Workplace, case: &str, planted: &Planted) -> Result<(bool, String), Unable> {
    let (image, out) = (place.path("disk.img"), place.path("out.img"));
    let took = through(probe, &["disk", &image], (case, "canary-disk"), ("raw", &out))?;
    let (before, after) = (hash(Path::new(&image))?, hash(Path::new(&out))?);
    if before != after {
        return Ok((false, format!("{}; what came out is other than what went in", told(took))));
    }
    let is_found = if planted.in_file_system {
        let mut read = Command::new("debugfs");
        read.args(["-R", "cat /etc/planted.txt"]).arg(&out);
        let ran = child(read, Duration::from_secs(60))?;
        String::from_utf8_lossy(&ran.stdout).trim() == planted.words
    } else {
        holds(Path::new(&out), planted.words.as_bytes())?
    };
    let how = if planted.in_file_system { "read out of its file system" } else { "found in its bytes" };
    let seen = if is_found {
        format!("{}; SHA-256 {after}; the planted file was {how}", told(took))
    } else {
        format!("{}; the planted file is not in it", told(took))
    };
    Ok((is_found, seen))
}

fn files(probe: &Probe, place: &Workplace, case: &str, planted: &Planted) -> Result<(bool, String), Unable> {
    let (folder, out) = (place.path("files"), place.path("out.tar"));
    let took = through(probe, &["logs", &folder], (case, "canary-files"), ("tar", &out))?;
    let is_found = holds(Path::new(&out), planted.words.as_bytes())?;
    let seen = if is_found { "the planted file is in it" } else { "the planted file is not in it" };
    Ok((is_found, format!("{}; {seen}", told(took))))
}

fn ebs(probe: &Probe, place: &Workplace, case: &str, asset: &str) -> Result<(bool, String), Unable> {
    let out = place.path("out.ebs");
    let aws = &probe.settings.aws;
    let mut arguments = vec!["ebs", asset];
    for (option, value) in
        [("--region", &aws.region), ("--aws-profile", &aws.profile), ("--endpoint-url", &aws.endpoint_url)]
    {
        if let Some(value) = value {
            arguments.extend([option, value]);
        }
    }
    let took = through(probe, &arguments, (case, "canary-ebs"), ("raw", &out))?;
    let Some(words) = &probe.settings.ready.canary.planted else {
        return Ok((false, format!("{}; ready.canary.planted does not say what to look for", told(took))));
    };
    let is_found = holds(Path::new(&out), words.as_bytes())?;
    let seen = if is_found { "the planted words are in it" } else { "the planted words are not in it" };
    Ok((is_found, format!("{}; {seen}", told(took))))
}

fn hash(path: &Path) -> Result<String, Unable> {
    let mut hasher = Hasher::new();
    each_piece(path, |piece| {
        hasher.update(piece);
        false
    })?;
    Ok(hasher.finish().to_string())
}

/// Whether these bytes stand somewhere in a file.
fn holds(path: &Path, words: &[u8]) -> Result<bool, Unable> {
    let mut tail: Vec<u8> = Vec::new();
    each_piece(path, |piece| {
        tail.extend_from_slice(piece);
        let is_there = tail.windows(words.len().max(1)).any(|window| window == words);
        // What may be the beginning of the words is looked at again with what follows.
        let keep = tail.len().saturating_sub(words.len());
        tail.drain(..keep);
        is_there
    })
}

/// Reads a file piece by piece until `look` has seen enough; gives whether it has.
fn each_piece(path: &Path, mut look: impl FnMut(&[u8]) -> bool) -> Result<bool, Unable> {
    let io = |error: std::io::Error| Unable::untested(format!("{}: {error}", path.display()));
    let mut file = File::open(path).map_err(io)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece).map_err(io)?;
        if read == 0 {
            return Ok(false);
        }
        if look(piece.get(..read).unwrap_or_default()) {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_lie_across_two_pieces_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut bytes = vec![0; (1 << 20) - 3];
        bytes.extend(b"canary");
        fs::write(&path, &bytes).unwrap();
        assert!(holds(&path, b"canary").unwrap());
        assert!(!holds(&path, b"canaries").unwrap());
    }
}

//! By whose order a collector on another host acquires: a commission of the case, or a grant where the evidence goes to a
//! store. It lies in a folder of the step's own until it is fulfilled, so that a run after a kill takes it up again.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use custody::{Case, Commission, EntryType, Exhibit, sha256};

use super::programs::{Ended, Input, Limit, of_ours, run};
use super::ssh_settings::SshSettings;
use crate::steps::{Context, Failed};

/// The name of what a job's step makes, in the folder's name there.
pub(crate) fn tag(job: &str, step: &str) -> String {
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect()
    };
    // Two steps whose names differ in what is replaced are still two.
    let short: String = sha256(format!("{job}\n{step}").as_bytes()).to_string().chars().take(8).collect();
    format!("{}-{}-{short}", plain(job), plain(step))
}

pub(crate) fn work_folder(context: &Context<'_>, tag: &str) -> Result<PathBuf, Failed> {
    let work = context.settings.state.join("collections").join(tag);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&work);
    made.map_err(|error| Failed::for_now(format!("{work:?} cannot be made: {error}")))?;
    Ok(work)
}

/// By what the collector acquires for the case.
pub(super) enum Order {
    Commission(PathBuf),
    Grant(PathBuf),
}

impl Order {
    /// The order of an earlier run of this step, if it is for the same and nothing came for it, or a new one.
    pub(super) fn take_up(
        context: &Context<'_>,
        settings: &SshSettings,
        work: &Path,
        name: &str,
        kind: &str,
    ) -> Result<Self, Failed> {
        let is_stored = context.settings.capture.to.is_some();
        let file = work.join(if is_stored { "grant" } else { "commission" });
        let order = if is_stored { Self::Grant(file.clone()) } else { Self::Commission(file.clone()) };
        if !is_stored && file.is_file() {
            if let Some(earlier) = read(&file)
                && earlier.name == name
                && earlier.kind == kind
                && state(context, &earlier)? == State::Waits
            {
                return Ok(order);
            }
            fs::remove_file(&file).map_err(|error| Failed::for_now(format!("{file:?}: {error}")))?;
        }
        let capture = &context.settings.capture;
        let mut command = of_ours(context.program, context.settings);
        match &capture.to {
            None => command.args(["commission", "--kind", kind]),
            Some(place) => {
                let hours = (settings.seconds() / 3600 + 1).clamp(1, 168).to_string();
                let size = settings.most.unwrap_or(100 << 30).to_string();
                let words = ["grant", "--to", place, "--kind", kind, "--hours", &hours, "--size", &size];
                account(context, command.args(words))
            }
        };
        command.arg("--case").arg(context.case).args(["--name", name, "-o"]).arg(&file);
        for recipient in &capture.encrypt_to {
            command.args(["--encrypt-to", recipient]);
        }
        let limit = Limit { until: Instant::now() + Duration::from_secs(600), stop: Some(context.stop) };
        let ended = run(&mut command, Input::Nothing, limit)?;
        match ended.code {
            Some(0) => Ok(order),
            Some(2) => Err(Failed::for_good(format!("no order could be written, {}", ended.told()))),
            _ => Err(Failed::for_now(format!("no order could be written, {}", ended.told()))),
        }
    }

    pub(super) fn file(&self) -> &Path {
        match self {
            Self::Commission(file) | Self::Grant(file) => file,
        }
    }

    pub(super) fn option(&self) -> &'static str {
        match self {
            Self::Commission(_) => "--commission",
            Self::Grant(_) => "--grant",
        }
    }
}

fn read(commission: &Path) -> Option<Commission> {
    fs::read(commission).ok().and_then(|bytes| Commission::from_bytes(&bytes).ok())
}

/// What became of a commission.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing has come for it.
    Waits,
    /// Something lies in the exhibit's place, and the case's log does not tell of it.
    Arrived,
    /// It was fulfilled or given up, or its exhibit is not there.
    Ended,
}

fn state(context: &Context<'_>, commission: &Commission) -> Result<State, Failed> {
    let fault = |error: custody::Error| Failed::for_now(format!("the case cannot be read: {error}"));
    let case = Case::open(context.case).map_err(fault)?;
    let mut exhibits = case.exhibits().map_err(fault)?.into_iter();
    let is_it = |exhibit: &Exhibit| exhibit.id == commission.exhibit && exhibit.is_called(&commission.name);
    let Some(exhibit) = exhibits.find(is_it).filter(|_| commission.case == case.file().id) else {
        return Ok(State::Ended);
    };
    let entries = case.log().read().map_err(fault)?.entries;
    let has_ended = entries.iter().any(|entry| {
        entry.kind == EntryType::APPROVAL_GIVEN
            && entry.about.exhibit.as_ref() == Some(&exhibit.id)
            && entry.how_text("command") == Some("commission")
            && matches!(entry.how_text("act"), Some("fulfilled" | "given up"))
    });
    let mut files = fs::read_dir(&exhibit.folder)
        .map_err(|error| Failed::for_now(format!("{:?} cannot be read: {error}", exhibit.folder)))?;
    Ok(match files.next() {
        _ if has_ended => State::Ended,
        Some(_) => State::Arrived,
        None => State::Waits,
    })
}

/// Ends what an earlier run of the step has brought and was killed in: it is checked again, and the case's log told of it.
///
/// # Errors
///
/// [`Failed`] where what lies in the exhibit's place is not what it should be; another try then makes another.
pub(super) fn end_earlier(context: &Context<'_>, work: &Path) -> Result<(), Failed> {
    let file = work.join("commission");
    let Some(commission) = read(&file) else { return Ok(()) };
    let forget = || fs::remove_file(&file).map_err(|error| Failed::for_now(format!("{file:?}: {error}")));
    match state(context, &commission)? {
        State::Waits => return Ok(()),
        State::Ended => return forget(),
        State::Arrived => {}
    }
    let mut command = of_ours(context.program, context.settings);
    // What lies there is all that is read.
    command.args(["commission", "--take", "/dev/null", "--commission"]).arg(&file);
    command.arg("--case").arg(context.case);
    let limit = Limit { until: Instant::now() + Duration::from_secs(3600), stop: Some(context.stop) };
    let ended = run(&mut command, Input::Nothing, limit)?;
    let words =
        format!("{} came in an earlier run, and was not taken in, {}", commission.exhibit, ended.told());
    match ended.code {
        Some(0 | 1) => forget(),
        Some(3) => {
            forget()?;
            Err(Failed::for_now(format!("{words}; it stays as it is, and another is made")))
        }
        _ => Err(Failed::for_now(words)),
    }
}

/// In which account, as every command takes it.
pub(crate) fn account<'c>(context: &Context<'_>, command: &'c mut Command) -> &'c mut Command {
    let aws = &context.settings.aws;
    for (option, value) in
        [("--region", &aws.region), ("--aws-profile", &aws.profile), ("--endpoint-url", &aws.endpoint_url)]
    {
        if let Some(value) = value {
            command.args([option, value]);
        }
    }
    command
}

/// Ends a grant: takes what came into the case.
pub(super) fn close(context: &Context<'_>, grant: &Path) -> Result<Ended, Failed> {
    let mut command = of_ours(context.program, context.settings);
    command.args(["grant", "--give-up", "--close"]).arg(grant).arg("--case").arg(context.case);
    let limit = Limit { until: Instant::now() + Duration::from_secs(3600), stop: Some(context.stop) };
    run(account(context, &mut command), Input::Nothing, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_any_sign_has_another_name_there() {
        assert_ne!(tag("J1", "a.b"), tag("J1", "a-b"));
        let long = "c".repeat(60);
        assert_ne!(tag("J1", &format!("{long}1")), tag("J1", &format!("{long}2")));
        assert!(tag("J1", &long).len() < 100);
    }
}

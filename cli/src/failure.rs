//! How a command ends: exit codes, the error chain printed once, and what to do next.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// How a command that did its work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Exit code 0.
    Done,
    /// Exit code 1: done, with issues listed.
    WithIssues,
    /// Exit code 3: the verdict is that something does not verify.
    NotVerified,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::WithIssues => ExitCode::from(1),
            Outcome::NotVerified => ExitCode::from(3),
        }
    }
}

/// What kind of failure it was, which is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Exit code 2: wrong usage.
    Usage,
    /// Exit code 3: something does not verify.
    NotVerified,
    /// Exit code 4: could not finish.
    CouldNotFinish,
}

/// A command that could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: FailureKind,
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

impl Failure {
    /// Wrong usage: the person must change the command.
    pub(crate) fn usage(what: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::Usage, error: what.into().into(), hints: Vec::new() }
    }

    /// Something that was to be taken on does not verify.
    pub(crate) fn verification(what: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::NotVerified, error: what.into().into(), hints: Vec::new() }
    }

    /// The work could not be finished.
    pub(crate) fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        let error = error.into();
        let hints = if lacks_identity(&*error) {
            vec!["name the file of an age key that it was encrypted to with --identity FILE".to_owned()]
        } else {
            Vec::new()
        };
        Failure { kind: FailureKind::CouldNotFinish, error, hints }
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// What went wrong, without hints.
    pub(crate) fn words(&self) -> String {
        chain(&*self.error)
    }

    /// Exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.kind {
            FailureKind::Usage => ExitCode::from(2),
            FailureKind::NotVerified => ExitCode::from(3),
            FailureKind::CouldNotFinish => ExitCode::from(4),
        }
    }

    /// Whether the reader of our output went away, which is no failure.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(&*self.error);
        while let Some(error) = next {
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.words())?;
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Whether something encrypted was to be read without a key.
fn lacks_identity(error: &(dyn Error + 'static)) -> bool {
    let encrypted =
        |error: &custody::bundle::Error| matches!(error, custody::bundle::Error::Encrypted { .. });
    error.downcast_ref().is_some_and(encrypted) || error.source().is_some_and(lacks_identity)
}

/// An error with its causes, on one line. A cause that only repeats what was said is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if !words.ends_with(&more) {
            words = format!("{words}: {more}");
        }
        next = error.source();
    }
    words
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error)
    }
}

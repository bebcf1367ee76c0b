//! `exhibit jobs`: what the service did, does and waits for, and what people say to it. One file an act.

mod approve;
mod cancel;
mod list;
mod retry;
mod show;

use std::path::PathBuf;

use custody::Clock;
use custody::clock::rfc3339;
use respond::jobs::Person;
use respond::settings::Settings;
use respond::state::State;
use respond::state::jobs::number_of;

use crate::failure::{Failure, Outcome};
use crate::session::Session;

/// Look at the service's jobs, allow them, end them, or have them tried again
///
/// Works beside a running service, on its state: who may write that may do this. Who did it stands in the custody log of the
/// job's case.
///
/// Example: exhibit jobs list --config /etc/exhibit/serve.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

/// The table of acts.
#[derive(Debug, clap::Subcommand)]
enum Act {
    List(list::Args),
    Show(show::Args),
    Approve(approve::Args),
    Cancel(cancel::Args),
    Retry(retry::Args),
}

/// Which state.
#[derive(Debug, Clone, clap::Args)]
struct Config {
    /// The settings of the service
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::List(args) => list::run(args, session),
        Act::Show(args) => show::run(args, session),
        Act::Approve(args) => approve::run(args, session),
        Act::Cancel(args) => cancel::run(args, session),
        Act::Retry(args) => retry::run(args, session),
    }
}

impl Config {
    fn state(&self) -> Result<(Settings, State), Failure> {
        let settings = Settings::load(&self.config)?;
        if !settings.state.is_dir() {
            return Err(Failure::usage(format!("there is no state at {}", settings.state.display()))
                .hint("the service makes it when it starts: exhibit serve --config FILE"));
        }
        let state = State::open(&settings.state)?;
        Ok((settings, state))
    }
}

fn job_number(text: &str) -> Result<i64, String> {
    number_of(text).ok_or_else(|| "it is the name of a job, as J000017".to_owned())
}

/// The user that runs this, as the operating system knows them: not what the environment says.
pub(crate) fn this_person() -> Result<Person, Failure> {
    let user = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_in(&users, user).unwrap_or_else(|| format!("uid {user}"));
    let mut numbers: Vec<u32> = rustix::process::getgroups()
        .map_err(std::io::Error::from)?
        .iter()
        .map(|group| group.as_raw())
        .collect();
    numbers.push(rustix::process::getgid().as_raw());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    Ok(Person { name, groups: numbers.iter().filter_map(|number| name_in(&groups, *number)).collect() })
}

/// The name with this number in `/etc/passwd` or `/etc/group`, where it is the third field.
fn name_in(text: &str, number: u32) -> Option<String> {
    let number = number.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

fn now(session: &Session) -> i64 {
    session.clock.now().wall_ns
}

/// `2026-11-21 17:03:12`, or a dash.
fn time(at: Option<i64>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| rfc3339(at).replace('T', " ").chars().take(19).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("ana"));
        assert_eq!(name_in(users, 1), None);
        assert_eq!(name_in("adm:x:4:ana\n", 4).as_deref(), Some("adm"));
    }
}

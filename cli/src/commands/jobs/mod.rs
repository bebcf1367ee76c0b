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

/// The user that runs this, as the operating system knows them: not what the environment says, unless that is root's. Under sudo it
/// is the user who called it, whom sudo itself names: the state belongs to the service, so people come to it that way, and each is
/// to count as one.
pub(crate) fn this_person() -> Result<Person, Failure> {
    let user = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "how sudo says who called it")]
    let caller = std::env::var("SUDO_UID").ok();
    if let Some(caller) = caller_of(user, caller.as_deref()) {
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        return Ok(person_in(&users, &groups, caller));
    }
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

/// Who called sudo. Only root is believed: anybody else sets their environment as they like.
fn caller_of(user: u32, sudo_uid: Option<&str>) -> Option<u32> {
    sudo_uid?.parse().ok().filter(|caller| user == 0 && *caller != 0)
}

/// A user with all their groups, as `/etc/passwd` and `/etc/group` have them.
fn person_in(users: &str, groups: &str, user: u32) -> Person {
    let name = name_in(users, user).unwrap_or_else(|| format!("uid {user}"));
    let number = user.to_string();
    let own = users.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next()? == number).then(|| fields.next()?.parse().ok())?
    });
    let own = own.and_then(|own| name_in(groups, own));
    let of = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (group, members) = (fields.next()?, fields.nth(2)?);
        members.split(',').any(|member| member == name).then(|| group.to_owned())
    });
    let mut groups: Vec<String> = own.into_iter().chain(of).collect();
    groups.dedup();
    Person { name, groups }
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

    #[test]
    fn under_sudo_the_caller_counts_and_only_root_is_believed_about_that() {
        assert_eq!(caller_of(0, Some("1000")), Some(1000));
        for (user, named) in
            [(1000, Some("1001")), (0, None), (0, Some("0")), (0, Some("ana")), (0, Some(""))]
        {
            assert_eq!(caller_of(user, named), None, "{user} {named:?}");
        }
        let users = "root:x:0:0:root:/root:/bin/sh\nana:x:1000:100::/home/ana:/bin/sh\n";
        let groups = "root:x:0:\nusers:x:100:\nir-oncall:x:200:ben,ana\nstaff:x:201:anastasia\n";
        let ana = person_in(users, groups, 1000);
        assert_eq!(
            (ana.name.as_str(), ana.groups),
            ("ana", vec!["users".to_owned(), "ir-oncall".to_owned()])
        );
        let stranger = person_in(users, groups, 4242);
        assert_eq!((stranger.name.as_str(), stranger.groups.len()), ("uid 4242", 0));
    }
}

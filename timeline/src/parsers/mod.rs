//! Every format the timeline can read, one file each.

use crate::parser::Parser;

macro_rules! parsers {
    ($($vis:vis $name:ident),* $(,)?) => {
        $($vis mod $name;)*
        /// Every parser, in the order in which they are asked.
        pub static ALL: &[&dyn Parser] = &[$(&$name::PARSER),*];
    };
}

parsers! {
    pub file_times,
    bodyfile,
    auditd,
    zsh_history,
    fish_history,
    bash_history,
    dpkg_log,
    apt_history,
    web_access,
    web_error,
    docker_json_log,
    syslog,
    systemd_journal,
    utmp,
    lastlog,
}

mod home_folder;
mod journal_file;
#[cfg(test)]
mod sample_checks;
mod syslog_messages;
mod written_time;

/// The parser of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Parser> {
    ALL.iter().copied().find(|parser| parser.name() == name)
}

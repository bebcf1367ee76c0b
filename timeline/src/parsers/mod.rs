//! Every format the timeline can read, one file each.

use crate::memory::{Artefact, MemoryParser};
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
    live_processes,
    live_sockets,
    live_sessions,
    syslog,
    systemd_journal,
    utmp,
    lastlog,
    memory_host,
    memory_processes,
    memory_modules,
    memory_sockets,
    memory_commands,
    memory_lines,
}

mod home_folder;
mod journal_file;
mod live_table;
#[cfg(test)]
mod sample_checks;
mod syslog_messages;
mod written_time;

/// The parser of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Parser> {
    ALL.iter().copied().find(|parser| parser.name() == name)
}

/// The parsers that read memory, each with what it reads there.
const OF_MEMORY: [&MemoryParser; 6] = [
    &memory_host::PARSER,
    &memory_processes::PARSER,
    &memory_modules::PARSER,
    &memory_sockets::PARSER,
    &memory_commands::PARSER,
    &memory_lines::PARSER,
];

/// Those of `wanted` that read memory.
pub(crate) fn of_memory(wanted: &[&'static dyn Parser]) -> Vec<(&'static dyn Parser, Artefact)> {
    let is_wanted = |name: &str| wanted.iter().any(|parser| parser.name() == name);
    let of_memory = OF_MEMORY.iter().filter(|parser| is_wanted(parser.name));
    of_memory.map(|parser| (*parser as &'static dyn Parser, parser.artefact)).collect()
}

/// What the parser of that name reads in memory.
pub(crate) fn memory_artefact(name: &str) -> Option<Artefact> {
    OF_MEMORY.iter().find(|parser| parser.name == name).map(|parser| parser.artefact)
}

//! Every format the timeline can read, one file each.

use crate::parser::Parser;

macro_rules! parsers {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*
        /// Every parser, in the order in which they are asked.
        pub static ALL: &[&dyn Parser] = &[$(&$name::PARSER),*];
    };
}

parsers! { syslog, systemd_journal, utmp, lastlog }

#[cfg(test)]
mod sample_checks;
mod journal_file;
mod syslog_messages;

/// The parser of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Parser> {
    ALL.iter().copied().find(|parser| parser.name() == name)
}

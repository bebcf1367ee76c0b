//! Who acts for the service, with what program, key and clock; and who is told what happens.

use std::path::PathBuf;
use std::sync::Arc;

use custody::{Clock, Identity, Signer, Writer};
use serde_json::{Map, Value};

/// By whose hand jobs are done.
#[derive(Clone)]
pub struct Acting {
    /// This program, whose commands steps are.
    pub program: PathBuf,
    /// The key that signs the entries of cases.
    pub key: Arc<dyn Signer>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who, with what, on what machine. The name is that of the settings' examiner.
    pub identity: Identity,
    /// Is told what happens.
    pub teller: Arc<dyn Teller>,
}

impl std::fmt::Debug for Acting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acting").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Acting {
    /// Nanoseconds since 1970.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().wall_ns
    }

    /// A writer of entries.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer::new(&*self.key, &*self.clock, self.identity.clone())
    }

    /// Tells what happened.
    pub(super) fn tell(&self, what: &'static str, job: &str, facts: &[(&'static str, Value)]) {
        let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.teller.told(&Told { what, job: job.to_owned(), facts });
    }
}

/// Something that happened, for logs and counters. Nothing in it is a secret; texts may be hostile, so write them as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What, in few constant words.
    pub what: &'static str,
    /// The job, or empty.
    pub job: String,
    /// The facts.
    pub facts: Map<String, Value>,
}

/// Is told what happens.
pub trait Teller: Send + Sync {
    /// Takes note of it, quickly.
    fn told(&self, told: &Told);
}

/// Nobody is told.
impl Teller for () {
    fn told(&self, _: &Told) {}
}

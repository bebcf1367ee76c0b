//! One run of one step.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value};

use super::case_of_job::write_entries;
use super::runner::Service;
use crate::alert::Alert;
use crate::error::Error;
use crate::isolate::case_log;
use crate::state::jobs::Job;
use crate::state::{entries, steps};
use crate::steps::{self as table, Context, Failed, Step};

/// What a run of a step works with.
pub(super) struct StepRun<'a> {
    pub(super) service: &'a Service,
    pub(super) job: &'a Job,
    pub(super) alert: &'a Alert,
    pub(super) case: &'a Path,
    pub(super) id: &'a str,
    pub(super) word: &'a str,
    pub(super) parameters: &'a Map<String, Value>,
    pub(super) lease: u64,
    pub(super) earlier: &'a BTreeMap<String, Value>,
    pub(super) stop: &'a AtomicBool,
}

impl StepRun<'_> {
    /// Does the step, or finds that it was done.
    pub(super) fn run(&self) -> Result<Value, Failed> {
        self.with(|step, context| {
            if !step.takes(context.asset.kind) {
                let kind = format!("{:?}", context.asset.kind);
                return Err(Failed::for_good(format!("{} cannot be done to a {kind}", step.word())));
            }
            step.run(context)
        })
    }

    /// Takes it back.
    pub(super) fn undo(&self, recorded: &Value) -> Result<Value, Failed> {
        self.with(|step, context| step.undo(context, recorded))
    }

    fn with(
        &self,
        act: impl FnOnce(&dyn Step, &Context<'_>) -> Result<Value, Failed>,
    ) -> Result<Value, Failed> {
        let Some(step) = table::named(self.word) else {
            return Err(Failed::for_good(format!("this version has no step {:?}", self.word)));
        };
        let (service, name) = (self.service, self.job.name());
        let intents = service.state.with(|connection| steps::intents(connection, self.job.id, self.id));
        let intents = intents.map_err(|error| Failed::for_now(error.to_string()))?;
        let intend = |intent: &Value| {
            let now = service.acting.now();
            // What an isolated asset was stands in the case's log too, whatever becomes of this data base.
            let entry = if step.isolates() {
                case_log::of_step(&name, self.id, self.word, intent)
                    .map_err(|failed| Error::Refused { what: failed.what })?
            } else {
                None
            };
            service.state.change(|connection| {
                steps::intend(connection, self.job.id, self.id, now, intent)?;
                match &entry {
                    Some(entry) => entries::add(connection, self.job.id, entry),
                    None => Ok(()),
                }
            })?;
            if step.isolates() {
                // There before anything is touched.
                write_entries(service, self.case, self.job, true)?;
            }
            Ok(())
        };
        let context = Context {
            job: &name,
            id: self.id,
            parameters: self.parameters,
            alert: self.alert,
            lease: self.lease,
            asset: &self.job.plan.asset,
            case: self.case,
            settings: &service.settings,
            program: &service.acting.program,
            earlier: self.earlier,
            intend: &intend,
            intents: &intents,
            stop: self.stop,
        };
        // A fault of ours in one step must not end the service, nor the job's other steps.
        catch_unwind(AssertUnwindSafe(|| act(step, &context)))
            .unwrap_or_else(|_| Err(Failed::for_now("the step panicked, which is a fault of this program")))
    }
}

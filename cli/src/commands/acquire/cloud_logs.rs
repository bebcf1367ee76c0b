//! `exhibit acquire cloud-logs`

use std::path::PathBuf;

use acquire::Acquisition;
use acquire::cloud_logs::{CloudLogs, CloudLogsOptions, Estimate, Place, Window};
use serde_json::{Map, Value, json};

use super::{Into, acquire_into, show};
use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::ui::{self, Ui};

/// Logs that were delivered into a bucket: CloudTrail, VPC flow, load balancers, S3 access, Route 53, GuardDuty
///
/// Objects are chosen by the time in their key where the layout is known, else by when they were written; each is kept byte
/// for byte, with its metadata. CloudTrail's digest files are verified, with the log files that they name.
///
/// Example: exhibit acquire cloud-logs s3://trail-bucket/AWSLogs/ --since 2026-11-20 --case ir-2026-017
#[derive(Debug, clap::Args)]
#[command(mut_arg("case", |case| {
    case.required(false).required_unless_present("dry_run").default_value_if("dry_run", clap::builder::ArgPredicate::IsPresent, ".")
}))]
pub(super) struct Args {
    /// Bucket and prefix, as s3://BUCKET/PREFIX
    #[arg(value_parser = Place::parse, required_unless_present = "lookup")]
    place: Option<Place>,
    /// From this time on: 2026-11-21, "2026-11-21 01:30" (UTC) or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = amounts::moment)]
    since: Option<i64>,
    /// Up to this time, which is not in it
    #[arg(long, value_name = "TIME", value_parser = amounts::moment)]
    until: Option<i64>,
    /// Verify CloudTrail's digest files by the keys in this file, as `aws cloudtrail list-public-keys` writes it
    #[arg(long, value_name = "FILE")]
    trail_keys: Option<PathBuf>,
    /// Where there is no trail: the management events that CloudTrail keeps of the last 90 days, at 100 events a second at most
    #[arg(long)]
    lookup: bool,
    /// Say how many objects and bytes there are and what reading them costs, and read nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    into: Into,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let mut options = CloudLogsOptions::default();
    options.place.clone_from(&args.place);
    options.lookup = args.lookup;
    options.window = Window { since: args.since, until: args.until };
    if let Some(path) = &args.trail_keys {
        let keys = std::fs::read(path);
        let keys =
            keys.map_err(|error| Failure::new(error).hint(format!("the file of keys is {}", path.display())));
        options.trail_keys = Some(keys?);
    }
    let connection = args.into.store.cloud.connect()?;
    let mut logs = CloudLogs::new(&connection, options).map_err(|error| Failure::usage(error.to_string()))?;
    logs.check().map_err(Failure::new)?;
    if args.dry_run {
        return forecast(&logs.estimate()?, session.ui);
    }
    let into = &args.into;
    let from = args.place.as_ref().map_or("cloudtrail-lookup", |place| place.bucket.as_str());
    let name = into.name.clone().unwrap_or_else(|| format!("{from}-logs"));
    if args.lookup {
        session.ui.say(
            "LookupEvents gives 50 events twice a second, of the last 90 days, management events only: of this region, and of \
             us-east-1 at AWS itself, where services without a region keep theirs",
        );
    }
    let report = acquire_into(into, &name, session, |to| Acquisition::new(logs, to))?;
    say(&report.facts, session.ui);
    show(&report, session.ui)
}

/// What would be read.
fn forecast(estimate: &Estimate, ui: Ui) -> Result<Outcome, Failure> {
    let with_issues = if estimate.troubles.is_empty() { Outcome::Done } else { Outcome::WithIssues };
    let dollars = dollars(estimate.nanodollars());
    if ui.is_json() {
        let layouts: Map<String, Value> = (estimate.layouts.iter())
            .map(|(name, (objects, bytes))| ((*name).to_owned(), json!({"objects": objects, "bytes": bytes})))
            .collect();
        ui.document(&json!({
            "objects": estimate.objects, "bytes": estimate.bytes, "layouts": layouts, "not_taken": estimate.not_taken,
            "archived": estimate.archived, "lists": estimate.lists, "not_listed": estimate.not_listed,
            "request_dollars": dollars, "issues": estimate.troubles,
        }))?;
        return Ok(with_issues);
    }
    let objects = |count| ui::count(count, "object", "objects");
    ui.data(&format!("{} of {}", objects(estimate.objects), ui::bytes(estimate.bytes)))?;
    for (name, (count, bytes)) in &estimate.layouts {
        ui.data(&format!("  {name}: {} of {}", objects(*count), ui::bytes(*bytes)))?;
    }
    if estimate.not_taken > 0 {
        ui.say(&format!(
            "{} more were listed and lie outside the time asked for",
            objects(estimate.not_taken)
        ));
    }
    if estimate.not_listed > 0 {
        let folders = ui::count(estimate.not_listed, "folder", "folders");
        ui.say(&format!("{folders} outside the time asked for would not be listed"));
    }
    if estimate.archived > 0 {
        ui.warn(&format!(
            "{} are archived: restore them first, or they will be missing",
            objects(estimate.archived)
        ));
    }
    for trouble in &estimate.troubles {
        ui.warn(trouble);
    }
    ui.data(&format!(
        "requests: {} to list and {} to read, about ${dollars} (S3 Standard in us-east-1; transfer out of the region and KMS are not in it)",
        estimate.lists, estimate.objects
    ))?;
    Ok(with_issues)
}

/// Billionths of a dollar, to the hundredth of a cent.
fn dollars(nano: u64) -> String {
    let parts = nano.div_ceil(100_000);
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

/// What was found out about the objects, in plain words.
fn say(facts: &Map<String, Value>, ui: Ui) {
    let number = |of: &Map<String, Value>, name: &str| of.get(name).and_then(Value::as_u64).unwrap_or(0);
    let objects = |count| ui::count(count, "object", "objects");
    for (region, found) in facts.get("lookup").and_then(Value::as_object).into_iter().flatten() {
        let Some(found) = found.as_object() else { continue };
        let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or("?");
        let events = ui::count(number(found, "events"), "event", "events");
        ui.say(&format!("CloudTrail keeps {events} of {region}, from {} to {}", text("first"), text("last")));
    }
    if !facts.contains_key("objects") {
        return;
    }
    ui.say(&format!(
        "{} of {} taken; {} listed outside the time asked for; {} not listed",
        objects(number(facts, "objects")),
        ui::bytes(number(facts, "object_bytes")),
        objects(number(facts, "objects_outside_the_time")),
        ui::count(number(facts, "folders_not_listed"), "folder", "folders"),
    ));
    let gaps = number(facts, "gaps");
    if gaps > 0 {
        let times = ui::count(gaps, "time", "times");
        ui.say(&format!(
            "{times} without an object (no event, or not delivered): see _cloud-logs/gaps.jsonl"
        ));
    }
    let Some(trail) = facts.get("cloudtrail").and_then(Value::as_object) else { return };
    let of = |name: &str| number(trail, name);
    if of("digests") == 0 {
        ui.say(&format!(
            "CloudTrail: no digest file is there, so nothing shows whether {} are as they were delivered",
            ui::count(of("logs_at_times_without_digest"), "log file", "log files")
        ));
        return;
    }
    ui.say(&format!(
        "CloudTrail: {} with a signature that verifies, {} with none that does, {} not checked for want of a key",
        ui::count(of("digests_signed"), "digest file", "digest files"),
        of("digests_not_signed"),
        of("digests_not_checked"),
    ));
    ui.say(&format!(
        "CloudTrail: {} as delivered, {} changed, {} missing, {} in no digest file, {} at times that no digest file tells of",
        ui::count(of("logs_right"), "log file", "log files"),
        of("logs_changed"),
        of("logs_missing"),
        of("logs_in_no_digest"),
        of("logs_at_times_without_digest"),
    ));
    let unverified = of("logs_right_by_unverified_digest");
    if unverified > 0 {
        let files = ui::count(unverified, "log file", "log files");
        ui.say(&format!("CloudTrail: {files} more as a digest file says that is not verified itself"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_rounded_up_to_hundredths_of_a_cent() {
        assert_eq!(
            (dollars(0), dollars(1), dollars(1_234_500_001)),
            ("0.0000".into(), "0.0001".into(), "1.2346".into())
        );
    }
}

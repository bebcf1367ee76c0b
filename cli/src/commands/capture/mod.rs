//! `exhibit capture --from-alert`: the plan that the service would carry out, by hand.

mod carry_out;

use std::collections::BTreeSet;
use std::path::PathBuf;

use acquire::aws::{Connection, Settings as CloudSettings};
use acquire::ebs::Target;
use acquire::ebs::permissions::Permission;
use respond::alert::{Alert, AssetKind, Mapping};
use respond::inventory::{Asset, Inventory};
use respond::rules::{Decision, Plan, RuleSet};
use respond::settings::Settings;
use serde_json::{Value, json};

use carry_out::{Order, by_hand, carry_out};

use super::acquire::permissions;
use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::ui::Ui;
use crate::{alert_file, plan_words};

/// Carry out by hand what the service would do about an alert
///
/// Says first in plain words what is taken, where it goes, and with which rights. Then the alert is kept in the state of the
/// settings like one that came in, with the name of who runs this: the same plan, limits and approvals hold. Where the service
/// runs, it does the work; else this command does, and whatever else waits in that state with it. It ends when the jobs of the
/// alert have ended, or wait for a person.
///
/// Example: exhibit capture --from-alert alert.json --config /etc/exhibit/serve.toml --dry-run
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The alert, as its product sends it or in the form that rules see
    #[arg(long, value_name = "FILE")]
    from_alert: PathBuf,
    /// The settings of the service
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The product that sent it, or the name of a source of the settings [default: found out]
    #[arg(long, value_name = "KIND|NAME")]
    source: Option<String>,
    /// Say what would be done and whether the account allows it; change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was decided about one alert of the file.
struct Decided {
    alert: Alert,
    decision: Decision,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    let settings = Settings::load(&args.config).map_err(|error| Failure::usage(chain(&error)))?;
    let (source, alerts) = read(args, &settings)?;
    let rules = RuleSet::load(&settings.rules).map_err(|error| Failure::usage(chain(&error)))?;
    let inventory = match &settings.inventory {
        Some(path) => Inventory::load(path).map_err(|error| Failure::usage(chain(&error)))?,
        None => Inventory::default(),
    };
    let inventory = inventory.with_accounts(settings.aws.accounts.clone());
    let at = super::rules::now(session);
    let decided: Vec<Decided> = alerts
        .into_iter()
        .map(|alert| Decided { decision: rules.decide(&inventory, &alert, at), alert })
        .collect();
    let plans: Vec<&Plan> = decided.iter().flat_map(|one| &one.decision.plans).collect();
    let rights: Vec<(&Asset, Result<Vec<Permission>, Failure>)> = if args.dry_run {
        plans.iter().filter_map(|plan| asked(plan, &settings)).collect()
    } else {
        Vec::new()
    };
    if session.ui.is_json() {
        // What is carried out has a document of its own.
        if args.dry_run || plans.is_empty() {
            session.ui.document(&document(&decided, &settings, &rights))?;
        }
    } else {
        say(&decided, &settings, &rights, session.ui)?;
    }
    if plans.is_empty() {
        session.ui.say("no rule has anything done about this alert");
        return Ok(Outcome::WithIssues);
    }
    if !args.dry_run {
        let body = alert_file::bytes(&args.from_alert)?;
        let alerts = decided.into_iter().map(|one| one.alert).collect();
        let order = Order { config: &args.config, settings: &settings, body, source, alerts };
        return carry_out(order, session);
    }
    let may = |asked: &Result<Vec<Permission>, Failure>| asked.as_deref().is_ok_and(permissions::are_there);
    Ok(if rights.iter().all(|(_, asked)| may(asked)) { Outcome::Done } else { Outcome::WithIssues })
}

/// The alerts of the file, and the source that they are kept under.
fn read(args: &Args, settings: &Settings) -> Result<(String, Vec<Alert>), Failure> {
    let named = |name: &String| settings.sources.iter().find(|source| source.name == *name);
    if let Some(source) = args.source.as_ref().and_then(named) {
        let mapping = source.mapping.as_deref().map(Mapping::load).transpose()?;
        let alerts = alert_file::read(&args.from_alert, Some(&source.kind), mapping.as_ref())?;
        return Ok((source.name.clone(), alerts));
    }
    let (kind, alerts) = alert_file::read_as(&args.from_alert, args.source.as_deref(), None)?;
    Ok((by_hand(kind), alerts))
}

/// What the account says of the rights that a plan needs, where it is one of EC2.
fn asked<'a>(plan: &'a Plan, settings: &Settings) -> Option<(&'a Asset, Result<Vec<Permission>, Failure>)> {
    let asset = &plan.asset;
    if !plan.steps.iter().any(|step| step.word.starts_with("capture.ebs")) {
        return None;
    }
    let target = match asset.kind {
        AssetKind::Ec2Instance => Target::Instance(asset.id.clone()),
        AssetKind::EbsVolume => Target::Volume(asset.id.clone()),
        _ => return None,
    };
    let found = connect(asset, settings)
        .and_then(|connection| permissions::ask(&connection, &target, "dry-run", false));
    Some((asset, found))
}

fn connect(asset: &Asset, settings: &Settings) -> Result<Connection, Failure> {
    let of_asset = Some(asset.region.clone()).filter(|region| !region.is_empty());
    Ok(Connection::open(&CloudSettings {
        region: of_asset.or_else(|| settings.aws.region.clone()),
        profile: settings.aws.profile.clone(),
        credentials: None,
        endpoint: settings.aws.endpoint_url.clone(),
    })?)
}

/// Where what is taken goes.
fn place(settings: &Settings) -> String {
    let mut words = format!("a new case in {}", settings.cases.display());
    if let Some(to) = &settings.capture.to {
        words.push_str(&format!(", its data in {to}"));
    }
    match settings.capture.encrypt_to.len() {
        0 => words.push_str(", not encrypted"),
        count => words.push_str(&format!(", encrypted to {count} keys")),
    }
    words
}

/// By which way an asset is reached, and as whom.
fn way(asset: &Asset, settings: &Settings) -> String {
    match (asset.kind, asset.target.as_str()) {
        (_, "local") => "this host, as the user that the service runs as".to_owned(),
        (
            AssetKind::Ec2Instance
            | AssetKind::EbsVolume
            | AssetKind::IamAccessKey
            | AssetKind::IamUser
            | AssetKind::IamRole
            | AssetKind::S3Bucket,
            "",
        ) => {
            let profile = settings.aws.profile.as_deref();
            let who =
                profile.map_or("the credentials that are found".to_owned(), |name| format!("profile {name}"));
            format!("the API of AWS, with {who}")
        }
        (_, "") => "the first of the targets that has it".to_owned(),
        (_, target) => format!("the target {target} of the settings"),
    }
}

/// Steps of the account whose rights only their run shows.
fn unasked(decided: &[Decided]) -> Vec<&str> {
    let plans = decided.iter().flat_map(|one| &one.decision.plans);
    let words = plans.flat_map(|plan| &plan.steps).map(|step| step.word.as_str());
    let words: BTreeSet<&str> =
        words.filter(|word| word.starts_with("aws.") || word.starts_with("isolate.")).collect();
    words.into_iter().collect()
}

fn say(
    decided: &[Decided],
    settings: &Settings,
    rights: &[(&Asset, Result<Vec<Permission>, Failure>)],
    ui: Ui,
) -> Result<(), Failure> {
    for Decided { alert, decision } in decided {
        plan_words::print("", &plan_words::alert_line(alert), ui)?;
        if decision.plans.is_empty() {
            plan_words::print_reasons(decision, ui)?;
        }
        for (number, plan) in decision.plans.iter().enumerate() {
            plan_words::print_plan(number + 1, decision.plans.len(), plan, ui)?;
            plan_words::print("  to     ", &place(settings), ui)?;
            plan_words::print("  by     ", &way(&plan.asset, settings), ui)?;
        }
    }
    let unasked = unasked(decided);
    if !rights.is_empty() && !unasked.is_empty() {
        ui.say(&format!("not asked for: the rights of {}", unasked.join(", ")));
    }
    for (asset, asked) in rights {
        match asked {
            Ok(found) => {
                ui.say(&format!("rights on {}:", asset.id));
                permissions::say(found, ui);
            }
            Err(failure) => {
                ui.warn(&format!("rights on {} could not be asked for: {}", asset.id, failure.words()));
            }
        }
    }
    Ok(())
}

fn document(
    decided: &[Decided],
    settings: &Settings,
    rights: &[(&Asset, Result<Vec<Permission>, Failure>)],
) -> Value {
    let alerts: Vec<Value> = decided
        .iter()
        .map(|one| {
            let plans: Vec<Value> = one
                .decision
                .plans
                .iter()
                .map(|plan| json!({"plan": plan, "hash": plan.hash(), "by": way(&plan.asset, settings)}))
                .collect();
            json!({"alert": one.alert, "plans": plans, "reasons": one.decision.reasons})
        })
        .collect();
    let rights: Vec<Value> = rights
        .iter()
        .map(|(asset, asked)| match asked {
            Ok(found) => json!({"asset": asset.id, "permissions": permissions::document(found)}),
            Err(failure) => json!({"asset": asset.id, "not_asked": failure.words()}),
        })
        .collect();
    json!({"alerts": alerts, "to": place(settings), "rights": rights, "rights_not_asked": unasked(decided)})
}

//! `exhibit inventory`: the assets that may be acted on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use acquire::aws::{Connection, Settings as CloudSettings};
use respond::inventory::{Asset, Discover, Ec2Assets, KubernetesAssets, written};
use respond::settings::Settings;
use serde_json::json;

use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;

/// Find out which assets there are
///
/// Example: exhibit inventory discover --config /etc/exhibit/serve.toml -o assets.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

/// The table of acts.
#[derive(Debug, clap::Subcommand)]
enum Act {
    Discover(DiscoverArgs),
}

/// Ask the account and the clusters of the settings what they have: instances, volumes, nodes, pods
///
/// Name, owner, criticality and group are taken from tags and labels of these names. The file is an inventory as it is; beside one that people
/// wrote, in the same folder, it fills in what that leaves open.
///
/// Example: exhibit inventory discover --config /etc/exhibit/serve.toml -o /etc/exhibit/assets/found.toml --replace
#[derive(Debug, clap::Args)]
struct DiscoverArgs {
    /// The settings of the service
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the assets are written to; .json gives JSON, else it is TOML
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace what an earlier discovery wrote there
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Discover(args) => discover(args, session),
    }
}

fn discover(args: &DiscoverArgs, session: &Session) -> Result<Outcome, Failure> {
    let settings = Settings::load(&args.config).map_err(|error| Failure::usage(chain(&error)))?;
    // Before anything is asked, so that a wrong name costs no time.
    written(&[], &args.output).map_err(|error| Failure::usage(chain(&error)))?;
    if args.output.exists() && !args.replace {
        return Err(Failure::usage(format!("{} is there already", args.output.display()))
            .hint("--replace writes it anew"));
    }
    let assets = found(&settings)?;
    write(&args.output, &assets)?;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for asset in &assets {
        *kinds.entry(asset.kind.word()).or_default() += 1;
    }
    let unowned = assets.iter().filter(|asset| asset.owner.is_empty()).count();
    if session.ui.is_json() {
        session.ui.document(&json!({"file": args.output, "found": kinds, "without_owner": unowned}))?;
    } else {
        session.ui.data(&args.output.display().to_string())?;
    }
    let words: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    session.ui.say(&format!("found {words}; {unowned} without an owner"));
    Ok(Outcome::Done)
}

/// Everything that the settings lead to: the account, where they name a region or accounts, and each cluster.
fn found(settings: &Settings) -> Result<Vec<Asset>, Failure> {
    let mut assets = Vec::new();
    let clusters = &settings.targets.kubernetes;
    if clusters.is_empty() || settings.aws.region.is_some() || !settings.aws.accounts.is_empty() {
        assets.extend(Ec2Assets { connection: &connect(settings)? }.assets()?);
    }
    for (name, cluster) in clusters {
        assets.extend(KubernetesAssets { name, settings: cluster }.assets()?);
    }
    Ok(assets)
}

fn connect(settings: &Settings) -> Result<Connection, Failure> {
    Connection::open(&CloudSettings {
        region: settings.aws.region.clone(),
        profile: settings.aws.profile.clone(),
        credentials: None,
        endpoint: settings.aws.endpoint_url.clone(),
    })
    .map_err(|error| match error {
        error @ acquire::Error::NoRegion => {
            Failure::usage(chain(&error)).hint("name it in the settings: [aws] region = \"eu-central-1\"")
        }
        error => Failure::new(error),
    })
}

fn write(file: &Path, assets: &[Asset]) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(written(assets, file)?.as_bytes())?;
    new.as_file().sync_all()?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    new.as_file().set_permissions(mode)?;
    new.persist(file).map_err(|error| error.error)?;
    Ok(())
}

//! `exhibit inventory`: the assets that may be acted on.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use acquire::aws::{Connection, Settings as CloudSettings};
use respond::inventory::{Asset, Discover, Ec2Assets, written};
use respond::settings::Settings;
use serde_json::json;

use crate::failure::{Failure, Outcome, chain};
use crate::session::Session;
use crate::ui;

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

/// Ask the cloud account of the settings which instances and volumes it has
///
/// Name, owner, criticality and group are taken from tags of these names. The file is an inventory as it is; beside one that people
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
    let connection = Connection::open(&CloudSettings {
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
    })?;
    let assets = Ec2Assets { connection: &connection }.assets()?;
    write(&args.output, &assets)?;
    let of = |kind: &str| assets.iter().filter(|asset| asset.kind.word() == kind).count();
    let (instances, volumes) = (of("ec2_instance"), of("ebs_volume"));
    if session.ui.is_json() {
        session.ui.document(&json!({
            "file": args.output, "region": connection.region(), "ec2_instance": instances, "ebs_volume": volumes,
        }))?;
    } else {
        session.ui.data(&args.output.display().to_string())?;
    }
    let unowned = assets.iter().filter(|asset| asset.owner.is_empty()).count();
    let count = |n: usize, one, many| ui::count(u64::try_from(n).unwrap_or(u64::MAX), one, many);
    session.ui.say(&format!(
        "{}, {} in {}; {unowned} without an owner",
        count(instances, "instance", "instances"),
        count(volumes, "volume", "volumes"),
        connection.region()
    ));
    Ok(Outcome::Done)
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

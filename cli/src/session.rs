//! What every command needs: output, the signing key, the clock, and the few settings from the environment.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

#[cfg(not(feature = "cloud"))]
use custody::bundle::RemotePlace;
use custody::bundle::{Bundle, BundleStore, Identities, LocalFolder};
use custody::clock::SystemClock;
use custody::keys::{Signer, SigningKey};
use custody::{Case, Identity, Logged, NewEntry, Writer};

use crate::args::Global;
#[cfg(feature = "cloud")]
use crate::cloud_args::CloudArgs;
use crate::failure::Failure;
use crate::identity;
use crate::signing_key::KeyPlace;
use crate::ui::Ui;

/// The variable that holds the key's passphrase where nobody can type it.
pub(crate) const PASSPHRASE_VARIABLE: &str = "EXHIBIT_KEY_PASSPHRASE";

/// One run of the command.
pub(crate) struct Session {
    /// Where output goes.
    pub(crate) ui: Ui,
    /// The clock of this host.
    pub(crate) clock: SystemClock,
    /// What was asked for; the words of a usage error where that makes no sense.
    key: Result<Option<KeyPlace>, &'static str>,
    identity_files: Vec<PathBuf>,
    identities: OnceLock<Identities>,
    /// Puts entries of logs whose bundles lie in an evidence store there too.
    mirror: Mirror,
    #[cfg(feature = "cloud")]
    cloud: OnceLock<CloudArgs>,
}

#[cfg(feature = "cloud")]
type Mirror = acquire::s3_store::S3LogMirror;

#[cfg(not(feature = "cloud"))]
type Mirror = NoCloud;

/// Says that a build without its cloud part reaches no store.
#[cfg(not(feature = "cloud"))]
struct NoCloud(Ui);

#[cfg(not(feature = "cloud"))]
impl custody::LogMirror for NoCloud {
    fn put_once(&self, _: &custody::bundle::RemotePlace, _: &str, _: &[u8]) -> custody::PutOnce {
        custody::PutOnce::Failed("this build of exhibit has no cloud part".to_owned())
    }

    fn not_yet(&self, place: &custody::bundle::RemotePlace, why: &str) {
        self.0.warn(&format!("not yet in {place}: {why}"));
    }
}

#[cfg(feature = "cloud")]
fn mirror(ui: Ui) -> Mirror {
    crate::store_writing::mirror(ui)
}

#[cfg(not(feature = "cloud"))]
fn mirror(ui: Ui) -> Mirror {
    NoCloud(ui)
}

impl Session {
    /// A session as the global options say.
    pub(crate) fn new(global: &Global) -> Session {
        let ui = Ui::new(global.json, global.quiet, global.verbose, global.no_progress);
        let key = KeyPlace::chosen(global);
        let identity_files = global.identity.clone();
        Session {
            ui,
            clock: SystemClock,
            key,
            identity_files,
            identities: OnceLock::new(),
            mirror: mirror(ui),
            #[cfg(feature = "cloud")]
            cloud: OnceLock::new(),
        }
    }

    /// The same session with another key.
    #[cfg(feature = "timeline")]
    pub(crate) fn with_key(&self, key: &Path) -> Session {
        let (identity_files, identities) = (self.identity_files.clone(), self.identities.clone());
        Session {
            ui: self.ui,
            clock: SystemClock,
            key: Ok(Some(KeyPlace::File(key.to_owned()))),
            identity_files,
            identities,
            mirror: mirror(self.ui),
            #[cfg(feature = "cloud")]
            cloud: self.cloud.clone(),
        }
    }

    /// Opens a bundle to read its streams. One that is encrypted is opened only with a key that fits.
    pub(crate) fn open_bundle(&self, folder: &Path) -> Result<Bundle, Failure> {
        let store = self.store_of(folder)?;
        let bundle = Bundle::open_with_identities_in(folder, store, self.identities()?)?;
        // So that a missing key is told before any work is done.
        if let Some(encrypted) = bundle.manifest().streams.iter().find(|stream| stream.is_encrypted()) {
            bundle.stream(&encrypted.name)?;
        }
        Ok(bundle)
    }

    /// Says in which account the data of exhibits lies that is not in their folders.
    #[cfg(feature = "cloud")]
    pub(crate) fn use_cloud(&self, cloud: &CloudArgs) {
        // Said once a run: what was said first stays.
        let _ = self.cloud.set(cloud.clone());
    }

    /// The files of the bundle in a folder, its data out of the evidence store where it lies in one.
    #[cfg(feature = "cloud")]
    fn store_of(&self, folder: &Path) -> Result<Arc<dyn BundleStore>, Failure> {
        let local: Arc<dyn BundleStore> = Arc::new(LocalFolder::new(folder));
        let cloud = self.cloud.get().cloned().unwrap_or_default();
        Ok(match crate::store_reading::data_of(folder, &cloud, self.ui)? {
            Some(data) => Arc::new(custody::bundle::LayeredStore::new(local, data)),
            None => local,
        })
    }

    /// The files of the bundle in a folder.
    #[cfg(not(feature = "cloud"))]
    fn store_of(&self, folder: &Path) -> Result<Arc<dyn BundleStore>, Failure> {
        match RemotePlace::read(folder)? {
            Some(place) => Err(Failure::new(format!("the data of {folder:?} lies at {place}"))
                .hint("this build of exhibit has no access to evidence stores")),
            None => Ok(Arc::new(LocalFolder::new(folder))),
        }
    }

    /// The keys that open encrypted bundles: `--identity`. The files are read once, for they may be pipes.
    pub(crate) fn identities(&self) -> Result<&Identities, Failure> {
        if let Some(identities) = self.identities.get() {
            return Ok(identities);
        }
        let identities = Identities::read(&self.identity_files)?;
        Ok(self.identities.get_or_init(|| identities))
    }

    /// Where the signing key is kept: what was asked for, or the user's data folder.
    pub(crate) fn key_place(&self) -> Result<KeyPlace, Failure> {
        match &self.key {
            Err(why) => Err(Failure::usage(*why)),
            Ok(Some(place)) => Ok(place.clone()),
            Ok(None) => Ok(KeyPlace::File(keys_folder()?.join("default.pem"))),
        }
    }

    /// The file of the signing key; a key that is kept elsewhere has none.
    pub(crate) fn key_path(&self) -> Result<PathBuf, Failure> {
        match self.key_place()? {
            KeyPlace::File(path) => Ok(path),
            elsewhere => Err(Failure::usage(format!("the key is {}, not in a file", elsewhere.words()))
                .hint("name the file with --key FILE")),
        }
    }

    /// The signing key.
    pub(crate) fn key(&self) -> Result<Box<dyn Signer>, Failure> {
        self.key_place()?.open()
    }

    /// A writer of entries that acts for the case's examiner.
    pub(crate) fn writer<'a>(&'a self, key: &'a dyn Signer, case: Option<&Case>) -> Writer<'a> {
        Writer::new(key, &self.clock, self.identity(case)).mirrored_by(&self.mirror)
    }

    /// Puts entries into the evidence stores of their bundles.
    pub(crate) fn mirror(&self) -> &dyn custody::LogMirror {
        &self.mirror
    }

    /// Who acts: the case's examiner, with this program, on this machine.
    pub(crate) fn identity(&self, case: Option<&Case>) -> Identity {
        let (name, org) = case.map_or(("", ""), |case| (&case.file().examiner, &case.file().organisation));
        let case = case.map(|case| case.file().id.clone());
        Identity { case, ..identity::of_this_run(name, Some(org)) }
    }

    /// Records an act that only reads in the case it is done from; where that cannot be, it says `not logged`.
    ///
    /// Gives the number of the entry.
    pub(crate) fn record_reading(&self, case: Option<&Case>, entry: NewEntry) -> Option<u64> {
        let Some(case) = case else {
            self.ui.warn("not logged: this is done outside a case");
            return None;
        };
        let logged = match self.key() {
            Ok(key) => case.record_reading(entry, &self.writer(&key, Some(case))),
            Err(failure) => Logged::No(failure.words()),
        };
        match logged {
            Logged::Yes(appended) => {
                self.ui.detail(&format!("logged as entry {} of the case", appended.seq));
                Some(appended.seq)
            }
            Logged::No(why) => {
                self.ui.warn(&format!("not logged: {why}"));
                None
            }
        }
    }

    /// The signing key, made now if there is none at the default place. Says whether it was made.
    pub(crate) fn key_or_new(&self) -> Result<(Box<dyn Signer>, bool), Failure> {
        if !matches!(self.key, Ok(None)) || self.key_path()?.exists() {
            return Ok((self.key()?, false));
        }
        let (key, is_new) = self.new_key()?;
        Ok((Box::new(key), is_new))
    }

    /// A new signing key, kept where this session looks for it.
    pub(crate) fn new_key(&self) -> Result<(SigningKey, bool), Failure> {
        let path = self.key_path()?;
        make_key_folder(&path)?;
        let key = SigningKey::generate()?;
        key.save(&path, passphrase_from_environment().as_deref())?;
        Ok((key, true))
    }
}

/// Makes the folder that a new key goes to, for its owner only.
pub(crate) fn make_key_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            Failure::new(error).hint(format!("the key folder {folder:?} could not be made"))
        })?;
    }
    Ok(())
}

/// The passphrase for unattended runs.
#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
pub(crate) fn passphrase_from_environment() -> Option<String> {
    std::env::var(PASSPHRASE_VARIABLE).ok().filter(|passphrase| !passphrase.is_empty())
}

/// `$XDG_CONFIG_HOME/exhibit/NAME`, or `~/.config/exhibit/NAME`: what a person set for all cases.
#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
pub(crate) fn settings_file(name: &str) -> Result<PathBuf, Failure> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let none = || Failure::usage("neither XDG_CONFIG_HOME nor HOME says where settings are kept");
    config.or_else(home).map(|config| config.join("exhibit").join(name)).ok_or_else(none)
}

/// `$XDG_DATA_HOME/exhibit/NAME`, beside the keys.
pub(crate) fn data_file(name: &str) -> Result<PathBuf, Failure> {
    let keys = keys_folder()?;
    Ok(keys.parent().unwrap_or(&keys).join(name))
}

/// `$XDG_DATA_HOME/exhibit/keys`, or `~/.local/share/exhibit/keys`.
#[allow(clippy::disallowed_methods, reason = "cli is where settings enter")]
fn keys_folder() -> Result<PathBuf, Failure> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home).map(|data| data.join("exhibit/keys")).ok_or_else(|| {
        Failure::usage("neither XDG_DATA_HOME nor HOME says where keys are kept")
            .hint("name the key with --key FILE")
    })
}

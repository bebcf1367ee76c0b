//! Reading out of evidence stores: where the data of exhibits lies, and who may be asked for it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use acquire::s3_reader::S3Reader;
use custody::bundle::{OpenRemote, RemotePlace, RemoteStore};

use crate::cloud_args::CloudArgs;
use crate::failure::Failure;
use crate::progress_bar::{Bars, Unit};
use crate::ui::Ui;

/// Opens what the `store.json` of an exhibit names, with the account that was chosen.
#[derive(Debug)]
pub(crate) struct Stores {
    cloud: CloudArgs,
    ui: Ui,
    /// Whether what is read is counted in bytes; else somebody else draws progress.
    counts: bool,
}

impl Stores {
    pub(crate) fn new(cloud: &CloudArgs, ui: Ui) -> Stores {
        Stores { cloud: cloud.clone(), ui, counts: false }
    }

    /// The same, with a bar of the bytes that come.
    pub(crate) fn counting(self) -> Stores {
        Stores { counts: true, ..self }
    }

    /// Opens one bundle.
    pub(crate) fn reader(&self, place: &RemotePlace) -> Result<S3Reader, Failure> {
        let reader = S3Reader::open(&self.cloud.connect_to(place)?, &place.bucket, &place.prefix)?;
        if !self.counts {
            return Ok(reader);
        }
        let bars = Arc::new(Bars::new(self.ui, Unit::Bytes));
        let total = reader.listing().files.values().sum();
        acquire::Progress::started(&*bars, &format!("reading {place}"), Some(total));
        Ok(reader.reporting_to(bars))
    }
}

impl OpenRemote for Stores {
    fn open(&self, place: &RemotePlace) -> io::Result<Arc<dyn RemoteStore>> {
        match self.reader(place) {
            Ok(reader) => Ok(Arc::new(reader)),
            Err(failure) => {
                Err(io::Error::other(failure.to_string().trim_start_matches("error: ").to_owned()))
            }
        }
    }
}

/// Gives one store that is open already, whatever is asked for: of a bundle whose place was given on the command line.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Arc<S3Reader>);

impl OpenRemote for Opened {
    fn open(&self, _: &RemotePlace) -> io::Result<Arc<dyn RemoteStore>> {
        Ok(Arc::clone(&self.0) as _)
    }
}

/// A bundle that was named by its place, its small files in a folder that goes when this does.
pub(crate) struct RemoteBundle {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) place: RemotePlace,
    pub(crate) reader: Arc<S3Reader>,
}

/// Whether words name a place in an evidence store.
pub(crate) fn is_place(words: &str) -> bool {
    words.starts_with("s3://")
}

impl RemoteBundle {
    /// Opens `s3://bucket/prefix/E001-name`, and gets all but its data.
    pub(crate) fn open(words: &str, cloud: &CloudArgs, ui: Ui) -> Result<RemoteBundle, Failure> {
        let place = RemotePlace::parse(words).map_err(|error| Failure::usage(error.to_string()))?;
        let stores = Stores::new(cloud, ui).counting();
        let connection = cloud.connect_to(&place)?;
        let place = place.on(connection.region(), connection.endpoint())?;
        let reader = Arc::new(stores.reader(&place)?);
        let files = &reader.listing().files;
        if reader.listing().is_complete && !files.keys().any(|path| path.starts_with("custody/")) {
            let mut bundles: Vec<&str> =
                files.keys().filter_map(|path| path.split_once("/custody/")).map(|(name, _)| name).collect();
            bundles.dedup();
            let failure = Failure::usage(format!("no bundle lies at {place}: there is no custody log"));
            return Err(match bundles.first() {
                Some(name) => failure.hint(format!(
                    "{} below it; the first is {place}/{name}",
                    crate::ui::count(bundles.len() as u64, "bundle lies", "bundles lie")
                )),
                None => failure.hint("name the bundle's own prefix, as s3://bucket/prefix/E001-name"),
            });
        }
        let folder = tempfile::Builder::new().prefix("exhibit-").tempdir()?;
        custody::bundle::fetch_all_but_data(&*reader, folder.path())?;
        place.write(folder.path())?;
        Ok(RemoteBundle { folder, place, reader })
    }

    /// Opens its store again, for whoever reads `store.json`.
    pub(crate) fn remote(&self) -> Arc<dyn OpenRemote> {
        Arc::new(Opened(Arc::clone(&self.reader)))
    }
}

/// The store of the data of the bundle in `folder`; `None` if it lies there.
pub(crate) fn data_of(folder: &Path, cloud: &CloudArgs, ui: Ui) -> Result<Option<Arc<S3Reader>>, Failure> {
    let Some(place) = RemotePlace::read(folder)? else { return Ok(None) };
    let reader = Stores::new(cloud, ui).reader(&place)?;
    ui.detail(&format!("its data is read at {place}"));
    const SHOWN: usize = 5;
    let faults = &reader.listing().faults;
    for fault in faults.iter().take(SHOWN) {
        ui.warn(&crate::ui::printable(&format!("{place}: {}: {}", fault.path, fault.words), false));
    }
    if let Some(more) = faults.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        ui.warn(&format!("{more} more; `exhibit verify --remote` lists them"));
    }
    Ok(Some(Arc::new(reader)))
}

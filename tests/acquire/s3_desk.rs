//! A bucket of its own behind a proxy for each test of an evidence store, and acquisitions into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acquire::aws::{Connection, Credentials, Settings};
use acquire::s3_store::{Pace, S3LogMirror, S3Store};
use acquire::sources::disk::DiskCapture;
use acquire::{Acquisition, Capture, OpenAcquisition, Report};
use custody::CustodyLog;
use custody::bundle::RemotePlace;
use custody::verify::{Options, verify};

use crate::moto::moto;
use crate::s3::{Bucket, Proxy};
use crate::support::*;

// Made for these tests by age-keygen; they protect nothing else.
pub(crate) const RECIPIENT: &str = "age1gswtxkfydtumud7valr4gxthjm97gy0gnzl9894nhrn72dpwccasl55mga";
pub(crate) const IDENTITY: &str =
    "AGE-SECRET-KEY-1722WCU93NXC5V3URAX9Z0WA8ME7CMZSCRFC7RY42K7DPL3PR9E2SPEGE9E";

/// What must never be seen.
pub(crate) const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

/// A bucket of its own behind a proxy.
pub(crate) struct Desk {
    place: tempfile::TempDir,
    pub(crate) bucket: Bucket,
    pub(crate) proxy: Proxy,
}

impl Desk {
    pub(crate) fn new() -> Option<Desk> {
        Self::with("")
    }

    pub(crate) fn with(more: &str) -> Option<Desk> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let moto = moto()?;
        let name = format!("evidence-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bucket = Bucket::make(&moto.endpoint, &name, more);
        Some(Desk { place: tempfile::tempdir().unwrap(), bucket, proxy: Proxy::before(&moto.endpoint) })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub(crate) fn to(&self) -> RemotePlace {
        place(&self.bucket.name, &self.proxy.endpoint)
    }

    pub(crate) fn connection(&self) -> Connection {
        connection(&self.proxy.endpoint)
    }

    /// Acquires into a new exhibit, or goes on with it.
    pub(crate) fn acquire(&self, what: impl Capture + 'static, name: &str) -> acquire::Result<Report> {
        acquire_to(&self.connection(), &self.to(), &self.path(name), |to| Acquisition::new(what, to))
    }

    pub(crate) fn disk(&self, data: &[u8], name: &str) -> acquire::Result<Report> {
        self.acquire(DiskCapture::new(Box::new(FaultSource::new(data.to_vec(), &[]))), name)
    }

    /// Reads the bundle back, by a reader of its own, and verifies all of it.
    pub(crate) fn read_back(&self, name: &str) -> PathBuf {
        let folder = self.path(&format!("{name}-back"));
        self.bucket.bundle(&format!("ir-17/{name}"), &folder);
        let verification = verify(&folder, &Options::default()).unwrap();
        assert_eq!(verification.fault_count, 0, "{:?}", verification.faults);
        folder
    }
}

pub(crate) fn place(bucket: &str, endpoint: &str) -> RemotePlace {
    let place = RemotePlace::parse(&format!("s3://{bucket}/ir-17")).unwrap();
    place.on("us-east-1", Some(endpoint)).unwrap()
}

pub(crate) fn connection(endpoint: &str) -> Connection {
    let credentials = Credentials {
        access_key_id: "test".into(),
        secret_access_key: SECRET.into(),
        session_token: Some(format!("token-{SECRET}")),
    };
    let settings = Settings {
        region: Some("us-east-1".into()),
        credentials: Some(credentials),
        endpoint: Some(endpoint.to_owned()),
        ..Settings::default()
    };
    Connection::open(&settings).unwrap()
}

/// Small parts, and no patience.
pub(crate) fn pace() -> Pace {
    let mut pace = Pace::default();
    (pace.part_size, pace.in_flight, pace.tries) = (CHUNK, 3, 4);
    (pace.first_pause, pace.longest_pause) = (Duration::from_millis(2), Duration::from_millis(10));
    // Long, since the machine may be busy: only what is silent on purpose is waited for to its end.
    (pace.part_time, pace.request_time) = (Duration::from_secs(60), Duration::from_secs(60));
    pace
}

pub(crate) fn acquire_to(
    connection: &Connection,
    to: &RemotePlace,
    folder: &Path,
    plan: impl FnOnce(acquire::Destination) -> Acquisition<'static>,
) -> acquire::Result<Report> {
    acquire_at(pace(), connection, to, folder, plan)
}

pub(crate) fn acquire_at(
    pace: Pace,
    connection: &Connection,
    to: &RemotePlace,
    folder: &Path,
    plan: impl FnOnce(acquire::Destination) -> Acquisition<'static>,
) -> acquire::Result<Report> {
    let resumes = OpenAcquisition::in_folder(folder)?.is_some();
    let to_folder = destination(folder);
    let store = if resumes {
        S3Store::take_up(connection, folder, pace)?
    } else {
        let name = folder.file_name().unwrap().to_str().unwrap();
        S3Store::begin(connection, to.below(name)?, folder, pace)?
    };
    let mirror = S3LogMirror::over(connection, pace, |_, _| {});
    with_writer(|writer| {
        let writer = writer.clone().mirrored_by(&mirror);
        let plan = plan(to_folder).options(options()).store(Arc::new(store));
        if resumes { plan.resume(&writer) } else { plan.run(&writer) }
    })
}

/// Everything that an error says.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
    let mut words = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(cause) = next {
        words = format!("{words}: {cause} {cause:?}");
        next = cause.source();
    }
    assert!(!words.contains(SECRET) && !words.contains("AWS4-HMAC"), "{words}");
    words
}

pub(crate) fn entries(folder: &Path) -> Vec<custody::Entry> {
    CustodyLog::open(folder).unwrap().read().unwrap().entries
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

//! Buckets on the S3 servers that the tests start, and bundles put into them as an evidence store holds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use acquire::aws::{Connection, Credentials, Settings};
use acquire::s3_reader::S3Reader;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    BucketVersioningStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
    VersioningConfiguration,
};
use custody::bundle::{OpenRemote, RemotePlace, RemoteStore};

use crate::moto::moto;
use crate::radosgw::radosgw;

/// A server of the tests.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) endpoint: String,
    credentials: Credentials,
}

/// How a bucket keeps what is put into it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keeps {
    Plain,
    Versions,
    Locked,
}

/// A bucket of one test.
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) connection: Connection,
    endpoint: String,
    runtime: tokio::runtime::Runtime,
}

/// The real server; none where it cannot be had.
pub(crate) fn real() -> Option<Server> {
    let server = radosgw()?;
    let credentials = Credentials {
        access_key_id: server.access.clone(),
        secret_access_key: server.secret.clone(),
        session_token: None,
    };
    Some(Server { name: "radosgw", endpoint: server.endpoint.clone(), credentials })
}

pub(crate) fn simulated() -> Option<Server> {
    let credentials =
        Credentials { access_key_id: "test".into(), secret_access_key: "test".into(), session_token: None };
    Some(Server { name: "moto", endpoint: moto()?.endpoint.clone(), credentials })
}

/// Both servers, those of them that can be had.
pub(crate) fn servers() -> impl Iterator<Item = Server> {
    [simulated(), real()].into_iter().flatten()
}

impl Server {
    pub(crate) fn connect(&self) -> Connection {
        self.connect_by(&self.endpoint)
    }

    /// Connects by what stands before it.
    pub(crate) fn connect_by(&self, endpoint: &str) -> Connection {
        connect(endpoint, &self.credentials)
    }

    pub(crate) fn bucket(&self, keeps: Keeps) -> Bucket {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("reading-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let http = aws_smithy_http_client::Builder::new().build_http();
        let Credentials { access_key_id, secret_access_key, .. } = &self.credentials;
        let keys =
            aws_credential_types::Credentials::new(access_key_id, secret_access_key, None, None, "test");
        let config = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(keys)
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .http_client(http);
        let client = Client::from_conf(config.build());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let make = client.create_bucket().bucket(&name);
            make.object_lock_enabled_for_bucket(keeps == Keeps::Locked).send().await.unwrap();
            if keeps == Keeps::Versions {
                let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
                client
                    .put_bucket_versioning()
                    .bucket(&name)
                    .versioning_configuration(on)
                    .send()
                    .await
                    .unwrap();
            }
        });
        Bucket { name, client, connection: self.connect(), endpoint: self.endpoint.clone(), runtime }
    }
}

pub(crate) fn connect(endpoint: &str, credentials: &Credentials) -> Connection {
    let settings = Settings {
        region: Some("us-east-1".into()),
        credentials: Some(credentials.clone()),
        endpoint: Some(endpoint.to_owned()),
        ..Settings::default()
    };
    Connection::open(&settings).unwrap()
}

/// Objects of a bundle in a folder, as an evidence store holds them, by path.
pub(crate) fn objects_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let item = item.unwrap();
            let path = format!("{prefix}{}", item.file_name().to_str().unwrap());
            if item.file_type().unwrap().is_dir() {
                folders.push((item.path(), format!("{path}/")));
            } else {
                objects.insert(path, fs::read(item.path()).unwrap());
            }
        }
    }
    let log = objects.remove("custody.jsonl").unwrap();
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    objects.insert(format!("checkpoints/{:08}", lines.len()), objects["checkpoint"].clone());
    for (seq, line) in lines.into_iter().enumerate() {
        objects.insert(format!("custody/{seq:08}.json"), line);
    }
    objects.retain(|path, _| path != "checkpoint" && path != "custody.frontier" && path != "store.json");
    objects
}

impl Bucket {
    pub(crate) fn wait<F: Future>(&self, act: F) -> F::Output {
        self.runtime.block_on(act)
    }

    /// Puts an object; gives its version.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> String {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes.to_vec()));
        self.wait(put.send()).unwrap().version_id().unwrap_or("null").to_owned()
    }

    /// The same, which nobody may delete before a second of the Unix time.
    pub(crate) fn put_locked(&self, key: &str, bytes: &[u8], until: i64) -> String {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes.to_vec()));
        let put = put.object_lock_mode(ObjectLockMode::Compliance);
        let put = put.object_lock_retain_until_date(DateTime::from_secs(until));
        self.wait(put.send()).unwrap().version_id().unwrap().to_owned()
    }

    /// Deletes a key, or one version of it.
    pub(crate) fn delete(&self, key: &str, version: Option<&str>) -> Result<Option<String>, String> {
        let delete = self.client.delete_object().bucket(&self.name).key(key);
        let done = self.wait(delete.set_version_id(version.map(str::to_owned)).send());
        done.map(|done| done.version_id().map(str::to_owned)).map_err(|error| format!("{error:?}"))
    }

    /// Sets until when a version is locked.
    pub(crate) fn retain(&self, key: &str, version: &str, until: i64) -> Result<(), String> {
        let mode = ObjectLockRetentionMode::Compliance;
        let retention =
            ObjectLockRetention::builder().mode(mode).retain_until_date(DateTime::from_secs(until)).build();
        let put = self.client.put_object_retention().bucket(&self.name).key(key).version_id(version);
        self.wait(put.retention(retention).send()).map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Puts a bundle under a prefix; `store.json` goes into its folder, and `data/` out of it.
    pub(crate) fn take_over(&self, prefix: &str, folder: &Path) {
        for (path, bytes) in objects_of(folder) {
            self.put(&format!("{prefix}/{path}"), &bytes);
        }
        fs::remove_dir_all(folder.join("data")).unwrap();
        self.place(prefix).write(folder).unwrap();
    }

    pub(crate) fn place(&self, prefix: &str) -> RemotePlace {
        let place = RemotePlace::parse(&format!("s3://{}/{prefix}", self.name)).unwrap();
        place.on("us-east-1", Some(&self.endpoint)).unwrap()
    }

    pub(crate) fn reader(&self, prefix: &str) -> S3Reader {
        S3Reader::open(&self.connection, &self.name, prefix).unwrap()
    }
}

/// Opens stores with one connection.
#[derive(Debug)]
pub(crate) struct Opening(pub(crate) Connection);

impl OpenRemote for Opening {
    fn open(&self, place: &RemotePlace) -> std::io::Result<Arc<dyn RemoteStore>> {
        let reader = S3Reader::open(&self.0, &place.bucket, &place.prefix).map_err(std::io::Error::other)?;
        Ok(Arc::new(reader))
    }
}

//! The entries of a log as objects beside the bundle's data.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use custody::bundle::RemotePlace;
use custody::{LogMirror, PutOnce};

use super::grant::Grant;
use super::requests::{Failed, Pace, Requests};
use crate::aws::{Connection, FailureKind, Settings};

/// Who is told of entries that are not in the store yet: the place, and why.
type Told = Box<dyn Fn(&RemotePlace, &str) + Send + Sync>;

/// Puts entries of custody logs into the S3 buckets that their bundles lie in.
///
/// It connects when the first entry is to be put, with the credentials that are found for the region of the place, or by a
/// connection that is there already. A server that only the place names is not asked: whoever made the evidence would be
/// sent our requests.
pub struct S3LogMirror {
    connections: Mutex<HashMap<(String, Option<String>), Connection>>,
    given: Option<Connection>,
    grant: Option<Grant>,
    profile: Option<String>,
    pace: Pace,
    told: Told,
}

impl fmt::Debug for S3LogMirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3LogMirror").finish_non_exhaustive()
    }
}

impl S3LogMirror {
    /// Connects by itself, and gives up soon: the entry is in the local log, and the next append puts it.
    pub fn connecting(
        profile: Option<String>,
        told: impl Fn(&RemotePlace, &str) + Send + Sync + 'static,
    ) -> Self {
        Self {
            connections: Mutex::default(),
            given: None,
            grant: None,
            profile,
            pace: Pace::brief(),
            told: Box::new(told),
        }
    }

    /// Puts by a connection that is there, as patiently as the data is put.
    pub fn over(
        connection: &Connection,
        pace: Pace,
        told: impl Fn(&RemotePlace, &str) + Send + Sync + 'static,
    ) -> Self {
        let given = Some(connection.clone());
        Self { connections: Mutex::default(), given, grant: None, profile: None, pace, told: Box::new(told) }
    }

    /// Puts by a grant.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Thread`].
    pub fn granted(grant: &Grant, pace: Pace) -> crate::Result<Self> {
        let connection = Connection::without_account(grant.place())?;
        Ok(Self { grant: Some(grant.clone()), ..Self::over(&connection, pace, |_, _| {}) })
    }

    fn connection(&self, place: &RemotePlace) -> Result<Connection, String> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let which = (place.region.clone(), place.endpoint.clone());
        if let Some(connection) = connections.get(&which) {
            return Ok(connection.clone());
        }
        let connection = Connection::open(&Settings {
            region: Some(place.region.clone()).filter(|region| !region.is_empty()),
            profile: self.profile.clone(),
            credentials: None,
            endpoint: None,
        })
        .map_err(|error| error.to_string())?;
        if let Some(endpoint) = place.endpoint.as_deref().filter(|_| !connection.has_own_endpoint()) {
            return Err(format!(
                "it lies on the server {endpoint}, which you did not name: set AWS_ENDPOINT_URL, if you know it"
            ));
        }
        connections.insert(which, connection.clone());
        Ok(connection)
    }
}

impl LogMirror for S3LogMirror {
    fn put_once(&self, place: &RemotePlace, path: &str, bytes: &[u8]) -> PutOnce {
        let connection = match self.connection(place) {
            Ok(connection) => connection,
            Err(why) => return PutOnce::Failed(why),
        };
        let key = match place.key(path) {
            Ok(key) => key,
            Err(error) => return PutOnce::Failed(error.to_string()),
        };
        let requests = match &self.grant {
            Some(grant) => Requests::of_grant(&connection, grant, self.pace),
            None => Requests::new(&connection, place.clone(), self.pace),
        };
        match requests.wait(requests.put(&key, bytes.to_vec())) {
            Ok(()) => PutOnce::Done,
            Err(Failed { failure, differs: true, .. }) => PutOnce::Differs(failure.to_string()),
            Err(Failed { failure, unsure, .. }) if failure.kind == FailureKind::Exists => {
                PutOnce::There { perhaps_ours: unsure }
            }
            Err(Failed { failure, .. }) => PutOnce::Failed(failure.to_string()),
        }
    }

    fn not_yet(&self, place: &RemotePlace, why: &str) {
        (self.told)(place, why);
    }
}

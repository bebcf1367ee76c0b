//! Which cloud account a command works in.

use acquire::aws::{Connection, Settings};
use custody::bundle::RemotePlace;

use crate::failure::Failure;

/// Region, profile and server; what is not given is found as the AWS command line finds it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct CloudArgs {
    /// The region, as eu-central-1 [default: AWS_REGION or the profile's]
    #[arg(long, value_name = "REGION", help_heading = "Cloud account")]
    pub(crate) region: Option<String>,
    /// The profile of the AWS configuration files [default: AWS_PROFILE]
    // A triage has a --profile of its own.
    #[arg(id = "aws_profile", long = "aws-profile", value_name = "NAME", help_heading = "Cloud account")]
    pub(crate) profile: Option<String>,
    /// Send every request to this server instead of AWS's own
    #[arg(long, value_name = "URL", help_heading = "Cloud account")]
    pub(crate) endpoint_url: Option<String>,
}

impl CloudArgs {
    /// Connects.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        let settings = Settings {
            region: self.region.clone(),
            profile: self.profile.clone(),
            credentials: None,
            endpoint: self.endpoint_url.clone(),
        };
        Connection::open(&settings).map_err(|error| match error {
            error @ acquire::Error::NoRegion => {
                Failure::usage(error.to_string()).hint("name it with --region, or set AWS_REGION")
            }
            error => Failure::new(error),
        })
    }

    /// Connects to the region and the server of a place in an evidence store.
    ///
    /// A server that the evidence names, and nobody else, is not asked: whoever made the evidence would be sent our requests.
    pub(crate) fn connect_to(&self, place: &RemotePlace) -> Result<Connection, Failure> {
        let mut cloud = self.clone();
        if cloud.region.is_none() && !place.region.is_empty() {
            cloud.region = Some(place.region.clone());
        }
        let connection = cloud.connect()?;
        if let Some(endpoint) = &place.endpoint
            && !connection.has_own_endpoint()
        {
            return Err(Failure::usage(format!(
                "{place} lies on the server {endpoint}, which you did not name"
            ))
            .hint(format!("if you know that server, add --endpoint-url {endpoint}")));
        }
        Ok(connection)
    }
}

//! A bucket of an S3-compatible store.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Location;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::Blob;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time in which nothing comes: of an answer, or until the answer to a part has begun.
const SILENCE: Duration = Duration::from_secs(30);
/// Second and later tries of a request, the longest wait before one, and when there are no more.
const RETRIES: (usize, Duration, Duration) = (4, Duration::from_secs(2), Duration::from_secs(15));
/// What the names of copies on this machine begin with.
const COPY: &str = "rag-original-";

/// Which bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What every key begins with; empty: nothing.
    pub prefix: String,
    /// The region; `None`: us-east-1, which other stores than Amazon's mostly take.
    pub region: Option<String>,
    /// The store's URL; `None`: Amazon's of that region.
    pub endpoint: Option<String>,
    /// Who we are.
    pub credentials: Credentials,
}

/// Who we are to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Whoever has a key.
    Key {
        /// The key's id.
        id: String,
        /// The key.
        secret: Secret,
        /// The session's token, of temporary keys.
        token: Option<Secret>,
    },
    /// The role of this pod, container or machine, as the platform's variables say where to get its keys; with none of
    /// them, the machine's metadata service is asked.
    Role(Vec<(RoleVariable, String)>),
}

/// A variable by which a platform says where the keys of a role are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleVariable {
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`.
    WebIdentityTokenFile,
    /// `AWS_ROLE_ARN`.
    RoleArn,
    /// `AWS_ROLE_SESSION_NAME`.
    RoleSessionName,
    /// `AWS_ENDPOINT_URL_STS`.
    StsEndpoint,
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
    ContainerRelativeUri,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    ContainerFullUri,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`.
    ContainerTokenFile,
}

impl RoleVariable {
    fn key(self) -> AmazonS3ConfigKey {
        match self {
            Self::WebIdentityTokenFile => AmazonS3ConfigKey::WebIdentityTokenFile,
            Self::RoleArn => AmazonS3ConfigKey::RoleArn,
            Self::RoleSessionName => AmazonS3ConfigKey::RoleSessionName,
            Self::StsEndpoint => AmazonS3ConfigKey::StsEndpoint,
            Self::ContainerRelativeUri => AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
            Self::ContainerFullUri => AmazonS3ConfigKey::ContainerCredentialsFullUri,
            Self::ContainerTokenFile => AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
        }
    }
}

/// The store of a bucket; asks nothing yet.
pub(super) fn open(bucket: &Bucket) -> Result<Arc<dyn ObjectStore>> {
    // The time of a whole request is not limited, for a large original goes to a slow reader; silence is.
    let client = ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT)
        .with_read_timeout(SILENCE)
        .with_allow_http(bucket.endpoint.as_ref().is_some_and(|url| url.starts_with("http://")));
    let (max_retries, max_backoff, retry_timeout) = RETRIES;
    let backoff = BackoffConfig { max_backoff, ..BackoffConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_client_options(client)
        .with_retry(RetryConfig { backoff, max_retries, retry_timeout })
        // We delete one object at a time, and not every store has the request for many.
        .with_disable_bulk_delete(true);
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match &bucket.credentials {
        Credentials::Key { id, secret, token } => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
            if let Some(token) = token {
                builder = builder.with_token(token.expose());
            }
        }
        Credentials::Role(variables) => {
            for (variable, value) in variables {
                builder = builder.with_config(variable.key(), value);
            }
        }
    }
    let store = builder
        .build()
        .map_err(|error| Error::config("RAG_STORAGE_URL: no client can be made of it").with_source(error))?;
    Ok(match bucket.prefix.is_empty() {
        true => Arc::new(store),
        false => Arc::new(PrefixStore::new(store, bucket.prefix.as_str())),
    })
}

/// Lists, writes and deletes what is nobody's original; what goes wrong is [`ErrorKind::Config`].
pub(super) async fn check(store: &dyn ObjectStore, bucket: &Bucket) -> Result<()> {
    let Err(error) = try_all(store).await else { return Ok(()) };
    let name = &bucket.name;
    let place = bucket.endpoint.as_deref().unwrap_or("Amazon S3 (AWS_ENDPOINT_URL names another store)");
    let problem = match answer(&error) {
        Answer::NoBucket => format!("there is no bucket {name} at {place}: make it first"),
        Answer::Refused => format!(
            "{place} does not let us list and write in {name}: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and rights"
        ),
        Answer::Other => format!("the bucket {name} at {place} cannot be used"),
    };
    Err(Error::config(format!("RAG_STORAGE_URL: {problem}")).with_source(error))
}

/// What a store means by an error.
enum Answer {
    NoBucket,
    Refused,
    Other,
}

/// The client tells kinds of errors apart only where an object is meant; of a listing, it has the answer's text, with
/// its status and a code of <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
fn answer(error: &object_store::Error) -> Answer {
    const REFUSALS: [&str; 4] = ["401 Unauthorized", "403 Forbidden", "ExpiredToken", "InvalidToken"];
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match error {
        object_store::Error::NotFound { .. } => Answer::NoBucket,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => Answer::Refused,
        _ if text.contains("NoSuchBucket") => Answer::NoBucket,
        _ if REFUSALS.iter().any(|refusal| text.contains(refusal)) => Answer::Refused,
        _ => Answer::Other,
    }
}

async fn try_all(store: &dyn ObjectStore) -> object_store::Result<()> {
    // A bucket that is not there has no list, whereas some stores would make it of a first object.
    store.list(Some(&Location::from(".check"))).next().await.transpose()?;
    let probe = Location::from(format!(".check/{}", Uuid::now_v7()));
    store.put(&probe, "check".into()).await?;
    store.delete(&probe).await
}

/// A copy of an original on this machine, in the folder for temporary files.
pub(super) async fn copy(mut blob: Blob) -> Result<tempfile::TempPath> {
    let failed = |error: io::Error| Error::unavailable("an original could not be copied to this machine", error);
    let file = tempfile::Builder::new().prefix(COPY).tempfile().map_err(failed)?;
    let (file, path) = file.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let mut bytes = 0;
    while let Some(part) = blob.stream.next().await.transpose()? {
        bytes += part.len() as u64;
        file.write_all(&part).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if bytes != blob.bytes {
        return Err(Error::new(ErrorKind::Unavailable, "an original broke off while it was copied to this machine"));
    }
    Ok(path)
}

/// Removes copies that a process left which was killed.
pub(super) fn remove_copies(age: Duration) -> io::Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(COPY) {
            continue;
        }
        // Another process may have been quicker.
        let old = entry
            .metadata()
            .and_then(|file| file.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|past| past >= age));
        if old {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

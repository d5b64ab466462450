//! Where a bucket is, and the variables by which Amazon's tools and platforms say so. They are the only ones that are
//! read under another name than `RAG_…`, for that is where operators and platforms put them.

use super::Secret;
use super::settings::Settings;
use crate::blob::s3::{Bucket, Credentials, RoleVariable};
use crate::error::Result;

/// The key, which may be in a file (`…_FILE`) and never prints.
pub(super) const SECRETS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// What the platform says of a role.
const ROLE: [(&str, RoleVariable); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", RoleVariable::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", RoleVariable::RoleArn),
    ("AWS_ROLE_SESSION_NAME", RoleVariable::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", RoleVariable::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", RoleVariable::ContainerRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", RoleVariable::ContainerFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", RoleVariable::ContainerTokenFile),
];
/// Where the store is; of two names for the same, the first wins.
const PLACE: [&str; 4] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"];

/// Whether it is one of them, or names a file with one.
pub(super) fn is_name(name: &str) -> bool {
    let in_file = |secret: &str| name.strip_suffix("_FILE") == Some(secret);
    let mut names = SECRETS.into_iter().chain(PLACE).chain(ROLE.into_iter().map(|(name, _)| name));
    names.any(|known| known == name) || SECRETS.into_iter().any(in_file)
}

/// The bucket that `s3://BUCKET[/PREFIX]` names; `None` if the URL does not.
pub(super) fn bucket(settings: &Settings, url: &str) -> Result<Option<Bucket>> {
    let Some(place) = url.strip_prefix("s3://") else { return Ok(None) };
    let (name, prefix) = place.split_once('/').unwrap_or((place, ""));
    let prefix = prefix.trim_end_matches('/');
    if !is_bucket_name(name) || !is_prefix(prefix) {
        return Ok(None);
    }
    let endpoint = settings.foreign("AWS_ENDPOINT_URL_S3").or_else(|| settings.foreign("AWS_ENDPOINT_URL"));
    if let Some(endpoint) = endpoint
        && !endpoint.starts_with("http://")
        && !endpoint.starts_with("https://")
    {
        return Err(settings.error("storage_url", "s3:// needs https://… or http://… in AWS_ENDPOINT_URL"));
    }
    let region = settings.foreign("AWS_REGION").or_else(|| settings.foreign("AWS_DEFAULT_REGION"));
    Ok(Some(Bucket {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        region: region.map(str::to_owned),
        endpoint: endpoint.map(|url| url.trim_end_matches('/').to_owned()),
        credentials: credentials(settings)?,
    }))
}

fn credentials(settings: &Settings) -> Result<Credentials> {
    let [id, secret, token] = SECRETS.map(|name| settings.foreign(name));
    match (id, secret) {
        (Some(id), Some(secret)) => {
            Ok(Credentials::Key { id: id.to_owned(), secret: Secret::new(secret), token: token.map(Secret::new) })
        }
        (None, None) => {
            let given = |(name, variable)| Some((variable, settings.foreign(name)?.to_owned()));
            Ok(Credentials::Role(ROLE.into_iter().filter_map(given).collect()))
        }
        _ => Err(settings.error("storage_url", "s3:// needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")),
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>, in short.
fn is_bucket_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-');
    let ends = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len()) && bytes.iter().copied().all(allowed) && ends(bytes.first()) && ends(bytes.last())
}

/// Names with slashes between them, of characters that mean nothing in a URL.
fn is_prefix(prefix: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.=+@".contains(&c);
    let named = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    prefix.is_empty() || prefix.split('/').all(named)
}

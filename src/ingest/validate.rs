//! What an upload may carry.

use sha2::{Digest, Sha256};

use super::{Config, Upload};
use crate::catalog::AttributesPatch;
use crate::document::{Metadata, Principal, hex};
use crate::error::{Error, ErrorKind, Result};

/// Longest title, in characters.
const MAX_TITLE: usize = 500;
/// Most bytes of metadata as JSON: it is stored with every chunk.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Deepest nesting of metadata.
const MAX_METADATA_DEPTH: usize = 8;
/// Most readers of a document.
const MAX_READERS: usize = 200;

pub(super) fn upload(upload: &Upload, config: &Config) -> Result<()> {
    if upload.bytes.len() as u64 > config.max_document_bytes {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a document may have at most {} bytes; split it or raise the limit", config.max_document_bytes),
        ));
    }
    title(upload.title.as_deref())?;
    metadata(upload.metadata.as_ref())?;
    readers(upload.readers.as_deref())
}

pub(super) fn patch(patch: &AttributesPatch) -> Result<()> {
    title(patch.title.as_deref())?;
    metadata(patch.metadata.as_ref())?;
    readers(patch.readers.as_deref())
}

fn title(title: Option<&str>) -> Result<()> {
    match title {
        Some(title) if title.chars().count() > MAX_TITLE => {
            Err(Error::invalid("/title", format!("title may have at most {MAX_TITLE} characters")))
        }
        _ => Ok(()),
    }
}

fn metadata(metadata: Option<&Metadata>) -> Result<()> {
    let Some(metadata) = metadata else { return Ok(()) };
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.to_string().len() + 4).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(Error::invalid("/metadata", format!("metadata may have at most {MAX_METADATA_BYTES} bytes")));
    }
    if metadata.values().any(|value| depth(value) > MAX_METADATA_DEPTH) {
        return Err(Error::invalid("/metadata", format!("metadata may nest at most {MAX_METADATA_DEPTH} deep")));
    }
    Ok(())
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn readers(readers: Option<&[Principal]>) -> Result<()> {
    match readers {
        Some(readers) if readers.len() > MAX_READERS => {
            Err(Error::invalid("/readers", format!("a document may have at most {MAX_READERS} readers; use a group")))
        }
        _ => Ok(()),
    }
}

/// SHA-256 of everything that makes two uploads the same request.
pub(super) fn fingerprint(upload: &Upload) -> String {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(&upload.bytes));
    let attributes = serde_json::json!([
        upload.document_id,
        upload.filename,
        upload.media_type,
        upload.title,
        upload.metadata,
        upload.readers,
    ]);
    hash.update(attributes.to_string());
    hex(&hash.finalize())
}

/// The media type that a file's name promises.
pub(super) fn media_type(filename: Option<&str>) -> &'static str {
    let extension =
        filename.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("txt" | "text" | "log") => "text/plain",
        Some("md" | "markdown") => "text/markdown",
        Some("html" | "htm" | "xhtml") => "text/html",
        Some("csv") => "text/csv",
        Some("tsv") => "text/tab-separated-values",
        Some("pdf") => "application/pdf",
        Some("docx") => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Some("pptx") => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        Some("xlsx") => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        Some("odt") => "application/vnd.oasis.opendocument.text",
        Some("rtf") => "application/rtf",
        Some("epub") => "application/epub+zip",
        Some("eml") => "message/rfc822",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

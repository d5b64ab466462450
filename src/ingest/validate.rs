//! What an upload may carry.

use sha2::{Digest, Sha256};

use super::{Config, Upload};
use crate::catalog::AttributesPatch;
use crate::document::{Metadata, Principal, hex};
use crate::error::{Error, ErrorKind, Result};

/// Longest title, in characters.
pub(crate) const MAX_TITLE: usize = 500;
/// Most bytes of metadata as JSON: it is stored with every chunk.
const MAX_METADATA_BYTES: usize = 16 * 1024;
/// Deepest nesting of metadata.
const MAX_METADATA_DEPTH: usize = 8;
/// Most readers of a document: they are stored with every chunk.
pub(crate) const MAX_READERS: usize = 256;

pub(super) fn upload(upload: &Upload, config: &Config) -> Result<()> {
    if upload.content.bytes() > config.max_document_bytes {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a document may have at most {} bytes; split it or raise the limit", config.max_document_bytes),
        ));
    }
    attributes(upload.title.as_deref(), upload.metadata.as_ref(), upload.readers.as_deref())
}

pub(super) fn patch(patch: &AttributesPatch) -> Result<()> {
    attributes(patch.title.as_deref(), patch.metadata.as_ref(), patch.readers.as_deref())
}

fn attributes(title: Option<&str>, metadata: Option<&Metadata>, readers: Option<&[Principal]>) -> Result<()> {
    title.map_or(Ok(()), check_title)?;
    metadata.map_or(Ok(()), check_metadata)?;
    readers.map_or(Ok(()), check_readers)
}

fn check_title(title: &str) -> Result<()> {
    if title.chars().count() > MAX_TITLE {
        return Err(Error::invalid("/title", format!("title may have at most {MAX_TITLE} characters")));
    }
    if title.chars().any(char::is_control) {
        return Err(Error::invalid("/title", "title may not have line breaks or control characters"));
    }
    Ok(())
}

fn check_metadata(metadata: &Metadata) -> Result<()> {
    let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_METADATA_BYTES {
        return Err(Error::invalid("/metadata", format!("metadata may have at most {MAX_METADATA_BYTES} bytes")));
    }
    if metadata.values().any(|value| depth(value) > MAX_METADATA_DEPTH) {
        return Err(Error::invalid("/metadata", format!("metadata may nest at most {MAX_METADATA_DEPTH} deep")));
    }
    Ok(())
}

/// Also for who gathers readers piece by piece.
pub(crate) fn check_readers(readers: &[Principal]) -> Result<()> {
    if readers.len() > MAX_READERS {
        return Err(Error::invalid(
            "/readers",
            format!("a document may have at most {MAX_READERS} readers; use a group"),
        ));
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

/// SHA-256 of everything that makes two requests the same: every upload, in order.
pub(super) fn fingerprint(uploads: &[Upload]) -> String {
    let mut hash = Sha256::new();
    for upload in uploads {
        let attributes = serde_json::json!([
            upload.document_id,
            upload.filename,
            upload.media_type,
            upload.title,
            upload.metadata,
            upload.readers,
        ]);
        // Two hashes of fixed length for each: where one upload ends and the next begins is never in doubt.
        hash.update(upload.content.sha256());
        hash.update(Sha256::digest(attributes.to_string()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(text: &str) -> Upload {
        Upload {
            document_id: None,
            content: text.to_owned().into(),
            filename: None,
            media_type: None,
            title: None,
            metadata: None,
            readers: None,
        }
    }

    #[test]
    fn a_fingerprint_is_of_every_upload_and_all_that_is_said_of_it() {
        let of = |texts: &[&str]| fingerprint(&texts.iter().map(|text| upload(text)).collect::<Vec<_>>());
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        let titled = Upload { title: Some("b".to_owned()), ..upload("a") };
        let all = [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["b", "a"]), of(&["ab"]), fingerprint(&[titled])];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
    }

    #[test]
    fn what_is_over_a_limit_names_its_field() {
        let reader = Principal::public();
        let wrong = |patch: AttributesPatch| super::patch(&patch).unwrap_err().pointer().map(str::to_owned);
        let full = AttributesPatch {
            title: Some("ä".repeat(MAX_TITLE)),
            metadata: serde_json::json!({"a": "x".repeat(MAX_METADATA_BYTES - 8)}).as_object().cloned(),
            readers: Some(vec![reader.clone(); MAX_READERS]),
        };
        super::patch(&full).unwrap();
        let title = full.title.clone().map(|title| title + "x");
        assert_eq!(wrong(AttributesPatch { title, ..full.clone() }).as_deref(), Some("/title"));
        let metadata = serde_json::json!({"a": "x".repeat(MAX_METADATA_BYTES - 7)}).as_object().cloned();
        assert_eq!(wrong(AttributesPatch { metadata, ..full.clone() }).as_deref(), Some("/metadata"));
        let metadata = serde_json::json!({"a": [[[[[[[[[1]]]]]]]]]}).as_object().cloned();
        assert_eq!(wrong(AttributesPatch { metadata, ..full.clone() }).as_deref(), Some("/metadata"));
        let readers = Some(vec![reader; MAX_READERS + 1]);
        assert_eq!(wrong(AttributesPatch { readers, ..full }).as_deref(), Some("/readers"));
    }
}

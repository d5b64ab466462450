//! Uploads: JSON with a text, or multipart with files, into [`Upload`]s. Files do not stay in memory; what does
//! is bounded by the limits below and by the places of the ingest class.

use axum::body::Body;
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, HeaderName};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use crate::document::{DocumentId, Metadata, Principal};
use crate::error::{Error, Result};
use crate::http::body::{self, BoundedBody};
use crate::http::extract::{self, is_json, media_type};
use crate::http::problem::Refusal;
use crate::http::state::AppState;
use crate::ingest::Upload;
use crate::ingest::spool::{Spool, Spooled};
use crate::ingest::validate::check_readers;

/// A request of several files may be so many times the limit of one file.
const FILES_FACTOR: u64 = 2;

/// What a multipart request may be larger than its files: fields and headers of parts.
const MULTIPART_OVERHEAD: u64 = 1024 * 1024;

/// Most files of a request.
const MAX_FILES: usize = 64;

/// Most bytes of a field that is not a file.
const MAX_FIELD_BYTES: usize = 64 * 1024;

/// Longest name of a file that is kept, in bytes.
const MAX_FILENAME: usize = 255;

/// Longest `Idempotency-Key`, in bytes.
const MAX_IDEMPOTENCY_KEY: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

const TAKES: &str = "application/json or multipart/form-data";

/// A document as JSON.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "text": "Invoices are kept for ten years.", "title": "Retention policy",
    "metadata": {"department": "finance", "year": 2024}, "readers": ["group:finance"]
}))]
pub(super) struct TextUpload {
    /// The text.
    #[schema(min_length = 1)]
    text: String,
    /// The title.
    #[schema(max_length = 500)]
    title: Option<String>,
    /// Fields that filters reach; at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Metadata>,
    /// Who may read it besides the uploader: `user:NAME`, `group:NAME`, `public` (everybody in the tenant).
    #[schema(value_type = Option<Vec<String>>, max_items = 256)]
    readers: Option<Vec<Principal>>,
    /// Its identity; without one, it gets a fresh one.
    #[schema(value_type = Option<String>, max_length = 128, pattern = r"^[A-Za-z0-9_.@+:\-]+$")]
    document_id: Option<DocumentId>,
}

/// One or several documents as a form.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "describes a form for OpenAPI; it is read field by field")]
pub(super) struct FormUpload {
    /// The file; several parts make several documents. 25 MiB each by default.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<Vec<u8>>,
    /// The title, of every file.
    title: Option<String>,
    /// Fields that filters reach, as a JSON object.
    #[schema(value_type = Option<Object>)]
    metadata: Option<String>,
    /// Who may read it: a JSON array, a comma list, or the field repeated.
    readers: Option<String>,
    /// Its identity; only with a single file.
    document_id: Option<String>,
}

/// The uploads of a request.
#[derive(Debug)]
pub(super) struct Uploads {
    /// At least one.
    pub(super) uploads: Vec<Upload>,
    /// The `Idempotency-Key`.
    pub(super) idempotency_key: Option<String>,
}

impl FromRequest<AppState> for Uploads {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Refusal> {
        read(request, state.config.max_body_bytes).await
    }
}

async fn read(request: Request, limit: u64) -> Result<Uploads, Refusal> {
    let idempotency_key = idempotency_key(request.headers())?;
    let uploads = if is_json(request.headers()) {
        let text = extract::parse(&body::read(request.into_body(), limit).await?)?;
        vec![from_text(text)?]
    } else if media_type(request.headers()).is_some_and(|kind| kind == "multipart/form-data") {
        from_form(request, limit).await?
    } else {
        return Err(Refusal::UnsupportedMediaType(TAKES));
    };
    Ok(Uploads { uploads, idempotency_key })
}

fn from_text(body: TextUpload) -> Result<Upload> {
    if body.text.trim().is_empty() {
        return Err(Error::invalid("/text", "text must not be empty"));
    }
    Ok(Upload {
        document_id: body.document_id,
        content: body.text.into(),
        filename: None,
        media_type: Some("text/plain; charset=utf-8".to_owned()),
        title: body.title,
        metadata: body.metadata,
        readers: body.readers,
    })
}

/// What a form holds, gathered part by part.
#[derive(Debug, Default)]
struct Form {
    files: Vec<File>,
    spool: Spool,
    title: Option<String>,
    metadata: Option<Metadata>,
    readers: Option<Vec<Principal>>,
    document_id: Option<DocumentId>,
}

#[derive(Debug)]
struct File {
    content: Spooled,
    filename: Option<String>,
    media_type: Option<String>,
}

async fn from_form(request: Request, limit: u64) -> Result<Vec<Upload>, Refusal> {
    let total = limit.saturating_mul(FILES_FACTOR).saturating_add(MULTIPART_OVERHEAD);
    let request = request.map(|body| Body::new(BoundedBody::new(body, total)));
    let multipart = Multipart::from_request(request, &()).await;
    let mut parts = multipart.map_err(|_| Refusal::Malformed("multipart without a boundary".to_owned()))?;
    let mut form = Form::default();
    let mut refusal = None;
    // After a refusal the rest is still read (and thrown away), so that the client gets to see the answer.
    while let Some(field) = parts.next_field().await.map_err(broken)? {
        let taken = match refusal {
            None => form.take(field, limit).await,
            Some(_) => read_field(field, 0).await.map(drop),
        };
        match taken {
            Err(Refusal::Malformed(detail)) => return Err(Refusal::Malformed(detail)),
            Err(first) if refusal.is_none() => refusal = Some(first),
            _ => {}
        }
    }
    refusal.map_or_else(|| form.uploads().map_err(Refusal::from), Err)
}

fn broken(error: MultipartError) -> Refusal {
    match body::refusal_for(&error) {
        Refusal::Malformed(_) => Refusal::Malformed(format!("the form could not be read: {}", error.body_text())),
        refusal => refusal,
    }
}

/// Reads a part. All of it, even where it is too large (see [`BoundedBody`] for why).
async fn read_field(mut field: Field<'_>, limit: u64) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    let mut over = false;
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        over |= (bytes.len() + chunk.len()) as u64 > limit;
        if !over {
            bytes.extend_from_slice(&chunk);
        }
    }
    if over { Err(Refusal::BodyTooLarge(limit)) } else { Ok(bytes.freeze()) }
}

/// The same of a file.
async fn read_file(mut field: Field<'_>, limit: u64, spool: &mut Spool) -> Result<Spooled, Refusal> {
    let mut content = spool.begin();
    let mut over = false;
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        over |= content.bytes() + chunk.len() as u64 > limit;
        if !over {
            content.write(&chunk).await?;
        }
    }
    if over { Err(Refusal::BodyTooLarge(limit)) } else { Ok(content.finish().await?) }
}

impl Form {
    async fn take(&mut self, field: Field<'_>, limit: u64) -> Result<(), Refusal> {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let filename = field.file_name().and_then(display_name);
            let media_type = field.content_type().and_then(declared_type);
            let content = read_file(field, limit, &mut self.spool).await?;
            return Ok(self.add_file(File { content, filename, media_type })?);
        }
        let bytes = read_field(field, MAX_FIELD_BYTES as u64).await?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::invalid(format!("/{name}"), "must be UTF-8"))?;
        Ok(self.set(&name, text)?)
    }

    fn add_file(&mut self, file: File) -> Result<()> {
        if self.files.len() == MAX_FILES {
            return Err(Error::invalid("/file", format!("at most {MAX_FILES} files in a request")));
        }
        self.files.push(file);
        Ok(())
    }

    fn set(&mut self, name: &str, text: &str) -> Result<()> {
        let twice = |taken: bool| match taken {
            true => Err(Error::invalid(format!("/{name}"), format!("{name} must be given once"))),
            false => Ok(()),
        };
        match name {
            "title" => {
                twice(self.title.is_some())?;
                self.title = Some(text.to_owned());
            }
            "metadata" => {
                twice(self.metadata.is_some())?;
                let metadata = serde_json::from_str(text)
                    .map_err(|_| Error::invalid("/metadata", "metadata must be a JSON object"))?;
                self.metadata = Some(metadata);
            }
            "readers" => {
                let mut readers = self.readers.take().unwrap_or_default();
                readers.extend(parse_readers(text)?);
                // Here too, so that a form of readers only does not fill the memory.
                check_readers(&readers)?;
                self.readers = Some(readers);
            }
            "document_id" => {
                twice(self.document_id.is_some())?;
                self.document_id = Some(text.parse()?);
            }
            _ => return Err(Error::invalid(format!("/{name}"), format!("unknown field `{name}`"))),
        }
        Ok(())
    }

    fn uploads(self) -> Result<Vec<Upload>> {
        if self.files.is_empty() {
            return Err(Error::invalid("/file", "the form holds no file"));
        }
        if self.document_id.is_some() && self.files.len() > 1 {
            return Err(Error::invalid("/document_id", "document_id is for a single file"));
        }
        let upload = |file: File| Upload {
            document_id: self.document_id.clone(),
            content: file.content,
            filename: file.filename,
            media_type: file.media_type,
            title: self.title.clone(),
            metadata: self.metadata.clone(),
            readers: self.readers.clone(),
        };
        Ok(self.files.into_iter().map(upload).collect())
    }
}

/// A JSON array, or names with commas between them.
fn parse_readers(text: &str) -> Result<Vec<Principal>> {
    if text.trim_start().starts_with('[') {
        let wrong = |_| Error::invalid("/readers", "readers must be an array of `user:NAME`, `group:NAME` or `public`");
        return serde_json::from_str(text).map_err(wrong);
    }
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::parse).collect()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let sane = |key: &&str| !key.is_empty() && key.len() <= MAX_IDEMPOTENCY_KEY;
    let wrong = || {
        let detail = format!("Idempotency-Key must be 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters");
        Error::invalid("/idempotency-key", detail)
    };
    value.to_str().ok().filter(sane).map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

/// A file's name as it may be shown: without folders, control characters and marks that change the direction of
/// writing. It never names a file of ours.
fn display_name(sent: &str) -> Option<String> {
    let base = sent.rsplit(['/', '\\']).next().unwrap_or_default();
    let hidden =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let shown: String = base.nfc().filter(|c| !c.is_control() && !hidden(*c)).collect();
    let shown = shown.trim();
    let shown = &shown[..shown.floor_char_boundary(MAX_FILENAME)];
    (!shown.is_empty() && shown.chars().any(|c| c != '.')).then(|| shown.to_owned())
}

/// The media type of a part, if it says anything, with its charset, if it names one.
fn declared_type(sent: &str) -> Option<String> {
    let sent = sent.to_ascii_lowercase();
    let mut parts = sent.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| part.strip_prefix("charset="));
    let charset = charset.map(|name| name.trim_matches('"'));
    let token = |part: &str| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&c);
        !part.is_empty() && part.len() <= 127 && part.bytes().all(allowed)
    };
    let (family, name) = kind.split_once('/')?;
    if !token(family) || !token(name) || kind == "application/octet-stream" {
        return None;
    }
    Some(match charset.filter(|charset| token(charset)) {
        Some(charset) => format!("{kind}; charset={charset}"),
        None => kind.to_owned(),
    })
}

#[cfg(test)]
mod tests;

//! What `/v1/documents` sends and takes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{Object, ObjectBuilder, Type};

use crate::catalog::{AttributesPatch, DocumentRecord, Progress, Stage, Status};
use crate::document::{Chunk, DocumentId, Failure, FailureReason, Metadata, Principal, Version};
use crate::error::{Error, Result};

/// An accepted document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"document_id": "0193a5c4-6f6e-7c11-a1a5-1f8f2f6f0b7e", "status": "processing", "version": 1}))]
pub(in crate::http) struct Submission {
    /// Its id.
    #[schema(value_type = String)]
    document_id: DocumentId,
    /// Where it stands.
    #[schema(schema_with = status_schema)]
    status: Status,
    /// Its newest version.
    #[schema(value_type = u64)]
    version: Version,
}

impl Submission {
    pub(super) fn of(record: &DocumentRecord) -> Self {
        Self { document_id: record.document_id.clone(), status: record.status, version: record.version }
    }
}

/// Several accepted documents, in the order of their parts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct SubmissionList {
    /// One for each file.
    pub(super) documents: Vec<Submission>,
}

/// What became of an upload: one document, or several where the form held several files.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum UploadResponse {
    /// One.
    One(Submission),
    /// Several.
    Several(SubmissionList),
}

impl UploadResponse {
    pub(super) fn of(mut documents: Vec<Submission>) -> Self {
        match documents.pop() {
            Some(only) if documents.is_empty() => Self::One(only),
            last => Self::Several(SubmissionList { documents: documents.into_iter().chain(last).collect() }),
        }
    }
}

/// The bytes of a file.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "describes a body for OpenAPI; it is streamed")]
pub(in crate::http) struct FileBytes(Vec<u8>);

/// A document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct DocumentView {
    /// Its id.
    #[schema(value_type = String)]
    document_id: DocumentId,
    /// Its title.
    title: String,
    /// The name it was uploaded under.
    filename: Option<String>,
    /// Its kind, as declared or by its name.
    media_type: String,
    /// Size of the newest version's original.
    bytes: u64,
    /// SHA-256 of the newest version's original, in hexadecimal.
    sha256: String,
    /// Where the newest version stands.
    #[schema(schema_with = status_schema)]
    status: Status,
    /// What is being done with it.
    #[schema(schema_with = stage_schema)]
    stage: Stage,
    /// How far that is.
    progress: ProgressView,
    /// How often processing has begun.
    attempts: u32,
    /// Why the newest version failed.
    error: Option<FailureView>,
    /// The newest version that was accepted.
    #[schema(value_type = u64)]
    version: Version,
    /// Chunks of what is served now; 0 if nothing is.
    chunks: u32,
    /// Who may read it.
    #[schema(value_type = Vec<String>)]
    readers: Vec<Principal>,
    /// Fields that filters reach.
    #[schema(value_type = Object)]
    metadata: Metadata,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: DateTime<Utc>,
    /// When anything of it changed last.
    #[schema(value_type = String, format = DateTime)]
    updated_at: DateTime<Utc>,
}

impl From<DocumentRecord> for DocumentView {
    fn from(record: DocumentRecord) -> Self {
        let title = record.shown_title().to_owned();
        Self {
            document_id: record.document_id,
            title,
            filename: record.content.filename,
            media_type: record.content.media_type,
            bytes: record.content.bytes,
            sha256: record.content.sha256,
            status: record.status,
            stage: record.stage,
            progress: record.progress.into(),
            attempts: record.attempts,
            error: record.failure.map(FailureView::from),
            version: record.version,
            chunks: record.served.map_or(0, |served| served.chunks),
            readers: record.readers,
            metadata: record.metadata,
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// Steps done of a stage.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ProgressView {
    /// Steps done.
    done: u32,
    /// Steps in all; 0 while their number is not known.
    total: u32,
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        Self { done: progress.done, total: progress.total }
    }
}

/// Why a document failed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct FailureView {
    /// The kind of failure.
    #[schema(schema_with = reason_schema)]
    reason: FailureReason,
    /// What happened and what to do about it.
    detail: String,
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        Self { reason: failure.reason, detail: failure.detail }
    }
}

/// A page of documents.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct DocumentList {
    /// By id.
    pub(super) documents: Vec<DocumentView>,
    /// The `cursor` of the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

/// A change of a document; what is not given stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"readers": ["group:finance", "user:eve"]}))]
pub(in crate::http) struct DocumentPatch {
    /// The new title.
    #[schema(max_length = 500)]
    title: Option<String>,
    /// The new metadata, whole; at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Metadata>,
    /// The new readers besides the owner, whole.
    #[schema(value_type = Option<Vec<String>>, max_items = 256)]
    readers: Option<Vec<Principal>>,
}

impl DocumentPatch {
    pub(super) fn checked(self) -> Result<AttributesPatch> {
        if self.title.is_none() && self.metadata.is_none() && self.readers.is_none() {
            return Err(Error::invalid("", "nothing to change: give title, metadata or readers"));
        }
        Ok(AttributesPatch { title: self.title, metadata: self.metadata, readers: self.readers })
    }
}

/// A chunk.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ChunkView {
    /// `{document_id}_{chunk_idx}`.
    id: String,
    /// Position in the document, from 0.
    chunk_idx: u32,
    /// The text.
    text: String,
    /// Page of the first character, from 1, where the document has pages.
    page: Option<u32>,
    /// First character in the extracted text, in Unicode scalar values.
    start: u64,
    /// One past the last character.
    end: u64,
}

impl ChunkView {
    pub(super) fn of(document: &DocumentId, chunk: Chunk) -> Self {
        let Chunk { chunk_idx, text, page, start, end, headings: _ } = chunk;
        Self { id: format!("{document}_{chunk_idx}"), chunk_idx, text, page, start, end }
    }
}

/// A page of chunks.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct ChunkList {
    /// In order.
    pub(super) chunks: Vec<ChunkView>,
    /// The `cursor` of the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
}

fn one_of(names: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}

fn status_schema() -> Object {
    one_of([Status::Processing, Status::Indexed, Status::Failed].map(Status::as_str))
}

fn stage_schema() -> Object {
    one_of([Stage::Queued, Stage::Extract, Stage::Chunk, Stage::Embed, Stage::Publish].map(Stage::as_str))
}

fn reason_schema() -> Object {
    use FailureReason::{Encrypted, Internal, Malformed, NoText, Timeout, TooLarge, Unsupported};
    one_of([Encrypted, Malformed, NoText, Unsupported, TooLarge, Timeout, Internal].map(FailureReason::as_str))
}

//! The lines of an export.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Counts;
use crate::catalog::{Attributes, Content, DocumentRecord, KeyRecord, KeyScope, Served, Status};
use crate::document::{Chunk, DocumentId, Failure, Metadata, Principal, TenantId, Version, hex};
use crate::error::{Error, ErrorKind, Result};
use crate::vector_store::{Identity, SparseVector};

/// Counts changes of the lines' shape.
pub(super) const FORMAT: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    Header(Header),
    Key(Key),
    Document(Box<Document>),
    Original(Piece),
    Point(PointLine),
    End(Counts),
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    /// [`FORMAT`]; its name says whose file this is.
    pub(super) rag_api_export: u32,
    /// The version of the program that wrote it.
    pub(super) version: String,
    pub(super) exported_at: DateTime<Utc>,
    /// What the vectors were made with.
    pub(super) vectors: Identity,
    /// Documents there were when it began, for the progress.
    pub(super) documents: u64,
}

/// A key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Key {
    id: String,
    /// Of the whole key, lower-case hexadecimal.
    sha256: String,
    name: String,
    tenant: TenantId,
    user: String,
    groups: Vec<String>,
    scopes: Vec<KeyScope>,
    active: bool,
    expires_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<KeyRecord> for Key {
    fn from(key: KeyRecord) -> Self {
        let KeyRecord { id, hash, name, tenant, user, groups, scopes, active, expires_at, created_at } = key;
        Self { id, sha256: hex(&hash), name, tenant, user, groups, scopes, active, expires_at, created_at }
    }
}

impl Key {
    /// The key; an error if nobody could have made one like it.
    pub(super) fn into_record(self) -> Result<KeyRecord> {
        let Self { id, sha256, name, tenant, user, groups, scopes, active, expires_at, created_at } = self;
        let digit = |at: usize| u8::from_str_radix(sha256.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..sha256.len()).step_by(2).map(digit).collect();
        let hash = bytes.and_then(|bytes| bytes.try_into().ok());
        let hash = hash.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("key {id} has no SHA-256")))?;
        Principal::user(&user)?;
        groups.iter().try_for_each(|group| Principal::group(group).map(drop))?;
        Ok(KeyRecord { id, hash, name, tenant, user, groups, scopes, active, expires_at, created_at })
    }
}

/// A document, before its originals and points.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) tenant: TenantId,
    pub(super) document_id: DocumentId,
    pub(super) owner: Principal,
    pub(super) readers: Vec<Principal>,
    pub(super) title: String,
    pub(super) metadata: Metadata,
    pub(super) version: Version,
    pub(super) content: File,
    pub(super) served: Option<ServedFile>,
    pub(super) status: Status,
    pub(super) failure: Option<Failure>,
    pub(super) created_at: DateTime<Utc>,
}

/// An original, without its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct File {
    pub(super) filename: Option<String>,
    pub(super) media_type: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// What is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServedFile {
    pub(super) version: Version,
    pub(super) content: File,
    pub(super) chunks: u32,
    pub(super) attributes: Attributes,
}

impl From<&DocumentRecord> for Document {
    /// A version that is only built again is left out: the import has the points of the one that is served.
    fn from(record: &DocumentRecord) -> Self {
        let record = record.clone();
        let again = record.served.as_ref().filter(|served| served.content.blob == record.content.blob);
        let (version, status, failure) = match again {
            Some(served) => (served.version, Status::Indexed, None),
            None => (record.version, record.status, record.failure),
        };
        Self {
            tenant: record.tenant,
            document_id: record.document_id,
            owner: record.owner,
            readers: record.readers,
            title: record.title,
            metadata: record.metadata,
            version,
            content: File::from(record.content),
            served: record.served.map(ServedFile::from),
            status,
            failure,
            created_at: record.created_at,
        }
    }
}

impl Document {
    /// Whether there is a newer content than what is served.
    pub(super) fn has_newer(&self) -> bool {
        self.served.as_ref().is_none_or(|served| served.version != self.version)
    }

    /// What a message calls it.
    pub(super) fn name(&self) -> String {
        format!("document {} of tenant {}", self.document_id, self.tenant)
    }
}

impl From<Content> for File {
    fn from(content: Content) -> Self {
        let Content { filename, media_type, bytes, sha256, blob: _ } = content;
        Self { filename, media_type, bytes, sha256 }
    }
}

impl File {
    /// The original at its new place.
    pub(super) fn at(&self, blob: String) -> Content {
        let Self { filename, media_type, bytes, sha256 } = self.clone();
        Content { filename, media_type, bytes, sha256, blob }
    }
}

impl From<Served> for ServedFile {
    fn from(served: Served) -> Self {
        let Served { version, content, chunks, attributes } = served;
        Self { version, content: content.into(), chunks, attributes }
    }
}

/// A piece of an original, in base64.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    data: String,
}

impl Piece {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self { data: STANDARD.encode(bytes) }
    }

    /// `None`: it is damaged.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.data).ok()
    }
}

/// A chunk and its vectors. Numbers are little-endian, four bytes each, in base64: they come back as they were.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PointLine {
    #[serde(flatten)]
    pub(super) chunk: Chunk,
    dense: String,
    terms: String,
    weights: String,
}

impl PointLine {
    pub(super) fn new(chunk: Chunk, dense: &[f32], sparse: &SparseVector) -> Self {
        let floats = |values: &[f32]| encode(values.iter().map(|value| value.to_le_bytes()));
        let terms = encode(sparse.indices.iter().map(|term| term.to_le_bytes()));
        Self { chunk, dense: floats(dense), terms, weights: floats(&sparse.values) }
    }

    /// The embedding and the BM25 vector; `None`: they are damaged.
    pub(super) fn vectors(&self) -> Option<(Vec<f32>, SparseVector)> {
        let floats = |text: &str| Some(decode(text)?.into_iter().map(f32::from_le_bytes).collect::<Vec<_>>());
        let indices: Vec<u32> = decode(&self.terms)?.into_iter().map(u32::from_le_bytes).collect();
        let values = floats(&self.weights)?;
        (indices.len() == values.len()).then_some((floats(&self.dense)?, SparseVector { indices, values }))
    }
}

fn encode(numbers: impl Iterator<Item = [u8; 4]>) -> String {
    STANDARD.encode(numbers.flatten().collect::<Vec<u8>>())
}

fn decode(text: &str) -> Option<Vec<[u8; 4]>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.to_vec())
}

//! The domain types that every module shares. No I/O, no vendor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Free metadata of a document: JSON object of the user's own fields, reachable by filters.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// A monotonically growing number of a document's content; the first indexed content is version 1.
pub type Version = u64;

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                check_identifier(text, $what)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                check_identifier(&text, $what)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// A tenant: nothing of one tenant is ever visible in another.
    TenantId,
    "tenant"
);
string_id!(
    /// A document's identity, unique in its tenant. Chosen by the caller or a fresh UUID.
    DocumentId,
    "document_id"
);

impl DocumentId {
    /// A fresh random identifier (UUIDv7, so that listings by id follow creation).
    pub fn random() -> Self {
        Self(Uuid::now_v7().to_string())
    }
}

/// Longest identifier of a tenant, document, user or group, in bytes.
pub const MAX_IDENTIFIER: usize = 128;

fn check_identifier(text: &str, what: &str) -> Result<()> {
    let sane = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '+' | ':');
    if text.is_empty() || text.len() > MAX_IDENTIFIER || !text.chars().all(sane) || text.chars().all(|c| c == '.') {
        return Err(Error::invalid(
            format!("/{what}"),
            format!("{what} must be 1 to {MAX_IDENTIFIER} of the characters A-Z a-z 0-9 - _ . @ + :"),
        ));
    }
    Ok(())
}

/// Who may read: `user:NAME`, `group:NAME`, or `public` (everybody within the tenant).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal(String);

impl Principal {
    /// Everybody within the tenant.
    pub fn public() -> Self {
        Self("public".to_owned())
    }

    /// One user.
    pub fn user(name: &str) -> Result<Self> {
        format!("user:{name}").parse()
    }

    /// The members of a group.
    pub fn group(name: &str) -> Result<Self> {
        format!("group:{name}").parse()
    }

    /// The principal as text, as stored with every point.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Principal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Principal {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let name = text.strip_prefix("user:").or_else(|| text.strip_prefix("group:"));
        match name {
            Some(name) if check_identifier(name, "readers").is_ok() => Ok(Self(text)),
            None if text == "public" => Ok(Self(text)),
            _ => Err(Error::invalid("/readers", "a reader is `user:NAME`, `group:NAME` or `public`")),
        }
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a caller may see: one tenant, and the principals the caller acts as.
///
/// Every search takes one, so that a search without a scope cannot be written. Principals are sorted and unique, so
/// that equal scopes are equal cache keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    tenant: TenantId,
    principals: Vec<Principal>,
}

impl Scope {
    /// The scope of `principals` in `tenant`. No principals: nothing is visible.
    pub fn new(tenant: TenantId, mut principals: Vec<Principal>) -> Self {
        principals.sort();
        principals.dedup();
        Self { tenant, principals }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The principals, sorted and unique.
    pub fn principals(&self) -> &[Principal] {
        &self.principals
    }

    /// Whether the caller is this principal, by its text.
    pub fn has(&self, principal: &str) -> bool {
        self.principals.binary_search_by(|own| own.as_str().cmp(principal)).is_ok()
    }

    /// Whether a document of this tenant with these readers is visible.
    pub fn may_read(&self, tenant: &TenantId, readers: &[Principal]) -> bool {
        *tenant == self.tenant && readers.iter().any(|reader| self.principals.binary_search(reader).is_ok())
    }
}

/// A piece of a document, cut for the embedding model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Position among the document's chunks, from 0.
    pub chunk_idx: u32,
    /// The chunk's own text, a slice of the extracted text.
    pub text: String,
    /// Headings above the chunk, outermost first; empty if the document has none.
    pub headings: Vec<String>,
    /// Page (slide, sheet) of the chunk's first character, from 1.
    pub page: Option<u32>,
    /// First character in the extracted text, in Unicode scalar values.
    pub start: u64,
    /// One past the last character, in Unicode scalar values.
    pub end: u64,
}

/// A retrieved chunk, as it is stored with its vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    /// Which document.
    pub document_id: DocumentId,
    /// Which content of that document.
    pub version: Version,
    /// The document's title.
    pub title: String,
    /// The document's metadata.
    pub metadata: Metadata,
    /// Text and place.
    #[serde(flatten)]
    pub chunk: Chunk,
}

impl Passage {
    /// The public id of a chunk: `{document_id}_{chunk_idx}`.
    pub fn chunk_id(&self) -> String {
        format!("{}_{}", self.document_id, self.chunk.chunk_idx)
    }

    /// What the embedder, BM25 and the rerankers read: title and headings as context, then the text.
    pub fn contextual_text(&self) -> String {
        contextual_text(&self.title, &self.chunk)
    }
}

/// Most characters of a title that go before a chunk as its context: a longer one would leave a model that reads few
/// tokens too little of the text.
const CONTEXT_TITLE: usize = 200;

/// The part of a title that goes before each chunk.
pub fn context_title(title: &str) -> &str {
    title.char_indices().nth(CONTEXT_TITLE).map_or(title, |(end, _)| &title[..end])
}

/// What the embedder, BM25 and the rerankers read of a chunk: title and headings as context, then the text.
pub fn contextual_text(title: &str, chunk: &Chunk) -> String {
    let title = context_title(title);
    let mut text = String::with_capacity(title.len() + chunk.text.len() + 64);
    let mut previous = "";
    for part in std::iter::once(title).chain(chunk.headings.iter().map(String::as_str)) {
        if !part.is_empty() && part != previous {
            text.push_str(part);
            text.push('\n');
            previous = part;
        }
    }
    text.push_str(&chunk.text);
    text
}

/// Namespace of point ids: a fixed random UUID. Changing it orphans every stored point.
const POINT_NAMESPACE: Uuid =
    Uuid::from_bytes([0x5b, 0x0d, 0x2f, 0x63, 0x8f, 0x0e, 0x5c, 0x2a, 0x9b, 0x61, 0x0a, 0x4d, 0x57, 0x2c, 0x7e, 0x19]);

/// The deterministic id of a point: UUIDv5 of tenant, document, version and chunk number, so that writing the same
/// chunk twice is one point.
pub fn point_id(tenant: &TenantId, document: &DocumentId, version: Version, chunk_idx: u32) -> Uuid {
    let name = format!("{tenant}\u{0}{document}\u{0}{version}\u{0}{chunk_idx}");
    Uuid::new_v5(&POINT_NAMESPACE, name.as_bytes())
}

/// Why a document could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// It needs a password.
    Encrypted,
    /// It is damaged, or not what it claims to be.
    Malformed,
    /// It was read and holds no text (scans, images).
    NoText,
    /// Not a kind of file that is read here.
    Unsupported,
    /// It, or what it unpacks to, is over a limit.
    TooLarge,
    /// Reading it took too long.
    Timeout,
    /// A defect of ours.
    Internal,
}

impl FailureReason {
    /// The name in the API, in the catalog and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Malformed => "malformed",
            Self::NoText => "no_text",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }
}

/// How a document failed: a reason a program can act on, and a detail for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure.
    pub reason: FailureReason,
    /// What happened and what to do about it.
    pub detail: String,
}

/// Bytes as lower-case hexadecimal digits: how hashes are shown and stored.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_title_leaves_the_text_its_place() {
        let (headings, text) = (vec!["Part".to_owned()], "Ten years.".to_owned());
        let chunk = Chunk { chunk_idx: 0, text, headings, page: None, start: 0, end: 10 };
        assert_eq!(contextual_text("Rules", &chunk), "Rules\nPart\nTen years.");
        let context = contextual_text(&"ä".repeat(500), &chunk);
        assert_eq!(context, format!("{}\nPart\nTen years.", "ä".repeat(CONTEXT_TITLE)));
    }
}

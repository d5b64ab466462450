//! Text out of files: type by content, in a child process with limits.

use serde::{Deserialize, Serialize};

/// The text of a document, as it is cut into chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extracted {
    /// The media type that the content showed.
    pub media_type: String,
    /// The document's own title, if it has one.
    pub title: Option<String>,
    /// The whole text, Markdown where the format has structure. Offsets count its Unicode scalar values.
    pub text: String,
    /// Whether `text` is Markdown (headings, tables, fenced code) or plain.
    pub markdown: bool,
    /// Where pages (slides, sheets) begin, in Unicode scalar values, ascending; empty if the format has none.
    pub pages: Vec<u64>,
}

//! Text out of files: type by content, in a child process with limits.
//!
//! [`Extractor`] is what the worker calls. It runs this same program again as `extract …` ([`child`]), which limits
//! itself, reads the one file, and answers with JSON on its standard output. Whatever a file does to a parser — loop,
//! eat memory, overflow the stack, crash a native library — ends that child, and becomes a [`Failure`] of the document.
//!
//! In reading order: [`child`] (limits, one thread, the answer), `read` (which reader for which kind), `sniff` (the
//! kind by content), `package` and `xml` (bounded unpacking), one file per format, `tidy` (what every text goes through).

pub mod child;

mod csv;
mod decode;
mod docx;
mod epub;
mod failure;
mod html;
mod mail;
mod markdown;
mod odf;
mod package;
mod pdf;
mod pptx;
mod read;
mod rtf;
mod sheet;
mod sniff;
mod spawn;
mod tidy;
mod xml;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::document::Failure;
use crate::error::Result;
pub(super) use failure::no_text;

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

/// What one extraction may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Address space of the child, in bytes. Code and libraries count too: below 256 MiB little can be read.
    pub memory: u64,
    /// CPU time, rounded up to a second. By the clock a child may take twice as long.
    pub timeout: Duration,
    /// Most bytes of extracted text.
    pub max_text_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 1 << 30, timeout: Duration::from_secs(25), max_text_bytes: 64 << 20 }
    }
}

impl Limits {
    /// The system limits CPU time in whole seconds; none is no limit.
    fn cpu_seconds(self) -> u64 {
        (self.timeout.as_secs_f64().ceil() as u64).max(1)
    }
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractRequest {
    /// The file on disk that holds the original.
    pub path: PathBuf,
    /// The name it was uploaded under: a hint where content does not tell (csv, Markdown).
    pub filename: Option<String>,
    /// The declared media type: the same kind of hint.
    pub media_type: Option<String>,
}

/// Reads documents, each in a child process of its own.
#[derive(Debug, Clone)]
pub struct Extractor {
    program: PathBuf,
    pdfium: Option<PathBuf>,
    limits: Limits,
}

impl Extractor {
    /// An extractor that runs `program extract …`. Without `pdfium` a PDF is an error of the installation.
    pub fn new(program: PathBuf, pdfium: Option<PathBuf>, limits: Limits) -> Self {
        Self { program, pdfium, limits }
    }

    /// Reads one file. The inner error is the document's; the outer one is ours: no child could be started, no pdfium, a
    /// child that was told to stop, or one that the machine was too busy for.
    ///
    /// Returns within twice the timeout; dropping the future kills the child.
    pub async fn extract(&self, request: &ExtractRequest) -> Result<Result<Extracted, Failure>> {
        spawn::run(self, request).await
    }
}

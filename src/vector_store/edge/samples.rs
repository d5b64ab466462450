//! Points for tests.

use crate::document::{Chunk, Metadata, Passage, Principal};
use crate::embedding::EmbeddingModel;
use crate::vector_store::{Point, SparseVector};

/// The model of these points.
pub(super) fn model() -> EmbeddingModel {
    EmbeddingModel { name: "test".to_owned(), dimensions: 2, max_tokens: 8 }
}

/// The one chunk of the document of this number, which everybody in the tenant may read. All have the same vector.
pub(super) fn point(tenant: &str, number: u32, text: &str, sparse: SparseVector) -> Point {
    let chunk = Chunk { chunk_idx: 0, text: text.to_owned(), headings: Vec::new(), page: None, start: 0, end: 0 };
    Point {
        tenant: tenant.parse().unwrap(),
        principals: vec![Principal::public()],
        passage: Passage {
            document_id: format!("d{number}").parse().unwrap(),
            version: 1,
            title: String::new(),
            metadata: Metadata::new(),
            chunk,
        },
        dense: vec![1.0, 0.0],
        sparse,
    }
}

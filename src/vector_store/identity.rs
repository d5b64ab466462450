//! What a collection's vectors were made with: they mean nothing to anything else.

use serde::{Deserialize, Serialize};

use crate::embedding::EmbeddingModel;
use crate::vector_store::bm25;

/// Counts changes of the payload's shape.
const FORMAT: u32 = 1;

/// What is noted in a new collection or an export, and compared with when it is opened again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    format: u32,
    bm25: u32,
    embedding_model: String,
    dimensions: usize,
}

impl Identity {
    /// That of vectors which are made now.
    pub fn of(model: &EmbeddingModel) -> Self {
        Self { format: FORMAT, bm25: bm25::REVISION, embedding_model: model.name.clone(), dimensions: model.dimensions }
    }

    /// Length of every vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Why a collection with this identity cannot be used for vectors of `wanted`, after the collection's name.
    pub fn conflict(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        if (self.format, self.bm25) != (wanted.format, wanted.bm25) {
            return Some("was written by another version of rag-api in another format".to_owned());
        }
        Some(format!(
            "was filled by the embedding model {} ({} dimensions), and RAG_EMBEDDING_MODEL is {} ({} dimensions)",
            self.embedding_model, self.dimensions, wanted.embedding_model, wanted.dimensions
        ))
    }
}

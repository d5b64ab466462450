//! Embeddings and reranking by other servers, over their protocols, and the product with both.

mod embedding;
#[cfg(feature = "edge")]
mod product;
mod rerank;

/// The key that is sent and shown nowhere.
const KEY: &str = "sk-test-0123456789";

//! The seam to embedding models: texts in, vectors out.

mod local;
pub mod openai;
pub mod questions;
pub(crate) mod scheduler;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::Result;
use crate::models;

/// Tokens that a model adds to each text ([CLS] and [SEP]).
pub(crate) const SPECIAL_TOKENS: usize = 2;

/// What is waiting: a person before a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// A question (or its reranking): served before any waiting [`Priority::Bulk`] work.
    Interactive,
    /// Chunks of documents that are being loaded.
    Bulk,
}

/// What an embedding model is. A store refuses to start with another model than the one that filled it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingModel {
    /// The name that identifies the vector space, such as `all-MiniLM-L6-v2`.
    pub name: String,
    /// Length of every vector.
    pub dimensions: usize,
    /// Most tokens of a text that the model reads, special tokens included.
    pub max_tokens: usize,
}

/// Turns texts into L2-normalised vectors.
#[async_trait]
pub trait Embedder: fmt::Debug + Send + Sync {
    /// What the model is.
    fn model(&self) -> &EmbeddingModel;

    /// One L2-normalised vector of [`EmbeddingModel::dimensions`] per text, in order. A text longer than the model
    /// reads is cut. Dropping the future drops work that has not begun.
    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>>;

    /// Counts tokens as the model does. (For a remote model it is the default local model's
    /// tokenizer that counts.)
    fn token_counter(&self) -> Arc<dyn TokenCounter>;

    /// The model's token vectors, if it gives them (late interaction needs them).
    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>>;
}

/// Counts tokens of a text, without special tokens.
pub trait TokenCounter: fmt::Debug + Send + Sync {
    /// Number of tokens in `text`.
    fn count(&self, text: &str) -> usize;
}

/// The vectors of a text's tokens: `tokens × dimensions`, each row L2-normalised, without the special tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    /// Token ids in order, one per row.
    pub ids: Vec<u32>,
    /// Rows one after the other.
    pub values: Vec<f32>,
    /// Length of a row.
    pub dimensions: usize,
}

/// Gives the last hidden state of a model, token by token.
#[async_trait]
pub trait TokenEmbedder: fmt::Debug + Send + Sync {
    /// The token vectors of each text, in order; a text is cut at `max_tokens` (special tokens included).
    async fn token_vectors(
        &self,
        texts: Vec<String>,
        max_tokens: usize,
        priority: Priority,
    ) -> Result<Vec<TokenVectors>>;
}

/// Which embedding model runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// An ONNX model in this process.
    Local {
        /// Where its files are.
        model: models::ModelSource,
        /// Single-thread sessions; 0: one per core. (One more is for questions alone.)
        sessions: usize,
    },
    /// A model of an OpenAI-compatible server.
    OpenAi(openai::Config),
}

/// Loads the embedding model that `config` names. Blocks while it loads, is fetched, or is asked what it gives.
///
/// Chunks for a remote model are cut by the tokenizer of the default local one, which the set-up brings with the native
/// libraries. Of most languages it makes a few more tokens than larger vocabularies do, so that chunks are rather shorter.
pub fn build(config: &Config, models: &models::Config) -> Result<Arc<dyn Embedder>> {
    match config {
        Config::Local { model, sessions } => Ok(Arc::new(local::LocalEmbedder::open(model, *sessions, models)?)),
        Config::OpenAi(server) => {
            let counter = local::default_token_counter(models)?;
            Ok(Arc::new(openai::OpenAiEmbedder::connect(server, counter, openai::Limits::default())?))
        }
    }
}

/// A vector as bytes: each number as four, little endian.
pub(crate) fn numbers_to_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The numbers of [`numbers_to_bytes`]; `None` where the bytes are not four for each.
pub(crate) fn numbers_from_bytes(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

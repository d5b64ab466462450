//! An ONNX embedding model in this process, on sessions of one thread each.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

use super::scheduler::{Session, SessionPool, Staff};
use super::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder, TokenVectors};
use crate::error::{Error, ErrorKind, Result};
use crate::models::{self, ModelFiles, ModelSource, OnnxSession, Pooling};

/// Token vectors are the last hidden state, by whichever name an export gives it; some exports pool within the graph.
const OUTPUTS: &[&str] = &["last_hidden_state", "token_embeddings", "sentence_embedding"];

/// The model that is in every models cache.
const DEFAULT_MODEL: &str = "all-MiniLM-L6-v2";

/// What is embedded at the start, to warm the sessions up and to see what the model gives.
const PROBE: &str = "what does the model give for a text such as this one?";

/// An embedding model on a pool of sessions.
#[derive(Debug)]
pub(super) struct LocalEmbedder {
    model: EmbeddingModel,
    sessions: Arc<SessionPool<EmbeddingSession>>,
    counter: Arc<LocalTokenCounter>,
    token_embedder: Option<Arc<dyn TokenEmbedder>>,
}

impl LocalEmbedder {
    /// Loads the model into `sessions` sessions (0: one per core), and one more that is for questions alone, and tries
    /// it.
    pub(super) fn open(source: &ModelSource, sessions: usize, models: &models::Config) -> Result<Self> {
        let environment = models::init_runtime(models)?;
        let files = models::resolve(models, source)?;
        let tokenizer = Arc::new(files.tokenizer()?);
        let (max_tokens, pooling) = (files.max_tokens()?, files.pooling()?);
        // Every session is tried, which also warms it up; all of them find the same.
        let mut found = None;
        let staff = Staff { shared: models::session_count(sessions), for_questions: 1 };
        let pool = SessionPool::open("embedding", staff, || {
            let session = OnnxSession::open(&environment, files.graph(), OUTPUTS)?;
            let mut session = EmbeddingSession { session, tokenizer: tokenizer.clone(), pooling, max_tokens };
            found = Some(session.probe()?);
            Ok(session)
        })?;
        let (dimensions, has_token_vectors) = found.ok_or_else(mixed_up)?;
        let name = model_name(source, &files)?;
        let pool = Arc::new(pool);
        let token_embedder = has_token_vectors
            .then(|| Arc::new(LocalTokenEmbedder { sessions: pool.clone(), max_tokens }) as Arc<dyn TokenEmbedder>);
        tracing::info!(model = name, dimensions, max_tokens, has_token_vectors, "loaded embedding model");
        Ok(Self {
            model: EmbeddingModel { name, dimensions, max_tokens },
            sessions: pool,
            counter: Arc::new(LocalTokenCounter { tokenizer }),
            token_embedder,
        })
    }
}

/// The name of the vector space. Folders that are equal in name may hold different models, so a folder's name comes with
/// a digest of its graph.
fn model_name(source: &ModelSource, files: &ModelFiles) -> Result<String> {
    match source {
        ModelSource::Cached(name) | ModelSource::Hub(name) => Ok(name.clone()),
        ModelSource::Path(_) => {
            let folder = files.dir().file_name().unwrap_or_default().to_string_lossy();
            let digest = Sha256::digest(files.read_graph()?);
            Ok(format!("{folder}@{}", crate::document::hex(&digest[..4])))
        }
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        let jobs = texts.into_iter().map(|text| Job { text, wanted: Wanted::Vector }).collect();
        let outputs = self.sessions.run(jobs, priority).await?;
        outputs.into_iter().map(Output::into_vector).collect()
    }

    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.counter.clone()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        self.token_embedder.clone()
    }
}

#[derive(Debug)]
struct LocalTokenEmbedder {
    sessions: Arc<SessionPool<EmbeddingSession>>,
    /// The model's own limit.
    max_tokens: usize,
}

#[async_trait]
impl TokenEmbedder for LocalTokenEmbedder {
    async fn token_vectors(
        &self,
        texts: Vec<String>,
        max_tokens: usize,
        priority: Priority,
    ) -> Result<Vec<TokenVectors>> {
        let wanted = Wanted::Tokens { max_tokens: max_tokens.min(self.max_tokens) };
        let jobs = texts.into_iter().map(|text| Job { text, wanted }).collect();
        let outputs = self.sessions.run(jobs, priority).await?;
        outputs.into_iter().map(Output::into_token_vectors).collect()
    }
}

/// Counts tokens as the model that the set-up brings.
pub(super) fn default_token_counter(models: &models::Config) -> Result<Arc<dyn TokenCounter>> {
    let files = models::resolve(models, &ModelSource::Cached(DEFAULT_MODEL.to_owned()))?;
    Ok(Arc::new(LocalTokenCounter { tokenizer: Arc::new(files.tokenizer()?) }))
}

#[derive(Debug)]
struct LocalTokenCounter {
    tokenizer: Arc<Tokenizer>,
}

impl TokenCounter for LocalTokenCounter {
    fn count(&self, text: &str) -> usize {
        // No known text fails; if one does, it is counted as if each character were a token, the most it can be.
        self.tokenizer.encode_fast(text, false).map_or_else(|_| text.chars().count(), |encoding| encoding.len())
    }
}

struct Job {
    text: String,
    wanted: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Vector,
    Tokens { max_tokens: usize },
}

enum Output {
    Vector(Vec<f32>),
    Tokens(TokenVectors),
}

impl Output {
    fn into_vector(self) -> Result<Vec<f32>> {
        match self {
            Self::Vector(vector) => Ok(vector),
            Self::Tokens(_) => Err(mixed_up()),
        }
    }

    fn into_token_vectors(self) -> Result<TokenVectors> {
        match self {
            Self::Tokens(vectors) => Ok(vectors),
            Self::Vector(_) => Err(mixed_up()),
        }
    }
}

fn mixed_up() -> Error {
    Error::new(ErrorKind::Internal, "the embedding model answered another question")
}

#[derive(Debug)]
struct EmbeddingSession {
    session: OnnxSession,
    tokenizer: Arc<Tokenizer>,
    pooling: Pooling,
    max_tokens: usize,
}

impl Session for EmbeddingSession {
    type Job = Job;
    type Output = Output;

    fn run(&mut self, job: &Job) -> Result<Output> {
        match job.wanted {
            Wanted::Vector => Ok(Output::Vector(self.vector(&job.text)?.0)),
            Wanted::Tokens { max_tokens } => Ok(Output::Tokens(self.token_vectors(&job.text, max_tokens)?)),
        }
    }
}

impl EmbeddingSession {
    /// The vector of a text, and whether it was pooled here.
    fn vector(&mut self, text: &str) -> Result<(Vec<f32>, bool)> {
        let encoding = models::encode(&self.tokenizer, text, None, self.max_tokens)?;
        let pooling = self.pooling;
        self.session.run(&encoding, |shape, values| match *shape {
            // A text of one batch has no padding: every token counts.
            [1, _, dimensions] => Ok((normalised(&pooled(values, length(dimensions), pooling)), true)),
            [1, _] => Ok((normalised(values), false)),
            _ => Err(Error::new(ErrorKind::Internal, format!("the embedding model gives an output of {shape:?}"))),
        })
    }

    fn token_vectors(&mut self, text: &str, max_tokens: usize) -> Result<TokenVectors> {
        let encoding = models::encode(&self.tokenizer, text, None, max_tokens)?;
        self.session.run(&encoding, |shape, values| {
            let [1, _, dimensions] = *shape else {
                return Err(Error::new(ErrorKind::Internal, "the embedding model gives no token vectors"));
            };
            let dimensions = length(dimensions);
            let mut vectors = TokenVectors { ids: Vec::new(), values: Vec::new(), dimensions };
            let tokens = encoding.get_ids().iter().zip(encoding.get_special_tokens_mask());
            for (row, (&id, &special)) in values.chunks_exact(dimensions).zip(tokens) {
                if special == 0 {
                    vectors.ids.push(id);
                    vectors.values.extend(normalised(row));
                }
            }
            Ok(vectors)
        })
    }

    /// The length of the model's vectors, and whether it gives token vectors.
    fn probe(&mut self) -> Result<(usize, bool)> {
        let (vector, has_token_vectors) = self.vector(PROBE)?;
        Ok((vector.len(), has_token_vectors))
    }
}

/// A shape's number, at least 1 so that rows can be made of it.
fn length(dimension: i64) -> usize {
    usize::try_from(dimension).unwrap_or(0).max(1)
}

/// One vector of the rows of all tokens.
fn pooled(values: &[f32], dimensions: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::Cls => values.iter().take(dimensions).copied().collect(),
        Pooling::Mean => {
            let mut sum = vec![0.0; dimensions];
            for row in values.chunks_exact(dimensions) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            sum
        }
    }
}

/// A vector of length 1. (Which also makes a mean of a sum.)
fn normalised(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|value| value / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_pooled_and_normalised() {
        let rows = [3.0, 0.0, 0.0, 4.0];
        assert_eq!(normalised(&pooled(&rows, 2, Pooling::Mean)), [0.6, 0.8]);
        assert_eq!(normalised(&pooled(&rows, 2, Pooling::Cls)), [1.0, 0.0]);
        assert_eq!(normalised(&[0.0, 0.0]), [0.0, 0.0]);
    }
}

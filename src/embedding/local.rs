//! An ONNX embedding model in this process (fastembed on ONNX Runtime), on sessions of one thread each.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use fastembed::{InitOptionsUserDefined, OutputKey, SingleBatchOutput, TextEmbedding, UserDefinedEmbeddingModel};
use ort::environment::Environment;
use sha2::{Digest, Sha256};
use tokenizers::{Tokenizer, TruncationParams};

use super::scheduler::{BatchKind, Session, SessionPool};
use super::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder, TokenVectors};
use crate::error::{Error, ErrorKind, Result};
use crate::models::{self, ModelFiles, ModelSource};

/// A text is cut to so many characters per token before it is tokenised, because the tokenizer reads a whole text before
/// it cuts it. English has 4 to 5, so that nothing is lost but words that are one unknown token.
const MAX_CHARS_PER_TOKEN: usize = 16;

/// Token vectors come from the last hidden state, by whichever name an export gives it.
const TOKEN_OUTPUTS: &[OutputKey] =
    &[OutputKey::ByName("last_hidden_state"), OutputKey::ByName("token_embeddings"), OutputKey::OnlyOne];

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
    /// Loads the model into `sessions` sessions (0: one per core) and tries it.
    pub(super) fn open(source: &ModelSource, sessions: usize, models: &models::Config) -> Result<Self> {
        let environment = models::init_runtime(models)?;
        let files = models::resolve(models, source)?;
        // Else every batch would go through a thread pool of all cores, beside our own threads.
        tokenizers::utils::parallelism::set_parallelism(false);

        let graph = files.read_graph()?;
        let name = model_name(source, &files, &graph);
        let max_tokens = files.max_tokens()?;
        let opener = Opener { environment, files: &files, graph: &graph, max_tokens };
        // Every session is tried, which also warms it up; all of them find the same.
        let found = OnceLock::new();
        let pool = SessionPool::open("embedding", models::session_count(sessions), || {
            let mut session = opener.open()?;
            let _ = found.set(session.probe()?);
            Ok(session)
        })?;
        let &(dimensions, has_token_vectors) = found.get().ok_or_else(mixed_up)?;
        let pool = Arc::new(pool);
        let token_embedder = has_token_vectors
            .then(|| Arc::new(LocalTokenEmbedder { sessions: pool.clone(), max_tokens }) as Arc<dyn TokenEmbedder>);
        tracing::info!(model = name, dimensions, max_tokens, has_token_vectors, "loaded embedding model");
        Ok(Self {
            model: EmbeddingModel { name, dimensions, max_tokens },
            sessions: pool,
            counter: Arc::new(LocalTokenCounter { tokenizer: files.tokenizer()? }),
            token_embedder,
        })
    }
}

/// The name of the vector space. Folders that are equal in name may hold different models, so a folder's name comes with
/// a digest of its graph.
fn model_name(source: &ModelSource, files: &ModelFiles, graph: &[u8]) -> String {
    match source {
        ModelSource::Cached(name) | ModelSource::Hub(name) => name.clone(),
        ModelSource::Path(_) => {
            let folder = files.dir().file_name().unwrap_or_default().to_string_lossy();
            format!("{folder}@{}", crate::document::hex(&Sha256::digest(graph)[..4]))
        }
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        let max_tokens = self.model.max_tokens;
        let jobs = texts.into_iter().map(|text| Job { text: cut(text, max_tokens), wanted: Wanted::Vector }).collect();
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
        let max_tokens = max_tokens.min(self.max_tokens);
        let wanted = Wanted::Tokens { max_tokens };
        let jobs = texts.into_iter().map(|text| Job { text: cut(text, max_tokens), wanted }).collect();
        let outputs = self.sessions.run(jobs, priority).await?;
        outputs.into_iter().map(Output::into_token_vectors).collect()
    }
}

/// Cuts a text that is far longer than the model reads. Runs of blanks, as columns of a report are filled up with, are
/// one blank in it: they are no tokens, and must not take the place of words.
pub(crate) fn cut(text: String, max_tokens: usize) -> String {
    let most = max_tokens * MAX_CHARS_PER_TOKEN;
    if text.char_indices().nth(most).is_none() {
        return text;
    }
    let mut after_blank = false;
    let dense = text.chars().filter(|c| !(std::mem::replace(&mut after_blank, c.is_whitespace()) && c.is_whitespace()));
    dense.take(most).collect()
}

#[derive(Debug)]
struct LocalTokenCounter {
    tokenizer: Tokenizer,
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

/// What is needed to open a session.
struct Opener<'a> {
    environment: Environment,
    files: &'a ModelFiles,
    graph: &'a [u8],
    max_tokens: usize,
}

impl Opener<'_> {
    fn open(&self) -> Result<EmbeddingSession> {
        let model = UserDefinedEmbeddingModel::new(self.graph.to_vec(), self.files.tokenizer_files()?)
            .with_pooling(self.files.pooling()?);
        let mut options = InitOptionsUserDefined::new()
            .with_environment(self.environment.clone())
            .with_execution_providers(models::execution_providers())
            .with_max_length(self.max_tokens)
            .with_intra_threads(1);
        for (key, value) in models::SESSION_OPTIONS {
            options = options.with_session_config(key, value);
        }
        let model = TextEmbedding::try_new_from_user_defined(model, options).map_err(|error| {
            let message = format!("cannot load {} ({error})", self.files.graph().display());
            Error::config(message).with_source(error)
        })?;
        Ok(EmbeddingSession {
            model,
            max_tokens: self.max_tokens,
            is_company_sensitive: models::is_company_sensitive(self.graph),
        })
    }
}

struct EmbeddingSession {
    model: TextEmbedding,
    max_tokens: usize,
    /// Whether a text's vector depends on what else is in its batch.
    is_company_sensitive: bool,
}

impl Session for EmbeddingSession {
    type Job = Job;
    type Output = Output;

    fn batch_kind(&self, job: &Job) -> Option<BatchKind> {
        match job.wanted {
            Wanted::Vector if !self.is_company_sensitive => BatchKind::of(&job.text),
            Wanted::Vector | Wanted::Tokens { .. } => None,
        }
    }

    fn run(&mut self, jobs: &[Job]) -> Result<Vec<Output>> {
        // (Only jobs that want vectors share a batch.)
        if let [Job { text, wanted: Wanted::Tokens { max_tokens } }] = jobs {
            return Ok(vec![Output::Tokens(self.token_vectors(text, *max_tokens)?)]);
        }
        let texts: Vec<&str> = jobs.iter().map(|job| job.text.as_str()).collect();
        Ok(self.vectors(&texts)?.into_iter().map(Output::Vector).collect())
    }
}

impl EmbeddingSession {
    fn vectors(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.truncate_at(self.max_tokens)?;
        // One batch per call: fastembed keeps the hidden states of all batches of a call until its end.
        let vectors = self.model.embed(texts, Some(texts.len())).map_err(failed)?;
        if vectors.iter().flatten().all(|value| value.is_finite()) {
            Ok(vectors)
        } else {
            Err(Error::new(ErrorKind::Internal, "the embedding model gave numbers that are none"))
        }
    }

    fn token_vectors(&mut self, text: &str, max_tokens: usize) -> Result<TokenVectors> {
        self.truncate_at(max_tokens)?;
        let encoding = self
            .model
            .tokenizer
            .encode(text, true)
            .map_err(|error| Error::internal("cannot tokenise a text", error))?;
        let output = self.forward(text)?;
        let hidden = output.select_output(&TOKEN_OUTPUTS).map_err(failed)?;
        let [1, tokens, dimensions] = *hidden.shape() else {
            return Err(Error::new(ErrorKind::Internal, "the embedding model gives no token vectors"));
        };
        let mut vectors = TokenVectors { ids: Vec::new(), values: Vec::new(), dimensions };
        let rows = hidden.rows().into_iter().take(tokens);
        let special = encoding.get_special_tokens_mask();
        for ((row, &id), &special) in rows.zip(encoding.get_ids()).zip(special) {
            if special == 0 {
                let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
                vectors.ids.push(id);
                vectors.values.extend(row.iter().map(|value| value / norm));
            }
        }
        Ok(vectors)
    }

    /// The length of the model's vectors, and whether it gives token vectors: some exports pool within the graph, and
    /// give one vector per text.
    fn probe(&mut self) -> Result<(usize, bool)> {
        let dimensions = self.vectors(&[PROBE])?.first().map_or(0, Vec::len);
        let output = self.forward(PROBE)?;
        let hidden = output.select_output(&TOKEN_OUTPUTS);
        Ok((dimensions, hidden.is_ok_and(|hidden| hidden.ndim() == 3)))
    }

    fn forward(&mut self, text: &str) -> Result<SingleBatchOutput> {
        let outputs = self.model.transform([text], Some(1)).map_err(failed)?.into_raw();
        outputs.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "the embedding model gave nothing"))
    }

    /// Sets where the session's tokenizer cuts.
    fn truncate_at(&mut self, max_length: usize) -> Result<()> {
        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        let set = self.model.tokenizer.with_truncation(Some(truncation));
        set.map(|_| ()).map_err(|error| Error::internal("cannot tokenise a text", error))
    }
}

fn failed(error: fastembed::Error) -> Error {
    Error::internal("the embedding model failed", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned(), 8), "short");
        assert_eq!(cut("水".repeat(1000), 8), "水".repeat(128));
        assert_eq!(cut(format!("{}é", "a".repeat(127)), 8).chars().count(), 128);
    }

    #[test]
    fn blanks_do_not_take_the_place_of_words() {
        let row = |n: usize| format!("{n:<60}{:>100}\n", "x");
        let report = (0..4).map(row).collect::<String>() + "total";
        assert_eq!(cut(report.clone(), 8), "0 x\n1 x\n2 x\n3 x\ntotal");
        // What is short enough is left as it is.
        assert_eq!(cut(report.clone(), 100), report);
    }
}

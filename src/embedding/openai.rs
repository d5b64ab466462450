//! Any server that speaks OpenAI's embeddings.
//!
//! Tokens are counted by a tokenizer of ours ([`super::build`]), for what a server counts with is not known. So that a
//! text is never too long for it all the same, texts are cut by their bytes, of which no tokenizer makes more tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Embedder, EmbeddingModel, Priority, TokenCounter, TokenEmbedder, numbers_from_bytes};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::remote::{self, Endpoint, Service};
use crate::resilience::{Deadline, Retry, retry};

/// As errors call it.
const SERVICE: Service = Service {
    what: "embedding model",
    model: "RAG_EMBEDDING_MODEL",
    base_url: "RAG_OPENAI_BASE_URL",
    api_key: "RAG_OPENAI_API_KEY",
    refused: (ErrorKind::Config, ": check RAG_EMBEDDING_MODEL, and whether it reads RAG_CHUNK_TOKENS"),
};

/// Most bytes of a text that are sent. OpenAI's models read 8,191 tokens.
const MAX_TEXT_BYTES: usize = 8_000;
/// Most tokens of a text, by our tokenizer: as many as of a local model, and less than [`MAX_TEXT_BYTES`] of most texts.
const MAX_TOKENS: usize = 1_024;
/// Most texts of a request. OpenAI takes 2,048; servers of open models 32, if nobody told them otherwise.
const MAX_BATCH: usize = 32;
/// Most bytes of a request's texts. OpenAI takes 300,000 tokens.
const MAX_BATCH_BYTES: usize = 128 << 10;
/// Most bytes of an answer: as many texts with 4,096 numbers of 24 characters are 3 MiB.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Longest time to find out at the start what the model gives.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
/// What is embedded at the start.
const PROBE: &str = "what does the model give for a text such as this one?";

/// How much is asked at once, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most requests with questions that are under way; the next ones wait.
    pub questions: usize,
    /// The same for documents. A server that serves one after the other has no more than these before a question.
    pub bulk: usize,
    /// Longest time for a request with a question. (A person waits 5 s in all: there is time for another try.)
    pub question: Duration,
    /// Longest time for a request with chunks of documents.
    pub chunks: Duration,
    /// Longest time for all requests of a call, their waiting included.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            questions: 64,
            bulk: 4,
            question: Duration::from_secs(2),
            chunks: Duration::from_secs(20),
            total: Duration::from_secs(60),
        }
    }
}

/// Which model of which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The model's name, as the server knows it.
    pub model: String,
    /// Such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
}

/// One embedding model of an OpenAI-compatible server.
pub struct OpenAiEmbedder {
    client: Client,
    model: EmbeddingModel,
    counter: Arc<dyn TokenCounter>,
    limits: Limits,
    questions: Semaphore,
    bulk: Semaphore,
}

impl OpenAiEmbedder {
    /// Finds out what the model gives, in at most three tries. Blocks for as long as that takes.
    /// [`ErrorKind::Config`] if it cannot be found out.
    pub fn connect(config: &Config, counter: Arc<dyn TokenCounter>, limits: Limits) -> Result<Self> {
        let name = format!("openai:{}", config.model);
        let dimensions = remote::block_on(probe(config)).map_err(|error| {
            Error::config(format!("RAG_EMBEDDING_MODEL={name} does not answer at RAG_OPENAI_BASE_URL"))
                .with_source(error)
        })?;
        tracing::info!(model = name, dimensions, "found embedding model");
        Ok(Self {
            client: Client::new(config)?,
            model: EmbeddingModel { name, dimensions, max_tokens: MAX_TOKENS },
            counter,
            limits,
            questions: Semaphore::new(limits.questions),
            bulk: Semaphore::new(limits.bulk),
        })
    }

    /// Embeds a batch when there is a place for it.
    async fn batch(&self, texts: &[&str], priority: Priority) -> Result<Vec<Vec<f32>>> {
        let (places, limit) = match priority {
            Priority::Interactive => (&self.questions, self.limits.question),
            Priority::Bulk => (&self.bulk, self.limits.chunks),
        };
        let _place = places.acquire().await.map_err(|error| Error::internal("no embedding has a place", error))?;
        let vectors = Deadline::after(limit).run("the embedding model", self.client.embed(texts)).await?;
        match vectors.iter().find(|vector| vector.len() != self.model.dimensions) {
            Some(other) => Err(Error::config(format!(
                "embedding model {} gave vectors of {} numbers at the start, and gives {} now: check what serves it",
                self.model.name,
                self.model.dimensions,
                other.len()
            ))),
            None => Ok(vectors),
        }
    }
}

/// The length of the model's vectors. A server that is not there yet is asked again.
async fn probe(config: &Config) -> Result<usize> {
    let client = Client::new(config)?;
    let (retry, deadline) = (Retry::new("embedding", retry::Policy::default()), Deadline::after(PROBE_LIMIT));
    let asked = retry.run(deadline, || async {
        deadline.at_most(PROBE_LIMIT / 3).run("the embedding model", client.embed(&[PROBE])).await
    });
    Ok(asked.await?.iter().map(Vec::len).sum())
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn model(&self) -> &EmbeddingModel {
        &self.model
    }

    async fn embed(&self, texts: Vec<String>, priority: Priority) -> Result<Vec<Vec<f32>>> {
        let texts: Vec<&str> = texts.iter().map(|text| readable(text)).collect();
        let batches = batches(&texts).into_iter().map(|batch| self.batch(batch, priority));
        let vectors = Deadline::after(self.limits.total).run("the embedding model", try_join_all(batches)).await?;
        Ok(vectors.into_iter().flatten().collect())
    }

    /// Our tokenizer's counts, which are about the model's.
    fn token_counter(&self) -> Arc<dyn TokenCounter> {
        self.counter.clone()
    }

    fn token_embedder(&self) -> Option<Arc<dyn TokenEmbedder>> {
        None
    }
}

impl fmt::Debug for OpenAiEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("OpenAiEmbedder");
        shown.field("model", &self.model).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What is sent of a text: as much as the model reads, and not nothing, which OpenAI refuses.
fn readable(text: &str) -> &str {
    match remote::beginning(text, MAX_TEXT_BYTES) {
        "" => " ",
        text => text,
    }
}

/// Cuts texts into requests, by their number and their bytes.
fn batches<'a, 'b>(texts: &'a [&'b str]) -> Vec<&'a [&'b str]> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (index, text) in texts.iter().enumerate() {
        if index - start == MAX_BATCH || (index > start && bytes + text.len() > MAX_BATCH_BYTES) {
            batches.push(&texts[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += text.len();
    }
    if start < texts.len() {
        batches.push(&texts[start..]);
    }
    batches
}

/// The protocol.
struct Client {
    endpoint: Endpoint,
    model: String,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    index: usize,
    embedding: Numbers,
}

/// Some servers give `base64` (of four bytes a number, little endian), whatever they are asked for.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    Plain(Vec<f32>),
    Base64(String),
}

impl Client {
    fn new(config: &Config) -> Result<Self> {
        let at = (config.base_url.as_str(), "/embeddings");
        let endpoint = Endpoint::new(SERVICE, at, config.api_key.as_ref(), remote::CONNECT)?;
        Ok(Self { endpoint, model: config.model.clone() })
    }

    /// One vector per text, in their order.
    async fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let request = Request { model: &self.model, input: texts, encoding_format: "float" };
        let answer: Answer = self.endpoint.ask(&request, MAX_ANSWER_BYTES).await?;
        let vector = |Embedding { index, embedding }| {
            let vector = embedding.numbers().and_then(|numbers| normalised(&numbers));
            vector.map(|vector| (index, vector)).ok_or_else(|| format!("a vector without a direction at {index}"))
        };
        let vectors: Result<Vec<_>, String> = answer.data.into_iter().map(vector).collect();
        let ordered = vectors.and_then(|vectors| remote::in_order(vectors, texts.len(), "vectors", "texts"));
        ordered.map_err(|detail| self.endpoint.nonsense(detail))
    }
}

impl Numbers {
    /// `None` for what is no base64 of whole numbers.
    fn numbers(self) -> Option<Vec<f32>> {
        match self {
            Self::Plain(numbers) => Some(numbers),
            Self::Base64(text) => {
                let bytes = BASE64_STANDARD.decode(text).ok()?;
                numbers_from_bytes(&bytes)
            }
        }
    }
}

/// The vector of length 1; `None` if it has no direction: zero, or not finite.
fn normalised(vector: &[f32]) -> Option<Vec<f32>> {
    let norm = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let unit = |value: &f32| (f64::from(*value) / norm) as f32;
    (norm.is_finite() && norm > 0.0).then(|| vector.iter().map(unit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_by_texts_and_by_bytes() {
        let sizes = |texts: &[&str]| batches(texts).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&["a"; 70]), [32, 32, 6]);
        let long = "x".repeat(MAX_BATCH_BYTES / 2);
        assert_eq!(sizes(&[&long, &long, "a", &long]), [2, 2]);
        assert_eq!(sizes(&["a"; 32]), [32]);
        const { assert!(MAX_TEXT_BYTES < MAX_BATCH_BYTES) };
    }

    #[test]
    fn a_vector_has_a_direction() {
        assert_eq!(normalised(&[3.0, 4.0]), Some(vec![0.6, 0.8]));
        assert_eq!(normalised(&[f32::MAX, 0.0]), Some(vec![1.0, 0.0]));
        for none in [&[][..], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0]] {
            assert_eq!(normalised(none), None);
        }
    }

    #[test]
    fn numbers_may_be_base64() {
        let bytes: Vec<u8> = [0.5_f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(Numbers::Base64(BASE64_STANDARD.encode(&bytes)).numbers(), Some(vec![0.5, -2.0]));
        assert_eq!(Numbers::Base64(BASE64_STANDARD.encode(&bytes[1..])).numbers(), None);
        assert_eq!(Numbers::Base64("?".to_owned()).numbers(), None);
    }

    #[test]
    fn what_is_sent_of_a_text() {
        assert_eq!(readable(""), " ");
        assert_eq!(readable(&"é".repeat(MAX_TEXT_BYTES)).len(), MAX_TEXT_BYTES);
    }
}

//! Any server that speaks Cohere's rerank (version 2).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Candidate, RerankUse, Reranker};
use crate::config::Secret;
use crate::error::{ErrorKind, Result};
use crate::remote::{self, Endpoint, Service};
use crate::resilience::Deadline;

/// As errors call it.
const SERVICE: Service = Service {
    what: "reranker",
    model: "RAG_RERANKER_MODEL",
    base_url: "RAG_COHERE_BASE_URL",
    api_key: "RAG_COHERE_API_KEY",
    refused: (ErrorKind::Config, ": check RAG_RERANKER_MODEL"),
};

/// Most bytes of a passage that are sent; Cohere's models read 4,096 tokens of one.
const MAX_PASSAGE_BYTES: usize = 8_000;
/// Most bytes of an answer, which has a few numbers per passage.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How far beyond 0..=1 rounding may take a relevance.
const ROUNDING: f32 = 1e-3;
/// Longest time to find out at the start whether the server takes the key and the model.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// What a question may wait for it, as for other rerankers.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Which model of which server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The model's name, as the server knows it.
    pub model: String,
    /// Such as `https://api.cohere.com`.
    pub base_url: String,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
}

/// One rerank model of a Cohere-compatible server.
pub struct Cohere {
    name: String,
    client: Client,
    patience: Duration,
}

impl Cohere {
    /// Asks the server once, which blocks for as long as that takes. [`ErrorKind::Config`] if it refuses the key or the
    /// model; that it is down is no error, for answers do without it until it is there. A question waits for at most
    /// `patience`.
    pub fn connect(config: &Config, patience: Duration) -> Result<Self> {
        let name = format!("cohere:{}", config.model);
        match remote::block_on(probe(config)) {
            Ok(()) => tracing::info!(model = name, "found reranker"),
            Err(error) if error.is_transient() => {
                tracing::warn!(model = name, error = error.chain(), "the reranker is not there yet");
            }
            Err(error) => return Err(error),
        }
        Ok(Self { name, client: Client::new(config)?, patience })
    }
}

async fn probe(config: &Config) -> Result<()> {
    let client = Client::new(config)?;
    let asked = client.rerank("what is there?", &["a passage"]);
    Deadline::after(PROBE_LIMIT).run("the reranker", asked).await.map(drop)
}

#[async_trait]
impl Reranker for Cohere {
    fn name(&self) -> &str {
        &self.name
    }

    fn usage(&self) -> RerankUse {
        RerankUse::FuseProbabilities
    }

    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let passages: Vec<&str> =
            candidates.iter().map(|candidate| remote::beginning(&candidate.text, MAX_PASSAGE_BYTES)).collect();
        Deadline::after(self.patience).run("the reranker", self.client.rerank(question, &passages)).await
    }
}

impl fmt::Debug for Cohere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cohere").field("name", &self.name).field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The protocol.
struct Client {
    endpoint: Endpoint,
    model: String,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    model: &'a str,
    query: &'a str,
    documents: &'a [&'a str],
    top_n: usize,
}

#[derive(Debug, Deserialize)]
struct Answer {
    results: Vec<Judgement>,
}

#[derive(Debug, Deserialize)]
struct Judgement {
    index: usize,
    relevance_score: f32,
}

impl Client {
    fn new(config: &Config) -> Result<Self> {
        let at = (config.base_url.as_str(), "/v2/rerank");
        let endpoint = Endpoint::new(SERVICE, at, config.api_key.as_ref(), remote::CONNECT)?;
        Ok(Self { endpoint, model: config.model.clone() })
    }

    /// One relevance per passage, in their order.
    async fn rerank(&self, question: &str, passages: &[&str]) -> Result<Vec<f32>> {
        let request = Request { model: &self.model, query: question, documents: passages, top_n: passages.len() };
        let answer: Answer = self.endpoint.ask(&request, MAX_ANSWER_BYTES).await?;
        relevances(answer.results, passages.len()).map_err(|detail| self.endpoint.nonsense(detail))
    }
}

/// The relevances by index; what is wrong if they are not one per passage, or no relevances.
fn relevances(results: Vec<Judgement>, passages: usize) -> Result<Vec<f32>, String> {
    let judged = |Judgement { index, relevance_score }| match relevance_score {
        relevance if (-ROUNDING..=1.0 + ROUNDING).contains(&relevance) => Ok((index, relevance.clamp(0.0, 1.0))),
        other => Err(format!("{other} is no relevance of 0 to 1")),
    };
    let judged: Vec<_> = results.into_iter().map(judged).collect::<Result<_, String>>()?;
    remote::in_order(judged, passages, "results", "passages")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(results: &[(usize, f32)], passages: usize) -> Result<Vec<f32>, String> {
        let judgement = |&(index, relevance_score): &(usize, f32)| Judgement { index, relevance_score };
        relevances(results.iter().map(judgement).collect(), passages)
    }

    #[test]
    fn relevances_go_by_index_or_not_at_all() {
        assert_eq!(judged(&[(1, 0.9), (0, 0.1)], 2).unwrap(), [0.1, 0.9]);
        assert_eq!(judged(&[(0, 1.000_1)], 1).unwrap(), [1.0]);
        for (results, problem) in [
            (&[(0, 0.9)][..], "1 results of 2 passages"),
            (&[(0, 0.9), (0, 0.9)], "index 0 twice"),
            (&[(0, 0.9), (2, 0.9)], "index 2 of 2 passages"),
            (&[(0, 0.9), (1, 4.5)], "4.5 is no relevance of 0 to 1"),
            (&[(0, 0.9), (1, f32::NAN)], "NaN is no relevance of 0 to 1"),
        ] {
            assert_eq!(judged(results, 2).unwrap_err(), problem);
        }
    }
}

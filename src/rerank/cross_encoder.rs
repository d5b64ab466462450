//! A cross-encoder in this process: an ONNX sequence classifier that reads question and passage together.

use async_trait::async_trait;
use fastembed::{RerankInitOptionsUserDefined, TextRerank, UserDefinedRerankingModel};
use ort::environment::Environment;

use super::{Candidate, RerankUse, Reranker};
use crate::embedding::scheduler::{BatchKind, Session, SessionPool};
use crate::embedding::{Priority, cut};
use crate::error::{Error, ErrorKind, Result};
use crate::models::{self, ModelFiles, ModelSource};

/// A cross-encoder on a pool of sessions.
#[derive(Debug)]
pub(super) struct CrossEncoder {
    name: String,
    max_tokens: usize,
    sessions: SessionPool<CrossEncoderSession>,
}

impl CrossEncoder {
    /// Loads the model into `sessions` sessions (0: one per core) and tries it.
    pub(super) fn open(source: &ModelSource, sessions: usize, models: &models::Config) -> Result<Self> {
        let environment = models::init_runtime(models)?;
        let files = models::resolve(models, source)?;
        // Else every batch would go through a thread pool of all cores, beside our own threads.
        tokenizers::utils::parallelism::set_parallelism(false);

        let max_tokens = files.max_tokens()?;
        let sessions = SessionPool::open("rerank", models::session_count(sessions), || {
            let mut session = open_session(&environment, &files, max_tokens)?;
            session.judge("what does it give?", "a logit")?;
            Ok(session)
        })?;
        tracing::info!(model = %source, max_tokens, "loaded cross-encoder");
        Ok(Self { name: source.to_string(), max_tokens, sessions })
    }
}

#[async_trait]
impl Reranker for CrossEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    /// Fused: a small cross-encoder alone orders worse than retrieval did where the question is a claim or a topic (nDCG@10
    /// on 100 claims: .754 alone, .811 without it, .819 fused).
    fn usage(&self) -> RerankUse {
        RerankUse::FuseProbabilities
    }

    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        let question = cut(question.to_owned(), self.max_tokens);
        let pair = |candidate: &Candidate| Pair {
            question: question.clone(),
            passage: cut(candidate.text.clone(), self.max_tokens),
        };
        let logits = self.sessions.run(candidates.iter().map(pair).collect(), Priority::Interactive).await?;
        Ok(logits.into_iter().map(sigmoid).collect())
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

struct Pair {
    question: String,
    passage: String,
}

struct CrossEncoderSession(TextRerank);

fn open_session(environment: &Environment, files: &ModelFiles, max_tokens: usize) -> Result<CrossEncoderSession> {
    let model = UserDefinedRerankingModel::new(files.graph().to_owned(), files.tokenizer_files()?);
    let mut options = RerankInitOptionsUserDefined::new()
        .with_environment(environment.clone())
        .with_execution_providers(models::execution_providers())
        .with_max_length(max_tokens)
        .with_intra_threads(1);
    for (key, value) in models::SESSION_OPTIONS {
        options = options.with_session_config(key, value);
    }
    let session = TextRerank::try_new_from_user_defined(model, options);
    session
        .map(CrossEncoderSession)
        .map_err(|error| Error::config(format!("cannot load {} ({error})", files.graph().display())).with_source(error))
}

impl Session for CrossEncoderSession {
    type Job = Pair;
    type Output = f32;

    /// Always alone: a dynamically quantised model (the common kind) would score a passage by its company.
    fn batch_kind(&self, _: &Pair) -> Option<BatchKind> {
        None
    }

    fn run(&mut self, jobs: &[Pair]) -> Result<Vec<f32>> {
        jobs.iter().map(|pair| self.judge(&pair.question, &pair.passage)).collect()
    }
}

impl CrossEncoderSession {
    /// The logit of one pair.
    fn judge(&mut self, question: &str, passage: &str) -> Result<f32> {
        let results = self.0.rerank(question, [passage], false, Some(1));
        let results = results.map_err(|error| Error::internal("the cross-encoder failed", error))?;
        let logit = results.first().map(|result| result.score).filter(|score| score.is_finite());
        logit.ok_or_else(|| Error::new(ErrorKind::Internal, "the cross-encoder gave no number"))
    }
}

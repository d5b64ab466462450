//! A cross-encoder in this process: an ONNX sequence classifier that reads question and passage together.

use std::sync::Arc;

use async_trait::async_trait;
use tokenizers::Tokenizer;

use super::{Candidate, RerankUse, Reranker};
use crate::embedding::Priority;
use crate::embedding::scheduler::{Session, SessionPool, Staff};
use crate::error::{Error, ErrorKind, Result};
use crate::models::{self, ModelSource, OnnxSession};

/// What an export calls its logits.
const OUTPUTS: &[&str] = &["logits"];

/// A cross-encoder on a pool of sessions.
#[derive(Debug)]
pub(super) struct CrossEncoder {
    name: String,
    sessions: SessionPool<CrossEncoderSession>,
}

impl CrossEncoder {
    /// Loads the model into `sessions` sessions (0: one per core) and tries it.
    pub(super) fn open(source: &ModelSource, sessions: usize, models: &models::Config) -> Result<Self> {
        let environment = models::init_runtime(models)?;
        let files = models::resolve(models, source)?;
        let tokenizer = Arc::new(files.tokenizer()?);
        let max_tokens = files.max_tokens()?;
        let staff = Staff { shared: models::session_count(sessions), for_questions: 0 };
        let sessions = SessionPool::open("rerank", staff, || {
            let session = OnnxSession::open(&environment, files.graph(), OUTPUTS)?;
            let mut session = CrossEncoderSession { session, tokenizer: tokenizer.clone(), max_tokens };
            session.judge("what does it give?", "a logit")?;
            Ok(session)
        })?;
        tracing::info!(model = %source, max_tokens, "loaded cross-encoder");
        Ok(Self { name: source.to_string(), sessions })
    }
}

#[async_trait]
impl Reranker for CrossEncoder {
    fn name(&self) -> &str {
        &self.name
    }

    /// Fused: over 8 collections a small cross-encoder alone ordered worse than retrieval had (nDCG@10 .769 → .750: where
    /// the question is a claim or a topic, it misjudges), and fused with it better (.774).
    fn usage(&self) -> RerankUse {
        RerankUse::Fuse
    }

    async fn rerank(&self, question: &str, candidates: &[Candidate]) -> Result<Vec<f32>> {
        let question: Arc<str> = question.into();
        let pair = |candidate: &Candidate| Pair { question: question.clone(), passage: candidate.text.clone() };
        let logits = self.sessions.run(candidates.iter().map(pair).collect(), Priority::Interactive).await?;
        Ok(logits.into_iter().map(sigmoid).collect())
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

struct Pair {
    question: Arc<str>,
    passage: String,
}

struct CrossEncoderSession {
    session: OnnxSession,
    tokenizer: Arc<Tokenizer>,
    max_tokens: usize,
}

impl Session for CrossEncoderSession {
    type Job = Pair;
    type Output = f32;

    fn run(&mut self, pair: &Pair) -> Result<f32> {
        self.judge(&pair.question, &pair.passage)
    }
}

impl CrossEncoderSession {
    /// The logit of one pair.
    fn judge(&mut self, question: &str, passage: &str) -> Result<f32> {
        let encoding = models::encode(&self.tokenizer, question, Some(passage), self.max_tokens)?;
        self.session.run(&encoding, |_, values| match values {
            [logit, ..] => Ok(*logit),
            [] => Err(Error::new(ErrorKind::Internal, "the cross-encoder gave no number")),
        })
    }
}

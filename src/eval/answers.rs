//! Answers over an index, by the [`Answerer`] that the server runs, and what they are worth.

use std::sync::Arc;
use std::time::Duration;

use super::citations::{cited, is_quote, without_markers};
use super::collection::Query;
use super::index::{HOUR, Index};
use super::models::Models;
use super::ranking::{MAX_TRIES, Variant, too_busy};
use super::text::agreement;
use crate::answer::{self, Answer, Answerer, AnswererParts, Caller, FailureCode, Question};
use crate::document::Passage;
use crate::error::{Error, ErrorKind, Result};
use crate::llm::{self, Llm};
use crate::resilience::Deadline;
use crate::retrieve::Mode;

/// What answers.
#[derive(Debug)]
pub struct Respondent<'a> {
    index: &'a Index,
    answerer: Answerer,
    mode: Mode,
}

impl<'a> Respondent<'a> {
    /// Answers over `index`, retrieving by `variant`, with the configured chain of language models and no answer cache.
    pub fn new(
        models: &Models,
        index: &'a Index,
        variant: &Variant,
        llm: &[llm::Config],
        config: answer::Config,
    ) -> Result<Self> {
        let llms: Vec<Arc<dyn Llm>> = llm::build(llm)?;
        let answerer = Answerer::new(AnswererParts {
            retriever: Arc::new(variant.retriever(models, index)?),
            llms,
            cache: None,
            cache_ttl: Duration::ZERO,
            catalog: index.catalog.clone(),
            token_counter: models.embedder.token_counter(),
            config,
        });
        Ok(Self { index, answerer, mode: variant.mode })
    }

    /// Answers a question.
    ///
    /// # Errors
    /// Whatever keeps it from an answer: a question that failed is no measurement.
    pub async fn answer(&self, query: &Query) -> Result<Answer> {
        for _ in 0..MAX_TRIES {
            let question = Question {
                scope: self.index.scope.clone(),
                text: query.text.clone(),
                top_k: None,
                filter: None,
                mode: self.mode,
                rerank: true,
                explain: false,
                deadline: Deadline::after(HOUR),
                caller: Caller::default(),
            };
            let answer = self.answerer.answer(question).await?;
            match answer.code {
                None if !answer.degraded.iter().any(|what| what == "rerank") => return Ok(answer),
                // A stage took too long: what it computed is there for the next try.
                None | Some(FailureCode::Timeout | FailureCode::RetrievalFailed) => {}
                Some(_) => {
                    let message = format!("question {} was not answered: {}", query.id, answer.answer);
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
        }
        Err(too_busy(&query.text))
    }
}

/// What the answer to a question is worth that the documents answer. `None`: there is nothing to judge it by.
#[derive(Debug, Clone, PartialEq)]
pub struct Worth {
    /// 1 if there is an answer.
    pub answered: f64,
    /// F1 of its words with the best reference; 0 without an answer.
    pub f1: Option<f64>,
    /// Share of the best reference's words that it has.
    pub recall: Option<f64>,
    /// 1 if it has a reference's words in a row.
    pub contains: Option<f64>,
    /// Share of its citations whose source has the cited sentence; `None` if it cites nothing.
    pub quoted: Option<f64>,
    /// Share of its citations whose source is relevant.
    pub relevant: Option<f64>,
}

/// Judges an answer; `is_relevant` knows which passages are.
pub fn worth(answer: &Answer, references: &[String], is_relevant: impl Fn(&Passage) -> bool) -> Worth {
    let text = if answer.answerable { without_markers(answer) } else { String::new() };
    let agreement = agreement(&text, references);
    let judged = |value| (!references.is_empty()).then_some(value);
    let cited = if answer.answerable { cited(answer) } else { Vec::new() };
    let share = |holds: &dyn Fn(&str, &Passage) -> bool| {
        let holds =
            |source: usize, text: &str| answer.sources.get(source).is_some_and(|source| holds(text, &source.passage));
        let held = cited.iter().filter(|cited| holds(cited.source, &cited.text)).count();
        (!cited.is_empty()).then(|| held as f64 / cited.len() as f64)
    };
    Worth {
        answered: f64::from(u8::from(answer.answerable)),
        f1: judged(agreement.f1),
        recall: judged(agreement.recall),
        contains: judged(agreement.contains),
        quoted: share(&|text, passage| is_quote(text, &passage.chunk.text)),
        relevant: share(&|_, passage| is_relevant(passage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Citation;
    use crate::document::{Chunk, Metadata};
    use crate::llm::ScoredPassage;

    fn source(chunk_idx: u32, text: &str) -> ScoredPassage {
        let chunk = Chunk { chunk_idx, text: text.into(), headings: Vec::new(), page: None, start: 0, end: 1 };
        let (document_id, metadata) = ("d".parse().unwrap(), Metadata::new());
        let passage = Passage { document_id, version: 1, title: String::new(), metadata, chunk };
        ScoredPassage { passage, score: 1.0, dense_score: None, rerank_score: None }
    }

    /// By hand: of the answer's 6 words (no articles) 2 are the reference's 2: precision 2/6, recall 1, F1 1/2. One of two
    /// citations has its sentence, the other is relevant.
    #[test]
    fn an_answer_is_judged() {
        let answer = Answer {
            answer: "Kept for ten years. [1] Not six. [2]".to_owned(),
            answerable: true,
            sources: vec![source(0, "They are kept for ten years."), source(1, "It is six.")],
            citations: vec![Citation { source: 0, start: 20, end: 23 }, Citation { source: 1, start: 33, end: 36 }],
            ..Answer::default()
        };
        let found = worth(&answer, &["ten years".to_owned()], |passage| passage.chunk.chunk_idx == 1);
        let expected = Worth {
            answered: 1.0,
            f1: Some(0.5),
            recall: Some(1.0),
            contains: Some(1.0),
            quoted: Some(0.5),
            relevant: Some(0.5),
        };
        assert_eq!(found, expected);
        assert_eq!(
            worth(&answer, &[], |_| true),
            Worth { f1: None, recall: None, contains: None, relevant: Some(1.0), ..expected }
        );
    }

    #[test]
    fn no_answer_is_worth_nothing() {
        let answer = Answer { answer: "ten years".to_owned(), ..Answer::default() };
        let found = worth(&answer, &["ten years".to_owned()], |_| true);
        let zero = Some(0.0);
        let expected = Worth { answered: 0.0, f1: zero, recall: zero, contains: zero, quoted: None, relevant: None };
        assert_eq!(found, expected);
    }
}

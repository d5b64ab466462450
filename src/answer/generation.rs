//! Asks the chain of models until one answers.
//!
//! The first model is tried with all sources, then with the two best; then each further model is tried. A try ends when
//! its share of the deadline passes without a text; after the first text it has what the request has left.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::audience::Audience;
use super::citation::{Reader, Verdict};
use super::prompt::{self, Prompt};
use super::{Citation, Config};
use crate::embedding::TokenCounter;
use crate::error::{Error, ErrorKind, Result};
use crate::llm::{GenerationEvent, GenerationRequest, Llm, ScoredPassage, Usage};
use crate::resilience::Deadline;

/// Longest time that the first try may take to its first text.
const FIRST_TRY: Duration = Duration::from_secs(20);

/// Sources of the second try: a shorter prompt is read sooner, and fits models that the first did not fit.
const SECOND_TRY_SOURCES: usize = 2;

/// Characters of an answer without a citation that are held back: a model that refuses says so within them, and
/// nothing that was shown is taken back.
const UNCITED_HELD: usize = 100;

/// What is needed to ask models.
#[derive(Debug)]
pub(super) struct Generator<'a> {
    pub(super) models: &'a [Arc<dyn Llm>],
    pub(super) counter: &'a dyn TokenCounter,
    pub(super) config: &'a Config,
}

/// A question with what was retrieved for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Material<'a> {
    pub(super) question: &'a str,
    pub(super) passages: &'a [ScoredPassage],
    pub(super) deadline: Deadline,
}

/// What a model wrote.
#[derive(Debug)]
pub(super) struct Generated {
    pub(super) answer: String,
    pub(super) answerable: bool,
    /// How many of the passages, from the first, the model saw.
    pub(super) sources: usize,
    pub(super) citations: Vec<Citation>,
    pub(super) model: String,
    pub(super) usage: Usage,
    pub(super) truncated: bool,
    /// It is not the first try's.
    pub(super) degraded: bool,
}

#[derive(Debug, Clone, Copy)]
struct Try<'a> {
    model: &'a dyn Llm,
    sources: usize,
}

impl Generator<'_> {
    /// Asks until a model answers; the error is the last one. Once an audience has seen text there is no further try.
    pub(super) async fn generate(&self, material: Material<'_>, audience: &mut Audience) -> Result<Generated> {
        let all = material.passages.len();
        let first = self.models.first().map(|model| Try { model: &**model, sources: all.min(SECOND_TRY_SOURCES) });
        let mut tries: Vec<Try<'_>> = self.models.iter().map(|model| Try { model: &**model, sources: all }).collect();
        tries.splice(1.min(tries.len())..1.min(tries.len()), first);

        let mut last = Error::new(ErrorKind::Config, "no language model is configured");
        let mut skip_second = false;
        for (index, attempt) in tries.iter().enumerate() {
            if index == 1 && skip_second {
                continue;
            }
            if material.deadline.is_over() {
                return Err(Error::new(ErrorKind::Timeout, "the request took too long"));
            }
            let left = material.deadline.remaining();
            let share = match index {
                // With a short deadline there must be time for another try.
                0 => (left / 2).min(FIRST_TRY),
                _ => left / u32::try_from(tries.len() - index).unwrap_or(1),
            };
            match self.attempt(*attempt, material, material.deadline.at_most(share), audience).await {
                Ok(generated) => return Ok(Generated { degraded: index > 0, ..generated }),
                Err(error) => {
                    tracing::warn!(model = attempt.model.name(), index, error = error.chain(), "generation failed");
                    if audience.has_seen() {
                        return Err(error);
                    }
                    // A shorter prompt may be taken where a long one was refused.
                    skip_second = error.kind() == ErrorKind::Config;
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn attempt(
        &self,
        attempt: Try<'_>,
        material: Material<'_>,
        first_text: Deadline,
        audience: &mut Audience,
    ) -> Result<Generated> {
        let passages = &material.passages[..attempt.sources];
        let tag = prompt::random_tag();
        let prompt = prompt::render(material.question, passages, &tag, self.config.max_context_tokens, self.counter);
        let passages = &passages[..prompt.sources];
        let request = self.request(material.question, passages, &prompt);
        let mut generation = first_text.run("the language model", attempt.model.generate(&request)).await?;
        let mut reader = Reader::new(passages.len());
        let (mut answer, mut written, mut usage, mut truncated) = (String::new(), String::new(), None, false);
        // Bytes of the answer that were shown; once somebody has seen one it is an answer, whatever the model says later.
        let mut shown = 0;
        while audience.has_seen() || reader.verdict() != Verdict::NotFound {
            let until = if answer.is_empty() { first_text } else { material.deadline };
            let next = async { generation.next().await.transpose() };
            match until.run("the language model", next).await? {
                Some(GenerationEvent::Text(text)) => {
                    written.push_str(&text);
                    answer.push_str(&reader.push(&text));
                    if is_answer(&reader, &answer) {
                        audience.sources(passages, material.deadline).await;
                        audience.text(&answer[shown..], material.deadline).await;
                        shown = answer.len();
                    }
                }
                Some(GenerationEvent::Truncated) => truncated = true,
                Some(GenerationEvent::Usage(counted)) => usage = Some(counted),
                None => break,
            }
        }
        answer.push_str(&reader.finish());
        let answerable = match reader.verdict() {
            _ if audience.has_seen() => true,
            Verdict::Undecided => return Err(Error::new(ErrorKind::Unavailable, "the language model said nothing")),
            Verdict::NotFound => false,
            Verdict::Answer => true,
        };
        if answerable {
            audience.sources(passages, material.deadline).await;
            audience.text(&answer[shown..], material.deadline).await;
        }
        Ok(Generated {
            answer,
            answerable,
            sources: passages.len(),
            citations: reader.citations().to_vec(),
            model: attempt.model.name().to_owned(),
            usage: usage.unwrap_or_else(|| self.count(&request, &written)),
            truncated,
            degraded: false,
        })
    }

    fn request(&self, question: &str, passages: &[ScoredPassage], prompt: &Prompt) -> GenerationRequest {
        GenerationRequest {
            question: question.to_owned(),
            passages: passages.to_vec(),
            system: prompt.system.clone(),
            user: prompt.user.clone(),
            max_tokens: self.config.max_output_tokens,
        }
    }

    /// What a server does not count is counted with our tokenizer.
    fn count(&self, request: &GenerationRequest, written: &str) -> Usage {
        let count = |text: &str| self.counter.count(text) as u64;
        Usage { input_tokens: count(&request.system) + count(&request.user), output_tokens: count(written) }
    }
}

/// Whether what was read so far can only be the beginning of an answer.
fn is_answer(reader: &Reader, answer: &str) -> bool {
    !reader.citations().is_empty() || answer.chars().nth(UNCITED_HELD).is_some()
}

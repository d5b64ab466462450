//! The body of a streamed chat completion: bytes → events → text and counts.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use reqwest::Response;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::llm::sse::Parser;
use crate::llm::{Generation, GenerationEvent, Usage};
use crate::resilience::Deadline;

/// Reads a response. `first` bounds the first token, `between` each later one, `total` all.
pub(super) fn read(response: Response, first: Deadline, total: Deadline, between: Duration) -> Generation {
    let reader = Reader {
        response,
        parser: Parser::default(),
        ready: VecDeque::new(),
        next_token: first,
        total,
        between,
        usage: None,
        finish: None,
        done: false,
    };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(reader))),
            Ok(None) => None,
            // The error is the last thing that is said; the reader, and with it the connection, goes.
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Reader {
    response: Response,
    parser: Parser,
    ready: VecDeque<GenerationEvent>,
    next_token: Deadline,
    total: Deadline,
    between: Duration,
    usage: Option<Usage>,
    finish: Option<String>,
    done: bool,
}

/// The fields that are used of a chunk. All may be missing: servers differ.
#[derive(Debug, Deserialize)]
struct ChatChunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<ChatUsage>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ChatUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<GenerationEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.done {
                return Ok(None);
            }
            let read = async {
                let broken = |error: reqwest::Error| {
                    Error::unavailable("the language model broke off its answer", error.without_url())
                };
                self.response.chunk().await.map_err(broken)
            };
            match self.next_token.run("the language model", read).await? {
                Some(bytes) => {
                    for data in self.parser.push(&bytes)? {
                        self.event(&data)?;
                    }
                }
                None => self.end()?,
            }
        }
    }

    fn event(&mut self, data: &str) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if data.trim() == "[DONE]" {
            self.finish.get_or_insert_with(|| "done".to_owned());
            return self.end();
        }
        let chunk: ChatChunk = serde_json::from_str(data).map_err(|error| {
            // Not the error itself: it may quote what it could not read.
            let place = format!("{:?} error in an event, column {}", error.classify(), error.column());
            Error::unavailable("the language model's server answered nonsense", place)
        })?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let summary = format!("an error event{}", crate::remote::summary(&error));
            return Err(Error::unavailable("the language model's server failed while it answered", summary));
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(Usage { input_tokens: usage.prompt_tokens, output_tokens: usage.completion_tokens });
        }
        // Only one choice was asked for.
        if let Some(choice) = chunk.choices.into_iter().next() {
            if let Some(delta) = choice.delta {
                self.delta(delta);
            }
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        Ok(())
    }

    fn delta(&mut self, delta: Delta) {
        let text = delta.content.filter(|text| !text.is_empty());
        if text.is_some() || delta.reasoning_content.is_some_and(|text| !text.is_empty()) {
            self.next_token = self.total.at_most(self.between);
        }
        self.ready.extend(text.map(GenerationEvent::Text));
    }

    /// The end of the events. Some servers leave `[DONE]` out, and some end a broken answer without an error: it is whole
    /// if either `[DONE]` or a reason to finish was given.
    fn end(&mut self) -> Result<()> {
        self.done = true;
        match self.finish.as_deref() {
            None => return Err(Error::new(ErrorKind::Unavailable, "the language model broke off its answer")),
            Some("content_filter") => {
                return Err(Error::new(ErrorKind::Unavailable, "the language model's server withheld the answer"));
            }
            Some("length") => self.ready.push_back(GenerationEvent::Truncated),
            Some(_) => {}
        }
        self.ready.extend(self.usage.take().map(GenerationEvent::Usage));
        Ok(())
    }
}

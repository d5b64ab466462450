//! Renders the prompt: instructions, delimited sources within the token budget, the question.
//!
//! The words are in `prompt.md`. What comes from documents and callers can neither close its delimiter (a random tag of
//! each request) nor look like a chat template's own tokens.

use std::sync::LazyLock;

use regex::Regex;
use sha2::{Digest, Sha256};
use unicode_segmentation::UnicodeSegmentation;

use crate::embedding::TokenCounter;
use crate::llm::{SENTINEL, ScoredPassage, without_sentinel};

/// Instructions, then the user's part.
const TEMPLATE: &str = include_str!("prompt.md");
const CUT: &str = "---8<--- user";

/// Changes whenever the template does: answers of another prompt are other answers.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let digest = Sha256::digest([TEMPLATE, SENTINEL].concat());
    crate::document::hex(&digest[..8])
});

/// What chat templates delimit turns with: `<|im_start|>` and its kin (also in DeepSeek's full-width bars), Llama's
/// `[INST]` and `<<SYS>>`, `<s>`, Gemma's `<start_of_turn>`; and anything that looks like one of our source tags.
static DELIMITERS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)(<)(\s*/?\s*source-|[|｜]|</?SYS>|/?s>|/?(?:start|end)_of_turn>)|(\[)(/?INST\])")
        .expect("the pattern is a regular expression")
});

/// Changes with the template, for cache keys.
pub fn version() -> &'static str {
    &VERSION
}

/// A fresh tag for the sources of one request: nobody who wrote a document can know it.
pub fn random_tag() -> String {
    format!("source-{:016x}", rand::random::<u64>())
}

/// A rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The instructions.
    pub system: String,
    /// The sources and the question.
    pub user: String,
    /// How many of the passages, from the first, are in it.
    pub sources: usize,
}

/// Renders the prompt for a question over `passages`, of which the best are taken that fit into `max_tokens` together:
/// whole, but for the last one, which may be cut after a sentence. At least the first is in it.
pub fn render(
    question: &str,
    passages: &[ScoredPassage],
    tag: &str,
    max_tokens: usize,
    counter: &dyn TokenCounter,
) -> Prompt {
    let mut blocks = Vec::new();
    let mut left = max_tokens;
    let close = counter.count(&format!("</{tag}>"));
    for (index, scored) in passages.iter().enumerate() {
        let open = opening(tag, index + 1, scored);
        let text = neutralise(&scored.passage.chunk.text);
        let around = counter.count(&open) + close;
        let tokens = around + counter.count(&text);
        if tokens <= left {
            left -= tokens;
            blocks.push(format!("{open}\n{text}\n</{tag}>"));
            continue;
        }
        let room = left.saturating_sub(around);
        let text = cut(&text, room, blocks.is_empty(), counter);
        if !text.is_empty() {
            blocks.push(format!("{open}\n{text}\n</{tag}>"));
        }
        break;
    }
    let (system, user) = TEMPLATE.split_once(CUT).unwrap_or((TEMPLATE, ""));
    let question = neutralise(question);
    let sources = blocks.join("\n\n");
    let values = [("tag", tag), ("sentinel", SENTINEL), ("sources", &sources), ("question", &question)];
    Prompt { system: fill(system.trim(), &values), user: fill(user.trim(), &values), sources: blocks.len() }
}

fn opening(tag: &str, number: usize, scored: &ScoredPassage) -> String {
    let passage = &scored.passage;
    let place: Vec<&str> = std::iter::once(passage.title.as_str())
        .chain(passage.chunk.headings.iter().map(String::as_str))
        .filter(|part| !part.is_empty())
        .collect();
    let title = neutralise(&place.join(" > ")).replace('"', "'").replace(['\n', '\r', '<'], " ");
    let page = passage.chunk.page.map(|page| format!(" page=\"{page}\"")).unwrap_or_default();
    format!("<{tag} id=\"{number}\" title=\"{title}\"{page}>")
}

/// As many whole sentences as fit into `room` tokens; if not even the first does and something must be said, as much of
/// it as fits.
fn cut(text: &str, room: usize, needed: bool, counter: &dyn TokenCounter) -> String {
    let mut end = 0;
    let mut tokens = 0;
    for sentence in text.split_sentence_bounds() {
        tokens += counter.count(sentence);
        if tokens > room {
            break;
        }
        end += sentence.len();
    }
    if end == 0 && needed {
        // Half of what is too long, until it is not.
        let mut rest: &str = text;
        while counter.count(rest) > room.max(1) && rest.chars().nth(1).is_some() {
            let half = rest.chars().count() / 2;
            rest = rest.char_indices().nth(half).map_or(rest, |(cut, _)| &rest[..cut]);
        }
        return rest.trim_end().to_owned();
    }
    text[..end].trim_end().to_owned()
}

/// Takes the power out of what a model's template, or ours, would read as a delimiter, or as a refusal.
fn neutralise(text: &str) -> String {
    without_sentinel(&DELIMITERS.replace_all(text, "${1}${3} ${2}${4}")).into_owned()
}

/// Puts values into a template in one pass, so that a value that looks like a place stays as it is.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        text.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value));
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests;

//! Answers without a model: the sentences of the passages that answer the question, each with its citation.
//!
//! Deterministic: the same question over the same passages is the same answer. Whether the passages answer at all is
//! decided first ([`answerability`]); if they do not, it says so as a model would, by the prompt's sentinel.

mod relevance;
mod terms;
mod units;

use std::collections::HashMap;

use async_trait::async_trait;
use futures::{StreamExt, stream};

use super::{Generation, GenerationEvent, GenerationRequest, Llm, SENTINEL, ScoredPassage, without_sentinel};
use crate::error::Result;
pub use relevance::{ANSWERABLE, answerability};
use terms::Terms;

/// Most sentences of an answer.
const MAX_UNITS: usize = 3;

/// A further sentence must score this share of the best one.
const SHARE_OF_BEST: f32 = 0.7;

/// What each rank down costs a passage's sentences: the best passage is right most often.
const RANK_DISCOUNT: f32 = 0.12;

/// What a word of the question is worth that is not in the sentence but in the headings above it.
const HEADING_WORTH: f32 = 0.4;

/// What a number is worth in a sentence that answers a question for one.
const NUMBER_WORTH: f32 = 0.15;

/// Longest sentence that is quoted whole, in characters.
const MAX_CHARACTERS: usize = 600;

/// The extractive answerer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extractive;

#[async_trait]
impl Llm for Extractive {
    fn name(&self) -> &str {
        "extractive"
    }

    async fn generate(&self, request: &GenerationRequest) -> Result<Generation> {
        let pieces = pieces(&request.question, &request.passages);
        Ok(stream::iter(pieces.into_iter().map(|piece| Ok(GenerationEvent::Text(piece)))).boxed())
    }
}

/// The answer, sentence by sentence, or the sentinel.
fn pieces(question: &str, passages: &[ScoredPassage]) -> Vec<String> {
    let quotes = match answerability(question, passages) >= ANSWERABLE {
        true => best_units(question, passages),
        false => Vec::new(),
    };
    if quotes.is_empty() {
        return vec![SENTINEL.to_owned()];
    }
    let separator = |index: usize, text: &str| match (index, text.contains('\n')) {
        (0, _) => "",
        (_, true) => "\n",
        (_, false) => " ",
    };
    let cited = |(index, unit): (usize, &Unit)| {
        let text = quoted(&unit.text);
        format!("{}{text} [{}]", separator(index, &text), unit.passage + 1)
    };
    quotes.iter().enumerate().map(cited).collect()
}

#[derive(Debug, Clone)]
struct Unit {
    passage: usize,
    order: usize,
    text: String,
    terms: Vec<String>,
}

/// The units that say most about the question, in reading order.
fn best_units(question: &str, passages: &[ScoredPassage]) -> Vec<Unit> {
    let vocabulary = Terms::new();
    let asked = vocabulary.of(question);
    let units = all_units(&vocabulary, passages);
    let weights = weights(&asked, &units);
    let headings: Vec<Vec<String>> = passages
        .iter()
        .map(|scored| vocabulary.of(&format!("{} {}", scored.passage.title, scored.passage.chunk.headings.join(" "))))
        .collect();
    let wants_number = asks_for_number(question);
    let mut scored: Vec<(f32, Unit)> = units
        .into_iter()
        .map(|unit| (score(&unit, &asked, &weights, &headings[unit.passage], wants_number), unit))
        .collect();
    // A stable sort: equal scores stay in reading order.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let least = scored.first().map_or(0.0, |(best, _)| best * SHARE_OF_BEST);
    let mut chosen: Vec<Unit> =
        scored.into_iter().take(MAX_UNITS).take_while(|(score, _)| *score >= least).map(|(_, unit)| unit).collect();
    chosen.sort_by_key(|unit| (unit.passage, unit.order));
    chosen
}

/// The units of all passages, each text once (neighbouring chunks overlap).
fn all_units(vocabulary: &Terms, passages: &[ScoredPassage]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (passage, scored) in passages.iter().enumerate() {
        for (order, text) in units::split(&scored.passage.chunk.text).into_iter().enumerate() {
            if seen.insert(text.to_lowercase()) {
                let terms = vocabulary.of(&text);
                units.push(Unit { passage, order, text, terms });
            }
        }
    }
    units
}

/// How much each asked term tells the units apart (the idf of BM25, over the units), so that they sum to 1.
fn weights(asked: &[String], units: &[Unit]) -> Vec<f32> {
    let mut frequency: HashMap<&str, f32> = HashMap::new();
    for term in units.iter().flat_map(|unit| &unit.terms) {
        *frequency.entry(term).or_default() += 1.0;
    }
    let count = units.len() as f32;
    let idf = |term: &String| {
        let found = frequency.get(term.as_str()).copied().unwrap_or_default();
        (1.0 + (count - found + 0.5) / (found + 0.5)).ln()
    };
    let weights: Vec<f32> = asked.iter().map(idf).collect();
    let sum: f32 = weights.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    weights.into_iter().map(|weight| weight / sum).collect()
}

fn score(unit: &Unit, asked: &[String], weights: &[f32], headings: &[String], wants_number: bool) -> f32 {
    let overlap: f32 = asked
        .iter()
        .zip(weights)
        .map(|(term, weight)| match (unit.terms.contains(term), headings.contains(term)) {
            (true, _) => *weight,
            (false, true) => weight * HEADING_WORTH,
            (false, false) => 0.0,
        })
        .sum();
    let number = match wants_number && unit.text.chars().any(|c| c.is_numeric()) {
        true => NUMBER_WORTH,
        false => 0.0,
    };
    (0.1 + overlap + number) / (1.0 + RANK_DISCOUNT * unit.passage as f32)
}

/// Whether a number, an amount or a date is asked for.
fn asks_for_number(question: &str) -> bool {
    const PHRASES: [&str; 17] = [
        "how many",
        "how much",
        "how long",
        "how old",
        "how far",
        "how often",
        "how large",
        "how big",
        "how high",
        "when ",
        "what year",
        "which year",
        "what date",
        "what percent",
        "多少",
        "几",
        "多久",
    ];
    let question = question.to_lowercase();
    PHRASES.iter().any(|phrase| question.contains(phrase))
}

/// A unit as it is quoted: what has no end (a page without full stops) is cut, and what would read as a citation of
/// ours, as the sentinel, or as the beginning of code that ends nowhere (so that our citation would be code too) is
/// taken out.
fn quoted(text: &str) -> String {
    let code = text.starts_with("```");
    let mut quoted = without_sentinel(text).into_owned();
    if let Some((cut, _)) = quoted.char_indices().nth(MAX_CHARACTERS) {
        let cut = quoted[..cut].rfind(char::is_whitespace).unwrap_or(cut);
        quoted = format!("{}{}", quoted[..cut].trim_end(), if code { "\n…\n```" } else { " …" });
    }
    if code {
        return quoted;
    }
    let runs = quoted.split(|c| c != '`').filter(|run| !run.is_empty()).map(str::len);
    let mut open = 0;
    for run in runs {
        open = if open == 0 {
            run
        } else if open == run {
            0
        } else {
            open
        };
    }
    if open > 0 {
        quoted.retain(|c| c != '`');
    }
    // What one pass puts together, the next takes out.
    loop {
        let clean = units::without_footnotes(&quoted);
        if clean == quoted {
            return quoted;
        }
        quoted = clean;
    }
}

#[cfg(test)]
mod tests;

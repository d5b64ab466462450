//! Whether passages answer a question: one rule, with its constants in one place.
//!
//! For each passage: the cosine similarity to the question, and the share of the question's content words that it has
//! (of one word more than there are, so that one shared word of one is not certainty). The best passage counts, and
//! a little the share of the words that all passages have together. The reranker's scores are left out: their scale
//! depends on the model, and with them the rule was no better.

use super::terms::Terms;
use crate::llm::ScoredPassage;

/// Weight of a passage's share of the question's words beside its cosine.
const SHARE_WEIGHT: f32 = 0.7;

/// Weight of the share that the passages have together.
const UNION_WEIGHT: f32 = 0.2;

/// What is taken for the cosine where only BM25 searched: what an on-topic passage has.
const COSINE_UNKNOWN: f32 = 0.45;

/// From this on passages are taken to answer: the least, in steps of 0.02, at which 97 % of the questions that were put to
/// the wrong collection are refused in the development set of SQuAD 2.0 (`examples/calibrate_answerability.rs`, with the
/// default model; 92 % of its own questions are answered then). Other embedding models have other cosines.
pub const ANSWERABLE: f32 = 0.90;

/// How well passages answer a question, from about 0 to 1.9; compare with [`ANSWERABLE`].
pub fn answerability(question: &str, passages: &[ScoredPassage]) -> f32 {
    let vocabulary = Terms::new();
    let asked = vocabulary.of(question);
    let mut together = vec![false; asked.len()];
    // A passage that the dense branch did not find is farther than all that it found.
    let farthest = passages.iter().filter_map(|passage| passage.dense_score).reduce(f32::min).unwrap_or(COSINE_UNKNOWN);
    let mut best: f32 = 0.0;
    for scored in passages {
        let terms = vocabulary.of(&scored.passage.contextual_text());
        let terms: std::collections::HashSet<&String> = terms.iter().collect();
        let mut found = 0;
        for (term, seen) in asked.iter().zip(&mut together) {
            if terms.contains(term) {
                found += 1;
                *seen = true;
            }
        }
        let share = found as f32 / (asked.len() + 1) as f32;
        best = best.max(scored.dense_score.unwrap_or(farthest) + SHARE_WEIGHT * share);
    }
    let union = together.iter().filter(|seen| **seen).count() as f32 / asked.len().max(1) as f32;
    best + UNION_WEIGHT * union
}

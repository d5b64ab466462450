//! The content words of a text, stemmed: what a question and a sentence can have in common.

use std::collections::HashSet;

use qdrant_rust_stemmers::{Algorithm, Stemmer};
use unicode_segmentation::UnicodeSegmentation;

/// English words that say nothing about what is asked. (Those of other languages are held down by their weight: they
/// are in most sentences.)
const STOPWORDS: &str = "a about above after again against all also am an and any are as at be because been before being \
    below between both but by can could did do does doing done down during each either else ever every few for from \
    further get give given had has have having he her here hers him his how i if in into is it its itself just kind let \
    like list many may me might more most much must my name no nor not of off on once one only or other our out over \
    own per please same shall she should show so some such tell than that the their them then there these they thing \
    this those through to too type under until up upon us use used very was way we well were what whatever when where \
    whether which while who whom whose why will with within without would you your";

/// Chinese question words, as the bigrams they are seen as.
const STOP_BIGRAMS: [&str; 12] =
    ["什么", "多少", "如何", "怎么", "怎样", "哪些", "哪个", "为何", "是否", "请问", "多久", "几个"];

/// Turns texts into sets of terms.
pub(super) struct Terms {
    stemmer: Stemmer,
    stopwords: HashSet<&'static str>,
}

impl Terms {
    pub(super) fn new() -> Self {
        Self { stemmer: Stemmer::create(Algorithm::English), stopwords: STOPWORDS.split_whitespace().collect() }
    }

    /// The distinct terms of a text, in the order of their first occurrence: stems of words, and pairs of neighbouring
    /// characters where words are not separated.
    pub(super) fn of(&self, text: &str) -> Vec<String> {
        let mut seen = HashSet::new();
        let mut terms = Vec::new();
        let mut push = |term: String| {
            if seen.insert(term.clone()) {
                terms.push(term);
            }
        };
        let mut before: Option<(usize, char)> = None;
        for (start, word) in text.unicode_word_indices() {
            let first = word.chars().next().filter(|c| is_unspaced(*c));
            match (before, first) {
                (Some((end, previous)), Some(c)) if end == start => {
                    let pair: String = [previous, c].into_iter().collect();
                    if !STOP_BIGRAMS.contains(&pair.as_str()) {
                        push(pair);
                    }
                }
                (_, Some(_)) => {}
                (_, None) => {
                    let word = word.to_lowercase();
                    let word = word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(&word);
                    if !self.stopwords.contains(word) {
                        push(self.stemmer.stem(word).into_owned());
                    }
                }
            }
            before = first.map(|c| (start + word.len(), c));
        }
        terms
    }
}

/// Whether the script has no spaces between words, so that segmentation gives single characters.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3134f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_words_are_stemmed_and_stopwords_left_out() {
        assert_eq!(Terms::new().of("How long are the invoices' copies kept?"), ["long", "invoic", "copi", "kept"]);
        assert_eq!(Terms::new().of("What is Finance's RATE?"), ["financ", "rate"]);
    }

    #[test]
    fn chinese_gives_pairs() {
        assert_eq!(Terms::new().of("发票保存多少年？"), ["发票", "票保", "保存", "存多", "少年"]);
    }

    #[test]
    fn a_text_of_stopwords_has_none() {
        assert!(Terms::new().of("what is it? 什么").is_empty());
    }
}

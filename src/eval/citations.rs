//! What an answer cites, sentence by sentence, and whether the source says it.

use std::sync::LazyLock;

use regex::Regex;

use super::text::contains;
use crate::answer::{Answer, Citation};

/// A stretch of an answer that cites a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cited {
    /// The text before the marker, back to the marker before it.
    pub text: String,
    /// Index into the answer's sources.
    pub source: usize,
}

/// What an answer cites, in order. Markers that follow each other cite for the same text.
pub fn cited(answer: &Answer) -> Vec<Cited> {
    let characters: Vec<char> = answer.answer.chars().collect();
    let mut end = 0;
    let mut text = String::new();
    let cite = |citation: &Citation| {
        let before: String = characters.get(end..citation.start).unwrap_or_default().iter().collect();
        end = citation.end;
        if before.chars().any(char::is_alphanumeric) {
            text = before.trim().to_owned();
        }
        Cited { text: text.clone(), source: citation.source }
    };
    answer.citations.iter().map(cite).collect()
}

/// The answer without its markers.
pub fn without_markers(answer: &Answer) -> String {
    let is_marker =
        |place: usize| answer.citations.iter().any(|citation| (citation.start..citation.end).contains(&place));
    answer.answer.chars().enumerate().filter(|(place, _)| !is_marker(*place)).map(|(_, c)| c).collect()
}

/// Whether a passage has a quote's words in a row: lines, marks of Markdown and the passage's own `[3]` are no words, and
/// `…` is where the quote was cut.
pub fn is_quote(quote: &str, passage: &str) -> bool {
    contains(&plain_words(passage), &plain_words(quote))
}

fn plain_words(text: &str) -> Vec<String> {
    static FOOTNOTE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[\[【]\s*\d{1,3}(?:\s*[,;–-]\s*\d{1,3})*\s*[\]】]").expect("the pattern is a regular expression")
    });
    let text = FOOTNOTE.replace_all(text, "").to_lowercase();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str, citations: &[(usize, usize, usize)]) -> Answer {
        let citation = |&(source, start, end): &(usize, usize, usize)| Citation { source, start, end };
        Answer { answer: text.to_owned(), citations: citations.iter().map(citation).collect(), ..Answer::default() }
    }

    #[test]
    fn each_marker_cites_for_the_text_before_it() {
        let answer = answer("Zehn für A. [1] Six. [2][3]", &[(0, 12, 15), (1, 21, 24), (2, 24, 27)]);
        let found: Vec<_> = cited(&answer).into_iter().map(|cited| (cited.text, cited.source)).collect();
        let expected = [("Zehn für A.", 0), ("Six.", 1), ("Six.", 2)].map(|(text, source)| (text.to_owned(), source));
        assert_eq!(found, expected);
        assert_eq!(without_markers(&answer), "Zehn für A.  Six. ");
    }

    #[test]
    fn a_quote_is_in_its_passage() {
        let passage = "## Terms\n\nInvoices are *kept*[3] for\nten years.\n\n| offer | 6 |";
        assert!(is_quote("Invoices are kept for ten years.", passage));
        assert!(is_quote("offer | 6", passage));
        assert!(is_quote("Invoices are kept …", passage));
        assert!(!is_quote("Invoices are kept for six years.", passage));
        assert!(!is_quote("", passage));
    }
}
